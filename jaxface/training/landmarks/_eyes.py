"""The two eye models: experts for the points of one eye, and their mirror image."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ...fit import PDM, CCNFExperts, LandmarkModel, Part, PartConfig, fit_pdm_to_landmarks
from ...types import PDMParameters
from ..loop import digest, fingerprint, load_state, save_state
from ..render import Pictures
from ._expert_data import cut_examples
from ._expert_program import (
    Examples,
    ExpertConfig,
    Experts,
    map_quality,
    start_training,
    train_epoch,
)
from ._eye_model import (
    MAIN_POINTS,
    MIRRORED_EYE,
    PART_POINTS,
    POINTS,
    PUPIL,
    eye_labels,
    mirror_eye_pdm,
)
from ._starts import Starts

SCALES = (1.0, 1.5)  # px per mm
PART_CONFIG = PartConfig(windows=(9, 7), sigma=1.25, regularisation=1.0, weight_factor=0.0)
_NOISE = (1.2, 0.5)  # mm, of the landmarks that the fit of each scale starts from
_ALIKE = 0.6  # share of that noise that all landmarks of an eye have in common
_HELD_BACK = 10  # every so many pictures measure


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainEyesConfig:
    """Settings of the training of the eye experts."""

    repeats: int = 3  # starts in each picture
    seed: int = 0
    program: ExpertConfig = ExpertConfig()


def train_eyes(
    pdm: PDM,
    pictures: Pictures,
    folder: Path | str,
    config: TrainEyesConfig = TrainEyesConfig(),
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[tuple[Part, Part], np.ndarray, np.ndarray]:
    """Trains both eye models, or goes on where an earlier run stopped.

    Args:
        pdm: of the eye on the left of the picture.
        pictures: large faces and their mirror images.
        folder: for checkpoints; created if need be.
        progress: called with 1 after each epoch of a scale.

    Returns:
        The parts `left_eye_28` and `right_eye_28`; the root mean square (scale, 28) in mm by which
        a map's mean misses the label, on pictures held back; and the losses (scale, epochs, 2).
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    labels, shown = eye_labels(pictures)
    made_from = digest([pdm, vars(pictures)])
    experts, missed, curves = [], [], []
    for index, scale in enumerate(SCALES):
        cut, back = _examples(pdm, pictures, labels, shown, index, config)
        key = jax.random.fold_in(jax.random.key(config.seed), 500 + index)
        state = start_training(jax.random.fold_in(key, 1), POINTS, config.program)
        path = place / f"eyes-{index}-{fingerprint(config, made_from)}.npz"
        state, curve = load_state(path, state)
        train = Examples(*(jnp.asarray(leaf[:, ~back]) for leaf in cut))
        while int(state.epoch) < config.program.epochs:
            state, losses = train_epoch(state, train, key, config.program)
            curve.append(np.asarray(losses).mean(axis=0))
            save_state(path, state, curve)
            progress(1)
        check = Examples(*(jnp.asarray(leaf[:, back]) for leaf in cut))
        squared = np.asarray(map_quality(state.experts, check, config.program)[1])
        missed.append(np.sqrt(squared) / scale)
        experts.append(_as_experts(state.experts, scale, squared))
        curves.append(np.stack(curve))
    left = LandmarkModel(pdm, tuple(experts))
    right = LandmarkModel(mirror_eye_pdm(pdm), tuple(_mirrored(e) for e in experts))
    parts = (_part("left_eye_28", 0, left), _part("right_eye_28", 1, right))
    return parts, np.stack(missed), np.stack(curves)


def _part(name: str, side: int, model: LandmarkModel) -> Part:
    return Part(
        name=name,
        config=PART_CONFIG,
        main_points=MAIN_POINTS[side],
        part_points=PART_POINTS,
        model=model,
    )


@jax.jit
def _start(pdm: PDM, landmarks: jax.Array) -> PDMParameters:
    """Parameters as a fit finds them from the main model's landmarks (e, 6, 2) of an eye."""
    target = jnp.zeros((landmarks.shape[0], POINTS, 2), landmarks.dtype)
    target = target.at[:, np.asarray(PART_POINTS)].set(landmarks)
    present = jnp.asarray(np.isin(np.arange(POINTS), PART_POINTS))
    return jax.vmap(lambda points: fit_pdm_to_landmarks(pdm, points, present))(target)


def _examples(
    pdm: PDM,
    pictures: Pictures,
    labels: np.ndarray,
    shown: np.ndarray,
    index: int,
    config: TrainEyesConfig,
) -> tuple[Examples, np.ndarray]:
    """Examples of one scale, and which of them are held back.

    The first scale starts from the main landmarks; the second from a shape that is nearly right.
    """
    rng = np.random.default_rng([config.seed, 28, index])
    rows = np.tile(np.flatnonzero(shown[:, list(PART_POINTS)].all(axis=1)), config.repeats)
    rows = rng.permutation(rows)
    spread = _NOISE[index] * pictures.scale[rows, None, None]
    wanted = labels[rows]
    if index == 0:
        wanted = wanted[:, list(PART_POINTS)]
    noise = np.sqrt(1 - _ALIKE**2) * rng.normal(size=wanted.shape)
    noise = noise + _ALIKE * rng.normal(size=(len(rows), 1, 2))
    near = jnp.asarray(wanted + spread * noise, jnp.float32)
    if index == 0:
        found = _start(pdm, near)
    else:
        found = jax.jit(jax.vmap(lambda points: fit_pdm_to_landmarks(pdm, points)))(near)
    starts = Starts(*(np.asarray(leaf) for leaf in _fields(found)))
    window = PART_CONFIG.windows[index]
    cut = cut_examples(
        pdm, pictures.gray, labels, shown, rows, starts, scale=SCALES[index], window=window
    )
    return cut, rows % max(len(pictures) // 2, 1) % _HELD_BACK == 0


def _fields(found: PDMParameters) -> tuple[jax.Array, ...]:
    return found.scale, found.rotation, found.translation, found.local


def _as_experts(experts: Experts, scale: float, squared: np.ndarray) -> CCNFExperts:
    """One view. The pupil's rim differs too much to guide a fit, so it counts as invisible."""
    visible = np.ones((1, POINTS), bool)
    visible[:, PUPIL] = False
    alpha = jax.nn.softmax(experts.log_alpha)[None] * visible[..., None]
    weights = experts.weights - experts.weights.mean(axis=(-2, -1), keepdims=True)
    trust = np.where(visible, 1 / (squared + 0.1), 0)
    return CCNFExperts(
        scale=scale,
        component_windows=(),
        centres=jnp.zeros((1, 3), jnp.float32),
        visible=jnp.asarray(visible),
        weights=jnp.asarray(weights)[None] * visible[..., None, None, None],
        bias=jnp.asarray(experts.bias)[None] * visible[..., None],
        alpha=alpha,
        beta=jnp.zeros((1, POINTS, 0), jnp.float32),
        confidence=jnp.asarray(trust / trust.sum() * visible.sum(), jnp.float32),
    )


def _mirrored(experts: CCNFExperts) -> CCNFExperts:
    """Experts of the other eye."""
    return dataclasses.replace(
        experts,
        visible=experts.visible[:, MIRRORED_EYE],
        weights=experts.weights[:, MIRRORED_EYE, ..., ::-1],
        bias=experts.bias[:, MIRRORED_EYE],
        alpha=experts.alpha[:, MIRRORED_EYE],
        confidence=experts.confidence[:, MIRRORED_EYE],
    )
