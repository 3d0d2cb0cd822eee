"""Which row of one table is about the same face as which row of another."""

import collections
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from .._rows import Table

NO_ROW = -1


class Pairs(NamedTuple):
    """Rows of two tables side by side, in the order of their frames."""

    frame: Int[np.ndarray, " k"]
    row_a: Int[np.ndarray, " k"]  # NO_ROW where it has no partner
    row_b: Int[np.ndarray, " k"]


def pair_rows(a: Table, b: Table, *, several: bool) -> Pairs:
    """Pairs rows by frame, and those of a frame by the faces in it.

    Faces are paired by the overlap of the boxes around their landmarks, the largest first. Those
    that do not overlap are different faces. Where one of both has no box, as in files without
    landmarks, the number of the face decides.

    Args:
        a: the rows of one.
        b: the rows of the other.
        several: a frame may hold several faces; else the only row of a frame in `a` goes with the
            only one in `b`, wherever the faces are.
    Returns:
        Every row of both once.
    """
    boxes_a, boxes_b = boxes_around(a.landmarks), boxes_around(b.landmarks)
    frames_a, frames_b = _rows_by_frame(a.frame), _rows_by_frame(b.frame)
    found: list[tuple[int, int, int]] = []
    for frame in sorted({*frames_a, *frames_b}):
        rows_a, rows_b = frames_a.get(frame, []), frames_b.get(frame, [])
        if not several and len(rows_a) == len(rows_b) == 1:
            found.append((frame, rows_a[0], rows_b[0]))
            continue
        ids = (a.face_id[rows_a], b.face_id[rows_b])
        matched = _match(*ids, boxes_a[rows_a], boxes_b[rows_b])
        found += [(frame, rows_a[i], rows_b[j]) for i, j in matched]
        alone = set(range(len(rows_a))) - {i for i, _ in matched}
        found += [(frame, rows_a[i], NO_ROW) for i in sorted(alone)]
        alone = set(range(len(rows_b))) - {j for _, j in matched}
        found += [(frame, NO_ROW, rows_b[j]) for j in sorted(alone)]
    columns = np.array(found, np.int64).reshape(-1, 3)
    return Pairs(columns[:, 0], columns[:, 1], columns[:, 2])


def at_positions(pairs: Pairs, positions: Sequence[float]) -> Pairs:
    """The rows of some frames alone.

    Args:
        pairs: of a clip.
        positions: where in the clip, % of the way from its first frame to its last; of each the
            nearest frame is taken, the earlier of two that are as near.
    Returns:
        As many frames as positions, fewer where two positions have the same nearest frame.
    """
    if not len(pairs.frame):
        return pairs
    kept = np.isin(pairs.frame, frames_at(np.unique(pairs.frame), positions))
    return Pairs(pairs.frame[kept], pairs.row_a[kept], pairs.row_b[kept])


def frames_at(frames: Int[np.ndarray, " f"], positions: Sequence[float]) -> list[int]:
    """Of frames those that are nearest to some places.

    Args:
        frames: ascending, at least one.
        positions: % of the way from the first to the last.
    """
    span = frames[-1] - frames[0]
    wanted = [frames[0] + span * position / 100 for position in positions]
    return [int(frames[np.argmin(np.abs(frames - target))]) for target in wanted]


def boxes_around(landmarks: Float[np.ndarray, "n l 2"]) -> Float[np.ndarray, "n 4"]:
    """The boxes around landmarks, x0 y0 x1 y1 px; NaN where there are none or one is no number."""
    if not landmarks.shape[1]:
        return np.full((len(landmarks), 4), np.nan)
    points = np.asarray(landmarks, np.float64)
    boxes = np.concatenate([points.min(1), points.max(1)], axis=1)
    boxes[~np.isfinite(boxes).all(1)] = np.nan
    return boxes


def overlap(a: Float[np.ndarray, "*n 4"], b: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n"]:
    """Intersection over union of boxes; NaN where one of both is."""
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    area_a, area_b = (np.prod(box[..., 2:] - box[..., :2], axis=-1) for box in (a, b))
    union = area_a + area_b - shared
    same = np.where((a == b).all(-1), 1.0, 0.0)  # of boxes without an area
    known = np.isfinite(a).all(-1) & np.isfinite(b).all(-1)
    ratio = np.where(union > 0, shared / np.where(union > 0, union, 1), same)
    return np.where(known, ratio, np.nan)


def _rows_by_frame(frames: Int[np.ndarray, " n"]) -> dict[int, list[int]]:
    rows: dict[int, list[int]] = collections.defaultdict(list)
    for row, frame in enumerate(frames.tolist()):
        rows[frame].append(row)
    return rows


def _match(
    ids_a: Int[np.ndarray, " p"],
    ids_b: Int[np.ndarray, " q"],
    boxes_a: Float[np.ndarray, "p 4"],
    boxes_b: Float[np.ndarray, "q 4"],
) -> list[tuple[int, int]]:
    """Pairs of the faces in one frame."""
    shape = (len(boxes_a), len(boxes_b), 4)
    shared = overlap(
        np.broadcast_to(boxes_a[:, None], shape), np.broadcast_to(boxes_b[None], shape)
    )
    same = ids_a[:, None] == ids_b[None]
    # The larger overlap first; of equal ones that of the same number.
    by_box = [
        (-shared[i, j], not same[i, j], i + j, abs(i - j), i, j)
        for i, j in np.argwhere(shared > 0).tolist()
    ]
    by_number = np.argwhere(np.isnan(shared) & same).tolist()
    free_a, free_b = set(range(shape[0])), set(range(shape[1]))
    matched: list[tuple[int, int]] = []
    for i, j in [*((c[-2], c[-1]) for c in sorted(by_box)), *by_number]:
        if i in free_a and j in free_b:
            matched.append((i, j))
            free_a.remove(i)
            free_b.remove(j)
    return sorted(matched)
