"""The point distribution model: principal components of landmark shapes without their pose."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from ...fit import PDM
from ..data import best_rotation
from ..render import MIRRORED, Sampler
from ._shapes import ShapeTools, head_shapes, portrait_shapes, shape_tools

# Landmarks that no muscle moves: bridge and wings of the nose, corners of the eyes. They give the
# pose, so that an opened mouth does not nod the head.
_STABLE = np.array([27, 28, 29, 30, 31, 33, 35, 36, 39, 42, 45])
_ROUNDS = 3  # of alignment to the mean


@dataclasses.dataclass(frozen=True, kw_only=True)
class PDMConfig:
    """Settings of the shape model."""

    modes: int = 32
    heads: int = 4000  # made-up heads
    per_portrait: int = 6  # expressions of each portrait
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class PDMReport:
    """How well the modes describe shapes; lengths in mm."""

    kept: float  # share of the training variance
    heldout_error: float  # mean distance of landmarks of people held out, each mode within 3 sigma
    heldout_worst: float  # 95th percentile over shapes of their mean distance
    mode_deviation: tuple[float, ...]  # square roots of the eigenvalues


def align_shapes(shapes: np.ndarray) -> np.ndarray:
    """Removes position, orientation and size.

    Args:
        shapes: (s, n, 3) mm, in the head frame, roughly aligned.

    Returns:
        Shapes of the same mean size around the origin.
    """
    mean = shapes.mean(axis=0)
    size = np.linalg.norm(mean - mean.mean(axis=0))
    for _ in range(_ROUNDS):
        shapes = np.stack([_align(shape, mean) for shape in shapes])
        mean = shapes.mean(axis=0)
        mean = mean - mean.mean(axis=0)
        mean = mean * (size / np.linalg.norm(mean))
    return shapes


def _align(shape: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Puts the stable points onto the mean's, then takes the size that fits all points best."""
    centre, target = shape[_STABLE].mean(axis=0), mean[_STABLE].mean(axis=0)
    turn = best_rotation(shape[_STABLE] - centre, mean[_STABLE] - target)
    turned, wanted = (shape - centre) @ turn.T, mean - target
    return turned * (np.sum(turned * wanted) / np.sum(turned * turned)) + target


def mirror_shapes(shapes: np.ndarray) -> np.ndarray:
    """Shapes (s, 68, 3) in a mirror."""
    return (shapes * np.array([-1, 1, 1], shapes.dtype))[:, MIRRORED]


def principal_components(shapes: np.ndarray, modes: int) -> tuple[PDM, float]:
    """The model of aligned shapes.

    Args:
        shapes: (s, n, 3) mm.
        modes: number of components kept.

    Returns:
        The PDM around the origin, and the share of the variance that it keeps.
    """
    count, points, _ = shapes.shape
    mean = shapes.mean(axis=0, dtype=np.float64)
    flat = (shapes - mean).reshape(count, -1).astype(np.float64)
    values, vectors = np.linalg.eigh(flat.T @ flat / count)
    order = np.argsort(values)[::-1][:modes]
    pdm = PDM(
        mean_shape=jnp.asarray(mean - mean.mean(axis=0), jnp.float32),
        components=jnp.asarray(vectors[:, order].T.reshape(modes, points, 3), jnp.float32),
        eigenvalues=jnp.asarray(values[order], jnp.float32),
    )
    return pdm, float(values[order].sum() / values.sum())


def train_pdm(sampler: Sampler, config: PDMConfig = PDMConfig()) -> tuple[PDM, PDMReport]:
    """Builds the PDM from heads and portraits, and measures it on people held out."""
    tools = shape_tools(sampler.tools)
    rng = np.random.default_rng(config.seed)
    portraits = _portraits(tools, sampler, rng, "train", config.per_portrait)
    raw = np.concatenate([head_shapes(tools, rng, config.heads), portraits])
    aligned = align_shapes(np.concatenate([raw, mirror_shapes(raw)]))
    pdm, kept = principal_components(aligned, config.modes)
    heldout = _portraits(tools, sampler, rng, "test", config.per_portrait)
    errors = reconstruction_errors(pdm, heldout) if len(heldout) else np.zeros(1)
    deviation = tuple(float(v) for v in np.sqrt(np.asarray(pdm.eigenvalues)))
    worst = float(np.percentile(errors, 95))
    return pdm, PDMReport(kept, float(errors.mean()), worst, deviation)


def _portraits(
    tools: ShapeTools, sampler: Sampler, rng: np.random.Generator, split: str, each: int
) -> np.ndarray:
    people = [sampler.registered[int(p)] for p in sampler.of_split(split)]
    shapes = [portrait_shapes(tools, rng, person, each) for person in people]
    return np.concatenate(shapes) if shapes else np.zeros((0, 68, 3), np.float32)


def reconstruction_errors(pdm: PDM, shapes: np.ndarray) -> np.ndarray:
    """Mean distance (s,), mm, between shapes and what the model makes of them at the same pose.

    Args:
        shapes: (s, 68, 3) mm, any pose.
    """
    mean = np.asarray(pdm.mean_shape)
    modes = np.asarray(pdm.components).reshape(len(pdm.eigenvalues), -1)
    limit = 3 * np.sqrt(np.asarray(pdm.eigenvalues))
    errors = []
    for shape in shapes:
        offset = (_align(shape, mean) - mean).reshape(-1)
        left = offset - np.clip(modes @ offset, -limit, limit) @ modes
        errors.append(np.linalg.norm(left.reshape(-1, 3), axis=1).mean())
    return np.array(errors)
