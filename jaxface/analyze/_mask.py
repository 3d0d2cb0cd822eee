"""The face's outline in the aligned picture: hard as OpenFace's, and with a soft edge."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..types import Landmarks, LandmarkScheme
from ._config import AlignConfig

_RAISE = 30 / 0.7  # mask points go up by this times the scale, px
_WORD = 28  # pixels of a row kept in one integer


def face_mask(
    landmarks: Landmarks,
    matrix: Float[Array, "2 3"],
    scheme: LandmarkScheme,
    *,
    config: AlignConfig = AlignConfig(),
) -> Bool[Array, "s s"]:
    """Marks the aligned pixels that lie in a triangle of the face, brow line raised.

    Args:
        landmarks: the detected points, px.
        matrix: from frame px to aligned px.
        scheme: gives the triangles, and says which points are raised.
        config: size and scale of the output.

    Returns:
        True where the pixel centre is inside or, up to rounding, on an edge. It has no derivative:
        see `face_coverage`.

    Reference:
        Specification 03, A.3.
    """
    outline = _outline(landmarks, matrix, scheme, config.scale)
    corners = outline[np.array(scheme.triangles, np.int32)]
    rows = jnp.arange(config.size, dtype=outline.dtype)[None]
    low, high = jnp.min(corners, axis=1), jnp.max(corners, axis=1)
    in_box = (rows >= low[:, 1:]) & (rows <= high[:, 1:])
    first = jnp.broadcast_to(low[:, :1], in_box.shape)
    last = jnp.where(in_box, high[:, :1], -jnp.inf)
    for k in range(3):
        vertex, start, end = (corners[:, (k + j) % 3] for j in range(3))
        along = end - start
        # A pixel is on the vertex's side where slope * (x - start_x) <= room: along one row
        # that is a bound on x. The bounding box alone decides on a triangle without area.
        sign = jnp.sign(_cross(along, vertex - start))[:, None]
        slope = sign * along[:, 1:]
        room = sign * along[:, :1] * (rows - start[:, 1:])
        bound = start[:, :1] + room / jnp.where(slope == 0, 1, slope)
        first = jnp.where(slope < 0, jnp.maximum(first, bound), first)
        last = jnp.where(slope > 0, jnp.minimum(last, bound), last)
        last = jnp.where((slope == 0) & (room < 0), -jnp.inf, last)
    return _union_of_intervals(first, last, config.size)


def face_coverage(
    landmarks: Landmarks,
    matrix: Float[Array, "2 3"],
    scheme: LandmarkScheme,
    *,
    config: AlignConfig = AlignConfig(),
) -> Float[Array, "s s"]:
    """`face_mask` with a soft edge: falls from 1 to 0 within the pixel outside the triangles.

    It is continuous, and its derivative by landmarks and matrix exact. The ramp lies outside,
    because the edges between triangles of a face must not show.

    Args:
        landmarks: the detected points, px.
        matrix: from frame px to aligned px.
        scheme: gives the triangles, and says which points are raised.
        config: size and scale of the output.

    Returns:
        0 to 1; 1 where `face_mask` is true, elsewhere 1 less the distance from the nearest
        triangle, px, and at least 0.
    """
    outline = _outline(landmarks, matrix, scheme, config.scale)
    grid = jnp.arange(config.size, dtype=outline.dtype)
    edges = _edges(scheme.triangles)
    nearest = _nearest_edge(lax.stop_gradient(outline), edges, grid)
    square = _square_distance(outline[edges[:, 0]][nearest], outline[edges[:, 1]][nearest], grid)
    apart = square > 0
    distance = jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1)), 0)
    mask = face_mask(landmarks, matrix, scheme, config=config)
    return jnp.where(mask, 1, jnp.maximum(1 - distance, 0))


@functools.cache
def _edges(triangles: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    """Pairs of points (e, 2) that a side of a triangle joins, each once."""
    corners = np.array(triangles, np.int32)
    sides = np.concatenate([corners[:, [k, (k + 1) % 3]] for k in range(3)])
    return np.unique(np.sort(sides, axis=1), axis=0)


def _nearest_edge(
    outline: Landmarks, edges: np.ndarray, grid: Float[Array, " s"]
) -> Int[Array, "s s"]:
    """Number of the edge nearest to each pixel; a loop, for all at once are 2 million distances."""
    starts, ends = outline[edges[:, 0]], outline[edges[:, 1]]

    def compare(k, carry):
        best, found = carry
        square = _square_distance(starts[k], ends[k], grid)
        return jnp.minimum(best, square), jnp.where(square < best, k, found)

    side = len(grid)
    best = jnp.full((side, side), np.inf, grid.dtype)
    return lax.fori_loop(0, len(edges), compare, (best, jnp.zeros((side, side), jnp.int32)))[1]


def _square_distance(
    start: Float[Array, "*n 2"], end: Float[Array, "*n 2"], grid: Float[Array, " s"]
) -> Float[Array, "s s"]:
    """From each pixel of a square to a segment, which may be another for each pixel."""
    along_x, along_y = end[..., 0] - start[..., 0], end[..., 1] - start[..., 1]
    from_x, from_y = grid[None, :] - start[..., 0], grid[:, None] - start[..., 1]
    length = along_x * along_x + along_y * along_y
    share = (from_x * along_x + from_y * along_y) / jnp.where(length > 0, length, 1)
    share = jnp.clip(share, 0, 1)
    away_x, away_y = from_x - share * along_x, from_y - share * along_y
    return away_x * away_x + away_y * away_y


def _outline(
    landmarks: Landmarks, matrix: Float[Array, "2 3"], scheme: LandmarkScheme, scale: float
) -> Landmarks:
    """Landmarks in the aligned picture, those of the brows raised."""
    points = jnp.sum(landmarks[:, None, :] * matrix[None, :, :2], axis=-1) + matrix[None, :, 2]
    lifted = np.isin(np.arange(scheme.count), scheme.raised_points)
    raised = jnp.asarray(lifted[:, None] * np.array([0, _RAISE * scale]), points.dtype)
    return points - raised


def _union_of_intervals(
    first: Float[Array, "t y"], last: Float[Array, "t y"], size: int
) -> Bool[Array, "y x"]:
    """Pixels of each row between `first` and `last` of any triangle, both included."""
    words = np.arange(-(-size // _WORD), dtype=first.dtype)[None, None] * _WORD
    # Whole intervals become bit masks, so that a triangle costs a few words a row.
    start = jnp.clip(jnp.ceil(first)[..., None] - words, 0, _WORD).astype(jnp.int32)
    stop = jnp.clip(jnp.floor(last)[..., None] + 1 - words, 0, _WORD).astype(jnp.int32)
    one = jnp.int32(1)
    bits = ((one << stop) - 1) & ~((one << start) - 1)
    row_bits = lax.reduce(bits, np.int32(0), lax.bitwise_or, (0,))
    pixels = (row_bits[..., None] >> np.arange(_WORD, dtype=np.int32)[None, None]) & 1
    return pixels.reshape(size, -1)[:, :size] == 1


def _cross(a: Float[Array, "t 2"], b: Float[Array, "t 2"]) -> Float[Array, " t"]:
    return a[:, 0] * b[:, 1] - b[:, 0] * a[:, 1]
