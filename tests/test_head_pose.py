"""Head pose and 3-D landmarks against the float64 reference and OpenFace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxface.analyze import estimate_head_pose, head_pose_wrt_camera, landmarks_to_camera
from jaxface.reference import head_pose as reference
from jaxface.types import Camera, PDMParameters

from .golden_pose import STAGES, as_module, read_face

_MM = 1e-3  # mm; float32 of distances up to 2 m has steps of 1e-4
_RAD = 1e-5  # rad; a float32 pose from 68 points, measured 3e-7
_CLOSE_MM = 1e-4  # mm; the 3-D landmarks are one product, measured 3e-5
# Of the largest entry: float32 through 12 steps, against float64 differences.
_DERIVATIVE = 1e-3

_solve = jax.jit(estimate_head_pose)
_place = jax.jit(landmarks_to_camera)


@pytest.fixture(params=STAGES)
def face(request, golden_dir, model_dir):
    return read_face(golden_dir, model_dir, request.param)


def _estimate(face):
    shape = jnp.asarray(face.shape_3d, jnp.float32)
    parameters = as_module(face.parameters)
    return np.asarray(_solve(shape, jnp.asarray(face.landmarks), parameters, face.camera))


def _reference(face, landmarks):
    p = face.parameters
    pose = float(p.scale), p.rotation.astype(float), p.translation.astype(float)
    return reference.estimate_head_pose(face.shape_3d, landmarks, *pose, face.intrinsics)


def test_pose_matches_openface_and_reference(face):
    pose = _estimate(face)
    for expected in (face.golden["pose"], _reference(face, face.landmarks.astype(float))):
        np.testing.assert_allclose(pose[:3], expected[:3], rtol=0, atol=_MM)
        np.testing.assert_allclose(pose[3:], expected[3:], rtol=0, atol=_RAD)


def test_landmarks_in_camera_frame_match_openface_and_reference(face):
    shape = jnp.asarray(face.shape_3d, jnp.float32)
    parameters = as_module(face.parameters)
    found = _place(shape, jnp.asarray(face.landmarks), parameters, face.camera)
    np.testing.assert_allclose(found, face.golden["shape3d_camera"], rtol=0, atol=_CLOSE_MM)
    expected = reference.landmarks_to_camera(
        face.shape_3d,
        face.landmarks.astype(float),
        float(face.parameters.scale),
        face.parameters.rotation.astype(float),
        face.intrinsics,
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=_CLOSE_MM)


def test_pose_relative_to_camera_matches_reference(face):
    pose = face.golden["pose"]
    found = head_pose_wrt_camera(jnp.asarray(pose, jnp.float32))
    expected = reference.head_pose_wrt_camera(pose)
    np.testing.assert_allclose(found[:3], expected[:3], rtol=0, atol=_MM)
    np.testing.assert_allclose(found[3:], expected[3:], rtol=0, atol=_RAD)


@pytest.mark.parametrize(
    "pose",
    [
        (300.0, 0.0, 900.0, 0.0, np.arctan2(300, 900), 0.0),
        (0.0, -200.0, 900.0, np.arctan2(200, 900), 0.0, 0.0),
    ],
    ids=["to the right", "above"],
)
def test_head_that_faces_the_camera_has_no_relative_rotation(pose):
    found = head_pose_wrt_camera(jnp.asarray(pose, jnp.float32))
    np.testing.assert_allclose(found[3:], np.zeros(3), rtol=0, atol=_RAD)


@pytest.mark.parametrize("turn", [(0.0, 0.0, 0.0), (0.4, -0.9, 0.3), (-0.3, 1.2, -0.6)])
def test_exact_projection_is_recovered(golden_dir, model_dir, turn):
    face = read_face(golden_dir, model_dir, "sample1")
    fx, _, cx, cy = face.intrinsics
    truth = np.array([120.0, -60.0, 550.0])
    posed = face.shape_3d @ reference.euler_to_matrix(np.array(turn)).T + truth
    landmarks = fx * posed[:, :2] / posed[:, 2:] + np.array([cx, cy])
    start = PDMParameters(
        scale=jnp.float32(fx / 600),
        rotation=jnp.asarray(turn, jnp.float32) + 0.2,
        translation=jnp.asarray(landmarks.mean(axis=0), jnp.float32),
        local=jnp.zeros(34, jnp.float32),
    )
    shape = jnp.asarray(face.shape_3d, jnp.float32)
    pose = _solve(shape, jnp.asarray(landmarks, jnp.float32), start, face.camera)
    np.testing.assert_allclose(pose[:3], truth, rtol=0, atol=5e-3)  # px rounding of 3e-5 * depth
    np.testing.assert_allclose(pose[3:], turn, rtol=0, atol=_RAD)


def _everything(landmarks, shape, scale, camera):
    parameters = PDMParameters(
        scale=scale,
        rotation=jnp.zeros(3, jnp.float32),
        translation=jnp.zeros(2, jnp.float32),
        local=jnp.zeros(34, jnp.float32),
    )
    pose = estimate_head_pose(shape, landmarks, parameters, camera)
    placed = landmarks_to_camera(shape, landmarks, parameters, camera)
    return jnp.concatenate([pose, head_pose_wrt_camera(pose), placed.ravel()])


@jax.jit
def _everything_and_slopes(landmarks, shape, scale, camera):
    found, pull = jax.vjp(_everything, landmarks, shape, scale, camera)
    return found, pull(jnp.ones_like(found))[:2]


@pytest.mark.parametrize("scale", [0.0, 1.0, np.nan])
def test_no_detection_gives_zeros_and_finite_derivatives(golden_dir, model_dir, scale):
    face = read_face(golden_dir, model_dir, "sample1")
    shape = jnp.asarray(face.shape_3d, jnp.float32)
    landmarks = jnp.zeros((68, 2), jnp.float32)
    found, slopes = _everything_and_slopes(landmarks, shape, jnp.float32(scale), face.camera)
    assert np.array_equal(found, np.zeros(12 + 204))
    assert all(np.isfinite(slope).all() for slope in slopes)


def test_derivatives_match_reference(golden_dir, model_dir):
    face = read_face(golden_dir, model_dir, "sample1")
    shape = jnp.asarray(face.shape_3d, jnp.float32)
    parameters = as_module(face.parameters)
    landmarks = jnp.asarray(face.landmarks)
    direction = np.random.default_rng(1).normal(size=(68, 2))

    @jax.jit
    def slopes(landmarks, direction):
        def pose(landmarks):
            return estimate_head_pose(shape, landmarks, parameters, face.camera)

        forward = jax.jvp(pose, (landmarks,), (direction,))[1]
        reverse = jax.jacrev(pose)(landmarks)
        return forward, jnp.einsum("kni,ni->k", reverse, direction)

    forward, reverse = slopes(landmarks, jnp.asarray(direction, jnp.float32))
    exact, step = face.landmarks.astype(float), 1e-3 * direction
    difference = (_reference(face, exact + step) - _reference(face, exact - step)) / 2e-3
    for found in (forward, reverse):
        for part in (slice(0, 3), slice(3, 6)):
            limit = _DERIVATIVE * np.abs(difference[part]).max()
            np.testing.assert_allclose(found[part], difference[part], rtol=0, atol=limit)


def test_other_camera_moves_the_head_along_the_axis(golden_dir, model_dir):
    face = read_face(golden_dir, model_dir, "sample1")
    fx, fy, cx, cy = face.intrinsics
    shape = jnp.asarray(face.shape_3d, jnp.float32)
    parameters, landmarks = as_module(face.parameters), jnp.asarray(face.landmarks)
    long = Camera(*map(jnp.float32, (4 * fx, 4 * fy, cx, cy)))
    ratio = _solve(shape, landmarks, parameters, long)[2] / _estimate(face)[2]
    assert 3.8 < ratio < 4.2
