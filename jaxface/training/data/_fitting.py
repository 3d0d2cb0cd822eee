"""Least-squares fit of the head model (identity, expression, pose) to points of a photograph.

The camera is a weak-perspective one: a portrait is taken from far away. Depths come from a
network that guesses them, so they weigh less.
"""

import dataclasses

import numpy as np

from ._camera import View, best_rotation
from ._head_model import HeadModel

_NOISE = 1.2  # mm, of a point across the line of sight
_DEPTH_NOISE = 5.0  # mm, along it
_EXPRESSION_SPREAD = 0.35  # prior of an expression weight, which lies in 0..1
_ROUNDS = 8
# What the mesh cannot tell from other things: pupils, lids that follow the gaze, puffed cheeks
# (which would stand in for the width of the face).
_UNSEEN = ("Pupil", "eyeLook", "cheekPuff")


@dataclasses.dataclass(frozen=True)
class Observed:
    """Points of a photograph."""

    points: np.ndarray  # (k, 3) x, y px; depth px, from any origin
    weights: np.ndarray  # (k,) of the squared error


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Head that explains a photograph."""

    identity: np.ndarray  # (100,)
    expression: np.ndarray  # (57,) 0 to 1
    view: View
    depth: float  # px: the observed depths' origin
    error: float  # root mean square across the line of sight, mm


def fit_pose(observed: Observed, shape: np.ndarray) -> tuple[View, float]:
    """Similarity that takes `shape` (k, 3), mm, to the observed points.

    Returns:
        The view, centred on the origin of the head frame, and the origin of the depths, px.
    """
    weights = observed.weights / observed.weights.sum()
    shape = shape.astype(np.float64)
    from_mean, to_mean = weights @ shape, weights @ observed.points
    source, target = shape - from_mean, observed.points - to_mean
    rotation = best_rotation(source, target, weights)
    scale = weights @ (target * (source @ rotation.T)).sum(1) / (weights @ (source**2).sum(1))
    offset = to_mean - scale * rotation @ from_mean
    view = View(rotation, float(scale), offset[:2], np.zeros(3))
    return view, float(offset[2])


def fit_head(
    head: HeadModel, observed: Observed, vertices: np.ndarray, *, start: View | None = None
) -> Fitted:
    """Fits identity, expression and pose.

    Args:
        vertices: (k,) the vertex that each observed point shows.
        start: keeps this pose instead of fitting one in the first round.
    """
    usable = [not name.startswith(_UNSEEN) for name in head.expression_names]
    shapes = np.flatnonzero(usable)
    basis = np.concatenate(
        [head.identity_basis[:, vertices], head.expression_basis[shapes][:, vertices]]
    ).astype(np.float64)
    mean = head.mean[vertices].astype(np.float64)
    modes = len(head.identity_basis)
    spread = np.concatenate([np.ones(modes), np.full(len(shapes), _EXPRESSION_SPREAD)])
    coefficients, shape = np.zeros(len(basis)), mean
    view, depth = (start, 0.0) if start is not None else fit_pose(observed, mean)
    for _ in range(_ROUNDS):
        coefficients = _solve(observed, view, depth, mean, basis, spread, modes)
        shape = mean + np.tensordot(coefficients, basis, 1)
        view, depth = fit_pose(observed, shape)
    expression = np.zeros(len(head.expression_names), np.float32)
    expression[shapes] = coefficients[modes:]
    residual = (observed.points - view.project(shape))[:, :2] / view.scale
    return Fitted(
        identity=coefficients[:modes].astype(np.float32),
        expression=expression,
        view=view,
        depth=depth,
        error=float(np.sqrt((residual**2).sum(1).mean())),
    )


def _solve(
    observed: Observed,
    view: View,
    depth: float,
    mean: np.ndarray,
    basis: np.ndarray,
    spread: np.ndarray,
    modes: int,
) -> np.ndarray:
    """Coefficients for a fixed pose; those from `modes` on are expressions, within 0..1."""
    from scipy.optimize import lsq_linear

    noise = np.array([_NOISE, _NOISE, _DEPTH_NOISE])
    weights = np.sqrt(observed.weights)[:, None] / noise
    offset = np.array([*view.translation, depth])
    target = (observed.points - offset) / view.scale - mean @ view.rotation.T
    # The prior is one more row for each coefficient: its value, in units of its spread.
    rows = ((basis @ view.rotation.T) * weights).reshape(len(basis), -1).T
    rows = np.concatenate([rows, np.diag(1 / spread)])
    wanted = np.concatenate([(target * weights).ravel(), np.zeros(len(basis))])
    # A triangular factor of the rows has the same solution, with a fifteenth of the rows.
    turned, rows = np.linalg.qr(rows)
    free = np.arange(len(basis)) < modes
    bounds = np.where(free, -np.inf, 0), np.where(free, np.inf, 1)
    return lsq_linear(rows, turned.T @ wanted, bounds, method="bvls").x
