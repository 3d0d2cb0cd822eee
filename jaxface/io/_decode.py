"""Frames of a film as they are shown: whole pictures of square pixels, upright."""

import dataclasses
import os
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from av import VideoFrame
from av.container import InputContainer
from av.error import FFmpegError
from av.filter import Graph
from av.packet import Packet
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import Float, UInt8

from ._container import demux, find_stream, opened, pixel_aspect
from ._endings import is_cut

_THREADS = 4  # that decode, at most
_LARGE = 1280 * 720  # px from which frames are decoded side by side, in more memory


class Shown(NamedTuple):
    """One frame."""

    pixels: UInt8[np.ndarray, "h w 3"]  # RGB, 0 to 255
    time: float | None  # s, by the file's clock


@dataclasses.dataclass
class Findings:
    """What was met on the way, for the words about a clip."""

    damaged: int = 0  # packets that could not be decoded
    cut: bool = False  # the last packet is incomplete
    interlaced: bool = False
    aspect: Fraction = Fraction(1)  # width of a stored pixel over its height
    turned: str = ""  # how the stored picture is turned

    def update(self, other: "Findings") -> None:
        """Takes over what another pass met."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(other, field.name))

    def notes(self) -> tuple[str, ...]:
        """In words, what was done to the frames."""
        found = []
        if self.interlaced:
            found.append("deinterlaced")
        if self.aspect != 1:
            found.append(f"pixel aspect {float(self.aspect):.4g} resampled to square pixels")
        if self.turned:
            found.append(self.turned)
        return tuple(found)


def decode(path: Path, findings: Findings) -> Generator[Shown, None, None]:
    """Decodes a film from its start. What is damaged is left out.

    Args:
        path: the file.
        findings: is filled in on the way.
    Raises:
        InputError: there is nothing in it that can be decoded.
    """
    with opened(path) as container:
        stream, _ = find_stream(container, path)
        large = stream.codec_context.width * stream.codec_context.height > _LARGE
        stream.thread_type = "AUTO" if large else "SLICE"
        stream.thread_count = min(_THREADS, os.cpu_count() or 1)
        convert = converter(pixel_aspect(stream), findings)
        for frame in whole_frames(path, container, stream, findings):
            yield convert(frame)


def whole_frames(
    path: Path, container: InputContainer, stream: VideoStream, findings: Findings
) -> Iterator[VideoFrame]:
    """Frames as they are stored, from where the container stands, none of them interlaced."""
    return _deinterlaced(_frames(path, container, stream, findings), stream, findings)


def first_picture(path: Path) -> UInt8[np.ndarray, "h w 3"] | None:
    """The first frame of a file, None where there is none."""
    return next((shown.pixels for shown in decode(path, Findings())), None)


def _frames(
    path: Path, container: InputContainer, stream: VideoStream, findings: Findings
) -> Iterator[VideoFrame]:
    """Decodes packets, each when the next is known: the last one may be incomplete."""
    held = None
    for packet in demux(container, stream):
        if packet is None:
            findings.damaged += 1
            continue
        if not packet.size:  # a dropped frame of an AVI; for the decoder it would mean the end
            continue
        if held is not None:
            yield from _decoded(stream, held, findings)
        held = packet
    if held is not None:
        # MPEG's streams do not say how long a picture is, so none counts as incomplete.
        streams = container.format.name in ("mpeg", "mpegts")
        findings.cut = held.is_corrupt or streams and is_cut(path)
        if not findings.cut:
            yield from _decoded(stream, held, findings)
    yield from _decoded(stream, None, findings)


def _decoded(stream: VideoStream, packet: Packet | None, findings: Findings) -> list[VideoFrame]:
    try:
        frames = stream.decode(packet)
    except (FFmpegError, EOFError):
        findings.damaged += packet is not None
        return []
    for frame in frames:  # those that come at the end know no unit of time
        frame.time_base = stream.time_base
    return frames


def _deinterlaced(
    frames: Iterator[VideoFrame], stream: VideoStream, findings: Findings
) -> Iterator[VideoFrame]:
    """Makes whole pictures of interlaced ones, as many as there are; passes others on."""
    graph, kind = None, None
    for frame in frames:
        now = frame.width, frame.height, frame.format.name
        if graph is not None and now != kind:
            yield from _pulled(graph, None)
            graph = None
        if frame.interlaced_frame and graph is None:
            findings.interlaced = True
            graph, kind = _deinterlacer(stream, frame), now
        yield from [frame] if graph is None else _pulled(graph, frame)
    if graph is not None:
        yield from _pulled(graph, None)


def _deinterlacer(stream: VideoStream, frame: VideoFrame) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base,
    )
    # One picture for each frame; those that are not marked as interlaced stay as they are.
    weave = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
    graph.link_nodes(source, weave, graph.add("buffersink")).configure()
    return graph


def _pulled(graph: Graph, frame: VideoFrame | None) -> Iterator[VideoFrame]:
    graph.vpush(frame)
    while True:
        try:
            yield graph.vpull()
        except (BlockingIOError, EOFError):  # it wants more, or has no more
            return


def converter(aspect: Fraction, findings: Findings) -> Callable[[VideoFrame], Shown]:
    """What makes pictures of a film's frames.

    Args:
        aspect: width of a stored pixel over its height.
        findings: is filled in on the way.
    """
    return _Converter(aspect, findings)


class _Converter:
    """Makes RGB pictures of decoded frames."""

    def __init__(self, aspect: Fraction, findings: Findings):
        self._aspect = aspect
        self._findings = findings
        self._reformatter = VideoReformatter()  # keeps its tables from frame to frame
        self._rotation: int | None = None  # of the last frame, degrees
        self._matrix: Float[np.ndarray, "2 2"] | None = None  # how it was turned

    def __call__(self, frame: VideoFrame) -> Shown:
        width = max(round(frame.width * self._aspect), 1)
        if width != frame.width:
            self._findings.aspect = self._aspect
        # With OpenCV's interpolation the bytes are OpenCV's, and so OpenFace's.
        picture = self._reformatter.reformat(
            frame, width=width, format="rgb24", interpolation=Interpolation.BICUBIC, threads=1
        )
        plane = picture.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        pixels = rows[: picture.height, : 3 * width].reshape(picture.height, width, 3)
        # Who looks at a frame's further data makes a circle of references of it, which holds its
        # memory; and nobody mirrors a film in the middle.
        if frame.rotation != self._rotation:
            self._rotation, self._matrix = frame.rotation, _display_matrix(frame)
        if self._matrix is not None:
            pixels, turned = _turn(pixels, self._matrix)
            self._findings.turned = turned or self._findings.turned
        return Shown(np.ascontiguousarray(pixels), frame.time)


def _display_matrix(frame: VideoFrame) -> Float[np.ndarray, "2 2"] | None:
    """How a frame is to be turned: x' = m00 x + m10 y, y' = m01 x + m11 y."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    return np.frombuffer(bytes(data), np.int32)[:9].reshape(3, 3)[:2, :2] / 65536.0


def _turn(
    pixels: UInt8[np.ndarray, "h w 3"], matrix: Float[np.ndarray, "2 2"]
) -> tuple[UInt8[np.ndarray, "H W 3"], str]:
    """A picture turned by quarters and mirrored, and the words for it."""
    (across, down), (right, below) = matrix
    quarter = abs(down) + abs(right) > abs(across) + abs(below)
    if quarter:
        pixels, across, below = pixels.transpose(1, 0, 2), right, down
    signs = -1 if across < 0 else 1, -1 if below < 0 else 1
    return pixels[:: signs[1], :: signs[0]], _TURNS[quarter][signs]


# By the signs of x and y, degrees clockwise: of a picture as it is stored, and of a transposed one.
_TURNS = {
    False: {(1, 1): "", (-1, -1): "rotated 180", (-1, 1): "mirrored", (1, -1): "flipped"},
    True: {
        (-1, 1): "rotated 90",
        (1, -1): "rotated 270",
        (1, 1): "rotated 90 and mirrored",
        (-1, -1): "rotated 270 and mirrored",
    },
}
