"""Where models of our own start a search: a guess, and poses of the mean shape in a box."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...ops import select
from ...types import Box, FivePoints, PDMParameters
from .._pdm import PDM, parameters_from_box
from ._five_points import are_apart, parameters_from_points, rotations_from_points

# Pitch, yaw and roll of heads, degrees, in place of what five points suggest, where there are none.
_UNKNOWN = ((0, 0, 0), (0, 12, 0), (0, -12, 0), (0, 38, 0), (0, -38, 0), (20, 0, 0), (-20, 0, 0))
_YAWS = np.radians([0, 25, -25, 50, -50]).astype(np.float32)  # at the tilt of five points
OWN_STARTS = len(_UNKNOWN)  # beside the guess; more find no more faces


def own_starts(
    pdm: PDM, box: Box, points: FivePoints, count: int, guess: PDMParameters | None = None
) -> PDMParameters:
    """The first starts, of at most `OWN_STARTS` and the guess; the likeliest one leads.

    Args:
        box: face box, px.
        points: of the face, px. Where they coincide there are none.
        guess: of a `ShapeRegressor`.
    """
    suggested = rotations_from_points(pdm, points, jnp.asarray(_YAWS))
    on_points = parameters_from_points(pdm, points, suggested[0])
    known = _join(jax.tree.map(lambda leaf: leaf[None], on_points), _in_box(pdm, box, suggested))
    unknown = _in_box(pdm, box, jnp.asarray(np.radians(_UNKNOWN), jnp.float32))
    first = select(are_apart(points), known, unknown)
    if guess is not None:
        first = _join(jax.tree.map(lambda leaf: leaf[None], guess), first)
    return jax.tree.map(lambda leaf: leaf[:count], first)


def _in_box(pdm: PDM, box: Box, rotations: Float[Array, "h 3"]) -> PDMParameters:
    return jax.vmap(lambda rotation: parameters_from_box(pdm, box, rotation))(rotations)


def _join(first: PDMParameters, second: PDMParameters) -> PDMParameters:
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
