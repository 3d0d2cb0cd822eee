"""Where models of our own start a search: poses of the mean shape in a box and on five points."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._types import Box, FivePoints, PDMParameters
from ..ops import euler_to_matrix, select
from ._five_points import (
    are_apart,
    parameters_from_points,
    rotations_from_points,
    tilt_head,
)
from ._pdm import PDM, parameters_from_box

# Pitch and yaw of heads, and the tilt in the picture, degrees.
_TURNED = ((0, 25, 0), (0, -25, 0), (0, 50, 0), (0, -50, 0))
_TILTED = tuple((0, yaw, tilt) for tilt in (30, -30, 60, -60) for yaw in (0, 40, -40))
# In place of what five points suggest, where there are none.
_UNKNOWN = ((0, 0, 0), (0, 12, 0), (0, -12, 0), (0, 38, 0), (0, -38, 0), (20, 0, 0), (-20, 0, 0))
_YAWS = np.radians([0, 25, -25, 50, -50]).astype(np.float32)  # at the tilt of five points
OWN_STARTS = len(_UNKNOWN) + len(_TURNED) + len(_TILTED)


def own_starts(pdm: PDM, box: Box, points: FivePoints, count: int) -> PDMParameters:
    """The first starts, of at most `OWN_STARTS`; the likeliest one leads.

    Args:
        box: face box, px.
        points: of the face, px. Where they coincide there are none.
    """
    suggested = rotations_from_points(pdm, points, jnp.asarray(_YAWS))
    on_points = parameters_from_points(pdm, points, suggested[0])
    known = _join(jax.tree.map(lambda leaf: leaf[None], on_points), _in_box(pdm, box, suggested))
    unknown = _in_box(pdm, box, _rotations(_UNKNOWN))
    first = select(are_apart(points), known, unknown)
    starts = _join(first, _in_box(pdm, box, _rotations(_TURNED + _TILTED)))
    return jax.tree.map(lambda leaf: leaf[:count], starts)


def _in_box(pdm: PDM, box: Box, rotations: Float[Array, "h 3"]) -> PDMParameters:
    return jax.vmap(lambda rotation: parameters_from_box(pdm, box, rotation))(rotations)


def _join(first: PDMParameters, second: PDMParameters) -> PDMParameters:
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)


def _rotations(turns: tuple[tuple[int, int, int], ...]) -> Float[Array, "h 3"]:
    """Euler angles, rad, of heads that are turned first and tilted in the picture then."""
    pitch, yaw, tilt = np.radians(turns).T
    zero = np.zeros_like(pitch)
    inner = jnp.asarray(np.stack([pitch, yaw, zero], axis=1), jnp.float32)
    outer = jnp.asarray(np.stack([zero, zero, tilt], axis=1), jnp.float32)
    return jax.vmap(tilt_head)(jax.vmap(euler_to_matrix)(outer), inner)
