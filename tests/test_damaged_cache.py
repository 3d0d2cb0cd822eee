"""Damaged files of the caches: removed, made again, told once; the run after that is fast again."""

import importlib
import os
import time
import types
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jaxface import _files as files
from tests.counted import arguments, cached_in, check, executables, named, programs, store


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("inside")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": _cut,
    "cut at its end": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "grown": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "zero bytes": _zeros,
    "noise": _noise,
    "one bit": _flip,
    "JSON of another kind": lambda path: path.write_bytes(b"[1, 2]"),
    "a folder": _folder,
}


@pytest.fixture
def cache(tmp_path: Path):
    with cached_in(tmp_path):
        files.damaged_files()
        yield tmp_path


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="executables are kept for CPUs alone")
@pytest.mark.parametrize("find", [executables, named, programs])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_our_own_files_are_made_again(cache: Path, damage, find):
    check(store()[0](*arguments(), "double"), 2)
    (path,) = find(cache)
    damage(path)
    if find is programs:  # it is read only where no executable is found
        for other in executables(cache):
            other.unlink()
    function, traced = store()
    check(function(*arguments(), "double"), 2)
    assert files.damaged_files() == [path] and path.is_file()
    assert traced.count == (find is programs)
    function, traced = store()
    check(function(*arguments(), "double"), 2)
    assert files.damaged_files() == [] and traced.count == 0


def _run_without_ours() -> None:
    """As on other devices than CPUs, where JAX's cache alone keeps what is compiled."""
    function, _ = store()
    function._kind = lambda: None  # pyright: ignore[reportAttributeAccessIssue]
    check(function(*arguments(), "double"), 2)


@pytest.mark.untyped  # a small tree in place of a model
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_prepared_models_are_made_again(tmp_path: Path, damage):
    kept_model = importlib.import_module("jaxface.models._prepared").kept_model
    prepared = []

    def prepare() -> Any:
        prepared.append(1)
        return arguments()[0]

    files.damaged_files()
    for number in range(4):
        found = kept_model(tmp_path / "prepared", "small", b"", prepare)
        np.testing.assert_array_equal(found.local, np.arange(5))
        (path,) = (tmp_path / "prepared").iterdir()
        assert files.damaged_files() == ([path] if number == 2 else [])
        assert len(prepared) == (1 if number < 2 else 2)
        if number == 1:
            damage(path)


def test_the_command_line_says_it_in_one_line(tmp_path: Path, capsys):
    cache = tmp_path / "cache"
    for count, told in ((1, cache / "0"), (2, cache)):
        for number in range(count):
            (cache / f"{number}").mkdir(parents=True)
            files.discard_damaged(cache / f"{number}")
        reporter = importlib.import_module("jaxface.cli._report").Reporter()
        for _ in range(2):
            reporter.sum_up([], None)
        assert capsys.readouterr().err == (
            f"jaxface: warning: {told}: "
            f"{count} damaged file{'s' * (count > 1)} of the cache, made again\n"
        )


@pytest.fixture
def jaxs(cache: Path):
    """JAX's own cache, which keeps the smallest programs here."""
    names = {
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in names}
    try:
        for name, value in names.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        yield cache
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def _entries(cache: Path) -> list[Path]:
    return sorted(cache.glob("jit_call-*-cache"))


@pytest.mark.parametrize("damage", [kind for kind in DAMAGE if kind != "grown"])
def test_jaxs_entries_are_made_again(jaxs: Path, damage):
    """Left to itself, JAX warns at each run, and never replaces them."""
    _run_without_ours()
    (path,) = _entries(jaxs)
    whole = path.stat().st_size
    if damage == "one bit" and path.read_bytes().startswith(b"\x28\xb5\x2f\xfd"):
        pytest.skip("zstandard, where JAX finds it, keeps no sum: only the command line mends it")
    DAMAGE[damage](path)
    _run_without_ours()  # a warning would be an error
    assert files.damaged_files() == [path]
    assert abs(path.stat().st_size - whole) < 100  # bytes; it tells how long it took
    _run_without_ours()
    assert files.damaged_files() == []


def test_entries_are_checked_once(jaxs: Path, monkeypatch):
    """To read them again at each start would take as long as to load them."""
    read = []
    module = importlib.import_module("jaxface._files._damaged")

    def decompress(data: bytes) -> bytes:
        read.append(len(data))
        return zlib.decompress(data)

    # In place of a function of ours nothing would be stored.
    monkeypatch.setattr(module, "zlib", types.SimpleNamespace(decompress=decompress))
    for _ in range(3):
        _run_without_ours()
        for entry in _entries(jaxs):  # both clocks may show the same time
            os.utime(entry, (0, time.time() - 10))
    assert read == []
    os.utime(_entries(jaxs)[0])
    for _ in range(2):
        _run_without_ours()
    assert len(read) == 1


def test_what_cannot_be_removed_is_left(cache: Path, monkeypatch):
    """In a cache of somebody else's, programs are compiled each time, and nothing is said."""
    check(store()[0](*arguments(), "double"), 2)
    (path,) = programs(cache)
    _flip(path)
    for other in executables(cache):
        other.unlink()

    def refuse(self, *args, **more):
        raise PermissionError(13, "Permission denied", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        check(store()[0](*arguments(), "double"), 2)
    assert files.damaged_files() == []


@pytest.mark.parametrize("kind", ["a file", "unreadable"])
def test_reading_what_is_not_ours(tmp_path: Path, monkeypatch, kind):
    path = tmp_path / "entry"
    if kind == "a file":  # in place of the folder
        path.write_text("")
        assert files.read_cached(path / "entry") is None and path.exists()
        return
    path.write_text("")

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)  # root may read anything
    assert files.read_cached(path) is None and not path.exists()


@pytest.mark.filterwarnings("default:Error reading")
@pytest.mark.parametrize("damage", ["cut", "a folder", "whole, but no program"])
def test_what_jax_compiles_besides_is_made_again(jaxs: Path, damage, capsys):
    """By the command line, which hears JAX's warnings."""
    warnings_to = importlib.import_module("jaxface.cli._warnings").warnings_to

    def run() -> Path:
        besides = jax.jit(lambda x: 3 * x)
        with warnings_to(pytest.fail):
            assert besides(np.float32(2)) == 6
        (path,) = jaxs.glob("jit__lambda*-cache")
        return path

    path = run()
    if damage in DAMAGE:
        DAMAGE[damage](path)
    else:
        path.write_bytes(zlib.compress(b"no program at all"))
    assert run() == path and files.damaged_files() == [path] and path.stat().st_size > 100
    assert run() == path and files.damaged_files() == []
    assert "Error reading" not in capsys.readouterr().err
