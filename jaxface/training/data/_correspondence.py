"""Which vertex of the head model each point of the 478-point face mesh stands for.

The two meshes share 48 points by meaning (brows, nose, eyes, mouth). The head fitted to these
lies close to the mean of all people's meshes; the nearest vertex of each mesh point then joins
the fit, and so on until nothing moves.
"""

import dataclasses

import numpy as np

from ._camera import View
from ._fitting import Observed, fit_head, fit_pose
from ._head_model import PIECES, HeadModel
from ._portraits import Portraits

# Landmarks that both meshes define alike: neither the jaw nor the bridge of the nose, along which
# the mesh spaces its points otherwise.
_INNER = np.array([*range(17, 27), *range(30, 68)])
# Upper and lower edge of the brows on the mesh, in the order of landmarks 17 to 26. The markup's
# points run along the middle of the hairs, and the mesh's upper edge lies above them.
_BROW_TOP = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
_BROW_BOTTOM = (46, 53, 52, 65, 55, 285, 295, 282, 283, 276)
_BROW_SHARE = 0.7  # of the way from the upper edge to the lower
MESH_POINTS = 478
# Inner lips: points at the same share of the way from the corner to the middle as the head's
# landmarks; those of `mesh_to_68` lie nearer to the middle.
_SHIFTED = {61: 81, 63: 311, 65: 402, 67: 178}
_BROW_CLEARANCE = 7.0  # mm around the brows' landmarks in which no other point is paired
_ROUNDS = 4
_MOST = 12.0  # mm: a mesh point that lies farther from the head has no vertex
SKIN_POINTS = 468  # mesh points on skin; those after them are irises


@dataclasses.dataclass(frozen=True)
class Correspondence:
    """Pairs of mesh points and head vertices."""

    mesh_points: np.ndarray  # (k,) rows of `with_brows`; landmarks come first
    vertices: np.ndarray  # (k,)


def with_brows(mesh: np.ndarray) -> np.ndarray:
    """A mesh (478, 3) followed by the ten points of the brows, landmarks 17 to 26."""
    top, bottom = mesh[list(_BROW_TOP)], mesh[list(_BROW_BOTTOM)]
    return np.concatenate([mesh, top + _BROW_SHARE * (bottom - top)])


def observe(mesh: np.ndarray, pairs: Correspondence) -> Observed:
    """The paired points of one mesh (478, 3), px; landmarks weigh more than the rest."""
    points = with_brows(mesh.astype(np.float64))[pairs.mesh_points]
    weights = np.where(np.arange(len(points)) < len(_INNER), 2.0, 1.0)
    return Observed(points=points, weights=weights)


def find_correspondence(
    head: HeadModel, portraits: Portraits, people: np.ndarray
) -> Correspondence:
    """Pairs the meshes over the mean of some people.

    Args:
        people: numbers of those who are averaged.
    """
    from scipy.spatial import KDTree

    points = portraits.mesh_to_68.copy()
    points[17:27] = MESH_POINTS + np.arange(10)
    points[list(_SHIFTED)] = list(_SHIFTED.values())
    anchors = Correspondence(points[_INNER], head.landmarks[_INNER])
    mean = _mean_mesh(head, portraits, people, anchors)
    start, end = PIECES["face"]
    brows = with_brows(mean)[MESH_POINTS:]
    to_brows, _ = KDTree(brows).query(mean[:SKIN_POINTS])
    crowded = np.asarray(to_brows) < _BROW_CLEARANCE
    pairs = anchors
    for _ in range(_ROUNDS):
        view = View(np.eye(3, dtype=np.float32), 1.0, np.zeros(2), np.zeros(3, np.float32))
        fitted = fit_head(head, observe(mean, pairs), pairs.vertices, start=view)
        vertices = head.vertices(fitted.identity, fitted.expression)
        turned = fitted.view.project(vertices[start:end])
        turned[:, 2] = turned[:, 2] * fitted.view.scale + fitted.depth
        distance, nearest = KDTree(turned).query(mean[:SKIN_POINTS])
        free = (distance < _MOST) & ~crowded
        free[anchors.mesh_points[anchors.mesh_points < SKIN_POINTS]] = False
        rest = np.flatnonzero(free)
        pairs = Correspondence(
            np.concatenate([anchors.mesh_points, rest]),
            np.concatenate([anchors.vertices, np.asarray(nearest)[rest] + start]),
        )
    return pairs


def _mean_mesh(
    head: HeadModel, portraits: Portraits, people: np.ndarray, anchors: Correspondence
) -> np.ndarray:
    """Mean of the meshes in the frame of the head, (478, 3) mm."""
    total = np.zeros((portraits.mesh.shape[1], 3))
    for person in people:
        mesh = portraits.mesh[person].astype(np.float64)
        view, depth = fit_pose(observe(mesh, anchors), head.mean[anchors.vertices])
        offset = np.array([*view.translation, depth])
        total += (mesh - offset) / view.scale @ view.rotation + view.centre
    return total / len(people)
