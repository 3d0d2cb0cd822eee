"""Trains P-, R- and O-Net one after another, each on what the ones before it let through.

Reference: Zhang et al., Joint Face Detection and Alignment using Multi-task Cascaded
Convolutional Networks, 2016: the losses and the mining of hard examples. Differs: faces and
places are synthesised, see `make_scene`; boxes and points are learnt with an absolute
error, Huber's near zero; each network's bias is set on validation scenes afterwards, so that
the thresholds of `DetectConfig` need no tuning; O-Net is taught once more at the end, see
`polish`.
"""

import dataclasses
import functools
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...detect import MTCNN, DetectConfig
from ...models import write_module
from ..data import load_portraits
from ..loop import Recipe, draw_losses, fit
from ..render import Sampler, load_sampler
from ._data import (
    Scenes,
    Sources,
    build_crops,
    build_scenes,
    draw_batch,
    head_scene,
    key_of,
    load_sources,
)
from ._loss import detector_loss, face_margins, set_operating_point
from ._nets import NAMES, new_detector
from ._polish import PolishRecipe, polish, polish_scenes
from ._scenes import Scene, make_scene
from .mining import LANDMARK_FRAME, NEGATIVE, POSITIVE

_POLISH_STREAM = 3  # of random numbers, and the one after it
_SHARES = {"pnet": (0.5, 0.2, 0.3), "rnet": (0.5, 0.2, 0.3), "onet": (0.45, 0.15, 0.4)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorRecipe:
    """Sizes of the data and lengths of the training; the defaults made the shipped detector."""

    people: int = 700  # those with lower numbers, of all sets of the split
    scenes: int = 1800  # with people
    head_scenes: int = 400  # of made-up heads
    validation_scenes: int = 240
    scene_size: int = 320  # px
    views: int = 4  # renderings of each person
    batches: tuple[int, int, int] = (1024, 320, 160)  # crops, per network
    steps: tuple[int, int, int] = (1800, 1400, 3000)
    misses: tuple[float, float, float] = (0.06, 0.02, 0.21)  # validation faces that may go
    polish: PolishRecipe = PolishRecipe()


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
    split = {name: people[people < recipe.people] for name, people in split.items()}
    known = np.concatenate([split["train"], split["validation"]]).tolist()
    sampler = load_sampler(data, out / "registration", people=known)
    settings = [dataclasses.asdict(recipe), seed, sampler.tools.fingerprint, known]
    folder = out / "cache" / f"detector-{key_of(settings)}"
    scenes = _make_scenes(sampler, split, out, folder, recipe, seed)
    mtcnn = new_detector(seed, LANDMARK_FRAME)
    for index, name in enumerate(NAMES):
        mtcnn = _train_net(index, name, mtcnn, scenes, recipe, folder, out, seed)
    mtcnn = polish_detector(mtcnn, sampler, split, recipe, folder, out, seed)
    path = out / "parts" / "detector.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_module(jax.tree.map(lambda leaf: leaf.astype(jnp.float16), mtcnn), path)
    return path


def polish_detector(
    mtcnn: MTCNN,
    sampler: Sampler,
    split: dict[str, np.ndarray],
    recipe: DetectorRecipe,
    folder: Path,
    out: Path,
    seed: int,
) -> MTCNN:
    """Composes the scenes that O-Net is polished with, and polishes it; see `polish`."""
    counts = {"train": recipe.polish.scenes, "validation": recipe.polish.validation_scenes}
    train, held = (
        polish_scenes(
            sampler,
            split[name],
            count,
            recipe.scene_size,
            recipe.views,
            out,
            path=folder / f"polish-{name}.npy",
            seed=(seed, _POLISH_STREAM + number),
        )
        for number, (name, count) in enumerate(counts.items())
    )
    mtcnn, losses = polish(mtcnn, train, held, recipe.polish, folder, seed)
    draw_losses(out / "detector-onet-polished.png", "onet, polished", losses)
    return mtcnn


def _make_scenes(
    sampler: Sampler,
    split: dict[str, np.ndarray],
    out: Path,
    folder: Path,
    recipe: DetectorRecipe,
    seed: int,
) -> tuple[Scenes, Scenes]:
    """Scenes of people to train on and of others to validate with."""

    def build(name: str, stream: int, count: int) -> Scenes:
        people = split[name]

        @functools.cache
        def sources() -> Sources:  # slow to load, and not needed where the scenes exist
            return load_sources(sampler.tools, people, recipe.views, out)

        def make(number: int) -> Scene:
            rng = np.random.default_rng([seed, stream, number])
            if number < count:
                return make_scene(rng, sources().faces, sources().patches, recipe.scene_size)
            return head_scene(sampler, rng, people, recipe.scene_size)

        heads = recipe.head_scenes * count // recipe.scenes
        path = folder / f"{name}.npy"
        return build_scenes(make, count + heads, recipe.scene_size, path=path)

    return build("train", 0, recipe.scenes), build("validation", 1, recipe.validation_scenes)


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
        build_crops(name, mtcnn, own, seed=seed, path=folder / f"{name}-{people}.npz")
        for people, own in zip(("train", "validation"), scenes, strict=True)
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
        terms=("score", "box", "points") if name == "onet" else ("score", "box"),
        checkpoint=folder / f"{name}.state",
        title=name,
        seed=seed,
    )
    draw_losses(out / f"detector-{name}.png", name, fitted.losses)
    margins = face_margins(fitted.model, held, POSITIVE)
    threshold = DetectConfig().thresholds[index]
    net = set_operating_point(fitted.model, margins, recipe.misses[index], threshold)
    wrong = face_margins(net, held, NEGATIVE) > np.log(threshold / (1 - threshold))
    print(
        f"{name}: {recipe.misses[index]:.1%} of the faces and {1 - wrong.mean():.2%} of the "
        f"rest are rejected ({len(held)} validation crops)"
    )
    return eqx.tree_at(lambda m: getattr(m, name), mtcnn, net)
