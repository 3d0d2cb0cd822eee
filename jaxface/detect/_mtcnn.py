"""MTCNN face detection: three networks, each pruning and refining the boxes of the one before.

Reference: Zhang et al., Joint Face Detection and Alignment using Multi-task Cascaded
Convolutional Networks, 2016; specification 01, A.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..types import Detections, Image
from ._base import AbstractDetector
from ._boxes import Boxes, correct, landmark_box, select, square
from ._config import DetectConfig
from ._exact import run_exactly
from ._nets import BoxFrame, MaxPool, Net
from ._pyramid import Layout, build_mosaic, inside_levels, level_sizes, plan_pyramid, true_cells
from ._sampling import crop_taps, normalise, sample

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


def pnet_outputs(
    pnet: Net, layout: Layout, image: Image, size: Int[Array, "2"], sizes: Int[Array, "l 2"]
) -> Float[Array, "m n 6"]:
    """Runs P-Net over all pyramid levels at once.

    The max-pool clips its windows at the true end of each level, so what lies past it is
    masked before and after; no valid cell then sees anything but its own level.

    Args:
        pnet: the network.
        layout: plan for the canvas.
        image: RGB, 0 to 255, on the canvas.
        size: true height and width of the picture, px.
        sizes: true sizes of the levels, px.
    Returns:
        Logits and corrections on the cell grid of the mosaic.
    """
    mosaic = build_mosaic(layout, image, size, sizes)
    before_pool = inside_levels(layout, sizes - 2, 1)
    after_pool = inside_levels(layout, -(-(sizes - 2) // 2), 2)
    cell_rows = mosaic.shape[0] // 2 - 5
    # A loop of one turn would be inlined, and each mosaic pixel be made once per tap.
    count = max(-(-mosaic.size // _BAND), 2)
    band = -(-cell_rows // count)
    mosaic, before_pool = (
        jnp.pad(a, ((0, 2 * (band * count - cell_rows)),) + ((0, 0),) * (a.ndim - 1))
        for a in (mosaic, before_pool)
    )
    after_pool = jnp.pad(after_pool, ((0, band * count - cell_rows), (0, 0)))

    def run(start: Int[Array, ""]) -> Float[Array, "b n 6"]:
        maps = lax.dynamic_slice_in_dim(mosaic, 2 * start, 2 * band + 10)
        for layer in pnet.layers:
            if isinstance(layer, MaxPool):
                inside = lax.dynamic_slice_in_dim(before_pool, 2 * start, 2 * band + 8)
                maps = layer(jnp.where(inside[:, :-2, None], maps, -jnp.inf))
                inside = lax.dynamic_slice_in_dim(after_pool, start, band + 4)
                maps = jnp.where(inside[:, :-1, None], maps, jnp.float32(0))
            else:
                maps = layer(maps)
        return maps

    starts = band * jnp.arange(count, dtype=jnp.int32)
    return lax.map(run, starts).reshape(band * count, -1, 6)


def _propose(
    pnet: Net, layout: Layout, image: Image, size: Int[Array, "2"], config: DetectConfig
) -> tuple[Boxes, Int[Array, " n"], Int[Array, " n"], Bool[Array, ""]]:
    """Cells over the threshold, best first, with their level and place in scan order."""
    sizes = level_sizes(layout, size)
    outputs = pnet_outputs(pnet, layout, image, size, sizes)
    place = layout.cell_place + layout.offsets[layout.cell_level] // 2
    flat = place[:, 0] * outputs.shape[1] + place[:, 1]
    cells = outputs.reshape(-1, 6)[flat.astype(np.int32)]
    scores = face_probability(cells)
    over = true_cells(layout, sizes) & (scores >= jnp.float32(config.thresholds[0]))
    count = min(config.proposals, len(flat))
    # top_k puts the first of equal scores first, the detector the last: hence the reversal.
    ranked, backward = lax.top_k(jnp.where(over, scores, -1)[::-1], count)
    scan = len(flat) - 1 - backward
    levels = jnp.asarray(layout.cell_level)[scan]
    edges = jnp.asarray(layout.edges)[levels[:, None], jnp.asarray(layout.cell_place)[scan]]
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
    image: Image, size: Int[Array, "2"], box: Float[Array, "4"], side: int, *, exact: bool = False
) -> Float[Array, "s s 3"]:
    """Network input for one squared box: black outside the picture, resized, normalised.

    Args:
        image: RGB, 0 to 255, on the canvas.
        size: true height and width of the picture, px.
        box: x y w h, integral, px; counted from 1, as OpenFace does.
        side: side of the output, px.
        exact: round every product, as OpenCV does.
    Reference:
        specification 01, A.9.
    """
    x, y, width, height = (box[i].astype(jnp.int32) for i in range(4))
    rows = crop_taps(side, y - 1, height + 1, size[0])
    cols = crop_taps(side, x - 1, width + 1, size[1])
    rows = jax.tree.map(lambda leaf: leaf[:, None], rows)
    return normalise(sample(image, rows, cols, exact=exact))


def _touches(boxes: Float[Array, "n 4"], size: Int[Array, "2"]) -> Bool[Array, " n"]:
    """Which boxes have crops that share a pixel with the picture."""
    extent = size[::-1].astype(jnp.float32)
    low = jnp.maximum(boxes[:, :2] - 1, 0)
    high = jnp.minimum(boxes[:, :2] + boxes[:, 2:], extent)
    return jnp.all(high > low, axis=1)


def _run_net(
    net: Net, stage: _Stage, image: Image, size: Int[Array, "2"], boxes: Boxes
) -> Float[Array, "n o"]:
    """Network outputs for all boxes, in blocks; a block without valid boxes costs nothing."""
    count = boxes.valid.shape[0]
    padding = -count % stage.block
    blocks = jnp.pad(boxes.boxes, ((0, padding), (0, 0))).reshape(-1, stage.block, 4)
    live = jnp.pad(boxes.valid, (0, padding)).reshape(-1, stage.block).any(axis=1)

    def cut(block: Float[Array, "b 4"]) -> Float[Array, "b s s 3"]:
        return jax.vmap(lambda box: crop(image, size, box, stage.side, exact=stage.exact))(block)

    def run(crop: Float[Array, "s s 3"]) -> Float[Array, " o"]:
        return run_exactly(net, crop) if stage.exact else net(crop)

    def step(
        carry: None, block: tuple[Float[Array, "b 4"], Bool[Array, ""]]
    ) -> tuple[None, Float[Array, "b o"]]:
        boxes, live = block
        # Two branches, or XLA would fuse them and cut each pixel once per tap that reads it.
        crops = jnp.zeros((stage.block, stage.side, stage.side, 3), jnp.float32)
        crops = lax.cond(live, cut, lambda _: crops, boxes)
        nothing = jnp.zeros((stage.block, stage.outputs), jnp.float32)
        return carry, lax.cond(live, jax.vmap(run), lambda _: nothing, crops)

    return lax.scan(step, None, (blocks, live))[1].reshape(-1, stage.outputs)[:count]


def _classify(
    net: Net, stage: _Stage, image: Image, size: Int[Array, "2"], boxes: Boxes
) -> tuple[Boxes, Float[Array, "n o"]]:
    """Squares the corrected boxes and gives them the network's scores and corrections."""
    squared = corrected_squares(boxes)
    valid = boxes.valid & _touches(squared, size)
    boxes = eqx.tree_at(lambda b: (b.boxes, b.valid), boxes, (squared, valid))
    raw = _run_net(net, stage, image, size, boxes)
    return Boxes(squared, face_probability(raw), raw[:, 2:6], valid), raw


def _over(boxes: Boxes, threshold: float) -> Boxes:
    valid = boxes.valid & (boxes.scores >= jnp.float32(threshold))
    return eqx.tree_at(lambda b: b.valid, boxes, valid)


def _points(boxes: Float[Array, "n 4"], raw: Float[Array, "n 10"]) -> Float[Array, "n 5 2"]:
    """Eyes, nose and mouth corners, given as fractions of O-Net's input boxes."""
    fractions = jnp.stack([raw[:, :5], raw[:, 5:]], axis=-1)
    return boxes[:, None, :2] + boxes[:, None, 2:] * fractions


def _nothing() -> Detections:
    return Detections(
        jnp.zeros((0, 4), jnp.float32),
        jnp.zeros((0,), jnp.float32),
        jnp.zeros((0, 5, 2), jnp.float32),
        jnp.zeros((0,), bool),
        jnp.zeros((0, 2), jnp.float32),
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
    pnet: Net, image: Image, size: Int[Array, "2"], config: DetectConfig
) -> tuple[Boxes, Bool[Array, ""]] | None:
    """P-Net's boxes over the threshold, best first, none overlapping much.

    Args:
        pnet: the network.
        image: RGB, 0 to 255; the picture is the top-left corner.
        size: true height and width of the picture, px.
        config: thresholds and capacities.
    Returns:
        Boxes before their correction, and whether some were cut; None where the array is too
        small for any face.
    Reference:
        specification 01, A.10, steps 1 and 2.
    """
    height, width = image.shape[:2]
    layout = plan_pyramid(height, width, config.min_face_size, config.factor)
    if not layout.levels:
        return None
    found, levels, scan, lost = _propose(pnet, layout, image, size, config)
    boxes, cut = _suppress_proposals(found, levels, scan, config.candidates)
    return boxes, lost | cut


def refine_boxes(
    rnet: Net, image: Image, size: Int[Array, "2"], proposed: Boxes, config: DetectConfig
) -> tuple[Boxes, Bool[Array, ""]]:
    """Those of P-Net's boxes that R-Net calls faces.

    Args:
        rnet: the network.
        image: RGB, 0 to 255; the picture is the top-left corner.
        size: true height and width of the picture, px.
        proposed: what `propose_boxes` gave.
        config: thresholds and capacities.
    Returns:
        Squares that R-Net saw, with its scores and corrections, and whether some were cut.
    Reference:
        specification 01, A.10, steps 3 to 6.
    """
    boxes, _ = _classify(rnet, _RNET, image, size, proposed)
    boxes = _over(boxes, config.thresholds[1])
    place = jnp.arange(boxes.valid.shape[0], dtype=jnp.int32)
    order, kept = select(boxes.boxes, boxes.scores, place, boxes.valid, 0.7)
    return _first(boxes, order, kept, config.refined)


def corrected_squares(boxes: Boxes) -> Float[Array, "n 4"]:
    """The squares that the next network looks at, x y w h, integral px.

    Reference:
        specification 01, A.7 and A.8.
    """
    return square(correct(boxes))


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
        image = image.astype(jnp.float32)
        proposed = propose_boxes(self.pnet, image, size, config)
        if proposed is None:
            return _pad(_nothing(), config.faces)
        refined, cut = refine_boxes(self.rnet, image, size, proposed[0], config)
        lost = proposed[1] | cut
        boxes, raw = _classify(self.onet, _ONET, image, size, refined)
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
