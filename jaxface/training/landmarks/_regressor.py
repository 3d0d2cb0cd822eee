"""Trains the network that guesses pose and shape from a whole face."""

import dataclasses
from pathlib import Path

import cv2
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ...fit import (
    PDM,
    POSE_OUTPUTS,
    REGRESSOR_SIDE,
    ShapeRegressor,
    cut_square,
    parameters_from_outputs,
    regress_parameters,
    rotation_from_rows,
    shape_2d,
    shape_3d,
    square_around,
)
from ...types import PDMParameters
from ..data import euler_to_matrix
from ..detector import Plan, random_net, run_batch
from ..loop import Fitted, Recipe, fingerprint, fit
from ..render import Pictures
from ._expert_data import Source
from ._measure_fit import jittered_boxes

_PLAN: Plan = (  # see `random_net`; the outputs follow
    *(("conv", 16, 3), ("pool", 2, 2), ("conv", 32, 3), ("pool", 2, 2), ("conv", 64, 3)),
    *(("pool", 2, 2), ("conv", 96, 3), ("dense", 192, 0)),
)
_HIDDEN = 0.3  # weight of landmarks that cannot be seen
_CUT = 0.3  # chance that something flat hides a region of the face
_TESTED = 50  # pictures at a time


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegressorConfig:
    """Settings of the regressor's training."""

    batch: int = 64
    shift: float = 0.05  # of boxes, of their size: standard deviation
    stretch: float = 0.08
    tilt: float = 70.0  # degrees at most that pictures are turned besides
    tilted: float = 0.6  # share of them
    rotation: float = 5.0  # weight of the rotation matrix's error beside the landmarks', mm
    shape: float = 0.2  # of the shape coefficients'
    recipe: Recipe = Recipe(steps=14000, rate=1.5e-3, decay=1e-3)
    seed: int = 0


def new_regressor(pdm: PDM, seed: int) -> ShapeRegressor:
    """A regressor with random weights, whose outputs are near the mean face."""
    plan: Plan = (*_PLAN, ("dense", POSE_OUTPUTS + pdm.eigenvalues.shape[0], 0))
    return ShapeRegressor(random_net(plan, REGRESSOR_SIDE, 1, np.random.default_rng([seed, 5])))


def _spoil(key: PRNGKeyArray, squares: Float[Array, "b s s"]) -> Float[Array, "b s s"]:
    """Gamma, noise, and flat rectangles in front of some of the faces."""
    keys = jax.random.split(key, 7)
    count = len(squares)

    def each(key: PRNGKeyArray, low: float, high: float) -> Array:
        return jax.random.uniform(key, (count, 1, 1), minval=low, maxval=high)

    bend = each(keys[0], -0.15, 0.15)
    squares = squares + bend * (squares**2 - 1)
    squares = squares + each(keys[1], 0, 0.25) * jax.random.normal(keys[2], squares.shape)
    low = jax.random.uniform(keys[3], (count, 2), minval=-0.5, maxval=0.9)
    high = low + jax.random.uniform(keys[4], (count, 2), minval=0.1, maxval=0.6)
    place = (np.arange(REGRESSOR_SIDE) / REGRESSOR_SIDE)[None, None]
    within = (place > low[..., None]) & (place < high[..., None])  # b 2 s
    hidden = within[:, 0, :, None] & within[:, 1, None, :]
    hidden &= each(keys[5], 0, 1) < _CUT
    return jnp.where(hidden, each(keys[6], -1.5, 1.5), squares)


def regressor_loss(
    pdm: PDM, config: RegressorConfig, regressor: ShapeRegressor, batch: dict, key: PRNGKeyArray
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Mean distance of the landmarks, mm, with the rotation's and the shape's errors."""
    size = jnp.asarray(batch["gray"].shape[1:])
    middle, half = jax.vmap(square_around)(batch["box"])
    cut = jax.vmap(lambda gray, m, h: cut_square(gray, m, h, size))
    squares = _spoil(key, cut(batch["gray"], middle, half))
    outputs = run_batch(regressor.net, squares[..., None])

    def errors(outputs, middle, half, landmarks, visible, scale, wanted, local):
        found = parameters_from_outputs(pdm, outputs, middle, half)
        turn = rotation_from_rows(outputs[:6])
        # Not by `shape_2d`: Euler angles have no gradient where the yaw is 90 degrees.
        shape = shape_3d(pdm, found.local)
        points = found.scale * shape @ turn[:2].T + found.translation[None]
        away = jnp.sum(((points - landmarks) / scale) ** 2, axis=-1)
        weight = jnp.where(visible, 1, _HIDDEN)
        missed = jnp.sum(weight * jnp.sqrt(away + 0.01)) / jnp.sum(weight)
        turned = jnp.sqrt(jnp.sum((turn - wanted) ** 2) + 1e-4)
        shaped = jnp.mean((outputs[POSE_OUTPUTS:] - local / jnp.sqrt(pdm.eigenvalues)) ** 2)
        return missed, turned, shaped

    names = ("landmarks", "visible", "scale", "turn", "local")
    found = jax.vmap(errors)(outputs, middle, half, *(batch[name] for name in names))
    missed, turned, shaped = (jnp.mean(x) for x in found)
    loss = missed + config.rotation * turned + config.shape * shaped
    return loss, {"landmarks, mm": missed, "rotation": turned, "shape": shaped}


def _random_tilts(rng: np.random.Generator, config: RegressorConfig) -> np.ndarray:
    """Rotations (b, 3, 3) in the picture, none for some of them."""
    angles = rng.uniform(-config.tilt, config.tilt, config.batch)
    angles = np.radians(np.where(rng.random(config.batch) < config.tilted, angles, 0))
    return euler_to_matrix(angles[:, None] * np.array([0, 0, 1]))


def tilt_pictures(
    gray: np.ndarray, landmarks: np.ndarray, tilts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Turns pictures (b, h, w) and landmarks (b, n, 2) about the pictures' middles.

    Args:
        tilts: (b, 3, 3) rotations about the line of sight.
    """
    height, width = gray.shape[1:]
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    flat = tilts[:, :2, :2]
    turned = [
        cv2.warpAffine(
            picture,
            np.column_stack([turn, middle - turn @ middle]),
            (width, height),
            borderMode=cv2.BORDER_REFLECT,
        )
        for picture, turn in zip(gray, flat, strict=True)
    ]
    points = np.einsum("bij,bnj->bni", flat, landmarks - middle) + middle
    return np.stack(turned), points.astype(np.float32)


def train_regressor(
    pdm: PDM, source: Source, folder: Path, config: RegressorConfig = RegressorConfig()
) -> Fitted[ShapeRegressor]:
    """Trains the regressor, or goes on where an earlier run stopped.

    Args:
        source: pictures of the training set and their mirror images.
        folder: for the checkpoint.
    """
    pictures, truth = source.pictures, source.truth
    count = len(pictures)

    def batch(step: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([config.seed, 17, step])
        rows = rng.integers(count, size=config.batch)
        tilts = _random_tilts(rng, config)
        landmarks = pictures.landmarks[rows]
        gray, landmarks = tilt_pictures(pictures.gray[rows], landmarks, tilts)
        turns = euler_to_matrix(truth.rotation[rows])
        boxes = jittered_boxes(landmarks, rng, shift=config.shift, stretch=config.stretch)
        return {
            "gray": gray,
            "box": boxes,
            "landmarks": landmarks,
            "visible": pictures.visible[rows],
            "scale": truth.scale[rows],
            "turn": (tilts @ turns).astype(np.float32),
            "local": truth.local[rows],
        }

    name = fingerprint(config, source.digest)
    return fit(
        new_regressor(pdm, config.seed),
        lambda model, data, key: regressor_loss(pdm, config, model, data, key),
        batch,
        config.recipe,
        terms=("landmarks, mm", "rotation", "shape"),
        checkpoint=Path(folder) / f"regressor-{name}.state",
        title="regressor",
        seed=config.seed,
    )


@eqx.filter_jit
def _guess(regressor: ShapeRegressor, pdm: PDM, grays: Array, boxes: Array) -> PDMParameters:
    size = jnp.asarray(grays.shape[1:])
    guess = jax.vmap(lambda gray, box: regress_parameters(regressor, pdm, gray, box, size))
    return guess(grays, boxes)


def measure_regressor(
    pdm: PDM, regressor: ShapeRegressor, pictures: Pictures, *, seed: int = 0
) -> dict[str, float]:
    """Errors on pictures of people held out, in boxes that are a little off."""
    boxes = jittered_boxes(pictures.landmarks, np.random.default_rng(seed))
    missed, turned = [], []
    for first in range(0, len(pictures), _TESTED):
        rows = np.arange(first, first + _TESTED) % len(pictures)
        found = _guess(regressor, pdm, jnp.asarray(pictures.gray[rows]), jnp.asarray(boxes[rows]))
        landmarks = np.asarray(jax.vmap(lambda p: shape_2d(pdm, p))(found))
        away = np.linalg.norm(landmarks - pictures.landmarks[rows], axis=-1).mean(axis=1)
        missed.append(away / pictures.scale[rows])
        angles = np.stack([np.asarray(found.rotation), pictures.rotation[rows]])
        turns = euler_to_matrix(angles)
        cosine = (np.einsum("nij,nij->n", turns[0], turns[1]) - 1) / 2
        turned.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    errors, angles = (np.concatenate(x)[: len(pictures)] for x in (missed, turned))
    return {
        "landmarks, mean, mm": round(float(errors.mean()), 2),
        "landmarks, 95 % of the faces under, mm": round(float(np.percentile(errors, 95)), 2),
        "rotation, median, degrees": round(float(np.median(angles)), 2),
        "rotation, 95 % of the faces under, degrees": round(float(np.percentile(angles, 95)), 2),
    }
