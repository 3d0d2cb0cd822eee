"""Every seam filled from outside the package: detector, experts, solver, landmark scheme, search.

The model is `toy_face.toy_model`: five dots, whose truth is known in every frame.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Bool, Int

import jaxface
from jaxface import FitConfig, Model, PDMParameters
from jaxface.fit import (
    PDM,
    OneRound,
    ResponseFrame,
    ScaleConfig,
    map_positions,
    parameters_from_box,
    shape_2d,
)
from jaxface.fit.search import AbstractSearch, SearchStart, SearchState

from .counted import cached_in
from .toy_face import SCHEME, draw_face, toy_model, true_points, with_solver

_FRAMES = 6
_FOUND = 0.1  # px; dots of 3 px radius, soft by one. Measured 0.03
_LEAST_SQUARES = 1.0  # px; peaks of maps are whole cells of up to 1.1 px. Measured 0.55


def follow_peaks(
    pdm: PDM, frame: ResponseFrame, parameters: PDMParameters, settings: ScaleConfig
) -> PDMParameters:
    """A solver: the size, tilt and place that are nearest to the peaks of the maps."""
    count, side = frame.responses.shape[:2]
    best = jnp.argmax(frame.responses.reshape(count, -1), axis=1)
    peaks = jnp.stack([best % side, best // side], axis=1).astype(frame.landmarks.dtype)
    now = shape_2d(pdm, parameters)
    shift = (peaks - map_positions(frame, now)) @ frame.to_image.T
    wanted, centre = now + shift, jnp.mean(now, axis=0)
    away, target = now - centre[None], wanted - jnp.mean(wanted, axis=0)[None]
    square = jnp.sum(away * away)
    a = jnp.sum(away * target) / square
    b = jnp.sum(away[:, 0] * target[:, 1] - away[:, 1] * target[:, 0]) / square
    grow = jnp.stack([a, -b, b, a]).reshape(2, 2)
    return PDMParameters(
        scale=parameters.scale * jnp.hypot(a, b),
        rotation=parameters.rotation.at[2].add(jnp.arctan2(b, a)),  # of a head that faces us
        translation=jnp.mean(wanted, axis=0) - grow @ (centre - parameters.translation),
        local=parameters.local,
    )


def stay(
    pdm: PDM, frame: ResponseFrame, parameters: PDMParameters, settings: ScaleConfig
) -> PDMParameters:
    """A solver that leaves everything as it is."""
    return parameters


class FirstFound(AbstractSearch):
    """A search that makes one attempt, from the middle of the box, turned by `yaw`."""

    yaw: float = eqx.field(static=True)

    def phases(self):
        return OneRound().phases()

    def attempts(self, config: FitConfig) -> int:
        return 1

    def may_skip(self) -> bool:
        return False

    def searches_given_boxes(self) -> bool:
        return True

    def begin(self, pdm: PDM, start: SearchStart, previous, config: FitConfig):
        return {"box": start.box[:4]}

    def plan(self, pdm: PDM, state: SearchState, number: Int[Array, ""], config: FitConfig):
        rotation = jnp.asarray([0, self.yaw, 0], state.memory["box"].dtype)
        start = parameters_from_box(pdm, state.memory["box"], rotation)
        return start, jnp.asarray(int(self.phases()[0]), jnp.int32), state.active

    def record(self, state: SearchState, number, fit, made: Bool[Array, ""]) -> SearchState:
        best = jax.tree.map(lambda new, old: jnp.where(made, new, old), fit, state.best)
        return dataclasses.replace(state, best=best, last=best)

    def result(self, state: SearchState):
        return state.best, state.best.success


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return [draw_face(true_points(index)) for index in range(_FRAMES)]


def _errors(model: Model, frames: list[np.ndarray]) -> np.ndarray:
    """Largest distance from the truth in each frame, px."""
    found = jaxface.analyze_video(model, frames, fps=10)
    assert found.success.all() and found.landmarks.shape == (len(frames), 5, 2)
    truth = np.stack([true_points(index) for index in range(len(frames))])
    return np.linalg.norm(found.landmarks - truth, axis=-1).max(axis=1)


def test_a_model_of_ones_own_is_tracked_and_written(frames, tmp_path: Path):
    model = toy_model()
    found = jaxface.analyze_video(model, frames, fps=10)
    truth = np.stack([true_points(index) for index in range(_FRAMES)])
    away = np.linalg.norm(found.landmarks - truth, axis=-1)
    assert found.success.all() and away.max() < _FOUND
    path = jaxface.write_csv(tmp_path / "dots.csv", found)
    header = path.read_text().splitlines()[0].split(", ")
    assert [name for name in header if name.startswith("x_")] == [f"x_{i}" for i in range(5)]
    assert not [name for name in header if name.startswith("eye_lmk")]
    again = jaxface.read_csv(path)
    np.testing.assert_allclose(again.landmarks, found.landmarks, rtol=0, atol=0.05)  # one decimal
    assert SCHEME.count == 5 and SCHEME.names[3] == "mouth_0"


def test_a_solver_of_ones_own_is_used(frames):
    """Two solvers of the user's, which find and do not find what moves."""
    assert _errors(with_solver(toy_model(), follow_peaks), frames).max() < _LEAST_SQUARES
    still = jaxface.analyze_video(with_solver(toy_model(), stay), frames, fps=10)
    for landmarks in still.landmarks[1:]:
        np.testing.assert_array_equal(landmarks, still.landmarks[0])


@pytest.fixture
def compile_cache(tmp_path: Path):
    """JAX's compilation cache, for one test."""
    with cached_in(tmp_path):
        yield tmp_path


def define_solver(share: float) -> Callable:
    """A solver of one and the same name, as after an edit in a notebook."""

    def half_way(pdm, frame, parameters, settings):
        found = follow_peaks(pdm, frame, parameters, settings)
        return jax.tree.map(lambda a, b: share * a + (1 - share) * b, found, parameters)

    return half_way


def test_an_edited_solver_counts_with_the_compile_cache_on(compile_cache, frames):
    model = toy_model()
    moved = [
        jaxface.analyze_video(with_solver(model, define_solver(share)), frames[:2], fps=10)
        for share in (0.0, 1.0)
    ]
    before, after = (found.landmarks[1] - found.landmarks[0] for found in moved)
    assert np.abs(before).max() == 0 and np.abs(after).max() > 1
    kept = [path.name for path in compile_cache.glob("jaxface-programs/*")]
    assert not [name for name in kept if name.startswith("track")]


def test_a_search_of_ones_own_is_used(frames):
    clnf = toy_model().clnf
    straight, turned = (
        dataclasses.replace(clnf, search=FirstFound(yaw=yaw), config=_frozen(clnf.config))
        for yaw in (0.0, 0.5)
    )
    gray = jaxface.to_gray(jnp.asarray(frames[0]))
    points = true_points(0)
    box = jnp.asarray([*points.min(axis=0), *points.max(axis=0)], jnp.float32)
    fits = [jaxface.fit_landmarks(each, gray, box) for each in (straight, turned)]
    assert [float(fit.parameters.rotation[1]) for fit in fits] == [0.0, 0.5]


def _frozen(config: FitConfig) -> FitConfig:
    return dataclasses.replace(config, solver=stay)


@pytest.mark.untyped
@pytest.mark.parametrize(
    ("solver", "message"),
    [
        ("newton", "solver: expected one of adam, .*nu_rlms, or a function .*, got 'newton'"),
        (3, "solver: expected a name or a function .*, got int"),
    ],
)
def test_no_solver(solver, message):
    with pytest.raises((ValueError, TypeError), match=message):
        FitConfig(solver=solver)


def test_a_solver_that_gives_something_else_is_named(frames):
    def confused(pdm, frame, parameters, settings):
        return frame.landmarks

    model = with_solver(toy_model(), confused)
    with pytest.raises(TypeError, match="confused.*expected PDMParameters or a Solution"):
        jaxface.analyze_video(model, frames[:1])
