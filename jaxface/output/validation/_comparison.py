"""Two results of the same clip or image, row by row."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from ...types import MULTI_PIE_68
from .._about import Stored
from .._rows import UnitNames
from ._pairs import NO_ROW, at_positions, boxes_around, overlap, pair_rows

if TYPE_CHECKING:
    from ._figures import Summary

LANDMARKS, BOXES, POSE, GAZE, INTENSITY, PRESENCE = (
    *("landmarks", "boxes", "head pose", "gaze"),
    *("intensity of action units", "presence of action units"),
)


class Comparison(eqx.Module):
    """Differences between two results, `a` (the reference) and `b`, as NumPy arrays.

    The first arrays have an entry for each face of each frame that at least one of both has a row
    for. All others have an entry for each of those that both have found, in the same order: where
    `both` is true. What cannot be compared, as one of both lacks it, has no width and is named in
    `missing`.
    """

    frame: Int[np.ndarray, " k"]
    row_a: Int[np.ndarray, " k"]  # number of the row in `a` from 0; -1: it has none
    row_b: Int[np.ndarray, " k"]
    success_a: Bool[np.ndarray, " k"]  # false where there is no row, too
    success_b: Bool[np.ndarray, " k"]
    landmarks: Float[np.ndarray, "m l"]  # distance, px
    eye_distance: Float[np.ndarray, "m e"]  # of the outer corners in `a`, px; e = 1, 0 if unknown
    box_iou: Float[np.ndarray, "m b"]  # of the boxes around the landmarks; b = 1
    box_position: Float[np.ndarray, "m b"]  # distance of their centres, px
    box_size: Float[np.ndarray, "m b2"]  # differences of width and height, px; b2 = 2
    translation: Float[np.ndarray, "m t"]  # distance of the heads, mm; t = 1
    rotation: Float[np.ndarray, "m t"]  # angle that turns one into the other, deg
    gaze: Float[np.ndarray, "m g"]  # angle between the vectors of each eye, deg; g = 2
    intensity_a: Float[np.ndarray, "m u"]  # of the units that both know
    intensity_b: Float[np.ndarray, "m u"]
    presence_a: Float[np.ndarray, "m c"]
    presence_b: Float[np.ndarray, "m c"]
    units: UnitNames = eqx.field(static=True)  # columns of the last four
    units_a: UnitNames = eqx.field(static=True)  # that only `a` knows
    units_b: UnitNames = eqx.field(static=True)
    missing: tuple[tuple[str, str], ...] = eqx.field(static=True)  # group and why

    @property
    def paired(self) -> Bool[np.ndarray, " k"]:
        """Where both have a row."""
        return (self.row_a != NO_ROW) & (self.row_b != NO_ROW)

    @property
    def both(self) -> Bool[np.ndarray, " k"]:
        """Where both have found the face."""
        return self.success_a & self.success_b

    @property
    def landmarks_percent(self) -> Float[np.ndarray, "m l2"]:
        """Distance of the landmarks in % of `eye_distance`."""
        if not self.eye_distance.shape[1]:
            return self.landmarks[:, :0]
        with np.errstate(divide="ignore", invalid="ignore"):  # no distance, no number
            return 100 * self.landmarks / self.eye_distance

    def summary(self) -> "Summary":
        """The figures of all rows."""
        from ._figures import summarize

        return summarize([self])


def compare_stored(a: Stored, b: Stored, *, positions: Sequence[float] | None = None) -> Comparison:
    """Compares two results of the same clip or image.

    Args:
        a: the reference.
        b: the other.
        positions: compares only the frames at these % of the clip; None: all.
    """
    several = not a.about.kind == b.about.kind == "video"
    pairs = pair_rows(a.table, b.table, several=several)
    if positions is not None:
        pairs = at_positions(pairs, positions)
    success_a = _success(a, pairs.row_a)
    success_b = _success(b, pairs.row_b)
    both = success_a & success_b
    rows = pairs.row_a[both], pairs.row_b[both]
    units_a, units_b = _units(a), _units(b)
    units = UnitNames(*(_shared(*pair) for pair in zip(units_a, units_b, strict=True)))
    arrays = {
        **_landmarks(a, b, *rows),
        **_pose(a, b, *rows),
        "gaze": _gaze(a, b, *rows),
        **_units_of(a, b, *rows, units),
    }
    return Comparison(
        **pairs._asdict(),
        success_a=success_a,
        success_b=success_b,
        **arrays,
        units=units,
        units_a=UnitNames(*(_lacking(*p) for p in zip(units_a, units_b, strict=True))),
        units_b=UnitNames(*(_lacking(*p) for p in zip(units_b, units_a, strict=True))),
        missing=tuple(_missing(a, b, units)),
    )


def _success(stored: Stored, rows: Int[np.ndarray, " k"]) -> Bool[np.ndarray, " k"]:
    there = rows != NO_ROW
    found = np.zeros(len(rows), bool)
    found[there] = stored.table.success[rows[there]]
    return found


def _units(stored: Stored) -> UnitNames:
    """The units that have columns."""
    table, units = stored.table, stored.about.units
    return UnitNames(
        units.intensity if table.au_intensity.shape[1] else (),
        units.presence if table.au_presence.shape[1] else (),
    )


def _shared(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in a if name in b)


def _lacking(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in a if name not in b)


def _missing(a: Stored, b: Stored, units: UnitNames) -> Iterator[tuple[str, str]]:
    """What cannot be compared, and why."""
    counts = [s.table.landmarks.shape[1] for s in (a, b)]
    has = {
        BOXES: [count > 0 for count in counts],
        POSE: [s.table.head_pose.shape[1] > 0 for s in (a, b)],
        GAZE: [s.table.gaze.shape[1] > 0 for s in (a, b)],
        INTENSITY: [bool(_units(s).intensity) for s in (a, b)],
        PRESENCE: [bool(_units(s).presence) for s in (a, b)],
    }
    if counts[0] != counts[1]:
        yield LANDMARKS, f"{counts[0]} in A, {counts[1]} in B"
    elif not counts[0]:
        yield LANDMARKS, "in neither"
    for group, (in_a, in_b) in has.items():
        if not (in_a and in_b):
            yield group, "only in A" if in_a else "only in B" if in_b else "in neither"
    for group, shared in ((INTENSITY, units.intensity), (PRESENCE, units.presence)):
        if all(has[group]) and not shared:
            yield group, "no unit in both"


def _landmarks(
    a: Stored, b: Stored, rows_a: Int[np.ndarray, " m"], rows_b: Int[np.ndarray, " m"]
) -> dict[str, np.ndarray]:
    """Differences of landmarks, and of the boxes around them."""
    points_a = np.asarray(a.table.landmarks[rows_a], np.float64)
    points_b = np.asarray(b.table.landmarks[rows_b], np.float64)
    count = len(rows_a)
    distance = np.zeros((count, 0))
    eyes = np.zeros((count, 0))
    if points_a.shape == points_b.shape:
        with np.errstate(invalid="ignore"):  # infinity from infinity
            distance = np.linalg.norm(points_b - points_a, axis=2)
        corners = MULTI_PIE_68.eyes
        if points_a.shape[1] == MULTI_PIE_68.count and corners is not None:
            (left, _), (_, right) = corners.corners
            with np.errstate(invalid="ignore"):
                eyes = np.linalg.norm(points_a[:, left] - points_a[:, right], axis=1)[:, None]
    wide = 1 if points_a.shape[1] and points_b.shape[1] else 0
    boxes_a, boxes_b = boxes_around(points_a), boxes_around(points_b)
    centres = [(box[:, :2] + box[:, 2:]) / 2 for box in (boxes_a, boxes_b)]
    sizes = [box[:, 2:] - box[:, :2] for box in (boxes_a, boxes_b)]
    moved = np.linalg.norm(centres[1] - centres[0], axis=1)
    return {
        "landmarks": distance,
        "eye_distance": eyes,
        "box_iou": overlap(boxes_a, boxes_b)[:, None][:, :wide],
        "box_position": moved[:, None][:, :wide],
        "box_size": np.abs(sizes[1] - sizes[0])[:, : 2 * wide],
    }


def _pose(
    a: Stored, b: Stored, rows_a: Int[np.ndarray, " m"], rows_b: Int[np.ndarray, " m"]
) -> dict[str, np.ndarray]:
    poses = [
        np.asarray(s.table.head_pose[rows], np.float64) for s, rows in ((a, rows_a), (b, rows_b))
    ]
    if not (poses[0].shape[1] and poses[1].shape[1]):
        nothing = np.zeros((len(rows_a), 0))
        return {"translation": nothing, "rotation": nothing}
    with np.errstate(invalid="ignore"):
        moved = np.linalg.norm(poses[1][:, :3] - poses[0][:, :3], axis=1)
        turned = _matrix(poses[1][:, 3:]) - _matrix(poses[0][:, 3:])
    # Of the two matrices' difference: as exact for small angles, where arccos of a trace is not.
    half = np.linalg.norm(turned, axis=(1, 2)) / np.sqrt(8)
    angle = np.degrees(2 * np.arcsin(np.minimum(half, 1)))
    return {"translation": moved[:, None], "rotation": angle[:, None]}


def _matrix(angles: Float[np.ndarray, "m 3"]) -> Float[np.ndarray, "m 3 3"]:
    """Rx @ Ry @ Rz, see `jaxface.types`."""
    whole = np.broadcast_to(np.eye(3), (len(angles), 3, 3))
    for axis in range(3):
        sine, cosine = np.sin(angles[:, axis]), np.cos(angles[:, axis])
        one = np.zeros((len(angles), 3, 3))
        i, j = (axis + 1) % 3, (axis + 2) % 3
        one[:, axis, axis] = 1
        one[:, i, i] = one[:, j, j] = cosine
        one[:, i, j], one[:, j, i] = -sine, sine
        whole = whole @ one
    return whole


def _gaze(
    a: Stored, b: Stored, rows_a: Int[np.ndarray, " m"], rows_b: Int[np.ndarray, " m"]
) -> Float[np.ndarray, "m g"]:
    """Angles between the vectors of gaze, deg; NaN where one of both has no length."""
    gazes = [np.asarray(s.table.gaze[rows], np.float64) for s, rows in ((a, rows_a), (b, rows_b))]
    if not (gazes[0].shape[1] and gazes[1].shape[1]):
        return np.zeros((len(rows_a), 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        units = [g / np.linalg.norm(g, axis=2, keepdims=True) for g in gazes]
        half = np.linalg.norm(units[1] - units[0], axis=2) / 2
    angle = np.degrees(2 * np.arcsin(np.minimum(half, 1)))
    return np.where((gazes[0] == gazes[1]).all(2), 0, angle)  # where both have none, too


def _units_of(
    a: Stored,
    b: Stored,
    rows_a: Int[np.ndarray, " m"],
    rows_b: Int[np.ndarray, " m"],
    units: UnitNames,
) -> dict[str, np.ndarray]:
    """Action units of both, for those that both know."""
    found = {}
    for suffix, stored, rows in (("a", a, rows_a), ("b", b, rows_b)):
        table, known = stored.table, stored.about.units
        for field, names, wanted in (
            ("intensity", known.intensity, units.intensity),
            ("presence", known.presence, units.presence),
        ):
            columns = [names.index(name) for name in wanted]
            values = getattr(table, f"au_{field}")[rows][:, columns]
            found[f"{field}_{suffix}"] = np.asarray(values, np.float64)
    return found
