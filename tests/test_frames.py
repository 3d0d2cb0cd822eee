"""The functions of one frame, called by themselves, against `analyze_video` on the whole clip.

A caller who compiles them with the package's own options gets the rows of `analyze_video` to the
last bit: the same operations, in programs that end at other places. Cameras are arguments there,
as in the package: of constants XLA computes some quotients ahead, and rounds them otherwise.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jaxface
from jaxface import Analysis, Config, Model
from jaxface.analyze import baseline_medians, postprocess_clip, repredict_clip
from jaxface.reference import action_units as reference
from jaxface.reference.medians import run_medians

from .head_clip import (
    SIZE,
    camera,
    compile_alike,
    in_a_loop,
    outer_eyes,
    place_faces,
    read_frames,
    read_truth,
)

_COUNT = 12  # frames; the online correction begins at the tenth
_OFF = 0.05  # of the outer eyes' distance, mean over the landmarks; that of `test_base_model`
_SHIFT = SIZE[1] // 2  # px, from a face at the left to one at the right
_LONG, _SHORT = 10, 3  # frames of two clips; a chunk has 8

# Fields of a `Face` and columns of an `Analysis` of the same name.
_COLUMNS: dict[str, Callable[[Any], Any]] = {
    "confidence": lambda face: face.confidence,
    "success": lambda face: face.success,
    "gaze": lambda face: face.gaze.gaze,
    "gaze_angle": lambda face: face.gaze.gaze_angle,
    "eye_landmarks": lambda face: face.gaze.eye_landmarks,
    "eye_landmarks_3d": lambda face: face.gaze.eye_landmarks_3d,
    "head_pose": lambda face: face.head_pose,
    "landmarks": lambda face: face.landmarks,
    "landmarks_3d": lambda face: face.landmarks_3d,
    "scale": lambda face: face.parameters.scale,
    "rotation": lambda face: face.parameters.rotation,
    "translation": lambda face: face.parameters.translation,
    "local": lambda face: face.parameters.local,
}
_EVERY_COLUMN = (*_COLUMNS, "frame", "face_id", "timestamp", "au_intensity", "au_presence")


@pytest.fixture(scope="module")
def model() -> Model:
    model = jaxface.load_model()
    return jaxface.prepare_model(model, jaxface.default_config(model))


@pytest.fixture(scope="module")
def config(model) -> Config:
    return jaxface.default_config(model)


@pytest.fixture(scope="module")
def whole(model) -> Analysis:
    return jaxface.analyze_video(model, read_frames(_COUNT))


@pytest.fixture(scope="module")
def track(model, config) -> Callable:
    """`track_frame` on each of some frames."""

    @compile_alike
    def step(model, state, frame):
        return jaxface.track_frame(model, state, frame, config=config)

    return lambda frames: in_a_loop(step, model, jaxface.start_track(model.clnf), frames)[1]


@pytest.fixture(scope="module")
def tracked(track) -> list:
    return track(read_frames(_COUNT))


@pytest.fixture(scope="module")
def live(model, config) -> tuple[jaxface.ClipState, list[jaxface.ClipFace]]:
    """`clip_frame` on each frame, as for a webcam, and the last state."""
    online = dataclasses.replace(config, online=True)

    @compile_alike
    def step(model, state, frame, lens):
        return jaxface.clip_frame(model, state, frame, lens, config=online)

    frames = read_frames(_COUNT)
    found: Any = in_a_loop(step, model, jaxface.start_clip(model), frames, camera())
    return found


def _rows(things: list, get: Callable) -> np.ndarray:
    return np.stack([np.asarray(get(thing)) for thing in things])


def _assert_rows(faces: list, whole: Analysis) -> None:
    for name, get in _COLUMNS.items():
        np.testing.assert_array_equal(_rows(faces, get), getattr(whole, name), name)


def test_the_clip_is_found_where_it_was_drawn(whole):
    """Else the comparisons below would hold for a face that nobody found."""
    truth = read_truth()
    assert whole.success.all()
    for found, drawn in zip(whole.landmarks, truth.landmarks, strict=False):
        missed = np.linalg.norm(found - drawn, axis=-1).mean()
        assert missed < _OFF * outer_eyes(drawn)


def _assert_tracked(tracked: list, whole: Analysis) -> None:
    """The fits' parameters; `analyze_video` gives the points that the model reports."""
    for name in ("scale", "rotation", "translation", "local"):
        found = _rows(tracked, lambda frame: getattr(frame.fit.parameters, name))
        np.testing.assert_array_equal(found, getattr(whole, name), name)
    np.testing.assert_array_equal(_rows(tracked, lambda f: f.success), whole.success)
    np.testing.assert_array_equal(_rows(tracked, lambda f: f.fit.confidence), whole.confidence)


def test_track_frame(whole, tracked):
    _assert_tracked(tracked, whole)
    assert [bool(frame.detected) for frame in tracked] == [True] + [False] * (_COUNT - 1)


def test_track_frame_loses_a_face_and_finds_it_elsewhere(model, track):
    frames, gap = read_frames(_COUNT), 4
    elsewhere = [place_faces(frame, left=False, right=True) for frame in frames[3:]]
    shown = [*frames[:3], *[np.zeros_like(frames[0])] * gap, *elsewhere]
    whole, tracked = jaxface.analyze_video(model, shown), track(shown)
    _assert_tracked(tracked, whole)
    assert whole.success[:3].all() and not whole.success[3 : 3 + gap].any()
    assert whole.success[-1] and any(bool(frame.detected) for frame in tracked[3 + gap :])
    drawn = read_truth().landmarks[_COUNT - 1] / 2 + [_SHIFT, 0]
    missed = np.linalg.norm(whole.landmarks[-1] - drawn, axis=-1).mean()
    assert missed < _OFF * outer_eyes(drawn)


def test_analyze_frame(model, config, whole, tracked):
    @compile_alike
    def measure(model, image, fit, lens, success):
        return jaxface.analyze_frame(
            model, image, fit, lens, success=success, skip_rejected=True, config=config
        )

    images = [jnp.asarray(frame, jnp.float32) for frame in read_frames(_COUNT)]
    faces = [
        measure(model, image, frame.fit, camera(), frame.success)
        for image, frame in zip(images, tracked, strict=True)
    ]
    _assert_rows(faces, whole)


def test_clip_frame(live, whole):
    _assert_rows([found.face for found in live[1]], whole)


def test_clip_frame_has_what_the_second_pass_takes(model, live, whole):
    """The person's medians and the scores of each frame, from which the clip's units follow."""
    state, found = live
    accepted = _rows(found, lambda f: f.face.accepted)
    units = model.analyser.video
    raw = repredict_clip(
        units,
        _rows(found, lambda f: f.intensity),
        _rows(found, lambda f: f.presence),
        _rows(found, lambda f: f.face.scores.intensity),
        _rows(found, lambda f: f.face.scores.presence),
        np.asarray(compile_alike(baseline_medians)(state.person.baseline)),
        accepted,
    )
    intensity, presence = postprocess_clip(units, *raw, accepted)
    assert accepted.all() and intensity.any()
    np.testing.assert_array_equal(intensity, whole.au_intensity)
    np.testing.assert_array_equal(presence, whole.au_presence)


# Action units while a video runs

# AU units; a float32 sum of 4,700 products, and a median that lies in the bin beside
_SCORE = 2e-5
_WIDTH = 0.04  # AU units, of a bin of the correction's histogram


def _raw_intensity(model: Model, found: list[jaxface.ClipFace]) -> np.ndarray:
    """Intensity (t, u) of each frame with the medians in force, by the NumPy reference."""
    fhog = _rows(found, lambda f: f.face.fhog.ravel())
    geometry = _rows(found, lambda f: f.face.geometry)
    medians = np.concatenate(run_medians(fhog, geometry, [True] * len(found)), axis=1)
    units = model.analyser.video
    heads, mean = units.intensity, np.asarray(units.mean, np.float64)
    columns = [
        [
            reference.decision_value(row, mean, median, weights, bias, dynamic)
            for row, median in zip(np.concatenate([fhog, geometry], axis=1), medians, strict=True)
        ]
        for weights, bias, dynamic in zip(
            np.asarray(heads.weights, np.float64), heads.bias, heads.dynamic, strict=True
        )
    ]
    return np.array(columns, np.float64).T


def test_online_units_follow_the_reference(model, live):
    """Step by step; from the tenth frame on the tenth percentile of each unit is its zero.

    Here the percentile comes from sorting all values so far. The histogram of the correction
    rounds it down to a bin, and which bin is the last bit's choice for a value at its edge.
    """
    found = live[1]
    raw = _raw_intensity(model, found)
    levels = set()
    for t, frame in enumerate(found):
        level = np.zeros(raw.shape[1])
        if t + 1 >= 10:
            level = np.sort(raw[: t + 1], axis=0)[(t + 1) // 10]
            position = (np.clip(level, -3, 5 - _WIDTH) + 3) / _WIDTH
            level = -3 + _WIDTH * np.floor(position)
            assert (np.abs(position - np.round(position)) * _WIDTH > _SCORE).all()
        expected = np.clip(raw[t] - level, 0, 5)
        np.testing.assert_allclose(frame.intensity, expected, rtol=0, atol=_SCORE, err_msg=str(t))
        levels |= set(level)
    assert len(levels) > 3


# Several faces

# px, mean over a face. The detector's pyramid samples a face at the right at other places than one
# at the left: its fit starts elsewhere, and comes within the noise of the fits by frame 9.
_NOISE, _APART = 0.03, 0.5  # measured 0.005 and 0.28


@pytest.fixture(scope="module")
def pairs() -> list[np.ndarray]:
    """The talking head twice in each frame."""
    return [place_faces(frame, left=True, right=True) for frame in read_frames(_LONG)]


@pytest.fixture(scope="module")
def several(model, pairs) -> Analysis:
    return jaxface.analyze_video(model, pairs, faces="all")


def test_two_faces_keep_their_numbers(several):
    np.testing.assert_array_equal(several.frame, np.repeat(np.arange(1, _LONG + 1), 2))
    np.testing.assert_array_equal(several.face_id, [0, 1] * _LONG)
    assert several.success.all()
    centres = several.landmarks[:, 27:36, 0].mean(axis=1).reshape(_LONG, 2)
    sides = centres > _SHIFT
    assert sides[0].sum() == 1 and (sides == sides[0]).all()


def _faces_by_side(several: Analysis) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks of the face at the left and of the one at the right, in each frame."""
    found = several.landmarks.reshape(_LONG, 2, 68, 2)
    left, right = sorted((found[:, 0], found[:, 1]), key=lambda face: face[..., 0].mean())
    return left, right


@pytest.mark.parametrize("right", (False, True))
def test_two_faces_are_fitted_as_each_by_itself(model, several, right):
    """To the last bit: neither the detector nor a fit sees anything of the other face."""
    frames = [place_faces(frame, left=not right, right=right) for frame in read_frames(_LONG)]
    alone = jaxface.analyze_video(model, frames)
    assert alone.success.all()
    np.testing.assert_array_equal(_faces_by_side(several)[right], alone.landmarks)


def test_a_face_at_the_right_is_fitted_as_one_at_the_left(several):
    left, right = _faces_by_side(several)
    apart = np.linalg.norm(right - [_SHIFT, 0] - left, axis=-1).mean(axis=-1)
    assert apart.max() < _APART and apart[-2:].max() < _NOISE, apart


def test_several_frame(model, pairs, several):
    config = jaxface.default_config(model, static_action_units=True)

    @compile_alike
    def step(model, state, frame, lens):
        image = frame.astype(jnp.float32)
        return jaxface.several_frame(model, state, image, lens, config=config)

    _, found = in_a_loop(step, model, jaxface.start_several(model), pairs, camera())
    active = _rows(found, lambda several: several.active)
    assert active.sum(axis=1).tolist() == [2] * _LONG
    for name, get in _COLUMNS.items():
        rows = _rows(found, lambda several: get(several.faces.face))
        np.testing.assert_array_equal(rows[active], getattr(several, name), name)
    for name in ("intensity", "presence"):
        rows = _rows(found, lambda several: getattr(several.faces, name))
        np.testing.assert_array_equal(rows[active], getattr(several, f"au_{name}"), name)


# Several clips


def test_clips_of_a_batch_are_as_each_by_itself(model):
    clips = [read_frames(_LONG), read_frames(_SHORT, 40)]
    for found, clip in zip(jaxface.analyze_batch(model, clips, fps=25.0), clips, strict=True):
        alone = jaxface.analyze_video(model, clip, fps=25.0)
        assert isinstance(found, Analysis) and alone.success.all()
        for name in _EVERY_COLUMN:
            np.testing.assert_array_equal(getattr(found, name), getattr(alone, name), name)
