"""The 60x60 frames into which the validator warps a face, one for each of a few yaws."""

import dataclasses

import numpy as np

from ...fit import PDM
from ..data import euler_to_matrix

SIDE = 60  # px of a frame
YAWS = (0, -30, -60, 60, 30)  # degrees; opposite ones are mirror images
MIRROR_FRAME = (0, 4, 3, 2, 1)
_BORDER = 0.5  # px left free around the shape
_THIN = 0.5  # px**2: narrower triangles are not warped


@dataclasses.dataclass(frozen=True)
class FaceFrames:
    """Geometry of the warp in the fields of `Validator`; triangles are padded to one number."""

    triangles: np.ndarray  # (v, t, 3) landmarks
    triangle_id: np.ndarray  # (v, 60, 60); -1 outside the face
    alpha: np.ndarray  # (v, t, 3)
    beta: np.ndarray  # (v, t, 3)


def face_triangles(pdm: PDM) -> np.ndarray:
    """Delaunay triangles (t, 3) of the frontal mean shape, clockwise as seen."""
    from scipy.spatial import Delaunay

    flat = np.asarray(pdm.mean_shape)[:, :2].astype(np.float64)
    flat = (flat + flat[_mirror_of(flat)] * [-1, 1]) / 2  # ties must fall alike on both sides
    found = Delaunay(flat).simplices
    found = found[np.abs(_area(flat[found])) > 1e-3]
    turned = _area(flat[found]) < 0
    found[turned] = found[turned][:, [0, 2, 1]]
    return found.astype(np.int32)


def _mirror_of(flat: np.ndarray) -> np.ndarray:
    distance = np.linalg.norm(flat[:, None] * [-1, 1] - flat, axis=-1)
    return distance.argmin(axis=1)


def _area(corners: np.ndarray) -> np.ndarray:
    """Signed areas (t,) of triangles (t, 3, 2)."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2


def face_frames(pdm: PDM, triangles: np.ndarray) -> FaceFrames:
    """Lays the mean shape, turned to each of `YAWS`, into a frame."""
    frames = [_frame(np.asarray(pdm.mean_shape, np.float64), triangles, yaw) for yaw in YAWS]
    most = max(len(frame[0]) for frame in frames)

    def padded(index: int) -> np.ndarray:
        return np.stack([np.pad(p[index], ((0, most - len(p[0])), (0, 0))) for p in frames])

    return FaceFrames(
        triangles=padded(0).astype(np.int32),
        triangle_id=np.stack([frame[1] for frame in frames]).astype(np.int32),
        alpha=padded(2).astype(np.float32),
        beta=padded(3).astype(np.float32),
    )


def _frame(
    mean: np.ndarray, triangles: np.ndarray, yaw: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Triangles that face the viewer, which of them covers each pixel, and their coordinates."""
    turned = mean @ euler_to_matrix(np.array([0, np.radians(yaw), 0])).T
    low, high = turned[:, :2].min(axis=0), turned[:, :2].max(axis=0)
    scale = (SIDE - 1 - 2 * _BORDER) / float(max(high - low))
    middle = np.array([(SIDE - 1) / 2, (SIDE - 1) / 2])
    flat = (turned[:, :2] - (low + high) / 2) * scale + middle
    kept = triangles[_area(flat[triangles]) > _THIN]
    kept = kept[np.argsort(-turned[kept, 2].mean(axis=1), kind="stable")]  # far ones first
    alpha, beta = _coordinates(flat[kept])
    y, x = np.mgrid[:SIDE, :SIDE]
    ones = np.stack([np.ones_like(x), x, y]).reshape(3, -1)
    a, b = alpha @ ones, beta @ ones  # (t, pixels)
    inside = (a >= -1e-6) & (b >= -1e-6) & (a + b <= 1 + 1e-6)
    last = len(kept) - 1 - inside[::-1].argmax(axis=0)  # the nearest one that covers a pixel
    return kept, np.where(inside.any(axis=0), last, -1).reshape(SIDE, SIDE), alpha, beta


def _coordinates(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (t, 3) that take (1, x, y) to the shares of the second and the third corner."""
    first = corners[:, 0]
    u, v = corners[:, 1] - first, corners[:, 2] - first
    area = (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])[:, None]
    by_point = np.stack([v[:, 1], -v[:, 0]], axis=1) / area
    other = np.stack([-u[:, 1], u[:, 0]], axis=1) / area
    alpha = np.concatenate([-np.sum(by_point * first, axis=1, keepdims=True), by_point], axis=1)
    beta = np.concatenate([-np.sum(other * first, axis=1, keepdims=True), other], axis=1)
    return alpha, beta
