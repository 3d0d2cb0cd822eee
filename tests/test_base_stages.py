"""Every stage with the model of our own on the talking head: what needs none of OpenFace's data.

Each against the NumPy reference from the same input, and against what was drawn where that tells.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxface
from jaxface import Face, Model
from jaxface.analyze import score_action_units, subtract_medians
from jaxface.detect import MTCNN
from jaxface.fit import (
    ResponseFrame,
    ScaleConfig,
    Validator,
    fit_config,
    fit_pdm_to_landmarks,
    fitted_points,
    nu_rlms,
    reported_pdm,
    response_frame,
    shape_2d,
    shape_3d,
    validate_landmarks,
)
from jaxface.models import strip_model
from jaxface.reference import action_units, align, fhog, gaze, head_pose, mtcnn
from jaxface.reference import pdm as reference_pdm
from jaxface.reference import response_maps as reference_maps
from jaxface.reference import rlms as reference_rlms
from jaxface.reference import validator as reference_validator
from jaxface.run import Tally, analyze_chunks, collect_clip, open_clip
from jaxface.types import Fit, PDMParameters

from .as_reference import float64, make_experts, make_pdm, make_views
from .head_clip import SIZE, camera, compile_alike, halve, outer_eyes, read_frames, read_truth
from .test_reference_mtcnn import make_detector

_STILLS = (20, 80)  # frames: facing the camera, and with the head turned
_WINDOWS = {"main": (11, 9, 7), "left_eye_28": (9, 7), "right_eye_28": (9, 7)}  # cells, per scale

# Bounds of the reference's own tests, for the same reasons; see those of each stage.
_BOX, _PROBABILITY, _POINT = 5e-4, 1e-5, 1e-3  # px, 1, px
_SHAPE = 2e-4  # px; float32 of coordinates up to 640
_REFIT = 0.03  # px; one Gauss-Newton step more or less
_MATRIX = 5e-6  # float32 entries of at most 7
_RESPONSE = 1e-5  # of a map's peak, at least 1; float32 sums of 121 products
_PASS = 0.05  # px; one 0.1-cell step of the kernel taken or not
_LEVELS = 1e-3  # share of samples of the aligned face off by more than one grey level
_FEATURE = 1e-6  # of at most 0.85; float32 sums over 256 pixels
_MM, _RAD = 1e-3, 1e-5  # float32 of distances up to 2 m; of a pose from 68 points
_SIGHT = 1e-5  # of a unit vector; float32 of an iris 0.5 m away, over 12 mm
_SCORE = 2e-5  # AU units; float32 sums of 4,700 products

# Bounds against what was drawn, of a single frame; those of `test_base_model` are of the clip.
_OFF = 0.08  # of the outer eyes' distance, mean over the landmarks; there of 95 % of the frames
_TURNED = 10.0  # degrees; twice the mean that is allowed there, measured 7.3


class Still(NamedTuple):
    """A frame of the clip, fitted from the box of its true landmarks."""

    number: int  # of the frame, from 0
    image: np.ndarray  # RGB, bytes
    gray: jax.Array
    fit: Fit


@pytest.fixture(scope="module")
def model() -> Model:
    """With the raw weights, which the references take."""
    return strip_model(jaxface.load_model())


@pytest.fixture(scope="module")
def ready(model: Model) -> Model:
    """With all that its own settings need."""
    return jaxface.prepare_model(model, jaxface.default_config(model))


@pytest.fixture(scope="module")
def stills(ready: Model) -> dict[int, Still]:
    config = jaxface.default_config(ready).fit

    @compile_alike
    def fit(clnf, gray, box):
        return fitted_points(clnf, jaxface.fit_landmarks(clnf, gray, box, config=config))

    found = {}
    for index in _STILLS:
        (image,) = read_frames(1, index)
        gray, drawn = jaxface.to_gray(jnp.asarray(image)), read_truth().landmarks[index]
        box = np.concatenate([drawn.min(axis=0), drawn.max(axis=0)])
        fitted = fit(ready.clnf, gray, jnp.asarray(box, jnp.float32))
        found[index] = Still(index, image, gray, fitted)
    return found


@pytest.fixture(params=_STILLS)
def still(request, stills: dict[int, Still]) -> Still:
    return stills[request.param]


def _plain(parameters: PDMParameters) -> reference_pdm.Parameters:
    rotation, translation, local = map(
        float64, (parameters.rotation, parameters.translation, parameters.local)
    )
    return reference_pdm.Parameters(float(parameters.scale), rotation, translation, local)


def _apart(found: Any, expected: Any) -> float:
    assert np.shape(found) == np.shape(expected)
    return float(np.abs(float64(found) - np.asarray(expected)).max())


# Detector

_detect = jax.jit(jaxface.detect_faces, static_argnames="config")


@pytest.mark.parametrize(("gain", "level"), ((0.1, 0.0), (0.2, 100.0)), ids=("dark", "pale"))
def test_detector(model: Model, gain: float, level: float):
    """On half the size, for the reference's sake, and with little contrast.

    With more, several candidates reach a probability of 1, and the last bit chooses among them.
    """
    config = jaxface.default_config(model).detect
    half = (gain * halve(read_frames(1)[0]) + level).round()
    assert isinstance(model.detector, MTCNN) and config is not None
    found = _detect(model.detector, jnp.asarray(half, jnp.float32), config=config)
    expected = mtcnn.detect(
        make_detector(model.detector),
        half,
        min_face_size=config.min_face_size,
        factor=config.factor,
        thresholds=config.thresholds,
    )
    assert found.valid.sum() == len(expected.boxes) == 1 and not found.overflowed
    assert 1e-6 < 1 - expected.scores[0] < 1e-2
    x, y, w, h = expected.boxes[0]
    assert _apart(found.boxes[0], [x, y, x + w, y + h]) < _BOX
    assert _apart(found.scores[:1], expected.scores) < _PROBABILITY
    assert _apart(found.points[:1], expected.points) < _POINT


def test_detector_finds_what_was_drawn(model: Model, still: Still):
    config = jaxface.default_config(model).detect
    found = _detect(model.detector, jnp.asarray(still.image, jnp.float32), config=config)
    drawn = read_truth().landmarks[still.number]
    assert found.valid.sum() == 1
    box, low, high = np.asarray(found.boxes[0]), drawn.min(axis=0), drawn.max(axis=0)
    shared = np.prod(np.minimum(high, box[2:]) - np.maximum(low, box[:2]))
    assert shared > 0.7 * max(np.prod(high - low), np.prod(box[2:] - box[:2]))


# Landmarks


def test_fit_finds_what_was_drawn(ready: Model, still: Still):
    drawn = read_truth().landmarks[still.number]
    found = shape_2d(reported_pdm(ready.clnf), still.fit.parameters)
    assert still.fit.success
    assert np.linalg.norm(found - drawn, axis=1).mean() < _OFF * outer_eyes(drawn)


def test_pdm(model: Model, still: Still):
    pdm, plain = model.clnf.main.pdm, make_pdm(model.clnf.main.pdm)
    expected = reference_pdm.shape_2d(plain, _plain(still.fit.parameters))
    assert _apart(still.fit.landmarks, expected) < _SHAPE
    drawn = read_truth().landmarks[still.number].astype(np.float32)
    found = jax.jit(fit_pdm_to_landmarks)(pdm, drawn)
    expected = reference_pdm.fit_to_landmarks(plain, drawn.astype(float))
    reached = reference_pdm.shape_2d(plain, _plain(found))
    assert _apart(reached, reference_pdm.shape_2d(plain, expected)) < _REFIT
    assert np.linalg.norm(reached - drawn, axis=1).mean() < _OFF * outer_eyes(drawn)


def _part(clnf: Any, fit: Fit, name: str) -> tuple[Any, PDMParameters]:
    """Landmark model and fitted parameters of the main model or of a part."""
    if name == "main":
        return clnf.main, fit.parameters
    index = [part.name for part in clnf.parts].index(name)
    return clnf.parts[index].model, fit.parts[index].parameters


_respond = jax.jit(response_frame, static_argnames=("scale", "window"))


def _frames(ready: Model, still: Still, name: str) -> list[tuple[int, int, ResponseFrame, int]]:
    """Scale, window, response maps and view at the fit, for each scale of a model."""
    landmark_model, parameters = _part(ready.clnf, still.fit, name)
    frames = []
    for scale, window in enumerate(_WINDOWS[name]):
        found, view = _respond(landmark_model, still.gray, parameters, scale=scale, window=window)
        frames.append((scale, window, found, int(view)))
    return frames


@pytest.mark.parametrize("name", _WINDOWS)
def test_response_maps(model: Model, ready: Model, still: Still, name: str):
    landmark_model, parameters = _part(model.clnf, still.fit, name)
    gray, plain_pdm = np.asarray(still.gray), make_pdm(landmark_model.pdm)
    for scale, window, found, view in _frames(ready, still, name):
        plain = make_experts(landmark_model.experts[scale])
        rotation = np.asarray(parameters.rotation)
        assert view == reference_maps.nearest_view(rotation, plain.centres)
        frontal = _plain(parameters)
        frontal = dataclasses.replace(
            frontal, scale=plain.scale, rotation=np.zeros(3), translation=np.zeros(2)
        )
        expected = reference_maps.align_to_reference(
            float64(found.landmarks), reference_pdm.shape_2d(plain_pdm, frontal)
        )
        assert _apart(found.to_reference, expected[0]) < _MATRIX
        assert _apart(found.to_image, expected[1]) < _MATRIX
        visible = np.flatnonzero(plain.visible[view])
        assert len(visible) >= 20
        for i in visible[:: 4 if name == "main" else 3]:
            area = reference_maps.area_of_interest(
                gray, np.asarray(found.landmarks[i]), np.asarray(found.to_image), window
            )
            expected = plain.response(area, view, int(i))
            limit = _RESPONSE * max(expected.max(), 1)
            assert _apart(found.responses[i], expected) < limit, (scale, i)


@pytest.mark.parametrize("rigid", (True, False))
@pytest.mark.parametrize("name", _WINDOWS)
def test_solver(model: Model, ready: Model, still: Still, name: str, rigid: bool):
    """From a face that is moved by some pixels, on the maps of where it is."""
    landmark_model, parameters = _part(model.clnf, still.fit, name)
    start = dataclasses.replace(
        parameters,
        translation=parameters.translation + jnp.asarray([1.5, -1.0]),
        rotation=parameters.rotation + jnp.asarray([0.02, -0.03, 0.02]),
    )
    plain, run = make_pdm(landmark_model.pdm), jax.jit(nu_rlms, static_argnames=("config", "rigid"))
    for _, window, frame, _ in _frames(ready, still, name):
        config = ScaleConfig(
            window=window, sigma=1.5, regularisation=20.0, weight_factor=0.0, iterations=5
        )
        found, likelihood = run(landmark_model.pdm, frame, start, config=config, rigid=rigid)
        scale = reference_rlms.Scale(
            responses=float64(frame.responses),
            visible=np.asarray(frame.visible),
            confidence=float64(frame.confidence),
            base=float64(frame.landmarks),
            to_reference=float64(frame.to_reference),
            to_image=float64(frame.to_image),
        )
        settings = reference_rlms.Settings(
            config.regularisation, config.sigma, config.weight_factor, config.iterations
        )
        expected, positions = reference_rlms.optimise(
            plain, _plain(start), scale, settings, rigid=rigid
        )
        reached = reference_pdm.shape_2d(plain, expected)
        assert _apart(shape_2d(landmark_model.pdm, found), reached) < _PASS
        moved = np.abs(reached - reference_pdm.shape_2d(plain, _plain(start))).max()
        assert moved > 0.5  # px: the maps draw it back
        certain = reference_rlms.likelihood(positions, scale, config.sigma)
        assert abs(float(likelihood) - certain) < 3e-4  # as in `test_rlms`


def test_validator(model: Model, ready: Model, still: Still):
    """At the fit, and beside the face, where it must be less certain."""
    assert isinstance(model.clnf.validator, Validator)
    views, size = make_views(model.clnf.validator), jnp.asarray(SIZE)
    gray, run = np.asarray(still.gray), jax.jit(validate_landmarks)
    rotation = float64(still.fit.parameters.rotation)
    certain = []
    for shift in (0, 25, 60):  # px
        landmarks = np.asarray(still.fit.landmarks) + np.float32(shift)
        found = run(ready.clnf.validator, still.gray, landmarks, still.fit.parameters, size=size)
        expected = reference_validator.certainty(views, gray, landmarks.astype(float), rotation)
        assert found == np.float32(expected), shift
        certain.append(float(found))
    boundary = fit_config(model.clnf).validation_boundary
    assert certain[0] > boundary > max(certain[1:])


# Appearance, pose, gaze


@pytest.fixture(scope="module")
def faces(ready: Model, stills: dict[int, Still]) -> dict[int, Face]:
    config = jaxface.default_config(ready)

    @compile_alike
    def measure(model, image, fit, lens):
        return jaxface.analyze_frame(model, image, fit, lens, config=config)

    return {
        index: measure(ready, jnp.asarray(still.image, jnp.float32), still.fit, camera())
        for index, still in stills.items()
    }


@pytest.fixture
def face(still: Still, faces: dict[int, Face]) -> Face:
    return faces[still.number]


def test_aligned_face(model: Model, still: Still, face: Face):
    pdm = make_pdm(model.analyser.pdm)
    landmarks = float64(still.fit.landmarks)
    _, _, translation, local = align.refit_pdm(
        pdm.mean_shape, pdm.components, pdm.eigenvalues, landmarks
    )
    matrix = align.alignment_matrix(landmarks, translation, pdm.mean_shape)
    expected = align.warp_affine(still.image, matrix)
    expected[~align.face_mask(landmarks, matrix, np.array(model.clnf.scheme.triangles))] = 0
    assert (np.abs(float64(face.aligned) - expected) > 1).mean() <= _LEVELS
    assert (expected > 0).mean() > 0.3
    geometry = fhog.geometry_descriptor(pdm.components, local)
    assert _apart(face.geometry, geometry) < 2e-3  # mm; one Gauss-Newton step more or less


def test_fhog(face: Face):
    expected = fhog.extract_fhog(np.asarray(face.aligned))
    assert _apart(face.fhog, expected) < _FEATURE and expected.max() > 0.1


def _intrinsics() -> tuple[float, float, float, float]:
    lens = camera()
    return float(lens.fx), float(lens.fy), float(lens.cx), float(lens.cy)


def test_head_pose(ready: Model, still: Still, face: Face):
    plain = _plain(still.fit.parameters)
    shape = float64(shape_3d(reported_pdm(ready.clnf), still.fit.parameters.local))
    pose = plain.scale, plain.rotation, plain.translation
    expected = head_pose.estimate_head_pose(shape, float64(face.landmarks), *pose, _intrinsics())
    assert _apart(face.head_pose[:3], expected[:3]) < _MM
    assert _apart(face.head_pose[3:], expected[3:]) < _RAD
    placed = head_pose.landmarks_to_camera(shape, float64(face.landmarks), *pose[:2], _intrinsics())
    assert _apart(face.landmarks_3d, placed) < _MM
    turns = [
        head_pose.euler_to_matrix(angles)
        for angles in (float64(face.head_pose[3:]), read_truth().rotation[still.number])
    ]
    cosine = (np.trace(turns[0].T @ turns[1]) - 1) / 2
    assert np.degrees(np.arccos(min(cosine, 1))) < _TURNED


def test_gaze(ready: Model, still: Still, face: Face):
    clnf, sights, matrix = ready.clnf, [], head_pose.euler_to_matrix(float64(face.head_pose[3:]))
    for side, name in enumerate(("left_eye_28", "right_eye_28")):
        eye, parameters = _part(clnf, still.fit, name)
        plain = make_pdm(eye.pdm)
        points = head_pose.landmarks_to_camera(
            reference_pdm.shape_3d(plain, float64(parameters.local)),
            float64(face.gaze.eye_landmarks[28 * side :][:28]),
            float(parameters.scale),
            float64(parameters.rotation),
            _intrinsics(),
        )
        centre = gaze.eyeball_centre(float64(face.landmarks_3d), side, matrix)
        sights.append(gaze.gaze_of_eye(points, centre))
    assert _apart(face.gaze.gaze, np.array(sights)) < _SIGHT
    assert _apart(face.gaze.gaze_angle, gaze.gaze_angle(np.array(sights))) < _SIGHT


# Action units


@pytest.mark.parametrize("kind", ("video", "image"))
def test_scores(model: Model, faces: dict[int, Face], kind: str):
    """Of the first still, with the second as the person's neutral face for the video model."""
    units = getattr(model.analyser, kind)
    face, neutral = (faces[index] for index in _STILLS)
    rows = [np.concatenate([float64(f.fhog).ravel(), float64(f.geometry)]) for f in (face, neutral)]
    scores = jax.jit(score_action_units)(units, face.fhog, face.geometry)
    scores = jax.jit(subtract_medians)(units, scores, jnp.asarray(rows[1], jnp.float32))
    for found, heads in ((scores.intensity, units.intensity), (scores.presence, units.presence)):
        expected = [
            action_units.decision_value(rows[0], float64(units.mean), rows[1], weights, *settings)
            for weights, *settings in zip(
                float64(heads.weights), float64(heads.bias), np.asarray(heads.dynamic), strict=True
            )
        ]
        assert len(heads.names) > 3
        assert _apart(found, np.array(expected)) < _SCORE


# Many frames at once

_RUN = 40  # frames; a run has at least 30
# px, as in `test_segments`: the noise of the fit, and what a frame may be off by
_NOISE, _FRAME = 0.03, 0.2


def test_tracking_at_once_equals_tracking_in_order(model: Model):
    """A run of frames, a gap, and the face found again."""
    frames = [*read_frames(_RUN), *[np.zeros((*SIZE, 3), np.uint8)] * 4, *read_frames(6, _RUN)]
    clip = open_clip(model, frames, at_once=True)
    batches = list(analyze_chunks(clip))
    found, expected = collect_clip(clip, batches), jaxface.analyze_video(model, frames)
    tally = functools.reduce(Tally.plus, (batch.tally for batch in batches))
    assert tally.runs > 0 and tally.one_by_one < len(frames) / 2
    np.testing.assert_array_equal(found.success, expected.success)
    assert expected.success[:_RUN].all() and not expected.success[_RUN : _RUN + 4].any()
    apart = np.linalg.norm(found.landmarks - expected.landmarks, axis=-1)[expected.success]
    assert apart.mean() < _NOISE and apart.mean(axis=1).max() < _FRAME
