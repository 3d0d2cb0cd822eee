"""Parsers on bytes that nobody wrote: a result or a refusal in words, no crash, hang or gigabytes.

For ten minutes instead of half of one: JAXFACE_FUZZ=25 pytest tests/test_fuzz.py
"""

import contextlib
import importlib
import json
import os
import resource
import signal
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxface
from jaxface.cli import main, plan_jobs, read_boxes
from jaxface.detect import Net, PReLU
from jaxface.io import read_sequence, read_video
from jaxface.models import read_module, write_module
from jaxface.output import HogWriter, read_hog
from tests.films import mux_streams, write_film
from tests.stand_in import write_image

_TIMES = int(os.environ.get("JAXFACE_FUZZ", "1"))
_LONGEST = 20  # s that a call may take; each takes milliseconds
_MEMORY = 500 << 20  # bytes by which the process may grow in one test
_HUGE = (0, 1, 255, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="nothing stops what hangs here"),
    pytest.mark.filterwarnings("ignore::jaxface.InputWarning"),
]


def many(count: int) -> Callable[[Callable], Callable]:
    """How often a parser is tried."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=count * _TIMES, deadline=None, suppress_health_check=checks, database=None
    )


@st.composite
def damages(draw: Callable) -> list[tuple]:
    """Up to four changes of a file, mostly near its beginning; see `damage`."""
    kinds = st.sampled_from(("flip", "cut", "zero", "number", "move", "insert", "word"))
    place = st.one_of(st.integers(0, 160), st.integers(0, 1 << 20))
    one = st.tuples(kinds, place, place, st.integers(0, 255), st.sampled_from(_HUGE), st.booleans())
    return draw(st.lists(one, min_size=1, max_size=4))


_WORDS = (
    b"nan",
    b"-1",
    b"1e999",
    b"99999999999",
    b"\xff\xfe",
    b"\0",
    b",",
    b"\n",
    b"{",
    b"[" * 200,
)


def damage(data: bytes, changes: list[tuple]) -> bytes:
    """The changed file."""
    found = bytearray(data)
    for kind, place, other, byte, number, big in changes:
        at, to = place % (len(found) + 1), other % (len(found) + 1)
        if kind == "flip" and at < len(found):
            found[at] ^= byte or 1
        elif kind == "cut":
            del found[at:]
        elif kind == "zero":
            found[at : at + byte] = bytes(len(found[at : at + byte]))
        elif kind == "number":  # a size or a count that nobody has
            found[at : at + 4] = struct.pack(">I" if big else "<I", number)
        elif kind == "move":
            found[to:to] = found[at : at + 4 * byte]
        elif kind == "insert":
            found[at:at] = bytes([byte]) * (number % 64)
        elif kind == "word":
            found[at : at + byte % 8] = _WORDS[number % len(_WORDS)]
    return bytes(found)


@contextlib.contextmanager
def _refused_in_words() -> Iterator[None]:
    """Whatever is refused is refused by an error of ours, in time."""

    def stop(*_: object) -> None:
        raise AssertionError(f"took more than {_LONGEST} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_LONGEST)
    try:
        yield
    except (ValueError, OSError) as error:
        ours = type(error).__module__.startswith("jaxface")
        assert ours and str(error).strip(), repr(error)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def bounded_memory():
    before = _peak()
    yield
    assert _peak() - before < _MEMORY


def _peak() -> int:
    """Bytes that the process has held at most."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10


def _try(path: Path, read: Callable[[Path], object], data: bytes) -> None:
    path.write_bytes(data)
    with _refused_in_words():
        read(path)


# Pictures and films


def _all_frames(path: Path) -> None:
    for number, frame in enumerate(read_video(path)):
        assert frame.ndim == 3 and frame.dtype == np.uint8
        if number > 60:  # damage may add frames, but no more than there are packets
            break


_PICTURES = ("png", "jpg", "bmp", "tif", "webp", "ppm", "gif")
_FILMS: dict[str, Callable[[Path], object]] = {
    "a.mp4": lambda path: write_film(path, frames=4),
    "a.mkv": lambda path: write_film(path, frames=4),
    "a.avi": lambda path: write_film(path, frames=4, codec="mjpeg", pixels="yuvj420p"),
    "a.mpg": lambda path: write_film(path, frames=4, codec="mpeg2video"),
    "b.mp4": lambda path: mux_streams(path, "vs"),
}


def _picture(folder: Path, kind: str) -> bytes:
    path = folder / f"whole.{kind}"
    rng = np.random.default_rng(0)
    image = np.full((24, 32, 3), 90, np.uint8) + rng.integers(0, 60, (24, 32, 3), np.uint8)
    if kind == "gif":
        _, data = cv2.imencode(".png", image)  # not all versions of OpenCV write GIF
        return b"GIF89a" + data.tobytes()[6:]
    assert cv2.imwrite(str(path), image)
    return path.read_bytes()


@pytest.mark.parametrize("kind", _PICTURES)
def test_pictures(tmp_path, kind):
    whole, path = _picture(tmp_path, kind), tmp_path / f"a.{kind}"

    @many(60)
    @given(damages())
    def run(changes):
        _try(path, jaxface.read_image, damage(whole, changes))

    run()


@pytest.mark.parametrize("name", _FILMS)
def test_films(tmp_path, name):
    _FILMS[name](tmp_path / name)
    whole, path = (tmp_path / name).read_bytes(), tmp_path / f"damaged{Path(name).suffix}"

    @many(60)
    @given(damages())
    def run(changes):
        _try(path, _all_frames, damage(whole, changes))

    run()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".mp4", ".csv", ".hog", ".heic", ""])
def test_any_bytes(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    begin = st.sampled_from(
        (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"GIF89a", b"RIFF", b"II*\0", b"P6 ")
        + (b"\0\0\0\x18ftypmp42", b"\0\0\0\x18ftypheic", b"\x1aE\xdf\xa3", b"\0\0\x01\xba", b"face")
    )

    @many(60)
    @given(begin, st.binary(max_size=300))
    def run(first, rest):
        for read in (jaxface.read_image, _all_frames, jaxface.read_csv, read_hog):
            _try(path, read, first + rest)

    run()


def test_folders_of_pictures(tmp_path):
    write_image(tmp_path / "2.png")
    whole = (tmp_path / "2.png").read_bytes()

    @many(40)
    @given(damages())
    def run(changes):
        _try(tmp_path / "1.png", lambda path: list(read_sequence(tmp_path)), damage(whole, changes))

    run()


# Results, settings, lists


@pytest.mark.parametrize("kind", ["clip", "stills"])
def test_tables(tmp_path, kind):
    module = importlib.import_module("jaxface.output")
    names = module.column_names("video" if kind == "clip" else "image")
    row = ", ".join("1" if name in ("frame", "success") else "0.5" for name in names)
    row = row if kind == "clip" else row.replace("0.5", "0", 1)
    whole = (", ".join(names) + f"\n{row}\n{row}\n").encode()

    @many(60)
    @given(damages())
    def run(changes):
        _try(tmp_path / "a.csv", jaxface.read_csv, damage(whole, changes))

    run()


def test_descriptors(tmp_path):
    with HogWriter(tmp_path / "whole.hog") as writer:
        writer.write(np.zeros(4464, np.float32), True)
        writer.finish()
    whole = (tmp_path / "whole.hog").read_bytes()

    @many(40)
    @given(damages())
    def run(changes):
        _try(tmp_path / "a.hog", read_hog, damage(whole, changes))

    run()


_TOML = b"""inputs = ["a.png", "b*.png"]
out = "out"
fps = 25.0
static = true
mode = "image"
fx = 500
fy = 500
overlay = [1, 2]
"""


def test_settings_files(tmp_path, monkeypatch, capsys):
    """Each is used, or ends the program with status 2; none with a traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXFACE_COMPILE_CACHE", "0")
    ran = []
    engine = importlib.import_module("jaxface.cli._batch")
    monkeypatch.setattr(engine, "run_jobs", lambda *args: ran.append(args))
    text = st.one_of(damages().map(lambda changes: damage(_TOML, changes)), st.binary(max_size=80))

    @many(60)
    @given(text)
    def run(data):
        (tmp_path / "study.toml").write_bytes(data)
        try:
            code = main(["analyze", "gone.png", "--out", "out", "--config", "study.toml"])
        except SystemExit as stop:
            code = stop.code
        assert code in (0, 1, 2)
        assert "Traceback" not in capsys.readouterr().err

    run()


def test_lists_and_boxes(tmp_path):
    listed = f"{write_image(tmp_path / 'a.png')}\n# b\n*.png\n@c\n".encode()
    boxes = b"0 0 10 10\n5.5, 6, 20, 30\n"

    @many(80)
    @given(damages(), st.binary(max_size=60), st.booleans())
    def run(changes, data, whole):
        lines, box = (damage(listed, changes), damage(boxes, changes)) if whole else (data, data)
        _try(tmp_path / "boxes.txt", read_boxes, box)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _try(tmp_path / "list.txt", lambda path: plan_jobs([f"@{path}"], None), lines)

    run()


# Models


def test_stored_models(tmp_path, monkeypatch):
    """Manifest and weights, with the digest that a damaged pair would need to get any further."""
    store = importlib.import_module("jaxface.models._store")
    whole = tmp_path / "whole.safetensors"
    write_module(Net(layers=(PReLU(slope=jnp.zeros(3)),)), whole)
    module = whole.read_bytes()
    weights = {"a": np.zeros((2, 3), np.float32)}
    data = store.safetensors.numpy.save(weights)
    manifest = {
        **{"format": 3, "name": "small", "source": "", "licence": "", "landmark_scheme": "x"},
        **{"action_units": [], "sha256": "", "files": {}, "modified": []},
        "structure": {"class": "PReLU", "fields": {"slope": {"tensor": "a"}}},
    }
    text = json.dumps(manifest).encode()
    monkeypatch.setattr(store, "_check_digest", lambda path, manifest: None)
    path = tmp_path / "small.safetensors"

    @many(80)
    @given(damages(), st.sampled_from(("weights", "manifest", "both")))
    def run(changes, which):
        both = which == "both"
        path.write_bytes(damage(data, changes) if which == "weights" or both else data)
        described = damage(text, changes) if which == "manifest" or both else text
        path.with_suffix(".json").write_bytes(described)
        with _refused_in_words():
            jaxface.load_model(path)
        with _refused_in_words():
            jaxface.installed_models(tmp_path)
        _try(tmp_path / "a.safetensors", read_module, damage(module, changes))

    run()


# Each with the reader of the one file, whose digest is not asked for.
_OPENFACE: dict[str, tuple[str, str, str]] = {
    "pdm": ("model_eye/pdms/pdm_28_eye_3D_closed.txt", "_landmark_model", "read_pdm"),
    "directives": ("main_clnf_general.txt", "_landmark_model", "read_directives"),
    "triangles": ("tris_68_full.txt", "_landmark_model", "_read_triangles"),
    "network": ("mtcnn_detector/PNet.dat", "_networks", "_read_net"),
    "validator": ("detection_validation/validator_cnn.txt", "_networks", "read_validator"),
    "ccnf": ("patch_experts/ccnf_patches_0.25_general.txt", "_experts", "read_ccnf"),
    "svr": ("patch_experts/svr_patches_0.25_general.txt", "_experts", "read_svr"),
    "cen": ("cen_patches_0.25_of.dat", "_experts", "read_cen"),
    "list of units": ("AU_all_static.txt", "_action_units", "_read_list"),
    "unit": ("svr_combined/AU_1_static_intensity.dat", "_action_units", "_read_head"),
}
_HEAD = 80_000  # bytes; of a longer file the rest is more of the same


@pytest.mark.parametrize("kind", _OPENFACE)
def test_openface_files(tmp_path, openface_dir, kind):
    name, module, function = _OPENFACE[kind]
    found = next(path for path in openface_dir.rglob(Path(name).name) if path.is_file())
    whole, path = found.read_bytes()[:_HEAD], tmp_path / "file"
    folder = importlib.import_module("jaxface.models.openface._source")
    source = object.__new__(folder.Source)
    source.read = lambda _: (path, path.read_bytes())
    source.locate = lambda _: path
    read = getattr(importlib.import_module(f"jaxface.models.openface.{module}"), function)
    more: dict[str, Any] = {"network": {"outputs": 6}}.get(kind, {})
    landmarks = [68] if kind in ("ccnf", "svr", "cen") else []
    given_path = [] if kind == "triangles" else [PurePosixPath("file")]

    def call(_: Path) -> object:
        return read(source, *given_path, *landmarks, **more)

    @many(40)
    @given(st.one_of(damages(), st.binary(max_size=200)))
    def run(given):  # small, so that a failure can be shown
        _try(path, call, given if isinstance(given, bytes) else damage(whole, given))

    run()
