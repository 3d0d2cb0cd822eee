"""Frames of a video file or of a folder of images, one after another."""

import dataclasses
import math
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from ..errors import InputError, InputWarning
from ._checks import check_file
from ._images import list_images, read_image
from ._prefetch import prefetch
from ._quiet import quiet_opencv

Frame = UInt8[np.ndarray, "h w 3"]  # RGB, 0 to 255

_DEFAULT_FPS = 30.0
_VIDEO = "a video that FFmpeg can decode"
_CONVERT = "check that it plays, or convert it (ffmpeg -i FILE out.mp4)"
_FEWEST = 0.95  # share of the announced frames below which a video counts as cut short


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoReader:
    """A video file. Each iteration decodes it from the start, in a background thread."""

    path: Path
    fps: float  # frames per second; 30 where the file names none
    width: int  # px
    height: int  # px
    count: int | None  # frames that the file announces; more or fewer may be decodable
    ahead: int = 8  # frames decoded ahead

    def timestamp(self, index: int) -> float:
        """Time of frame `index` (from 0), s. Reference: specification 01, C.2."""
        return index * (1.0 / self.fps)

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames as RGB. A damaged file ends at its first undecodable frame.

        Warns:
            InputWarning: far fewer frames than announced could be decoded.
        """
        delivered = 0
        for frame in prefetch(_decode(self.path), self.ahead):
            delivered += 1
            yield frame
        if self.count is not None and delivered < _FEWEST * self.count:
            message = f"{self.path}: only {delivered} of {self.count} frames could be decoded"
            warnings.warn(message, InputWarning, stacklevel=2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceReader:
    """Image files taken as the frames of one clip."""

    path: Path
    files: tuple[Path, ...]
    width: int  # px, of the first image
    height: int  # px, of the first image
    fps: float = 0.0  # unknown
    ahead: int = 8  # frames decoded ahead

    @property
    def count(self) -> int:
        """Number of image files."""
        return len(self.files)

    def timestamp(self, index: int) -> float:
        """Always 0: a folder has no clock. Reference: specification 01, C.2."""
        return 0.0 * index

    def __iter__(self) -> Iterator[Frame]:
        """Yields the images as RGB. The first one that cannot be read ends the sequence.

        Warns:
            InputWarning: an image could not be read; it and those after it are left out.
        """
        try:
            yield from prefetch(map(read_image, self.files), self.ahead)
        except InputError as error:
            message = f"{error} (the sequence ends before this image)"
            warnings.warn(message, InputWarning, stacklevel=2)


def read_video(path: str | Path, *, ahead: int = 8) -> VideoReader:
    """Opens a video file.

    Args:
        path: the video file.
        ahead: frames decoded ahead of the consumer.
    Returns:
        An iterable of frames that knows the frame rate and size.
    Raises:
        InputError: the file is missing, empty, unreadable or holds no decodable frame.
    Reference:
        Specification 01, C.2.
    """
    path = Path(path)
    check_file(path, _VIDEO)
    capture = _open(path)
    try:
        fps = capture.get(cv2.CAP_PROP_FPS)
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        first = _next(capture)
    finally:
        capture.release()
    if first is None:
        raise InputError(path, _VIDEO, "not a single decodable frame", _CONVERT)
    return VideoReader(
        path=path,
        fps=fps if math.isfinite(fps) and fps > 0 else _DEFAULT_FPS,
        width=first.shape[1],
        height=first.shape[0],
        count=int(count) if math.isfinite(count) and count >= 1 else None,
        ahead=ahead,
    )


def read_sequence(path: str | Path, *, ahead: int = 8) -> SequenceReader:
    """Opens a folder of images, or one image, as a clip.

    Args:
        path: the folder, or an image file as a clip of one frame.
        ahead: frames decoded ahead of the consumer.
    Returns:
        An iterable of frames that knows the size of the first.
    Raises:
        InputError: no folder, no image in it, or the first one cannot be read.
    Reference:
        Specification 01, C.2.
    """
    path = Path(path)
    files = list_images(path) if path.is_dir() else [path]
    height, width, _ = read_image(files[0]).shape
    return SequenceReader(path=path, files=tuple(files), width=width, height=height, ahead=ahead)


def _open(path: Path) -> cv2.VideoCapture:
    with quiet_opencv():
        capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        got = f"{path.stat().st_size} bytes that it cannot open"
        raise InputError(path, _VIDEO, got, _CONVERT)
    return capture


def _next(capture: cv2.VideoCapture) -> Frame | None:
    try:
        ok, frame = capture.read()
    except cv2.error:  # a damaged stream: the clip ends here
        return None
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if ok and frame is not None else None


def _decode(path: Path) -> Iterator[Frame]:
    capture = _open(path)
    try:
        while (frame := _next(capture)) is not None:
            yield frame
    finally:
        capture.release()
