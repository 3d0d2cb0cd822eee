"""A z-buffer for triangle meshes, in NumPy."""

import dataclasses

import numpy as np

_SLACK = 1e-4  # of a triangle's extent: neighbours leave no gaps between them


@dataclasses.dataclass(frozen=True)
class Fragments:
    """Pixels that a mesh covers, nearest surface only."""

    pixel: np.ndarray  # (k,) y * width + x, ascending
    triangle: np.ndarray  # (k,) row of the triangle list
    weights: np.ndarray  # (k, 3) barycentric, float32
    depth: np.ndarray  # (h, w) float32; infinite where nothing is seen

    def interpolate(
        self, values: np.ndarray, triangles: np.ndarray, rows: np.ndarray | slice = slice(None)
    ) -> np.ndarray:
        """Values (k, c) at all or some of the pixels, from (n, c) at the vertices."""
        corners = triangles[self.triangle[rows]]
        weights = self.weights[rows]
        total = weights[:, :1] * values[corners[:, 0]]
        for corner in (1, 2):
            total += weights[:, corner : corner + 1] * values[corners[:, corner]]
        return total


def rasterize(points: np.ndarray, triangles: np.ndarray, height: int, width: int) -> Fragments:
    """Finds the surface that each pixel sees; back faces are not drawn.

    Args:
        points: (n, 3) x, y in px, depth growing away from the camera.
        triangles: (t, 3); a front face runs anticlockwise as seen, y being down.
    """
    rows, box, planes = _set_up(points, triangles, height, width)
    left, top, wide, high = box
    count = wide * high
    owner = np.repeat(np.arange(len(rows), dtype=np.int32), count)
    local = np.arange(len(owner), dtype=np.int32)
    local -= np.repeat(np.cumsum(count, dtype=np.int32) - count, count)
    across = np.repeat(wide, count)
    down = local // across
    right = local - down * across
    # Coordinates within the triangle's own box are small, so float32 is exact enough.
    dx, dy = right.astype(np.float32), down.astype(np.float32)
    first, second = (p[0][owner] * dx + p[1][owner] * dy + p[2][owner] for p in planes)
    kept = np.flatnonzero((first >= -_SLACK) & (second >= -_SLACK) & (first + second <= 1 + _SLACK))
    owner, first, second = owner[kept], first[kept], second[kept]
    third = 1 - first - second
    z = points[:, 2].astype(np.float32)[triangles[rows]][owner]
    z = z[:, 0] * first + z[:, 1] * second + z[:, 2] * third
    pixel = ((top * width + left)[owner] + down[kept] * width + right[kept]).astype(np.int64)
    depth = np.full(height * width, np.inf, np.float32)
    np.minimum.at(depth, pixel, z)
    nearest = np.flatnonzero(z == depth[pixel])
    winner = np.full(height * width, -1, np.int64)
    winner[pixel[nearest]] = nearest
    shown = np.flatnonzero(winner >= 0)
    chosen = winner[shown]
    return Fragments(
        pixel=shown,
        triangle=rows[owner[chosen]],
        weights=np.stack([first[chosen], second[chosen], third[chosen]], axis=1),
        depth=depth.reshape(height, width),
    )


def _set_up(
    points: np.ndarray, triangles: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Front triangles that cover a pixel centre.

    Returns:
        Their rows (k,), boxes (4, k) left, top, width and height, and the planes (2, 3, k) of the
        first two barycentric weights over x and y from the corner of the box.
    """
    x, y = (points[:, axis].astype(np.float32)[triangles.T] for axis in (0, 1))
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    rows = np.flatnonzero(area < -1e-6)
    x, y, area = x[:, rows], y[:, rows], area[rows]
    left, right = _bounds(x, width)
    top, bottom = _bounds(y, height)
    wide, high = right - left + 1, bottom - top + 1
    covers = np.flatnonzero((wide > 0) & (high > 0))
    rows, area = rows[covers], area[covers]
    box = np.stack([left, top, wide, high])[:, covers]
    x, y = x[:, covers] - box[0], y[:, covers] - box[1]
    planes = np.empty((2, 3, len(rows)), np.float32)
    for corner, (p, q) in enumerate(((1, 2), (2, 0))):
        planes[corner, 0] = (y[p] - y[q]) / area
        planes[corner, 1] = (x[q] - x[p]) / area
        planes[corner, 2] = (x[p] * y[q] - x[q] * y[p]) / area
    return rows, box.astype(np.int32), planes


def _bounds(values: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last pixel of triangles (3, k) along one axis, within the picture."""
    low = np.minimum(np.minimum(values[0], values[1]), values[2])
    high = np.maximum(np.maximum(values[0], values[1]), values[2])
    return np.maximum(np.ceil(low), 0), np.minimum(np.floor(high), size - 1)


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
