"""Solvers by one argument: under every transformation, in rounds, in clips, in model files."""

import dataclasses
import functools
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxface
from jaxface import Config, FitConfig, Model, PDMParameters
from jaxface.fit import (
    BFGS,
    PDM,
    Adam,
    GaussNewton,
    Implicit,
    LandmarkModel,
    LevenbergMarquardt,
    Part,
    PartConfig,
    Phase,
    ResponseFrame,
    ScaleConfig,
    empty_fit,
    fit_objective,
    flatten_parameters,
    parameter_units,
    parameters_from_box,
    refine_fit,
    shape_2d,
    unflatten_parameters,
)
from jaxface.fit.solvers import find_solver, solve_scale

from .precision import METAL_JAX, double_precision
from .smooth_maps import SETTINGS, Case, make_case
from .toy_face import draw_face, toy_model, true_points, with_solver

_THOROUGH = LevenbergMarquardt(pose_steps=3, steps=60, still=0.0)  # a slope of 1e-12 px is left
_OWN = ("nu_rlms", "gauss_newton", "levenberg_marquardt")
_NEEDS = {"bfgs": "optimistix", "adam": "optax"}  # and JAX 0.4.38
_DERIVATIVE = 1e-5  # relative; float64, differences over 1e-5 of what moves by some tenths of a px
_SAME = 1e-9  # px; float64, other orders of sums
# Share of the way down that is left, and the slope, px, of 20 at the start: at most twice what was
# measured. One direction is 100 times as flat as most.
_LEFT = {
    "nu_rlms": (0.005, 0.42),
    "gauss_newton": (0.0005, 0.06),
    "levenberg_marquardt": (0.0, 0.04),
    "bfgs": (0.0026, 0.37),
    "adam": (0.03, 0.45),
}
_FOUND = 0.1  # px; as in test_extending
_STILL = 1e-3  # px; float32 of places up to 100 px
_RIGHT = np.array([1.0, 0.0], np.float32)  # px
_ROUNDS = 1e-3  # px; float32, two programs of one computation


def _solvers() -> list:
    """All names, those of absent packages skipped by name."""
    marked = [pytest.param(name, id=name) for name in _OWN]
    for name, package in _NEEDS.items():
        absent = METAL_JAX or importlib.util.find_spec(package) is None
        skip = pytest.mark.skipif(absent, reason=f"{name} needs {package} and JAX 0.4.38 or later")
        marked.append(pytest.param(name, id=name, marks=skip))
    return marked


every_solver = pytest.mark.parametrize("name", _solvers())


def _landmarks(solver, pdm, frame, start):
    found = solve_scale(find_solver(solver), pdm, frame, start, SETTINGS)
    return shape_2d(pdm, found.parameters)


def _ways(case: Case, rng: np.random.Generator) -> dict[str, tuple]:
    """Directions in the shape model, the maps and the start, by name."""
    pdm, frame, start = case.parts
    still = jax.tree.map(jnp.zeros_like, (pdm, frame.responses, start))
    brighter = frame.responses * jnp.asarray(rng.normal(size=frame.responses.shape))
    moved = jax.tree.map(lambda leaf: 0.1 * jnp.asarray(rng.normal(size=leaf.shape)), start)
    moved = eqx.tree_at(lambda p: (p.rotation, p.scale), moved, replace_fn=lambda x: 0.1 * x)
    longer = jnp.asarray(rng.normal(size=pdm.mean_shape.shape))
    shape = eqx.tree_at(lambda p: p.mean_shape, still[0], longer)
    return {
        "maps": (still[0], brighter, still[2]),
        "start": (still[0], still[1], moved),
        "shape": (shape, still[1], still[2]),
    }


@functools.cache
def _along(solver) -> Callable:
    """A program: landmarks at a step along a direction, and their derivative by the step."""

    @jax.jit
    def run(step, way, pdm, frame, start):
        def moved(step):
            point = jax.tree.map(lambda a, d: a + step * d, (pdm, frame.responses, start), way)
            there = eqx.tree_at(lambda f: f.responses, frame, point[1])
            return _landmarks(solver, point[0], there, point[2])

        return jax.jvp(moved, (step,), (jnp.ones_like(step),))

    return run


def _differences(run: Callable, *args, step: float = 1e-5) -> np.ndarray:
    ends = [np.asarray(run(jnp.float64(side * step), *args)[0]) for side in (1, -1)]
    return (ends[0] - ends[1]) / (2 * step)


@every_solver
def test_derivatives_match_differences(name: str):
    """Of the steps that a solver takes, by maps, start and shape."""
    with double_precision():
        case = make_case()
        run = _along(name)
        for kind, way in _ways(case, np.random.default_rng(0)).items():
            _, slope = run(jnp.float64(0), way, *case.parts)
            assert np.isfinite(slope).all(), kind
            if name == "nu_rlms":
                continue  # rounds its kernel; tested with the derivatives of the fit
            expected = _differences(run, way, *case.parts)
            # One that ends at the minimum has forgotten where it started.
            bound = _DERIVATIVE * max(np.abs(expected).max(), 0.1)
            np.testing.assert_allclose(slope, expected, rtol=0, atol=bound, err_msg=kind)


@every_solver
def test_vmap_of_gradients(name: str):
    """Two faces at once end where each ends alone, and reverse mode agrees with forward mode."""
    with double_precision():
        cases = [make_case(seed) for seed in (0, 1)]
        both = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(case.parts for case in cases))
        weight = jnp.asarray(np.random.default_rng(2).normal(size=cases[0].frame.landmarks.shape))

        @jax.jit
        @jax.vmap
        def several(pdm, frame, start):
            def value(responses):
                there = eqx.tree_at(lambda f: f.responses, frame, responses)
                points = _landmarks(name, pdm, there, start)
                return jnp.sum(weight * points), points

            return jax.grad(value, has_aux=True)(frame.responses)

        gradients, points = several(*both)
        for i, case in enumerate(cases):
            way = _ways(case, np.random.default_rng(0))["maps"]
            alone, slope = _along(name)(jnp.float64(0), way, *case.parts)
            np.testing.assert_allclose(points[i], alone, rtol=0, atol=_SAME)
            forward, backward = np.sum(weight * slope), np.sum(gradients[i] * way[1])
            assert abs(forward) > 0.01
            np.testing.assert_allclose(backward, forward, rtol=_DERIVATIVE)


@functools.cache
def _reached(name: str) -> tuple[float, float, float]:
    """Objective at the start, at the end, and the slope that is left there, px."""
    case = make_case(dtype=np.float32)
    units = parameter_units(case.pdm, case.start)

    @jax.jit
    def run(pdm, frame, start):
        found = solve_scale(find_solver(name), pdm, frame, start, SETTINGS).parameters

        def value(row):
            return fit_objective(pdm, frame, unflatten_parameters(row, units), config=SETTINGS)

        ends = [flatten_parameters(p, units) for p in (start, found)]
        return value(ends[0]), value(ends[1]), jnp.linalg.norm(jax.grad(value)(ends[1]))

    first, last, slope = map(float, run(*case.parts))
    return first, last, slope


@every_solver
def test_solvers_go_down_the_objective(name: str):
    """All to one minimum."""
    first, last, slope = _reached(name)
    best = _reached("levenberg_marquardt")[1]
    assert first - best > 10
    share, flat = _LEFT[name]
    assert last <= best + share * (first - best) and slope < flat


@every_solver
def test_nothing_to_see(name: str):
    """Empty maps and a face without visible landmarks: finite, and where it started."""
    case = make_case(dtype=np.float32)
    run = jax.jit(functools.partial(_landmarks, name))
    empty = eqx.tree_at(lambda f: f.responses, case.frame, replace_fn=jnp.zeros_like)
    hidden = eqx.tree_at(lambda f: f.visible, case.frame, replace_fn=jnp.zeros_like)
    start = eqx.tree_at(lambda p: p.local, case.start, jnp.zeros_like(case.start.local))
    for frame in (empty, hidden):
        found = run(case.pdm, frame, start)
        np.testing.assert_allclose(found, shape_2d(case.pdm, start), rtol=0, atol=_STILL)


# Implicit differentiation


@functools.cache
def _implicit() -> Callable:
    return _along(Implicit(solver=_THOROUGH))


@pytest.mark.parametrize("kind", ["maps", "shape"])
def test_implicit_derivatives(kind: str):
    """Those of the converged steps, unrolled, and differences."""
    with double_precision():
        case = make_case()
        way = _ways(case, np.random.default_rng(0))[kind]
        points, found = _implicit()(jnp.float64(0), way, *case.parts)
        same, expected = _along(_THOROUGH)(jnp.float64(0), way, *case.parts)
        np.testing.assert_allclose(points, same, rtol=0, atol=_SAME)
        bound = _DERIVATIVE * np.abs(expected).max()
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(found, expected, rtol=0, atol=bound)
        differences = _differences(_implicit(), way, *case.parts)
        np.testing.assert_allclose(found, differences, rtol=0, atol=bound)


def test_implicit_derivatives_forget_the_start():
    with double_precision():
        case = make_case()
        way = _ways(case, np.random.default_rng(0))["start"]
        _, found = _implicit()(jnp.float64(0), way, *case.parts)
        assert not np.any(found)


def test_implicit_derivatives_at_a_limit_and_at_no_minimum():
    """A coefficient at its limit stays; maps with two peaks give a finite derivative."""
    with double_precision():
        case = make_case()
        way = _ways(case, np.random.default_rng(0))["maps"]
        tight = eqx.tree_at(lambda p: p.eigenvalues, case.pdm, case.pdm.eigenvalues * 1e-4)
        points, slope = _implicit()(jnp.float64(0), way, tight, *case.parts[1:])
        assert np.isfinite(slope).all() and np.abs(slope).max() > 0.01
        expected = _differences(_implicit(), way, tight, *case.parts[1:])
        np.testing.assert_allclose(slope, expected, rtol=0, atol=_DERIVATIVE * abs(expected).max())
        assert not np.allclose(points, _implicit()(jnp.float64(0), way, *case.parts)[0])
        peaks = jnp.zeros_like(case.frame.responses).at[:, 5, ::10].set(1.0)
        frame = eqx.tree_at(lambda f: f.responses, case.frame, peaks)
        _, slope = _implicit()(jnp.float64(0), way, case.pdm, frame, case.start)
        assert np.isfinite(slope).all()


@pytest.mark.untyped
def test_implicit_takes_a_function():
    with pytest.raises(TypeError, match="solver: expected a function .* got 'nu_rlms'"):
        Implicit(solver="nu_rlms")  # pyright: ignore[reportArgumentType]


# Rounds


def drift(
    pdm: PDM, frame: ResponseFrame, parameters: PDMParameters, settings: ScaleConfig
) -> PDMParameters:
    """A solver that moves the face 1 px to the right, whatever it sees."""
    return eqx.tree_at(lambda p: p.translation, parameters, parameters.translation + _RIGHT)


@pytest.fixture(scope="module")
def gray() -> jax.Array:
    return jaxface.to_gray(jnp.asarray(draw_face(true_points(0))))


def _fit_scale(model: Model, gray: jax.Array, start: PDMParameters, config: FitConfig):
    fit = dataclasses.replace(empty_fit(model.clnf), parameters=start)
    how = {"size": jnp.asarray(gray.shape, jnp.int32), "phase": Phase.INIT}
    return refine_fit(model.clnf, gray, fit, config=config, phases=(Phase.INIT,), **how)


def test_rounds_repeat_a_scale(gray: jax.Array):
    """Two rounds at the one scale there is are two fits, the second from the first's result."""
    model = toy_model()
    points = true_points(0)
    box = jnp.asarray([*points.min(axis=0) + 6, *points.max(axis=0) + 9], jnp.float32)
    start = parameters_from_box(model.clnf.main.pdm, box, jnp.zeros(3))
    once = dataclasses.replace(model.clnf.config, windows_init=(0, 11))
    twice = dataclasses.replace(once, rounds=2)
    run = jax.jit(_fit_scale, static_argnums=3)
    first = run(model, gray, start, once)
    expected = run(model, gray, first.parameters, once)
    found = run(model, gray, start, twice)
    assert np.abs(expected.landmarks - first.landmarks).max() > 0.05
    np.testing.assert_allclose(found.landmarks, expected.landmarks, rtol=0, atol=_ROUNDS)
    np.testing.assert_allclose(found.likelihood, expected.likelihood, rtol=0, atol=_ROUNDS)


@pytest.mark.parametrize("rounds", [1, 3])
def test_rounds_of_the_parts(gray: jax.Array, rounds: int):
    """Main model and part are moved once in each of their scales and rounds."""
    model = toy_model()
    part = Part(
        name="dots",
        config=PartConfig(windows=(7, 5), sigma=1.0, regularisation=1.0, weight_factor=0.0),
        main_points=(0, 1, 2),
        part_points=(0, 1, 2),
        model=LandmarkModel(model.clnf.main.pdm, model.clnf.main.experts),
    )
    clnf = dataclasses.replace(model.clnf, parts=(part,))
    config = dataclasses.replace(clnf.config, solver=drift, rounds=rounds)
    points = true_points(0)
    box = jnp.asarray([*points.min(axis=0), *points.max(axis=0)], jnp.float32)
    fit = jax.jit(jaxface.fit_landmarks, static_argnames="config")(clnf, gray, box, config=config)
    start = shape_2d(clnf.main.pdm, parameters_from_box(clnf.main.pdm, box, jnp.zeros(3)))
    moved = fit.parts[0].landmarks[:3] - start[:3]
    # Two scales of the main model, then two of the part from where that ended.
    np.testing.assert_allclose(moved, [[4.0 * rounds, 0]] * 3, rtol=0, atol=0.05)


# In clips


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_clip_takes_solver_and_rounds_from_its_settings(rounds: int):
    """`analyze_video(config=...)`: the face drifts with each frame, once a scale and round."""
    frames = [draw_face(true_points(0))] * 4
    fit = dataclasses.replace(toy_model().clnf.config, solver=drift, rounds=rounds)
    found = jaxface.analyze_video(toy_model(), frames, fps=10, config=Config(fit=fit))
    steps = np.diff(found.landmarks[:, 0, 0])
    np.testing.assert_allclose(steps, 2.0 * rounds, rtol=0, atol=1e-3)


@every_solver
def test_clips_are_tracked(name: str):
    frames = [draw_face(true_points(index)) for index in range(5)]
    found = jaxface.analyze_video(with_solver(toy_model(), name), frames, fps=10)
    truth = np.stack([true_points(index) for index in range(5)])
    away = np.linalg.norm(found.landmarks - truth, axis=-1)
    assert found.success.all() and away.max() < _FOUND


# In model files and settings


def test_model_files_hold_solvers(tmp_path):
    """Names and the package's own solvers, and files that know no rounds."""
    model = jaxface.load_model()

    def store(name: str, solver) -> tuple[FitConfig, Path]:
        config = dataclasses.replace(model.clnf.config, solver=solver, rounds=2)
        clnf = dataclasses.replace(model.clnf, config=config)
        info = dataclasses.replace(model.info, name=name)
        stored = jaxface.save_model(dataclasses.replace(model, clnf=clnf, info=info), tmp_path)
        return config, stored.path

    config, path = store("named", "adam")
    for known, where in ((config, path), store("own", Implicit(solver=GaussNewton(steps=3)))):
        assert jaxface.load_model(where).clnf.config == known
    manifest = path.with_suffix(".json")
    known = json.loads(manifest.read_text())
    del known["structure"]["fields"]["clnf"]["fields"]["config"]["fields"]["rounds"]
    manifest.write_text(json.dumps(known))
    config = dataclasses.replace(config, rounds=1)
    assert jaxface.load_model(path).clnf.config == config


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FitConfig(rounds=0), "rounds: expected at least 1, got 0"),
        (lambda: GaussNewton(pose_steps=-1), "pose_steps: expected at least 0, got -1"),
        (lambda: LevenbergMarquardt(steps=0), "steps: expected at least 1, got 0"),
        (lambda: GaussNewton(floor=0.0), "floor: expected a curvature above 0, at most 1, got 0.0"),
        (lambda: LevenbergMarquardt(still=-1.0), "still: expected a distance of at least 0 px"),
        (lambda: LevenbergMarquardt(damping=0.0), "damping: expected a positive number, got 0.0"),
        (lambda: BFGS(tolerance=0.0), "tolerance: expected a positive number, got 0.0"),
        (lambda: BFGS(steps=0), "steps: expected at least 1, got 0"),
        (lambda: Adam(rate=0.0), "rate: expected a positive number of px, got 0.0"),
    ],
)
def test_settings_that_make_no_sense(make: Callable, message: str):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.untyped
@pytest.mark.parametrize(("name", "package"), _NEEDS.items())
def test_an_absent_package_names_the_extra(monkeypatch, name: str, package: str):
    monkeypatch.setitem(sys.modules, package, None)
    case = make_case(dtype=np.float32)
    with pytest.raises(ImportError, match=rf"package {package}.*jaxface\[solvers\]"):
        _landmarks(name, *case.parts)
