"""Box arithmetic and non-maximum suppression of MTCNN.

Inside this subpackage boxes are x y w h, px, as in OpenFace's detector.
Reference: specification 01, A.6 to A.8.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..ops import double
from ._nets import BoxFrame

_BLOCK = 32  # boxes resolved together; blocks without live boxes cost nothing


class Boxes(eqx.Module):
    """Fixed-size list of boxes in the order that the detector holds them."""

    boxes: Float[Array, "n 4"]  # x y w h, px
    scores: Float[Array, " n"]  # 0 to 1
    correction: Float[Array, "n 4"]  # dx0 dy0 dx1 dy1, in box sizes
    valid: Bool[Array, " n"]

    def take(self, index: Int[Array, " k"], valid: Bool[Array, " k"]) -> "Boxes":
        """The entries at `index`, of which those in `valid` exist."""
        return Boxes(self.boxes[index], self.scores[index], self.correction[index], valid)


def _areas_and_corners(
    rectangles: Int[Array, "n 4"],
) -> tuple[Int[Array, " n"], Int[Array, "n 2"], Int[Array, "n 2"]]:
    low, extent = rectangles[:, :2], rectangles[:, 2:]
    return extent[:, 0] * extent[:, 1], low, low + extent


def overlaps(
    a: Int[Array, "n 4"], b: Int[Array, "m 4"], *, minimum: bool = False
) -> Float[Array, "n m"]:
    """Overlap of each integer rectangle of `a` with each of `b`, 0 to 1 or NaN for 0/0.

    Args:
        a: x y w h, px.
        b: x y w h, px.
        minimum: divide by the smaller area instead of the union.
    Returns:
        float32 quotients, rounded as OpenFace does.
    Reference:
        Specification 01, A.6, step 3.
    """
    area_a, low_a, high_a = _areas_and_corners(a)
    area_b, low_b, high_b = _areas_and_corners(b)
    extent = jnp.minimum(high_a[:, None], high_b[None]) - jnp.maximum(low_a[:, None], low_b[None])
    shared = jnp.where(jnp.all(extent > 0, -1), extent[..., 0] * extent[..., 1], 0)
    shared = shared.astype(jnp.float32)
    if minimum:
        whole = jnp.minimum(area_a[:, None], area_b[None]).astype(jnp.float32)
    else:
        whole = (area_a[:, None] + area_b[None]).astype(jnp.float32) - shared
    return shared / whole


def _resolve_block(
    block: Int[Array, ""],
    alive: Bool[Array, " n"],
    rectangles: Int[Array, "n 4"],
    groups: Int[Array, " n"],
    threshold: float,
    minimum: bool,
) -> Bool[Array, " n"]:
    """Lets the boxes of one block, best first, delete the worse ones that they overlap."""
    start = block * _BLOCK
    own = lax.dynamic_slice_in_dim(rectangles, start, _BLOCK)
    own_groups = lax.dynamic_slice_in_dim(groups, start, _BLOCK)
    rank = jnp.arange(alive.shape[0], dtype=jnp.int32)
    worse = rank[None] > (start + jnp.arange(_BLOCK, dtype=jnp.int32))[:, None]
    deletes = overlaps(own, rectangles, minimum=minimum) > threshold
    deletes = deletes & worse & (own_groups[:, None] == groups[None])
    inner = lax.dynamic_slice_in_dim(deletes, start, _BLOCK, axis=1)
    kept = lax.dynamic_slice_in_dim(alive, start, _BLOCK)
    first = kept

    def settle(kept: Bool[Array, " b"]) -> Bool[Array, " b"]:
        return first & ~jnp.any(inner & kept[:, None], axis=0)

    # A box is settled one turn after those that may delete it.
    kept = lax.fori_loop(0, _BLOCK - 1, lambda _, kept: settle(kept), kept)
    return alive & ~jnp.any(deletes & kept[:, None], axis=0)


def select(
    boxes: Float[Array, "n 4"],
    scores: Float[Array, " n"],
    position: Int[Array, " n"],
    valid: Bool[Array, " n"],
    threshold: float,
    *,
    minimum: bool = False,
    groups: Int[Array, " n"] | None = None,
) -> tuple[Int[Array, " n"], Bool[Array, " n"]]:
    """Greedy non-maximum suppression.

    Args:
        boxes: x y w h, px; rounded to integers for the overlap.
        scores: the best one is kept first.
        position: place in the list; among equal scores the last one comes first.
        valid: entries that exist.
        threshold: overlap above which (strictly) the worse box is deleted.
        minimum: overlap relative to the smaller box instead of the union.
        groups: boxes of different groups never delete each other; None for one group.
    Returns:
        Indices of all entries, the survivors first and in the order of their selection, and
        a mask of the survivors in that order.
    Reference:
        Specification 01, A.6.
    """
    count = scores.shape[0]
    index = jnp.arange(count, dtype=jnp.int32)
    key = jnp.where(valid, -scores, jnp.inf)
    order = lax.sort((key, -position, index), num_keys=2)[2]
    padding = -count % _BLOCK
    rectangles = jnp.pad(jnp.round(boxes[order]).astype(jnp.int32), ((0, padding), (0, 0)))
    sorted_groups = jnp.zeros_like(index) if groups is None else groups[order]
    sorted_groups = jnp.pad(sorted_groups, (0, padding))
    alive = jnp.pad(valid[order], (0, padding))

    def step(alive: Bool[Array, " m"], block: Int[Array, ""]) -> tuple[Bool[Array, " m"], None]:
        live = jnp.any(lax.dynamic_slice_in_dim(alive, block * _BLOCK, _BLOCK))
        resolved = lax.cond(
            live,
            lambda alive: _resolve_block(
                block, alive, rectangles, sorted_groups, threshold, minimum
            ),
            lambda alive: alive,
            alive,
        )
        return resolved, None

    blocks = jnp.arange((count + padding) // _BLOCK, dtype=jnp.int32)
    survivors = lax.scan(step, alive, blocks)[0][:count]
    ranks = lax.sort((~survivors, index), num_keys=2)[1]
    return order[ranks], survivors[ranks]


def correct(candidates: Boxes, *, inclusive: bool = False) -> Float[Array, "n 4"]:
    """Moves the edges of the boxes by the networks' corrections.

    Args:
        candidates: boxes with corrections.
        inclusive: sizes count one pixel more (after O-Net).
    Returns:
        x y w h, px.
    Reference:
        Specification 01, A.7.
    """
    rounded = jnp.round(candidates.boxes)
    low, extent = rounded[:, :2], rounded[:, 2:] + float(inclusive)
    starts = jnp.concatenate([low, low + extent], axis=1)
    # OpenFace's compiler fuses these products with the sums.
    moved = double.fused_product(candidates.correction, jnp.tile(extent, 2), starts)
    new_low, new_high = moved[:, :2], moved[:, 2:]
    return jnp.concatenate([new_low, new_high - new_low], axis=1)


def square(boxes: Float[Array, "n 4"]) -> Float[Array, "n 4"]:
    """Grows the shorter side to a square of integers; rounds origin and side toward zero.

    Reference:
        Specification 01, A.8.
    """
    side = jnp.maximum(boxes[:, 2], boxes[:, 3])[:, None]
    low = boxes[:, :2] + 0.5 * (boxes[:, 2:] - side)
    return jnp.trunc(jnp.concatenate([low, side, side], axis=1))


def landmark_box(boxes: Float[Array, "n 4"], frame: BoxFrame) -> Float[Array, "n 4"]:
    """Boxes tight around the 68 landmarks, from the boxes that the networks were trained on.

    Args:
        boxes: x y w h, px.
        frame: where the landmarks lie in such a box, x y w h in box sizes.
    Returns:
        x y w h, px.
    Reference:
        Specification 01, A.10, step 12: in float64, then rounded.
    """
    high = np.array([frame]).astype(boxes.dtype)
    low = (np.array([frame]) - high).astype(boxes.dtype)
    extent = boxes[:, 2:]
    scaled = double.multiply(
        (jnp.asarray(high), jnp.asarray(low)),
        (jnp.tile(extent, 2), jnp.zeros_like(boxes)),
    )
    start = jnp.where(np.arange(4)[None] < 2, boxes, 0)
    return double.add(scaled, (start, jnp.zeros_like(start)))[0]
