"""Blinks, closed eyes and smiles: stretches of a series that rise over one level and stay over
another."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from .._rows import Table, UnitNames

_BREAK = 3  # usual steps between frames; a longer one is a hole, over which nothing goes on
_AROUND = 2.0  # s; over which the usual opening of the eyes is taken
_CHEEKS = 1.0  # mean AU06 from which a smile counts as one of the eyes, too

# Columns may be read in one precision and made in the other.
Series = Float[np.ndarray, " n"]
Times = Float[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """What makes an event of a series: two levels, so that noise around one does not split it."""

    enter: float  # some frame of an event reaches this
    leave: float  # every frame of an event reaches this
    shortest: float = 0.0  # s
    gap: float = 0.0  # s; events that are no further apart, face in sight, are one

    def __post_init__(self) -> None:
        if not self.leave <= self.enter:
            raise ValueError(f"leave: expected at most enter = {self.enter:g}, got {self.leave:g}")


# Intensities are FACS's: 1 is a trace. A blink takes 0.1 to 0.4 s; a longer stretch is a closed or
# lowered eye. Spontaneous smiles last half a second and more.
BLINK = Rule(enter=1.0, leave=0.5, shortest=0.05)  # of AU45
APERTURE = Rule(enter=0.25, leave=0.15)  # of the share by which the eyes are closed
LONGEST_BLINK = 0.5  # s
SMILE = Rule(enter=1.5, leave=1.0, shortest=0.3, gap=0.3)  # of AU12


class Span(NamedTuple):
    """Consecutive rows, both ends among them."""

    first: int
    last: int


class Event(NamedTuple):
    """Something that a face did."""

    kind: str  # blink, closure or smile
    start: float  # s, time of the first frame
    end: float  # s, of the frame after the last
    peak_time: float  # s
    peak: float  # the largest value of the series
    cut: bool  # it began before the face was in sight, or went on after: longer than is said
    note: str = ""

    @property
    def duration(self) -> float:
        """s."""
        return self.end - self.start


def frame_time(times: Times) -> float:
    """The usual time between frames, s; 0 where nothing tells."""
    steps = np.diff(times.astype(np.float64))
    steps = steps[np.isfinite(steps) & (steps > 0)]
    return float(np.median(steps)) if len(steps) else 0.0


def find_spans(
    times: Times, level: Series, valid: Bool[np.ndarray, " n"], rule: Rule
) -> list[Span]:
    """Finds the stretches of a series that a rule describes.

    Each is as long as it can be: consecutive valid frames that all reach `rule.leave`, one of which
    reaches `rule.enter`. So it is the same whether time runs forwards or backwards.

    Args:
        times: of the frames, s, ascending.
        level: the series; what is not finite counts as not valid.
        valid: whether there is a face.
        rule: levels and times.
    Returns:
        The stretches, in order; no two of them touch.
    """
    step = frame_time(times)
    here = valid & np.isfinite(level)
    active = here & (np.where(here, level, -np.inf) >= rule.leave)
    holes = np.diff(times.astype(np.float64)) > _BREAK * step
    ends = np.flatnonzero(active & ~np.append(active[1:] & ~holes, False))
    starts = np.flatnonzero(active & ~np.append(False, active[:-1] & ~holes))
    found = [
        Span(int(first), int(last))
        for first, last in zip(starts, ends, strict=True)
        if level[first : last + 1].max() >= rule.enter
    ]
    joined: list[Span] = []
    for span in found:
        if joined and _is_one(times, here, joined[-1], span, rule.gap, step):
            span = Span(joined.pop().first, span.last)
        joined.append(span)
    # Times are decimal fractions: a frame more or less must not hang on their last bit.
    return [s for s in joined if _length(times, s, step) >= rule.shortest - step / 100]


def _is_one(
    times: Times, here: Bool[np.ndarray, " n"], a: Span, b: Span, gap: float, step: float
) -> bool:
    between = slice(a.last, b.first + 1)
    whole = bool(here[between].all()) and float(np.diff(times[between]).max()) <= _BREAK * step
    return whole and float(times[b.first] - times[a.last]) - step <= gap


def _length(times: Times, span: Span, step: float) -> float:
    return float(times[span.last] - times[span.first]) + step


def eye_closure(
    times: Times, landmarks: Float[np.ndarray, "n 68 2"], valid: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """By which share the eyes are closed, against what is usual around each frame.

    The opening of an eye is the mean distance of its two pairs of opposite lid points over the
    distance of its corners. That of both eyes is divided by its median over the 2 s around, as it
    differs between people and with the direction of gaze.

    Args:
        times: of the frames, s, ascending.
        landmarks: 68 points, px.
        valid: whether there is a face.
    Returns:
        0 for eyes as open as usual, 1 for closed ones; NaN without a face.
    Reference:
        Soukupova and Cech, Real-Time Eye Blink Detection using Facial Landmarks, 2016, equation 1.
    """
    opening = np.full(len(times), np.nan)
    for index in np.flatnonzero(valid):
        points = landmarks[index].astype(np.float64)
        opening[index] = np.mean([_opening(points[eye : eye + 6]) for eye in (36, 42)])
    usual = np.full(len(times), np.nan)
    clock = times.astype(np.float64)
    lower = np.searchsorted(clock, clock - _AROUND / 2)
    upper = np.searchsorted(clock, clock + _AROUND / 2, side="right")
    for index in np.flatnonzero(np.isfinite(opening)):
        around = opening[lower[index] : upper[index]]
        usual[index] = np.median(around[np.isfinite(around)])
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - opening / usual


def _opening(eye: Float[np.ndarray, "6 2"]) -> float:
    across = float(np.linalg.norm(eye[0] - eye[3]))
    lids = np.linalg.norm(eye[1] - eye[5]) + np.linalg.norm(eye[2] - eye[4])
    return float(lids) / (2 * across) if across > 0 else np.nan


def find_events(face: Table, units: UnitNames) -> tuple[Event, ...]:
    """Finds the blinks, closed eyes and smiles of one face.

    Args:
        face: its rows in the order of time.
        units: columns of its action units. Without AU45 blinks are found by the landmarks of the
            lids, see `eye_closure`; without AU12 there are no smiles.
    Returns:
        Events in the order of their beginnings.
    """
    found: list[Event] = []
    blinks = blink_source(face, units)
    if blinks is not None:
        level = unit_series(face, units, "AU45") if blinks == "AU45" else _closure(face)
        rule = BLINK if blinks == "AU45" else APERTURE
        for span in find_spans(face.timestamp, level, face.success, rule):
            event = _event("blink", face, level, span)
            kind = "blink" if event.duration <= LONGEST_BLINK + 1e-6 else "closure"
            found.append(event._replace(kind=kind))
    if "AU12" in units.intensity:
        level = unit_series(face, units, "AU12")
        for span in find_spans(face.timestamp, level, face.success, SMILE):
            event = _event("smile", face, level, span)
            found.append(event._replace(note=_cheeks(face, units, span)))
    return tuple(sorted(found, key=lambda event: (event.start, event.kind)))


def blink_source(face: Table, units: UnitNames) -> str | None:
    """What blinks are found by: AU45, lids (of 68 landmarks), or None."""
    if "AU45" in units.intensity:
        return "AU45"
    return "lids" if face.landmarks.shape[1] == 68 else None


def unit_series(face: Table, units: UnitNames, name: str) -> Series:
    """Intensity of a unit that the rows have."""
    return face.au_intensity[:, units.intensity.index(name)]


def _closure(face: Table) -> Series:
    return eye_closure(face.timestamp, face.landmarks, face.success)


def _event(kind: str, face: Table, level: Series, span: Span) -> Event:
    times, inside = face.timestamp, level[span.first : span.last + 1]
    peak = span.first + int(np.argmax(inside))
    step = frame_time(times)
    before, after = span.first - 1, span.last + 1
    cut = before < 0 or after == len(times) or not (face.success[before] and face.success[after])
    return Event(
        kind,
        float(times[span.first]),
        float(times[span.last]) + step,
        float(times[peak]),
        float(level[peak]),
        bool(cut),
    )


def _cheeks(face: Table, units: UnitNames, span: Span) -> str:
    if "AU06" not in units.intensity:
        return ""
    raised = unit_series(face, units, "AU06")[span.first : span.last + 1]
    return "with raised cheeks (AU06)" if float(np.nanmean(raised)) >= _CHEEKS else ""
