"""Frames of a video file or of a folder of images, one after another."""

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from ..errors import InputError, InputWarning
from ._checks import InputKind, check_file, classify_input, file_signature
from ._endings import is_cut
from ._folders import list_images
from ._images import image_notes, read_image
from ._prefetch import prefetch
from ._signatures import GIF, PNG, WEBP, Content

if TYPE_CHECKING:  # FFmpeg's libraries take 40 ms to load: only where there is a video
    from ._clock import ClockChoice

Frame = UInt8[np.ndarray, "h w 3"]  # RGB, 0 to 255

_VIDEO = "a video that FFmpeg can decode"
_CONVERT = "check that it plays, or convert it (ffmpeg -i FILE out.mp4)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoReader:
    """A video file. Each iteration decodes it from the start, in a background thread.

    Frames are pictures as they are shown: upright, with square pixels, deinterlaced.
    """

    path: Path
    fps: float  # frames per second; 30 where the file names none; the mean if they vary
    width: int  # px, as shown
    height: int  # px, as shown
    count: int | None  # frames that the file holds; more or fewer may be decodable
    ahead: int = 8  # frames decoded ahead
    clock: Any = None  # a `Clock`; None counts frames
    findings: Any = None  # `Findings`; of the first frame, and more with each iteration
    choices: tuple[str, ...] = ()  # what was chosen when it was opened, in words
    missing: int = 0  # frames that the file's header promises beyond `count`

    def timestamp(self, index: int) -> float:
        """Time of frame `index` (from 0), s, from the first frame.

        Of a frame that has not been delivered yet it is what the file's index says.

        Reference: specification 01, C.2. Differs: where the file's clock is off by more than half
        a frame anywhere, it is the file's.
        """
        return index * (1.0 / self.fps) if self.clock is None else self.clock.at(index)

    def shown_at(self, index: int) -> float:
        """When a player shows frame `index` (from 0), s from the first frame.

        By the file's own clock where it has one; `timestamp` may differ by half a frame, as
        OpenFace counts frames at one rate.
        """
        if self.clock is None or not self.clock.exact:
            return self.timestamp(index)
        return self.clock.own(index)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to make frames and times of this file; complete after an iteration."""
        return (*self.choices, *(self.findings.notes() if self.findings else ()))

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames as RGB. What is damaged is left out; the times go on.

        Warns:
            InputWarning: the file ends early, or parts of it could not be decoded.
        """
        from ._decode import Findings

        findings = Findings()
        delivered = 0
        for frame in prefetch(self._decode(findings), self.ahead):
            delivered += 1
            yield frame
        problem = self._problem(findings, delivered)
        if problem:
            warnings.warn(f"{self.path}: {problem}", InputWarning, stacklevel=2)

    def _decode(self, findings: Any) -> Iterator[Frame]:
        from ._decode import decode

        base = None
        for index, shown in enumerate(decode(self.path, findings)):
            if self.clock is not None:
                base = shown.time if base is None else base
                own = None if shown.time is None or base is None else shown.time - base
                self.clock.see(index, own)
            yield shown.pixels
        if self.findings is not None:
            self.findings.update(findings)

    def _problem(self, findings: Any, delivered: int) -> str:
        if findings.cut or is_cut(self.path):
            of = f" of {(self.count or delivered) + self.missing}" if self.missing else ""
            return f"the file ends early: only {delivered}{of} frames could be decoded"
        if findings.damaged:
            return f"damaged: {delivered} of {self.count} frames could be decoded"
        return ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceReader:
    """Image files taken as the frames of one clip."""

    path: Path
    files: tuple[Path, ...]
    width: int  # px, of the first image that can be read
    height: int  # px, of the same
    fps: float = 0.0  # unknown
    ahead: int = 8  # frames decoded ahead
    # Of the last iteration: why images could not be read, and which, from 0.
    problems: list[InputError] = dataclasses.field(default_factory=list, compare=False)
    lost: set[int] = dataclasses.field(default_factory=set, compare=False)

    @property
    def count(self) -> int:
        """Number of image files."""
        return len(self.files)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the images, in the order of the frames."""
        return tuple(file.name for file in self.files)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is left out of a single image, in words."""
        return image_notes(self.files[0]) if len(self.files) == 1 else ()

    def timestamp(self, index: int) -> float:
        """From the frame rate, s; 0 without one: a folder has no clock.

        Reference: specification 01, C.2.
        """
        return index * (1.0 / self.fps) if self.fps else 0.0

    def shown_at(self, index: int) -> float:
        """The same as `timestamp`."""
        return self.timestamp(index)

    def __iter__(self) -> Iterator[Frame]:
        """Yields the images as RGB; for one that cannot be read the one before, or behind it.

        So that whoever tracks a face does not lose it. Which ones these are is in `lost` as soon
        as they are yielded.

        Warns:
            InputWarning: an image could not be read. Its error is among the `problems`.
        """
        self.problems.clear()
        self.lost.clear()
        for index, (frame, error) in enumerate(prefetch(self._read(), self.ahead)):
            if error is not None:
                self.problems.append(error)
                self.lost.add(index)
                message = f"{error} (frame {index + 1} is without a face)"
                warnings.warn(message, InputWarning, stacklevel=2)
            yield frame

    def _read(self) -> Iterator[tuple[Frame, InputError | None]]:
        early: list[InputError] = []  # before the first image that can be read
        frame = None
        for file in self.files:
            try:
                frame = read_image(file)
            except InputError as error:
                if frame is None:
                    early.append(error)
                else:
                    yield frame, error
                continue
            yield from ((frame, error) for error in early)
            early.clear()
            yield frame, None
        if early:
            raise early[0]


def read_video(
    path: str | Path, *, clock: "ClockChoice | None" = None, ahead: int = 8
) -> VideoReader:
    """Opens a video file.

    Its packets are gone through once for their times; nothing but the first frame is decoded.

    Args:
        path: the video file.
        clock: "openface" counts frames at the file's rate; "container" takes the file's own
            clock; by default the first where both agree to half a frame throughout.
        ahead: frames decoded ahead of the consumer.
    Returns:
        An iterable of frames that knows their times, rate and size.
    Raises:
        InputError: the file is missing, empty, unreadable or holds no decodable frame.
        ValueError: there is no such clock.
    Reference:
        Specification 01, C.2. Differs: times, orientation, pixel aspect and interlaced frames are
        the file's, which OpenFace does not ask for.
    """
    if clock not in (None, "openface", "container"):
        raise ValueError(f'clock: expected "openface" or "container", got {clock!r}')
    check_file(path, _VIDEO)
    path = Path(path)
    signature = file_signature(path)
    if signature is not None and signature.content is Content.PICTURE:
        if signature not in (GIF, PNG, WEBP):  # these may be animated
            raise InputError(path, _VIDEO, signature.name, "take it as an image (read_image)")
    from ._clock import choose_clock, scan_packets
    from ._container import find_stream, opened
    from ._decode import Findings, decode

    with opened(path) as container:
        stream, choices = find_stream(container, path)
        packets = scan_packets(container, stream)
        codec = stream.codec_context.name
    findings = Findings()
    with contextlib.closing(decode(path, findings)) as shown:
        first = next(shown, None)
    if first is None:
        got = f"not a single decodable frame (codec {codec})"
        raise InputError(path, _VIDEO, got, _CONVERT)
    found, words = choose_clock(packets, first.time, clock)
    height, width, _ = first.pixels.shape
    return VideoReader(
        path=path,
        fps=found.rate,
        width=width,
        height=height,
        count=packets.count or None,
        ahead=ahead,
        clock=found,
        findings=findings,
        choices=(*choices, *words),
        missing=packets.missing,
    )


def read_sequence(path: str | Path, *, fps: float = 0.0, ahead: int = 8) -> SequenceReader:
    """Opens a folder of images, or one image, as a clip.

    Args:
        path: the folder, or an image file as a clip of one frame.
        fps: frames per second; 0 where they are not known.
        ahead: frames decoded ahead of the consumer.
    Returns:
        An iterable of frames that knows the size of the first.
    Raises:
        InputError: no folder, no image in it, or not one of them can be read.
    Reference:
        Specification 01, C.2. Differs: an image that cannot be read keeps its place.
    """
    if not Path(path).is_dir():
        check_file(path, "an image or a folder of images")
    path = Path(path)
    files = list_images(path) if path.is_dir() else [path]
    height, width = _first_size(files)
    return SequenceReader(
        path=path, files=tuple(files), width=width, height=height, fps=fps, ahead=ahead
    )


def _first_size(files: list[Path]) -> tuple[int, int]:
    """Height and width of the first image that can be read, px."""
    problem: InputError | None = None
    for file in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", InputWarning)  # said when it is read as a frame
                height, width, _ = read_image(file).shape
            return height, width
        except InputError as error:
            problem = problem or error
    assert problem is not None  # there is at least one file
    raise problem


def open_frames(
    path: str | Path,
    *,
    clock: "ClockChoice | None" = None,
    fps: float = 0.0,
    ahead: int = 8,
) -> VideoReader | SequenceReader:
    """Opens whatever holds frames: a video, a folder of images, or one image.

    Args:
        path: what to open; its contents tell what it is.
        clock: of a video, see `read_video`.
        fps: of images, see `read_sequence`.
        ahead: frames decoded ahead of the consumer.
    Raises:
        InputError: it cannot be opened.
    """
    if classify_input(path) is InputKind.VIDEO:
        return read_video(path, clock=clock, ahead=ahead)
    return read_sequence(path, fps=fps, ahead=ahead)
