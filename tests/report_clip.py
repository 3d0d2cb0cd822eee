"""Clips with known blinks and smiles, and known faces in known poses, for reports."""

import dataclasses

import numpy as np

from jaxface import Analysis
from jaxface.output import OPENFACE_UNITS, UnitNames

from .test_results import _analysis

RATE = 30  # frames/s
_BLINK = np.array([1.2, 2.6, 3.0, 2.2, 1.0])  # AU45 over the frames of one
_EYE = np.array([[0, 0], [3, -2], [7, -2], [10, 0], [7, 2], [3, 2]], np.float64)  # px


def blinking_clip(
    *,
    seconds: float,
    blinks: tuple[float, ...],
    smile: tuple[float, float] | None = None,
    closed: tuple[float, float] | None = None,
    units: UnitNames = OPENFACE_UNITS,
) -> Analysis:
    """A clip whose AU45 and lids blink at some times, and whose AU12 and AU06 rise for a while.

    Args:
        blinks: when they begin, s.
        smile: from and to, s.
        closed: when the eyes stay closed, from and to, s.
    """
    count = round(seconds * RATE)
    times = np.arange(count) / RATE
    level = {name: np.zeros(count) for name in units.intensity}
    for start in blinks:
        first = round(start * RATE)
        part = level["AU45"][first : first + len(_BLINK)]
        part += _BLINK[: len(part)]
    if closed is not None:
        level["AU45"][(times >= closed[0] - 1e-6) & (times < closed[1] - 1e-6)] = 3.0
    if smile is not None:
        here = (times >= smile[0] - 1e-6) & (times < smile[1] - 1e-6)
        level["AU12"][here], level["AU06"][here] = 3.0, 2.0
    whole = _analysis("video", count, units=units)
    lids = 1 - np.clip(level["AU45"], 0, 4)[:, None, None] / 4
    landmarks = np.tile(np.linspace([100, 60], [200, 160], 68), (count, 1, 1))
    for eye, corner in ((36, (110, 80)), (42, (160, 80))):
        open_eye = np.tile(_EYE, (count, 1, 1))
        open_eye[..., 1:] *= lids
        landmarks[:, eye : eye + 6] = open_eye + corner
    present = np.stack([level.get(n, np.zeros(count)) > 1 for n in units.presence], axis=1)
    return dataclasses.replace(
        whole,
        timestamp=times,
        success=np.ones(count, bool),
        confidence=np.full(count, 0.9, np.float32),
        landmarks=landmarks.astype(np.float32),
        head_pose=np.tile(np.array([0, 0, 600, 0, 0, 0], np.float32), (count, 1)),
        rotation=np.tile(np.array([0.1, 0.2, 0.0], np.float32), (count, 1)),
        scale=np.full(count, 1.5, np.float32),
        gaze_angle=np.stack([0.2 * np.sin(times), 0.1 * np.cos(times)], axis=1).astype(np.float32),
        au_intensity=np.stack([level[n] for n in units.intensity], axis=1).astype(np.float32),
        au_presence=present.astype(np.float32),
    )


def turned_faces(
    shape: np.ndarray, count: int, rng: np.random.Generator | None = None, *, turn: float = 0.5
) -> Analysis:
    """A shape of the head (68, 3), mm, in poses of up to `turn` rad, as fits describe them."""
    rng = np.random.default_rng(0) if rng is None else rng
    angles = rng.uniform(-turn, turn, (count, 3))
    scale = rng.uniform(1, 3, count)
    turned = np.stack([shape @ _rotation(*three).T for three in angles])
    landmarks = turned[..., :2] * scale[:, None, None] + rng.uniform(100, 300, (count, 1, 2))
    depth = turned[..., 2] + rng.uniform(400, 900, (count, 1))
    whole = _analysis("video", count)
    return dataclasses.replace(
        whole,
        success=np.ones(count, bool),
        rotation=angles.astype(np.float32),
        scale=scale.astype(np.float32),
        landmarks=landmarks.astype(np.float32),
        landmarks_3d=np.concatenate([0 * landmarks, depth[..., None]], axis=2).astype(np.float32),
    )


def _rotation(pitch: float, yaw: float, roll: float) -> np.ndarray:
    """Rx @ Ry @ Rz, each written as a turn in one plane."""
    whole = np.eye(3)
    for angle, (i, j) in ((pitch, (1, 2)), (yaw, (2, 0)), (roll, (0, 1))):
        plane = np.eye(3)
        plane[[i, j], [i, j]] = np.cos(angle)
        plane[i, j], plane[j, i] = -np.sin(angle), np.sin(angle)
        whole = whole @ plane
    return whole
