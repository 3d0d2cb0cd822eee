"""What NVIDIA GPUs compute in fewer operations, run on the CPU and compared with the CPU's own.

In float64, where the two ways differ by rounding alone, so that tolerances can be tight.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxface.fit import (
    PDM,
    CCNFExperts,
    ResponseFrame,
    ScaleConfig,
    align_to_reference,
    fit_pdm_to_landmarks,
    nu_rlms,
    response_maps,
    shape_2d,
    update_parameters,
)
from jaxface.fit.solvers import full_step, lay_out_modes, mean_shift
from jaxface.ops import as_on_cuda, solve_bordered, solve_spd
from jaxface.types import PDMParameters

from .precision import METAL_JAX, double_precision

pytestmark = pytest.mark.skipif(METAL_JAX, reason="JAX 0.5 and older computes as CPUs everywhere")

_SAME = 1e-9  # relative to the largest entry; float64, condition numbers up to 1e5
_SINGLE = 2e-5  # of the largest entry; float32, condition number up to 100
_SCALED = 1e-4  # relative per entry, after the scaling is undone; condition number 1e10
_DERIVATIVE = 1e-6  # of the largest entry; float64, central differences of step 1e-6
_CLOSED = 1e-5  # relative; float32 sums of some 20 squares
_POINTS, _MODES, _WINDOW = 20, 6, 7
_CONFIG = ScaleConfig(window=_WINDOW, sigma=1.5, regularisation=5.0, weight_factor=0, iterations=4)


def _on_cuda(function: Callable, *arguments: Any) -> Any:
    with as_on_cuda():
        return jax.jit(lambda *a: function(*a))(*arguments)


def _assert_same(function: Callable, *arguments: Any) -> None:
    """Both ways, in float64."""
    arguments = jax.tree.map(jnp.asarray, arguments)
    found = _on_cuda(function, *arguments)
    expected = jax.jit(lambda *a: function(*a))(*arguments)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == np.float64 and bool(jnp.all(jnp.isfinite(b)))
        assert float(jnp.max(jnp.abs(a - b))) <= _SAME * max(float(jnp.max(jnp.abs(b))), 1)


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    with double_precision():
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _pdm(rng: np.random.Generator) -> PDM:
    return PDM(
        mean_shape=jnp.asarray(rng.normal(size=(_POINTS, 3)) * 30),
        components=jnp.asarray(rng.normal(size=(_MODES, _POINTS, 3)) * 0.3),
        eigenvalues=jnp.asarray(np.geomspace(50, 2, _MODES)),
    )


def _parameters(rng: np.random.Generator) -> PDMParameters:
    return PDMParameters(
        scale=jnp.asarray(np.asarray(1.3)),
        rotation=jnp.asarray(rng.normal(size=3) * 0.3),
        translation=jnp.asarray(np.array([200.0, 150.0])),
        local=jnp.asarray(rng.normal(size=_MODES) * 3),
    )


def _frame(pdm: PDM, parameters: PDMParameters, rng: np.random.Generator) -> ResponseFrame:
    turn = np.array([[0.4, 0.1], [-0.1, 0.4]])
    return ResponseFrame(
        responses=jnp.asarray(rng.uniform(size=(_POINTS, _WINDOW, _WINDOW)) ** 4),
        landmarks=shape_2d(pdm, parameters),
        to_reference=jnp.asarray(turn),
        to_image=jnp.asarray(np.linalg.inv(turn)),
        visible=jnp.asarray(np.arange(_POINTS) != 3),
        confidence=jnp.asarray(np.ones(_POINTS)),
    )


def test_mean_shift(rng):
    maps = rng.uniform(size=(_POINTS, _WINDOW, _WINDOW))
    maps[1] = 0  # nowhere to go
    positions = rng.uniform(-2, _WINDOW + 2, (_POINTS, 2))
    for smooth in (False, True):
        _assert_same(lambda m, p, s=smooth: mean_shift(m, p, 1.5, smooth=s), maps, positions)


def test_full_steps(rng):
    pdm, parameters = _pdm(rng), _parameters(rng)
    weights = rng.uniform(0.5, 2, _POINTS) * (np.arange(_POINTS) != 5)
    residual, prior = rng.normal(size=(2, _POINTS)), 3 / pdm.eigenvalues

    def step(pdm, weights, parameters, residual, prior):
        modes = lay_out_modes(pdm, weights)
        shape = modes.shape(parameters.local)
        return full_step(modes, shape, parameters, residual, prior)

    _assert_same(step, pdm, weights, parameters, residual, prior)


@pytest.mark.parametrize("size", (1e-3, 0.3, 2.0))
def test_updates(rng, size):
    _assert_same(update_parameters, _parameters(rng), rng.normal(size=6 + _MODES) * size)


def test_updates_of_values_that_are_not_finite(rng):
    """The angles are then 0, as on CPUs."""
    delta = np.full(6 + _MODES, np.nan, np.float32)
    parameters = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), _parameters(rng))
    assert not np.any(_on_cuda(update_parameters, parameters, delta).rotation)


@pytest.mark.parametrize("rigid", (False, True))
def test_passes(rng, rigid):
    pdm, parameters = _pdm(rng), _parameters(rng)

    def run(pdm, frame, parameters):
        return nu_rlms(pdm, frame, parameters, config=_CONFIG, rigid=rigid)

    _assert_same(run, pdm, _frame(pdm, parameters, rng), parameters)


@pytest.mark.parametrize("converge", (False, True))
def test_refits(rng, converge):
    pdm = _pdm(rng)
    landmarks = np.array(shape_2d(pdm, _parameters(rng))) + rng.normal(size=(_POINTS, 2))
    landmarks[4] = 0  # not present
    _assert_same(lambda p, x: fit_pdm_to_landmarks(p, x, converge=converge), pdm, landmarks)


def test_response_maps(rng):
    experts = CCNFExperts(
        scale=1.0,
        component_windows=(),
        centres=jnp.asarray(np.zeros((1, 3))),
        visible=jnp.asarray(np.arange(_POINTS)[None] != 2),
        weights=jnp.asarray(rng.normal(size=(1, _POINTS, 2, 11, 11))),
        bias=jnp.asarray(rng.normal(size=(1, _POINTS, 2))),
        alpha=jnp.asarray(rng.uniform(0.5, 1, (1, _POINTS, 2))),
        beta=jnp.asarray(np.zeros((1, _POINTS, 0))),
        confidence=jnp.asarray(np.ones((1, _POINTS))),
    )
    areas = rng.uniform(0, 255, (_POINTS, _WINDOW + 10, _WINDOW + 10))
    _assert_same(lambda e, a: response_maps(e, a, jnp.asarray(0)), experts, areas)


def test_similarities_of_fits(rng):
    pdm, parameters = (
        jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)
        for tree in (_pdm(rng), _parameters(rng))
    )
    landmarks = shape_2d(pdm, parameters) + rng.normal(size=(_POINTS, 2)).astype(np.float32)

    def align(pdm, parameters, landmarks, fitted=True):
        return align_to_reference(pdm, parameters, landmarks, 0.5, fitted=fitted)

    arguments = pdm, parameters, landmarks
    exact = jax.jit(align, static_argnums=3)(*arguments, False)
    for a, b in zip(_on_cuda(align, *arguments), exact, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=_CLOSED * float(jnp.max(jnp.abs(b))))
    for a, b in zip(jax.jit(align)(*arguments), exact, strict=True):
        np.testing.assert_array_equal(a, b)  # on CPUs to the last bit


def test_derivatives_are_those_of_the_cpu(rng):
    pdm, parameters = _pdm(rng), _parameters(rng)
    frame, config = _frame(pdm, parameters, rng), dataclasses.replace(_CONFIG, smooth=True)

    def total(parameters):
        return jnp.sum(nu_rlms(pdm, frame, parameters, config=config, rigid=False)[0].local)

    found, expected = _on_cuda(jax.grad(total), parameters), jax.jit(jax.grad(total))(parameters)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=_SAME, atol=_SAME)


# Solves by the library


def _spd(rng: np.random.Generator, size: int) -> np.ndarray:
    """Symmetric with eigenvalues from 1 to 100."""
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    return basis * np.geomspace(1, 100, size) @ basis.T


@pytest.mark.parametrize("size", (6, 40))
def test_solves_match_float64_and_elimination(rng, size):
    a, b = _spd(rng, size).astype(np.float32), rng.normal(size=size).astype(np.float32)
    expected = np.linalg.solve(a.astype(np.float64), b.astype(np.float64))
    for found in (_on_cuda(solve_spd, a, b), jax.jit(solve_spd)(a, b)):
        assert np.abs(np.asarray(found) - expected).max() <= _SINGLE * np.abs(expected).max()


def test_tables(rng):
    """On CPUs and GPUs; what lies above the diagonal and in the corner does not count."""
    a, b = _spd(rng, 7), rng.normal(size=7)
    table = np.tril(np.block([[a, b[:, None]], [b[None], np.full((1, 1), np.nan)]]))
    table = table.astype(np.float32) + np.triu(np.full((8, 8), 5, np.float32), 1)
    expected = np.linalg.solve(a, b)
    for found in (_on_cuda(solve_bordered, table), jax.jit(solve_bordered)(table)):
        assert np.abs(np.asarray(found) - expected).max() <= _SINGLE * np.abs(expected).max()


def test_solves_of_badly_scaled_matrices(rng):
    scaling = rng.permutation(np.geomspace(0.01, 1000, 40))
    a = (_spd(rng, 40) * scaling * scaling[:, None]).astype(np.float32)
    b = (scaling * rng.normal(size=40)).astype(np.float32)
    expected = np.linalg.solve(a.astype(np.float64), b.astype(np.float64)) * scaling
    found = np.asarray(_on_cuda(solve_spd, a, b)) * scaling
    assert np.abs(found - expected).max() <= _SCALED * np.abs(expected).max()


@pytest.mark.parametrize("pivot", (0.0, -5.0, 2.0**-24, np.nan))
def test_a_bad_pivot_gives_no_step(pivot):
    matrices = np.stack([np.diag(np.where(np.arange(6) == i, pivot, 1)) for i in range(6)])
    batch = matrices.astype(np.float32), np.ones((6, 6), np.float32)
    assert not np.any(_on_cuda(jax.vmap(solve_spd), *batch))


def test_a_small_pivot_gives_a_step():
    a = np.diag([1, 2.0**-22, 1, 1]).astype(np.float32)
    found = _on_cuda(solve_spd, a, np.ones(4, np.float32))
    np.testing.assert_allclose(found, [1, 2.0**22, 1, 1], rtol=1e-6)


def test_solves_have_derivatives(rng):
    a, da = _spd(rng, 6), rng.normal(size=(6, 6))
    da = da + da.T
    b, db, weight = rng.normal(size=(3, 6))
    step = 1e-6
    ends = [np.linalg.solve(a + t * da, b + t * db) for t in (step, -step)]
    expected = (ends[0] - ends[1]) / (2 * step)

    def both(a, b, da, db):
        pull = jax.vjp(solve_spd, a, b)[1]
        return jax.jvp(solve_spd, (a, b), (da, db))[1], pull(jnp.asarray(weight))

    moved, (by_a, by_b) = _on_cuda(both, *(jnp.asarray(x) for x in (a, b, da, db)))
    assert np.abs(np.asarray(moved) - expected).max() < _DERIVATIVE * np.abs(expected).max()
    reverse = np.sum(np.asarray(by_a) * da) + np.asarray(by_b) @ db
    np.testing.assert_allclose(reverse, weight @ expected, rtol=_DERIVATIVE)


def test_only_nvidia_gpus_call_the_library():
    a, b = np.eye(6, dtype=np.float32), np.ones(6, np.float32)
    assert "potrf" not in jax.jit(solve_spd).lower(a, b).as_text()
    with as_on_cuda():
        assert "potrf" in jax.jit(solve_spd).lower(a, b).as_text()
    assert "potrf" not in jax.jit(solve_spd).lower(a, b).as_text()
