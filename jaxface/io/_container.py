"""Opening films with FFmpeg's libraries: the stream of pictures, or why there is none."""

import contextlib
import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from ..errors import InputError
from ._endings import boxes
from ._signatures import HEAD, Content, sniff
from ._sizes import check_size

VIDEO = "a video that FFmpeg can decode"
CONVERT = "check that it plays, or convert it (ffmpeg -i FILE out.mp4)"
_BUFFER = 1 << 20  # bytes that are read at a time: each read waits for Python's lock
_STILL = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


_MOST_FAILURES = 16  # to read on in a row, before the rest of a file is given up


class _Bytes:
    """A file without a name: so that a name's colons and percent signs mean nothing to FFmpeg."""

    def __init__(self, file: io.FileIO):
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


@contextlib.contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Opens a film for reading.

    Raises:
        InputError: FFmpeg cannot make anything of it, or it is a list of other files.
    """
    with path.open("rb", buffering=0) as file:
        head = file.read(HEAD)
        signature = sniff(head)
        if signature is not None and signature.content is Content.OTHER:
            raise InputError(path, VIDEO, signature.name, CONVERT)
        if signature is not None and signature.content is Content.PICTURE:
            check_size(path, head, path.stat().st_size)  # FFmpeg decodes one as it opens it
        file.seek(0)
        try:
            container = av.open(
                _Bytes(file),
                "r",
                buffer_size=_BUFFER,
                metadata_errors="replace",
                io_open=_refuse,
            )
        except (FFmpegError, ValueError, OSError, EOFError) as error:
            raise InputError(path, VIDEO, _why_closed(path), CONVERT) from error
        try:
            yield container
        finally:
            container.close()


def _refuse(url: str, flags: int, options: dict[str, str]) -> None:
    raise PermissionError(f"{url}: a film may not open other files")


def _why_closed(path: Path) -> str:
    size = path.stat().st_size
    names = [name for name, _ in boxes(path)]
    if names[0] in (b"ftyp", b"mdat", b"wide", b"free") and b"moov" not in names:
        return (
            f"{size} bytes of an MP4 or QuickTime file that ends early: its index (moov), which "
            "stands at the end, is missing"
        )
    return f"{size} bytes that it cannot open"


def find_stream(container: InputContainer, path: Path) -> tuple[VideoStream, tuple[str, ...]]:
    """The stream of pictures that is meant: the default one, or else the first.

    Cover pictures and thumbnails are none.

    Returns:
        The stream, and what is to be said about the choice.
    Raises:
        InputError: there is no such stream, or its codec is not known.
    """
    streams = container.streams
    films = [stream for stream in streams.video if not stream.disposition & _STILL]
    usable = [stream for stream in films if stream.codec_context is not None]
    if usable:
        marked = [stream for stream in usable if stream.disposition & Disposition.default]
        notes = (f"one of {len(films)} video streams",) if len(films) > 1 else ()
        return (marked or usable)[0], notes
    if films:
        got = "a video whose codec is not known"
    elif streams.audio:
        cover = " and a cover picture" if streams.video else ""
        got = f"sound{cover}, no video"
    else:
        got = "a picture, no video" if streams.video else "no video in it"
    raise InputError(path, VIDEO, got, CONVERT if films else "name a video")


def demux(container: InputContainer, stream: VideoStream) -> Iterator[Packet | None]:
    """The packets of a stream; None in place of what is damaged, and then those behind it."""
    failures = 0
    while failures < _MOST_FAILURES:
        try:
            for packet in container.demux(stream):
                yield packet
                failures = 0
            return
        except FFmpegError:
            failures += 1
            if failures == 1:
                yield None


def pixel_aspect(stream: VideoStream) -> Fraction:
    """Width of a pixel over its height; 1 where the file says nothing, or nothing sensible."""
    found = stream.sample_aspect_ratio
    return Fraction(found) if found and Fraction(1, 8) <= found <= 8 else Fraction(1)
