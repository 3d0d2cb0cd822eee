"""Image sampling with OpenCV's 1/32-pixel fixed-point coordinates (specification 02, C.3)."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

_LIMIT = 2.0**20  # px; keeps coordinates times 1024 inside int32


def _split(value: Float[Array, "..."]) -> tuple[Int[Array, "..."], Float[Array, "..."]]:
    """1024 * value as an even integer, which keeps ties even, and an exact float32 remainder."""
    scaled = jnp.clip(jnp.nan_to_num(value), -_LIMIT, _LIMIT) * np.float32(1024)
    head = 2 * jnp.round(scaled / 2)
    return head.astype(jnp.int32), scaled - head


def rounded_product(factor: float, value: Float[Array, "..."]) -> Float[Array, "..."]:
    """factor * value rounded to float32 before anything else happens to it.

    Compilers fuse a product with the sum that follows, which then rounds once and not twice. Here
    the product is a sum of two exact ones, so that fusion changes nothing.

    Args:
        factor: a number of at most 12 significant bits.
    """
    bits = lax.bitcast_convert_type(lax.stop_gradient(value), jnp.int32)
    head = lax.bitcast_convert_type(bits & -4096, value.dtype)
    return factor * head + factor * (value - head)


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
    u, v = np.arange(width, dtype=np.int32), np.arange(height, dtype=np.int32)
    cells = []
    for axis in range(2):
        head_u, rest_u = _split(linear[..., axis, 0, None])
        head_v, rest_v = _split(linear[..., axis, 1, None])
        head_0, rest_0 = _split(offset[..., axis, None])
        along = _rounded(head_u * u, rest_u * u.astype(np.float32))
        down = _rounded(head_v * v + head_0, rest_v * v.astype(np.float32) + rest_0) + 16
        cells.append((down[..., :, None] + along[..., None, :]) >> 5)
    return cells[0], cells[1]


def sample_cells(
    image: Float[Array, "h w"], x: Int[Array, "..."], y: Int[Array, "..."]
) -> Float[Array, "..."]:
    """Bilinear samples at 1/32-px cells; each tap outside the image counts as 0.

    Args:
        image: one channel; integral values make the result exact in float32.
        x: column times 32.
        y: row times 32.
    Reference:
        Specification 02, C.3.
    """
    height, width = image.shape
    column, row = x >> 5, y >> 5
    fx = (x & 31).astype(image.dtype) / 32
    fy = (y & 31).astype(image.dtype) / 32
    padded = jnp.pad(image, 1)
    taps = _pairs(padded, jnp.clip(row + 1, 0, height), jnp.clip(column + 1, 0, width))
    inside = (column >= -1) & (column < width) & (row >= -1) & (row < height)
    top = taps[..., 0, 0] * (1 - fx) + taps[..., 0, 1] * fx
    bottom = taps[..., 1, 0] * (1 - fx) + taps[..., 1, 1] * fx
    return jnp.where(inside, top * (1 - fy) + bottom * fy, 0)


def _pairs(
    padded: Float[Array, "h w"], row: Int[Array, "..."], column: Int[Array, "..."]
) -> Float[Array, "... 2 2"]:
    """The 2x2 neighbourhoods whose top left pixels are at (row, column)."""
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(row.ndim, row.ndim + 1), collapsed_slice_dims=(), start_index_map=(0, 1)
    )
    return lax.gather(
        padded,
        jnp.stack([row, column], axis=-1),
        numbers,
        slice_sizes=(2, 2),
        mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )
