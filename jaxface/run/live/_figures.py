"""The numbers beside a live picture."""

import collections
import dataclasses
import math
import time
from typing import Any

import numpy as np

from ...output import Table, UnitNames

_SECONDS = 3.0  # that rates are means over
_DELAYS = 300  # frames that the 95th percentile is of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """What is said of one picture."""

    frame: int  # number of the frame, from 1
    time: float  # s since the first
    success: bool
    confidence: float  # 0 to 1
    place: tuple[float, ...]  # of the head, mm; empty where it is not known
    turn: tuple[float, ...]  # pitch yaw roll, degrees
    gaze: tuple[float, ...]  # to the right and down, degrees
    units: tuple[tuple[str, float | None, bool | None], ...]  # name, intensity 0 to 5, presence
    captured_rate: float  # frames per second that came
    shown_rate: float  # of them shown
    captured: int  # frames that came so far
    shown: int  # of them analysed and shown
    dropped: int  # since the first that was shown: a later one was there already
    delay: float  # ms from when the frame was there until its picture was drawn
    slow_delay: float  # its 95th percentile over the last frames, ms
    note: str = ""  # what the user waits for

    def values(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return dataclasses.asdict(self)

    def lines(self) -> tuple[str, str]:
        """In words: what was found, and how it goes."""
        if self.note:
            found = self.note
        elif not self.success:
            found = f"no face   confidence {self.confidence:.2f}"
        else:
            found = f"confidence {self.confidence:.2f}"
            if self.turn:
                found += "   pitch {:+.0f}° yaw {:+.0f}° roll {:+.0f}°".format(*self.turn)
                found += f"   {self.place[2] / 10:.0f} cm away"
            if self.gaze:
                found += "   gaze right {:+.0f}° down {:+.0f}°".format(*self.gaze)
        goes = (
            f"{self.shown_rate:.0f} frames/s of {self.captured_rate:.0f}   "
            f"{self.delay:.0f} ms from frame to picture (95 %: {self.slow_delay:.0f})   "
            f"{self.dropped} dropped"
        )
        return found, goes


class Pace:
    """How many things come in a second, over the last few."""

    def __init__(self) -> None:
        """None yet."""
        self._times: collections.deque[float] = collections.deque()

    def tick(self) -> None:
        """One more."""
        now = time.perf_counter()
        self._times.append(now)
        while now - self._times[0] > _SECONDS:
            self._times.popleft()

    @property
    def rate(self) -> float:
        """In a second; 0 before the second one."""
        times = list(self._times)
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0


class Delays:
    """How long the last pictures took."""

    def __init__(self) -> None:
        """None yet."""
        self._last: collections.deque[float] = collections.deque(maxlen=_DELAYS)

    def add(self, milliseconds: float) -> None:
        """One more picture."""
        self._last.append(milliseconds)

    @property
    def slow(self) -> float:
        """95th percentile, ms; 0 of none."""
        return float(np.percentile(self._last, 95)) if self._last else 0.0


def measured(row: Table | None, units: UnitNames) -> dict[str, Any]:
    """The fields of `Figures` that one row gives; None stands for a frame that was not analysed.

    Args:
        row: one face.
        units: the columns of its action units.
    """
    face = row if row is not None and bool(row.success[0]) else None
    pose = face.head_pose[0] if face is not None and face.head_pose.shape[1] else ()
    gaze = () if face is None else face.gaze_angle[0]
    intensity = {} if face is None else dict(zip(units.intensity, face.au_intensity[0]))
    presence = {} if face is None else dict(zip(units.presence, face.au_presence[0]))
    names = sorted({*units.intensity, *units.presence})
    return {
        "success": face is not None,
        "confidence": 0.0 if row is None else _rounded(row.confidence[0], 3) or 0.0,
        "place": tuple(_rounded(value, 1) or 0.0 for value in pose[:3]),
        "turn": tuple(_rounded(math.degrees(value), 1) or 0.0 for value in pose[3:]),
        "gaze": tuple(_rounded(math.degrees(value), 1) or 0.0 for value in gaze),
        "units": tuple(
            (
                name,
                _rounded(intensity.get(name, math.nan), 2),
                bool(presence[name]) if name in presence else None,
            )
            for name in names
        ),
    }


def _rounded(value: float | np.floating, digits: int) -> float | None:
    """A number for JSON, which has none for infinity."""
    return round(float(value), digits) if math.isfinite(value) else None
