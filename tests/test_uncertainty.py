"""Covariances of fits: closed forms, symmetries, and coverage of the truth."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxface import PDMParameters, landmark_uncertainty, propagate_covariance
from jaxface.fit import (
    PDM,
    ResponseFrame,
    ScaleConfig,
    fit_covariance,
    fit_objective,
    flatten_parameters,
    shape_2d,
    unflatten_parameters,
)

from .precision import double_precision
from .smooth_maps import SETTINGS, make_case

_EXACT = 1e-9  # relative; float64 sums of some thousand terms
_SIGMA, _WINDOW = 1.5, 61  # cells; the maps below have faded out at their rims


def _peaks(spread: float, height: float, count: int) -> np.ndarray:
    """Maps that are Gaussians around their middles."""
    cells = np.arange(_WINDOW) - _WINDOW // 2
    row = np.exp(-0.5 * (cells / spread) ** 2)
    return np.tile(height * np.outer(row, row), (count, 1, 1))


def _flat_face(responses: np.ndarray, scale: float, per_cell: float) -> tuple:
    """Landmarks far apart on a cube, rigid up to one mode, and their maps."""
    corners = np.array([[x, y, z] for x in (-9, 9) for y in (-9, 9) for z in (-9, 9)], float)
    mode = np.zeros((1, 8, 3))
    mode[0, 0, 0] = 1.0
    pdm = PDM(jnp.asarray(corners), jnp.asarray(mode), jnp.asarray([4.0]))
    zero = PDMParameters(
        scale=jnp.asarray(scale),
        rotation=jnp.asarray([0.1, -0.2, 0.3]),
        translation=jnp.asarray([50.0, 60.0]),
        local=jnp.zeros(1),
    )
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    frame = ResponseFrame(
        responses=jnp.asarray(responses),
        landmarks=shape_2d(pdm, zero),
        to_reference=jnp.asarray(turn / per_cell),
        to_image=jnp.asarray(turn.T * per_cell),
        visible=jnp.ones(8, bool),
        confidence=jnp.ones(8),
    )
    return pdm, frame, zero


def _landmarks(pdm: PDM, parameters: PDMParameters, covariance) -> np.ndarray:
    """Covariances (n, 2, 2), by the package's propagation."""
    whole = propagate_covariance(lambda p: shape_2d(pdm, p), parameters, covariance)
    count = len(pdm.mean_shape)
    blocks = np.asarray(whole).reshape(count, 2, count, 2)
    return np.stack([blocks[i, :, i] for i in range(count)])


def _settings(regularisation: float = 0.0) -> ScaleConfig:
    return ScaleConfig(
        window=_WINDOW,
        sigma=_SIGMA,
        regularisation=regularisation,
        weight_factor=0.0,
        iterations=1,
    )
