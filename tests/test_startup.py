"""A quick start: what the last process used is read ahead, and never anything else."""

import gc
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import equinox as eqx
import jax
import numpy as np
import pytest

import jaxface
from jaxface.cli import Startup
from jaxface.run import open_clip, track_chunk
from tests.counted import arguments, cached_in, check, named, store

ROOT = Path(__file__).resolve().parents[1]
_EXECUTABLES = importlib.import_module("jaxface._files._executables")

pytestmark = pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="other devices leave programs to JAX's cache"
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch):
    """Where a process keeps its programs that has used none yet."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))  # else the user's is turned on
    with cached_in(tmp_path):
        begin_again(monkeypatch)
        yield tmp_path


def begin_again(monkeypatch) -> None:
    monkeypatch.setattr(_EXECUTABLES, "_used", {})
    monkeypatch.setattr(_EXECUTABLES, "_coming", {})


def test_programs_of_the_last_process_are_read_ahead(cache: Path, monkeypatch):
    first = Startup("clips", cache=True)
    store()[0](*arguments(), "double")
    first.finish()
    first.remember()
    begin_again(monkeypatch)
    Startup("clips", cache=True).finish()
    assert [*_EXECUTABLES._coming] == named(cache)
    check(store()[0](*arguments(), "double"), 2)
    assert not _EXECUTABLES._coming


@pytest.mark.parametrize("purpose", ["pictures", None])
def test_another_purpose_reads_nothing(cache: Path, monkeypatch, purpose):
    first = Startup("clips", cache=True)
    store()[0](*arguments(), "double")
    first.finish()
    first.remember()
    begin_again(monkeypatch)
    Startup(purpose, cache=True).finish()
    assert not _EXECUTABLES._coming


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b'["../../elsewhere"]'])
def test_damaged_notes_do_no_harm(cache: Path, monkeypatch, damage):
    first = Startup("clips", cache=True)
    store()[0](*arguments(), "double")
    first.finish()
    first.remember()
    (notes,) = (cache / "jaxface-starts").iterdir()
    notes.write_bytes(damage)
    begin_again(monkeypatch)
    Startup("clips", cache=True).finish()
    assert {path.parent for path in _EXECUTABLES._coming} <= {cache / "jaxface-executables"}
    check(store()[0](*arguments(), "double"), 2)


def test_without_a_cache_nothing_is_written(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("JAXFACE_COMPILE_CACHE", "0")
    with cached_in(None):
        startup = Startup("clips", cache=True)
        store()[0](*arguments(), "double")
        startup.finish()
        startup.remember()
    assert not list(tmp_path.iterdir())


def test_garbage_is_collected_again(cache: Path):
    before = gc.get_threshold()
    try:
        assert gc.isenabled()
        startup = Startup("clips", cache=True)
        assert not gc.isenabled()
        startup.finish()
        assert gc.isenabled() and 0 < gc.get_threshold()[0] < 1_000_000
    finally:
        gc.set_threshold(*before)


_PROCESS = """
import sys
from jax import export
from jaxface.cli import _startup, main

lowered, asked = [], []
deserialize, ahead_of_use = export.deserialize, _startup.ahead_of_use

def counted(code):
    lowered.append(len(code))
    return deserialize(code)

def noted(paths):
    asked.extend(paths)
    ahead_of_use(asked)

export.deserialize, _startup.ahead_of_use = counted, noted
code = main(sys.argv[1:])
print(code, len(lowered), len(asked))
"""


def test_the_command_line_reads_its_programs_ahead(tmp_path: Path):
    """Two processes: the second lowers nothing, and reads what the first has used."""
    picture = tmp_path / "flat.png"
    cv2.imwrite(str(picture), np.zeros((40, 40, 3), np.uint8))
    environment = {
        **os.environ,
        "JAXFACE_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "xla"),
        "JAXFACE_COMPILE_CACHE": "1",
        "JAX_PLATFORMS": "cpu",
    }
    out = str(tmp_path / "out")
    command = [sys.executable, "-c", _PROCESS, "analyze", str(picture), "--out", out]
    counts = []
    for _ in range(2):
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        counts.append(done.stdout.split()[-3:])
    assert counts == [["0", "1", "0"], ["0", "0", "1"]]


def test_what_measures_gets_ready_for_what_is_measured(monkeypatch):
    """The program that is loaded beside the tracker's is the one that is called after it."""
    clips: Any = importlib.import_module("jaxface.run._clip")
    measure_chunk = clips.measure_chunk
    clip = open_clip(jaxface.load_model(), [np.zeros((64, 80, 3), np.uint8)] * 3)
    (chunk,) = clips.upload_chunks(clip, clips.read_chunks(clip))
    seen = []

    class Measure:
        """In place of the program: notes what it would be found by."""

        def knows(self, *args):
            seen.append(measure_chunk._look(args)[0])
            return True

    monkeypatch.setattr(clips, "measure_chunk", Measure())
    clips._measure_nothing(clip, chunk)
    state = clips.first_track_state(clip.model)
    valid = np.ones(len(chunk.frames), bool)
    inputs = (clip.model, state, chunk.frames, valid, chunk.size, chunk.plan, clip.config)
    shapes = eqx.filter_eval_shape(inspect.unwrap(track_chunk), *inputs)[1]
    tracked = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    person = clips.first_person(clip.model, np.dtype(np.uint16))
    arguments = clips._to_measure(clip, person, chunk, tracked, len(chunk.indices))
    assert seen == [measure_chunk._look(arguments)[0]]
