"""Annotated videos: H.264 in MP4, as browsers play it, or OpenFace's AVI."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from ..errors import OutputError
from ._atomic import OutputFile

_TICKS = 90000  # a second: those of MPEG
_GUESS = 1 / 30  # s between frames whose times say nothing
# Lines and letters keep their edges; slower presets would save bytes.
_H264 = {"crf": "20", "preset": "superfast"}
# For pages: a third of the bytes, at most 1.2 Mbit/s, and no frame is far from one to start from.
_SMALL = {"crf": "27", "preset": "veryfast", "g": "15", "maxrate": "1200k", "bufsize": "2400k"}
_SMALL_SIDES = 640, 480  # px, the longer and the shorter side at most


class FilmWriter:
    """Writes pictures of one size as a video, each shown from its own time on.

    As a context manager it discards the file unless `finish` was called.
    """

    def __init__(self, path: str | Path, *, fps: float | None = None, small: bool = False):
        """Creates a temporary file.

        Args:
            path: final name. One that ends in .avi becomes MPEG-4 at a constant rate, in the
                manner of OpenFace's, any other H.264 in an MP4 file.
            fps: frames per second of an AVI; by default 30.
            small: an MP4 of at most 640 x 480 px and few bytes, in which one can jump at once.
        Raises:
            OutputError: it cannot be created.
        """
        self.path = Path(path)
        self.frames = 0
        self._avi = self.path.suffix.lower() == ".avi"
        self._small = small
        self._rate = Fraction(fps or 30).limit_denominator(1001)
        self._file = OutputFile(self.path)
        self._container: Any = None
        self._stream: Any = None
        self._last = -1

    def __enter__(self) -> "FilmWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(Exception):
            if self._container is not None:
                self._container.close()
        self._file.discard()

    def write(self, picture: UInt8[np.ndarray, "h w 3"], time: float) -> None:
        """Appends a picture.

        Args:
            picture: RGB, 0 to 255. One of another size than the first is shrunk or enlarged to it,
                with black edges.
            time: at which it is shown, s. Where it is not later than that of the picture before,
                this one comes 1/30 s after it.
        Raises:
            OutputError: it cannot be written, for example when the disk is full.
        """
        import av

        with self._errors():
            if not self.frames:
                self._open(*picture.shape[:2])
            stream = self._stream
            frame = av.VideoFrame.from_ndarray(
                _fit(picture, (stream.height, stream.width)), format="rgb24"
            )
            frame.pts, frame.time_base = self._tick(time), stream.codec_context.time_base
            self._container.mux(stream.encode(frame))
        self.frames += 1

    def finish(self) -> Path:
        """Completes the file and gives it its name.

        Returns:
            The path.
        Raises:
            OutputError: there was no picture, or the last bytes cannot be written.
        """
        if self._container is None:
            raise OutputError(self.path, "a video of no frame")
        with self._errors():
            self._container.mux(self._stream.encode())
            self._container.close()
        return self._file.commit()

    def _open(self, height: int, width: int) -> None:
        import av

        kind = "avi" if self._avi else "mp4"
        self._container = av.open(self._file.stream, mode="w", format=kind)
        rate = self._rate if self._avi else Fraction(30)
        codec, options = ("mpeg4", {"qscale": "3"}) if self._avi else ("libx264", _H264)
        if self._small and not self._avi:
            options = _SMALL
            ratio = max(max(height, width) / _SMALL_SIDES[0], min(height, width) / _SMALL_SIDES[1])
            height, width = (max(round(side / max(ratio, 1)), 2) for side in (height, width))
        self._stream = self._container.add_stream(codec, rate=rate, options=options)
        # Chroma has half the resolution: sides are even.
        self._stream.height, self._stream.width = height + height % 2, width + width % 2
        self._stream.pix_fmt = "yuv420p"
        if self._avi:
            self._stream.codec_context.codec_tag = "DIVX"
        self._stream.codec_context.time_base = 1 / rate if self._avi else Fraction(1, _TICKS)

    def _tick(self, time: float) -> int:
        if self._avi:
            self._last += 1
        else:
            tick = round(time * _TICKS) if np.isfinite(time) else -1
            self._last = tick if tick > self._last else self._last + round(_GUESS * _TICKS)
        return self._last

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns what the encoder or the disk says into an error that names the file."""
        from av.error import FFmpegError

        try:
            yield
        except (FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise OutputError(self.path, reason) from error


def _fit(picture: UInt8[np.ndarray, "h w 3"], shape: tuple[int, int]) -> np.ndarray:
    """A picture in the upper left corner of an array of that shape; its last row and column are
    repeated where one is missing."""
    height, width = shape
    rest = height - picture.shape[0], width - picture.shape[1]
    if rest == (0, 0):
        return np.ascontiguousarray(picture)
    if max(rest) <= 1 and min(rest) >= 0:
        return np.pad(picture, ((0, rest[0]), (0, rest[1]), (0, 0)), mode="edge")
    ratio = min(height / picture.shape[0], width / picture.shape[1])
    size = max(round(picture.shape[1] * ratio), 1), max(round(picture.shape[0] * ratio), 1)
    room = np.zeros((height, width, 3), np.uint8)
    room[: size[1], : size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return room
