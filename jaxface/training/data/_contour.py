"""Jaw landmarks at the visible contour, as the 300-W markup has them.

Annotators mark the jaw where the face ends in the picture. On the side that is turned away this is
not the jaw bone but wherever the cheek hides what lies behind it. Each jaw landmark may
therefore slide forward over the face along a strip, a plane section through the landmark; the
point of the strip that lies farthest out in the picture is the landmark. Annotators also space the
points evenly between ear and chin.
"""

import dataclasses

import numpy as np

from ._head_model import HeadModel

JAW = 17
CHIN = 8
_REACH = 55.0  # mm that a landmark may slide
_BEHIND = 1.0  # mm that a strip may run behind its landmark
_POINTS = 24  # of a strip
_SPREADS = 3


@dataclasses.dataclass(frozen=True)
class JawStrips:
    """Points over which the jaw landmarks slide; each lies on an edge of the mesh."""

    start: np.ndarray  # (17, p) vertex
    end: np.ndarray  # (17, p) vertex
    share: np.ndarray  # (17, p) of the end
    outward: np.ndarray  # (17, 2) unit vector away from the face in its frontal picture


def jaw_strips(head: HeadModel) -> JawStrips:
    """Cuts the neutral mean face along the strips of all jaw landmarks."""
    face = head.triangles[head.piece_of("face")]
    edges = np.sort(np.concatenate([face[:, [0, 1]], face[:, [1, 2]], face[:, [2, 0]]]), axis=1)
    edges = np.unique(edges, axis=0)
    jaw = head.mean[head.landmarks[:JAW]]
    tangent = np.gradient(jaw[:, :2], axis=0)
    outward = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    outward *= np.sign(np.sum(outward * (jaw[:, :2] - jaw[:, :2].mean(0)), 1, keepdims=True))
    cuts = [_cut(head, edges, int(head.landmarks[k]), outward[k]) for k in range(JAW)]
    start, end, share = (np.stack(values) for values in zip(*cuts, strict=True))
    return JawStrips(start, end, share, outward)


def _cut(
    head: HeadModel, edges: np.ndarray, landmark: int, outward: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Section of the face by the plane through a landmark, `outward` and the line of sight."""
    tangent = np.array([-outward[1], outward[0]])
    offset = head.mean - head.mean[landmark]
    height = offset[:, :2] @ tangent
    first, second = height[edges[:, 0]], height[edges[:, 1]]
    crossed = np.flatnonzero((first <= 0) != (second <= 0))
    edges = edges[crossed]
    share = first[crossed] / (first[crossed] - second[crossed])
    points = offset[edges[:, 0]] * (1 - share[:, None]) + offset[edges[:, 1]] * share[:, None]
    distance = np.linalg.norm(points, axis=1)
    kept = (distance < _REACH) & (points[:, 2] < _BEHIND) & (points[:, :2] @ outward < _BEHIND)
    kept = np.flatnonzero(kept)[np.argsort(distance[kept])]
    chosen = kept[np.linspace(0, len(kept) - 1, _POINTS - 1).astype(int)]
    start = np.concatenate([[landmark], edges[chosen, 0]])
    end = np.concatenate([[landmark], edges[chosen, 1]])
    return start, end, np.concatenate([[0], share[chosen]]).astype(np.float32)


def landmarks_at_contour(
    head: HeadModel, strips: JawStrips, vertices: np.ndarray, rotation: np.ndarray
) -> np.ndarray:
    """The 68 landmarks (68, 3), mm, head frame, of a head that is seen at a pose.

    Args:
        vertices: (n, 3) mm.
        rotation: (3, 3) of the head.
    """
    share = strips.share[..., None]
    points = vertices[strips.start] * (1 - share) + vertices[strips.end] * share
    # Of the turn of the head, only its roll turns the outward directions in the picture.
    roll = _roll(rotation)
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    seen = points @ rotation[:2].T.astype(points.dtype)
    reach = np.einsum("kpi,ki->kp", seen, strips.outward @ turn.T)
    found = vertices[head.landmarks].copy()
    contour = points[np.arange(JAW), reach.argmax(axis=1)]
    across = contour @ rotation[:2].T.astype(points.dtype)
    for half in (slice(0, CHIN + 1), slice(CHIN, JAW)):
        found[half] = _even(contour[half], across[half])
    return found


def _even(points: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Spreads points (k, 3) evenly along the line through them, as it is seen (k, 2)."""
    both = np.concatenate([points, seen], axis=1)
    for _ in range(_SPREADS):  # a new point cuts the old corners, so once is not quite even
        steps = np.linalg.norm(np.diff(both[:, 3:], axis=0), axis=1)
        length = np.concatenate([[0], np.cumsum(steps)])
        wanted = np.linspace(0, length[-1], len(both))
        both = np.stack([np.interp(wanted, length, column) for column in both.T], axis=1)
    return both[:, :3]


def _roll(rotation: np.ndarray) -> float:
    """Angle in the picture between the head's vertical axis and the picture's, rad."""
    return float(np.arctan2(-rotation[0, 1], rotation[1, 1]))
