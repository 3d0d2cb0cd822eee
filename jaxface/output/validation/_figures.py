"""Figures of comparisons: one, or many taken together."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ...types import MULTI_PIE_68
from ._comparison import Comparison

_LEAST_SPREAD = 0.05  # sd of a series; below, a correlation tells of rounding alone
SHARES = (0.90, 0.95, 0.99)  # of overlap, that boxes are counted above
_NAN = float("nan")
# Parts of the face, both sides together: jaw, brows, nose, eyes, mouth.
REGIONS: dict[str, tuple[int, ...]] = {}
for _name, _points in MULTI_PIE_68.regions:
    _side, _, _part = _name.rpartition("_")
    _part = f"{_part}s" if _side else _part
    REGIONS[_part] = (*REGIONS.get(_part, ()), *_points)


class Spread(NamedTuple):
    """Figures of some values; NaN where there are none. Values that are no numbers are counted."""

    size: int = 0  # how many the figures are of
    lost: int = 0  # NaN or infinite, left out of the figures
    mean: float = _NAN
    median: float = _NAN
    sd: float = _NAN  # of all values, not of a sample
    p95: float = _NAN
    p99: float = _NAN
    min: float = _NAN
    max: float = _NAN


class UnitFigures(NamedTuple):
    """Agreement on an action unit. NaN where it is undefined."""

    name: str
    correlation: float = _NAN  # Pearson; undefined where a series hardly changes (sd below 0.05)
    mean_absolute: float = _NAN  # difference of intensities
    agreement: float = _NAN  # share of rows with the same presence
    f1: float = _NAN  # of presence; undefined where neither has the unit anywhere
    intensities: int = 0  # rows that the first two are of
    presences: int = 0  # rows that the last two are of
    lost: int = 0  # values that are no numbers, left out


class Rows(NamedTuple):
    """How many faces in frames there are."""

    paired: int  # with a row in both
    only_a: int
    only_b: int
    success_both: int
    success_only_a: int
    success_only_b: int
    success_neither: int

    @property
    def agreement(self) -> float:
        """Share in which both or neither have found a face."""
        whole = self.paired + self.only_a + self.only_b
        return (self.success_both + self.success_neither) / whole if whole else _NAN


class Summary(NamedTuple):
    """The figures of one comparison, or of several as if they were one."""

    rows: Rows
    landmarks: Mapping[str, Spread]  # px; of "all", and of each region of 68 landmarks
    landmarks_percent: Mapping[str, Spread]  # of the distance of the outer corners of the eyes
    box_iou: Spread
    box_shares: Mapping[float, float]  # of boxes that overlap by more than so much
    box_position: Spread  # px
    box_width: Spread  # px
    box_height: Spread  # px
    translation: Spread  # mm
    rotation: Spread  # deg
    gaze: Spread  # deg
    units: tuple[UnitFigures, ...]
    unit_mean: UnitFigures  # over the units where each figure is defined; counts are sums
    missing: tuple[tuple[str, str], ...]  # what cannot be compared somewhere, and why


def summarize(comparisons: Sequence[Comparison]) -> Summary:
    """The figures of comparisons taken together, every row of each counting the same.

    Args:
        comparisons: of one clip, a cohort or all.
    """

    def pooled(values: Callable[[Comparison], np.ndarray]) -> Float[np.ndarray, " n"]:
        pieces = [np.zeros(0), *(values(c).ravel() for c in comparisons)]
        return np.concatenate(pieces)

    iou = pooled(lambda c: c.box_iou)
    units = tuple(_units(comparisons))
    return Summary(
        rows=_rows(comparisons),
        landmarks=_by_region(comparisons, lambda c: c.landmarks),
        landmarks_percent=_by_region(comparisons, lambda c: c.landmarks_percent),
        box_iou=spread(iou),
        box_shares={s: float(np.mean(iou > s)) if len(iou) else _NAN for s in SHARES},
        box_position=spread(pooled(lambda c: c.box_position)),
        box_width=spread(pooled(lambda c: c.box_size[:, :1])),
        box_height=spread(pooled(lambda c: c.box_size[:, 1:])),
        translation=spread(pooled(lambda c: c.translation)),
        rotation=spread(pooled(lambda c: c.rotation)),
        gaze=spread(pooled(lambda c: c.gaze)),
        units=units,
        unit_mean=_mean_unit(units),
        missing=tuple(dict.fromkeys(item for c in comparisons for item in c.missing)),
    )


def spread(values: Float[np.ndarray, " n"]) -> Spread:
    """Figures of the values that are finite."""
    kept = values[np.isfinite(values)]
    lost = len(values) - len(kept)
    if not len(kept):
        return Spread(0, lost)
    median, p95, p99 = np.percentile(kept, (50, 95, 99)).tolist()
    mean, sd = float(kept.mean()), float(kept.std())
    return Spread(len(kept), lost, mean, median, sd, p95, p99, float(kept.min()), float(kept.max()))


def _rows(comparisons: Sequence[Comparison]) -> Rows:
    counts = np.zeros(7, int)
    for c in comparisons:
        a, b, both = c.row_a >= 0, c.row_b >= 0, c.both
        only_a, only_b = c.success_a & ~c.success_b, c.success_b & ~c.success_a
        neither = ~(c.success_a | c.success_b)
        masks = (a & b, a & ~b, b & ~a, both, only_a, only_b, neither)
        counts += [int(mask.sum()) for mask in masks]
    return Rows(*counts.tolist())


def _by_region(
    comparisons: Sequence[Comparison], values: Callable[[Comparison], np.ndarray]
) -> dict[str, Spread]:
    found = {
        "all": spread(np.concatenate([np.zeros(0), *(values(c).ravel() for c in comparisons)]))
    }
    known = [v for v in map(values, comparisons) if v.shape[1] == MULTI_PIE_68.count]
    if known:
        points = np.concatenate(known)
        found |= {name: spread(points[:, chosen].ravel()) for name, chosen in REGIONS.items()}
    return found


def _units(comparisons: Sequence[Comparison]) -> list[UnitFigures]:
    """Of every unit that some comparison has."""
    names = {n for c in comparisons for n in (*c.units.intensity, *c.units.presence)}
    return [_unit(comparisons, name) for name in sorted(names)]


def _unit(comparisons: Sequence[Comparison], name: str) -> UnitFigures:
    levels, marks = [np.zeros((2, 0))], [np.zeros((2, 0))]
    for c in comparisons:
        if name in c.units.intensity:
            column = c.units.intensity.index(name)
            levels.append(np.stack([c.intensity_a[:, column], c.intensity_b[:, column]]))
        if name in c.units.presence:
            column = c.units.presence.index(name)
            marks.append(np.stack([c.presence_a[:, column], c.presence_b[:, column]]))
    level, lost = _finite(np.concatenate(levels, axis=1))
    mark, lost_marks = _finite(np.concatenate(marks, axis=1))
    present = mark > 0.5
    positives = int(present.sum())
    return UnitFigures(
        name,
        _pearson(level[0], level[1]),
        float(np.abs(level[1] - level[0]).mean()) if level.size else _NAN,
        float((present[0] == present[1]).mean()) if mark.size else _NAN,
        2 * int((present[0] & present[1]).sum()) / positives if positives else _NAN,
        level.shape[1],
        mark.shape[1],
        lost + lost_marks,
    )


def _finite(pair: Float[np.ndarray, "2 n"]) -> tuple[Float[np.ndarray, "2 k"], int]:
    kept = np.isfinite(pair).all(0)
    return pair[:, kept], int((~kept).sum())


def _pearson(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    if len(a) < 2 or min(a.std(), b.std()) < _LEAST_SPREAD:
        return _NAN
    product = np.mean((a - a.mean()) * (b - b.mean()))
    return float(np.clip(product / (a.std() * b.std()), -1, 1))


def _mean_unit(units: Sequence[UnitFigures]) -> UnitFigures:
    def mean(values: list[float]) -> float:
        defined = [value for value in values if np.isfinite(value)]
        return float(np.mean(defined)) if defined else _NAN

    return UnitFigures(
        "mean",
        mean([unit.correlation for unit in units]),
        mean([unit.mean_absolute for unit in units]),
        mean([unit.agreement for unit in units]),
        mean([unit.f1 for unit in units]),
        sum(unit.intensities for unit in units),
        sum(unit.presences for unit in units),
        sum(unit.lost for unit in units),
    )
