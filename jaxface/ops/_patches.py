"""Sliding windows."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def extract_patches(images: Float[Array, "n h w"], side: int) -> Float[Array, "n s2 p q"]:
    """All square windows of each image; pixel order is column-major (column * side + row).

    Args:
        images: any channels.
        side: of the windows, px; the output has h - side + 1 rows and w - side + 1 columns.
    """
    count, height, width = images.shape
    rows, columns = height - side + 1, width - side + 1
    # Two rounds of slices: one round of side**2 compiles to a kernel ten times slower on CPUs.
    across = jnp.stack([images[:, :, i : i + columns] for i in range(side)], axis=1)
    patches = jnp.stack([across[:, :, i : i + rows] for i in range(side)], axis=2)
    return patches.reshape(count, side * side, rows, columns)
