"""Colour images sampled through an affine map: OpenCV's 8-bit warp, and a smooth one."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, UInt8

from ..ops import blend, cell_fraction, double
from ..types import FlatImage, Image
from ._config import AlignConfig

_FAR = 2.0**20  # px; positions beyond any image, whose whole part still fits an int32

Position = Float[Array, "s s"]
Whole = Int[Array, "s s"]
Color = Float[Array, "s s 3"]
Taps = list[list[Color]]
Picture = Image | UInt8[Array, "h w 3"] | FlatImage


def warp_to_aligned(
    image: Picture,
    matrix: Float[Array, "2 3"],
    *,
    config: AlignConfig = AlignConfig(),
) -> Float[Array, "s s 3"]:
    """Samples an image through an affine map as OpenCV's 8-bit warp does, bit for bit.

    The derivative is that of the warp beside it which does not round to grey levels and cells of
    1/32 px. By pixels it is the bilinear weights. By the position it is the bilinear mean of the
    image's central differences, which is what one pixel to the left and one to the right differ
    by, and what cancels the derivative by an image that moves along; the slopes of the bilinear
    samples would do neither, as they jump from pixel to pixel. With `config.smooth` the samples
    are those of a cubic convolution (Catmull-Rom) at real positions, not rounded, and their
    derivative is exact and continuous.

    Args:
        image: RGB, 0 to 255, integral values, flat or not; zero outside. A pixel that is not finite
            counts as 0 and has no derivative.
        matrix: from image px to output px.
        config: only `size` and `smooth` count.

    Returns:
        Integral values; with `config.smooth` real ones, which overshoot at edges.

    Raises:
        ValueError: `image` is not `h w 3`.

    Reference:
        OpenCV 3.4 warpAffine, bilinear, constant border 0; specification 03, A.2, step 6. Keys
        1981, "Cubic convolution interpolation for digital image processing", for the smooth one.
    """
    if not isinstance(image, FlatImage) and (image.ndim != 3 or image.shape[-1] != 3):
        raise ValueError(f"image: expected shape (h, w, 3), got {image.shape}")
    if config.smooth:
        return _sample_cubic(image, *_real_positions(matrix, config.size))
    return _warp_cells(config.size, image, matrix)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _warp_cells(size: int, image: Picture, matrix: Float[Array, "2 3"]) -> Float[Array, "s s 3"]:
    """Bilinear samples at cells of 1/32 px, rounded to grey levels."""
    columns, rows = _source_cells(matrix, size)
    taps = _finite(_fetch(image, columns >> 5, rows >> 5, (0, 1), (0, 1), matrix.dtype))
    return jnp.floor(_blend(taps, columns, rows) + 0.5)


@functools.partial(_warp_cells.defjvp, symbolic_zeros=True)
def _warp_cells_jvp(size: int, primals: Any, tangents: Any) -> tuple[Color, Color]:
    """The derivative of the bilinear samples, without any rounding; see `warp_to_aligned`."""
    image, matrix = primals
    image_dot, matrix_dot = tangents
    warped = _warp_cells(size, image, matrix)
    moved = jnp.zeros_like(warped)
    columns, rows = _source_cells(matrix, size)
    corner = columns >> 5, rows >> 5
    image_dot = _pixel_tangent(image, image_dot)
    if image_dot is not None:
        taps = _fetch(image_dot, *corner, (0, 1), (0, 1), matrix.dtype)
        moved = moved + _blend(taps, columns, rows)
    if not isinstance(matrix_dot, SymbolicZero):
        steps = jax.jvp(functools.partial(_real_positions, size=size), (matrix,), (matrix_dot,))[1]
        # Central differences need no pixels in the corners of the 4 by 4.
        wide = _finite(_fetch(image, *corner, (-1, 0, 1, 2), (0, 1), matrix.dtype))
        along = [[(row[k + 2] - row[k]) / 2 for k in range(2)] for row in wide]
        tall = _finite(_fetch(image, *corner, (0, 1), (-1, 0, 1, 2), matrix.dtype))
        down = [[(tall[j + 2][k] - tall[j][k]) / 2 for k in range(2)] for j in range(2)]
        for slopes, step in zip((along, down), steps, strict=True):
            moved = moved + _blend(slopes, columns, rows) * step[..., None]
    return warped, moved


def _pixel_tangent(image: Picture, tangent: Any) -> Picture | None:
    """By how much the pixels change, laid out as they are; None where they do not."""
    flat = isinstance(image, FlatImage)
    pixels, moved = (image.pixels, tangent.pixels) if flat else (image, tangent)
    if isinstance(moved, SymbolicZero) or moved.dtype != pixels.dtype:  # bytes have none
        return None
    moved = jnp.where(jnp.isfinite(pixels), moved, 0)
    return FlatImage(moved, image.size, image.pitch) if flat else moved


def _blend(taps: Taps, columns: Whole, rows: Whole) -> Color:
    """Bilinear mean of 2 by 2 pixels at cells of 1/32 px."""
    (a, b), (c, d) = taps
    fx, fy = (cell_fraction(cells, a.dtype)[..., None] for cells in (columns, rows))
    return blend((a, b), (c, d), fx, fy)


def _fetch(
    image: Picture,
    column: Whole,
    row: Whole,
    across: tuple[int, ...],
    down: tuple[int, ...],
    dtype: DTypeLike,
) -> Taps:
    """Pixels at some distances from (row, column), row by row; 0 outside the image.

    `ops.sample_taps` wants a border of zeros. That pays for areas around each landmark, but a
    border around a colour picture that is sampled once takes longer than the whole warp.
    """
    if isinstance(image, FlatImage):
        pixels, height, width, pitch = image.pixels, image.size[0], image.size[1], image.pitch
    else:
        height, width, _ = image.shape
        pixels, pitch = jnp.asarray(image).reshape(height * width, 3), width

    def fetch(right: int, below: int) -> Color:
        x, y = column + right, row + below
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        found = pixels[jnp.where(inside, y * pitch + x, 0)].astype(dtype)
        return found * inside[..., None].astype(dtype)  # a select takes twice as long here

    return [[fetch(right, below) for right in across] for below in down]


def _finite(taps: Taps) -> Taps:
    """One damaged pixel is not the whole face."""
    return [[jnp.where(jnp.isfinite(tap), tap, 0) for tap in row] for row in taps]


def _sample_cubic(image: Picture, x: Position, y: Position) -> Float[Array, "s s 3"]:
    """Cubic convolution of an image at real positions."""
    column, row = jnp.floor(lax.stop_gradient(x)), jnp.floor(lax.stop_gradient(y))
    window = (-1, 0, 1, 2)
    whole = column.astype(jnp.int32), row.astype(jnp.int32)
    taps = _finite(_fetch(image, *whole, window, window, x.dtype))
    across, down = _cubic_weights(x - column), _cubic_weights(y - row)
    total = jnp.zeros_like(taps[0][0])
    for pixels, weight in zip(taps, down, strict=True):
        line = sum(a[..., None] * pixel for a, pixel in zip(across, pixels, strict=True))
        total = total + weight[..., None] * line
    return total


def _cubic_weights(f: Position) -> tuple[Position, Position, Position, Position]:
    """Weights of the pixels at -1, 0, 1 and 2 for a position f past pixel 0."""
    g = 1 - f
    return (
        -f * g * g / 2,
        1 - f * f * (2.5 - 1.5 * f),
        1 - g * g * (2.5 - 1.5 * g),
        -g * f * f / 2,
    )


def _real_positions(matrix: Float[Array, "2 3"], size: int) -> tuple[Position, Position]:
    """Source x and y of each output pixel, px."""
    (a, b, c), (d, e, f) = matrix
    determinant = a * e - b * d
    determinant = jnp.where(determinant == 0, 1, determinant)
    grid = jnp.arange(size, dtype=matrix.dtype)
    u, v = (grid - c)[None, :], (grid - f)[:, None]
    x, y = (e * u - b * v) / determinant, (a * v - d * u) / determinant
    return jnp.clip(x, -_FAR, _FAR), jnp.clip(y, -_FAR, _FAR)


def _source_cells(matrix: Float[Array, "2 3"], size: int) -> tuple[Whole, Whole]:
    """Source x and y of each output pixel, in whole 1/32 px."""
    (a, b, c), (d, e, f) = matrix
    # OpenCV inverts in double precision; a step of the grid is too small for float32.
    determinant = double.add(double.exact_product(a, e), double.exact_product(-b, d))
    adjugate = jnp.stack([jnp.stack([e, -b]), jnp.stack([-d, a])])
    linear = _scale(double.reciprocal(determinant), adjugate)
    by_x, by_y = ((linear[0][:, k], linear[1][:, k]) for k in range(2))
    offset = double.add(_scale(by_x, -c), _scale(by_y, -f))
    by_x, by_y, offset = ((v[0][:, None], v[1][:, None]) for v in (by_x, by_y, offset))
    grid = jnp.arange(size, dtype=matrix.dtype)[None]
    columns = _round_1024(_scale(by_x, grid))
    rows = _round_1024(double.add(_scale(by_y, grid), offset)) + 16
    cells = [(rows[k][:, None] + columns[k][None, :]) >> 5 for k in range(2)]
    return cells[0], cells[1]


def _round_1024(value: double.Pair) -> Int[Array, "2 s"]:
    """Nearest whole number of 1/1024 px, half to even; clipped far outside any image."""
    high = jnp.clip(value[0] * 1024, -(2.0**29), 2.0**29)
    whole = jnp.round(high)
    rest = jnp.round((high - whole) + value[1] * 1024)
    return whole.astype(jnp.int32) + rest.astype(jnp.int32)


def _scale(a: double.Pair, factor: Float[Array, "..."]) -> double.Pair:
    return double.multiply(a, double.single(factor))
