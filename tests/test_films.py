"""Films as cameras, phones, browsers and repair programs make them."""

import contextlib
import gc
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from jaxface import io
from jaxface.errors import InputError, InputWarning
from jaxface.io import VideoReader

from .films import SIZE, copy_film, corner, mux_streams, numbers, picture, write_film

_ALL = list(range(12))
_WIDE = 576, 720  # DV knows no other sizes
_25 = Fraction(1, 25)
_QUIET = {"x265-params": "log-level=none"}
_FIELDS = {"x264-params": "tff=1"}  # the upper one first
_BEHIND = {"bf": "2"}  # two frames that depend on a later one


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Nothing is to be said about a film that is whole."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        yield


def _read(path: Path, clock: Any = None) -> tuple[VideoReader, list[np.ndarray], list[float]]:
    reader = io.read_video(path, clock=clock)
    frames = list(reader)
    return reader, frames, [round(reader.timestamp(i), 3) for i in range(len(frames))]


# Codecs and containers


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("h264.mp4", dict(options=_BEHIND)),
        ("h264.mkv", dict(options=_BEHIND)),
        ("h264.avi", dict(options=_BEHIND)),  # which knows no times of showing
        ("h264.ts", dict(options=_BEHIND, format="mpegts")),
        ("stream.h264", dict(options=_BEHIND, format="h264")),
        ("fragments.mp4", dict(container={"movflags": "frag_keyframe+empty_moov"})),
        ("live.mkv", dict(container={"live": "1"})),  # neither lengths nor an index
        ("index_in_front.mov", dict(container={"movflags": "faststart"})),
        ("with_sound.mp4", dict(sound=True)),
        ("high10.mp4", dict(pixels="yuv420p10le")),
        ("yuv444.mp4", dict(pixels="yuv444p")),
        (
            "main10.mp4",
            dict(codec="libx265", pixels="yuv420p10le", options={"x265-params": "log-level=none"}),
        ),
        ("av1_10.mkv", dict(codec="libsvtav1", pixels="yuv420p10le")),
        ("vp8.webm", dict(codec="libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "10"})),
        ("vp9.webm", dict(codec="libvpx-vp9")),
        ("prores.mov", dict(codec="prores_ks", pixels="yuv422p10le")),
        ("grey16.mkv", dict(codec="ffv1", pixels="gray16le")),
        ("alpha.mov", dict(codec="qtrle", pixels="argb")),
        ("mjpeg.avi", dict(codec="mjpeg", pixels="yuvj420p")),
        ("uncompressed.avi", dict(codec="rawvideo", pixels="bgr24")),
        ("mpeg4.avi", dict(codec="mpeg4")),
        ("windows.wmv", dict(codec="wmv2")),
        ("flash.flv", dict(codec="flv")),
        ("dvd.mpg", dict(codec="mpeg2video", options={**_BEHIND, "b": "2000000"})),
        ("odd.mkv", dict(codec="ffv1", pixels="yuv444p", size=(65, 97))),
        ("ntsc.mp4", dict(rate=Fraction(30000, 1001))),
    ],
)
def test_every_frame_of_a_whole_film(tmp_path, name, made):
    with _silence():
        reader, frames, times = _read(write_film(tmp_path / name, **made))
    assert numbers(frames) == _ALL
    assert reader.count == 12
    assert {frame.shape for frame in frames} == {(reader.height, reader.width, 3)}
    assert (reader.height, reader.width) == made.get("size", SIZE)
    # OpenFace's own times, to the last bit.
    assert reader.fps == float(made.get("rate", 25))
    assert [reader.timestamp(i) for i in range(12)] == [i * (1.0 / reader.fps) for i in range(12)]
    assert times[-1] == round(11 / reader.fps, 3)
    assert corner(frames[0]) == (0, 0)


# Clocks


def test_times_of_a_film_whose_frames_are_unevenly_spaced(tmp_path):
    ticks = [0, 1, 2, 3, 13, 14, 15, 17, 18, 19, 30, 60]
    # Matroska states no times of decoding; those of showing go back where frames are reordered.
    for name in ("a.mp4", "a.mkv"):
        path = write_film(tmp_path / name, ticks=ticks, options=_BEHIND)
        with _silence():
            reader, frames, times = _read(path)
        assert numbers(frames) == _ALL
        assert times == [round(tick / 25, 3) for tick in ticks]
        assert any("from the file's clock: 1.9" in note for note in reader.notes)
        assert reader.fps == pytest.approx(11 / 2.4)  # the mean
        # Before it is decoded, a frame's time is what the packets say.
        fresh = io.read_video(path)
        assert [round(fresh.timestamp(i), 3) for i in range(12)] == times


def test_the_clock_can_be_chosen(tmp_path):
    path = write_film(tmp_path / "a.mp4", ticks=[0, 1, 2, 10])
    reader, _, times = _read(path, "openface")
    rate = reader.fps
    assert times == [round(i / rate, 3) for i in range(4)]
    assert any("off the file's clock" in note for note in reader.notes)
    steady = write_film(tmp_path / "b.mp4")
    assert io.read_video(steady).notes == ()
    reader, _, times = _read(steady, "container")
    assert reader.notes == ("times from the file's clock",)
    assert times == [round(i / 25, 3) for i in range(12)]
    wrong: Any = "sun"
    with pytest.raises(ValueError, match='clock: expected "openface" or "container", got \'sun\''):
        io.read_video(steady, clock=wrong)


def test_half_a_frame_is_no_difference(tmp_path):
    ticks = [0, 44, 78, 117, 163, 200]  # ms; at most 5 off 25 frames/s
    thousandth = Fraction(1, 1000)
    steady = write_film(tmp_path / "a.mkv", ticks=ticks, time_base=thousandth)
    assert _read(steady)[2] == [0.0, 0.04, 0.08, 0.12, 0.16, 0.2]
    ticks[3] = 141  # 21 off, of 20
    uneven = write_film(tmp_path / "b.mkv", ticks=ticks, time_base=thousandth)
    assert _read(uneven)[2] == [tick / 1000 for tick in ticks]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_times_begin_with_the_first_frame(tmp_path, suffix):
    source = write_film(tmp_path / "a.mp4", options=_BEHIND)
    shift = round(1.5 / _unit(source))
    with _silence():
        _, frames, times = _read(copy_film(source, tmp_path / f"late.{suffix}", shift=shift))
    assert numbers(frames) == _ALL
    assert times == [round(i / 25, 3) for i in range(12)]


def _unit(path: Path) -> float:
    with av.open(path) as film:
        base = film.streams.video[0].time_base
    assert base is not None
    return float(base)


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_what_an_edit_list_hides_is_not_there(tmp_path, suffix):
    source = write_film(tmp_path / "a.mp4", options={**_BEHIND, "g": "6"})
    hidden = {"avoid_negative_ts": "disabled"}
    shift = -round(0.2 / _unit(source))
    path = copy_film(source, tmp_path / f"cut.{suffix}", shift=shift, container=hidden)
    with _silence():
        reader, frames, times = _read(path)
    assert numbers(frames) == _ALL[5:]
    assert (reader.count, times) == (7, [round(i / 25, 3) for i in range(7)])


def test_a_film_that_begins_between_key_frames(tmp_path):
    source = write_film(tmp_path / "a.mp4", options={"g": "6"})
    _, frames, times = _read(copy_film(source, tmp_path / "cut.mkv", skip=2))
    assert numbers(frames) == _ALL[6:]
    assert times == [round(i / 25, 3) for i in range(6)]


def test_a_clock_that_is_set_anew(tmp_path):
    data = write_film(tmp_path / "a.ts", format="mpegts").read_bytes()
    (tmp_path / "twice.ts").write_bytes(data + data)
    reader, frames, times = _read(tmp_path / "twice.ts")
    assert numbers(frames) == _ALL + _ALL
    assert times == [round(i / 25, 3) for i in range(24)]
    assert any("set anew" in note for note in reader.notes)


# Pixels


@pytest.mark.parametrize(
    ("rotation", "mirrored", "where", "word"),
    [
        (-90.0, False, (0, 1), "rotated 90"),
        (180.0, False, (1, 1), "rotated 180"),
        (90.0, False, (1, 0), "rotated 270"),
        (0.0, True, (0, 1), "mirrored"),
        (90.0, True, (1, 1), "rotated 270 and mirrored"),
    ],
)
def test_films_are_turned_as_players_show_them(tmp_path, rotation, mirrored, where, word):
    path = write_film(tmp_path / "a.mp4", rotation=rotation, mirrored=mirrored)
    reader, frames, _ = _read(path)
    assert corner(frames[0]) == where
    assert reader.notes == (word,)
    turned = word.startswith(("rotated 90", "rotated 270"))
    expected = SIZE[::-1] if turned else SIZE
    assert frames[0].shape[:2] == (reader.height, reader.width) == expected


@pytest.mark.parametrize(
    ("name", "made", "shape"),
    [
        ("a.mp4", dict(aspect=Fraction(4, 3)), (64, 128)),
        ("a.mkv", dict(aspect=Fraction(8, 9)), (64, 85)),
        ("a.mpg", dict(aspect=Fraction(16, 15), codec="mpeg2video", size=_WIDE), (576, 768)),
        ("a.avi", dict(aspect=Fraction(16, 11), codec="mpeg4"), (64, 140)),
        ("b.mp4", dict(aspect=Fraction(4, 3), rotation=-90.0), (128, 64)),
        ("c.mp4", dict(aspect=Fraction(1)), SIZE),
    ],
)
def test_pixels_become_square(tmp_path, name, made, shape):
    reader, frames, _ = _read(write_film(tmp_path / name, **made))
    assert frames[0].shape[:2] == (reader.height, reader.width) == shape
    assert any("pixel aspect" in note for note in reader.notes) == (made["aspect"] != 1)
    assert numbers(frames) == _ALL


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("a.mp4", dict(options=_FIELDS, interlaced=True)),
        ("a.mts", dict(options=_FIELDS, interlaced=True, format="mpegts")),
        ("a.mpg", dict(codec="mpeg2video", interlaced=True)),
        ("a.dv", dict(codec="dvvideo", size=_WIDE, format="dv")),
        ("a.avi", dict(codec="dvvideo", size=_WIDE)),
    ],
)
def test_interlaced_films_become_whole_pictures(tmp_path, name, made):
    with _silence():
        reader, frames, times = _read(write_film(tmp_path / name, **made))
    assert "deinterlaced" in reader.notes
    assert numbers(frames) == _ALL
    assert times == [round(i / 25, 3) for i in range(12)]


def test_what_moves_between_two_fields_leaves_no_comb(tmp_path):
    """A bar that moves 8 px from one field to the next: woven, its edges are combs."""
    path = tmp_path / "a.mp4"
    with av.open(path, "w") as output:
        stream: Any = output.add_stream(
            "libx264", rate=25, options={"x264-params": "tff=1", "crf": "5"}
        )
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.codec_context.flags |= 0x20040000
        for number in range(6):
            frame = np.full((64, 96, 3), 40, np.uint8)
            for field in (0, 1):
                start = 8 * (2 * number + field)
                frame[field::2, start : start + 12] = 220
            made = av.VideoFrame.from_ndarray(frame, "rgb24").reformat(
                format="yuv420p", interpolation=4
            )
            made.pts = number
            output.mux(stream.encode(made))
        output.mux(stream.encode(None))
    for frame in _read(path)[1]:
        rows = frame[8:56, :, 1].astype(int)
        comb = np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2)  # a row against its neighbours
        assert comb.mean() < 6  # woven 30; at a bar's edges something remains


def test_a_size_that_changes_in_the_middle(tmp_path):
    small = write_film(tmp_path / "a.ts", format="mpegts").read_bytes()
    large = write_film(tmp_path / "b.ts", format="mpegts", size=(128, 192)).read_bytes()
    (tmp_path / "both.ts").write_bytes(small + large)
    _, frames, _ = _read(tmp_path / "both.ts")
    assert [frame.shape[0] for frame in frames] == [64] * 12 + [128] * 12
    assert numbers(frames) == _ALL + _ALL


# Streams


@pytest.mark.parametrize(
    ("name", "kinds", "message"),
    [
        ("a.m4a", "s", "got sound, no video"),
        ("a.mp4", "s", "got sound, no video"),
        ("b.mp4", "sc", "got sound and a cover picture, no video"),
    ],
)
def test_sound_is_no_video(tmp_path, name, kinds, message):
    path = mux_streams(tmp_path / name, kinds)
    with pytest.raises(InputError, match=f"{name}: expected a video .*{message}; name a video"):
        io.open_frames(path)


@pytest.mark.parametrize("kinds", ["vsc", "cv"])
def test_a_film_with_a_cover_is_a_film(tmp_path, kinds):
    reader, frames, _ = _read(mux_streams(tmp_path / "a.mp4", kinds))
    assert numbers(frames) == _ALL
    assert reader.notes == ()


def test_the_first_of_two_films_is_taken_and_said(tmp_path):
    reader, frames, _ = _read(mux_streams(tmp_path / "a.mkv", "vv"))
    assert numbers(frames) == _ALL
    assert reader.notes == ("one of 2 video streams",)


# Damage


_LONG: dict[str, Any] = dict(frames=40, options={"g": "10"}, size=(240, 320))


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("a.mp4", dict(container={"movflags": "faststart"})),
        ("b.mp4", dict(container={"movflags": "frag_keyframe+empty_moov"})),
        ("a.mkv", {}),
        ("a.avi", dict(codec="mpeg4")),
        ("a.wmv", dict(codec="wmv2")),
        ("a.mpg", dict(codec="mpeg2video")),
        ("a.ts", dict(format="mpegts")),
    ],
)
def test_a_film_that_was_cut_short(tmp_path, name, made):
    path = write_film(tmp_path / name, **{**_LONG, **made})
    with _silence():
        assert len(list(io.read_video(path))) == 40
    data = path.read_bytes()
    path.write_bytes(data[: 6 * len(data) // 10])
    reader = io.read_video(path)
    with pytest.warns(InputWarning, match=f"{name}: the file ends early: only .* decoded"):
        frames = list(reader)
    assert 5 <= len(frames) < 30
    times = np.array([reader.timestamp(i) for i in range(len(frames))])
    # Each has the time of its number: behind the last whole frame in the file some are missing.
    np.testing.assert_allclose(
        (times * 25).round() % 16, numbers(frames), atol=0 if len(frames) else 1
    )


def test_an_mp4_without_its_index_says_so(tmp_path):
    path = write_film(tmp_path / "a.mp4", **_LONG)
    data = path.read_bytes()
    path.write_bytes(data[: 6 * len(data) // 10])
    with pytest.raises(InputError, match=r"a.mp4: .* ends early: its index \(moov\).* is missing"):
        io.read_video(path)


def test_frames_behind_damage_keep_their_times(tmp_path):
    path = write_film(tmp_path / "a.mp4", **_LONG, container={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 300] = bytes(300)
    path.write_bytes(data)
    reader = io.read_video(path)
    with pytest.warns(InputWarning, match="a.mp4: damaged: .* of 40 frames could be decoded"):
        frames = list(reader)
    assert len(frames) < 40
    assert [round(25 * reader.timestamp(i)) % 16 for i in range(len(frames))] == numbers(frames)
    assert round(25 * reader.timestamp(len(frames) - 1)) == 39


def test_dropped_frames_of_an_avi_take_their_time(tmp_path):
    """An AVI marks a dropped frame with an empty piece."""
    path = write_film(tmp_path / "a.avi", codec="mjpeg", pixels="yuvj420p")
    path.write_bytes(_drop(path.read_bytes(), {5, 6}))
    reader, frames, times = _read(path)
    expected = [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]
    assert numbers(frames) == expected
    assert times == [round(number / 25, 3) for number in expected]
    assert reader.count == 10


def _drop(data: bytes, dropped: set[int]) -> bytes:
    start = data.index(b"movi")
    at, pieces, number = start + 4, b"movi", 0
    while data[at : at + 2] == b"00":
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + length + length % 2
        pieces += data[at : at + 4] + bytes(4) if number in dropped else data[at:end]
        at, number = end, number + 1
    body = data[8 : start - 4] + len(pieces).to_bytes(4, "little") + pieces
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def test_a_list_of_films_is_refused(tmp_path):
    write_film(tmp_path / "a.mp4")
    for name, text in (
        ("a.m3u8", "#EXTM3U\na.mp4\n"),
        ("a.mp4.txt", "ffconcat version 1.0\nfile a.mp4\n"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(
            InputError, match=f"{name}: expected a video .* got a list of other files"
        ):
            io.open_frames(tmp_path / name)


# Memory and threads


def test_a_film_is_decoded_as_it_is_read(tmp_path):
    """Frames that nobody takes are not decoded, beyond those that are held ready."""
    reader = io.read_video(write_film(tmp_path / "a.mkv", codec="ffv1", frames=60), ahead=2)
    frames = iter(reader)
    first = next(frames)
    np.testing.assert_allclose(first, picture(0), atol=12)  # RGB to YUV and back
    seen: Any = reader.clock
    assert len(seen.seen) <= 1 + 2 + 2 + 1
    del frames
    assert numbers(list(reader)[-2:]) == [58 % 16, 59 % 16]


def test_no_frame_outlives_its_use(tmp_path):
    """Circles of references would hold some hundred frames, until Python looks for them."""
    path = write_film(tmp_path / "a.mkv", codec="ffv1", frames=60)
    sum(1 for _ in io.read_video(path))  # imports leave circles too
    gc.collect()
    gc.disable()
    try:
        assert sum(1 for _ in io.read_video(path)) == 60
        assert gc.collect() < 60
    finally:
        gc.enable()
