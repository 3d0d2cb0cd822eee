"""Reading inputs: decoding, damaged files, chunks and camera defaults."""

import hashlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from jaxface import Camera, io
from jaxface.errors import InputError, InputWarning
from jaxface.io import InputKind


def _picture(height: int = 48, width: int = 64) -> np.ndarray:
    """An RGB picture whose channels, rows and columns all differ."""
    y, x = np.mgrid[:height, :width]
    return np.stack([3 * x, 4 * y, 2 * (x + y) % 256], axis=-1).astype(np.uint8)


def _write_video(path: Path, count: int, fps: float = 12.0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 48))
    assert writer.isOpened()
    for i in range(count):
        writer.write(np.full((48, 64, 3), 10 * i % 250, np.uint8))
    writer.release()
    return path


def _hash(rgb: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(rgb[..., ::-1]).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def hashes(openface_dir: Path) -> dict:
    return json.loads((openface_dir / "golden" / "decode_hashes.json").read_text())


# Decoding


def test_images_decode_as_in_openface(hashes, samples_dir):
    checked = 0
    for name, expected in hashes.items():
        path = samples_dir / name
        if "sha" in expected and path.is_file():
            assert _hash(io.read_image(path)) == expected["sha"], name
            checked += 1
    assert checked >= 40  # both sequences, five samples and two 16-bit images


def test_video_decodes_as_in_openface(hashes, samples_dir):
    expected = hashes["default.wmv"]
    reader = io.read_video(samples_dir / "default.wmv")
    assert (reader.fps, reader.width, reader.height, reader.count) == (15.0, 640, 480, 288)
    found = [_hash(frame) for frame in reader]
    assert found == expected["per_frame"]


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_all_png_layouts_become_8_bit_rgb(tmp_path, depth, channels):
    rgb = _picture()
    stored = {1: rgb[..., 0], 3: rgb[..., ::-1], 4: np.dstack([rgb[..., ::-1], rgb[..., 1]])}
    image = stored[channels].astype(depth)
    if depth == np.uint16:
        image = image * 256 + 255  # rounding instead of taking the high byte would add 1
    assert cv2.imwrite(str(tmp_path / "a.png"), image)
    expected = np.repeat(rgb[..., :1], 3, axis=-1) if channels == 1 else rgb
    found = io.read_image(tmp_path / "a.png")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_exif_orientation_is_applied(tmp_path):
    data = cv2.imencode(".jpg", np.zeros((16, 32, 3), np.uint8))[1].tobytes()
    # Little-endian TIFF with one entry: orientation (0x0112), short, 1 value, 6 = quarter turn.
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    exif = b"\xff\xe1" + (len(tiff) + 8).to_bytes(2, "big") + b"Exif\0\0" + tiff
    (tmp_path / "a.jpg").write_bytes(data[:2] + exif + data[2:])
    assert io.read_image(tmp_path / "a.jpg").shape == (32, 16, 3)


def test_one_pixel_image_is_read(tmp_path):
    cv2.imwrite(str(tmp_path / "dot.png"), np.array([[[1, 2, 3]]], np.uint8))
    np.testing.assert_array_equal(io.read_image(tmp_path / "dot.png"), [[[3, 2, 1]]])


def test_video_timestamps_follow_the_frame_rate(tmp_path):
    reader = io.read_video(_write_video(tmp_path / "a.avi", 5))
    assert reader.fps == 12.0
    assert [reader.timestamp(i) for i in (0, 1, 4)] == [0.0, 1 / 12, 4 * (1 / 12)]
    levels = [int(frame[..., 0].mean().round()) for frame in reader]
    np.testing.assert_allclose(levels, [0, 10, 20, 30, 40], atol=2)  # MJPEG is lossy
    assert len(list(reader)) == 5  # a second pass starts over


def test_grey_videos_become_8_bit_rgb(tmp_path):
    path = tmp_path / "grey.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48), False)
    for level in (0, 60, 120):
        writer.write(np.full((48, 64), level, np.uint8))
    writer.release()
    frames = list(io.read_video(path))
    assert {(frame.dtype.name, frame.shape) for frame in frames} == {("uint8", (48, 64, 3))}
    np.testing.assert_allclose([f.mean() for f in frames], [0, 60, 120], atol=2)  # MJPEG is lossy


# Folders


def test_sequence_is_in_natural_order(tmp_path):
    names = ["b.png", "a.bmp", "c.PNG", "10.png", "9.png", "B2.Jpeg", "a.webp"]
    for i, name in enumerate(names):
        cv2.imwrite(str(tmp_path / name), np.full((4, 4, 3), 20 * i, np.uint8))
    (tmp_path / "picture").write_bytes((tmp_path / "b.png").read_bytes())
    (tmp_path / "d.jpg").mkdir()
    for name in ("notes.txt", ".hidden.png", "._9.png", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (tmp_path / name).write_text("x")
    expected = ["9.png", "10.png", "a.bmp", "a.webp", "b.png", "B2.Jpeg", "c.PNG", "picture"]
    assert [path.name for path in io.list_images(tmp_path)] == expected
    reader = io.read_sequence(tmp_path)
    assert reader.names == tuple(expected)
    levels = [int(frame[0, 0, 0]) for frame in reader]
    np.testing.assert_allclose(levels, [80, 60, 20, 120, 0, 100, 40, 0], atol=3)  # JPEG, WebP
    assert (reader.count, reader.fps, reader.timestamp(3)) == (8, 0.0, 0.0)
    assert (reader.height, reader.width) == (4, 4)
    assert io.read_sequence(tmp_path, fps=25.0).timestamp(3) == 3 * (1.0 / 25.0)


def test_numbers_in_names_count_as_numbers():
    ordered = [
        *("1.jpg", "01.png", "2.jpg", "f1.JPG", "f2.jpg", "f02b.jpg", "F10.jpg", "f10_2.jpg"),
        *("f10_10.jpg", "g.jpg"),
    ]
    shuffled = sorted(ordered)
    assert [p.name for p in sorted(map(Path, shuffled), key=io.natural_key)] == ordered


@pytest.mark.parametrize("bad", [0, 2, 4])
def test_unreadable_image_keeps_its_place(tmp_path, bad):
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((4, 4, 3), 50 * number, np.uint8))
    name = f"{bad}.png"
    (tmp_path / name).write_bytes(b"" if bad else b"no image")
    reader = io.read_sequence(tmp_path)
    for _ in range(2):  # a second pass starts over
        with pytest.warns(InputWarning, match=f"{name}: .*frame {bad + 1} is without a face"):
            found = [int(frame[0, 0, 0]) // 50 for frame in reader]
        nearest = bad - 1 if bad else 1
        assert found == [nearest if number == bad else number for number in range(5)]
        assert reader.lost == {bad}
        assert [problem.path.name for problem in reader.problems] == [name]


def test_folder_in_which_nothing_can_be_read(tmp_path):
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match="1.png: expected an image, got an empty file"):
        io.read_sequence(tmp_path)


def test_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="1 files, no picture among them; put the frames in it"):
        io.list_images(tmp_path)
    _write_video(tmp_path / "b.avi", 2)
    (tmp_path / "c.mov").write_bytes(b"")
    with pytest.raises(InputError, match=r"a folder of videos .2, the first is b.avi.; name the"):
        io.read_sequence(tmp_path)
    contents = io.folder_contents(tmp_path)
    assert [path.name for path in contents.videos] == ["b.avi", "c.mov"]
    assert [path.name for path in contents.others] == ["notes.txt"]
    assert contents.images == ()


def test_kinds_of_input_follow_from_contents(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), _picture())
    _write_video(tmp_path / "b.avi", 2)
    for name, source in (("c.mp4", "a.png"), ("d", "a.png"), ("e.jpg", "b.avi"), ("f", "b.avi")):
        (tmp_path / name).write_bytes((tmp_path / source).read_bytes())
    (tmp_path / "g.JPG").write_bytes(b"x")  # whose contents say nothing
    (tmp_path / "h.mp4").write_bytes(b"x")
    kinds = {path.name: io.classify_input(path) for path in sorted(tmp_path.iterdir())}
    assert {name for name, kind in kinds.items() if kind is InputKind.IMAGE} == {*_PICTURES}
    assert {name for name, kind in kinds.items() if kind is InputKind.VIDEO} == {*_FILMS}
    assert io.classify_input(tmp_path) is InputKind.FOLDER
    with pytest.raises(InputError, match="gone.mp4: expected a file or folder, got nothing there"):
        io.classify_input(tmp_path / "gone.mp4")
    assert len(list(io.open_frames(tmp_path / "e.jpg"))) == 2
    assert len(list(io.open_frames(tmp_path / "c.mp4"))) == 1
    with pytest.raises(InputError, match="f: expected an image, got an AVI file; convert it"):
        io.read_image(tmp_path / "f")


_PICTURES, _FILMS = ("a.png", "c.mp4", "d", "g.JPG"), ("b.avi", "e.jpg", "f", "h.mp4")


# Bad files


@pytest.mark.parametrize("read", [io.read_image, io.read_video])
def test_missing_empty_and_wrong_files(tmp_path, read):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("no pixels in here\n" * 20)
    for name, message in (
        ("gone", "nothing there; check the spelling"),
        ("empty", r"an empty file \(0 bytes\)"),
        ("text", "360 bytes"),
        ("", "a folder; name a file"),
    ):
        with pytest.raises(InputError, match=f"{tmp_path.name}.*{name}.*{message}") as caught:
            read(tmp_path / name)
        assert caught.value.path == tmp_path / name


@pytest.mark.parametrize("read", [io.read_image, io.read_video])
def test_no_permission(tmp_path, monkeypatch, read):
    path = tmp_path / "a.png"
    path.write_bytes(b"x")

    def refuse(self, *arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root would be let in
    with pytest.raises(InputError, match="no access .Permission denied.; check its permissions"):
        read(path)


def test_truncated_video_gives_its_decodable_frames(tmp_path):
    path = _write_video(tmp_path / "a.avi", 40)
    whole, data = list(io.read_video(path)), path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    reader = io.read_video(path)
    with pytest.warns(InputWarning, match="a.avi: the file ends early: only .* of 40 frames"):
        found = list(reader)
    assert 5 <= len(found) <= 30
    np.testing.assert_array_equal(found, whole[: len(found)])  # the last, cut through, is left out


def test_truncated_jpeg_is_read_with_a_warning(tmp_path, capfd):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.warns(InputWarning, match="a.jpg: the file ends early"):
        assert io.read_image(tmp_path / "a.jpg").shape == (64, 64, 3)
    assert capfd.readouterr() == ("", "")


def test_truncated_png_is_refused(tmp_path, capfd):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = cv2.imencode(".png", noise)[1].tobytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="a.png: expected an image, got .* cannot be decoded"):
        io.read_image(tmp_path / "a.png")
    assert capfd.readouterr() == ("", "")


def test_damaged_files_leave_the_terminal_alone(tmp_path):
    """In a process of its own: libraries write to the terminal past Python."""
    path = _write_video(tmp_path / "a.avi", 20)
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    path.write_bytes(data)
    (tmp_path / "text.mp4").write_text("no video\n" * 100)
    code = (
        "import sys, warnings; from jaxface import io\n"
        "warnings.simplefilter('ignore')\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        list(io.read_video(path))\n"
        "    except ValueError:\n"
        "        pass\n"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "text.mp4")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENCV")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_reading_leaves_environment_and_log_level(tmp_path):
    log: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 4: the functions lie in cv2
    before = dict(os.environ), log.getLogLevel()
    list(io.read_video(_write_video(tmp_path / "a.avi", 2)))
    assert (dict(os.environ), log.getLogLevel()) == before


# Decoding ahead


def test_prefetch_keeps_order_and_stays_bounded():
    made = []

    def items():
        for i in range(50):
            made.append(i)
            yield i

    ahead = io.prefetch(items(), 4)
    assert next(ahead) == 0
    time.sleep(0.1)  # lets the thread run as far as it can
    assert len(made) <= 1 + 4 + 1  # taken, queued, waiting for a place
    assert list(ahead) == list(range(1, 50))


def test_prefetch_passes_errors_on_after_the_items():
    def items():
        yield 1
        raise InputError("a", "b", "c", "d")

    ahead = io.prefetch(items())
    assert next(ahead) == 1
    with pytest.raises(InputError, match="a: expected b, got c; d"):
        next(ahead)


def test_prefetch_stops_its_thread_when_closed():
    threads = threading.active_count()
    ahead = io.prefetch(itertools.count(), 2)
    assert next(ahead) == 0
    assert threading.active_count() == threads + 1
    ahead.close()
    assert threading.active_count() == threads
    with pytest.raises(ValueError, match="size: expected at least 1, got 0"):
        io.prefetch([], 0)


# Fixed shapes


def test_chunks_are_filled_up_with_invalid_frames():
    frames = [np.full((2, 3, 3), i, np.uint8) for i in range(1, 6)]
    found = list(io.chunks(iter(frames), 2))
    assert [chunk.frames.shape for chunk in found] == [(2, 2, 3, 3)] * 3
    assert [chunk.valid.tolist() for chunk in found] == [[True] * 2, [True] * 2, [True, False]]
    assert [chunk.indices.tolist() for chunk in found] == [[0, 1], [2, 3], [4, -1]]
    assert found[2].frames[:, 0, 0, 0].tolist() == [5, 0]
    assert list(io.chunks([], 2)) == []


def test_chunks_split_where_the_size_changes():
    frames = [np.ones((2, 3, 3), np.uint8), np.ones((4, 3, 3), np.uint8)]
    found = list(io.chunks(frames, 3))
    assert [chunk.frames.shape[1] for chunk in found] == [2, 4]
    assert [chunk.indices.tolist() for chunk in found] == [[0, -1, -1], [1, -1, -1]]
    with pytest.raises(ValueError, match="size: expected at least 1, got 0"):
        io.chunks(frames, 0)


def test_canvas():
    assert io.canvas_size(480, 640) == (480, 640)
    assert io.canvas_size(481, 1) == (640, 120)
    assert io.canvas_size(3841, 5000) == (4480, 5120)
    image = _picture()
    canvas, size = io.pad_to_canvas(image)
    assert (canvas.shape, size) == ((120, 120, 3), (48, 64))
    np.testing.assert_array_equal(canvas[:48, :64], image)
    assert not canvas[48:].any() and not canvas[:, 64:].any()
    assert io.pad_to_canvas(canvas)[0] is canvas


# Camera


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 480), (500.0, 500.0, 320.0, 240.0)),
        ((640, 400), (458.3333, 458.3333, 320.0, 200.0)),
        ((2048, 1366), (1511.4583, 1511.4583, 1024.0, 683.0)),
        ((641, 481), (500.9115, 500.9115, 320.5, 240.5)),
    ],
)
def test_default_camera(size, expected):
    width, height = size
    camera = io.default_camera(height=height, width=width)
    np.testing.assert_allclose([*camera], expected, rtol=0, atol=1e-4)  # px; four digits above


def test_default_camera_is_openfaces_to_the_bit(golden_dir):
    for name, width, height in (("sample4", 640, 578), ("sample5", 640, 424)):
        stage = np.load(golden_dir / "stages" / f"{name}.npz")
        camera = io.default_camera(height=height, width=width)
        np.testing.assert_array_equal(stage["face0_intrinsics"].ravel(), [*camera])


def _default(**given: float) -> tuple[float, ...]:
    return tuple(map(float, io.default_camera(height=480, width=640, **given)))


def test_given_camera():
    assert _default(fx=700, fy=710) == (700.0, 710.0, 320.0, 240.0)
    assert _default(cx=300, cy=200) == (500.0, 500.0, 300.0, 200.0)
    assert all(value.dtype == np.float32 for value in io.default_camera(height=480, width=640))
    with pytest.raises(ValueError, match="fx, fy: expected both or neither"):
        _default(fx=700)
    with pytest.raises(ValueError, match="cx, cy: expected both or neither"):
        _default(cy=7)
    with pytest.raises(ValueError, match="fy: expected a positive focal length in px, got -1"):
        _default(fx=700, fy=-1)
    with pytest.raises(TypeError, match="expected height= and width=, got 480 and None"):
        io.default_camera(height=480)


def test_a_size_by_position_keeps_its_meaning_for_a_release():
    with pytest.warns(DeprecationWarning, match="pass the size by name"):
        camera = io.default_camera(640, 400, 700.0, 710.0)
    assert tuple(map(float, camera)) == (700.0, 710.0, 320.0, 200.0)


def _camera(*values: Any) -> Camera:
    return Camera(*(np.asarray(value, np.float32) for value in values))


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((np.nan, 1.0, 1.0, 1.0), "camera.fx: expected a positive focal length in px, got nan"),
        ((1.0, 0.0, 1.0, 1.0), "camera.fy: expected a positive focal length in px, got 0"),
        ((1.0, 1.0, np.inf, 1.0), "camera.cx: expected a finite number of px, got inf"),
        ((1.0, 1.0, 1.0, [2.0, 3.0]), r"camera.cy: expected one number, got .* shape \(2,\)"),
    ],
)
def test_a_camera_that_cannot_be_one_is_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        io.check_camera(_camera(*values))


@pytest.mark.untyped
def test_cameras_of_0_1_are_taken_for_a_release():
    kept = io.check_camera(Camera(*map(jnp.float32, (700, 710, 320, 240))))
    assert kept is not None and isinstance(kept.fx, np.ndarray)
    with pytest.warns(DeprecationWarning, match="io.Intrinsics is now jaxface.Camera"):
        older: Any = io.Intrinsics
    older = older(700.0, 710.0, 320.0, 240.0)
    for given in (older, (700, 710, 320, 240)):
        with pytest.warns(DeprecationWarning, match="pass a jaxface.Camera") as caught:
            found = io.check_camera(given)
        assert caught[0].filename == __file__  # the caller's line, which Python shows
        assert found is not None and tuple(found) == tuple(kept)
    wrongs: tuple[Any, ...] = (500.0, (1.0, 2.0))
    for wrong in wrongs:
        with pytest.raises(TypeError, match="camera: pass a jaxface.Camera"):
            io.check_camera(wrong)
    assert io.check_camera(None) is None
