"""Grey conversion."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def to_gray(image: Float[Array, "h w 3"]) -> Float[Array, "h w"]:
    """OpenCV's 8-bit luma: integral values from integral ones.

    Args:
        image: RGB, 0 to 255.
    Reference:
        Specification 01, 0.4.
    """
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    # Every sum is below 2**24, so float32 holds it exactly.
    return jnp.floor((9798 * red + 19235 * green + 3735 * blue + 16384) / 32768)
