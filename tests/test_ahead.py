"""Running ahead gives what tracking frame by frame gives, wherever faces vanish and return."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import jaxface
from jaxface import Model

from .head_clip import compile_alike
from .toy_face import SIZE, draw_face, toy_model, true_points

_COUNT = 19  # frames: three blocks of 7, the last of which is filled up
_LIGHT = 230


def _watchful(model: Model) -> Model:
    """The toy, whose validator now accepts only where the warped face has a dark corner.

    There the first dot is. Of a picture without dots nothing is left once it is standardised.
    """
    validator: Any = model.clnf.validator
    weights, biases = (np.array(a[0]) for a in (validator.weights, validator.biases))
    corner = np.zeros((60, 60), np.float32)
    corner[:2, :2] = -1
    weights[0, 0], biases[0, 0], biases[0, -1] = corner.reshape(-1), 0, 4
    edited = (jnp.asarray(weights),), (jnp.asarray(biases),)
    return eqx.tree_at(lambda m: (m.clnf.validator.weights, m.clnf.validator.biases), model, edited)


@pytest.fixture(scope="module")
def model() -> Model:
    return _watchful(toy_model())


@pytest.fixture(scope="module")
def ahead(model) -> Callable:
    """`track_clip` on clips of one length."""
    program = compile_alike(
        lambda model, frames, valid: jaxface.track_clip(model, frames, valid=valid)
    )
    return lambda frames, valid: program(model, frames, valid)


@pytest.fixture(scope="module")
def in_turn(model) -> Callable:
    """The same frames one by one, each a call of `track_frame`."""
    program = compile_alike(jaxface.track_frame)

    def run(frames: np.ndarray, valid: np.ndarray) -> tuple[Any, list[Any]]:
        state, rows = jaxface.start_track(model.clnf), []
        for frame in frames[valid]:
            state, tracked = program(model, state, frame)
            rows.append(tracked)
        return state, rows

    return run


def _draw(shown: list[int]) -> np.ndarray:
    """Frames with the face, or the ground alone; after it was away the face is elsewhere."""
    frames, away = [], 0
    for number, kind in enumerate(shown):
        away += kind == 0
        points = true_points(number // 2) + np.array([2.5 * away, -1.5 * away])
        blank = np.full((*SIZE, 3), _LIGHT, np.uint8)
        frames.append(draw_face(points.astype(np.float32)) if kind else blank)
    return np.stack(frames)


def _assert_same(ahead: Callable, in_turn: Callable, shown: list[int], valid: np.ndarray) -> Any:
    frames = _draw(shown)
    state, found = ahead(frames, valid)
    expected_state, rows = in_turn(frames, valid)
    jax.tree.map(np.testing.assert_array_equal, state, expected_state)
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
    found = jax.tree.map(lambda leaf: np.asarray(leaf)[valid], found)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    return found


_ALL = np.ones(_COUNT, bool)


def test_a_face_that_vanishes_and_returns(ahead, in_turn):
    """It is lost in the middle of a block, away for two frames, found, and lost once more."""
    shown = [1] * 3 + [0] * 2 + [1] * 7 + [0] + [1] * 6
    found = _assert_same(ahead, in_turn, shown, _ALL)
    lost = np.flatnonzero(~found.fit.success)
    assert {3, 4, 12} <= set(lost) and found.detected[3] and found.success[-4:].all()
    assert not found.detected[[1, 2, 8, 9, 10, 11]].any()


def test_a_face_that_is_there_throughout(ahead, in_turn):
    found = _assert_same(ahead, in_turn, [1] * _COUNT, _ALL)
    assert found.fit.success.all() and found.detected.sum() == 1


def test_a_clip_without_a_face(ahead, in_turn):
    found = _assert_same(ahead, in_turn, [0] * _COUNT, _ALL)
    # Of a model that has seen no face it is the first detection that counts, with or without one.
    assert found.detected[0] and not found.fit.success.any()


def test_a_block_in_which_all_is_lost(ahead, in_turn):
    found = _assert_same(ahead, in_turn, [1] * 7 + [0] * 7 + [1] * 5, _ALL)
    assert not found.fit.success[7:14].any() and found.fit.success[-3:].all()


@given(
    shown=st.lists(st.integers(0, 3), min_size=_COUNT, max_size=_COUNT),
    left_out=st.lists(st.integers(0, _COUNT - 1), max_size=9),
)
@example(shown=[1] * _COUNT, left_out=[0, 6, 7, 8, 9, 10, 11, 12, 13])
@example(shown=[0] * 4 + [1] * 15, left_out=[18, 17, 5])
@settings(max_examples=12, deadline=None, derandomize=True)
def test_any_clip_and_any_mask(ahead, in_turn, shown, left_out):
    valid = _ALL.copy()
    valid[left_out] = False
    _assert_same(ahead, in_turn, shown, valid)


def test_derivative_is_that_of_one_frame_after_the_other(model):
    """By the pixels of every frame, through a clip whose face is accepted throughout."""
    frames = _draw([1] * 4).astype(np.float32)
    state, _ = jax.jit(jaxface.track_frame)(model, jaxface.start_track(model.clnf), frames[0])
    pull = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5, 2)), jnp.float32)

    def start_from(parameters: Any) -> Any:
        return eqx.tree_at(lambda s: s.fit.parameters, state, parameters)

    @jax.jit
    def whole(parameters, frames):
        def loss(parameters, frames):
            tracked = jaxface.track_clip(model, frames, state=start_from(parameters))[1]
            return jnp.sum(pull * tracked.fit.landmarks)

        return jax.grad(loss, (0, 1))(parameters, frames)

    @jax.jit
    def back(parameters, frame, pulled, after):
        def step(parameters, frame):
            fit = jaxface.track_frame(model, start_from(parameters), frame)[0].fit
            return fit.parameters, fit.landmarks

        (moved, _), pull_back = jax.vjp(step, parameters, frame)
        return moved, *pull_back((after, pulled))

    still = jax.tree.map(jnp.zeros_like, state.fit.parameters)
    reached = [state.fit.parameters]
    for frame in frames[1:]:
        reached.append(back(reached[-1], frame, jnp.zeros((5, 2)), still)[0])
    slopes, after = [], still
    for number in (2, 1, 0):
        _, after, slope = back(reached[number], frames[1 + number], pull[number], after)
        slopes.insert(0, slope)
    found = whole(state.fit.parameters, frames[1:])
    # The largest is 6e-4 px per grey level; float32 sums of three fits in another order.
    np.testing.assert_allclose(found[1], np.stack(slopes), rtol=0, atol=1e-8)
    assert np.abs(np.asarray(found[1])).max(axis=(1, 2, 3)).min() > 5e-4
    scale = jax.tree.map(lambda leaf: 1e-4 * float(np.abs(leaf).max()) + 1e-6, after)
    jax.tree.map(
        lambda a, b, tol: np.testing.assert_allclose(a, b, rtol=0, atol=tol), found[0], after, scale
    )
