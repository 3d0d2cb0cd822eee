"""Float64 inside a test, where differences have to be compared with derivatives."""

from contextlib import AbstractContextManager

import jax


def double_precision() -> AbstractContextManager:
    """Context in which JAX keeps float64; JAX moved it between 0.4 and 0.8."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # pyright: ignore[reportAttributeAccessIssue]

    return enable_x64()
