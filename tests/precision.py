"""What tests must know about the arithmetic that they run on, and float64 for some of them."""

import functools
from contextlib import AbstractContextManager

import jax
import numpy as np

from jaxface.ops import sequential_product


def double_precision() -> AbstractContextManager:
    """Context in which JAX keeps float64; JAX moved it between 0.4 and 0.8."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # pyright: ignore[reportAttributeAccessIssue]

    return enable_x64()


@functools.cache
def adds_in_sequence() -> bool:
    """Whether XLA adds the products of matrices in OpenFace's order, which it does not promise.

    Where it does not, boxes differ from OpenFace's in their last bit, and some still images follow.
    """
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=s).astype(np.float32) for s in ((441, 289), (289, 64)))
    sums = np.zeros((441, 64), np.float32)
    for column, row in zip(a.T.astype(np.float64), b.astype(np.float64), strict=True):
        sums = (column[:, None] * row + sums).astype(np.float32)
    return bool(np.mean(jax.jit(sequential_product)(a, b) == sums) > 0.999)


# The JAX that jax-metal 0.1.1 takes. On CPUs its compiler orders sums otherwise: last bits differ.
METAL_JAX = jax.__version_info__ <= (0, 5, 0)
