"""A z-buffer for triangle meshes, in NumPy."""

import dataclasses

import numpy as np

_SLACK = 1e-5  # of a triangle's extent: neighbours leave no gaps between them


@dataclasses.dataclass(frozen=True)
class Fragments:
    """Pixels that a mesh covers, nearest surface only."""

    pixel: np.ndarray  # (k,) y * width + x, ascending
    triangle: np.ndarray  # (k,) row of the triangle list
    weights: np.ndarray  # (k, 3) barycentric, float32
    depth: np.ndarray  # (h, w) float32; infinite where nothing is seen

    def interpolate(self, corner_values: np.ndarray) -> np.ndarray:
        """Values (k, c) at the pixels, from (t, 3, c) at the corners of all triangles."""
        corners = corner_values[self.triangle]
        return np.einsum("ki,kic->kc", self.weights, corners)


def rasterize(points: np.ndarray, triangles: np.ndarray, height: int, width: int) -> Fragments:
    """Finds the surface that each pixel sees; back faces are not drawn.

    Args:
        points: (n, 3) x, y in px, depth growing away from the camera.
        triangles: (t, 3); a front face runs anticlockwise as seen, y being down.
    """
    rows, x0, y0, wide, high, planes = _set_up(points, triangles, height, width)
    count = wide * high
    owner = np.repeat(np.arange(len(rows)), count)
    start = np.cumsum(count) - count
    local = np.arange(len(owner)) - start[owner]
    down = local // wide[owner]
    x = x0[owner] + local - down * wide[owner]
    y = y0[owner] + down
    plane = planes[owner]
    first = plane[:, 0] * x + plane[:, 1] * y + plane[:, 2]
    second = plane[:, 3] * x + plane[:, 4] * y + plane[:, 5]
    third = 1 - first - second
    kept = np.flatnonzero((first >= -_SLACK) & (second >= -_SLACK) & (third >= -_SLACK))
    plane = plane[kept]
    weights = np.stack([first[kept], second[kept], third[kept]], axis=1)
    z = plane[:, 6] * weights[:, 0] + plane[:, 7] * weights[:, 1] + plane[:, 8] * weights[:, 2]
    z = z.astype(np.float32)
    pixel = (y[kept] * width + x[kept]).astype(np.int64)
    depth = np.full(height * width, np.inf, np.float32)
    np.minimum.at(depth, pixel, z)
    nearest = np.flatnonzero(z == depth[pixel])
    winner = np.full(height * width, -1, np.int64)
    winner[pixel[nearest]] = nearest
    seen = np.flatnonzero(winner >= 0)
    chosen = winner[seen]
    return Fragments(
        pixel=seen,
        triangle=rows[owner[kept[chosen]]],
        weights=weights[chosen].astype(np.float32),
        depth=depth.reshape(height, width),
    )


def _set_up(
    points: np.ndarray, triangles: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, ...]:
    """Front triangles that cover a pixel centre: rows, bounds, and planes of the weights."""
    x, y = points[:, 0][triangles], points[:, 1][triangles]
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    left = np.maximum(np.ceil(x.min(1)), 0)
    top = np.maximum(np.ceil(y.min(1)), 0)
    wide = np.minimum(np.floor(x.max(1)), width - 1) - left + 1
    high = np.minimum(np.floor(y.max(1)), height - 1) - top + 1
    rows = np.flatnonzero((area < -1e-9) & (wide > 0) & (high > 0))
    x, y, z = x[rows].astype(np.float64), y[rows].astype(np.float64), points[triangles[rows], 2]
    inverse = 1 / area[rows]
    planes = np.empty((len(rows), 9))
    for corner, (p, q) in enumerate(((1, 2), (2, 0))):
        planes[:, 3 * corner] = (y[:, p] - y[:, q]) * inverse
        planes[:, 3 * corner + 1] = (x[:, q] - x[:, p]) * inverse
        planes[:, 3 * corner + 2] = (x[:, p] * y[:, q] - x[:, q] * y[:, p]) * inverse
    planes[:, 6:] = z
    whole = [values[rows].astype(np.int64) for values in (left, top, wide, high)]
    return rows, *whole, planes


def seen(points: np.ndarray, depth: np.ndarray, *, slack: float, reach: int = 1) -> np.ndarray:
    """Whether nothing hides each point.

    Args:
        points: (n, 3) x, y in px and depth.
        depth: (h, w) of a rasterised mesh.
        slack: how far behind the surface a point may lie, in units of the depth.
        reach: a point is seen where any pixel this near sees it, px.

    Returns:
        (n,) bool; points outside the picture are taken as seen if their border pixel is.
    """
    height, width = depth.shape
    x, y = np.rint(points[:, 0]).astype(int), np.rint(points[:, 1]).astype(int)
    found = np.zeros(len(points), bool)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            near = depth[np.clip(y + dy, 0, height - 1), np.clip(x + dx, 0, width - 1)]
            found |= points[:, 2] <= near + slack
    return found
