"""How far an analysis of the talking head is from the truth, in NumPy.

The clip lies in the checkout, beside its truth, which was known before it was drawn; see
bench/render_talking_head.py.
"""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parents[3] / "bench" / "data"  # where jaxface runs from a checkout
CLIP, TRUTH = DATA / "talking_head.mp4", DATA / "talking_head.csv"
_OUTER_EYES = (36, 45)
_VARIES = 0.1  # intensity; standard deviation from which a unit has a correlation
Columns = Mapping[str, np.ndarray]


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """Columns of a CSV of numbers, by name."""
    with open(path, newline="") as file:
        names, *rows = csv.reader(file)
    values = np.array(rows, np.float64).T
    return {name.strip(): column for name, column in zip(names, values, strict=True)}


def errors(found: Columns, truth: Columns) -> dict[str, float]:
    """Errors over all frames.

    Args:
        found: columns of an analysis; so are those of
        truth: the same frames.

    Raises:
        ValueError: they have not the same frames.
    """
    if not np.array_equal(found["frame"], truth["frame"]):
        raise ValueError(
            f"frame: expected the {len(truth['frame'])} frames of the truth, "
            f"got {len(found['frame'])} others"
        )
    ours, true = _landmarks(found), _landmarks(truth)
    first, second = _OUTER_EYES
    frontal = np.abs(truth["pose_Ry"]) < np.radians(5)
    distance = np.linalg.norm(true[:, first] - true[:, second], axis=1)[frontal].mean()
    missed = 100 * np.linalg.norm(ours - true, axis=2).mean(axis=1) / distance
    turns = [_rotation(columns) for columns in (found, truth)]
    cosine = (np.einsum("nij,nij->n", *turns) - 1) / 2
    pose = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    looks = [_gaze(columns) for columns in (found, truth)]
    seen = truth["AU45_r"] < 1  # closed eyes show no gaze
    gaze = np.degrees(np.arccos(np.clip((looks[0] * looks[1]).sum(-1), -1, 1)))[seen]
    result = {
        "frames with a face, %": 100 * found["success"].mean(),
        "landmarks, mean, % of the outer eyes' distance": missed.mean(),
        "landmarks, 95 % of the frames under, %": float(np.percentile(missed, 95)),
        "head pose, mean, degrees": pose.mean(),
        "gaze of an open eye, median, degrees": float(np.median(gaze)),
    }
    units = [name for name in truth if name.startswith("AU") and name in found]
    for name in units:
        if truth[name].std() > _VARIES and found[name].std() > 0:
            r = np.corrcoef(found[name], truth[name])[0, 1]
            result[f"{name[:4]}, correlation of the intensity"] = float(r)
    return result


def _landmarks(columns: Columns) -> np.ndarray:
    return np.stack([[columns[f"{axis}_{i}"] for i in range(68)] for axis in "xy"], -1).swapaxes(
        0, 1
    )


def _rotation(columns: Columns) -> np.ndarray:
    """Matrices (n, 3, 3) Rx @ Ry @ Rz."""
    turns = []
    for axis in range(3):
        angle = columns[f"pose_R{'xyz'[axis]}"]
        matrix = np.zeros((len(angle), 3, 3))
        first, second = (axis + 1) % 3, (axis + 2) % 3
        matrix[:, axis, axis] = 1
        matrix[:, first, first] = matrix[:, second, second] = np.cos(angle)
        matrix[:, second, first] = np.sin(angle)
        matrix[:, first, second] = -np.sin(angle)
        turns.append(matrix)
    return turns[0] @ turns[1] @ turns[2]


def _gaze(columns: Columns) -> np.ndarray:
    """Unit vectors (n, 2, 3)."""
    return np.stack([[columns[f"gaze_{eye}_{a}"] for a in "xyz"] for eye in (0, 1)]).transpose(
        2, 0, 1
    )
