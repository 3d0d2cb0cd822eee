"""Float64 for a few numbers in the middle of float32: where OpenFace rounds once, at the end.

JAX drops float64 unless it is told to keep it. Here it is told so while one function is traced,
for that thread alone; what comes out is float32 again, and JAX's configuration stays the user's.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ._platform import lanes_first

# Older JAX lowers the constants of such a function in float32.
_LOWERS_FLOAT64 = jax.__version_info__ >= (0, 7, 2)
_has_float64 = _LOWERS_FLOAT64


@contextlib.contextmanager
def as_without_float64() -> Iterator[None]:
    """What is traced inside computes in pairs, as on Metal: to test that branch.

    JAX's caches are cleared at both ends, as they know nothing of it. Compiled programs stay.
    """
    global _has_float64
    before, _has_float64 = _has_float64, False
    jax.clear_caches()
    try:
        yield
    finally:
        _has_float64 = before
        jax.clear_caches()


def in_float64(exact: Callable, pairs: Callable, *arguments: Float[Array, "..."]) -> Any:
    """`exact(*arguments)` on CPUs and NVIDIA GPUs, else, and with JAX below 0.7.2, `pairs`.

    Args:
        exact: computes in float64, between `widen` and `narrow`; it closes over no traced array.
        pairs: the same in pairs of float32 (`ops.double`), in four times the operations.
        arguments: floating-point arrays; where they are float64 already, `pairs` takes them.
    """
    if not _has_float64 or any(a.dtype != np.float32 for a in arguments):
        return pairs(*arguments)

    def widened(*arguments: Array) -> Any:
        with _keep_float64():
            return exact(*arguments)

    return lanes_first(lax.platform_dependent(*arguments, cpu=widened, cuda=widened, default=pairs))


def widen(values: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The same in float64; inside `in_float64` only."""
    return lax.convert_element_type(values, np.float64)


def narrow(values: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Rounded to float32."""
    return lax.convert_element_type(values, np.float32)


def _keep_float64() -> contextlib.AbstractContextManager:
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # pyright: ignore[reportAttributeAccessIssue]

    return enable_x64(True)
