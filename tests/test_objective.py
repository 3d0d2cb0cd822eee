"""The objective of a fit: its slope, its symmetries, and where NU-RLMS stands still."""

import dataclasses
from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxface import PDMParameters
from jaxface.fit import (
    PDM,
    ResponseFrame,
    ScaleConfig,
    fit_objective,
    fit_residuals,
    flatten_parameters,
    log_likelihoods,
    map_positions,
    mean_log_likelihood,
    parameter_units,
    shape_2d,
    unflatten_parameters,
    update_parameters,
)
from jaxface.fit.solvers import full_step, lay_out_modes, project_rows
from jaxface.ops import euler_to_matrix, matrix_to_euler
from jaxface.reference.comparison.fit_inputs import (
    models_of,
    read_stage,
    to_config,
    to_frame,
    to_parameters,
)

from .precision import double_precision
from .smooth_maps import SETTINGS, Case, make_case

# Of values of some hundred px^2 in float64: central differences over 1e-5 leave 1e-10 of them in
# rounding and as much in curvature.
_SLOPE = 1e-7
_EXACT = 1e-9  # relative; float64 sums of some thousand terms
_STATIONARY = 1e-6  # px; 400 steps that each shrink what is left, measured 2e-9
_STEPS = 400
_WEIGHED = dataclasses.replace(SETTINGS, weight_factor=2.5)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with double_precision():
        yield


@pytest.fixture
def case() -> Case:
    return make_case()


def _objective(config: ScaleConfig):
    @jax.jit
    def value(values, pdm, frame):
        return fit_objective(pdm, frame, unflatten_parameters(values), config=config)

    return value


def _differences(function, values: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Central differences of a function of a row of numbers, one by one."""
    rows = step * np.eye(len(values))
    pairs = [(function(values + row), function(values - row)) for row in rows]
    return np.array([np.asarray(a) - np.asarray(b) for a, b in pairs]) / (2 * step)


@pytest.mark.parametrize("config", [SETTINGS, _WEIGHED])
@pytest.mark.parametrize("away", [0.0, 15.0])
def test_slope_matches_differences(case: Case, config: ScaleConfig, away: float):
    """Also 15 px off, where many landmarks lie outside their maps."""
    start = eqx.tree_at(lambda p: p.translation, case.start, case.start.translation + away)
    value, values = _objective(config), flatten_parameters(start)
    found = jax.jit(jax.grad(value))(values, case.pdm, case.frame)
    expected = _differences(lambda v: value(v, case.pdm, case.frame), np.asarray(values))
    assert np.abs(expected).max() > 10
    np.testing.assert_allclose(found, expected, rtol=0, atol=_SLOPE * np.abs(expected).max())
    positions = np.asarray(map_positions(case.frame, shape_2d(case.pdm, start)))
    outside = np.any((positions < 0) | (positions > config.window - 1), axis=1)
    assert outside.any() == (away > 0)


def test_likelihoods_are_those_of_the_kernel(case: Case):
    """Inside, as NU-RLMS takes them; far outside, as exact arithmetic gives them."""
    window, sigma = SETTINGS.window, SETTINGS.sigma
    count = case.frame.visible.shape[0]
    cells = np.arange(window)
    for place in (np.array([4.3, 5.8]), np.array([-40.0, 70.0]), np.array([12.5, 3.0])):
        positions = jnp.tile(jnp.asarray(place), (count, 1))
        found = log_likelihoods(case.frame, positions, sigma)
        x, y = (-0.5 * ((p - cells) / sigma) ** 2 for p in place)
        exponents = np.log(np.asarray(case.frame.responses)) + y[None, :, None] + x[None, None]
        most = exponents.max(axis=(1, 2), keepdims=True)
        expected = np.log(np.exp(exponents - most).sum(axis=(1, 2))) + most[:, 0, 0]
        np.testing.assert_allclose(found, expected, rtol=_EXACT)
    inside = jnp.full((count, 2), 4.5)
    mean = np.mean(np.asarray(log_likelihoods(case.frame, inside, sigma))[case.frame.visible])
    # There 1e-8 is added to likelihoods of some 0.1.
    assert abs(float(mean_log_likelihood(case.frame, inside, sigma)) - mean) < 1e-6


def test_maps_without_responses_do_not_pull(case: Case):
    """All of a map 0, and 0 wherever the kernel reaches."""
    empty = case.frame.responses.at[0].set(0).at[1].set(0).at[1, 0, 0].set(1.0)
    frame = eqx.tree_at(lambda f: f.responses, case.frame, empty)
    positions = jnp.full((frame.visible.shape[0], 2), 4.0).at[1].set(200.0)

    def total(positions):
        return jnp.sum(log_likelihoods(frame, positions, 0.05))

    value, slope = jax.value_and_grad(total)(positions)
    assert np.isfinite(value) and np.isfinite(slope).all()
    assert not slope[:2].any() and slope[2].any()
    each = log_likelihoods(frame, positions, 0.05)
    assert each[0] == 0 and each[1] < -700


@pytest.mark.parametrize("config", [SETTINGS, _WEIGHED])
def test_residuals_are_the_objective(case: Case, config: ScaleConfig):
    values = flatten_parameters(case.start)

    def residuals(values):
        return fit_residuals(case.pdm, case.frame, unflatten_parameters(values), config=config)

    value = _objective(config)
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.02, (3, len(values)))
    moved = [values, *(values[None] + noise * np.abs(values)[None])]
    gaps = [value(v, case.pdm, case.frame) - 0.5 * np.sum(residuals(v) ** 2) for v in moved]
    assert np.ptp([np.sum(residuals(v) ** 2) for v in moved]) > 1
    np.testing.assert_allclose(gaps, gaps[0], rtol=_EXACT)
    pulled = residuals(values) @ jax.jacfwd(residuals)(values)
    expected = jax.grad(value)(values, case.pdm, case.frame)
    np.testing.assert_allclose(pulled, expected, rtol=0, atol=_EXACT * np.abs(expected).max())
    hidden = ~np.asarray(case.frame.visible)
    assert hidden.any() and not np.asarray(residuals(values))[: len(hidden)][hidden].any()


def _turned(case: Case, grow: float, angle: float, move: np.ndarray) -> Case:
    """The same face and maps in a picture that is scaled, turned and moved."""
    turn = grow * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    back = np.linalg.inv(turn)
    start = case.start
    frame = dataclasses.replace(
        case.frame,
        landmarks=case.frame.landmarks @ turn.T + move[None],
        to_reference=case.frame.to_reference @ back,
        to_image=turn @ case.frame.to_image,
    )
    # Rotation z y x of a camera that is rolled: R -> Rz(angle) R, in Euler angles.
    roll = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]])
    roll = jnp.asarray([*roll, [0, 0, 1]])
    rotation = matrix_to_euler(roll @ euler_to_matrix(start.rotation))
    place = jnp.asarray(turn) @ start.translation + jnp.asarray(move)
    moved = PDMParameters(start.scale * grow, rotation, place, start.local)
    return Case(case.pdm, frame, moved)


def test_symmetries(case: Case):
    """Nothing changes with the picture's place and turn; px^2 scale with the picture."""
    free = dataclasses.replace(SETTINGS, regularisation=0.0)

    def value(case: Case, config: ScaleConfig = SETTINGS) -> float:
        return float(fit_objective(*case.parts, config=config))

    same = _turned(case, 1.0, 0.7, np.array([13.0, -40.0]))
    assert abs(value(same) - value(case)) < _EXACT * abs(value(case))
    larger = _turned(case, 2.0, 0.0, np.zeros(2))
    assert abs(value(larger, free) - 4 * value(case, free)) < _EXACT * abs(value(larger, free))
    brighter = eqx.tree_at(lambda f: f.responses, case.frame, replace_fn=lambda r: 3 * r)
    found = fit_residuals(case.pdm, brighter, case.start, config=SETTINGS)
    expected = fit_residuals(*case.parts, config=SETTINGS)
    np.testing.assert_allclose(found, expected, rtol=_EXACT)


def test_parameters_in_a_row(case: Case):
    units = parameter_units(case.pdm, case.start)
    for chosen in (None, units):
        row = flatten_parameters(case.start, chosen)
        again = unflatten_parameters(row, chosen)
        for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(case.start), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-14)
    # Each moves the landmarks by about as much, in space; what goes along the line of sight, as
    # most of a flat face's turning does, is not seen.
    moved = jax.jacfwd(lambda row: shape_2d(case.pdm, unflatten_parameters(row, units)))(row)
    lengths = np.sqrt(np.mean(np.sum(np.asarray(moved) ** 2, axis=1), axis=0))
    assert lengths.min() > 0.2 and lengths.max() < 1.2


def _exact_nu_rlms(pdm: PDM, frame: ResponseFrame, config: ScaleConfig):
    """NU-RLMS's step with a kernel that is not rounded: mean shift as Baltrusaitis defines it."""
    weights = frame.visible.astype(frame.landmarks.dtype)
    modes = lay_out_modes(pdm, weights)
    prior = config.regularisation / pdm.eigenvalues
    cells = jnp.arange(config.window, dtype=frame.landmarks.dtype)

    def step(_, parameters: PDMParameters) -> PDMParameters:
        shape = modes.shape(parameters.local)
        landmarks = project_rows(shape, parameters)
        at = map_positions(frame, landmarks.T)
        kernels = jnp.exp(-0.5 / config.sigma**2 * (at[..., None] - cells[None, None]) ** 2)
        joint = frame.responses * kernels[:, 1, :, None] * kernels[:, 0, None, :]
        total = joint.sum(axis=(1, 2))
        mean_x = (joint.sum(axis=1) * cells[None]).sum(axis=1) / total
        mean_y = (joint.sum(axis=2) * cells[None]).sum(axis=1) / total
        shift = (jnp.stack([mean_x, mean_y], axis=-1) - at) @ frame.to_image.T
        shift = jnp.where(frame.visible[:, None], shift, 0).T
        return update_parameters(parameters, full_step(modes, shape, parameters, shift, prior))

    return step


def _left_over(pdm, frame, config, start) -> tuple[float, float]:
    """Slope of the objective before and after many steps of NU-RLMS, px."""

    @jax.jit
    def run(pdm, frame, start):
        step = _exact_nu_rlms(pdm, frame, config)
        end = jax.lax.fori_loop(0, _STEPS, step, start)

        def slope(parameters):
            units = parameter_units(pdm, parameters)

            def value(row):
                return fit_objective(pdm, frame, unflatten_parameters(row, units), config=config)

            slope = jax.grad(value)(flatten_parameters(parameters, units))
            return jnp.linalg.norm(slope) / jnp.sum(frame.visible).astype(slope.dtype)

        return slope(start), slope(end)

    before, after = run(pdm, frame, start)
    return float(before), float(after)


def test_nu_rlms_stands_still_where_the_slope_is_0(case: Case):
    before, after = _left_over(case.pdm, case.frame, SETTINGS, case.start)
    assert before > 0.1 and after < _STATIONARY


def test_nu_rlms_stands_still_on_openface_maps(openface_model, golden_dir):
    """The finest scale of the main model on a turned face; no coefficient is at its limit."""
    stage = read_stage(golden_dir, "sample1")
    record = next(r for r in stage.scales() if r.model == "main" and r.index == 2)
    model = models_of(openface_model)["main"]
    single = model.pdm, to_frame(model, record), to_parameters(record.start)
    wide = jax.tree.map(
        lambda x: jnp.asarray(np.asarray(x, np.float64 if x.dtype == np.float32 else x.dtype)),
        single,
    )
    pdm, frame, start = wide
    before, after = _left_over(pdm, frame, to_config(record), start)
    assert before > 0.1 and after < _STATIONARY
