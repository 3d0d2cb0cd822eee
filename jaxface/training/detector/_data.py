"""Scenes and crops that the detector learns from, kept on disk as arrays."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32
from tqdm import tqdm

from ...detect import MTCNN, DetectConfig, corrected_squares, lay_flat, propose_boxes, refine_boxes
from ...types import Image
from ..data import Tools, register_all
from ..loop import write_arrays
from ..render import Sampler, SceneConfig, sample_scene
from ._clutter import Picture
from ._nets import SIDES
from ._renders import photograph, render_people
from ._scenes import Face, Scene, divide_faces
from .mining import Crops, join, make_crops, random_squares

# Per scene: negatives, partial faces and positives kept; squares tried near each face and anywhere.
_MOST = {"pnet": (40, 16, 24), "rnet": (24, 8, 14), "onet": (12, 5, 10)}
_NEAR = {"pnet": 16, "rnet": 8, "onet": 6}
_SEEN = 0.35  # share of a made-up head's landmarks; half are in profile
_VIEWS_SEED = 0  # renderings are shared by all runs
_ANYWHERE = {"pnet": 60, "rnet": 6, "onet": 2}
# What passes when the next network's crops are sought: R-Net lets more pass than in use, for
# its mistakes are what O-Net learns from.
_MINING = DetectConfig(
    min_face_size=24.0, thresholds=(0.6, 0.3, 0.7), proposals=1024, candidates=256, refined=64
)


@dataclasses.dataclass(frozen=True)
class Sources:
    """What scenes are composed of."""

    faces: tuple[Face, ...]
    patches: tuple[Picture, ...]  # no face in them


@dataclasses.dataclass(frozen=True)
class Scenes:
    """Pictures of one size."""

    images: np.ndarray  # (n, s, s, 3) uint8, maybe on disk
    landmarks: tuple[Float32[np.ndarray, "_ 68 2"], ...]
    ignored: tuple[Float32[np.ndarray, "_ 68 2"], ...]  # see `Scene`

    def __len__(self) -> int:
        return len(self.landmarks)


def load_sources(
    tools: Tools, people: np.ndarray, views: int, out: Path, *, every: int = 1
) -> Sources:
    """Photographs and renderings of people, and pieces of the photographs without a face.

    Args:
        tools: portraits and head model.
        people: their numbers.
        views: renderings of each; 0 for the photographs alone.
        out: folder with registrations (`registration/`) and renderings (`cache/`).
        every: 1 for renderings of all people, n for those of each n-th.
    """
    registered = register_all(tools, out / "registration", people=people)
    faces = [photograph(tools, registered[int(person)]) for person in people]
    patches = [patch for face in faces for patch in _patches(face)]
    if views:
        turned = {int(person): registered[int(person)] for person in people[::every]}
        faces += render_people(tools, turned, views, seed=_VIEWS_SEED, cache=out / "cache")
    return Sources(tuple(faces), tuple(patches))


def _patches(face: Face) -> list[Picture]:
    """What lies below the chin and beside the head."""
    low, high = face.landmarks.min(0), face.landmarks.max(0)
    gap = 0.08 * (high - low)
    below = face.image[int(high[1] + gap[1]) :]
    left, right = face.image[:, : int(low[0] - gap[0])], face.image[:, int(high[0] + gap[0]) :]
    return [piece for piece in (below, left, right) if min(piece.shape[:2]) >= 40]


def key_of(settings: object) -> str:
    """Short name of settings, for files that depend on them."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def build_scenes(make: Callable[[int], Scene], count: int, size: int, *, path: Path) -> Scenes:
    """Composes scenes, or reads them where an earlier run has left them.

    Args:
        make: the scene of a number.
        count: of scenes.
        size: of each, px.
        path: `.npy` file of the pictures; the landmarks lie beside it.
    """
    labels = path.with_suffix(".labels.npz")
    if not labels.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (count, size, size, 3)
        images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        found: list[Scene] = []
        for index in tqdm(range(count), "scenes", unit="scene"):
            scene = make(index)
            images[index] = scene.image
            found.append(scene)
        images.flush()
        write_arrays(labels, _pack(found, "landmarks") | _pack(found, "ignored"))
    with np.load(labels) as stored:
        landmarks, ignored = (
            tuple(np.split(stored[name], np.cumsum(stored[f"{name}_counts"])[:-1]))
            for name in ("landmarks", "ignored")
        )
    return Scenes(np.load(path, mmap_mode="r"), landmarks, ignored)


def _pack(scenes: Sequence[Scene], name: str) -> dict[str, Any]:
    faces = [getattr(scene, name) for scene in scenes]
    return {name: np.concatenate(faces), f"{name}_counts": np.array([len(f) for f in faces])}


def head_scene(sampler: Sampler, rng: np.random.Generator, people: np.ndarray, size: int) -> Scene:
    """A scene of made-up heads, profiles and odd skins among them.

    Args:
        sampler: draws them.
        rng: decides everything.
        people: whose photographs may stand behind.
        size: px.
    """
    drawn = sample_scene(
        sampler,
        rng,
        people=people,
        config=SceneConfig(height=size, width=size, heads=1.0, faces=(0, 6)),
    )
    # Faces are drawn small ones first, so that a later head may hide an earlier face.
    middle, extent = drawn.boxes.reshape(-1, 2, 2).mean(1), np.ptp(drawn.boxes.reshape(-1, 2, 2), 1)
    shown = [bool(seen > _SEEN) for seen in drawn.visible.mean(1)]
    for index, place in enumerate(middle):
        away = (place - middle[index + 1 :]) / extent[index + 1 :]
        covered = (np.abs(away[:, 0]) < 0.8) & (away[:, 1] > -1.1) & (away[:, 1] < 1.6)
        shown[index] &= not covered.any()
    return divide_faces(drawn.image, list(drawn.landmarks), shown)


@eqx.filter_jit
def _mined(
    mtcnn: MTCNN, image: Image, name: str, config: DetectConfig
) -> tuple[jax.Array, jax.Array]:
    """Squares that the network `name` is shown, and which of them exist."""
    flat, pyramid = lay_flat(image, jnp.array(image.shape[:2], jnp.int32), config)
    boxes, _ = propose_boxes(mtcnn.pnet, pyramid, flat, config)
    if name == "onet":
        boxes, _ = refine_boxes(mtcnn.rnet, flat, boxes, config)
    return corrected_squares(boxes), boxes.valid


def mine_squares(
    mtcnn: MTCNN, image: Picture, name: str, config: DetectConfig = _MINING
) -> Float32[np.ndarray, "n 4"]:
    """Squares of a picture that the networks before `name` take for faces."""
    if name == "pnet":
        return np.zeros((0, 4), np.float32)
    squares, valid = _mined(mtcnn, jnp.asarray(image, jnp.float32), name, config)
    return np.asarray(squares)[np.asarray(valid)]


def build_crops(
    name: str,
    mtcnn: MTCNN,
    scenes: Scenes,
    *,
    seed: int,
    path: Path,
    config: DetectConfig = _MINING,
    most: tuple[int, int, int] | None = None,
) -> Crops:
    """Crops of all scenes for one network, or those that an earlier run has left.

    Args:
        name: "pnet", "rnet" or "onet".
        mtcnn: the networks before it are trained.
        scenes: pictures with faces.
        seed: decides what is kept.
        path: `.npz` file of the crops.
        config: what the networks before let pass.
        most: negatives, partial faces and positives kept of a scene, by default the usual ones.
    """
    if not path.is_file():
        most = _MOST[name] if most is None else most
        found = [
            _scene_crops(name, mtcnn, scenes, index, seed, config, most)
            for index in tqdm(range(len(scenes)), f"{name} crops", unit="scene")
        ]
        save_crops(path, join(found))
    return load_crops(path)


def _scene_crops(
    name: str,
    mtcnn: MTCNN,
    scenes: Scenes,
    index: int,
    seed: int,
    config: DetectConfig,
    most: tuple[int, int, int],
) -> Crops:
    rng = np.random.default_rng([seed, index])
    image, landmarks = np.asarray(scenes.images[index]), scenes.landmarks[index]
    tried = random_squares(
        rng, landmarks, image.shape[:2], near=_NEAR[name], anywhere=_ANYWHERE[name]
    )
    squares = np.concatenate([mine_squares(mtcnn, image, name, config), tried])
    ignored = scenes.ignored[index]
    return make_crops(name, image, landmarks, ignored, squares, SIDES[name], rng=rng, most=most)


def save_crops(path: Path, crops: Crops) -> None:
    """Writes crops to one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, vars(crops))


def load_crops(path: Path) -> Crops:
    """Reads what `save_crops` wrote."""
    with np.load(path) as stored:
        return Crops(*(stored[field.name] for field in dataclasses.fields(Crops)))


def draw_batch(
    crops: Crops, kinds: Sequence[np.ndarray], counts: Sequence[int], rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """A batch with fixed numbers of negatives, partial faces and positives.

    Args:
        crops: to draw from, with repetition.
        kinds: their indices by kind.
        counts: how many of each kind.
        rng: decides.
    Returns:
        images, kinds, corrections and points.
    """
    index = np.concatenate(
        [own[rng.integers(len(own), size=count)] for own, count in zip(kinds, counts, strict=True)]
    )
    return (
        crops.images[index],
        crops.kinds[index],
        crops.corrections[index],
        crops.points[index],
    )
