"""Trains P-, R- and O-Net one after another, each on what the ones before it let through.

Reference: Zhang et al., Joint Face Detection and Alignment using Multi-task Cascaded
Convolutional Networks, 2016: the losses and the mining of hard examples. Differs: faces and
places are synthesised, see `_detector_scenes`; boxes and points are learnt with an absolute
error, Huber's near zero; each network's bias is set on validation scenes afterwards, so that
the thresholds of `DetectConfig` need no tuning.
"""

import dataclasses
import functools
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from .._params import write_module
from ..detect import MTCNN, DetectConfig, Net
from ._curves import draw_curves
from ._detector_data import (
    Scenes,
    Sources,
    build_crops,
    build_scenes,
    draw_batch,
    head_scene,
    key_of,
    load_sources,
)
from ._detector_nets import NAMES, new_detector, run_batch
from ._detector_scenes import Scene, make_scene
from ._loop import Recipe, fit
from ._mining import LANDMARK_FRAME, NEGATIVE, POSITIVE, Crops
from ._portraits import load_portraits
from ._samples import Sampler, load_sampler

_HARD = 0.7  # share of the faces and non-faces of a batch, the worst ones, that count
_NEAR = 0.05  # box sizes; errors below count less
_SHARES = {"pnet": (0.5, 0.2, 0.3), "rnet": (0.5, 0.2, 0.3), "onet": (0.45, 0.15, 0.4)}
_MIRRORED_POINTS = np.array([1, 0, 2, 4, 3])


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorRecipe:
    """Sizes of the data and lengths of the training; the defaults made the shipped detector."""

    people: int = 700  # those with lower numbers, of all parts of the split
    scenes: int = 1800  # with people
    head_scenes: int = 400  # of made-up heads
    validation_scenes: int = 240
    scene_size: int = 320  # px
    views: int = 4  # renderings of each person
    batches: tuple[int, int, int] = (1024, 320, 160)  # crops, per network
    steps: tuple[int, int, int] = (1800, 1400, 3000)
    misses: tuple[float, float, float] = (0.06, 0.02, 0.21)  # validation faces that may go


def detector_loss(
    net: Net,
    batch: tuple[UInt8[Array, "b s s 3"], Int[Array, " b"], Array, Array],
    key: PRNGKeyArray,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Loss of one batch of crops.

    Args:
        net: one of the three.
        batch: crops (0 to 255), kinds, corrections, points; see `Crops`.
        key: of mirroring and of changes of light.
    Returns:
        The sum of the losses of face scores, boxes and, where the network has them, points;
        and each of them.
    """
    images, kinds, corrections, points = batch
    mirror_key, light_key = jax.random.split(key)
    mirrored = jax.random.bernoulli(mirror_key, 0.5, kinds.shape)
    images = vary_light(images.astype(jnp.float32), light_key)
    images, corrections, points = mirror(images, corrections, points, mirrored)
    outputs = run_batch(net, (images - 127.5) / 128)
    scored = (kinds == POSITIVE) | (kinds == NEGATIVE)
    margin = outputs[:, 1] - outputs[:, 0]
    losses = jax.nn.softplus(jnp.where(kinds == POSITIVE, -margin, margin))  # cross entropy
    parts = {"score": hard_mean(losses, scored, _HARD)}
    shown = kinds != NEGATIVE
    parts["box"] = _mean_error(outputs[:, 2:6], corrections, shown)
    if outputs.shape[1] > 6:
        flat = jnp.concatenate([points[..., 0], points[..., 1]], axis=1)
        parts["points"] = _mean_error(outputs[:, 6:], flat, shown)
    return jnp.sum(jnp.stack(list(parts.values()))), parts


def hard_mean(
    losses: Float[Array, " b"], counted: Float[Array, " b"], share: float
) -> Float[Array, ""]:
    """Mean of the largest `share` of those losses that count."""
    ranked = jnp.sort(jnp.where(counted, losses, -1))[::-1]
    most = jnp.ceil(share * jnp.sum(counted))
    chosen = jnp.arange(len(losses)) < most
    return jnp.sum(jnp.where(chosen, ranked, 0)) / jnp.maximum(most, 1)


def _mean_error(
    outputs: Float[Array, "b n"], targets: Float[Array, "b n"], shown: Float[Array, " b"]
) -> Float[Array, ""]:
    """Sum over a box's four edges, or as many points' coordinates, of Huber's error."""
    apart = jnp.abs(outputs - targets)
    errors = jnp.where(apart < _NEAR, apart**2 / (2 * _NEAR), apart - _NEAR / 2).mean(1)
    return jnp.sum(jnp.where(shown, errors, 0)) * 4 / jnp.maximum(jnp.sum(shown), 1)


def mirror(
    images: Float[Array, "b s s 3"],
    corrections: Float[Array, "b 4"],
    points: Float[Array, "b 5 2"],
    mirrored: Float[Array, " b"],
) -> tuple[Float[Array, "b s s 3"], Float[Array, "b 4"], Float[Array, "b 5 2"]]:
    """Mirrors some crops, with their boxes and points."""
    images = jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    turned = corrections[:, jnp.array([2, 1, 0, 3])] * jnp.array([-1.0, 1, -1, 1])
    corrections = jnp.where(mirrored[:, None], turned, corrections)
    turned = points[:, _MIRRORED_POINTS] * jnp.array([-1.0, 1]) + jnp.array([1.0, 0])
    return images, corrections, jnp.where(mirrored[:, None, None], turned, points)


def vary_light(images: Float[Array, "b s s 3"], key: PRNGKeyArray) -> Float[Array, "b s s 3"]:
    """Changes contrast, brightness and colours of each crop; makes some grey."""
    keys = jax.random.split(key, 4)
    count = (images.shape[0], 1, 1)
    gain = jnp.exp(0.2 * jax.random.normal(keys[0], (*count, 1)))
    cast = jnp.exp(0.06 * jax.random.normal(keys[1], (*count, 3)))
    level = 12 * jax.random.normal(keys[2], (*count, 1))
    grey = jax.random.bernoulli(keys[3], 0.15, (*count, 1))
    images = jnp.where(grey, images.mean(-1, keepdims=True), images)
    return jnp.clip(images * gain * cast + level, 0, 255)


@jax.jit
def _margins(net: Net, images: UInt8[Array, "b s s 3"]) -> Float[Array, " b"]:
    outputs = run_batch(net, (images.astype(jnp.float32) - 127.5) / 128)
    return outputs[:, 1] - outputs[:, 0]


def face_margins(net: Net, crops: Crops, kind: int) -> np.ndarray:
    """How much a network prefers face to non-face (difference of logits), on crops of a kind."""
    images = crops.images[crops.kinds == kind]
    blocks = [images[i : i + 256] for i in range(0, len(images), 256)]
    return np.concatenate([np.asarray(_margins(net, block)) for block in blocks])


def set_operating_point(net: Net, margins: np.ndarray, misses: float, threshold: float) -> Net:
    """Shifts the face score so that `threshold` lets all but a share of these faces pass.

    Args:
        net: one of the three.
        margins: of validation faces.
        misses: share of them that may fail.
        threshold: of `DetectConfig`.
    """
    wanted = np.log(threshold / (1 - threshold))
    shift = wanted - np.quantile(margins, misses)
    return eqx.tree_at(
        lambda net: net.layers[-1].bias, net, replace_fn=lambda bias: bias.at[1].add(shift)
    )


def train_detector(
    data: Path | str,
    out: Path | str,
    *,
    recipe: DetectorRecipe = DetectorRecipe(),
    seed: int = 0,
) -> Path:
    """Trains the detector; goes on where an interrupted run of the same recipe stopped.

    Args:
        data: folder that holds `portraits/` and `ict-facekit/`.
        out: folder for loss curves (PNG), registrations (`registration/`), renderings, scenes,
            crops and checkpoints (`cache/`, 4 GB).
        recipe: sizes and lengths.
        seed: decides everything.
    Returns:
        File of the trained networks, `parts/detector.safetensors` in `out`, in half precision.
    Raises:
        FileNotFoundError: the data are not there.
    """
    out = Path(out)
    split = load_portraits(data).split
    split = {part: people[people < recipe.people] for part, people in split.items()}
    known = np.concatenate([split["train"], split["validation"]]).tolist()
    sampler = load_sampler(data, out / "registration", people=known)
    settings = [dataclasses.asdict(recipe), seed, sampler.tools.fingerprint, known]
    folder = out / "cache" / f"detector-{key_of(settings)}"
    scenes = _make_scenes(sampler, split, out, folder, recipe, seed)
    mtcnn = new_detector(seed, LANDMARK_FRAME)
    for index, name in enumerate(NAMES):
        mtcnn = _train_net(index, name, mtcnn, scenes, recipe, folder, out, seed)
    path = out / "parts" / "detector.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_module(jax.tree.map(lambda leaf: leaf.astype(jnp.float16), mtcnn), path)
    return path


def _make_scenes(
    sampler: Sampler,
    split: dict[str, np.ndarray],
    out: Path,
    folder: Path,
    recipe: DetectorRecipe,
    seed: int,
) -> tuple[Scenes, Scenes]:
    """Scenes of people to train on and of others to validate with."""

    def build(part: str, stream: int, count: int) -> Scenes:
        people = split[part]

        @functools.cache
        def sources() -> Sources:  # slow to load, and not needed where the scenes exist
            return load_sources(sampler.tools, people, recipe.views, out)

        def make(number: int) -> Scene:
            rng = np.random.default_rng([seed, stream, number])
            if number < count:
                return make_scene(rng, sources().faces, sources().patches, recipe.scene_size)
            return head_scene(sampler, rng, people, recipe.scene_size)

        heads = recipe.head_scenes * count // recipe.scenes
        path = folder / f"{part}.npy"
        return build_scenes(make, count + heads, recipe.scene_size, path=path)

    return build("train", 0, recipe.scenes), build("validation", 1, recipe.validation_scenes)


def _draw(path: Path, title: str, losses: dict[str, np.ndarray]) -> None:
    """Draws means over a hundredth of the steps each."""
    width = max(len(losses["loss"]) // 100, 1)
    curves = {
        name: values[: len(values) // width * width].reshape(-1, width).mean(1)
        for name, values in losses.items()
    }
    draw_curves(path, {f"{title} (an epoch: {width} steps)": curves})


def _train_net(
    index: int,
    name: str,
    mtcnn: MTCNN,
    scenes: tuple[Scenes, Scenes],
    recipe: DetectorRecipe,
    folder: Path,
    out: Path,
    seed: int,
) -> MTCNN:
    """Mines crops for one network, trains it and sets its operating point."""
    crops, held = (
        build_crops(name, mtcnn, own, seed=seed, path=folder / f"{name}-{part}.npz")
        for part, own in zip(("train", "validation"), scenes, strict=True)
    )
    kinds = [np.flatnonzero(crops.kinds == kind) for kind in range(3)]
    counts = [round(share * recipe.batches[index]) for share in _SHARES[name]]

    def batches(step: int) -> tuple[np.ndarray, ...]:
        return draw_batch(crops, kinds, counts, np.random.default_rng([seed, index, step]))

    fitted = fit(
        getattr(mtcnn, name),
        detector_loss,
        batches,
        Recipe(steps=recipe.steps[index]),
        parts=("score", "box", "points") if name == "onet" else ("score", "box"),
        checkpoint=folder / f"{name}-state.npz",
        title=name,
        seed=seed,
    )
    _draw(out / f"detector-{name}.png", name, fitted.losses)
    margins = face_margins(fitted.model, held, POSITIVE)
    threshold = DetectConfig().thresholds[index]
    net = set_operating_point(fitted.model, margins, recipe.misses[index], threshold)
    wrong = face_margins(net, held, NEGATIVE) > np.log(threshold / (1 - threshold))
    print(
        f"{name}: {recipe.misses[index]:.1%} of the faces and {1 - wrong.mean():.2%} of the "
        f"rest are rejected ({len(held)} validation crops)"
    )
    return eqx.tree_at(lambda m: getattr(m, name), mtcnn, net)
