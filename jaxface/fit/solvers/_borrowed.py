"""Optimisers of other packages as solvers: BFGS of optimistix, Adam of optax.

They are the extra `jaxface[solvers]`, and loaded when a fit with them is traced.
"""

import contextlib
import dataclasses
import importlib
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ...ops import select
from ...types import PDMParameters
from .._pdm import PDM, clamp_local
from ._base import ResponseFrame, ScaleConfig
from ._objective import (
    fit_objective,
    flatten_parameters,
    landmark_weights,
    parameter_units,
    unflatten_parameters,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BFGS:
    """BFGS of optimistix on `fit_objective`, as a `Solver`; needs `jaxface[solvers]`.

    Works in the units of `parameter_units`. A face that has converged is frozen. The derivative of
    the result is that of the steps that were taken, unrolled.
    """

    steps: int = 25  # evaluations, those that are not taken among them
    tolerance: float = 1e-4  # px, and relative to the objective

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        if not self.tolerance > 0:
            raise ValueError(f"tolerance: expected a positive number, got {self.tolerance}")

    def __call__(
        self, pdm: PDM, frame: ResponseFrame, parameters: PDMParameters, settings: ScaleConfig, /
    ) -> PDMParameters:
        optimistix = _load("optimistix")
        solver = optimistix.BFGS(rtol=self.tolerance, atol=self.tolerance)
        # The curvature of the objective is about 1 in these units: BFGS starts from that.
        count = jnp.sqrt(jnp.maximum(jnp.sum(landmark_weights(frame, settings)), 1))
        units = parameter_units(pdm, parameters) / count
        first = fit_objective(pdm, frame, parameters, config=settings)

        def objective(moved: Float[Array, " k"], _: None) -> tuple[Float[Array, ""], None]:
            values = flatten_parameters(parameters) + moved * units
            found = unflatten_parameters(values)
            # Without its large constant: the tolerance is relative.
            return fit_objective(pdm, frame, found, config=settings) - first, None

        start = jnp.zeros_like(units)
        value = jax.ShapeDtypeStruct(first.shape, first.dtype)
        with _as_usual():
            state = solver.init(objective, start, None, {}, value, None, frozenset())
        arrays, static = eqx.partition(state, eqx.is_array)

        def step(carry: Any, _: None) -> tuple[Any, None]:
            moved, arrays, done = carry
            state = eqx.combine(arrays, static)
            after, state, _ = solver.step(objective, moved, None, {}, state, frozenset())
            ended, _ = solver.terminate(objective, after, None, {}, state, frozenset())
            changed = eqx.partition(state, eqx.is_array)[0]
            usable = jnp.all(jnp.isfinite(after))
            kept = select(done | ~usable, (moved, arrays), (after, changed))
            return (*kept, done | ended | ~usable), None

        carry = (start, arrays, jnp.zeros((), bool))
        with _as_usual():
            (moved, _, _), _ = lax.scan(step, carry, None, length=self.steps)
        found = unflatten_parameters(flatten_parameters(parameters) + moved * units)
        return clamp_local(pdm, found)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam of optax on `fit_objective`, as a `Solver`; needs `jaxface[solvers]`.

    Works in the units of `parameter_units`; the rate falls to 0 as a cosine. Coefficients are kept
    within their limits after each step. The derivative of the result is that of the steps,
    unrolled.
    """

    steps: int = 40
    rate: float = 0.5  # px a step, at first

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        if not self.rate > 0:
            raise ValueError(f"rate: expected a positive number of px, got {self.rate}")

    def __call__(
        self, pdm: PDM, frame: ResponseFrame, parameters: PDMParameters, settings: ScaleConfig, /
    ) -> PDMParameters:
        optax = _load("optax")
        rates = optax.cosine_decay_schedule(self.rate, self.steps)
        # Roots of squares that are 0 have no derivative: those inside are kept from 0.
        optimiser = optax.adam(rates, eps=0.0, eps_root=1e-8)
        units = parameter_units(pdm, parameters)

        def slope(values: Float[Array, " k"]) -> Float[Array, " k"]:
            def objective(values: Float[Array, " k"]) -> Float[Array, ""]:
                found = unflatten_parameters(values, units)
                return fit_objective(pdm, frame, found, config=settings)

            return jax.grad(objective)(values)

        def step(carry: Any, _: None) -> tuple[Any, None]:
            values, state = carry
            change, state = optimiser.update(slope(values), state)
            after = clamp_local(pdm, unflatten_parameters(values + change, units))
            return (flatten_parameters(after, units), state), None

        start = flatten_parameters(parameters, units)
        carry = (start, optimiser.init(start))
        with _as_usual():
            (values, _), _ = lax.scan(step, carry, None, length=self.steps)
        return unflatten_parameters(values, units)


@contextlib.contextmanager
def _as_usual() -> Iterator[None]:
    """Lets JAX promote types and ranks, as these packages expect, whatever a caller forbids."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")


def _load(name: str) -> Any:
    """A package of the extra `solvers`.

    Raises:
        ImportError: it is absent or does not suit this JAX; the text names the extra.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"solver: expected the package {name}, which cannot be loaded ({error}): "
            "install it with `pip install 'jaxface[solvers]'`, or choose another solver"
        ) from error
