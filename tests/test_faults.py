"""What the user sees of bad input and of faults: a table of each. Nothing hangs, nothing crashes.

Each row tells how it is made, what is called, the exit status, and words that must be said.
Behind the command line is the stand-in of `stand_in.py`; the readers are the real ones.
"""

import dataclasses
import errno
import importlib
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jaxface.cli import main
from tests.films import mux_streams, write_film
from tests.stand_in import StandIn, write_image, write_video

_engine = importlib.import_module("jaxface.cli._engine")
ROOT = Path(__file__).resolve().parents[1]
_HANG = 60  # s; whatever takes longer is stopped, and fails


@dataclasses.dataclass(frozen=True)
class Row:
    """One kind of bad input, or one fault."""

    name: str
    make: Callable[[Path], Sequence[str]]  # in an empty folder; gives the arguments
    words: str  # that are said on standard error
    code: int = 1
    command: str = "analyze"


def _write(name: str, data: bytes | str) -> Callable[[Path], Sequence[str]]:
    def make(folder: Path) -> Sequence[str]:
        path = folder / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return [str(path)]

    return make


def _edited(
    write: Callable[[Path], object], name: str, edit: Callable[[bytes], bytes]
) -> Callable[[Path], Sequence[str]]:
    """A file that is whole until it is edited."""

    def make(folder: Path) -> Sequence[str]:
        path = folder / name
        write(path)
        path.write_bytes(edit(path.read_bytes()))
        return [str(path)]

    return make


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _png(width: int, height: int) -> bytes:
    """A PNG whose header states a size, and that holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        sum_ = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", sum_)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    ends = chunk(b"IDAT", zlib.compress(bytes(64))), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(ends)


def _bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack(
        "<IHHIIiiHHIIiiII", 118, 0, 0, 54, 40, width, height, 1, 24, *[0] * 6
    )


def _tiff(width: int, height: int) -> bytes:
    tags = struct.pack("<HHII", 256, 4, 1, width) + struct.pack("<HHII", 257, 4, 1, height)
    return b"II*\0" + struct.pack("<IH", 8, 2) + tags + bytes(300)


def _folder(*names: str) -> Callable[[Path], Sequence[str]]:
    def make(folder: Path) -> Sequence[str]:
        top = folder / "top"
        top.mkdir()
        for name in names:
            if name.endswith("/"):
                (top / name).mkdir()
            else:
                (top / name).write_bytes(b"")
        return [str(top)]

    return make


def _pipe(folder: Path) -> Sequence[str]:
    os.mkfifo(folder / "pipe.avi")
    return [str(folder / "pipe.avi")]


def _link(target: str) -> Callable[[Path], Sequence[str]]:
    def make(folder: Path) -> Sequence[str]:
        (folder / "link.png").symlink_to(target)
        return [str(folder / "link.png")]

    return make


def _settings(text: str | bytes) -> Callable[[Path], Sequence[str]]:
    def make(folder: Path) -> Sequence[str]:
        path = folder / "study.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return [write_image(folder / "a.png"), "--config", str(path)]

    return make


def _with(*flags: str) -> Callable[[Path], Sequence[str]]:
    return lambda folder: [write_image(folder / "a.png"), *flags]


def _boxes(text: str | bytes) -> Callable[[Path], Sequence[str]]:
    def make(folder: Path) -> Sequence[str]:
        for name in ("stills", "boxes"):
            (folder / name).mkdir()
        write_image(folder / "stills" / "a.png")
        data = text if isinstance(text, bytes) else text.encode()
        (folder / "boxes" / "a.txt").write_bytes(data)
        return ["-fdir", str(folder / "stills"), "-bboxdir", str(folder / "boxes")]

    return make


def _listed(data: bytes) -> Callable[[Path], Sequence[str]]:
    def make(folder: Path) -> Sequence[str]:
        (folder / "list.txt").write_bytes(data)
        return [f"@{folder / 'list.txt'}"]

    return make


FILM, STILL = "film.mp4", "still.png"
BAD: tuple[Row, ...] = (
    Row(
        "nothing there",
        lambda folder: [str(folder / "gone.avi")],
        "gone.avi: expected a file or folder, got nothing there",
    ),
    Row(
        "a folder that is not there",
        lambda folder: [str(folder / "gone" / "a.avi")],
        "got nothing there",
    ),
    Row("an empty name", lambda folder: [""], "'': expected a file or folder, got an empty name"),
    Row("a name too long", lambda folder: ["x" * 300], "got File name too long"),
    Row("a name with a null", lambda folder: ["a\0b.png"], "got embedded null byte"),
    Row(
        "an address",
        lambda folder: ["https://example.org/a.mp4"],
        "got an address: streams and addresses are not read",
    ),
    Row(
        "a stream",
        lambda folder: ["rtsp://127.0.0.1/cam"],
        "got an address: streams and addresses are not read",
    ),
    Row("a camera's number", lambda folder: ["0"], "as if it were a camera's number"),
    Row("standard input", lambda folder: ["-"], "got standard input"),
    Row("a named pipe", _pipe, "got a pipe, no regular file"),
    Row("a device", lambda folder: ["/dev/zero"], "got a device, no regular file"),
    Row(
        "a link to nothing",
        _link("gone.png"),
        "link.png: expected a file or folder, got nothing there",
    ),
    Row("a link to itself", _link("link.png"), "got Too many levels of symbolic links"),
    Row(
        "a pattern without files",
        lambda folder: [str(folder / "*.mov")],
        "expected a pattern that fits files, got none",
    ),
    Row(
        "a film without bytes",
        _write(FILM, b""),
        "got an empty file (0 bytes); copy or record it again",
    ),
    Row(
        "a picture without bytes",
        _write(STILL, b""),
        "got an empty file (0 bytes); copy or record it again",
    ),
    Row("a text called a film", _write(FILM, "no film\n"), "got 8 bytes that it cannot open"),
    Row(
        "a text called a picture",
        _write(STILL, "no picture\n"),
        "got 11 bytes that cannot be decoded",
    ),
    Row(
        "a web page called a film",
        _write(FILM, "<!DOCTYPE html><html></html>"),
        "got 28 bytes that it cannot open",
    ),
    Row(
        "noise called a film",
        _write(FILM, np.random.default_rng(0).bytes(5000)),
        "got 5000 bytes that it cannot open",
    ),
    Row(
        "noise called a picture",
        _write(STILL, np.random.default_rng(1).bytes(5000)),
        "got 5000 bytes that cannot be decoded",
    ),
    Row("zeros called a film", _write(FILM, bytes(5000)), "got 5000 bytes that it cannot open"),
    Row(
        "an archive",
        _write("a.zip", b"PK\x03\x04" + bytes(100)),
        "got a ZIP archive or Office document",
    ),
    Row("a document", _write("a.pdf", b"%PDF-1.4\n" + bytes(100)), "got a PDF document"),
    Row(
        "a drawing",
        _write("a.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>"),
        "got a video whose codec is not known",
    ),
    Row("a playlist", _write("a.m3u8", "#EXTM3U\nfilm.ts\n"), "got a list of other files"),
    Row("sound", lambda folder: [str(mux_streams(folder / "a.mp4", "s"))], "got sound, no video"),
    Row(
        "half a PNG",
        _edited(lambda path: write_image(path), STILL, _half),
        "of a PNG picture that cannot be decoded",
    ),
    Row(
        "half a BMP",
        _edited(lambda path: write_image(path), "a.bmp", _half),
        "of a BMP picture that cannot be decoded",
    ),
    Row(
        "the beginning of a film",
        _edited(write_film, FILM, lambda data: data[:40]),
        "its index (moov), which stands at the end, is missing",
    ),
    Row(
        "a film without its index",
        _edited(write_film, FILM, _half),
        "its index (moov), which stands at the end, is missing",
    ),
    Row(
        "a film of zeros within",
        _edited(write_film, "a.mkv", lambda data: data[:300] + bytes(2000)),
        "got 2300 bytes that it cannot open",
    ),
    Row(
        "a PNG of 100,000 by 100,000",
        _write(STILL, _png(100_000, 100_000)),
        "got one of 100000x100000 px",
    ),
    Row("a PNG of 2**31 by 1", _write(STILL, _png(2**31 - 1, 1)), "got one of 2147483647x1 px"),
    Row(
        "a BMP of 100,000 by 100,000",
        _write("a.bmp", _bmp(100_000, 100_000)),
        "got one of 100000x100000 px",
    ),
    Row(
        "a PNM of 10**9 by 10**9",
        _write("a.ppm", b"P6\n1000000000 1000000000\n255\n"),
        "got one of 1000000000x1000000000 px",
    ),
    Row("a PNG of 16,000 by 16,000", _write(STILL, _png(16_000, 16_000)), "that claim 16000x16000"),
    Row(
        "a GIF of 65,535 by 65,535",
        _write("a.gif", b"GIF89a" + b"\xff" * 4 + bytes(300)),
        "got one of 65535x65535 px",
    ),
    Row("a TIFF of 2**31 by 2**31", _write("a.tif", _tiff(2**31, 2**31)), "got one of 2147483648x"),
    Row(
        "a PNG with a chunk of 4 GB",
        _edited(lambda path: write_image(path), STILL, lambda d: d[:33] + b"\xff" * 3 + d[36:]),
        "of a PNG picture that cannot be decoded",
    ),
    Row("a PNG without pixels", _write(STILL, _png(0, 0)), "got one of 0x0 px"),
    Row("an empty folder", _folder(), "got 0 files, no picture among them"),
    Row("a folder of texts", _folder("a.txt", "b.csv"), "got 2 files, no picture among them"),
    Row("a folder of folders", _folder("a/", "b/"), "2 folders; --recursive looks into them"),
    Row(
        "a folder of empty pictures",
        _folder("1.png", "2.png"),
        "1.png: expected an image, got an empty file",
    ),
    Row(
        "a film for --mode image",
        lambda folder: [str(write_film(folder / FILM)), "--mode", "image"],
        "got a video; leave out --mode image",
    ),
    Row(
        "a list that is not there",
        lambda folder: [f"@{folder / 'gone.txt'}"],
        "got No such file or directory",
    ),
    Row("a list without lines", _listed(b"# nothing\n\n"), "got a file without any"),
    Row("a list that is no text", _listed(b"\xff\xfe\n\0"), "got bytes that are no UTF-8 text"),
    Row(
        "a list of what is not there",
        _listed(b"gone.avi\n"),
        "gone.avi: expected a file or folder, got nothing there",
    ),
    Row("a list in a list", _listed(b"@other.txt\n"), "got a list within a list"),
    Row(
        "an input twice",
        lambda folder: [write_image(folder / "a.png")] * 2,
        "would both write a.png.csv; name each input once",
        2,
    ),
    Row(
        "settings that are no TOML",
        _settings("fps = ["),
        "got one that cannot be read (Invalid value",
        2,
    ),
    Row("settings that are no text", _settings(b"\xff\xfe"), "can't decode byte 0xff", 2),
    Row(
        "a setting that does not exist",
        _settings("statik = true"),
        "unknown key statik: do you mean static?",
        2,
    ),
    Row(
        "a setting of another kind",
        _settings("static = 1"),
        "static: expected true or false, got 1",
        2,
    ),
    Row(
        "a setting of a table",
        _settings("[fps]\na = 1"),
        "fps: expected a text or a number, got {'a': 1}",
        2,
    ),
    Row(
        "settings that are not there",
        _with("--config", "/gone.toml"),
        "expected a TOML file, got No such file or directory",
        2,
    ),
    Row("half a camera", _with("--fx", "500"), "--fx and --fy must be given together", 2),
    Row("a rate that is none", _with("--fps", "nan"), "--fps: must be positive, got nan", 2),
    Row(
        "a frame number that is none",
        _with("--overlay", "0"),
        "expected frame numbers from 1 on",
        2,
    ),
    Row(
        "a model that is not there",
        _with("--model", "/gone.safetensors"),
        "expected a .safetensors file",
    ),
    Row(
        "boxes that are words",
        _boxes("left top right bottom\n"),
        "got 'left top right bottom' in line 1",
        command="FaceLandmarkImg",
    ),
    Row(
        "boxes inside out",
        _boxes("50 50 10 10\n"),
        "got '50 50 10 10' in line 1",
        command="FaceLandmarkImg",
    ),
    Row(
        "boxes that are no text",
        _boxes(b"\xff\xfe\0"),
        "can't decode byte 0xff",
        command="FaceLandmarkImg",
    ),
    Row(
        "boxes beyond numbers",
        _boxes("0 0 1e999 5\n"),
        "got '0 0 1e999 5' in line 1",
        command="FaceLandmarkImg",
    ),
)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    """Behind the command line, but for models that are files; what hangs is stopped."""
    load = _engine.load_process
    instead = StandIn
    monkeypatch.setattr(
        _engine, "load_process", lambda o: load(o) if o.model.startswith("/") else instead
    )
    openface = importlib.import_module("jaxface.cli._openface")
    monkeypatch.setattr(openface, "choose_model", lambda wanted: openface.Choice("base"))
    monkeypatch.setenv("JAXFACE_COMPILE_CACHE", "0")
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_HANG)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _call(command: str, arguments: Sequence[str], out: Path) -> int:
    to = ["--out", str(out)] if command == "analyze" else ["-out_dir", str(out)]
    try:
        return main([command, *arguments, *to])
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code


def test_enough_kinds():
    assert len(BAD) >= 40 and len(FAULTS) >= 12
    assert len({row.name for row in (*BAD, *FAULTS)}) == len(BAD) + len(FAULTS)


@pytest.mark.parametrize("row", BAD, ids=lambda row: row.name)
def test_bad_input_is_named(tmp_path, capfd, row):
    (tmp_path / "in").mkdir()
    code = _call(row.command, row.make(tmp_path / "in"), tmp_path / "out")
    error = capfd.readouterr().err
    assert code == row.code and row.words in error, error
    assert "Traceback" not in error and "(--debug" not in error
    assert error.count("error: ") == 1
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*"))


_GOOD = ("a film for --mode image", "a model that is not there")  # without their flags


def test_bad_inputs_cost_their_neighbours_nothing(tmp_path, capsys):
    """All of them in one command, with a good one at either end."""
    inputs = [write_image(tmp_path / "first.png")]
    for number, row in enumerate(BAD):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        if row.command == "analyze" and row.code == 1 and row.name not in _GOOD:
            inputs += [given for given in row.make(folder)[:1] if given not in inputs]
    last = write_video(tmp_path / "last.avi", 3)
    out = tmp_path / "out"
    bad = len(inputs) - 1
    assert _call("analyze", [*inputs, last], out) == 1
    assert {path.stem for path in out.rglob("*.csv")} == {"first", "last"}
    said = capsys.readouterr()
    assert said.err.count("jaxface: error: ") == bad
    assert f"2 of {bad + 2} inputs analysed: 2 now, {bad} failed" in said.out
    assert not list(out.rglob(".*.tmp"))


# Faults: of the disk, the device, the computer


def _full(part: str) -> Callable[[pytest.MonkeyPatch], None]:
    """The disk is full where a file with some name is written."""

    def make(patch: pytest.MonkeyPatch) -> None:
        module = importlib.import_module("jaxface._files._atomic")

        def opened(path: Path, mode: str) -> Any:
            stream = open(path, mode)
            return _FullDisk(stream) if part in path.name else stream

        patch.setattr(module, "open", opened, raising=False)

    return make


class _FullDisk:
    """A file that takes ten bytes."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, data: bytes) -> None:
        self._stream.write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        self._stream.close()


def _raises(error: Exception) -> Callable[[pytest.MonkeyPatch], None]:
    """What analyses the second input fails."""

    def process(source: Any) -> StandIn:
        frames = list(source.frames)
        if frames[0].mean() > 100:
            raise error
        return StandIn(source._replace(frames=iter(frames)))

    return lambda patch: patch.setattr(_engine, "load_process", lambda options: process)


def _input_fails(number: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Reading the second input fails as the system says it."""

    def make(patch: pytest.MonkeyPatch) -> None:
        original = Path.read_bytes

        def read(path: Path) -> bytes:
            if path.name == "b.png":
                raise OSError(number, os.strerror(number), str(path))
            return original(path)

        patch.setattr(Path, "read_bytes", read)

    return make


def _input_goes(patch: pytest.MonkeyPatch) -> None:
    """The second input is deleted after it was listed."""
    plan = importlib.import_module("jaxface.cli._jobs").plan_jobs

    def planned(*args: Any, **more: Any) -> Any:
        jobs = plan(*args, **more)
        os.unlink(jobs[1].path)
        return jobs

    patch.setattr("jaxface.cli._jobs.plan_jobs", planned)


def _output_goes(patch: pytest.MonkeyPatch) -> None:
    """The output folder becomes a file while the second input is analysed."""

    def process(source: Any) -> StandIn:
        frames = list(source.frames)
        if frames[0].mean() > 100:
            shutil.rmtree("out")
            Path("out").write_text("a file")
        return StandIn(source._replace(frames=iter(frames)))

    patch.setattr(_engine, "load_process", lambda options: process)


def _no_files(patch: pytest.MonkeyPatch) -> None:
    """The process has no file descriptor left when the second input is opened."""

    def process(source: Any) -> StandIn:
        frames = list(source.frames)
        if frames[0].mean() > 100:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "b.png")
        return StandIn(source._replace(frames=iter(frames)))

    patch.setattr(_engine, "load_process", lambda options: process)


def _clock_back(patch: pytest.MonkeyPatch) -> None:
    """The clock is set back by an hour at each question."""
    now = [time.time()]

    def before() -> float:
        now[0] -= 3600
        return now[0]

    patch.setattr(time, "time", before)


def _read_only(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere


def _no_rename(patch: pytest.MonkeyPatch) -> None:
    def refuse(*names: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    patch.setattr(os, "replace", refuse)


@dataclasses.dataclass(frozen=True)
class Fault:
    """What goes wrong while a.png, b.png (brighter) and c.png are analysed."""

    name: str
    make: Callable[[pytest.MonkeyPatch], None]
    words: str  # said on standard error
    left: str  # results that there are
    code: int = 1


_MORE = ["--hog", "--aligned", "--overlay", "--json", "all.json"]
_SPACE = os.strerror(errno.ENOSPC)
_DEVICE = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9876543210 bytes."
FAULTS = (
    Fault("none", lambda patch: None, "", "abc", 0),
    Fault("full disk at the CSV", _full("b.csv"), f"b.csv: cannot be written ({_SPACE})", "ac"),
    Fault(
        "full disk at the descriptors", _full("b.hog"), f"b.hog: cannot be written ({_SPACE})", "ac"
    ),
    Fault(
        "full disk at an aligned face", _full("face_det"), f"bmp: cannot be written ({_SPACE})", ""
    ),
    Fault(
        "full disk at an overlay",
        _full("b_overlay"),
        f"b_overlay.png: cannot be written ({_SPACE})",
        "abc",
    ),
    Fault(
        "full disk at the details",
        _full("b_of"),
        f"b_of_details.txt: cannot be written ({_SPACE})",
        "abc",
    ),
    Fault(
        "full disk at the record",
        _full("b.run"),
        f"b.run.json: cannot be written ({_SPACE})",
        "abc",
    ),
    Fault(
        "full disk at the summary",
        _full("all.json"),
        f"all.json: cannot be written ({_SPACE})",
        "abc",
    ),
    Fault(
        "read-only folder", _read_only, "out: cannot be written (no permission to write there)", ""
    ),
    Fault("no right to rename", _no_rename, "cannot be written (Permission denied)", ""),
    Fault("folder lost on the way", _output_goes, "out: cannot be written", ""),
    Fault(
        "input deleted on the way",
        _input_goes,
        "b.png: expected an input that can be read, got No such",
        "ac",
    ),
    Fault(
        "input on a broken disk",
        _input_fails(errno.EIO),
        "b.png: expected an image, got Input/output error",
        "ac",
    ),
    Fault("input without permission", _input_fails(errno.EACCES), "got Permission denied", "ac"),
    Fault("too many open files", _no_files, os.strerror(errno.EMFILE), "ac"),
    Fault(
        "device out of memory",
        _raises(jax.errors.JaxRuntimeError(_DEVICE)),
        "b.png: memory ran out: take fewer inputs at a time (--lanes 1",
        "ac",
    ),
    Fault(
        "computer out of memory", _raises(MemoryError()), "b.png: memory ran out: take fewer", "ac"
    ),
    Fault("a mistake of ours", _raises(KeyError("x")), "b.png: KeyError: 'x' (--debug shows", "ac"),
    Fault("clock that jumps back", _clock_back, "", "abc", 0),
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_faults_are_named_and_cost_their_input_alone(tmp_path, monkeypatch, capsys, fault):
    monkeypatch.chdir(tmp_path)
    for name, level in zip("abc", (50, 150, 60), strict=True):
        write_image(tmp_path / f"{name}.png", level)
    with monkeypatch.context() as patch:
        fault.make(patch)
        code = main(["analyze", "a.png", "b.png", "c.png", "--out", "out", *_MORE])
    said = capsys.readouterr()
    assert code == fault.code and fault.words in said.err, said.err
    assert "Traceback" not in said.err and (fault.words or not said.err)
    found = {path.stem for path in tmp_path.rglob("out/*.csv")}
    assert found == set(fault.left)
    assert not list(tmp_path.rglob(".*.tmp"))
    # The next run, without the fault, makes all good.
    if (tmp_path / "out").is_file():
        (tmp_path / "out").unlink()
    write_image(tmp_path / "b.png", 150)
    assert main(["analyze", "a.png", "b.png", "c.png", "--out", "out", "--resume", *_MORE]) == 0
    assert len(list((tmp_path / "out").glob("*.run.json"))) == 3


# Faults that need a process


_SLOW = """
import signal, sys, time
from jaxface.cli import _engine, main
from tests.stand_in import StandIn

# A shell that runs the tests in the background lets them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)

def process(source):
    def slowly(frames):
        for frame in frames:
            time.sleep(0.05)
            yield frame
    return StandIn(source._replace(frames=slowly(source.frames)))

_engine.load_process = lambda options: process
sys.exit(main(sys.argv[1:]))
"""


def _start(folder: Path, clip: str, redirected: str = "") -> subprocess.Popen:
    """Analyses a clip of 40 frames, which takes two seconds."""
    arguments = ["analyze", clip, "--out", str(folder / "out"), "--hog"]
    settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {**os.environ, "JAXFACE_COMPILE_CACHE": "0"}
    shell = ["sh", "-c", f'exec "$0" "$@" {redirected}']
    command = [*shell, sys.executable, "-c", _SLOW, *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **settings)


def _until_writing(folder: Path, process: subprocess.Popen) -> list[Path]:
    """The temporary files of a process, once there are any."""
    end = time.monotonic() + _HANG
    while time.monotonic() < end and process.poll() is None:
        found = list(folder.glob("out/.*.tmp"))
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(process.communicate())


def _is_whole(folder: Path) -> bool:
    rows = (folder / "out" / "clip.csv").read_text().splitlines()
    return len(rows) == 41 and len({row.count(",") for row in rows}) == 1


@pytest.fixture
def clip(tmp_path: Path) -> str:
    return write_video(tmp_path / "clip.avi", 40)


def test_interrupted_by_the_user(tmp_path, clip):
    process = _start(tmp_path, clip)
    _until_writing(tmp_path, process)
    time.sleep(0.5)  # within opening a file, Python may be interrupted before it has a name for it
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=_HANG)
    assert process.returncode == 130 and error == "jaxface: interrupted\n"
    assert list((tmp_path / "out").iterdir()) == []


def test_killed_and_then_two_at_a_time(tmp_path, clip):
    """What a killed run leaves, the next removes; the last of two that end gives its name."""
    process = _start(tmp_path, clip)
    (left,) = _until_writing(tmp_path, process)
    process.kill()
    process.communicate(timeout=_HANG)
    assert left.exists()
    both = [_start(tmp_path, clip) for _ in range(2)]
    for process in both:
        out, error = process.communicate(timeout=_HANG)
        assert process.returncode == 0 and not error, error
        assert out.endswith("1 of 1 input analysed\n")
    assert not left.exists() and _is_whole(tmp_path)
    names = ["clip.csv", "clip.hog", "clip.run.json", "clip_of_details.txt"]
    assert sorted(os.listdir(tmp_path / "out")) == names


@pytest.mark.parametrize("stream", ["a pipe nobody reads", "closed output", "closed error"])
def test_nobody_reads_what_is_said(tmp_path, clip, stream):
    if stream == "a pipe nobody reads":
        process = _start(tmp_path, clip)
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, error = process.communicate(timeout=_HANG)
        assert (process.returncode, error) == (1, "")
        return
    process = _start(tmp_path, clip, ">&-" if stream == "closed output" else "2>&-")
    _, error = process.communicate(timeout=_HANG)
    assert process.returncode == 0 and not error and _is_whole(tmp_path)


def test_left_files_of_others_stay(tmp_path):
    """Of a process that lives, of another computer, and whatever else has such an ending."""
    module = importlib.import_module("jaxface._files._atomic")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here, token = module._computer(), "0123abcd"
    left = tmp_path / f".a.csv.{here}-{gone.pid}-{token}.tmp"
    names = [f".a.csv.{here}-{os.getpid()}-{token}.tmp", f".a.csv.00000000-{gone.pid}-{token}.tmp"]
    others = [tmp_path / name for name in (*names, ".a.csv.tmp", "a.tmp", ".a.csv.0123abcd.tmp")]
    for path in (left, *others):
        path.write_text("")
    importlib.import_module("jaxface._files").replace_file(tmp_path / "a.csv", b"")
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "a.csv"])


_COMPILES = """
import sys
from pathlib import Path
import numpy as np
import jax
from jaxface.cli import Startup
from jaxface.ops import to_gray
from jaxface.run import compiled

startup = Startup("faults", cache=True)
for size in range(1, 5):
    image = np.full((size, 1, 3), 100, np.float32)
    assert compiled(to_gray)(image).tolist() == [[100]] * size
startup.finish()
startup.remember()
print(jax.config.jax_compilation_cache_dir)
"""


def _compile(**environment: str) -> subprocess.Popen:
    known = {**os.environ, "JAX_PLATFORMS": "cpu"}
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAXFACE_COMPILE_CACHE", "XDG_CACHE_HOME"):
        known.pop(name, None)
    settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", _COMPILES]
    return subprocess.Popen(command, cwd=ROOT, env={**known, **environment}, **settings)


@pytest.mark.untyped  # in a typed run there is no cache
def test_two_processes_fill_one_cache(tmp_path):
    both = [_compile(JAXFACE_CACHE_DIR=str(tmp_path / "cache")) for _ in range(2)]
    for process in both:
        out, error = process.communicate(timeout=_HANG)
        assert process.returncode == 0 and error == "", error
        assert out == f"{tmp_path / 'cache' / 'xla'}\n"
    kept = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert kept and not [path for path in kept if path.suffix == ".tmp"]


@pytest.mark.untyped
@pytest.mark.parametrize("kind", ["no home", "a read-only cache"])
def test_a_cache_that_cannot_be_written_costs_time_alone(kind):
    places = {
        "no home": {"HOME": "/dev/null", "JAXFACE_CACHE_DIR": ""},
        "a read-only cache": {"JAXFACE_CACHE_DIR": "/proc/jaxface"},
    }
    process = _compile(**places[kind])
    _, error = process.communicate(timeout=_HANG)
    assert process.returncode == 0, error
    assert error.count("\n") == 1 and error.startswith("jaxface: warning: "), error
    assert "so that each run compiles anew; set JAXFACE_CACHE_DIR" in error
