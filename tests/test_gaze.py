"""Gaze against the float64 reference and OpenFace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxface.analyze import estimate_gaze, landmarks_to_camera
from jaxface.reference import gaze as reference
from jaxface.reference import head_pose as reference_pose
from jaxface.types import Camera, PartFit, PDMParameters

from .golden_pose import STAGES, as_module, read_face

# Unit vectors and rad; OpenFace's own float32 quadratic is off by up to 2.4e-5.
_OPENFACE = 5e-5
_REFERENCE = 1e-5  # float32 of an iris 0.5 m away, over 12 mm: measured 3e-6
_MM = 1e-4  # mm; measured 3e-5
_DERIVATIVE = 2e-3  # of the largest entry; float32 against float64 differences

_solve = jax.jit(estimate_gaze)


@pytest.fixture(params=STAGES)
def face(request, golden_dir, model_dir):
    return read_face(golden_dir, model_dir, request.param)


def _arguments(face):
    left, right = (jnp.asarray(shape, jnp.float32) for shape in face.eye_shapes)
    landmarks_3d = landmarks_to_camera(
        jnp.asarray(face.shape_3d, jnp.float32),
        jnp.asarray(face.landmarks),
        as_module(face.parameters),
        face.camera,
    )
    pose = jnp.asarray(face.golden["pose"], jnp.float32)
    return face.eyes, (left, right), landmarks_3d, pose, face.camera


def _reference(face, eye_landmarks):
    landmarks_3d = reference_pose.landmarks_to_camera(
        face.shape_3d,
        face.landmarks.astype(float),
        float(face.parameters.scale),
        face.parameters.rotation.astype(float),
        face.intrinsics,
    )
    matrix = reference_pose.euler_to_matrix(face.golden["pose"][3:])
    gaze = []
    for side in range(2):
        p = face.eye_parameters[side]
        points = reference_pose.landmarks_to_camera(
            face.eye_shapes[side],
            eye_landmarks[side],
            float(p.scale),
            p.rotation.astype(float),
            face.intrinsics,
        )
        centre = reference.eyeball_centre(landmarks_3d, side, matrix)
        gaze.append(reference.gaze_of_eye(points, centre))
    return np.stack(gaze)


def test_gaze_matches_openface_and_reference(face):
    found = _solve(*_arguments(face))
    golden = np.stack([face.golden["gaze0"], face.golden["gaze1"]])
    np.testing.assert_allclose(found.gaze, golden, rtol=0, atol=_OPENFACE)
    np.testing.assert_allclose(found.gaze_angle, face.golden["gaze_angle"], rtol=0, atol=_OPENFACE)
    expected = _reference(face, [points.astype(float) for points in face.eye_landmarks])
    np.testing.assert_allclose(found.gaze, expected, rtol=0, atol=_REFERENCE)
    np.testing.assert_allclose(
        found.gaze_angle, reference.gaze_angle(expected), rtol=0, atol=_REFERENCE
    )


def test_eye_landmarks_match_openface(face):
    found = _solve(*_arguments(face))
    assert np.array_equal(found.eye_landmarks, face.golden["eye_landmarks_2d"])
    golden = face.golden["eye_landmarks_3d"]
    np.testing.assert_allclose(found.eye_landmarks_3d, golden, rtol=0, atol=_MM)


def test_sight_that_misses_the_eyeball_follows_the_reference(golden_dir, model_dir):
    face = read_face(golden_dir, model_dir, "sample1")
    eyes, shapes, landmarks_3d, pose, camera = _arguments(face)
    aside = [eye.landmarks + 200 for eye in eyes]
    moved = tuple(PartFit(eye.parameters, p) for eye, p in zip(eyes, aside, strict=True))
    found = _solve(moved, shapes, landmarks_3d, pose, camera)
    expected = _reference(face, [np.asarray(p, float) for p in aside])
    np.testing.assert_allclose(found.gaze, expected, rtol=0, atol=_REFERENCE)


def test_no_detection_gives_zeros_and_finite_derivatives():
    parameters = PDMParameters(
        scale=jnp.float32(1),
        rotation=jnp.zeros(3, jnp.float32),
        translation=jnp.zeros(2, jnp.float32),
        local=jnp.zeros(10, jnp.float32),
    )
    camera = Camera(*map(jnp.float32, (500, 500, 320, 240)))
    shape = jnp.zeros((28, 3), jnp.float32)
    landmarks_3d, pose = jnp.zeros((68, 3), jnp.float32), jnp.zeros(6, jnp.float32)

    def gaze(landmarks, landmarks_3d, pose):
        eye = PartFit(parameters, landmarks)
        found = estimate_gaze((eye, eye), (shape, shape), landmarks_3d, pose, camera)
        return jnp.concatenate([found.gaze.ravel(), found.gaze_angle])

    landmarks = jnp.zeros((28, 2), jnp.float32)
    found, pull = jax.vjp(jax.jit(gaze), landmarks, landmarks_3d, pose)
    assert np.array_equal(found, np.zeros(8))
    assert all(np.isfinite(slope).all() for slope in pull(jnp.ones_like(found)))


def test_derivatives_match_reference(golden_dir, model_dir):
    face = read_face(golden_dir, model_dir, "sample1")
    eyes, shapes, landmarks_3d, pose, camera = _arguments(face)
    direction = np.random.default_rng(1).normal(size=(2, 28, 2))

    @jax.jit
    def slopes(direction):
        def gaze(landmarks):
            left, right = (PartFit(e.parameters, p) for e, p in zip(eyes, landmarks, strict=True))
            return estimate_gaze((left, right), shapes, landmarks_3d, pose, camera).gaze

        at = jnp.stack([eye.landmarks for eye in eyes])
        forward = jax.jvp(gaze, (at,), (direction,))[1]
        return forward, jnp.einsum("gkeni,eni->gk", jax.jacrev(gaze)(at), direction)

    exact, step = np.stack(face.eye_landmarks).astype(float), 1e-3 * direction
    difference = (_reference(face, exact + step) - _reference(face, exact - step)) / 2e-3
    limit = _DERIVATIVE * np.abs(difference).max()
    for found in slopes(jnp.asarray(direction, jnp.float32)):
        np.testing.assert_allclose(found, difference, rtol=0, atol=limit)
