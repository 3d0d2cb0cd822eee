"""MTCNN face detection: three networks, each pruning and refining the boxes of the one before.

Reference: Zhang et al., Joint Face Detection and Alignment using Multi-task Cascaded
Convolutional Networks, 2016; specification 01, A.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..types import Detections, FlatImage, Image
from ._base import AbstractDetector
from ._boxes import Boxes, correct, landmark_box, select, square
from ._config import DetectConfig
from ._exact import run_exactly
from ._nets import BoxFrame, MaxPool, Net
from ._pyramid import (
    Mosaic,
    Pyramid,
    draw_rows,
    locate_cells,
    place_levels,
    plan_picture,
    plan_pyramid,
)
from ._sampling import crop_taps, normalise, sample

_PNET_OUTPUTS = 6
_BAND = 1 << 17  # mosaic values that go through P-Net together, for the cache's sake


@dataclasses.dataclass(frozen=True)
class _Stage:
    """Shapes of a network that looks at crops."""

    side: int  # px of its input
    outputs: int
    block: int  # crops that go through it together
    exact: bool  # whether all is rounded as OpenFace does


_RNET = _Stage(side=24, outputs=6, block=16, exact=False)
_ONET = _Stage(side=48, outputs=16, block=4, exact=True)


def face_probability(logits: Float[Array, "*n c"]) -> Float[Array, "*n"]:
    """Softmax of the face class, from the first two outputs of a network."""
    return 1 / (1 + jnp.exp(logits[..., 0] - logits[..., 1]))


def pnet_outputs(pnet: Net, pyramid: Pyramid, image: FlatImage) -> Float[Array, "m n 6"]:
    """Runs P-Net over all pyramid levels at once.

    The max-pool clips its windows at the true end of each level, so what lies past it is
    masked before and after; no valid cell then sees anything but its own level.

    Args:
        pnet: the network.
        pyramid: where the levels of the picture are.
        image: RGB, 0 to 255.
    Returns:
        Logits and corrections on the cell grid of the mosaic; zeros below all levels.
    """
    height, width = pyramid.shape
    cell_rows = height // 2 - 5
    # A loop of one turn would be inlined, and each mosaic pixel be made once per tap.
    count = max(-(-3 * height * width // _BAND), 2)
    band = max(-(-cell_rows // count), 5)
    bottom = jnp.max(pyramid.offsets[:, 0] + pyramid.sizes[:, 0])

    def in_bands(run: Callable, number: int) -> Any:
        """Rows of all bands; those below all levels are zeros, and cost nothing."""

        def one(cell: Int[Array, ""]) -> Any:
            nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(run, cell))
            return lax.cond(2 * cell < bottom, run, lambda _: nothing, cell)

        bands = lax.map(one, band * jnp.arange(number, dtype=jnp.int32))
        return jax.tree.map(lambda rows: rows.reshape(-1, *rows.shape[2:]), bands)

    # One more band, as the net looks at ten rows below the last.
    dtype = jax.tree.leaves(pnet)[0].dtype

    def draw(cell: Int[Array, ""]) -> Mosaic:
        return draw_rows(pyramid, image, 2 * cell, 2 * band, dtype)

    mosaic = in_bands(draw, count + 1)

    def look(cell: Int[Array, ""]) -> Float[Array, "b n 6"]:
        maps = lax.dynamic_slice_in_dim(mosaic.pixels, 2 * cell, 2 * band + 10)
        for layer in pnet.layers:
            if isinstance(layer, MaxPool):
                inside = lax.dynamic_slice_in_dim(mosaic.before_pool, 2 * cell, 2 * band + 8)
                maps = layer(jnp.where(inside[:, :-2, None], maps, -jnp.inf))
                inside = lax.dynamic_slice_in_dim(mosaic.after_pool, cell, band + 4)
                maps = jnp.where(inside[:, :-1, None], maps, 0)
            else:
                maps = layer(maps)
        return maps

    return in_bands(look, count)


def _propose(
    pnet: Net, pyramid: Pyramid, image: FlatImage, config: DetectConfig
) -> tuple[Boxes, Int[Array, " n"], Int[Array, " n"], Bool[Array, ""]]:
    """Cells over the threshold, best first, with their level and place in scan order."""
    outputs = pnet_outputs(pnet, pyramid, image)
    levels, places, there = locate_cells(pyramid)
    corners = places + pyramid.offsets[levels] // 2
    cells = outputs.reshape(-1, _PNET_OUTPUTS)[corners[:, 0] * outputs.shape[1] + corners[:, 1]]
    scores = face_probability(cells)
    over = there & (scores >= config.thresholds[0])
    count = min(config.proposals, pyramid.cells)
    # top_k puts the first of equal scores first, the detector the last: hence the reversal.
    ranked, backward = lax.top_k(jnp.where(over, scores, -1)[::-1], count)
    scan = pyramid.cells - 1 - backward
    levels = levels[scan]
    edges = pyramid.edges.astype(scores.dtype)[levels[:, None], places[scan]]
    low, high = edges[:, ::-1, 0], edges[:, ::-1, 1]  # x before y
    boxes = jnp.concatenate([low, high - low], axis=1)
    found = Boxes(boxes, scores[scan], cells[scan, 2:], ranked >= 0)
    return found, levels, scan, jnp.sum(over) > count


def _first(
    boxes: Boxes, order: Int[Array, " n"], kept: Bool[Array, " n"], capacity: int
) -> tuple[Boxes, Bool[Array, ""]]:
    """The first `capacity` survivors of a suppression, and whether any were left out."""
    capacity = min(capacity, kept.shape[0])
    return boxes.take(order[:capacity], kept[:capacity]), jnp.sum(kept) > capacity


def _suppress_proposals(
    found: Boxes, levels: Int[Array, " n"], scan: Int[Array, " n"], capacity: int
) -> tuple[Boxes, Bool[Array, ""]]:
    """Suppression within each level, then over all."""
    order, kept = select(found.boxes, found.scores, scan, found.valid, 0.5, groups=levels)
    found, levels = found.take(order, kept), levels[order]
    # Place in the concatenation of the levels' lists, each by descending score.
    count = kept.shape[0]
    position = levels * count + np.arange(count, dtype=np.int32)
    order, kept = select(found.boxes, found.scores, position, kept, 0.7)
    return _first(found, order, kept, capacity)


def crop(
    image: FlatImage, box: Float[Array, "4"], side: int, *, exact: bool = False
) -> Float[Array, "s s 3"]:
    """Network input for one squared box: black outside the picture, resized, normalised.

    Args:
        image: RGB, 0 to 255.
        box: x y w h, integral, px; counted from 1, as OpenFace does.
        side: side of the output, px.
        exact: round every product, as OpenCV does.
    Reference:
        Specification 01, A.9.
    """
    x, y, width, height = (box[i].astype(jnp.int32) for i in range(4))
    dtype = box.dtype
    rows = crop_taps(side, y - 1, height + 1, image.size[0], dtype)
    cols = crop_taps(side, x - 1, width + 1, image.size[1], dtype)
    rows, cols = (
        jax.tree.map(lambda leaf: leaf[:, None], rows),
        jax.tree.map(lambda leaf: leaf[None], cols),
    )
    return normalise(sample(image, rows, cols, exact=exact))


def _touches(boxes: Float[Array, "n 4"], size: Int[Array, "2"]) -> Bool[Array, " n"]:
    """Which boxes have crops that share a pixel with the picture."""
    extent = size[None, ::-1].astype(boxes.dtype)
    low = jnp.maximum(boxes[:, :2] - 1, 0)
    high = jnp.minimum(boxes[:, :2] + boxes[:, 2:], extent)
    return jnp.all(high > low, axis=1)


def _run_net(net: Net, stage: _Stage, image: FlatImage, boxes: Boxes) -> Float[Array, "n o"]:
    """Network outputs for all boxes, in blocks; a block without valid boxes costs nothing."""
    count = boxes.valid.shape[0]
    padding = -count % stage.block
    blocks = jnp.pad(boxes.boxes, ((0, padding), (0, 0))).reshape(-1, stage.block, 4)
    live = jnp.pad(boxes.valid, (0, padding)).reshape(-1, stage.block).any(axis=1)

    def cut(block: Float[Array, "b 4"]) -> Float[Array, "b s s 3"]:
        return jax.vmap(lambda box: crop(image, box, stage.side, exact=stage.exact))(block)

    def run(crop: Float[Array, "s s 3"]) -> Float[Array, " o"]:
        return run_exactly(net, crop) if stage.exact else net(crop)

    def step(
        carry: None, block: tuple[Float[Array, "b 4"], Bool[Array, ""]]
    ) -> tuple[None, Float[Array, "b o"]]:
        boxes, live = block
        # Two branches, or XLA would fuse them and cut each pixel once per tap that reads it.
        crops = jnp.zeros((stage.block, stage.side, stage.side, 3), boxes.dtype)
        crops = lax.cond(live, cut, lambda _: crops, boxes)
        nothing = jnp.zeros((stage.block, stage.outputs), boxes.dtype)
        return carry, lax.cond(live, jax.vmap(run), lambda _: nothing, crops)

    return lax.scan(step, None, (blocks, live))[1].reshape(-1, stage.outputs)[:count]


def _classify(
    net: Net, stage: _Stage, image: FlatImage, boxes: Boxes
) -> tuple[Boxes, Float[Array, "n o"]]:
    """Squares the corrected boxes and gives them the network's scores and corrections."""
    squared = corrected_squares(boxes)
    valid = boxes.valid & _touches(squared, image.size)
    boxes = eqx.tree_at(lambda b: (b.boxes, b.valid), boxes, (squared, valid))
    raw = _run_net(net, stage, image, boxes)
    return Boxes(squared, face_probability(raw), raw[:, 2:6], valid), raw


def _over(boxes: Boxes, threshold: float) -> Boxes:
    valid = boxes.valid & (boxes.scores >= threshold)
    return eqx.tree_at(lambda b: b.valid, boxes, valid)


def _points(boxes: Float[Array, "n 4"], raw: Float[Array, "n 10"]) -> Float[Array, "n 5 2"]:
    """Eyes, nose and mouth corners, given as fractions of O-Net's input boxes."""
    fractions = jnp.stack([raw[:, :5], raw[:, 5:]], axis=-1)
    return boxes[:, None, :2] + boxes[:, None, 2:] * fractions


def _nothing(dtype: np.dtype) -> Detections:
    return Detections(
        jnp.zeros((0, 4), dtype),
        jnp.zeros((0,), dtype),
        jnp.zeros((0, 5, 2), dtype),
        jnp.zeros((0,), bool),
        jnp.zeros((0, 2), dtype),
        jnp.asarray(False),
    )


def _pad(detections: Detections, faces: int) -> Detections:
    """Zeroes what is not valid and fills up to `faces` entries."""

    def clean(leaf: Array) -> Array:
        valid = detections.valid.reshape((-1,) + (1,) * (leaf.ndim - 1))
        leaf = jnp.where(valid, leaf, jnp.zeros_like(leaf))
        return jnp.pad(leaf, ((0, faces - leaf.shape[0]),) + ((0, 0),) * (leaf.ndim - 1))

    return Detections(
        clean(detections.boxes),
        clean(detections.scores),
        clean(detections.points),
        clean(detections.valid),
        clean(detections.sizes),
        detections.overflowed,
    )


def propose_boxes(
    pnet: Net, pyramid: Pyramid, image: FlatImage, config: DetectConfig
) -> tuple[Boxes, Bool[Array, ""]]:
    """P-Net's boxes over the threshold, best first, none overlapping much.

    Args:
        pnet: the network.
        pyramid: where the levels of the picture are; one at least.
        image: RGB, 0 to 255.
        config: thresholds and capacities.
    Returns:
        Boxes before their correction, and whether some were cut.
    Reference:
        Specification 01, A.10, steps 1 and 2.
    """
    found, levels, scan, lost = _propose(pnet, pyramid, image, config)
    boxes, cut = _suppress_proposals(found, levels, scan, config.candidates)
    return boxes, lost | cut


def refine_boxes(
    rnet: Net, image: FlatImage, proposed: Boxes, config: DetectConfig
) -> tuple[Boxes, Bool[Array, ""]]:
    """Those of P-Net's boxes that R-Net calls faces.

    Args:
        rnet: the network.
        image: RGB, 0 to 255.
        proposed: what `propose_boxes` gave.
        config: thresholds and capacities.
    Returns:
        Squares that R-Net saw, with its scores and corrections, and whether some were cut.
    Reference:
        Specification 01, A.10, steps 3 to 6.
    """
    boxes, _ = _classify(rnet, _RNET, image, proposed)
    boxes = _over(boxes, config.thresholds[1])
    place = jnp.arange(boxes.valid.shape[0], dtype=jnp.int32)
    order, kept = select(boxes.boxes, boxes.scores, place, boxes.valid, 0.7)
    return _first(boxes, order, kept, config.refined)


def corrected_squares(boxes: Boxes) -> Float[Array, "n 4"]:
    """The squares that the next network looks at, x y w h, integral px.

    Reference:
        Specification 01, A.7 and A.8.
    """
    return square(correct(boxes))


def lay_flat(
    image: Image, size: Int[Array, "2"], config: DetectConfig
) -> tuple[FlatImage, Pyramid]:
    """A picture in the top left corner of an array, as the networks take it, and its pyramid."""
    height, width = image.shape[:2]
    layout = plan_pyramid(height, width, config.min_face_size, config.factor)
    flat = FlatImage(image.reshape(-1, 3), size, jnp.int32(width))
    return flat, place_levels(layout, size)


class MTCNN(AbstractDetector):
    """The three stages. Input planes are RGB, (v - 127.5) / 128.

    Detectors are trained on boxes of various definitions; `landmark_frame` says where, in such a
    box, the box tight around the 68 landmarks lies.
    """

    pnet: Net
    rnet: Net
    onet: Net
    landmark_frame: BoxFrame = eqx.field(static=True)  # x y w h, in box sizes
    config: DetectConfig = eqx.field(static=True, default=DetectConfig())  # that suits it

    def __check_init__(self) -> None:
        x, y, width, height = self.landmark_frame
        if not min(width, height) > 0:
            raise ValueError(f"landmark_frame: expected positive sizes, got {width:g} x {height:g}")

    def detect(self, image: Image, size: Int[Array, "2"], config: DetectConfig) -> Detections:
        """Three networks, each pruning and refining the boxes of the one before.

        The points are O-Net's, relative to its input box (x + w * output); OpenFace ignores them.
        A picture whose shorter side is under `min_face_size` has no faces.

        Reference:
            Specification 01, A.
        """
        return self.detect_flat(*lay_flat(image, size, config), config)

    def plan(self, height: int, width: int, length: int, config: DetectConfig) -> Pyramid | None:
        return plan_picture(height, width, length, config)

    def detect_flat(self, image: FlatImage, plan: Pyramid, config: DetectConfig) -> Detections:
        dtype = jax.tree.leaves(self.pnet)[0].dtype
        if not plan.levels:
            return _pad(_nothing(dtype), config.faces)
        if jnp.issubdtype(image.pixels.dtype, jnp.floating):  # bytes are converted one by one
            image = eqx.tree_at(lambda i: i.pixels, image, image.pixels.astype(dtype))
        proposed, lost = propose_boxes(self.pnet, plan, image, config)
        refined, cut = refine_boxes(self.rnet, image, proposed, config)
        lost = lost | cut
        boxes, raw = _classify(self.onet, _ONET, image, refined)
        boxes = _over(boxes, config.thresholds[2])
        place = jnp.arange(boxes.valid.shape[0], dtype=jnp.int32)
        final = correct(boxes, inclusive=True)
        order, kept = select(final, boxes.scores, place, boxes.valid, 0.7, minimum=True)
        points = _points(boxes.boxes, raw[:, 6:])
        boxes = eqx.tree_at(lambda b: b.boxes, boxes, landmark_box(final, self.landmark_frame))
        faces, cut = _first(boxes, order, kept, config.faces)
        points = points[order[: faces.valid.shape[0]]]
        low, sizes = faces.boxes[:, :2], faces.boxes[:, 2:]
        corners = jnp.concatenate([low, low + sizes], axis=1)
        detections = Detections(corners, faces.scores, points, faces.valid, sizes, lost | cut)
        return _pad(detections, config.faces)
