"""Small films of many kinds, written with FFmpeg's libraries."""

import itertools
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

SIZE = 64, 96  # height and width, px
STEP = 12  # levels by which the corner's brightness grows from frame to frame


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A frame that tells its number, modulo 16, and which side is up: one corner is bright."""
    height, width = size
    frame = np.full((height, width, 3), 40, np.uint8)
    frame[: height // 2, : width // 2] = 60 + STEP * (number % 16)  # the upper left
    return frame


def numbers(frames: Iterable[np.ndarray]) -> list[int]:
    """The numbers of pictures, modulo 16, by the brightness of their brightest quarter."""
    return [round((_quarters(frame).max() - 60) / STEP) for frame in frames]


def corner(frame: np.ndarray) -> tuple[int, int]:
    """Which quarter is the bright one: row and column."""
    row, column = np.unravel_index(_quarters(frame).argmax(), (2, 2))
    return int(row), int(column)


def _quarters(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    dy, dx = height // 8, width // 8  # the middle of each quarter: codecs smear the edges
    centres = itertools.product((height // 4, 3 * height // 4), (width // 4, 3 * width // 4))
    means = [float(frame[y - dy : y + dy, x - dx : x + dx].mean()) for y, x in centres]
    return np.array(means).reshape(2, 2)


def write_film(
    path: Path,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    frames: int = 12,
    size: tuple[int, int] = SIZE,
    rate: Fraction | int = 25,
    ticks: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    aspect: Fraction | None = None,
    rotation: float | None = None,
    mirrored: bool = False,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    format: str | None = None,
    interlaced: bool = False,
    sound: bool = False,
) -> Path:
    """Writes a film of `picture(0)`, `picture(1)`, ...

    Args:
        codec: of the encoder.
        pixels: format of its pictures.
        ticks: times of the frames in units of `time_base`; by default one after another.
        time_base: by default one over `rate`.
        aspect: width of a pixel over its height.
        rotation: degrees, as FFmpeg counts them: against the clock.
        options: of the encoder.
        container: options of the file's format.
        format: by default after the suffix.
        interlaced: mark the frames as interlaced, upper field first.
        sound: add a stream of silence.
    """
    base = time_base or 1 / Fraction(rate)
    with av.open(path, "w", format=format, options=container or {}) as output:
        stream: Any = output.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt = pixels
        stream.codec_context.time_base = base
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation is not None or mirrored:
            stream.set_display_rotation(rotation or 0.0, hflip=mirrored)
        if interlaced:  # FFmpeg's flags for interlaced transforms and motion
            stream.codec_context.flags |= 0x20040000
        silence: Any = output.add_stream("aac", rate=8000, layout="mono") if sound else None
        for number, tick in enumerate(ticks or range(frames)):
            rgb = picture(number, size)
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = tick, base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if silence is not None:
            quiet = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
            quiet.sample_rate, quiet.pts = 8000, 0
            output.mux(silence.encode(quiet))
            output.mux(silence.encode(None))
    return path


def copy_film(
    source: Path,
    path: Path,
    *,
    shift: int = 0,
    skip: int = 0,
    container: dict[str, str] | None = None,
    format: str | None = None,
) -> Path:
    """Copies the packets of a film into another file.

    Args:
        shift: added to all times, in units of the source.
        skip: packets that are left out at the beginning.
    """
    with (
        av.open(source) as given,
        av.open(path, "w", format=format, options=container or {}) as out,
    ):
        stream = given.streams.video[0]
        copied = out.add_stream_from_template(stream)
        for packet in itertools.islice(given.demux(stream), skip, None):
            if packet.pts is None or packet.dts is None:
                continue
            packet.pts += shift
            packet.dts += shift
            packet.stream = copied
            out.mux(packet)
    return path


def mux_streams(path: Path, kinds: str) -> Path:
    """Writes a file with a stream of each kind: v a film, s sound, c a cover picture."""
    with av.open(path, "w") as output:
        streams: list[tuple[str, Any]] = []
        for kind in kinds:
            if kind == "s":
                streams.append((kind, output.add_stream("aac", rate=8000, layout="mono")))
                continue
            film: Any = output.add_stream("mjpeg" if kind == "c" else "libx264", rate=25)
            film.height, film.width = SIZE
            film.pix_fmt = "yuvj420p" if kind == "c" else "yuv420p"
            if kind == "c":
                film.disposition = Disposition.attached_pic
            streams.append((kind, film))
        for kind, stream in streams:
            for number in range(1 if kind == "c" else 12):
                output.mux(stream.encode(_sound(number) if kind == "s" else _film(number, stream)))
            output.mux(stream.encode(None))
    return path


def _film(number: int, stream: Any) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(picture(number), "rgb24").reformat(format=stream.pix_fmt)
    frame.pts, frame.time_base = number, Fraction(1, 25)
    return frame


def _sound(number: int) -> av.AudioFrame:
    quiet = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
    quiet.sample_rate, quiet.pts = 8000, 1024 * number
    return quiet
