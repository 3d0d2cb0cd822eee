"""Bilinear resizing with OpenCV's sample positions, as linear taps per axis.

An output row or column is a weighted sum of two source rows or columns. The sizes may be traced:
the positions are exact integer fractions. The samplers of `ops` are for OpenCV's warps, whose
positions are rounded to 1/32 px; those of its resize are not. Reference: specification 01, 0.2 and
A.9.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..ops import double
from ..types import FlatImage, Image


class Taps(eqx.Module):
    """Two source indices and their weights for each output index of one axis."""

    low: Int[Array, "*m"]
    high: Int[Array, "*m"]
    low_weight: Float[Array, "*m"]
    high_weight: Float[Array, "*m"]


def resize_taps(
    out: Int[Array, "*m"],
    source_size: Int[Array, ""],
    out_size: Int[Array, "*#m"],
    dtype: np.dtype,
) -> Taps:
    """Taps that resize an axis of `source_size` samples to `out_size`, without antialiasing.

    Args:
        out: output indices; those at or past `out_size` give clamped, meaningless taps.
        source_size: true length of the source axis.
        out_size: true length of the output axis, for each index or for all.
        dtype: of the weights.
    Returns:
        Taps with indices in [0, source_size).
    Reference:
        Specification 01, 0.2: position ((2 out + 1) source_size - out_size) / (2 out_size).
    """
    denominator = 2 * jnp.maximum(out_size, 1)
    numerator = (2 * out + 1) * source_size - out_size
    index = numerator // denominator
    # OpenCV rounds the position, not the fraction, to float32. XLA would multiply by the inverse of
    # a constant instead of dividing.
    whole = numerator.astype(dtype)
    position = double.quotient((whole, jnp.zeros_like(whole)), denominator.astype(dtype))
    fraction = position - index.astype(dtype)
    last = jnp.maximum(source_size - 1, 0)
    fraction = jnp.where((index < 0) | (index >= last), 0, fraction)
    low = jnp.clip(index, 0, last)
    return Taps(low, jnp.minimum(low + 1, last), 1 - fraction, fraction)


def crop_taps(
    out_size: int,
    start: Int[Array, ""],
    length: Int[Array, ""],
    image_size: Int[Array, ""],
    dtype: np.dtype,
) -> Taps:
    """Taps that resize the window [start, start + length) of an image axis to `out_size`.

    Samples outside the image count as zero (black).

    Args:
        out_size: length of the output axis.
        start: first index of the window, may be negative.
        length: length of the window.
        image_size: true length of the image axis.
        dtype: of the weights.
    Returns:
        Taps with indices inside the image; those that fell outside weigh nothing.
    Reference:
        Specification 01, A.9.
    """
    taps = resize_taps(jnp.arange(out_size, dtype=jnp.int32), length, jnp.int32(out_size), dtype)

    def place(
        index: Int[Array, " m"], weight: Float[Array, " m"]
    ) -> tuple[Int[Array, " m"], Float[Array, " m"]]:
        index = index + start
        inside = (index >= 0) & (index < image_size)
        index = jnp.clip(index, 0, jnp.maximum(image_size - 1, 0))
        return index, jnp.where(inside, weight, 0)

    low, low_weight = place(taps.low, taps.low_weight)
    high, high_weight = place(taps.high, taps.high_weight)
    return Taps(low, high, low_weight, high_weight)


def sample(
    image: FlatImage, rows: Taps, cols: Taps, *, exact: bool = False
) -> Float[Array, "m n 3"]:
    """Applies the taps of both axes, columns first as OpenCV does.

    Args:
        image: what the indices refer to; of bytes only those are converted that are looked at.
        rows: row taps, [m, 1] or [m, n].
        cols: column taps, [1, n] or [m, n].
        exact: keep a compiler from fusing products with sums, which changes last bits.
    """
    product = double.rounded_product if exact else jnp.multiply

    def horizontal(row: Int[Array, "_ _"]) -> Float[Array, "m n 3"]:
        first = row * image.pitch
        low = image.pixels.at[first + cols.low].get(mode="promise_in_bounds")
        high = image.pixels.at[first + cols.high].get(mode="promise_in_bounds")
        low, high = (pixels.astype(cols.low_weight.dtype) for pixels in (low, high))
        return blend(low, high, cols.low_weight[..., None], cols.high_weight[..., None])

    def blend(
        low: Float[Array, "m n 3"],
        high: Float[Array, "m n 3"],
        low_weight: Float[Array, "#m #n 1"],
        high_weight: Float[Array, "#m #n 1"],
    ) -> Float[Array, "m n 3"]:
        return product(low, low_weight) + product(high, high_weight)

    low_weight, high_weight = rows.low_weight[..., None], rows.high_weight[..., None]
    return blend(horizontal(rows.low), horizontal(rows.high), low_weight, high_weight)


def normalise(image: Image) -> Image:
    """Maps 0..255 to the range that the networks expect, -1..1."""
    return (image - 127.5) * 0.0078125
