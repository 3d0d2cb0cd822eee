"""Several threads that call one cold program at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.counted import arguments, cached_in, check, programs, store

_WAIT = 60  # s; a program is traced in less than one


@pytest.fixture(params=["with a cache", "without"])
def cache(request, tmp_path: Path):
    folder = tmp_path if request.param == "with a cache" else None
    with cached_in(folder):
        yield folder


def test_threads_trace_a_cold_program_once(cache: Path | None):
    function, traced = store()
    count = 8
    together = threading.Barrier(count)

    def call(_: int):
        together.wait(_WAIT)
        return function(*arguments(), "double")

    with ThreadPoolExecutor(count) as pool:
        for result in [pool.submit(call, i) for i in range(count)]:
            check(result.result(_WAIT), 2)
    assert traced.count == 1
    assert cache is None or len(programs(cache)) == 1


def test_a_program_does_not_wait_for_another(cache: Path | None):
    function, traced = store()
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(function, *arguments(), "slow")
        try:
            assert traced.started.wait(_WAIT)
            check(pool.submit(function, *arguments(7), "double").result(_WAIT), 2, 7)
            assert not slow.done()
        finally:
            traced.release.set()
        check(slow.result(_WAIT), 2)
    assert traced.count == 2


def test_a_failed_trace_leaves_the_program_cold(cache: Path | None):
    function, traced = store()
    with ThreadPoolExecutor(4) as pool:
        failed = [pool.submit(function, *arguments(), "none") for _ in range(4)]
        for result in failed:
            with pytest.raises(KeyError, match="none"):
                result.result(_WAIT)
    check(function(*arguments(), "double"), 2)
    assert traced.count == 5
