"""Where fits start: shapes around the true one, as a face box or the last frame gives them.

Rows are pictures; everything is NumPy and follows the generator.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ...fit import PDM
from ...types import PDMParameters
from ..data import euler_to_matrix, matrix_to_euler
from ..render import Pictures

# Start rotations of a search from a box, rad; the frontal one is by far the most frequent.
_YAWS = np.array([0.0, -0.5236, 0.5236, -0.96, 0.96])
_FRONTAL_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class Starts:
    """PDM parameters, one row per start."""

    scale: np.ndarray  # (s,) px per mm
    rotation: np.ndarray  # (s, 3) rad
    translation: np.ndarray  # (s, 2) px
    local: np.ndarray  # (s, m) mm

    def take(self, rows: np.ndarray) -> "Starts":
        """Some of the starts."""
        return Starts(
            self.scale[rows], self.rotation[rows], self.translation[rows], self.local[rows]
        )

    def parameters(self) -> PDMParameters:
        """As the fit takes them, with a leading axis."""
        columns = (self.scale, self.rotation, self.translation, self.local)
        return jax.vmap(PDMParameters)(*map(jnp.asarray, columns))


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """Spread of starts around the truth: standard deviations of normal noise."""

    from_box: float = 0.0  # share of the starts that come from a face box
    rotation: float = 5.0  # degrees
    scale: float = 0.04  # of the scale
    translation: float = 2.0  # mm
    shape: float = 0.3  # of each mode's deviation
    toward_mean: float = 1.0  # a uniform share up to this of the true shape is taken back
    box_shift: float = 0.04  # of the box's size
    box_scale: float = 0.06  # of the box's size


def project(pdm: PDM, starts: Starts) -> np.ndarray:
    """Landmarks (s, n, 2), px."""
    modes = np.asarray(pdm.components)
    shapes = np.asarray(pdm.mean_shape) + np.tensordot(starts.local, modes, 1)
    rows = euler_to_matrix(starts.rotation)[:, :2]
    turned = np.einsum("snd,sad->sna", shapes, rows)
    return starts.scale[:, None, None] * turned + starts.translation[:, None]


def true_parameters(pdm: PDM, pictures: Pictures) -> Starts:
    """Parameters whose landmarks are nearest to the labels, at the labels' pose."""
    mean = np.asarray(pdm.mean_shape)
    modes = np.asarray(pdm.components).reshape(len(pdm.eigenvalues), -1)
    limit = 3 * np.sqrt(np.asarray(pdm.eigenvalues))
    rotations = euler_to_matrix(pictures.rotation)
    upright = np.einsum("snd,sde->sne", pictures.landmarks_3d, rotations)  # head frame
    upright = upright - upright.mean(axis=1, keepdims=True)
    size = np.sum(upright * mean, axis=(1, 2)) / np.sum(upright**2, axis=(1, 2))
    offset = (upright * size[:, None, None] - mean).reshape(len(pictures), -1)
    local = np.clip(offset @ modes.T, -limit, limit)
    angles = matrix_to_euler(rotations)
    ones, zeros = np.ones(len(pictures), np.float32), np.zeros((len(pictures), 2), np.float32)
    return _place_on(pdm, Starts(ones, angles, zeros, local.astype(np.float32)), pictures.landmarks)


def _place_on(pdm: PDM, starts: Starts, landmarks: np.ndarray) -> Starts:
    """Takes the scale and the position that bring each start nearest to landmarks (s, n, 2)."""
    shape = project(pdm, dataclasses.replace(starts, scale=np.ones_like(starts.scale)))
    shape = shape - starts.translation[:, None]
    middle, target = shape.mean(axis=1), landmarks.mean(axis=1)
    centred = shape - middle[:, None]
    wanted = landmarks - target[:, None]
    scale = np.sum(centred * wanted, axis=(1, 2)) / np.sum(centred**2, axis=(1, 2))
    translation = target - scale[:, None] * middle
    return dataclasses.replace(
        starts, scale=scale.astype(np.float32), translation=translation.astype(np.float32)
    )


def random_starts(
    pdm: PDM, truth: Starts, boxes: np.ndarray, rng: np.random.Generator, config: NoiseConfig
) -> Starts:
    """One start for each row of the truth.

    Args:
        truth: of the pictures.
        boxes: (s, 4) tight around the labels, px.
    """
    near = _near_truth(pdm, truth, rng, config)
    boxed = _in_boxes(pdm, truth, boxes, rng, config)
    chosen = rng.random(len(truth.scale)) < config.from_box
    fields = {}
    for field in dataclasses.fields(Starts):
        first, second = getattr(boxed, field.name), getattr(near, field.name)
        keep = chosen.reshape(-1, *[1] * (first.ndim - 1))
        fields[field.name] = np.where(keep, first, second).astype(np.float32)
    return Starts(**fields)


def _near_truth(pdm: PDM, truth: Starts, rng: np.random.Generator, config: NoiseConfig) -> Starts:
    """The pose and the shape with noise, as they are after a first fit or a frame later."""
    count = len(truth.scale)
    deviation = np.sqrt(np.asarray(pdm.eigenvalues))
    kept = 1 - config.toward_mean * rng.uniform(0, 1, (count, 1))
    local = truth.local * kept + config.shape * deviation * rng.normal(size=truth.local.shape)
    turn = np.radians(config.rotation) * rng.normal(size=(count, 3))
    shift = config.translation * truth.scale[:, None] * rng.normal(size=(count, 2))
    scale = truth.scale * np.exp(config.scale * rng.normal(size=count))
    # The middle of the face stays where it was, whatever the turn does.
    bounded = np.clip(local, -3 * deviation, 3 * deviation)
    moved = Starts(scale, truth.rotation + turn, truth.translation, bounded)
    drift = project(pdm, truth).mean(axis=1) - project(pdm, moved).mean(axis=1)
    return dataclasses.replace(moved, translation=truth.translation + drift + shift)


def _in_boxes(
    pdm: PDM, truth: Starts, boxes: np.ndarray, rng: np.random.Generator, config: NoiseConfig
) -> Starts:
    """The mean shape in a box that is a little off, at one of the rotations of a search."""
    count = len(truth.scale)
    nearest = np.abs(truth.rotation[:, 1:2] - _YAWS).argmin(axis=1)
    frontal = (rng.random(count) < _FRONTAL_SHARE) & (np.abs(truth.rotation[:, 1]) < 0.6)
    rotation = np.zeros((count, 3))
    rotation[:, 1] = np.where(frontal, 0, _YAWS[nearest])
    size = boxes[:, 2:] - boxes[:, :2]
    middle = (boxes[:, 2:] + boxes[:, :2]) / 2
    middle = middle + config.box_shift * size * rng.normal(size=(count, 2))
    size = size * np.exp(config.box_scale * rng.normal(size=(count, 2)))
    ones, zeros = np.ones(count, np.float32), np.zeros((count, 2), np.float32)
    flat = Starts(ones, rotation.astype(np.float32), zeros, np.zeros_like(truth.local))
    shape = project(pdm, flat)
    low, high = shape.min(axis=1), shape.max(axis=1)
    scale = np.mean(size / (high - low), axis=1)
    translation = middle - scale[:, None] * (low + high) / 2
    return dataclasses.replace(flat, scale=scale, translation=translation)
