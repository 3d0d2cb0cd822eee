"""The time of each frame: OpenFace's, which counts frames, or the file's own."""

import dataclasses
import math
from array import array
from typing import Literal

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from jaxtyping import Float

from ._container import demux

ClockChoice = Literal["openface", "container"]

DEFAULT_FPS = 30.0  # OpenFace's, where a file names none
_MOST_FPS = 1e5  # frames per second that are still a rate
_HALF = 0.5  # of a frame, that the two clocks may differ by
_SHOWN = 0x10  # of a VP8 frame's first byte; others only serve those after them


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packets:
    """What a file says about its frames before any is decoded."""

    count: int  # frames that are shown
    times: Float[np.ndarray, " n"] | None  # s, ascending; None where they are not known
    exact: bool  # the times are those of showing, not of decoding
    rate: float  # frames per second, as OpenFace takes it
    missing: int  # frames that the header promises, but that are not there
    jumps_back: bool  # the clock is set anew in the middle


def scan_packets(container: InputContainer, stream: VideoStream) -> Packets:
    """Goes through the packets of a stream without decoding them."""
    shown, decoded, count, stored = array("q"), array("q"), 0, 0
    for packet in demux(container, stream):
        if packet is None:  # damage
            continue
        stored += packet.dts is not None or packet.size > 0
        if not packet.size or packet.is_discard or _is_hidden(packet):
            continue
        count += 1
        if packet.pts is not None:
            shown.append(packet.pts)
        if packet.dts is not None:
            decoded.append(packet.dts)
    base = float(stream.time_base or 0)
    best = shown if len(shown) == count else decoded if len(decoded) == count else None
    times = None
    if best is not None and count and base:
        times = np.sort(np.frombuffer(best, np.int64)) * base
    reordered = bool(stream.codec_context.has_b_frames)
    # AVI and its like know one time a packet, that of decoding: where frames are to be reordered,
    # times in the order of the file are none of showing.
    exact = best is shown and not (reordered and bool((np.diff(np.array(shown)) > 0).all()))
    # Times of decoding never go back, unless they are set anew; Matroska states hardly any.
    order = decoded if len(decoded) or reordered else shown
    steps = np.diff(np.array(order)) * base
    return Packets(
        count=count,
        times=times,
        exact=exact,
        rate=_rate(stream),
        missing=max(stream.frames - stored, 0),
        jumps_back=bool((steps < -1.0 / _rate(stream)).any()),
    )


def _is_hidden(packet: Packet) -> bool:
    return (
        packet.stream.codec_context.name in ("vp8", "libvpx") and not memoryview(packet)[0] & _SHOWN
    )


def _rate(stream: VideoStream) -> float:
    """Frames per second as OpenCV, which OpenFace reads with, takes them."""
    for rate in (stream.guessed_rate, stream.average_rate):
        if rate and math.isfinite(float(rate)) and 0 < float(rate) <= _MOST_FPS:
            return float(rate)
    return DEFAULT_FPS


@dataclasses.dataclass(kw_only=True)
class Clock:
    """Times of the frames of a clip, s from its first one."""

    choice: ClockChoice
    rate: float  # frames per second
    forced: bool  # chosen by the user
    expected: Float[np.ndarray, " n"]  # s; what the packets say; empty where they say nothing
    exact: bool  # the frames' own times can be trusted
    seen: array = dataclasses.field(default_factory=lambda: array("d"))  # of decoded frames, s

    def see(self, index: int, time: float | None) -> None:
        """Notes the time that the decoder gives for a frame, s from the first one."""
        guess = self._guess(index)
        time = guess if time is None or not self.exact else time
        if index and len(self.seen) >= index:
            time = max(time, self.seen[index - 1])  # a damaged clock may go back
        if index < len(self.seen):
            self.seen[index] = time
        else:
            self.seen.append(time)

    def at(self, index: int) -> float:
        """Time of a frame, s. Of one that has not been decoded it is what the packets say."""
        counted, own = index * (1.0 / self.rate), self.own(index)
        if self.choice == "container":
            return own
        # Where frames are lost to damage, the clock goes on.
        if self.forced or not self.exact or abs(own - counted) <= _HALF / self.rate:
            return counted
        return own

    def own(self, index: int) -> float:
        """Time of a frame by the file's clock alone, s from the first one."""
        return self.seen[index] if 0 <= index < len(self.seen) else self._guess(index)

    def _guess(self, index: int) -> float:
        if 0 <= index < len(self.expected):
            return float(self.expected[index])
        last = len(self.expected) - 1
        start = float(self.expected[-1]) if last >= 0 else 0.0
        return start + (index - max(last, 0)) / self.rate


def choose_clock(
    packets: Packets, first: float | None, forced: ClockChoice | None
) -> tuple[Clock, tuple[str, ...]]:
    """Decides which clock a clip goes by, before its first row.

    OpenFace's, to the character, where the file's own agrees with it to half a frame throughout.

    Args:
        packets: of the clip.
        first: time of the first frame that can be decoded, s; None where it has none.
        forced: the user's choice, or None.
    Returns:
        The clock, and what is to be said about it.
    """
    rate, expected = packets.rate, np.zeros(0)
    if packets.times is not None and not packets.jumps_back:
        start = packets.times[0] if first is None or not packets.exact else first
        expected = packets.times[packets.times >= start - 1e-9] - start
    known = len(expected) > 0
    differs = np.abs(expected - np.arange(len(expected)) * (1.0 / rate))
    most = float(differs.max()) if known else 0.0
    choice: ClockChoice = forced or ("container" if most > _HALF / rate else "openface")
    notes: list[str] = []
    if not known:
        reason = "its clock is set anew" if packets.jumps_back else "it has none of its own"
        notes.append(f"times counted at {rate:g} frames/s: {reason}")
    elif choice == "container" and most > _HALF / rate:
        notes.append(f"times from the file's clock: {most:.3f} s off {rate:g} frames/s at most")
    elif choice == "container":
        notes.append("times from the file's clock")
    elif most > _HALF / rate:
        notes.append(f"times counted at {rate:g} frames/s: up to {most:.3f} s off the file's clock")
    if choice == "container" and len(expected) > 1 and expected[-1] > 0:
        rate = float((len(expected) - 1) / expected[-1])
    exact = packets.exact and known
    clock = Clock(
        choice=choice, rate=rate, forced=forced is not None, expected=expected, exact=exact
    )
    return clock, tuple(notes)
