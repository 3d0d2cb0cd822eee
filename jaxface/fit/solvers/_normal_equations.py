"""Gauss-Newton steps of a PDM, without its Jacobian.

A step solves (J'WJ) x = J'Wr, where J is the Jacobian of the landmarks by the parameters, W weighs
the landmarks and r is how far each shall move. J itself is never computed. Its columns for the pose
are linear in the landmark's 3-D point, and its columns for the shape are fixed modes that are
turned by one rotation. So both products follow from a few small sums over the landmarks, and from
products of modes, which stay the same through a fit. That takes a fifth of the arithmetic, and most
of it is in large matrix products, which run fast.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ...ops import euler_to_matrix, few_on_cuda, solve_spd
from ...types import PDMParameters
from .._pdm import CROSS, PDM
from . import _few_steps

_HIGHEST = lax.Precision.HIGHEST
_PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
_SHIFTS = np.zeros((2, 6, 1), np.int8)  # by t_x and t_y every point moves alike
_SHIFTS[0, 4] = _SHIFTS[1, 5] = 1


class Modes(eqx.Module):
    """A PDM laid out for fitting, with the products of its modes over some landmarks."""

    mean: Float[Array, "3 n"]  # mm
    by_mode: Float[Array, "m c"]  # mm; c = 3n, all x first
    by_landmark: Float[Array, "n d"]  # d = 3m, all x first
    eigenvalues: Float[Array, " m"]
    weights: Float[Array, " n"]  # of the landmarks, both coordinates
    products: Float[Array, "6 e"]  # e = m**2; sums over landmarks, per pair of coordinates

    def shape(self, local: Float[Array, " m"]) -> Float[Array, "3 n"]:
        """Landmarks in the head frame, mm."""
        moved = jnp.dot(local, self.by_mode, precision=_HIGHEST)
        return self.mean + moved.reshape(self.mean.shape)


def lay_out_modes(pdm: PDM, weights: Float[Array, " n"]) -> Modes:
    """Prepares a PDM for steps in which landmark i weighs `weights[i]`."""
    count, size = weights.shape[0], pdm.eigenvalues.shape[0]
    by_landmark = pdm.components.transpose(1, 2, 0)  # n 3 m
    weighted = by_landmark * weights[:, None, None]
    sums = [jnp.dot(weighted[:, a].T, by_landmark[:, b], precision=_HIGHEST) for a, b in _PAIRS]
    both = [s if a == b else s + s.T for s, (a, b) in zip(sums, _PAIRS, strict=True)]
    return Modes(
        mean=pdm.mean_shape.T,
        by_mode=pdm.components.transpose(0, 2, 1).reshape(size, -1),
        by_landmark=by_landmark.reshape(count, -1),
        eigenvalues=pdm.eigenvalues,
        weights=weights,
        products=jnp.stack(both).reshape(len(_PAIRS), -1),
    )


def project_rows(shape: Float[Array, "3 n"], parameters: PDMParameters) -> Float[Array, "2 n"]:
    """Weak-perspective image of a head-frame shape, px; x first."""
    rotation = euler_to_matrix(parameters.rotation)[:2]
    turned = jnp.sum(rotation[:, :, None] * shape[None], axis=1)
    return parameters.scale * turned + parameters.translation[:, None]


class NormalEquations(eqx.Module):
    """J'WJ in blocks of pose and shape, and J'Wr."""

    pose: Float[Array, "6 6"]
    cross: Float[Array, "6 m"]
    shape: Float[Array, "m m"]
    pose_gradient: Float[Array, "6"]
    shape_gradient: Float[Array, " m"]


def pose_step(
    modes: Modes,
    shape: Float[Array, "3 n"],
    parameters: PDMParameters,
    residual: Float[Array, "2 n"],
) -> Float[Array, "6"]:
    """Gauss-Newton step of scale, rotation and translation alone.

    Args:
        shape: at the current parameters, mm.
        residual: where the landmarks shall move, px; finite, also where the weight is 0.
    """
    arguments = modes, shape, parameters, residual
    return few_on_cuda(_few_pose_step, _pose_step, *arguments)


def _few_pose_step(modes, shape, parameters, residual):
    return _few_steps.pose_step(modes.weights, shape, parameters, residual)


def _pose_step(modes, shape, parameters, residual):
    sums = _sums(modes, shape, residual)
    pose, gradient = _pose_block(_levers(parameters), sums, shape)
    return solve_spd(pose, gradient)


def full_step(
    modes: Modes,
    shape: Float[Array, "3 n"],
    parameters: PDMParameters,
    residual: Float[Array, "2 n"],
    prior: Float[Array, " m"],
) -> Float[Array, " k"]:
    """Gauss-Newton step of pose and shape, with a Gaussian prior on the coefficients.

    Args:
        prior: inverse variance of each coefficient, times the weight of the prior.
    """
    arguments = modes, shape, parameters, residual, prior
    return few_on_cuda(_few_full_step, _full_step, *arguments)


def _few_full_step(modes, shape, parameters, residual, prior):
    return _few_steps.full_step(modes.by_mode, modes.weights, shape, parameters, residual, prior)


def _full_step(modes, shape, parameters, residual, prior):
    e = normal_equations(modes, shape, parameters, residual)
    gradient = jnp.concatenate([e.pose_gradient, e.shape_gradient - prior * parameters.local])
    upper = jnp.concatenate([e.pose, e.cross], axis=1)
    lower = jnp.concatenate([e.cross.T, e.shape + jnp.diag(prior)], axis=1)
    return solve_spd(jnp.concatenate([upper, lower]), gradient)


def normal_equations(
    modes: Modes,
    shape: Float[Array, "3 n"],
    parameters: PDMParameters,
    residual: Float[Array, "2 n"],
) -> NormalEquations:
    """J'WJ and J'Wr of pose and shape (specification 02, B.4 and D.3)."""
    size = modes.eigenvalues.shape[0]
    levers = _levers(parameters)
    sums = _sums(modes, shape, residual)
    pose, pose_gradient = _pose_block(levers, sums, shape)
    rotation = parameters.scale * euler_to_matrix(parameters.rotation)[:2]
    along = jnp.dot(sums, modes.by_landmark, precision=_HIGHEST).reshape(-1, 3, size)
    turned = jnp.sum(rotation[:, None, :, None] * along[None, :4], axis=2)  # 2 4 m
    square = jnp.sum(rotation[:, :, None] * rotation[:, None], axis=0)
    pairs = jnp.stack([square[a, b] for a, b in _PAIRS])
    return NormalEquations(
        pose=pose,
        cross=jnp.sum(levers[..., None] * turned[:, None], axis=(0, 2)),
        shape=jnp.dot(pairs, modes.products, precision=_HIGHEST).reshape(size, size),
        pose_gradient=pose_gradient,
        shape_gradient=jnp.sum(rotation[..., None] * along[4:], axis=(0, 1)),
    )


def _levers(parameters: PDMParameters) -> Float[Array, "2 6 4"]:
    """The pose columns of the Jacobian as linear maps of a landmark's (X, Y, Z, 1).

    `levers[axis, column] @ (X, Y, Z, 1)` is how far the landmark's image moves along x or y (axis 0
    or 1), in px, when the pose parameter of that column grows: scale, three angles, t_x, t_y.
    """
    rows = euler_to_matrix(parameters.rotation)[:2]
    # The derivative by omega is the cross product of the point with the row of the rotation.
    cross = CROSS.transpose(1, 2, 0).astype(rows.dtype)[None]
    turned = parameters.scale * jnp.sum(rows[:, None, :, None] * cross, axis=2)
    still = jnp.zeros((2, 2, 3), rows.dtype)
    linear = jnp.concatenate([rows[:, None], turned, still], axis=1)
    return jnp.concatenate([linear, jnp.asarray(_SHIFTS, rows.dtype)], axis=2)


def _sums(
    modes: Modes, shape: Float[Array, "3 n"], residual: Float[Array, "2 n"]
) -> Float[Array, "6 n"]:
    """Weighted (X, Y, Z, 1) and residuals, the rows that everything is summed with."""
    return jnp.concatenate([shape, jnp.ones_like(shape[:1]), residual]) * modes.weights[None]


def _pose_block(
    levers: Float[Array, "2 6 4"], sums: Float[Array, "6 n"], shape: Float[Array, "3 n"]
) -> tuple[Float[Array, "6 6"], Float[Array, "6"]]:
    """J'WJ and J'Wr of the pose alone.

    A column of J is a row of levers times (X, Y, Z, 1), so both follow from the sums of products
    of two such coordinates, and of a coordinate and a residual, over all landmarks.

    Args:
        levers: see `_levers`.
        sums: see `_sums`.
        shape: landmarks in the head frame, mm.
    """
    points = jnp.concatenate([shape, jnp.ones_like(shape[:1])])
    moments = jnp.dot(sums, points.T, precision=_HIGHEST)  # 6 4
    moved = jnp.sum(levers[:, :, :, None] * moments[None, None, :4], axis=2)  # 2 6 4
    pose = jnp.sum(moved[:, :, None] * levers[:, None], axis=(0, 3))
    return pose, jnp.sum(levers * moments[4:, None], axis=(0, 2))
