"""Limits that the figures of a comparison must keep."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ._comparison import BOXES, GAZE, INTENSITY, LANDMARKS, POSE
from ._figures import Spread, Summary, UnitFigures
from ._study import Scope, Study


class Limit(NamedTuple):
    """A figure that can be limited."""

    what: str
    unit: str
    group: str | None  # of columns that both files must have
    value: Callable[[Summary], float]
    lost: Callable[[Summary], int]  # values that are no numbers, which no limit lets pass
    range: tuple[float, float]  # that a bound lies in

    def of(self, summary: Summary) -> float:
        """The figure; NaN where it is undefined, or columns or values are missing."""
        lacks = any(group == self.group for group, _ in summary.missing)
        return math.nan if lacks or self.lost(summary) else self.value(summary)


class Miss(NamedTuple):
    """A limit that does not hold."""

    name: str  # as in `LIMITS`
    scope: str
    value: float
    bound: float
    worst: tuple[str, float] | None  # clip, of several, and its figure

    def __str__(self) -> str:
        limit = LIMITS[self.name]
        below = "at most" if is_upper(self.name) else "at least"
        text = f"--{self.name}: {limit.what} of {self.scope} is {_number(self.value, limit.unit)}, "
        text += f"must be {below} {_number(self.bound, limit.unit)}"
        if self.worst is not None:
            clip, value = self.worst
            text += f"; worst in {clip}: {_number(value, limit.unit)}"
        return text


def _of_spread(
    what: str, unit: str, group: str, find: Callable[[Summary], Spread], figure: str = "mean"
) -> Limit:
    bounds = (0, 1) if group == BOXES else (0, math.inf)
    return Limit(
        what, unit, group, lambda s: getattr(find(s), figure), lambda s: find(s).lost, bounds
    )


def _of_units(
    what: str, find: Callable[[UnitFigures], float], bounds: tuple[float, float]
) -> Limit:
    return Limit(
        what, "", INTENSITY, lambda s: find(s.unit_mean), lambda s: s.unit_mean.lost, bounds
    )


_INFINITE = math.inf
LIMITS: dict[str, Limit] = {
    "max-landmarks": _of_spread(
        "mean distance of landmarks", "px", LANDMARKS, lambda s: s.landmarks["all"]
    ),
    "max-landmarks-p99": _of_spread(
        "99th percentile of landmarks' distance",
        "px",
        LANDMARKS,
        lambda s: s.landmarks["all"],
        "p99",
    ),
    "max-au": _of_units(
        "mean absolute difference of action units", lambda u: u.mean_absolute, (0, _INFINITE)
    ),
    "min-au-r": _of_units("mean correlation of action units", lambda u: u.correlation, (-1, 1)),
    "min-iou": _of_spread("mean overlap of boxes", "", BOXES, lambda s: s.box_iou),
    "min-agreement": Limit(
        "share in which both or neither have a face",
        "",
        None,
        lambda s: s.rows.agreement,
        lambda s: 0,
        (0, 1),
    ),
    "max-pose-deg": _of_spread("mean rotation of heads", "deg", POSE, lambda s: s.rotation),
    "max-gaze-deg": _of_spread("mean angle of gaze", "deg", GAZE, lambda s: s.gaze),
}


def is_upper(name: str) -> bool:
    """Whether a limit bounds its figure from above."""
    return name.startswith("max")


def check_bound(name: str, bound: object) -> float:
    """A bound as a number.

    Args:
        name: of `LIMITS`.
        bound: as it was given.
    Raises:
        ValueError: there is no such limit, or its figure has no such values.
    """
    if name not in LIMITS:
        raise ValueError(f"expected one of {', '.join(LIMITS)}, got {name!r}")
    low, high = LIMITS[name].range
    if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
        raise ValueError(f"{name}: expected a number, got {bound!r}")
    if not low <= bound <= high:
        upper = "up" if math.isinf(high) else f"to {high:g}"
        raise ValueError(f"{name}: expected a number from {low:g} {upper}, got {bound:g}")
    return float(bound)


def check_limits(study: Study, bounds: Mapping[str, float]) -> list[Miss]:
    """Which limits do not hold, of all clips together and of each cohort.

    Args:
        study: what was compared.
        bounds: by name, see `LIMITS`; a figure may be equal to its bound.
    Returns:
        One for each limit and each of these that misses it. What is undefined misses every limit.
    """
    found = []
    for name, bound in bounds.items():
        for scope in (study.whole, *study.cohorts):
            value = LIMITS[name].of(scope.summary)
            if not _holds(name, value, bound):
                found.append(Miss(name, scope.label, value, bound, _worst(study, scope, name)))
    return found


def _holds(name: str, value: float, bound: float) -> bool:
    return value <= bound if is_upper(name) else value >= bound


def _worst(study: Study, scope: Scope, name: str) -> tuple[str, float] | None:
    """The clip in which a figure is worst; undefined is worse than any number."""
    if len(scope.clips) < 2:
        return None
    sign = 1 if is_upper(name) else -1
    values = [
        (clip.label, LIMITS[name].of(clip.summary))
        for clip in study.clips
        if clip.clips[0] in scope.clips
    ]
    if math.isnan(LIMITS[name].of(scope.summary)):
        return next((item for item in values if math.isnan(item[1])), None)
    numbers = [item for item in values if not math.isnan(item[1])]
    return max(numbers, key=lambda item: sign * item[1], default=None)


def _number(value: float, unit: str) -> str:
    text = "undefined" if math.isnan(value) else f"{value:.4g}"
    return f"{text} {unit}" if unit and not math.isnan(value) else text
