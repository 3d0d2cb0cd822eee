"""Landmark shapes of many heads, without pictures: what the PDM is made from.

Only the vertices that landmarks and jaw contours need are computed, so a shape takes less than a
millisecond.
"""

import dataclasses

import numpy as np

from ..data import HeadModel, JawStrips, Registered, Tools, euler_to_matrix, landmarks_at_contour
from ..render import random_expression

_YAW, _PITCH = np.radians((30, 12))  # standard deviations of the poses that place the jaw
_MOST_YAW = np.radians(75)


@dataclasses.dataclass(frozen=True)
class ShapeTools:
    """What landmarks need of the head model."""

    head: HeadModel  # its vertices alone; triangles and texture are the whole head's
    strips: JawStrips
    bend: np.ndarray  # (n, k)


def shape_tools(tools: Tools) -> ShapeTools:
    """Cuts the vertices of landmarks and jaw contours out of the head."""
    head, strips = tools.head, tools.strips
    kept = np.unique(np.concatenate([head.landmarks, strips.start.ravel(), strips.end.ravel()]))
    small = dataclasses.replace(
        head,
        mean=head.mean[kept],
        identity_basis=head.identity_basis[:, kept],
        expression_basis=head.expression_basis[:, kept],
        landmarks=np.searchsorted(kept, head.landmarks),
        mirrored=np.zeros(0, np.int64),
    )
    start, end = np.searchsorted(kept, strips.start), np.searchsorted(kept, strips.end)
    return ShapeTools(small, dataclasses.replace(strips, start=start, end=end), tools.bend[kept])


def head_shapes(tools: ShapeTools, rng: np.random.Generator, count: int) -> np.ndarray:
    """Landmarks (count, 68, 3), mm, of made-up heads; all of them random."""
    shapes = []
    for _ in range(count):
        weights = random_expression(rng, tools.head)
        vertices = tools.head.vertices(rng.normal(size=len(tools.head.identity_basis)), weights)
        shapes.append(_at_contour(tools, rng, vertices))
    return np.stack(shapes)


def portrait_shapes(
    tools: ShapeTools, rng: np.random.Generator, registered: Registered, count: int
) -> np.ndarray:
    """Landmarks (count, 68, 3), mm, of one portrait; its own expression first, then others."""
    own = tools.head.vertices(registered.identity, registered.expression)
    own = own + tools.bend @ registered.displacement
    shapes = [_at_contour(tools, rng, own)]
    for _ in range(count - 1):
        rest = rng.uniform(0, 1) * registered.expression
        weights = np.clip(rest + random_expression(rng, tools.head), 0, 1)
        change = tools.head.expression_offsets(weights - registered.expression)
        shapes.append(_at_contour(tools, rng, own + change))
    return np.stack(shapes)


def _at_contour(tools: ShapeTools, rng: np.random.Generator, vertices: np.ndarray) -> np.ndarray:
    """Landmarks with the jaw where a random view shows its contour; near frontal most often."""
    yaw = np.clip(rng.normal(0, _YAW), -_MOST_YAW, _MOST_YAW)
    rotation = euler_to_matrix(np.array([rng.normal(0, _PITCH), yaw, 0.0]))
    return landmarks_at_contour(tools.head, tools.strips, vertices, rotation)
