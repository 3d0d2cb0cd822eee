"""A first guess of pose and shape: a small network that looks at the whole face at once.

Patch experts see a few millimetres each, so that a search which starts at a wrong pose may end on
edges that look right one by one. The network sees the face as a whole, and where it puts the
landmarks is one more start of a search.

Reference: as the first stage of cascaded shape regression (Cao et al., Face Alignment by Explicit
Shape Regression, 2012; Sun et al., Deep Convolutional Network Cascade, 2013).
"""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ...detect import Net
from ...ops import fetch_flat, matrix_to_euler
from ...types import FLAT_STRETCH, Box, FlatGray, Gray, PDMParameters
from .._pdm import PDM

REGRESSOR_SIDE = 48  # px of the network's picture
POSE_OUTPUTS = 9  # before the shape's: two rows of the rotation, place, logarithm of the scale
_MARGIN = 1.3  # side of the square that is looked at, of the box's longer side
_USUAL_SCALE = 0.009  # half sides per mm: of a face in its box
_TINY = 1e-6
# Sides of the windows, px, that a square is looked for in where the picture is flat; beyond, the
# largest that a picture may need. A window costs by its size, whatever the square's.
_WINDOWS = (256, 1024, 4096)
_BAND = 256  # rows of a window that are looked at together


class ShapeRegressor(eqx.Module):
    """Tells pose and shape from a grey picture of a face."""

    net: Net  # (48, 48, 1) -> 9 + modes


def regress_parameters(
    regressor: ShapeRegressor,
    pdm: PDM,
    gray: Gray | FlatGray,
    box: Box,
    size: Int[Array, "2"],
) -> PDMParameters:
    """Guesses pose and shape of a face from the whole of it.

    Args:
        pdm: that the regressor was trained for.
        gray: luma, 0 to 255; may be padded beyond `size`, or flat.
        box: face box, px. One that is empty or not finite is taken as a single pixel.
        size: height and width of the picture, px.
    """
    middle, half = square_around(box)
    outputs = regressor.net(cut_square(gray, middle, half, size)[..., None])
    return parameters_from_outputs(pdm, outputs, middle, half)


def square_around(box: Box) -> tuple[Float[Array, "2"], Float[Array, ""]]:
    """Middle and half the side, px, of the square that the network looks at."""
    low, high = box[:2], box[2:4]
    usable = jnp.all(jnp.isfinite(box)) & jnp.all(high > low)
    low, high = jnp.where(usable, low, 0), jnp.where(usable, high, 1)
    return (low + high) / 2, _MARGIN * jnp.max(high - low) / 2


def cut_square(
    gray: Gray | FlatGray, middle: Float[Array, "2"], half: Float[Array, ""], size: Int[Array, "2"]
) -> Float[Array, "48 48"]:
    """The square at the network's size, with mean 0 and deviation 1; 0 where no picture is."""
    if isinstance(gray, FlatGray):
        picture, inside = _reduce_flat(gray, middle, half)
    else:
        picture, inside = _reduce(gray, middle, half, size)
    total = jnp.maximum(jnp.sum(inside), 1)
    away = (picture - jnp.sum(picture * inside) / total) * inside
    deviation = jnp.sqrt(jnp.sum(away * away) / total)
    return away / jnp.maximum(deviation, 1)


def _reduce(
    gray: Gray, middle: Float[Array, "2"], half: Float[Array, ""], size: Int[Array, "2"]
) -> tuple[Float[Array, "48 48"], Float[Array, "48 48"]]:
    """The square at the network's size, and 1 where it lies in the picture."""
    pixels = [jnp.arange(length, dtype=middle.dtype)[None] for length in gray.shape]
    rows, height = _taps(middle[1], half, pixels[0], size[0])
    cols, width = _taps(middle[0], half, pixels[1], size[1])
    picture = _finite(gray.astype(middle.dtype))
    picture = jnp.dot(rows, picture, precision=lax.Precision.HIGHEST)
    picture = jnp.dot(picture, cols.T, precision=lax.Precision.HIGHEST)
    return picture, height[:, None] * width[None]


def _finite(picture: Float[Array, "h w"]) -> Float[Array, "h w"]:
    return jnp.where(jnp.isfinite(picture), picture, 0)  # one damaged pixel is not all


def _reduce_flat(
    flat: FlatGray, middle: Float[Array, "2"], half: Float[Array, ""]
) -> tuple[Float[Array, "48 48"], Float[Array, "48 48"]]:
    """`_reduce` of a flat picture, in the smallest window that the square's pixels fit in."""
    reach = half + jnp.maximum(2 * half / REGRESSOR_SIDE, 1)
    end = jnp.flip(flat.size).astype(middle.dtype)
    first = jnp.clip(jnp.floor(middle - reach), 0, end - 1)
    needed = jnp.max(jnp.clip(jnp.ceil(middle + reach), 0, end - 1) - first) + 1
    # No side of a picture that fits in is longer than the last window.
    most = math.ceil(FLAT_STRETCH * math.sqrt(flat.pixels.shape[-1]) / _BAND) * _BAND
    sides = [side for side in _WINDOWS if side < most] + [most]
    number = jnp.sum(needed > np.asarray(sides[:-1], middle.dtype), dtype=jnp.int32)
    corner = jnp.nan_to_num(first).astype(jnp.int32)
    return lax.switch(number, [_in_window(side) for side in sides], flat, middle, half, corner)


def _in_window(side: int) -> Callable:
    """`_reduce` by the pixels of a window alone, band after band."""

    def reduce(
        flat: FlatGray, middle: Float[Array, "2"], half: Float[Array, ""], corner: Int[Array, "2"]
    ) -> tuple[Float[Array, "48 48"], Float[Array, "48 48"]]:
        columns, lines = (corner[axis] + np.arange(side, dtype=np.int32) for axis in range(2))
        cols, width = _taps(middle[0], half, columns.astype(half.dtype)[None], flat.size[1])
        rows, height = _taps(middle[1], half, lines.astype(half.dtype)[None], flat.size[0])

        def add(start: Int[Array, ""], total: Float[Array, "48 w"]) -> Float[Array, "48 w"]:
            line = lax.dynamic_slice_in_dim(lines, start, _BAND)
            weight = lax.dynamic_slice_in_dim(rows, start, _BAND, axis=1)
            pixels = _finite(fetch_flat(flat, columns[None], line[:, None]).astype(half.dtype))
            return total + jnp.dot(weight, pixels, precision=lax.Precision.HIGHEST)

        @jax.checkpoint  # or the derivative would keep the pixels of all windows
        def step(total: Float[Array, "48 w"], start: Int[Array, ""]) -> tuple[Array, None]:
            used = jnp.any(lax.dynamic_slice_in_dim(rows, start, _BAND, axis=1) > 0)
            return lax.cond(used, add, lambda _, total: total, start, total), None

        starts = np.arange(0, side, _BAND, dtype=np.int32)
        empty = jnp.zeros((REGRESSOR_SIDE, side), half.dtype)
        picture, _ = lax.scan(step, empty, jnp.asarray(starts))
        picture = jnp.dot(picture, cols.T, precision=lax.Precision.HIGHEST)
        return picture, height[:, None] * width[None]

    return reduce


def _taps(
    middle: Float[Array, ""],
    half: Float[Array, ""],
    pixels: Float[Array, "1 n"],
    size: Int[Array, ""],
) -> tuple[Float[Array, "48 n"], Float[Array, " 48"]]:
    """How much each pixel of the image adds, along one axis, to each of the network's picture.

    A pixel of the picture is a mean of the image under a triangle as wide as its pixels are apart,
    so that faces that are reduced do not alias.

    Args:
        pixels: places of the image's pixels along the axis.
    Returns:
        The weights, and 1 for those pixels of the picture that lie in the image.
    """
    step = 2 * half / REGRESSOR_SIDE
    dtype, end = middle.dtype, size.astype(middle.dtype)
    place = middle - half + step * np.asarray(np.arange(REGRESSOR_SIDE) + 0.5, dtype)
    weights = 1 - jnp.abs(pixels - place[:, None]) / jnp.maximum(step, 1)
    weights = jnp.where(pixels < end, jnp.maximum(weights, 0), 0)
    total = jnp.sum(weights, axis=1)
    covered = (place >= 0) & (place <= end - 1) & (total > _TINY)
    return weights / jnp.maximum(total, _TINY)[:, None], covered.astype(dtype)


def parameters_from_outputs(
    pdm: PDM, outputs: Float[Array, " o"], middle: Float[Array, "2"], half: Float[Array, ""]
) -> PDMParameters:
    """PDM parameters of the network's outputs for one square."""
    scale = _USUAL_SCALE * half * jnp.exp(jnp.clip(outputs[8], -2, 2))
    deviation = jnp.sqrt(pdm.eigenvalues)
    return PDMParameters(
        scale=scale,
        rotation=matrix_to_euler(rotation_from_rows(outputs[:6])),
        translation=middle + half * outputs[6:8],
        local=deviation * jnp.clip(outputs[POSE_OUTPUTS:], -3, 3),
    )


def rotation_from_rows(rows: Float[Array, "6"]) -> Float[Array, "3 3"]:
    """The rotation nearest to two rows, which are added to those of the identity."""
    first = _unit(rows[:3] + np.array([1, 0, 0], rows.dtype))
    second = rows[3:] + np.array([0, 1, 0], rows.dtype)
    second = _unit(second - jnp.sum(second * first) * first)
    return jnp.stack([first, second, jnp.cross(first, second)])


def _unit(vector: Float[Array, "3"]) -> Float[Array, "3"]:
    return vector * lax.rsqrt(jnp.sum(vector * vector) + _TINY)
