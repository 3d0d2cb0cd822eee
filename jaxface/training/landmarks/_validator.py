"""The validator: a small network that tells from a warped face how far its landmarks are off.

Classes are bins of the mean landmark error; the last one is also for what is no face. One
network serves all frames, in a mirror for positive yaw, so it learns from all poses at once.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ...fit import (
    PDM,
    FaceWarp,
    Validator,
    normalise_face,
    run_validator,
    shape_2d,
    warp_to_mean_shape,
)
from ...ops import pad_border
from ...types import PDMParameters
from ..loop import digest, fingerprint, load_state, save_state
from ._expert_data import Source
from ._face_frame import MIRROR_FRAME, SIDE, YAWS, FaceFrames, face_frames
from ._starts import NoiseConfig, Starts, random_starts

BINS = 20
LAYERS = ("conv", "relu", "pool", "conv", "relu", "pool", "fc", "relu", "fc")
_TRAINED = 3  # frames, the first of `YAWS`
_CHUNK = 64  # warps at a time
_MOST_POSITIVE = 15.0  # degrees: what turns further is seen in the mirror
_RATE_LEFT = 0.01  # share of the rate that is left at the end


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidatorConfig:
    """Settings of the validator and its training."""

    bin_width: float = 1.2  # mm of mean landmark error
    soft: float = 1.0  # bins over which a class is spread
    channels: tuple[int, int] = (8, 16)
    kernel: int = 5  # px
    hidden: int = 32
    levels: tuple[float, ...] = (0.15, 0.5, 1, 2, 4, 8, 16)  # of noise around the truth
    examples: int = 1500  # per level
    negatives: int = 2000
    fits: int = 4000  # that ended where they may, see `fitted_starts`
    batch: int = 64
    epochs: int = 8
    rate: float = 1e-3
    decay: float = 1e-4
    seed: int = 0

    @property
    def noise(self) -> tuple[NoiseConfig, ...]:
        """Starts of each level; translations grow fastest."""
        return tuple(
            NoiseConfig(
                rotation=min(3 * level, 20),
                scale=min(0.02 * level, 0.25),
                translation=1.2 * level**1.3,
                shape=min(0.12 * level, 0.8),
                toward_mean=min(0.3 * level, 1.0),
            )
            for level in self.levels
        )


class Net(eqx.Module):
    """Weights of one network, conv and fc layers in order."""

    weights: tuple[Float[Array, "..."], ...]
    biases: tuple[Float[Array, " _"], ...]


@dataclasses.dataclass(frozen=True)
class WarpedFaces:
    """Warped faces and how far their landmarks are off."""

    faces: np.ndarray  # (f, 60, 60) grey levels, 0 outside the mask
    frame: np.ndarray  # (f,)
    error: np.ndarray  # (f,) mm; infinite where there is no face
    held_back: np.ndarray  # (f,) bool


Fits = tuple[np.ndarray, Starts]  # numbers of pictures, and where their fits ended


def start_net(key: PRNGKeyArray, config: ValidatorConfig) -> Net:
    """Random weights of He's scale."""
    k, (first, second) = config.kernel, config.channels
    side = ((SIDE - k + 1) // 2 - k + 1) // 2
    shapes = [(first, 1, k, k), (second, first, k, k)]
    shapes += [(config.hidden, second * side * side), (BINS, config.hidden)]
    keys = jax.random.split(key, len(shapes))
    weights = tuple(
        jax.random.normal(k, shape, jnp.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:])))
        for k, shape in zip(keys, shapes, strict=True)
    )
    return Net(weights, tuple(jnp.zeros(shape[0], jnp.float32) for shape in shapes))


def build_validator(frames: FaceFrames, net: Net, mean: np.ndarray, std: np.ndarray) -> Validator:
    """The validator of all frames, which share one network.

    A frame is a pose, one of `YAWS`, that faces are warped to. Only the frames of zero and of
    negative yaw are trained. A frame of positive yaw takes the mean and the deviation of the frame
    that turns as far to the other side, and a network that sees mirrored faces, because a face in
    a mirror looks like one that turns the other way.

    Args:
        mean, std: (3, 60, 60) of the faces in the trained frames, grey levels.
    """
    mask = frames.triangle_id >= 0
    source = [min(frame, MIRROR_FRAME[frame]) for frame in range(len(YAWS))]
    turned = [frame >= _TRAINED for frame in range(len(YAWS))]

    def in_all_frames(images: np.ndarray, outside: float) -> Array:
        """Images of all frames from those of the trained ones; `outside` where no face is."""
        pairs = zip(source, turned, strict=True)
        found = [images[frame][:, ::-1] if turn else images[frame] for frame, turn in pairs]
        return jnp.asarray(np.where(mask, np.stack(found), outside), jnp.float32)

    nets = [mirror_net(net) if t else net for t in turned]
    angles = np.zeros((len(YAWS), 3), np.float32)
    angles[:, 1] = np.radians(YAWS)
    zeros = jnp.zeros(len(YAWS), jnp.float32)
    return Validator(
        layers=LAYERS,
        warp=FaceWarp(
            centres=jnp.asarray(angles),
            mean=in_all_frames(mean, 0.0),
            std=in_all_frames(std, 1.0),
            mask=jnp.asarray(mask),
            min_x=zeros,
            min_y=zeros,
            triangles=jnp.asarray(frames.triangles),
            triangle_id=jnp.asarray(frames.triangle_id),
            alpha=jnp.asarray(frames.alpha),
            beta=jnp.asarray(frames.beta),
        ),
        weights=tuple(jnp.stack(layer) for layer in zip(*(n.weights for n in nets), strict=True)),
        biases=tuple(jnp.stack(layer) for layer in zip(*(n.biases for n in nets), strict=True)),
    )


def mirror_net(net: Net) -> Net:
    """The network that answers to a mirrored face as the given one does to the face."""
    first, second, hidden, last = net.weights
    side = int(np.sqrt(hidden.shape[1] // second.shape[0]))
    columns = hidden.reshape(len(hidden), second.shape[0], side, side)[:, :, ::-1]
    weights = (first[..., ::-1], second[..., ::-1], columns.reshape(hidden.shape), last)
    return Net(weights, net.biases)


def blank_validator(pdm: PDM, triangles: np.ndarray, config: ValidatorConfig) -> Validator:
    """A validator that has learnt nothing: its geometry alone counts."""
    flat = np.zeros((_TRAINED, SIDE, SIDE), np.float32)
    net = start_net(jax.random.key(config.seed), config)
    return build_validator(face_frames(pdm, triangles), net, flat, flat + 1)


@eqx.filter_jit
def _warp(
    pdm: PDM, validator: Validator, gray: Array, starts: PDMParameters
) -> tuple[Float[Array, "c 60 60"], Int[Array, " c"], Float[Array, "c n 2"]]:
    def one(gray, start):
        landmarks = shape_2d(pdm, start)
        frame = jnp.argmin(jnp.sum((validator.warp.centres - start.rotation) ** 2, axis=-1))
        size = jnp.asarray(gray.shape)
        return (
            *warp_to_mean_shape(validator.warp, pad_border(gray), landmarks, frame, size=size)[:1],
            frame,
            landmarks,
        )

    return jax.vmap(one)(gray, starts)


def warp_faces(
    pdm: PDM,
    blank: Validator,
    source: Source,
    negatives: np.ndarray,
    config: ValidatorConfig,
    fits: Fits | None = None,
) -> WarpedFaces:
    """Warps faces at starts near and far from the truth, and pictures without faces.

    Args:
        negatives: (k, h, w) uint8, as large as the pictures.
        fits: of some of the pictures.
    """
    rng = np.random.default_rng([config.seed, 7])
    landmarks = source.pictures.landmarks
    boxes = np.concatenate([landmarks.min(axis=1), landmarks.max(axis=1)], axis=1)
    half = max(len(landmarks) // 2, 1)
    found = []
    for level, noise in enumerate((*config.noise, config.noise[-1])):
        none = level == len(config.noise)
        if none and not len(negatives):
            break
        starts = random_starts(pdm, source.truth, boxes, rng, noise)
        usable = np.flatnonzero(np.degrees(starts.rotation[:, 1]) < _MOST_POSITIVE)
        wanted = config.negatives if none else config.examples
        rows = rng.permutation(usable)[:wanted]
        chosen = rng.integers(len(negatives), size=len(rows)) if none else rows
        grays = negatives if none else source.pictures.gray
        labels = None if none else (landmarks[rows], source.truth.scale[rows])
        faces, frame, error = _warp_all(pdm, blank, grays, chosen, starts.take(rows), labels)
        back = (chosen if none else rows % half) % 10 == 0
        found.append((faces, frame, error, back))
    if fits is not None:
        rows, starts = fits
        keep = np.degrees(starts.rotation[:, 1]) < _MOST_POSITIVE
        rows, starts = rows[keep], starts.take(np.flatnonzero(keep))
        labels = landmarks[rows], source.truth.scale[rows]
        warped = _warp_all(pdm, blank, source.pictures.gray, rows, starts, labels)
        found.append((*warped, rows % half % 10 == 0))
    return WarpedFaces(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _warp_all(
    pdm: PDM,
    blank: Validator,
    grays: np.ndarray,
    chosen: np.ndarray,
    starts: Starts,
    labels: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Faces, frames and errors (mm) of starts; chunks of one length, so one program serves all."""
    count = len(chosen)
    faces, frames, errors = [], [], []
    for first in range(0, count, _CHUNK):
        rows = np.arange(first, first + _CHUNK) % count
        parameters = starts.take(rows).parameters()
        gray = jnp.asarray(grays[chosen[rows]], jnp.float32)
        warped, frame, found = (np.asarray(x) for x in _warp(pdm, blank, gray, parameters))
        error = np.full(len(rows), np.inf)
        if labels is not None:
            missed = np.linalg.norm(found - labels[0][rows], axis=-1).mean(axis=1)
            error = missed / labels[1][rows]
        faces.append(warped)
        frames.append(frame)
        errors.append(error)
    joined = (np.concatenate(x)[:count] for x in (faces, frames, errors))
    return tuple(joined)  # pyright: ignore[reportReturnType]


def face_statistics(blank: Validator, warped: WarpedFaces) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (3, 60, 60) of standardised faces whose landmarks are right."""
    means, deviations = [], []
    for frame in range(_TRAINED):
        rows = np.flatnonzero((warped.frame == frame) & (warped.error < 5) & ~warped.held_back)
        if len(rows) < 2:
            raise ValueError(f"no faces at a yaw of {YAWS[frame]} degrees")
        faces = _standardised(blank, warped.faces[rows], warped.frame[rows])
        means.append(faces.mean(axis=0))
        deviations.append(np.maximum(faces.std(axis=0), 0.1))
    return np.stack(means), np.stack(deviations)


@eqx.filter_jit
def _normalise(validator: Validator, faces: Array, frames: Array) -> Array:
    return jax.vmap(lambda face, frame: normalise_face(validator.warp, face, frame))(faces, frames)


def _standardised(validator: Validator, faces: np.ndarray, frames: np.ndarray) -> np.ndarray:
    return np.asarray(_normalise(validator, jnp.asarray(faces), jnp.asarray(frames)))


def soft_classes(error: np.ndarray, config: ValidatorConfig) -> np.ndarray:
    """Wanted class probabilities (f, bins) of mean landmark errors (f,), mm."""
    place = np.minimum(error / config.bin_width - 0.5, BINS - 1)[:, None]
    closeness = -0.5 * ((np.arange(BINS) - place) / config.soft) ** 2
    share = np.exp(closeness - closeness.max(axis=1, keepdims=True))
    return (share / share.sum(axis=1, keepdims=True)).astype(np.float32)


class State(eqx.Module):
    """State of a training run; all that a checkpoint holds."""

    net: Net
    optimiser: PyTree
    epoch: Int[Array, ""]


def _adam(config: ValidatorConfig, steps: int) -> Any:
    import optax

    schedule = optax.cosine_decay_schedule(config.rate, steps, _RATE_LEFT)
    return optax.adamw(schedule, weight_decay=config.decay)


def logits(shape: Validator, net: Net, faces: Float[Array, "f 60 60"]) -> Float[Array, "f bins"]:
    """Class scores of normalised faces.

    Args:
        shape: any validator of the same layers.
    """
    one = eqx.tree_at(
        lambda v: (v.weights, v.biases),
        shape,
        (tuple(w[None] for w in net.weights), tuple(b[None] for b in net.biases)),
    )
    return run_validator(one, faces, jnp.zeros((), jnp.int32))


@eqx.filter_jit
def _epoch(
    shape: Validator, state: State, faces: Array, wanted: Array, key: Array, config: ValidatorConfig
) -> tuple[State, Float[Array, ""]]:
    batches = len(faces) // config.batch
    order = jax.random.permutation(jax.random.fold_in(key, state.epoch), len(faces))
    rows = order[: batches * config.batch].reshape(batches, config.batch)
    adam = _adam(config, config.epochs * batches)

    def loss(net, row):
        scores = jax.nn.log_softmax(logits(shape, net, faces[row].astype(jnp.float32)))
        return -jnp.mean(jnp.sum(wanted[row] * scores, axis=1))

    def step(carry, row):
        net, optimiser = carry
        value, gradient = jax.value_and_grad(loss)(net, row)
        change, optimiser = adam.update(gradient, optimiser, net)
        return (eqx.apply_updates(net, change), optimiser), value

    (net, optimiser), losses = jax.lax.scan(step, (state.net, state.optimiser), rows)
    return State(net, optimiser, state.epoch + 1), jnp.mean(losses)


def train_validator(
    pdm: PDM,
    triangles: np.ndarray,
    source: Source,
    negatives: np.ndarray,
    folder: Path | str,
    config: ValidatorConfig = ValidatorConfig(),
    *,
    fits: Fits | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Validator, dict[str, float], np.ndarray]:
    """Trains the validator, or goes on where an earlier run stopped.

    Args:
        triangles: (t, 3) of the landmarks, see `face_triangles`.
        source: pictures of the training set and their mirror images.
        negatives: (k, h, w) uint8 pictures without faces, as large as the others.
        folder: for the checkpoint; created if need be.
        fits: of some of the pictures: wrong ones are what it has to tell.
        progress: called with 1 after each epoch.

    Returns:
        The validator, figures on examples held back, and the loss of each epoch.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    ends = [] if fits is None else [fits[0], vars(fits[1])]
    made_from = digest([pdm, triangles, negatives, ends]), source.digest
    blank = blank_validator(pdm, triangles, config)
    warped = warp_faces(pdm, blank, source, negatives, config, fits)
    mean, deviation = face_statistics(blank, warped)
    start = start_net(jax.random.key(config.seed), config)
    shape = build_validator(face_frames(pdm, triangles), start, mean, deviation)
    faces = _standardised(shape, warped.faces, warped.frame).astype(np.float16)
    wanted = soft_classes(warped.error, config)
    keep = ~warped.held_back
    state = State(start, _adam(config, 1).init(start), jnp.zeros((), jnp.int32))
    path = place / f"validator-{fingerprint(config, made_from)}.state"
    state, curve = load_state(path, state)
    data = jnp.asarray(faces[keep]), jnp.asarray(wanted[keep])
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    while int(state.epoch) < config.epochs:
        state, loss = _epoch(shape, state, *data, key, config)
        curve.append(np.asarray(loss))
        save_state(path, state, curve)
        progress(1)
    figures = _figures(shape, state.net, faces[~keep], warped.error[~keep])
    frames = face_frames(pdm, triangles)
    return build_validator(frames, state.net, mean, deviation), figures, np.array(curve)


def _figures(shape: Validator, net: Net, faces: np.ndarray, error: np.ndarray) -> dict[str, float]:
    """Shares of held-back examples with the confidence that they should have."""
    scores = eqx.filter_jit(logits)(shape, net, jnp.asarray(faces, jnp.float32))
    confidence = 1 - (np.asarray(scores).argmax(axis=1) + 0.5) / BINS
    groups = {
        "good (< 3 mm) above 0.8": (error < 3, confidence > 0.8),
        "good (< 3 mm) accepted": (error < 3, confidence > 0.725),
        "lost (> 15 mm) below 0.5": (np.isfinite(error) & (error > 15), confidence < 0.5),
        "no face below 0.5": (np.isinf(error), confidence < 0.5),
        "no face accepted": (np.isinf(error), confidence > 0.725),
    }
    return {name: float(right[of].mean()) for name, (of, right) in groups.items() if of.any()}
