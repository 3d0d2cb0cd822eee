"""Landmark validator: a small network on the face warped to a mean shape gives `confidence`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .._types import Gray, Landmarks, PDMParameters
from ..ops import extract_patches, sample_cells

_HIGHEST = lax.Precision.HIGHEST
_SIDE = 60  # px of the warped face
_MARGIN = np.float32(3)  # px around the landmarks


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


def warp_to_mean_shape(
    validator: Validator,
    gray: Gray,
    landmarks: Landmarks,
    view: Int[Array, ""],
    *,
    size: Int[Array, "2"],
) -> tuple[Float[Array, "60 60"], Bool[Array, ""]]:
    """Piece-wise affine warp of the face to the view's mean shape; zeros outside the mask.

    Args:
        landmarks: px.
        size: height and width of the picture, px.
    Returns:
        The warped face, and whether the landmarks' box overlaps the picture.
    Reference:
        Specification 01, B.8, steps 2 and 3.
    """
    low = jnp.trunc(jnp.min(landmarks, axis=0) - _MARGIN)
    high = jnp.trunc(jnp.max(landmarks, axis=0) + _MARGIN)
    limit = (size[::-1] - 1).astype(landmarks.dtype)
    low, high = jnp.maximum(low, 0), jnp.minimum(high, limit)
    inside = jnp.all(high - low > 1)
    corners = (landmarks - low)[validator.triangles[view]]  # t 3 2
    alpha, beta = validator.alpha[view][..., None], validator.beta[view][..., None]
    first = corners[:, :1]
    edges = (corners[:, 1:2] - first) * alpha + (corners[:, 2:] - first) * beta
    affine = edges.at[:, 0].add(first[:, 0])  # t 3 2: constant, by x, by y
    local = affine[jnp.maximum(validator.triangle_id[view], 0)]
    steps = np.arange(_SIDE, dtype=np.float32)
    x = (steps + validator.min_x[view])[None, :, None]
    y = (steps + validator.min_y[view])[:, None, None]
    position = local[:, :, 0] + local[:, :, 1] * x + local[:, :, 2] * y
    cells = jnp.round(jnp.clip(32 * position, -(2.0**30), 2.0**30)).astype(jnp.int32)
    warped = _sample_region(gray, cells, low.astype(jnp.int32), high.astype(jnp.int32))
    return jnp.where(validator.mask[view], warped, 0), inside


def _sample_region(
    gray: Gray, cells: Int[Array, "60 60 2"], low: Int[Array, "2"], high: Int[Array, "2"]
) -> Float[Array, "60 60"]:
    """Samples of the region [low, high) alone: taps outside it count as 0."""
    rows, columns = np.arange(gray.shape[0]), np.arange(gray.shape[1])
    in_rows = (rows >= low[1]) & (rows < high[1])
    in_columns = (columns >= low[0]) & (columns < high[0])
    region = jnp.where(in_rows[:, None] & in_columns, gray, 0)
    return sample_cells(region, cells[..., 0] + 32 * low[0], cells[..., 1] + 32 * low[1])


def normalise_face(
    validator: Validator, warped: Float[Array, "60 60"], view: Int[Array, ""]
) -> Float[Array, "60 60"]:
    """Standardises the masked pixels, then subtracts the view's mean face and divides by its
    deviation (specification 01, B.8, steps 4 and 5)."""
    mask = validator.mask[view]
    count = jnp.sum(mask).astype(warped.dtype)
    centred = jnp.where(mask, warped - jnp.sum(warped) / count, 0)
    variance = jnp.sum(centred * centred) / count
    standard = centred * lax.rsqrt(jnp.where(variance > 0, variance, 1))
    return jnp.where(mask, (standard - validator.mean[view]) / validator.std[view], 0)


def _convolve(
    maps: Float[Array, "c h w"], weight: Float[Array, "o c k k"], bias: Float[Array, " o"]
) -> Float[Array, "o p q"]:
    """Valid correlation as one product: XLA's CPU convolution crawls inside loops."""
    outputs, _, side, _ = weight.shape
    patches = extract_patches(maps, side)
    kernel = weight.transpose(0, 1, 3, 2).reshape(outputs, -1)
    flat = patches.reshape(kernel.shape[1], -1)
    product = jnp.dot(kernel, flat, precision=_HIGHEST) + bias[:, None]
    return product.reshape(outputs, *patches.shape[2:])


def _pool(maps: Float[Array, "c h w"]) -> Float[Array, "c p q"]:
    """Maximum over 2x2 windows of stride 2; the last window is clipped (specification 01, A.3)."""
    padding = [(0, 0)] + [(0, side % 2) for side in maps.shape[1:]]
    return lax.reduce_window(maps, -jnp.inf, lax.max, (1, 2, 2), (1, 2, 2), padding)


def run_validator(
    validator: Validator, face: Float[Array, "60 60"], view: Int[Array, ""]
) -> Float[Array, " bins"]:
    """Logits of the alignment-error classes, best class first (specification 01, B.8, 6)."""
    maps = face[None]
    parameters = iter(zip(validator.weights, validator.biases, strict=True))
    for layer in validator.layers:
        if layer == "relu":
            maps = jax.nn.relu(maps)
        elif layer == "pool":
            maps = _pool(maps)
        elif layer == "conv":
            weight, bias = next(parameters)
            maps = _convolve(maps, weight[view], bias[view])
        else:
            weight, bias = next(parameters)
            flat = maps.transpose(0, 2, 1).reshape(-1) if maps.ndim == 3 else maps
            maps = jnp.dot(weight[view], flat, precision=_HIGHEST) + bias[view]
    return maps


def validate_landmarks(
    validator: Validator,
    gray: Gray,
    landmarks: Landmarks,
    parameters: PDMParameters,
    *,
    size: Int[Array, "2"],
) -> Float[Array, ""]:
    """How well landmarks sit on a face: 1 good, 0 bad, in steps of one network class.

    Args:
        gray: 0 to 255, possibly padded beyond `size`.
        landmarks: px.
        parameters: their rotation chooses the view.
        size: height and width of the picture, px.
    Returns:
        Certainty; 0 where the landmarks lie outside the picture.
    Reference:
        Specification 01, B.8.
    """
    view = jnp.argmin(jnp.sum((validator.centres - parameters.rotation) ** 2, axis=-1))
    warped, inside = warp_to_mean_shape(validator, gray, landmarks, view, size=size)
    logits = run_validator(validator, normalise_face(validator, warped, view), view)
    bins = logits.shape[0]
    # Rounded once from float64, as class 5 of 20 must give exactly float32(0.725).
    certainties = np.asarray(1 - (np.arange(bins) + 0.5) / bins, np.float32)
    return jnp.where(inside, jnp.asarray(certainties)[jnp.argmax(logits)], 0)
