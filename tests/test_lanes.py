"""Clips that step together: as each by itself, wherever its lane is and whoever is beside it."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxface
from jaxface import Analysis, Camera, Model
from jaxface.models import prepare_model
from jaxface.reference.comparison.clips import Data, load
from jaxface.run import choose_lanes, lane_chunk, plan_lanes

from .head_clip import compile_alike
from .toy_face import draw_clip, watchful_model

_COUNT, _LANES = 9, 3  # frames, clips
_COLUMNS = ("frame", "success", "confidence", "landmarks", "gaze", "head_pose", "au_intensity")
_SHOWN = (  # 1 where the face is shown
    [1] * 9,
    [1] * 3 + [0] * 2 + [1] * 4,  # lost and found again
    [0] * 4 + [1] * 5,
)
_NOISE = 1e-3  # px; the toy's maps are smooth, so that only last bits of places differ


@pytest.fixture(scope="module")
def model() -> Model:
    return watchful_model()


@pytest.fixture(scope="module")
def in_lanes(model) -> Callable:
    program = compile_alike(
        lambda model, frames, valid: jaxface.track_lanes(model, frames, valid=valid)
    )
    return functools.partial(program, model)


@pytest.fixture(scope="module")
def alone(model) -> Callable:
    program = compile_alike(
        lambda model, frames, valid: jaxface.track_clip(model, frames, valid=valid)
    )
    return functools.partial(program, model)


def _rows(tree: Any, lane: int) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[lane], tree)


def _assert_lane(found: Any, expected: Any, valid: np.ndarray) -> None:
    """States and outcomes: the decisions are equal, the landmarks within the noise."""
    for ours, theirs, kept in ((found[0], expected[0], ...), (found[1], expected[1], valid)):
        np.testing.assert_array_equal(ours.fit.success[kept], np.asarray(theirs.fit.success)[kept])
        apart = ours.fit.landmarks[kept] - np.asarray(theirs.fit.landmarks)[kept]
        assert np.abs(apart).max(initial=0) <= _NOISE
    np.testing.assert_array_equal(found[0].failures, expected[0].failures)
    np.testing.assert_array_equal(found[0].initialised, expected[0].initialised)
    for name in ("success", "detected"):
        ours, theirs = (np.asarray(getattr(x[1], name))[valid] for x in (found, expected))
        np.testing.assert_array_equal(ours, theirs)


@given(
    shown=st.lists(
        st.lists(st.integers(0, 3), min_size=_COUNT, max_size=_COUNT),
        min_size=_LANES,
        max_size=_LANES,
    ),
    left_out=st.lists(st.integers(0, _LANES * _COUNT - 1), max_size=9),
)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_any_clips_and_any_mask(in_lanes, alone, shown, left_out):
    frames = np.stack([draw_clip(clip) for clip in shown])
    valid = np.ones(_LANES * _COUNT, bool)
    valid[left_out] = False
    valid = valid.reshape(_LANES, _COUNT)
    found = in_lanes(frames, valid)
    for lane in range(_LANES):
        expected = alone(frames[lane], valid[lane])
        _assert_lane(_rows(found, lane), expected, valid[lane])


def test_a_lane_does_not_depend_on_its_neighbours(in_lanes):
    frames = np.stack([draw_clip(list(shown)) for shown in _SHOWN])
    valid = np.ones(frames.shape[:2], bool)
    found = in_lanes(frames, valid)
    for order in ([2, 0, 1], [1, 1, 0], [0, 0, 0]):
        other = in_lanes(frames[order], valid)
        for place, lane in enumerate(order):
            ours, theirs = _rows(other, place), _rows(found, lane)
            jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_clips_may_be_given_in_pieces(model):
    """Tracked and measured: the states carry all that is known, and begin as `start_clip`'s."""
    frames = np.stack([draw_clip([*shown, 1]) for shown in _SHOWN])
    one_camera = Camera(*map(jnp.float32, (150, 150, 80, 60)))
    cameras = jax.tree.map(lambda value: jnp.full(_LANES, value), one_camera)
    program = compile_alike(jaxface.analyze_lanes)
    states, whole = program(model, frames, cameras)
    start = jax.tree.map(lambda leaf: jnp.stack([leaf] * _LANES), jaxface.start_clip(model))
    first, head = program(model, frames[:, :5], cameras, states=start)
    last, tail = program(model, frames[:, 5:], cameras, states=first)
    joined = jax.tree.map(lambda a, b: np.concatenate([a, b], axis=1), head, tail)
    np.testing.assert_array_equal(joined.face.success, whole.face.success)
    np.testing.assert_allclose(joined.face.landmarks, whole.face.landmarks, atol=_NOISE)
    np.testing.assert_array_equal(states.person.accepted, last.person.accepted)
    one = compile_alike(jaxface.analyze_clip)
    for lane in range(_LANES):
        state, faces = one(model, frames[lane], one_camera)
        mine = _rows(whole, lane)
        np.testing.assert_array_equal(mine.face.success, faces.face.success)
        np.testing.assert_allclose(mine.face.landmarks, faces.face.landmarks, atol=_NOISE)
        np.testing.assert_allclose(mine.face.head_pose, faces.face.head_pose, atol=0.01)
        assert int(state.person.accepted) == int(states.person.accepted[lane])


@pytest.mark.untyped  # as quick as it can be: two programs of derivatives are compiled
def test_derivatives_are_those_of_a_clip(model):
    """By the light of the pictures: each lane's, and none across lanes."""
    frames = jnp.asarray(np.stack([draw_clip([1] * 2), draw_clip([1, 2])]), jnp.float32)

    def last(track: Callable, frames: Any) -> Any:
        return track(model, frames)[1].fit.landmarks

    tangent = jnp.asarray(np.random.default_rng(0).normal(size=frames.shape), jnp.float32)
    push, one = (
        compile_alike(lambda f, t, track=track: jax.jvp(functools.partial(last, track), (f,), (t,)))
        for track in (jaxface.track_lanes, jaxface.track_clip)
    )
    _, found = push(frames, tangent)
    for lane in range(2):
        _, expected = one(frames[lane], tangent[lane])
        scale = np.abs(np.asarray(expected)).max()
        assert scale > 1e-4  # px per grey level: the landmarks move with the pixels
        np.testing.assert_allclose(found[lane], expected, atol=0.01 * scale)
    _, alone = push(frames, tangent.at[1].set(0))
    np.testing.assert_array_equal(alone[0], found[0])
    assert not np.asarray(alone[1]).any()


@pytest.mark.parametrize(
    ("frames", "valid", "message"),
    [
        (np.zeros((2, 120, 160, 3)), None, "^frames: expected RGB images of several clips"),
        (np.zeros((2, 3, 120, 160, 3)), np.ones((3, 2), bool), r"^valid: expected shape \(2, 3\)"),
    ],
)
@pytest.mark.untyped
def test_wrong_shapes_are_named(model, frames, valid, message):
    with pytest.raises(ValueError, match=message):
        jaxface.track_lanes(model, jnp.asarray(frames, jnp.float32), valid=valid)


# Batches


def _clips() -> list[list[np.ndarray]]:
    """Clips of one size and several lengths, in which faces vanish."""
    whole = [[1] * 20, [1] * 6 + [0] * 3 + [1] * 14, [0] * 9 + [1] * 3, [1] * 8, [1] * 17, [0] * 5]
    return [list(draw_clip(shown)) for shown in whole]


def _analyze(model: Model, clips: list[Any], lanes: int) -> list[Any]:
    return jaxface.analyze_batch(model, clips, fps=10.0, lanes=lanes)


def _assert_equal(ours: Analysis, theirs: Analysis) -> None:
    for column in _COLUMNS:
        np.testing.assert_array_equal(getattr(ours, column), getattr(theirs, column), column)


def test_one_lane_is_one_clip_after_the_other(model):
    model = prepare_model(model)
    for clip, found in zip(_clips(), _analyze(model, _clips(), 1), strict=True):
        _assert_equal(found, jaxface.analyze_video(model, clip, fps=10.0))
        assert found.lanes == 1


@pytest.mark.parametrize("lanes", (2, 4, 8))
def test_lanes_of_a_batch(model, lanes):
    clips = _clips()
    expected = _analyze(model, clips, 1)
    found = _analyze(model, clips, lanes)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.lanes == lanes
        np.testing.assert_array_equal(ours.success, theirs.success)
        np.testing.assert_allclose(ours.landmarks, theirs.landmarks, atol=_NOISE)
    # First, alone, seventh, and beside clips that cannot be read.
    broken = [*clips[0][:5], clips[0][5][..., 0], *clips[0][6:]]
    others = [clips[4], broken, clips[3], "gone.wmv", clips[5], [], clips[1], clips[0]]
    again = _analyze(model, others, lanes)
    for place, clip in ((0, 4), (2, 3), (4, 5), (6, 1), (7, 0)):
        _assert_equal(again[place], found[clip])
    errors = [str(again[place]) for place in (1, 3, 5)]
    assert errors[0].startswith("frame 5: expected an RGB image") and "gone.wmv" in errors[1]
    assert errors[2].startswith("video: expected at least one frame")
    _assert_equal(_analyze(model, clips[1:2], lanes)[0], found[1])


def test_clips_of_several_sizes(model):
    """Only frames of one canvas share a program; none waits for another size for ever."""
    small = [frame[:90, :130] for frame in draw_clip([1] * 12)]
    clips = [_clips()[0], small, _clips()[1], small, [*_clips()[3], *small]]
    found = _analyze(model, clips, 4)
    for ours, theirs in zip(found, _analyze(model, clips, 1), strict=True):
        np.testing.assert_array_equal(ours.success, theirs.success)
        np.testing.assert_allclose(ours.landmarks, theirs.landmarks, atol=_NOISE)
    _assert_equal(found[1], found[3])


def test_bad_numbers_of_lanes_are_refused(model):
    with pytest.raises(ValueError, match="^lanes: expected at least 1, got 0"):
        jaxface.analyze_batch(model, [], lanes=0)


def test_how_many_lanes():
    chosen = [choose_lanes(clips, 2) for clips in (0, 1, 2, 3, 4, 7, 8, 100)]
    assert chosen == [1, 1, 2, 2, 4, 4, 8, 8]
    assert choose_lanes(100, 1) == 8 and choose_lanes(100, 8) == 32
    for lanes in range(1, 70):
        plan = plan_lanes(lanes)
        assert plan.lanes == lanes and 1 <= plan.width <= min(lanes, 4)
        assert 1 <= plan.workers and plan.workers * plan.width <= max(lanes, 1)
    assert lane_chunk(480 * 640) == 8 and lane_chunk(2160 * 3840) == 1


# With OpenFace's model, whose fit is discontinuous


def test_lanes_of_openface(openface_dir, model_dir, samples_dir):
    """The bounds of the parity table, on clips with a face that vanishes."""
    model = load(Data(openface_dir, model_dir), "openface")
    first = [f for _, f in zip(range(48), jaxface.read_video(samples_dir / "default.wmv"))]
    other = [f for _, f in zip(range(40), jaxface.read_video(samples_dir / "2015-10-15-15-14.avi"))]
    other = [frame[: first[0].shape[0], : first[0].shape[1]] for frame in other]
    black = [np.zeros_like(first[0])] * 5
    clips = [first, [*other[:20], *black, *other[20:]], other, first[8:32], [*black, *first[:20]]]
    found, expected = (_analyze(model, clips, lanes) for lanes in (8, 1))
    apart, frames = [], []
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.success, theirs.success)
        away = np.linalg.norm(ours.landmarks - theirs.landmarks, axis=-1)[theirs.success]
        apart.append(away.reshape(-1))
        frames.append(away.mean(axis=1))
        difference = np.abs(ours.au_intensity - theirs.au_intensity).mean()
        assert difference <= 0.02  # .012 of whole clips; of few frames medians are less sure
    assert np.concatenate(apart).mean() <= 0.03
    assert np.mean(np.concatenate(frames) < 0.2) >= 0.99
    again = _analyze(model, [clips[4], clips[1], clips[0]], 8)
    for ours, theirs in zip(again, (found[4], found[1], found[0]), strict=True):
        _assert_equal(ours, theirs)
