"""Still pictures as cameras, phones, scanners and browsers store them."""

import os
import struct
import sys
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from jaxface import io
from jaxface.errors import InputError, InputWarning
from jaxface.io import InputKind

_ONE_LEVEL = 4  # grey levels that a good JPEG of a smooth picture is off by
_FEW_COLOURS = 20  # grey levels; OpenCV writes GIF with 256 colours, the same for all pictures


def _picture(height: int = 48, width: int = 64) -> np.ndarray:
    """An RGB picture whose channels, rows and columns all differ, smooth for lossy formats."""
    y, x = np.mgrid[:height, :width]
    return np.stack([3 * x, 4 * y, 2 * (x + y) % 256], axis=-1).astype(np.uint8)


def _encoded(suffix: str, picture: np.ndarray | None = None, *options: int) -> bytes:
    bgr = cv2.cvtColor(_picture() if picture is None else picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(suffix, bgr, list(options))[1].tobytes()


def _pillow() -> Any:
    return pytest.importorskip("PIL.Image", reason="Pillow is missing: install jaxface[heif]")


@pytest.fixture(autouse=True)
def silence(request) -> Any:
    """Nothing is to be said about a file that is whole."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        yield


# Kinds


@pytest.mark.parametrize(
    "suffix", [".jpg", ".png", ".bmp", ".tiff", ".webp", ".jp2", ".ppm", ".gif"]
)
@pytest.mark.parametrize("name", ["a.mp4", "a", "A.JPG", "a.jfif", "a.txt"])
def test_contents_tell_what_a_file_is(tmp_path, suffix, name):
    if suffix == ".gif" and not cv2.haveImageWriter("a.gif"):
        pytest.skip("this OpenCV writes no GIF: 4.11 does")
    (tmp_path / name).write_bytes(_encoded(suffix))
    assert io.classify_input(tmp_path / name) is InputKind.IMAGE
    found = io.read_image(tmp_path / name)
    assert found.shape == (48, 64, 3)
    off = np.abs(found.astype(int) - _picture()).mean()
    assert off < (_FEW_COLOURS if suffix == ".gif" else _ONE_LEVEL)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.png", b"%PDF-1.4\n" + bytes(99), "a PDF document"),
        ("b.jpg", b"PK\x03\x04" + bytes(99), "a ZIP archive or Office document"),
        ("c.jpg", b"\0\0\0\x14ftypcrx " + bytes(99), "a camera's raw picture"),
        ("d.tif", b"II*\0\x08\0\0\0\x01\0\xfe\0\x04\0\x01\0\0\0\x01\0\0\0" + bytes(9), "raw"),
        ("e.tif", b"II*\0\x10\0\0\0CR\x02\0" + bytes(99), "a camera's raw picture"),
        ("f.jpg", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), "a JPEG XL picture"),
        ("g.jpg", bytes(128) + b"DICM" + bytes(99), "a DICOM file"),
        ("h.png", b"\0\0\0\x18ftypmp42" + bytes(99), "an MP4 or QuickTime file"),
        ("i.png", b"ID3\x03" + bytes(99), "an MP3 file"),
        ("j.png", b"no picture " * 9, "99 bytes that cannot be decoded"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=f"{name}: expected an image, got .*{words}.*; convert"):
        io.read_image(tmp_path / name)


# Endings


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize(
    "behind", [b"\0", bytes(100), b"\0\0\0\x18ftypmp42" * 999, b"\xff\xd8\xff"]
)
def test_bytes_behind_a_picture_are_no_part_of_it(tmp_path, capfd, suffix, behind):
    data = _encoded(suffix)
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(data + behind)
    np.testing.assert_array_equal(io.read_image(tmp_path / "b"), io.read_image(tmp_path / "a"))
    assert io.image_notes(tmp_path / "b") == ()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "options", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)]
)
def test_ends_of_jpegs_of_all_kinds(tmp_path, options):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = _encoded(".jpg", noise, *options)
    # A thumbnail, with an end of its own, stands in a segment before the picture.
    thumbnail = _encoded(".jpg")
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    data = data[:2] + segment + data[2:]
    (tmp_path / "a.jpg").write_bytes(data + b"more")
    whole = io.read_image(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(data[: 2 * len(data) // 3])
    with pytest.warns(InputWarning, match="b.jpg: the file ends early"):
        part = io.read_image(tmp_path / "b.jpg")
    if cv2.IMWRITE_JPEG_PROGRESSIVE not in options:  # whose every row is coarse by then
        np.testing.assert_array_equal(whole[:8], part[:8])
    assert (whole[-8:] != part[-8:]).any()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".webp", ".jp2", ".ppm"])
def test_other_pictures_that_end_early_are_refused(tmp_path, capfd, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = _encoded(suffix, noise)
    (tmp_path / "a").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="a: expected an image, got .* cannot be decoded"):
        io.read_image(tmp_path / "a")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".ppm"])
def test_a_size_that_damage_made_up_is_refused(tmp_path, suffix):
    data = bytearray(_encoded(suffix))
    at, new = {
        ".png": (16, struct.pack(">II", 40000, 40000)),
        ".jpg": (data.find(b"\xff\xc0") + 5, struct.pack(">HH", 40000, 40000)),
        ".bmp": (18, struct.pack("<ii", 40000, -40000)),
        ".ppm": (3, b"40000 40000"),
    }[suffix]
    data[at : at + (5 if suffix == ".ppm" else len(new))] = new
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(InputError, match="a: expected an image of at most .*, got one of 40000x4"):
        io.read_image(tmp_path / "a")


# Orientation and colours


# What to store so that a picture is shown upright with an orientation from 1 to 8.
_STORED = (
    lambda shown: shown,
    lambda shown: shown[:, ::-1],
    lambda shown: shown[::-1, ::-1],
    lambda shown: shown[::-1],
    lambda shown: shown.transpose(1, 0, 2),
    lambda shown: np.rot90(shown, 1),
    lambda shown: shown.transpose(1, 0, 2)[::-1, ::-1],
    lambda shown: np.rot90(shown, -1),
)


def _tiff(picture: np.ndarray, orientation: int, order: str = "<") -> bytes:
    """An uncompressed TIFF of one strip."""
    height, width, _ = picture.shape
    entries = [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 0), (259, 3, 1, 1), (262, 3, 1, 2)),
        *((273, 4, 1, 0), (274, 3, 1, orientation), (277, 3, 1, 3), (278, 4, 1, height)),
        (279, 4, 1, picture.size),
    ]
    end = 8 + 2 + 12 * len(entries) + 4
    places = {258: end, 273: end + 6}
    directory = struct.pack(order + "H", len(entries))
    for tag, kind, count, value in entries:
        directory += struct.pack(order + "HHI", tag, kind, count)
        value = places.get(tag, value)
        short = kind == 3 and count == 1  # and then filled up
        directory += (
            struct.pack(order + "HH", value, 0) if short else struct.pack(order + "I", value)
        )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + directory + bytes(4) + struct.pack(order + "HHH", 8, 8, 8) + picture.tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiffs_are_turned_as_they_are_shown(tmp_path, orientation, order):
    stored = np.ascontiguousarray(_STORED[orientation - 1](_picture()))
    (tmp_path / "a.tif").write_bytes(_tiff(stored, orientation, order))
    np.testing.assert_array_equal(io.read_image(tmp_path / "a.tif"), _picture())


def test_colours_for_print_become_rgb(tmp_path):
    image = _pillow().fromarray(_picture()).convert("CMYK")
    for kind in ("JPEG", "TIFF"):
        image.save(tmp_path / "a", kind, quality=95)
        found = io.read_image(tmp_path / "a")
        assert np.abs(found.astype(int) - _picture()).mean() < _ONE_LEVEL


# Several pictures in one file


def test_the_first_of_several_pictures_is_taken_and_said(tmp_path):
    image = _pillow()
    frames = [image.fromarray(np.full((40, 60, 3), level, np.uint8)) for level in (50, 100, 150)]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        path = tmp_path / f"a.{kind}"
        frames[0].save(path, kind, save_all=True, append_images=frames[1:], duration=100)
        np.testing.assert_allclose(io.read_image(path), 50, atol=1)
        animated = kind != "TIFF"  # whose pages are no animation
        expected = ("first picture of an animated one",) if animated else ()
        assert io.open_frames(path).notes == expected
        frames[0].save(path, kind)
        assert io.image_notes(path) == ()


# HEIC and AVIF


def _heif(path: Path, kind: str) -> Path:
    image = _pillow().fromarray(_picture(64, 96))
    if kind == "HEIF":
        pillow_heif = pytest.importorskip(
            "pillow_heif", reason="pillow-heif is missing: install jaxface[heif]"
        )
        pillow_heif.register_heif_opener()
    try:
        image.save(path, kind, quality=95)
    except (KeyError, OSError) as error:
        pytest.skip(f"this Pillow writes no {kind}: {error}")
    return path


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_pictures_of_phones(tmp_path, kind):
    path = _heif(tmp_path / "a.jpg", kind)
    assert io.classify_input(path) is InputKind.IMAGE
    found = io.read_image(path)
    assert np.abs(found.astype(int) - _picture(64, 96)).mean() < _ONE_LEVEL


def test_heic_without_the_extra_names_it(tmp_path, monkeypatch):
    path = _heif(tmp_path / "a.heic", "HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # its import fails
    with pytest.raises(InputError, match=r"a.heic: .* got a HEIC picture, which needs the extra"):
        io.read_image(path)
    with pytest.raises(InputError, match=r"a.heic: expected a video .*, got a HEIC picture; take"):
        io.read_video(path)


def test_a_part_of_a_picture_is_refused(tmp_path):
    """As of one that is made of tiles, where a decoder knows a single tile only."""
    path = _heif(tmp_path / "a.heic", "HEIF")
    data = bytearray(path.read_bytes())
    at = data.index(b"ispe") + 8
    data[at : at + 8] = struct.pack(">II", 192, 128)  # twice as large
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a.heic: expected .*(of 192x128 px|cannot be decoded)"):
        io.read_image(path)


# Damage


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff", ".webp", ".gif", ".avif"])
def test_damaged_pictures_are_read_or_refused(tmp_path, capfd, suffix):
    """Never another exception, whatever the decoders raise. More of it is run by hand."""
    try:
        whole = _encoded(suffix)
    except cv2.error:
        pytest.skip(f"this OpenCV writes no {suffix}")
    random, path = np.random.default_rng(0), tmp_path / "a"
    refused = 0
    for _ in range(60):
        data = bytearray(whole)
        for at in random.integers(len(data), size=random.integers(1, 6)):
            data[at] = random.integers(256)
        path.write_bytes(data[: random.integers(1, 2 * len(data))])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", InputWarning)
                assert io.read_image(path).dtype == np.uint8
        except InputError:
            refused += 1
    assert refused


# What is no file


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("rtsp://127.0.0.1/cam", "rtsp://127.0.0.1/cam: .*streams and addresses are not read"),
        ("https://example.org/a.mp4", "https://example.org/a.mp4: .*addresses are not read"),
        (Path("https://example.org/a.mp4"), "https:/example.org.*addresses are not read"),
        ("file:///tmp/a.mp4", "file:///tmp/a.mp4: .*give the path without file://"),
        ("-", "-: .*standard input: cameras, streams and pipes are not read; save the video"),
        ("0", "0: .*a camera's number: cameras, streams and pipes are not read"),
        ("/dev/video99", "/dev/video99: .*no such device: cameras, streams and pipes"),
        ("/dev/null", "/dev/null: .*a device, no regular file: cameras, streams and pipes"),
        ("a\0b", "null"),
        ("x" * 300, "too long; check the path"),
        ("gone.mp4", "gone.mp4: .*nothing there; check the spelling"),
    ],
)
def test_what_is_no_file_is_named(tmp_path, monkeypatch, given, words):
    monkeypatch.chdir(tmp_path)
    for read in (io.classify_input, io.open_frames, io.read_video, io.read_image):
        with pytest.raises(InputError, match=words):
            read(given)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("written", [False, True])
def test_a_pipe_is_refused_at_once(tmp_path, written):
    path = tmp_path / "pipe.mkv"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR | os.O_NONBLOCK) if written else None
    for read in (io.classify_input, io.open_frames, io.read_video, io.read_image):
        with pytest.raises(InputError, match="pipe.mkv: .*a pipe, no regular file"):
            read(path)
    if writer is not None:
        os.close(writer)


@pytest.mark.parametrize(
    "name",
    [
        *("12:30:05.png", "file:a.png", "http:x.png", "-a.png", "%03d.png", "a#b?.png", "'b\".png"),
        *("two\nlines.png", "\N{GRINNING FACE}.png", "end.png "),
    ],
)
def test_odd_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    try:
        Path(name).write_bytes(_encoded(".png"))
    except OSError:
        pytest.skip("this file system has no such names")
    for given in (name, f"./{name}", Path(name)):
        assert len(list(io.open_frames(given))) == 1
        np.testing.assert_array_equal(io.read_image(given), _picture())
