"""Regularised landmark mean-shift in float64, with OpenFace's 0.1-cell kernel grid.

Response maps are (n, window, window), [row, col]. Landmarks and shifts are (n 2), x then y.
"""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from . import pdm as models

Floats = NDArray[np.floating]
Number = float | np.floating
Bools = NDArray[np.bool_]

GRID = np.float32(0.1)


@dataclasses.dataclass(frozen=True)
class Settings:
    regularisation: float
    sigma: float
    weight_factor: float
    iterations: int = 5


@dataclasses.dataclass(frozen=True)
class Scale:
    """What stays fixed while one scale is optimised."""

    responses: Floats
    visible: Bools
    confidence: Floats
    base: Floats  # landmarks that the responses are centred on
    to_reference: Floats
    to_image: Floats


def mean_shift(response: Floats, dx: Number, dy: Number, sigma: float) -> tuple[Number, Number]:
    """Shift of one landmark at (dx, dy) in its map, in cells: specification 02, D.4.

    The kernel's centre snaps to the 0.1 grid; the position that is subtracted does not.
    """
    window = len(response)
    limit = np.float32(window) - GRID
    x = min(max(np.float32(dx), np.float32(0)), limit)
    y = min(max(np.float32(dy), np.float32(0)), limit)
    column = min(math.floor(x / GRID + np.float32(0.5)), 10 * window - 1)
    row = min(math.floor(y / GRID + np.float32(0.5)), 10 * window - 1)
    weights = response * kernel(window, 0.1 * column, 0.1 * row, sigma)
    total = weights.sum()
    cells = np.arange(window)
    shift_x = (weights.sum(axis=0) @ cells) / total - float(x)
    shift_y = (weights.sum(axis=1) @ cells) / total - float(y)
    return shift_x, shift_y


def kernel(window: int, x: float, y: float, sigma: float) -> Floats:
    """Gaussian (window, window) around (x, y), peak 1."""
    cells = np.arange(window)
    square = (y - cells[:, None]) ** 2 + (x - cells[None, :]) ** 2
    return np.exp(-square / (2 * sigma**2))


def offsets(landmarks: Floats, scale: Scale) -> Floats:
    """Positions (n 2) of the landmarks in their response maps, in cells: D.3, step 3.

    Rounded to float32 where OpenFace stores them, as the kernel's grid turns on the last bits.
    """
    middle = (scale.responses.shape[-1] - 1) // 2
    moved = models.single((landmarks - scale.base) @ scale.to_reference.T)
    return models.single(moved + middle)


def mean_shifts(positions: Floats, scale: Scale, sigma: float) -> Floats:
    """Shifts (n 2) in the reference frame; 0 where invisible."""
    shifts = np.zeros_like(positions)
    for i, (dx, dy) in enumerate(positions):
        if scale.visible[i]:
            shifts[i] = mean_shift(scale.responses[i], dx, dy, sigma)
    return shifts


def optimise(
    pdm: models.PDM, start: models.Parameters, scale: Scale, settings: Settings, *, rigid: bool
) -> tuple[models.Parameters, Floats]:
    """One pass of NU-RLMS over the pose, or over pose and coefficients: D.3.

    Returns the parameters and the last positions in the maps, which the likelihood wants.
    """
    precision = np.zeros(6 if rigid else 6 + len(pdm.eigenvalues))
    precision[6:] = 0 if rigid else settings.regularisation / pdm.eigenvalues
    weights = np.ones(len(scale.base))
    if settings.weight_factor > 0:
        weights = settings.weight_factor * scale.confidence
    parameters, positions, previous = start, np.zeros_like(scale.base), None
    for _ in range(settings.iterations):
        landmarks = models.single(models.shape_2d(pdm, parameters))
        if previous is not None and np.linalg.norm(landmarks - previous) < 0.01:
            break
        previous = landmarks
        positions = offsets(landmarks, scale)
        shifts = mean_shifts(positions, scale, settings.sigma) @ scale.to_image.T
        j = models.jacobian(pdm, parameters, rigid=rigid)
        j[np.repeat(~scale.visible, 2)] = 0
        weighted = j.T * np.where(scale.visible, weights, 0).repeat(2)
        gradient = weighted @ shifts.ravel()
        gradient[6:] -= precision[6:] * (parameters.local if not rigid else 0)
        delta = models.solve_spd(weighted @ j + np.diag(precision), gradient)
        parameters = models.update(parameters, delta)
        parameters = dataclasses.replace(parameters, local=models.clamp(pdm, parameters.local))
    return parameters, positions


def likelihood(positions: Floats, scale: Scale, sigma: float) -> float:
    """Mean log of the exactly smoothed responses at the landmarks that are visible: D.3."""
    total = 0.0
    for i, (dx, dy) in enumerate(positions):
        if scale.visible[i]:
            weights = kernel(scale.responses.shape[-1], dx, dy, sigma)
            total += math.log(np.sum(scale.responses[i] * weights) + 1e-8)
    return total / scale.visible.sum()
