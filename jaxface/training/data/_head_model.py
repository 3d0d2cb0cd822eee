"""The morphable head (ICT-FaceKit, light model) in the package's units and axes.

The file has cm-like units with y up and z towards the viewer; here lengths are mm, y points down
and z away from the camera. That is half a turn about x, so faces keep their orientation.
"""

import dataclasses
from functools import cached_property
from pathlib import Path

import numpy as np

_TO_MM = np.array([10, -10, -10], np.float32)
# Vertex ranges, as the model's README gives them; of an eyeball the outer shell alone. What is left
# out: the shells within, the meshes that only help shading, and the lashes (cards).
PIECES = {
    "face": (0, 9409),
    "head": (9409, 11248),
    "mouth_socket": (11248, 13294),
    "eye_sockets": (13294, 14062),
    "gums": (14062, 17039),
    "teeth": (17039, 21451),
    "left_eye": (21451, 22221),
    "right_eye": (23021, 23791),
}
_END = PIECES["right_eye"][1]


@dataclasses.dataclass(frozen=True)
class HeadModel:
    """Linear head model; all vertices that are drawn, eyeballs included."""

    mean: np.ndarray  # (n, 3) mm
    identity_basis: np.ndarray  # (100, n, 3) mm per unit; weights are standard normal
    expression_basis: np.ndarray  # (57, n, 3) mm per unit; weights 0 to 1
    expression_names: tuple[str, ...]
    triangles: np.ndarray  # (t, 3) vertices
    triangle_piece: np.ndarray  # (t,) index into `PIECES`
    uv: np.ndarray  # (k, 2) texture coordinates
    triangle_uv: np.ndarray  # (t, 3) into `uv`
    landmarks: np.ndarray  # (68,) vertices, Multi-PIE numbering
    mirrored: np.ndarray  # (n,) vertex across the plane x = 0

    def vertices(self, identity: np.ndarray, expression: np.ndarray) -> np.ndarray:
        """Vertices (n, 3), mm, of identity (100,) and expression (57,) weights."""
        offsets = np.tensordot(identity.astype(np.float32), self.identity_basis, 1)
        return self.mean + offsets + self.expression_offsets(expression)

    def expression_offsets(self, expression: np.ndarray) -> np.ndarray:
        """Displacement (n, 3), mm, of expression weights (57,)."""
        used = np.flatnonzero(expression)
        weights = expression[used].astype(np.float32)
        return np.tensordot(weights, self.expression_basis[used], 1)

    def expression_index(self, name: str) -> int:
        return self.expression_names.index(name)

    @cached_property
    def mirrored_expression(self) -> np.ndarray:
        """(57,) shape that a mirrored head needs: left and right change places."""
        swapped = {"Left": "Right", "Right": "Left"}
        names = []
        for name in self.expression_names:
            if name.endswith(("_L", "_R")):
                name = name[:-1] + ("R" if name.endswith("L") else "L")
            for old, new in swapped.items():
                if name.endswith(old):
                    name = name.removesuffix(old) + new
                    break
            names.append(self.expression_names.index(name))
        return np.array(names)

    def piece_of(self, name: str) -> np.ndarray:
        """Triangles (k,) of one of `PIECES`."""
        return np.flatnonzero(self.triangle_piece == list(PIECES).index(name))


def normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit vertex normals (n, 3) that point out of the surface; area-weighted."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    total = np.zeros((3, len(vertices)), np.float32)
    for axis in range(3):
        for corner in range(3):
            total[axis] += np.bincount(triangles[:, corner], face[:, axis], len(vertices))
    length = np.sqrt((total**2).sum(0))
    return (total / np.maximum(length, 1e-9)).T.astype(np.float32)


def load_head_model(data: Path | str) -> HeadModel:
    """Reads the morphable head.

    Args:
        data: folder that holds `ict-facekit/`.

    Raises:
        FileNotFoundError: the file is missing.
    """
    path = Path(data) / "ict-facekit" / "ict_facekit.npz"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: --data names the folder of ict-facekit/")
    with np.load(path) as file:
        mean = file["mean_vertices"][:_END] * _TO_MM
        triangles, triangle_uv = _triangles(file["quads"], file["quad_uv"])
        return HeadModel(
            mean=mean,
            identity_basis=file["identity_basis"][:, :_END].astype(np.float32) * _TO_MM,
            expression_basis=file["expression_basis"][:, :_END].astype(np.float32) * _TO_MM,
            expression_names=tuple(str(name) for name in file["expression_names"]),
            triangles=triangles,
            triangle_piece=_pieces(triangles),
            uv=file["uv"].astype(np.float32),
            triangle_uv=triangle_uv,
            landmarks=file["landmarks68"].astype(np.int64),
            mirrored=_mirrored(mean),
        )


def _triangles(quads: np.ndarray, quad_uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Splits quads (-1 pads a triangle) whose corners are all drawn."""
    halves = [(0, 1, 2), (0, 2, 3)]
    corners = np.concatenate([quads[:, half] for half in halves])
    texture = np.concatenate([quad_uv[:, half] for half in halves])
    drawn = np.zeros(corners.max() + 1, bool)
    for start, end in PIECES.values():
        drawn[start:end] = True
    kept = (corners >= 0).all(1) & drawn[corners].all(1)
    return corners[kept].astype(np.int64), texture[kept].astype(np.int64)


def _pieces(triangles: np.ndarray) -> np.ndarray:
    """Piece of each triangle (t,): that of its last vertex, since pieces share their seams."""
    last = triangles.max(axis=1)
    ends = np.array([end for _, end in PIECES.values()])
    return np.searchsorted(ends, last, side="right")


def _mirrored(mean: np.ndarray) -> np.ndarray:
    from scipy.spatial import KDTree

    return np.asarray(KDTree(mean).query(mean * np.array([-1, 1, 1], np.float32))[1])
