"""Landmark validator: a small network on the face warped to a mean shape gives `confidence`."""

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int


class Validator(eqx.Module):
    """Piece-wise affine warp and network per view. Pads triangles to the largest view.

    `layers` names the network: "conv", "relu", "pool" (2x2, stride 2) or "fc"; `weights` and
    `biases` hold one entry per conv or fc layer, in that order. A conv weight is
    [view, out, in, row, col], an fc weight [view, out, in] over inputs flattened in
    [channel, col, row] order.
    """

    layers: tuple[str, ...] = eqx.field(static=True)
    centres: Float[Array, "v 3"]  # pitch yaw roll, rad
    mean: Float[Array, "v 60 60"]  # zeros outside the mask
    std: Float[Array, "v 60 60"]  # ones outside the mask
    mask: Bool[Array, "v 60 60"]
    min_x: Float[Array, " v"]
    min_y: Float[Array, " v"]
    triangles: Int[Array, "v t 3"]  # landmark indices; zeros in padding
    triangle_id: Int[Array, "v 60 60"]  # -1 outside the mask
    alpha: Float[Array, "v t 3"]
    beta: Float[Array, "v t 3"]
    weights: tuple[Float[Array, "..."], ...]
    biases: tuple[Float[Array, "v out"], ...]
