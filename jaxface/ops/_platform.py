"""Functions written twice: for CPUs, and for NVIDIA GPUs in as few operations as can be.

A GPU takes some microseconds for every operation, however small; the fit is a long row of small
ones. What runs fast on a CPU, sums written out over vectors of landmarks, small products that save
arithmetic, is many operations; what is few operations computes more.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

# Older JAX lowers all branches of `lax.platform_dependent` for every platform, Metal too, which
# compiles no decomposition even in a branch that is never run.
_LOWERS_ONE_BRANCH = jax.__version_info__ > (0, 5, 0)
_platforms = ("cuda",)


@contextlib.contextmanager
def as_on_cuda() -> Iterator[None]:
    """What is traced inside computes on CPUs as on NVIDIA GPUs: to test and to count that branch.

    JAX's caches are cleared at both ends, as they know nothing of it. Compiled programs stay.
    """
    global _platforms
    before, _platforms = _platforms, ("cuda", "cpu")
    jax.clear_caches()
    try:
        yield
    finally:
        _platforms = before
        jax.clear_caches()


def choose_by_platform(cuda: Callable, default: Callable, *arguments: Any) -> Any:
    """`cuda(*arguments)` on NVIDIA GPUs, else, and with JAX 0.5 and older, `default`.

    Args:
        cuda, default: equal up to rounding.
        arguments: pytrees of arrays.
    """
    if not _LOWERS_ONE_BRANCH:
        return default(*arguments)
    return lax.platform_dependent(*arguments, **dict.fromkeys(_platforms, cuda), default=default)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def few_on_cuda(cuda: Callable, default: Callable, *arguments: Any) -> Any:
    """`choose_by_platform`, with the derivative of `default` on all platforms.

    Args:
        cuda, default: equal up to rounding; they close over no traced array.
        arguments: pytrees of floating-point arrays.
    """
    return lanes_first(choose_by_platform(cuda, default, *arguments))


@few_on_cuda.defjvp
def _few_on_cuda_jvp(cuda, default, primals, tangents):
    return lanes_first(jax.jvp(default, primals, tangents))


def lanes_first(tree: Any) -> Any:
    """The same; mapped axes are the first ones.

    JAX takes results and those of the derivative's rule for mapped over the same axes, also where
    the mapped functions put them elsewhere: `vmap` of a linearised scan then mixes axes up.
    """
    return jax.tree.map(lambda x: jnp.squeeze(jnp.expand_dims(x, 0), 0), tree)
