"""Image sampling with OpenCV's 1/32-pixel fixed-point coordinates (specification 02, C.3).

An image is an array with a border of one pixel, or a `FlatGray`, whose size is known at run time
only. Both give the same samples to the last bit: they differ in where a pixel is fetched from.
"""

import functools
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Shaped

from ..types import Bordered, FlatGray

Pixels = Float[Array, "*n"]
Taps = tuple[tuple[Pixels, Pixels], tuple[Pixels, Pixels]]  # top: left and right; bottom

_LIMIT = 2.0**20  # px; keeps coordinates times 1024 inside int32


def _split(value: Float[Array, "..."]) -> tuple[Int[Array, "..."], Float[Array, "..."]]:
    """1024 * value as an even integer, which keeps ties even, and an exact float32 remainder."""
    scaled = jnp.clip(jnp.nan_to_num(value), -_LIMIT, _LIMIT) * 1024
    head = 2 * jnp.round(scaled / 2)
    return head.astype(jnp.int32), scaled - head


def _rounded(head: Int[Array, "..."], rest: Float[Array, "..."]) -> Int[Array, "..."]:
    return head + jnp.round(rest).astype(jnp.int32)


def affine_cells(
    linear: Float[Array, "... 2 2"], offset: Float[Array, "... 2"], width: int, height: int
) -> tuple[Int[Array, "... h w"], Int[Array, "... h w"]]:
    """Source coordinates of every destination pixel, in 1/32 px.

    OpenCV rounds each product in float64; here each product is an integer plus a float32
    remainder, so that only exact ties could round differently.

    Args:
        linear: maps destination (x, y) to source, destination to source orientation.
        offset: source position of destination pixel (0, 0), px.
        width: destination width.
        height: destination height.
    Returns:
        x and y coordinates times 32.
    Reference:
        Specification 02, C.3 (cv::warpAffine with WARP_INVERSE_MAP, 4.x).
    """
    lead = (None,) * (linear.ndim - 2)
    u = np.arange(width, dtype=np.int32)[lead]
    v = np.arange(height, dtype=np.int32)[lead]
    cells = []
    for axis in range(2):
        head_u, rest_u = _split(linear[..., axis, 0, None])
        head_v, rest_v = _split(linear[..., axis, 1, None])
        head_0, rest_0 = _split(offset[..., axis, None])
        along = _rounded(head_u * u, rest_u * u.astype(rest_u.dtype))
        down = _rounded(head_v * v + head_0, rest_v * v.astype(rest_v.dtype) + rest_0) + 16
        cells.append((down[..., :, None] + along[..., None, :]) >> 5)
    return cells[0], cells[1]


@overload
def pad_border(image: FlatGray) -> FlatGray: ...
@overload
def pad_border(image: Shaped[Array, "*n h w"]) -> Shaped[Array, "*n h2 w2"]: ...
def pad_border(
    image: Shaped[Array, "*n h w"] | FlatGray,
) -> Shaped[Array, "*n h2 w2"] | FlatGray:
    """The image with one pixel of 0 around it, as `sample_cells` takes it; a flat one as it is."""
    if isinstance(image, FlatGray):
        return image
    # Joined, not padded: XLA makes a padding one loop with what it pads, pixel by pixel.
    lead, (height, width) = image.shape[:-2], image.shape[-2:]
    row = jnp.zeros((*lead, 1, width), image.dtype)
    column = jnp.zeros((*lead, height + 2, 1), image.dtype)
    tall = jnp.concatenate([row, image, row], axis=-2)
    return jnp.concatenate([column, tall, column], axis=-1)


def sample_cells(
    padded: Bordered, x: Int[Array, "..."], y: Int[Array, "..."]
) -> Float[Array, "..."]:
    """Bilinear samples at 1/32-px cells; each tap outside the image counts as 0.

    The face detector resizes with samplers of its own (`detect/_sampling.py`), because OpenCV's
    resize has positions that are quotients, not cells, and rounds between its two axes.

    Args:
        padded: one channel with its border, see `pad_border`, or flat; integral values make the
            result exact in float32.
        x: column times 32, of the image without its border.
        y: row times 32.
    Returns:
        Samples; linear in pixels. Cells are integers and carry no derivative: `sample_affine` has
        that by the position.
    Reference:
        Specification 02, C.3.
    """
    column, row = x >> 5, y >> 5
    top, bottom = sample_taps(padded, column, row)
    dtype = top[0].dtype
    blended = blend(top, bottom, cell_fraction(x, dtype), cell_fraction(y, dtype))
    if isinstance(padded, FlatGray):
        return blended
    height, width = _extent(padded)
    inside = (column >= -1) & (column < width) & (row >= -1) & (row < height)
    return jnp.where(inside, blended, 0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def sample_affine(
    padded: Bordered,
    linear: Float[Array, "... 2 2"],
    offset: Float[Array, "... 2"],
    width: int,
    height: int,
) -> Float[Array, "... h w"]:
    """Areas of an image, turned, scaled and moved, at 1/32-px cells.

    Its derivative does not follow the cells. By the image it is exact, as samples are linear in
    pixels. By the position it is the bilinear mean of the image's central differences,
    (I(x + 1) - I(x - 1)) / 2: what the samples change by from a pixel to the left to one to the
    right, and what exactly cancels the derivative by an image that moves along. The slopes of the
    bilinear samples themselves would do neither, as they jump at every pixel. An image of bytes
    has no derivative by its pixels; that by the position is the same as of floats.

    Args:
        padded: one channel with its border, see `pad_border`, or flat.
        linear: maps destination (x, y) to source, destination to source orientation.
        offset: source position of destination pixel (0, 0), px.
        width: destination width.
        height: destination height.
    Reference:
        Specification 02, C.3.
    """
    return sample_cells(padded, *affine_cells(linear, offset, width, height))


@functools.partial(sample_affine.defjvp, symbolic_zeros=True)
def _sample_affine_jvp(width: int, height: int, primals: Any, tangents: Any) -> Any:
    padded, linear, offset = primals
    padded_dot, linear_dot, offset_dot = tangents
    areas = sample_affine(padded, linear, offset, width, height)
    cells = affine_cells(linear, offset, width, height)
    moved = jnp.zeros_like(areas)
    padded_dot = _pixel_tangent(padded, padded_dot)
    if padded_dot is not None:
        moved = moved + sample_cells(padded_dot, *cells)
    if _is_zero(linear_dot) and _is_zero(offset_dot):
        return areas, moved
    along, down = cell_slopes(padded, *cells)
    for slopes, axis in ((along, 0), (down, 1)):
        step = affine_position(_filled(linear_dot), _filled(offset_dot), axis, width, height)
        moved = moved + slopes * step.astype(areas.dtype)
    return areas, moved


def _pixel_tangent(padded: Bordered, tangent: Any) -> Bordered | None:
    """By how much the pixels change, laid out as they are; None where they do not."""
    flat = isinstance(padded, FlatGray)
    pixels, moved = (padded.pixels, tangent.pixels) if flat else (padded, tangent)
    if _is_zero(moved) or moved.dtype != pixels.dtype:  # bytes have none
        return None
    return FlatGray(moved, padded.size, padded.pitch, padded.start) if flat else moved


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, SymbolicZero)


def _filled(tangent: Any) -> Array:
    return jnp.zeros(tangent.shape, tangent.dtype) if _is_zero(tangent) else tangent


def affine_position(
    linear: Float[Array, "... 2 2"],
    offset: Float[Array, "... 2"],
    axis: int,
    width: int,
    height: int,
) -> Float[Array, "... h w"]:
    """Source column (axis 0) or row (axis 1) of every destination pixel, px, without rounding."""
    lead = (None,) * (linear.ndim - 2)
    u = np.arange(width, dtype=linear.dtype)[(*lead, None)]
    v = np.arange(height, dtype=linear.dtype)[(*lead, slice(None), None)]
    across, below, first = (
        value[..., None, None]
        for value in (linear[..., axis, 0], linear[..., axis, 1], offset[..., axis])
    )
    return across * u + below * v + first


def cell_slopes(
    padded: Bordered, x: Int[Array, "..."], y: Int[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Central differences of an image, along columns and down rows, sampled as `sample_cells` does.

    Pixels outside the image count as 0.

    Args:
        padded: one channel with its border, see `pad_border`, or flat.
        x: column times 32, of the image without its border.
        y: row times 32.
    """
    height, width = _extent(padded)
    column, row = x >> 5, y >> 5
    taps = _taps_around(padded, column, row, 4)
    inside = (column >= -1) & (column < width) & (row >= -1) & (row < height)
    fx, fy = cell_fraction(x, taps.dtype), cell_fraction(y, taps.dtype)
    along = blend(*_in_pairs((taps[..., 1:3, 2:] - taps[..., 1:3, :2]) / 2), fx, fy)
    down = blend(*_in_pairs((taps[..., 2:, 1:3] - taps[..., :2, 1:3]) / 2), fx, fy)
    return jnp.where(inside, along, 0), jnp.where(inside, down, 0)


def sample_smooth(
    padded: Bordered, x: Float[Array, "..."], y: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Samples at any position, two times continuously differentiable by it.

    A sample is the mean of 6x6 pixels under a cubic B-spline convolved with (1, 2, 1) / 4: a blur
    by 0.9 px. Areas around landmarks are sampled far apart, so a kernel that passes the finest
    detail passes it as noise: with bilinear samples, whose exact slopes these are, moving an image
    and a box together moved landmarks by 0.5 to 2.4 px per px; with this kernel by 1, within 0.005.
    Derivatives by positions and pixels are exact.

    Args:
        padded: one channel with its border, see `pad_border`, or flat; pixels outside count as 0.
        x: column, px, of the image without its border.
        y: row, px.
    """
    height, width = _extent(padded, x.dtype)
    limit = np.asarray(_LIMIT, x.dtype)
    x, y = (jnp.clip(jnp.nan_to_num(value), -limit, limit) for value in (x, y))
    column, row = jnp.floor(x), jnp.floor(y)
    taps = _taps_around(padded, column.astype(jnp.int32), row.astype(jnp.int32), 6).astype(x.dtype)
    inside = (column >= -3) & (column < width + 2) & (row >= -3) & (row < height + 2)
    across, down = _kernel_weights(x - column), _kernel_weights(y - row)
    rows = jnp.sum(taps * across[..., None, :], axis=-1)
    return jnp.where(inside, jnp.sum(rows * down, axis=-1), 0)


def _kernel_weights(past: Float[Array, "..."]) -> Float[Array, "... 6"]:
    """Weights of the six pixels around a place that is `past` px behind the third of them."""
    left = 1 - past
    spline = jnp.stack(
        [
            left**3 / 6,
            2 / 3 - past**2 * (2 - past) / 2,
            2 / 3 - left**2 * (2 - left) / 2,
            past**3 / 6,
        ],
        axis=-1,
    )
    edge = [(0, 0)] * past.ndim
    shifted = [jnp.pad(spline, [*edge, (shift, 2 - shift)]) for shift in range(3)]
    return (shifted[0] + 2 * shifted[1] + shifted[2]) / 4


def _taps_around(
    padded: Bordered, column: Int[Array, "..."], row: Int[Array, "..."], side: int
) -> Float[Array, "... side side"]:
    """The pixels around the middle of (row, column) and the next; 0 outside the image.

    Args:
        padded: an image with its border, or flat.
        column, row: of the image without its border; those beyond `side / 2` px of it are moved
            there.
        side: even number of pixels.
    """
    half = side // 2
    if isinstance(padded, FlatGray):
        return _flat_taps(padded, column - (half - 1), row - (half - 1), side)
    wide = jnp.pad(padded, side - 1)  # with the border, pixels of 0 for taps that all lie outside
    corners = [
        jnp.clip(value + half + 1, 0, length - side)
        for value, length in zip((row, column), wide.shape, strict=True)
    ]
    return _gather_taps(wide, jnp.stack(corners, axis=-1), side)


def cell_fraction(cells: Int[Array, "..."], dtype: DTypeLike) -> Float[Array, "..."]:
    """How far 1/32-px cells are past their pixel, px."""
    return (cells & 31).astype(dtype) / 32


def sample_taps(padded: Bordered, column: Int[Array, "*n"], row: Int[Array, "*n"]) -> Taps:
    """The 2x2 pixels at and after (row, column) of the image without its border, row by row.

    Those outside are 0, unless an image with a border is left by more than that.
    """
    if isinstance(padded, FlatGray):
        # One by one: an axis of taps makes a sample take a third longer on a CPU.
        (a, b), (c, d) = (
            [_as_float(fetch_flat(padded, column + right, row + below)) for right in range(2)]
            for below in range(2)
        )
        return (a, b), (c, d)
    height, width = _extent(padded)
    corner = [jnp.clip(row + 1, 0, height), jnp.clip(column + 1, 0, width)]
    return _in_pairs(_gather_taps(padded, jnp.stack(corner, axis=-1), 2))


def _in_pairs(taps: Float[Array, "... 2 2"]) -> Taps:
    """2x2 pixels as `blend` takes them."""
    top, bottom = taps[..., 0, :], taps[..., 1, :]
    return (top[..., 0], top[..., 1]), (bottom[..., 0], bottom[..., 1])


def _as_float(pixels: Shaped[Array, "*n"]) -> Float[Array, "*n"]:
    return pixels if jnp.issubdtype(pixels.dtype, jnp.floating) else pixels.astype(jnp.float32)


def _gather_taps(
    image: Shaped[Array, "h w"], corners: Int[Array, "... 2"], side: int
) -> Float[Array, "... side side"]:
    """Squares of pixels whose first is at (row, column), inside the image."""
    lead = corners.ndim - 1
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(lead, lead + 1), collapsed_slice_dims=(), start_index_map=(0, 1)
    )
    taps = lax.gather(
        image,
        corners,
        numbers,
        slice_sizes=(side, side),
        mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )
    return _as_float(taps)


def _flat_taps(
    flat: FlatGray, column: Int[Array, "..."], row: Int[Array, "..."], side: int
) -> Float[Array, "... side side"]:
    """Squares of pixels whose first is at (row, column); 0 outside the image."""
    lead, steps = (None,) * column.ndim, np.arange(side, dtype=np.int32)
    rows = row[..., None, None] + steps[(*lead, slice(None), None)]
    columns = column[..., None, None] + steps[(*lead, None, slice(None))]
    return _as_float(fetch_flat(flat, columns, rows))


def fetch_flat(
    flat: FlatGray, column: Int[Array, "*#n"], row: Int[Array, "*#n"]
) -> Shaped[Array, "*n"]:
    """Pixels of a flat image; 0 outside it, never one of the next row."""
    height, width = _extent(flat)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    place = jnp.where(inside, flat.start + row * flat.pitch + column, 0)
    return jnp.where(inside, flat.pixels.at[place].get(mode="promise_in_bounds"), 0)


def _extent(padded: Bordered, dtype: DTypeLike = np.int32) -> tuple[Any, Any]:
    """Height and width of the image, px: numbers, or arrays of a flat one."""
    if isinstance(padded, FlatGray):
        height, width = padded.size.astype(dtype)
        return height, width
    return padded.shape[0] - 2, padded.shape[1] - 2


def blend(
    top: tuple[Float[Array, "*n"], Float[Array, "*n"]],
    bottom: tuple[Float[Array, "*n"], Float[Array, "*n"]],
    fx: Float[Array, "*#n"],
    fy: Float[Array, "*#n"],
) -> Float[Array, "*n"]:
    """Bilinear mean of 2x2 pixels.

    Args:
        top: left and right pixel.
        bottom: those below.
        fx, fy: how far right and down of the first pixel, px; from 0 to 1.
    """
    upper = top[0] * (1 - fx) + top[1] * fx
    lower = bottom[0] * (1 - fx) + bottom[1] * fx
    return upper * (1 - fy) + lower * fy
