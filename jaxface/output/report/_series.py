"""What the plots of a clip show: the series of one face, and stretches of it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .._rows import Table, UnitNames
from ._asymmetry import MEASURES, asymmetry

MOST_POINTS = 6000  # of a series; of longer clips a point stands for several frames
LANE = 0.9  # height of an intensity of 5 in its lane, whose height is 1


class Series(NamedTuple):
    """One face over time."""

    face: int
    stride: int  # frames that a point stands for
    columns: dict[str, Float[np.ndarray, " n"]]  # float32; "time" is among them
    lost: list[tuple[float, float]]  # s, from and to: stretches without the face


class Lane(NamedTuple):
    """Where an action unit is drawn."""

    name: str
    base: float  # y of an intensity of 0
    intensity: str | None  # column
    presence: str | None  # column


def lanes_of(units: UnitNames) -> tuple[Lane, ...]:
    """A lane for each unit, the first on top."""
    names = sorted({*units.intensity, *units.presence})
    return tuple(
        Lane(
            name,
            float(len(names) - 1 - number),
            f"u{units.intensity.index(name)}" if name in units.intensity else None,
            f"p{units.presence.index(name)}" if name in units.presence else None,
        )
        for number, name in enumerate(names)
    )


def face_series(number: int, face: Table, units: UnitNames) -> Series:
    """The series of a face.

    Of a long clip each point stands for `stride` frames: for action units it is their largest, so
    that no blink is lost, for all others the middle one of those with a face.

    Args:
        number: of the face.
        face: its rows in the order of time.
        units: columns of its action units.
    """
    stride = -(-len(face) // MOST_POINTS) or 1
    seen = face.success
    picked = _middles(seen, stride)
    lanes = lanes_of(units)
    columns = {
        "time": face.timestamp[picked],
        "frame": face.frame[picked],
        "confidence": face.confidence[picked],
        "success": seen[picked],
    }

    def put(names: tuple[str, ...], values: np.ndarray) -> None:
        for name, column in zip(names, values.T, strict=False):
            columns[name] = np.where(seen, column, np.nan)[picked]

    put(("x", "y", "z"), face.head_pose[:, :3])
    put(("pitch", "yaw", "roll"), np.degrees(face.head_pose[:, 3:6]))
    put(("right", "down"), np.degrees(face.gaze_angle))
    found = asymmetry(face)
    if found is not None:
        put(tuple(measure.key for measure in MEASURES), found)
    for lane in lanes:
        if lane.intensity is not None:
            values = face.au_intensity[:, int(lane.intensity[1:])]
            top = _largest(np.where(seen & np.isfinite(values), values, 0), stride)
            columns[lane.intensity] = lane.base + LANE * np.clip(top, 0, 5) / 5
        if lane.presence is not None:
            there = _largest(np.where(seen, face.au_presence[:, int(lane.presence[1:])], 0), stride)
            columns[lane.presence] = np.where(there > 0.5, lane.base - 0.05, np.nan)
    plain: dict[str, np.ndarray] = {n: np.asarray(c, np.float32) for n, c in columns.items()}
    # float32 has 0.1 ms at half an hour.
    plain["time"] = np.asarray(columns["time"], np.float64)
    return Series(number, stride, plain, _lost(face))


def _middles(seen: np.ndarray, stride: int) -> np.ndarray:
    """A row of each run of `stride` rows: the middle one of those with a face."""
    if stride == 1:
        return np.arange(len(seen))
    picked = []
    for start in range(0, len(seen), stride):
        found = start + np.flatnonzero(seen[start : start + stride])
        here = found if len(found) else np.arange(start, min(start + stride, len(seen)))
        picked.append(here[len(here) // 2])
    return np.array(picked)


def _largest(values: np.ndarray, stride: int) -> np.ndarray:
    return np.maximum.reduceat(values, np.arange(0, len(values), stride)) if len(values) else values


def _lost(face: Table) -> list[tuple[float, float]]:
    """Stretches of frames without the face."""
    lost = ~face.success
    edges = np.flatnonzero(np.diff(lost.astype(int), prepend=0, append=0))
    times = face.timestamp
    last = len(times) - 1
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [(float(times[a]), float(times[min(b, last)])) for a, b in pairs]
