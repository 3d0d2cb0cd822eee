"""The last training of O-Net, which shows it the crops that it gets most wrong.

P- and R-Net first pass nearly every candidate of new scenes on to O-Net, and the crops of these
candidates are kept. In each of three rounds O-Net then scores all the crops. Half of every batch
are the non-faces that it scores highest and the faces that it scores lowest; the other half are
drawn from all crops, so that it forgets nothing. At the end its scores are shifted by one number
so that only a few false faces of people who were kept out of training pass the threshold.

Reference: Sung and Poggio, Example-based learning for view-based human face detection, 1998:
bootstrapping. Differs: candidates are cut once; in each round the network ranks them anew.
"""

import dataclasses
import functools
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ...detect import MTCNN, DetectConfig, Net
from ..loop import Recipe, fit
from ..render import Sampler
from ._close import make_close_scene, photographs
from ._data import Scenes, build_crops, build_scenes, draw_batch, head_scene, load_sources
from ._loss import crop_margins, detector_loss, shift_scores
from ._report import boxes_of, detect_in, pair_up
from ._scenes import Scene, make_scene
from .mining import NEGATIVE, PARTIAL, POSITIVE, Crops

_PEOPLE, _CLOSE = 0.225, 0.525  # shares of scenes with many people and of close ones; then heads
_EVERY = 3  # whose renderings are shown: those of every third person
# R-Net lets nearly all pass, so that O-Net meets what it may be shown of any picture.
_OPEN = DetectConfig(
    min_face_size=24.0, thresholds=(0.6, 0.1, 0.7), proposals=1024, candidates=256, refined=96
)
_MOST = (24, 5, 12)  # negatives, partial faces and positives kept of a scene
_BATCH = (60, 16, 52)  # crops of each kind
_HARDEST = (0.12, 0.35)  # of the negatives and the positives, make up half of theirs in a batch
_RATES = (1e-3, 5e-4, 5e-4)  # of the rounds
_GRAINY = 0.3  # share of the last round's crops
_GRAIN = (10.0, 60.0)  # grey levels, range of its standard deviation
_ERASED = 0.25  # share of the crops that something flat hides a piece of
_STREAM = 2  # of random numbers
_LEAST, _BELOW = -7.0, 1e-3  # where the cut lies if too few are false, and how far under the next
_ROUNDED = 1e-7  # scores are no closer to 0 or 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class PolishRecipe:
    """Sizes and lengths of it."""

    scenes: int = 3200
    validation_scenes: int = 400
    steps: int = 1300  # per round
    strays: float = 0.05  # false faces per validation scene that may pass


def polish_scenes(
    sampler: Sampler,
    people: np.ndarray,
    count: int,
    size: int,
    views: int,
    out: Path,
    *,
    path: Path,
    seed: tuple[int, int],
) -> Scenes:
    """Scenes with many people, close ones and made-up heads.

    Args:
        sampler: draws heads, and has the portraits.
        people: their numbers.
        count: of scenes.
        size: px.
        views: renderings of a person.
        out: folder with registrations and renderings.
        path: file of the scenes.
        seed: decides everything.
    """

    @functools.cache
    def sources():
        return load_sources(sampler.tools, people, views, out, every=_EVERY)

    @functools.cache
    def plain():
        return photographs(sources().faces)

    def make(number: int) -> Scene:
        rng = np.random.default_rng([*seed, number])
        if number < _PEOPLE * count:
            return make_scene(rng, sources().faces, sources().patches, size)
        if number < (_PEOPLE + _CLOSE) * count:
            return make_close_scene(rng, plain(), sources().patches, size)
        return head_scene(sampler, rng, people, size)

    return build_scenes(make, count, size, path=path)


def polish(
    mtcnn: MTCNN, train: Scenes, held: Scenes, recipe: PolishRecipe, folder: Path, seed: int
) -> tuple[MTCNN, dict[str, np.ndarray]]:
    """Trains O-Net in rounds and sets its operating point.

    Args:
        mtcnn: trained.
        train: scenes to learn from.
        held: scenes of other people.
        recipe: lengths.
        folder: for crops and checkpoints.
        seed: decides everything.
    Returns:
        The detector with another O-Net, and the losses on the way.
    """
    crops = build_crops(
        "onet", mtcnn, train, seed=seed, path=folder / "polish.npz", config=_OPEN, most=_MOST
    )
    onet, losses = mtcnn.onet, []
    for number, rate in enumerate(_RATES):
        fitted = fit(
            onet,
            _grainy_loss if number == len(_RATES) - 1 else _loss,
            functools.partial(draw_hard, crops, rank_crops(onet, crops), (seed, _STREAM, number)),
            Recipe(steps=recipe.steps, rate=rate),
            terms=("score", "box", "points"),
            checkpoint=folder / f"polish-{number}.state",
            title=f"onet, round {number + 1}",
            seed=seed + number + 1,
        )
        onet = fitted.model
        losses.append(fitted.losses)
    mtcnn = eqx.tree_at(lambda m: m.onet, mtcnn, onet)
    mtcnn = quieten(mtcnn, held, recipe.strays)
    return mtcnn, {name: np.concatenate([some[name] for some in losses]) for name in losses[0]}


def _loss(
    net: Net, batch: tuple[Array, Array, Array, Array], key: PRNGKeyArray
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """`detector_loss` of crops some of which are partly hidden."""
    images, kinds, corrections, points = batch
    erase_key, key = jax.random.split(key)
    return detector_loss(net, (erase(images, erase_key), kinds, corrections, points), key)


def _grainy_loss(
    net: Net, batch: tuple[Array, Array, Array, Array], key: PRNGKeyArray
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """`_loss` of crops some of which are noisy too, as prints and dark pictures are."""
    images, *labels = batch
    grain_key, key = jax.random.split(key)
    return _loss(net, (add_grain(images, grain_key), *labels), key)  # pyright: ignore[reportArgumentType]


def add_grain(images: Array, key: PRNGKeyArray) -> Float[Array, "b s s 3"]:
    """Adds noise of a random strength, grey or coloured, to some crops of grey levels 0 to 255."""
    chance, strength, grey, noise = jax.random.split(key, 4)
    each = (images.shape[0], 1, 1, 1)
    spread = jax.random.uniform(strength, each, minval=_GRAIN[0], maxval=_GRAIN[1])
    spread = jnp.where(jax.random.bernoulli(chance, _GRAINY, each), spread, 0)
    grain = jax.random.normal(noise, images.shape)
    grain = jnp.where(jax.random.bernoulli(grey, 0.5, each), grain[..., :1], grain)
    return jnp.clip(images.astype(jnp.float32) + spread * grain, 0, 255)


def erase(images: Array, key: PRNGKeyArray) -> Float[Array, "b s s 3"]:
    """Lays a rectangle of one colour over some crops, up to a third of a side wide and high."""
    chance, place, extent, colour = jax.random.split(key, 4)
    count, side = images.shape[:2]
    chosen = jax.random.bernoulli(chance, _ERASED, (count, 1, 1, 1))
    middle = jax.random.uniform(place, (count, 2, 1)) * side
    half = jax.random.uniform(extent, (count, 2, 1), minval=0.05, maxval=0.17) * side
    inside = jnp.abs(jnp.arange(side, dtype=jnp.float32)[None, None] - middle) < half
    hidden = inside[:, 0, :, None, None] & inside[:, 1, None, :, None] & chosen
    fill = jax.random.uniform(colour, (count, 1, 1, 3), maxval=255.0)
    return jnp.where(hidden, fill, images.astype(jnp.float32))


def rank_crops(onet: Net, crops: Crops) -> list[tuple[np.ndarray, np.ndarray]]:
    """Indices of all crops of each kind, and of those that the network gets most wrong."""
    margins = crop_margins(onet, crops.images)
    found = []
    for kind in (NEGATIVE, PARTIAL, POSITIVE):
        index = np.flatnonzero(crops.kinds == kind)
        if kind == PARTIAL:
            found.append((index, index))
            continue
        worst = np.argsort(margins[index] if kind == POSITIVE else -margins[index])
        share = _HARDEST[kind == POSITIVE]
        found.append((index, index[worst[: max(int(share * len(index)), 1)]]))
    return found


def draw_hard(
    crops: Crops,
    ranked: list[tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]],
    seed: tuple[int, ...],
    step: int,
) -> tuple[np.ndarray, ...]:
    """A batch: half of each kind are hard ones."""
    rng = np.random.default_rng([*seed, step])
    kinds = [index for pair in ranked for index in pair]
    counts = [half for count in _BATCH for half in (count - count // 2, count // 2)]
    return draw_batch(crops, kinds, counts, rng)


def quieten(mtcnn: MTCNN, scenes: Scenes, strays: float) -> MTCNN:
    """Shifts O-Net's score so that few false faces pass the threshold.

    Args:
        mtcnn: its P- and R-Net are at their operating points.
        scenes: of people who were kept out of training.
        strays: false faces per scene that may pass.
    """
    threshold = DetectConfig().thresholds[2]
    wanted = float(np.log(threshold / (1 - threshold)))
    true, false = detected_margins(mtcnn, scenes)
    allowed = int(strays * len(scenes))
    worst = np.sort(np.append(false, np.full(allowed + 1, _LEAST)))[::-1][allowed]
    shift = wanted - worst - _BELOW
    print(
        f"onet, polished: score shifted by {shift:.2f}; {np.sum(true + shift > wanted)} of "
        f"{len(true)} faces that it is shown and {allowed} of {len(false)} other things pass "
        f"({len(scenes)} validation scenes)"
    )
    return eqx.tree_at(lambda m: m.onet, mtcnn, shift_scores(mtcnn.onet, shift))


def detected_margins(
    mtcnn: MTCNN, scenes: Scenes
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]:
    """How much O-Net prefers face to non-face for all faces that reach it, and for the rest."""
    usual = DetectConfig().thresholds
    config = DetectConfig(min_face_size=30.0, thresholds=(*usual[:2], 0.001))
    true, false = [], []
    for image, landmarks, ignored in zip(
        scenes.images, scenes.landmarks, scenes.ignored, strict=True
    ):
        detections = detect_in(mtcnn, np.asarray(image), config, image.shape[:2])
        valid = np.asarray(detections.valid)
        boxes, scores = np.asarray(detections.boxes)[valid], np.asarray(detections.scores)[valid]
        odds = np.clip(scores, _ROUNDED, 1) / np.clip(1 - scores, _ROUNDED, 1)
        hits = [pair[0] for pair in pair_up(boxes, boxes_of(landmarks))]
        rest = np.delete(np.arange(len(boxes)), hits)
        excused = [pair[0] for pair in pair_up(boxes[rest], boxes_of(ignored))]
        true.extend(np.log(odds[hits]))
        false.extend(np.log(odds[np.delete(rest, excused)]))
    return np.array(true), np.array(false)
