"""Image sampling with OpenCV's 1/32-pixel fixed-point coordinates (specification 02, C.3)."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Shaped

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


def pad_border(image: Shaped[Array, "*n h w"]) -> Shaped[Array, "*n h2 w2"]:
    """The image with one pixel of 0 around it, as `sample_cells` takes it."""
    return jnp.pad(image, [(0, 0)] * (image.ndim - 2) + [(1, 1), (1, 1)])


def sample_cells(
    padded: Shaped[Array, "h2 w2"], x: Int[Array, "..."], y: Int[Array, "..."]
) -> Float[Array, "..."]:
    """Bilinear samples at 1/32-px cells; each tap outside the image counts as 0.

    The face detector resizes with samplers of its own (`detect/_sampling.py`), because OpenCV's
    resize has positions that are quotients, not cells, and rounds between its two axes.

    Args:
        padded: one channel with its border, see `pad_border`; integral values make the result
            exact in float32.
        x: column times 32, of the image without its border.
        y: row times 32.
    Reference:
        Specification 02, C.3.
    """
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    column, row = x >> 5, y >> 5
    taps = sample_taps(padded, column, row)
    inside = (column >= -1) & (column < width) & (row >= -1) & (row < height)
    blended = blend_taps(taps, cell_fraction(x, taps.dtype), cell_fraction(y, taps.dtype))
    return jnp.where(inside, blended, 0)


def cell_fraction(cells: Int[Array, "..."], dtype: DTypeLike) -> Float[Array, "..."]:
    """How far 1/32-px cells are past their pixel, px."""
    return (cells & 31).astype(dtype) / 32


def sample_taps(
    padded: Shaped[Array, "h2 w2"], column: Int[Array, "..."], row: Int[Array, "..."]
) -> Float[Array, "... 2 2"]:
    """The 2x2 pixels at and after (row, column) of the image without its border."""
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    corner = [jnp.clip(row + 1, 0, height), jnp.clip(column + 1, 0, width)]
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(row.ndim, row.ndim + 1), collapsed_slice_dims=(), start_index_map=(0, 1)
    )
    taps = lax.gather(
        padded,
        jnp.stack(corner, axis=-1),
        numbers,
        slice_sizes=(2, 2),
        mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )
    return taps if jnp.issubdtype(taps.dtype, jnp.floating) else taps.astype(jnp.float32)


def blend_taps(
    taps: Float[Array, "... 2 2"], fx: Float[Array, "..."], fy: Float[Array, "..."]
) -> Float[Array, "..."]:
    """`blend` of taps in one array."""
    top, bottom = taps[..., 0, :], taps[..., 1, :]
    return blend((top[..., 0], top[..., 1]), (bottom[..., 0], bottom[..., 1]), fx, fy)


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
