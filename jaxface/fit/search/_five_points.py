"""Poses from the five points that a face detector gives: where a search starts."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from ...ops import (
    euler_to_matrix,
    matrix_to_euler,
    similarity_matrix,
    similarity_sums,
    small_product,
    solve_spd,
)
from ...types import FivePoints, PDMParameters
from .._pdm import PDM, project, rigid_jacobian, update_parameters

PointGroups = tuple[tuple[int, ...], ...]  # landmarks whose mean each of the five points is
_NOISE = 6.0  # mm: how far a point may be off, also because the shape is not known
_SPREAD = np.radians([15, 35])  # of the pitch and the yaw of heads, rad
_LIMIT = np.radians([30, 60, 30])  # larger angles are not believed, rad
_STEPS = 6
_SMALLEST = 0.005  # px per mm: a face of a single pixel, in which no fit succeeds
_TINY = 1e-6


def five_points(landmarks: Float[Array, "n d"], groups: PointGroups) -> Float[Array, "5 d"]:
    """Middle of each eye, tip of the nose, corners of the mouth, as detectors give them.

    Args:
        groups: see `LandmarkScheme.five_points`.
    """
    return jnp.stack([jnp.mean(landmarks[np.array(group)], axis=0) for group in groups])


def are_apart(points: FivePoints) -> Bool[Array, ""]:
    """Whether points may be those of a face: finite, and not all in one place."""
    away = points - jnp.mean(points, axis=0, keepdims=True)
    return jnp.all(jnp.isfinite(points)) & (jnp.sum(away * away) > _TINY)


def tilt_head(tilt: Float[Array, "3 3"], rotation: Float[Array, "3"]) -> Float[Array, "3"]:
    """Euler angles of a turned head, rad, that is then turned as a whole."""
    return matrix_to_euler(small_product(tilt, euler_to_matrix(rotation)))


def rotations_from_points(
    pdm: PDM, groups: PointGroups, points: FivePoints, yaws: Float[Array, " y"]
) -> Float[Array, "h 3"]:
    """Head rotations that five points suggest.

    Args:
        groups: landmarks whose means the five points are.
        points: px; see `five_points`. Points that are not a face's, as those that coincide, give
            an upright head.
        yaws: rad; of heads that are tilted as the points are.
    Returns:
        Euler angles: the likeliest rotation, then one for each yaw.
    """
    shape = five_points(pdm.mean_shape, groups)
    shape = shape - jnp.mean(shape, axis=0, keepdims=True)
    upright, tilt = _upright(shape, points)
    limit = _LIMIT.astype(points.dtype)
    likeliest = jnp.clip(_turn(shape, upright), -limit, limit)
    zeros = jnp.zeros_like(yaws)
    rotations = jnp.concatenate([likeliest[None], jnp.stack([zeros, yaws, zeros], axis=1)])
    return jax.vmap(lambda rotation: tilt_head(tilt, rotation))(rotations)


def _upright(
    shape: Float[Array, "5 3"], points: FivePoints
) -> tuple[Float[Array, "5 2"], Float[Array, "3 3"]]:
    """The points in mm as if the head were upright, and the rotation in the picture that tilts it.

    Both come from the similarity that brings the shape, seen from the front, nearest to the points.
    """
    apart = are_apart(points)
    away = jnp.where(apart, points - jnp.mean(points, axis=0, keepdims=True), shape[:, :2])
    cosine, sine, square, _ = similarity_sums(shape[:, :2], away)
    a, b = cosine / square, sine / square
    like = a * a + b * b > _TINY
    a, b = jnp.where(like, a, 1), jnp.where(like, b, 0)
    zoom = a * a + b * b
    cosine, sine = a / jnp.sqrt(zoom), b / jnp.sqrt(zoom)
    zero, one = jnp.zeros_like(a), jnp.ones_like(a)
    tilt = jnp.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, one]).reshape(3, 3)
    return small_product(away, similarity_matrix(a, b)) / zoom, tilt


def _turn(shape: Float[Array, "5 3"], points: Float[Array, "5 2"]) -> Float[Array, "3"]:
    """Euler angles of the head at which the shape's points are nearest to the given ones, mm.

    It takes Gauss-Newton steps. Pitch and yaw have normal priors, as five points tell them vaguely.
    """
    precision = np.zeros(6, points.dtype)
    precision[1:3] = 1 / _SPREAD.astype(points.dtype) ** 2
    parameters = PDMParameters(
        scale=jnp.ones((), points.dtype),
        rotation=jnp.zeros(3, points.dtype),
        translation=jnp.zeros(2, points.dtype),
        local=jnp.zeros(0, points.dtype),
    )

    def step(_, parameters: PDMParameters) -> PDMParameters:
        jacobian = rigid_jacobian(shape, parameters).reshape(10, 6) / _NOISE
        away = (points - project(shape, parameters)).reshape(10) / _NOISE
        angles = jnp.pad(parameters.rotation[:2], (1, 3))
        normal = small_product(jacobian.T, jacobian) + jnp.diag(jnp.asarray(precision))
        slope = jnp.sum(jacobian * away[:, None], axis=0) - precision * angles
        return update_parameters(parameters, solve_spd(normal, slope))

    return lax.fori_loop(0, _STEPS, step, parameters).rotation


def parameters_from_points(
    pdm: PDM, groups: PointGroups, points: FivePoints, rotation: Float[Array, "3"]
) -> PDMParameters:
    """Parameters of the mean shape, turned by `rotation`, whose five points are nearest.

    Args:
        groups: landmarks whose means the five points are.
        points: px; those that coincide give a face of a single pixel.
        rotation: Euler angles, rad.
    """
    points = jnp.where(are_apart(points), points, 0)
    turned = small_product(five_points(pdm.mean_shape, groups), euler_to_matrix(rotation)[:2].T)
    middle, target = jnp.mean(turned, axis=0), jnp.mean(points, axis=0)
    centred = turned - middle[None]
    scale = jnp.sum(centred * (points - target[None])) / jnp.sum(centred**2)
    scale = jnp.maximum(scale, _SMALLEST)
    return PDMParameters(
        scale=scale,
        rotation=rotation,
        translation=target - scale * middle,
        local=jnp.zeros_like(pdm.eigenvalues),
    )
