"""Rotations and the pinhole camera against the float64 reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxface.ops import axis_angle_to_matrix, euler_to_matrix, matrix_to_euler, project_pinhole
from jaxface.reference import head_pose as reference
from jaxface.reference import pdm as reference_pdm
from jaxface.types import Camera

_MATRIX = 5e-7  # entries of at most 1; a few float32 roundings
# rad; the quaternion divides by its real part, at least 0.2 for the angles drawn here.
_ANGLE = 5e-6
_PIXEL = 2e-4  # px; float32 of coordinates up to 2000
_DERIVATIVE = 2e-3  # central differences in float32 with step 1e-2

_moderate = st.floats(-1.25, 1.25, allow_subnormal=False)
_any_turn = st.floats(-3.0, 3.0, allow_subnormal=False)


def _triple(values):
    return st.tuples(values, values, values).map(lambda v: np.array(v, np.float32))


@settings(deadline=None, max_examples=50)
@given(_triple(_any_turn))
def test_euler_matrix_matches_reference(rotation):
    found = euler_to_matrix(jnp.asarray(rotation))
    np.testing.assert_allclose(found, reference.euler_to_matrix(rotation), rtol=0, atol=_MATRIX)


@settings(deadline=None, max_examples=50)
@given(_triple(_moderate))
def test_matrix_to_euler_matches_reference(rotation):
    matrix = reference.euler_to_matrix(rotation).astype(np.float32)
    found = matrix_to_euler(jnp.asarray(matrix))
    expected = reference_pdm.matrix_to_euler(matrix.astype(float))
    np.testing.assert_allclose(found, expected, rtol=0, atol=_ANGLE)
    np.testing.assert_allclose(found, rotation, rtol=0, atol=_ANGLE)


@settings(deadline=None, max_examples=50)
@given(_triple(_any_turn), st.sampled_from([1.0, 1e-2, 1e-4, 0.0]))
def test_axis_angle_matrix_matches_reference(vector, size):
    vector = (vector * size).astype(np.float32)
    found = axis_angle_to_matrix(jnp.asarray(vector))
    np.testing.assert_allclose(found, reference.axis_angle_to_matrix(vector), rtol=0, atol=_MATRIX)


@pytest.mark.parametrize(
    "matrix",
    [np.diag([1, -1, -1]), np.diag([-1, -1, 1]), np.diag([-1, -1, -1]), np.full((3, 3), np.nan)],
    ids=["half turn about x", "half turn about z", "no rotation at all", "nan"],
)
def test_degenerate_matrix_gives_zero_angles(matrix):
    angles = matrix_to_euler(jnp.asarray(matrix, jnp.float32))
    assert np.array_equal(angles, np.zeros(3))


@pytest.mark.parametrize("yaw", [np.pi / 2, -np.pi / 2])
def test_derivative_is_finite_at_right_angle(yaw):
    def turn(rotation):
        return matrix_to_euler(euler_to_matrix(rotation))

    rotation = jnp.array([0.1, yaw, 0.2], jnp.float32)
    assert np.isfinite(jax.jacfwd(turn)(rotation)).all()
    assert np.isfinite(jax.jacrev(turn)(rotation)).all()


@pytest.mark.parametrize("function", [euler_to_matrix, axis_angle_to_matrix])
@pytest.mark.parametrize("vector", [[0.0, 0.0, 0.0], [0.3, -0.7, 0.2], [2e-4, 0.0, -1e-4]])
def test_derivatives_match_differences(function, vector):
    vector = jnp.array(vector, jnp.float32)
    steps = 1e-2 * np.eye(3, dtype=np.float32)
    differences = [(function(vector + h) - function(vector - h)) / 2e-2 for h in steps]
    expected = np.stack(differences, axis=-1)
    np.testing.assert_allclose(jax.jacfwd(function)(vector), expected, rtol=0, atol=_DERIVATIVE)
    np.testing.assert_allclose(jax.jacrev(function)(vector), expected, rtol=0, atol=_DERIVATIVE)


def test_pinhole_projection_matches_reference():
    rng = np.random.default_rng(0)
    points = rng.normal(0, 60, (68, 3))
    intrinsics = (1500.0, 1400.0, 1024.0, 683.0)
    camera = Camera(*map(jnp.float32, intrinsics))
    shift = np.array([50.0, -80.0, 700.0])
    placed = jnp.asarray(points + shift, jnp.float32)
    expected = reference.project(points, np.concatenate([np.zeros(3), shift]), intrinsics)
    np.testing.assert_allclose(project_pinhole(placed, camera), expected, rtol=0, atol=_PIXEL)
