"""Where guided searches start: poses from five points, and from the box alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxface
from jaxface.fit import PDM, shape_2d
from jaxface.fit.search import (
    POSE_STARTS,
    are_apart,
    five_points,
    guided_starts,
    parameters_from_points,
    rotations_from_points,
)
from jaxface.ops import euler_to_matrix
from jaxface.types import MULTI_PIE_68, PDMParameters

# Degrees. Priors pull yaw and pitch towards upright: of 50 degrees of yaw 44 to 47 are found.
_YAW, _PITCH, _TILT = 8.0, 6.0, 3.0
_PLACED = 1e-3  # px of positions up to 600; float32
_GROUPS = MULTI_PIE_68.five_points
_rotations = jax.jit(lambda pdm, *points: rotations_from_points(pdm, _GROUPS, *points))
_BOX = jnp.asarray([300.0, 200, 420, 330])


@pytest.fixture(scope="module")
def pdm() -> PDM:
    return jax.tree.map(jnp.asarray, jaxface.load_model().clnf.main.pdm)


def _head(pitch: float, yaw: float, tilt: float) -> jax.Array:
    """Rotation matrix of a head that is turned first and tilted in the picture then; degrees."""
    outer, inner = np.radians([0, 0, tilt]), np.radians([pitch, yaw, 0])
    return euler_to_matrix(jnp.float32(outer)) @ euler_to_matrix(jnp.float32(inner))


def _points(pdm: PDM, rotation: jax.Array, scale: float = 1.6) -> jax.Array:
    turned = scale * five_points(pdm.mean_shape, _GROUPS) @ rotation[:2].T
    return turned + jnp.asarray([[350.0, 260]])


@pytest.mark.parametrize("tilt", [-100, -60, -30, 0, 30, 60, 100])
@pytest.mark.parametrize("yaw", [-50, -20, 0, 20, 50])
def test_points_tell_the_pose(pdm, yaw, tilt):
    for pitch in (-15, 0, 15):
        wanted = _head(pitch, yaw, tilt)
        found = _rotations(pdm, _points(pdm, wanted), jnp.zeros(1))
        upright = _head(0, 0, tilt).T @ euler_to_matrix(found[0])
        found_yaw = np.degrees(np.arcsin(float(upright[0, 2])))
        found_pitch = np.degrees(np.arctan2(-float(upright[1, 2]), float(upright[2, 2])))
        found_tilt = np.degrees(np.arctan2(-float(upright[0, 1]), float(upright[0, 0])))
        assert abs(found_yaw - yaw) < _YAW
        assert abs(found_pitch - pitch) < _PITCH
        assert abs(found_tilt) < _TILT + abs(yaw * pitch) / 60  # a turned, bent head looks tilted


def test_given_yaws_keep_the_tilt_of_the_points(pdm):
    yaws = jnp.radians(jnp.asarray([-40.0, 0, 40]))
    found = rotations_from_points(pdm, _GROUPS, _points(pdm, _head(0, 0, 60)), yaws)
    for yaw, rotation in zip((-40, 0, 40), found[1:], strict=True):
        np.testing.assert_allclose(euler_to_matrix(rotation), _head(0, yaw, 60), atol=1e-3)


def test_the_mean_shape_is_placed_on_its_points(pdm):
    rotation = jnp.asarray([0.1, -0.5, 0.7])
    wanted = PDMParameters(
        scale=jnp.float32(1.6),
        rotation=rotation,
        translation=jnp.asarray([350.0, 260]),
        local=jnp.zeros_like(pdm.eigenvalues),
    )
    points = five_points(shape_2d(pdm, wanted), _GROUPS)
    found = parameters_from_points(pdm, _GROUPS, points, rotation)
    np.testing.assert_allclose(shape_2d(pdm, found), shape_2d(pdm, wanted), atol=_PLACED)


@functools.partial(jax.jit, static_argnames="count")
def _starts(pdm: PDM, points: jax.Array, count: int = POSE_STARTS) -> PDMParameters:
    return guided_starts(pdm, _GROUPS, _BOX, points, count)


def test_the_first_start_is_the_likeliest(pdm):
    points = _points(pdm, _head(0, -30, 40))
    first = _starts(pdm, points, 1)
    likeliest = _rotations(pdm, points, jnp.zeros(1))[0]
    np.testing.assert_allclose(first.rotation[0], likeliest, atol=1e-5)
    unknown = _starts(pdm, jnp.zeros((5, 2)), 1)
    np.testing.assert_array_equal(unknown.rotation[0], jnp.zeros(3))
    landmarks = shape_2d(pdm, jax.tree.map(lambda leaf: leaf[0], unknown))
    middle = (landmarks.min(axis=0) + landmarks.max(axis=0)) / 2
    np.testing.assert_allclose(middle, (_BOX[:2] + _BOX[2:]) / 2, atol=_PLACED)


def test_starts_without_points_turn_both_ways(pdm):
    """Up to a pitch of 20 degrees or a yaw of 50 an upright head is near one of them."""
    starts = _starts(pdm, jnp.zeros((5, 2)))
    assert starts.rotation.shape == (POSE_STARTS, 3)
    turns = jax.vmap(euler_to_matrix)(starts.rotation)
    heads = [_head(0, yaw, 0) for yaw in range(-50, 51, 10)]
    heads += [_head(pitch, 0, 0) for pitch in range(-20, 21, 10)]
    for head in heads:
        cosines = (jnp.einsum("hij,ij->h", turns, head) - 1) / 2
        assert np.degrees(np.arccos(np.clip(float(cosines.max()), -1, 1))) < 14


@pytest.mark.parametrize(
    "bad", [jnp.zeros((5, 2)), jnp.full((5, 2), 70.0), jnp.full((5, 2), jnp.nan)]
)
def test_points_in_one_place_are_none(pdm, bad):
    assert not are_apart(bad)
    found, none = _starts(pdm, bad), _starts(pdm, jnp.zeros((5, 2)))
    jax.tree.map(np.testing.assert_array_equal, found, none)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize("seed", range(5))
def test_points_of_no_face_give_finite_starts(pdm, seed):
    points = jnp.asarray(np.random.default_rng(seed).normal(300, 200, (5, 2)), jnp.float32)
    found = _starts(pdm, points)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    assert np.all(found.scale > 0)


def test_mapped_starts_equal_the_loop(pdm):
    many = jnp.stack([_points(pdm, _head(5, yaw, tilt)) for yaw, tilt in ((0, 0), (40, -60))])
    many = jnp.concatenate([many, jnp.zeros((1, 5, 2))])
    mapped = jax.jit(jax.vmap(lambda points: _starts(pdm, points)))(many)
    for row, points in enumerate(many):
        alone = _starts(pdm, points)
        for one, all_ in zip(jax.tree.leaves(alone), jax.tree.leaves(mapped), strict=True):
            np.testing.assert_allclose(all_[row], one, atol=2e-4)


def test_derivatives_by_the_points(pdm):
    def middle(points: jax.Array) -> jax.Array:
        first = jax.tree.map(lambda leaf: leaf[0], _starts(pdm, points, 1))
        return jnp.mean(shape_2d(pdm, first))

    points = _points(pdm, _head(5, 20, 30))
    slope = jax.jit(jax.grad(middle))(points)
    assert np.isfinite(slope).all() and np.abs(slope).max() > 1e-3
    step = 0.5
    moved = (middle(points + step) - middle(points - step)) / (2 * step)
    np.testing.assert_allclose(slope.sum(), moved, atol=5e-3)
