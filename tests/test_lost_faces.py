"""A clip as one function is tracked as frame by frame, wherever faces vanish and return."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import jaxface
from jaxface import Model

from .head_clip import compile_alike
from .toy_face import draw_clip, watchful_model

_COUNT = 19  # frames


@pytest.fixture(scope="module")
def model() -> Model:
    return watchful_model()


@pytest.fixture(scope="module")
def clip(model) -> Callable:
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


def _assert_same(clip: Callable, in_turn: Callable, shown: list[int], valid: np.ndarray) -> Any:
    frames = draw_clip(shown)
    state, found = clip(frames, valid)
    expected_state, rows = in_turn(frames, valid)
    jax.tree.map(np.testing.assert_array_equal, state, expected_state)
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
    found = jax.tree.map(lambda leaf: np.asarray(leaf)[valid], found)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    return found


_ALL = np.ones(_COUNT, bool)


def test_a_face_that_vanishes_and_returns(clip, in_turn):
    """It is lost in the middle of a block, away for two frames, found, and lost once more."""
    shown = [1] * 3 + [0] * 2 + [1] * 7 + [0] + [1] * 6
    found = _assert_same(clip, in_turn, shown, _ALL)
    lost = np.flatnonzero(~found.fit.success)
    assert {3, 4, 12} <= set(lost) and found.detected[3] and found.success[-4:].all()
    assert not found.detected[[1, 2, 8, 9, 10, 11]].any()


def test_a_face_that_is_there_throughout(clip, in_turn):
    found = _assert_same(clip, in_turn, [1] * _COUNT, _ALL)
    assert found.fit.success.all() and found.detected.sum() == 1


def test_a_clip_without_a_face(clip, in_turn):
    found = _assert_same(clip, in_turn, [0] * _COUNT, _ALL)
    # Of a model that has seen no face it is the first detection that counts, with or without one.
    assert found.detected[0] and not found.fit.success.any()


def test_a_face_that_is_lost_for_long(clip, in_turn):
    found = _assert_same(clip, in_turn, [1] * 7 + [0] * 7 + [1] * 5, _ALL)
    assert not found.fit.success[7:14].any() and found.fit.success[-3:].all()


@given(
    shown=st.lists(st.integers(0, 3), min_size=_COUNT, max_size=_COUNT),
    left_out=st.lists(st.integers(0, _COUNT - 1), max_size=9),
)
@example(shown=[1] * _COUNT, left_out=[0, 6, 7, 8, 9, 10, 11, 12, 13])
@example(shown=[0] * 4 + [1] * 15, left_out=[18, 17, 5])
@settings(max_examples=12, deadline=None, derandomize=True)
def test_any_clip_and_any_mask(clip, in_turn, shown, left_out):
    valid = _ALL.copy()
    valid[left_out] = False
    _assert_same(clip, in_turn, shown, valid)
