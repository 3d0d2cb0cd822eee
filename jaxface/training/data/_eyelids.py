"""Points of the eyelids and the irises of a head."""

import numpy as np

from ._head_model import PIECES, HeadModel

EYES = ("left_eye", "right_eye")
LID_POINTS = 12  # per eye: a corner, five of the upper lid, the other corner, five of the lower
RING_POINTS = 8
IRIS_RADIUS = 5.9  # mm
# Landmarks around each eye, from the corner that lies further to the left of a frontal picture.
_RINGS = ((42, 43, 44, 45, 46, 47), (36, 37, 38, 39, 40, 41))


def eyelid_paths(head: HeadModel) -> np.ndarray:
    """Vertices (2, 12) evenly along the lids, left eye first.

    Each lid is the shortest way over the mesh through the landmarks of that lid.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import dijkstra

    face = head.triangles[head.piece_of("face")]
    edges = np.concatenate([face[:, [0, 1]], face[:, [1, 2]], face[:, [2, 0]]])
    length = np.linalg.norm(head.mean[edges[:, 0]] - head.mean[edges[:, 1]], axis=1)
    count = PIECES["face"][1]
    graph = coo_matrix((length, edges.T), shape=(count, count)).tocsr()
    lids = []
    for ring in _RINGS:
        stops = head.landmarks[list(ring)]
        path: list[list[np.int32]] = []
        for start, end in zip(stops, np.roll(stops, -1), strict=True):
            before = dijkstra(graph, directed=False, indices=start, return_predecessors=True)[1]
            way = [end]
            while way[-1] != start:
                way.append(before[way[-1]])
            path.append(way[::-1][:-1])
        lids.append(np.concatenate([_spread(head, path[:3]), _spread(head, path[3:])]))
    return np.stack(lids)


def _spread(head: HeadModel, path: list[list[np.int32]]) -> np.ndarray:
    """Half of `LID_POINTS` vertices, evenly along a path; its end is not among them."""
    vertices = np.concatenate(path)
    steps = np.linalg.norm(np.diff(head.mean[vertices], axis=0), axis=1)
    length = np.concatenate([[0], np.cumsum(steps)])
    half = LID_POINTS // 2
    wanted = np.arange(half) * length[-1] / (half - 0.5)
    return vertices[np.abs(length - wanted[:, None]).argmin(axis=1)]


def eyeball(vertices: np.ndarray, eye: str) -> tuple[np.ndarray, float]:
    """Centre (3,), mm, and radius, mm, of an eyeball of a head (n, 3)."""
    start, end = PIECES[eye]
    shell = vertices[start:end]
    centre = (shell.min(axis=0) + shell.max(axis=0)) / 2
    return centre, float(np.median(np.linalg.norm(shell - centre, axis=1)))


def iris_points(
    centre: np.ndarray, radius: float, direction: np.ndarray, iris: float = IRIS_RADIUS
) -> np.ndarray:
    """Centre and ring (9, 3) of the iris, `iris` mm in radius, of an eyeball.

    Args:
        centre, radius: of the eyeball, mm.
        direction: unit vector along which it looks.
    """
    across = np.cross(direction, [0.0, 1.0, 0.0])
    across /= np.linalg.norm(across)
    up = np.cross(across, direction)
    angle = np.arange(RING_POINTS) * (2 * np.pi / RING_POINTS)
    ring = np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * up
    middle = centre + np.sqrt(max(radius**2 - iris**2, 0.0)) * direction
    return np.concatenate([middle[None], middle + iris * ring]).astype(np.float32)
