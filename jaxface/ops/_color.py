"""Grey conversion."""

from typing import overload

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from ..types import FlatGray, FlatImage


@overload
def to_gray(image: FlatImage) -> FlatGray: ...
@overload
def to_gray(image: Num[Array, "*n h w 3"]) -> Num[Array, "*n h w"]: ...
def to_gray(image: Num[Array, "*n h w 3"] | FlatImage) -> Num[Array, "*n h w"] | FlatGray:
    """OpenCV's 8-bit luma: integral values from integral ones, in the same type.

    Floats are rounded down too; their derivative is that of the weighted sum before it is rounded.

    Args:
        image: RGB, 0 to 255; bytes are three times as fast as floats. A `FlatImage` gives a
            `FlatGray`.
    Reference:
        Specification 01, 0.4.
    """
    if isinstance(image, FlatImage):
        return FlatGray(to_gray(image.pixels[None])[0], image.size, image.pitch)
    if image.dtype == jnp.uint8:
        wide = image.astype(jnp.int32)
        red, green, blue = wide[..., 0], wide[..., 1], wide[..., 2]
        return ((9798 * red + 19235 * green + 3735 * blue + 16384) >> 15).astype(jnp.uint8)
    if jnp.issubdtype(image.dtype, jnp.floating):
        return _luma(image)
    return _round_down(image)


def _weigh(image: Num[Array, "*n h w 3"]) -> Num[Array, "*n h w"]:
    """32768 times the luma; every sum is below 2**24, so float32 holds it exactly."""
    return 9798 * image[..., 0] + 19235 * image[..., 1] + 3735 * image[..., 2]


def _round_down(image: Num[Array, "*n h w 3"]) -> Float[Array, "*n h w"]:
    return jnp.floor((_weigh(image) + 16384) / 32768)


@jax.custom_jvp
def _luma(image: Float[Array, "*n h w 3"]) -> Float[Array, "*n h w"]:
    return _round_down(image)


@_luma.defjvp
def _luma_jvp(primals, tangents):
    return _luma(*primals), _weigh(tangents[0]) / 32768
