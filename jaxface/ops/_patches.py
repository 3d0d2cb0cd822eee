"""Sliding windows, and how to keep XLA from computing their pixels many times over."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float


def materialise(values: Float[Array, "*n k"]) -> Float[Array, "*n k"]:
    """The same values, computed once and stored, by an exact product with the identity.

    XLA fuses a producer into the gather that consumes it and then computes each value once per
    patch that holds it; neither `optimization_barrier` nor a copy prevents that on CPUs.
    """
    identity = jnp.eye(values.shape[-1], dtype=values.dtype)
    return jnp.matmul(values, identity, precision=lax.Precision.HIGHEST)


def extract_patches(images: Float[Array, "n h w"], side: int) -> Float[Array, "n s2 p q"]:
    """All square windows of each image; pixel order is column-major (column * side + row).

    Args:
        images: any channels.
        side: of the windows, px; the output has h - side + 1 rows and w - side + 1 columns.
    """
    count, height, width = images.shape
    rows, columns = height - side + 1, width - side + 1
    corners = np.arange(rows)[:, None] * width + np.arange(columns)
    offsets = np.arange(side)[:, None] + np.arange(side) * width
    # One gather compiles five times faster than slices, and runs as fast on CPUs.
    taps = (offsets.reshape(-1, 1) + corners.reshape(-1)).astype(np.int32)
    patches = materialise(images).reshape(count, -1).at[:, taps].get(mode="promise_in_bounds")
    return patches.reshape(count, side * side, rows, columns)
