"""What is said of compiling, and how its time is told apart: only where something was compiled."""

import importlib
import json
import re
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxface.cli import main
from jaxface.run import StoredFunction, compile_seconds, watch_compiling
from tests.counted import arguments, cached_in, check, store
from tests.stand_in import StandIn, write_image, write_video

_COMPILING = importlib.import_module("jaxface.run._compiling")
_SLOW = 1.2  # s that a stage of the slow program takes


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """What is said, at once."""
    monkeypatch.setattr(_COMPILING, "_PATIENCE", 0.0)
    return []


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="executables are kept for CPUs alone")
@pytest.mark.parametrize("cached", [True, False])
def test_said_once_and_never_of_what_is_read(tmp_path: Path, said, cached):
    with cached_in(tmp_path if cached else None), watch_compiling(lambda c: said.append(str(c))):
        for _ in range(2):
            function, traced = store()
            for _ in range(2):
                begin, before = time.perf_counter(), traced.count
                check(function(*arguments(), "double"), 2)
                took = compile_seconds([(begin, time.perf_counter())])
                time.sleep(0.05)  # the timer's thread
                assert (took > 0) == (traced.count > before)
    assert said == ["compiling (function)"]


def test_the_size_of_pictures_is_told(said):
    function = StoredFunction(lambda x: jnp.sum(x.astype(jnp.float32)), dict)
    with watch_compiling(lambda c: said.append(c)):
        for shape in ((8, 48, 64, 3), (8, 48, 64, 3), (4, 48, 64, 3), (8, 32, 64, 3)):
            function(np.zeros(shape, np.uint8))
            time.sleep(0.05)
    assert [c.size for c in said] == [(48, 64), (32, 64)]
    assert str(said[0]) == "compiling for 64x48 (<lambda>)"
    size = _COMPILING._picture_size
    assert size([np.zeros((8, 50, 66), np.uint8), np.zeros(3)]) == (48, 64)
    assert size([np.zeros((32, 68, 3), np.float32)]) is None  # of a model


def test_nothing_is_noted_without_a_watch(said):
    begin = time.perf_counter()
    StoredFunction(lambda x: 3 * x, dict)(np.zeros((8, 8, 3), np.uint8))
    assert compile_seconds([(begin, time.perf_counter())]) == 0 and said == []


def test_times_that_overlap_count_once(monkeypatch):
    with watch_compiling(lambda c: None):
        monkeypatch.setattr(_COMPILING._watch, "spans", [(1, 4), (2, 3), (3, 6), (8, 9)])
        assert compile_seconds([(0, 10)]) == 6
        assert compile_seconds([(2.5, 5)]) == 2.5
        assert compile_seconds([(0, 2), (5, 8.5)]) == 2.5
        assert compile_seconds([]) == compile_seconds([(6, 8)]) == 0


@pytest.fixture
def compiles(monkeypatch):
    """The stand-in behind the command line, which compiles at its second frame."""

    def process(source):
        function = StoredFunction(_compile_slowly, dict)

        def frames():
            for index, frame in enumerate(source.frames):
                if index == 1 or source.mode == "image":
                    function(frame)
                yield frame

        return StandIn(source._replace(frames=frames()))

    monkeypatch.setattr("jaxface.cli._engine.load_process", lambda options: process)
    monkeypatch.setenv("JAXFACE_COMPILE_CACHE", "0")


def _compile_slowly(frame):
    time.sleep(_SLOW)
    return jnp.sum(frame.astype(jnp.float32))


def test_the_last_line_tells_compiling_apart(tmp_path, compiles, capsys):
    inputs = [write_video(tmp_path / "a.avi", 6), write_image(tmp_path / "b.png")]
    summary = tmp_path / "all.json"
    out = ["--out", str(tmp_path / "out"), "--no-compile-cache", "--json", str(summary)]
    begin = time.perf_counter()
    assert main(["analyze", *inputs, *out]) == 0
    whole = time.perf_counter() - begin
    found = capsys.readouterr()
    clip, still, _ = found.out.splitlines()
    apart = r"\d+ s of compiling apart"
    assert re.search(rf": 6 frames in \d+\.\d s \(\d+\.\d frames/s\), {apart}, 5 of 6 rows", clip)
    assert re.match(rf"{re.escape(inputs[1])}: 2 faces, {apart} -> ", still)
    assert found.err == "jaxface: compiling for 64x48 (_compile_slowly)\n"  # once for both
    rows = json.loads(summary.read_text())["inputs"]
    for row, name in zip(rows, "ab", strict=True):
        record = json.loads((tmp_path / "out" / f"{name}.run.json").read_text())
        for told in (row, record):
            assert told["compile_seconds"] > _SLOW
    # Neither counts in the other.
    assert sum(row["seconds"] + row["compile_seconds"] for row in rows) < whole + 0.1


def test_side_by_side_each_tells_what_it_waited_for(tmp_path, compiles, capsys):
    inputs = [write_image(tmp_path / f"{i}.png") for i in range(2)]
    out = ["--out", str(tmp_path / "out"), "--no-compile-cache", "--jobs", "2"]
    assert main(["analyze", *inputs, *out]) == 0
    found = capsys.readouterr()
    assert len(re.findall(r"\d+ s of compiling apart", found.out)) == 2
    assert found.err.count("compiling for 64x48") == 1


def test_quiet(tmp_path, capsys):
    reporter = importlib.import_module("jaxface.cli._report").Reporter
    for quiet in (False, True):
        reporter(quiet=quiet).say("compiling")
    assert capsys.readouterr().err == "jaxface: compiling\n"
