"""Frames from the middle of a film."""

from collections.abc import Iterator, Sequence

import numpy as np
from av import VideoFrame
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from jaxtyping import UInt8

from ._container import find_stream, opened, pixel_aspect
from ._decode import Findings, converter, whole_frames
from ._video import VideoReader

Frame = UInt8[np.ndarray, "h w 3"]  # RGB, 0 to 255

_SAME = 1e-6  # s; a file's times are multiples of its tick, 1e-5 s or more


def seek_frames(reader: VideoReader, indices: Sequence[int]) -> dict[int, Frame] | None:
    """Decodes each frame from the key frame before it.

    Args:
        reader: the film.
        indices: from 0, ascending.
    Returns:
        The frames; None where the film's times do not tell for certain which frame is which.
    """
    clock = reader.clock
    if clock is None or not clock.exact or len(clock.expected) != reader.count:
        return None
    times = clock.expected
    if not len(times) or (np.diff(times) <= _SAME).any():
        return None  # two frames at one time
    found: dict[int, Frame] = {}
    try:
        with opened(reader.path) as container:
            stream, _ = find_stream(container, reader.path)
            findings = Findings()
            convert = converter(pixel_aspect(stream), findings)
            start = next(_times(container, stream, reader, findings), None)
            if start is None:
                return None
            for index in indices:
                if index >= len(times):
                    continue
                frame = _frame_at(container, stream, reader, start + float(times[index]))
                if frame is None:
                    return None
                found[index] = convert(frame).pixels
    except FFmpegError:
        return None
    return found


def _times(
    container: InputContainer, stream: VideoStream, reader: VideoReader, findings: Findings
) -> Iterator[float]:
    for frame in whole_frames(reader.path, container, stream, findings):
        if frame.time is not None:
            yield frame.time


def _frame_at(
    container: InputContainer, stream: VideoStream, reader: VideoReader, time: float
) -> VideoFrame | None:
    """The frame of a time, s by the file's clock; None where there is no such one."""
    if not stream.time_base:
        return None
    container.seek(round(time / stream.time_base), stream=stream)
    for frame in whole_frames(reader.path, container, stream, Findings()):
        if frame.time is None or frame.time > time + _SAME:
            return None
        if frame.time >= time - _SAME:
            return frame
    return None
