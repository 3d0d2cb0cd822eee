"""How well a detector finds faces that it never saw, clean and spoilt one way at a time."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32

from ...detect import MTCNN, AbstractDetector, DetectConfig, detect_faces
from ...models import read_module
from ...types import Detections
from ..data import load_tools
from ._clutter import Picture, make_clutter
from ._data import Sources, load_sources
from ._scenes import Face, Scene, make_scene
from .mining import five_points, overlaps

_CANVAS = (576, 576)  # px; holds a portrait, turned
_SAME = 0.4  # overlap from which a detection is the face
_TURN = 30.0  # degrees

Spoil = Callable[[np.random.Generator, Face, Sequence[Picture]], Scene]


@dataclasses.dataclass(frozen=True)
class Score:
    """Figures over the pictures of one condition."""

    pictures: int
    faces: int
    found: int
    false: int
    overlap: float  # mean, of the faces found with the box tight around their landmarks
    bias: tuple[float, float, float, float]  # mean error of x0 y0 x1 y1, in face widths
    points: float  # mean error of the five points, in face widths

    @property
    def rate(self) -> float:
        return self.found / max(self.faces, 1)

    @property
    def false_per_100(self) -> float:
        return 100 * self.false / max(self.pictures, 1)


def _resized(face: Face, width: float) -> Face:
    """The photograph with a face of `width` px."""
    low, high = face.landmarks.min(0), face.landmarks.max(0)
    ratio = width / float((high - low)[0])
    size = [round(side * ratio) for side in face.image.shape[1::-1]]
    image = cv2.resize(face.image, size, interpolation=cv2.INTER_AREA)
    scale = np.array(size, np.float32) / face.image.shape[1::-1]
    landmarks = (face.landmarks + np.float32(0.5)) * scale - np.float32(0.5)
    return dataclasses.replace(face, image=image, landmarks=landmarks)


def _scene(image: Picture, *faces: Float32[np.ndarray, "68 2"]) -> Scene:
    landmarks = np.array(faces, np.float32).reshape(-1, 68, 2)
    return Scene(image, landmarks, landmarks[:0])


def _plain(rng: np.random.Generator, face: Face, patches: Sequence[Picture]) -> Scene:
    return _scene(face.image, face.landmarks)


def _small(rng: np.random.Generator, face: Face, patches: Sequence[Picture]) -> Scene:
    face = _resized(face, rng.uniform(40, 60))
    return _scene(face.image, face.landmarks)


def _turned(rng: np.random.Generator, face: Face, patches: Sequence[Picture]) -> Scene:
    height, width = face.image.shape[:2]
    center = tuple(float(c) for c in face.landmarks.mean(0))
    matrix = cv2.getRotationMatrix2D(center, float(rng.choice([-_TURN, _TURN])), 1.0)
    image = cv2.warpAffine(face.image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    landmarks = face.landmarks @ matrix[:, :2].T + matrix[:, 2]
    return _scene(image, landmarks)


def _dark(rng: np.random.Generator, face: Face, patches: Sequence[Picture]) -> Scene:
    return _scene((face.image * rng.uniform(0.12, 0.25)).astype(np.uint8), face.landmarks)


def _grey(rng: np.random.Generator, face: Face, patches: Sequence[Picture]) -> Scene:
    grey = cv2.cvtColor(face.image, cv2.COLOR_RGB2GRAY)
    return _scene(np.repeat(grey[..., None], 3, axis=2), face.landmarks)


def _noisy(rng: np.random.Generator, face: Face, patches: Sequence[Picture]) -> Scene:
    face = _resized(face, rng.uniform(60, 120))
    noise = rng.normal(0, 25, face.image.shape)
    return _scene(np.clip(face.image + noise, 0, 255).astype(np.uint8), face.landmarks)


def _blurred(rng: np.random.Generator, face: Face, patches: Sequence[Picture]) -> Scene:
    sigma = 0.04 * float(np.ptp(face.landmarks[:, 0]))
    return _scene(cv2.GaussianBlur(face.image, (0, 0), sigma), face.landmarks)


def _cluttered(rng: np.random.Generator, face: Face, patches: Sequence[Picture]) -> Scene:
    return make_scene(rng, [face], patches, 320)


def _empty(rng: np.random.Generator, face: Face, patches: Sequence[Picture]) -> Scene:
    return _scene(make_clutter(rng, 320, 320, patches))


def _faceless(rng: np.random.Generator, face: Face, patches: Sequence[Picture]) -> Scene:
    """The photograph, its face covered by other pieces of it."""
    image = face.image.copy()
    low, high = face.landmarks.min(0), face.landmarks.max(0)
    extent = high - low
    left, top = np.maximum(low - (0.15, 0.55) * extent, 0).astype(int)
    right, bottom = (high + (0.15, 0.1) * extent).astype(int)
    image[top:bottom, left:right] = cv2.resize(
        patches[int(rng.integers(len(patches)))], (right - left, min(bottom, len(image)) - top)
    )
    return _scene(image)


CONDITIONS: dict[str, Spoil] = {
    "as they are": _plain,
    "faces of 40 to 60 px": _small,
    "turned by 30 degrees": _turned,
    "dark, 12 to 25 %": _dark,
    "grey": _grey,
    "noisy, sigma 25, 60 to 120 px": _noisy,
    "blurred, sigma 4 % of the face": _blurred,
    "scenes as in training": _cluttered,
    "clutter without faces": _empty,
    "portraits, face covered": _faceless,
}


@eqx.filter_jit
def _detect(mtcnn: MTCNN, canvas: jnp.ndarray, size: jnp.ndarray, config: DetectConfig):
    return detect_faces(mtcnn, canvas, size=size, config=config)


def detect_in(
    mtcnn: AbstractDetector, image: Picture, config: DetectConfig, canvas: tuple[int, int] = _CANVAS
) -> Detections:
    """Faces of one picture, compiled once for all that fit on the canvas."""
    height, width = image.shape[:2]
    padded = np.zeros((*canvas, 3), np.float32)
    padded[:height, :width] = image
    return _detect(mtcnn, jnp.asarray(padded), jnp.array([height, width], jnp.int32), config)


def pair_up(
    boxes: Float32[np.ndarray, "n 4"], truth: Float32[np.ndarray, "f 4"]
) -> list[tuple[int, int, float]]:
    """Pairs detections with faces, largest overlap first, each once.

    Args:
        boxes: x0 y0 x1 y1, px.
        truth: x0 y0 x1 y1, px.
    Returns:
        Detection, face and overlap of each pair that overlaps enough.
    """
    if not len(boxes) or not len(truth):
        return []
    sized = [np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], axis=1) for b in (boxes, truth)]
    shared = overlaps(*sized)
    pairs = []
    while shared.max() >= _SAME:
        detection, face = np.unravel_index(shared.argmax(), shared.shape)
        pairs.append((int(detection), int(face), float(shared[detection, face])))
        shared[detection], shared[:, face] = 0, 0
    return pairs


def boxes_of(landmarks: Float32[np.ndarray, "f 68 2"]) -> Float32[np.ndarray, "f 4"]:
    """Boxes x0 y0 x1 y1 tight around the landmarks."""
    return np.concatenate([landmarks.min(1), landmarks.max(1)], axis=1)


def score_detector(
    mtcnn: AbstractDetector,
    sources: Sources,
    spoil: Spoil,
    *,
    config: DetectConfig,
    seed: int = 0,
    rounds: int = 1,
) -> Score:
    """Runs a detector over one picture per face, or several.

    Args:
        mtcnn: the detector.
        sources: faces of people who were kept out of training, and backgrounds.
        spoil: makes a picture of a face.
        config: of the detector.
        seed: decides what `spoil` does.
        rounds: pictures per face.
    """
    faces = found = false = 0
    overlap, errors, point_errors = [], [], []
    pictures = rounds * len(sources.faces)
    for index in range(pictures):
        rng = np.random.default_rng([seed, index])
        face = sources.faces[index % len(sources.faces)]
        scene = spoil(rng, face, sources.patches)
        landmarks = scene.landmarks
        detections = detect_in(mtcnn, scene.image, config)
        valid = np.asarray(detections.valid)
        boxes, points = np.asarray(detections.boxes)[valid], np.asarray(detections.points)[valid]
        truth = boxes_of(landmarks)
        pairs = pair_up(boxes, truth)
        excused = pair_up(np.delete(boxes, [pair[0] for pair in pairs], 0), boxes_of(scene.ignored))
        faces, found = faces + len(truth), found + len(pairs)
        false += len(boxes) - len(pairs) - len(excused)
        for detection, face, shared in pairs:
            width = truth[face, 2] - truth[face, 0]
            overlap.append(shared)
            errors.append((boxes[detection] - truth[face]) / width)
            apart = points[detection] - five_points(landmarks[face][None])[0]
            point_errors.append(np.linalg.norm(apart, axis=1).mean() / width)
    bias = np.mean(errors, axis=0) if errors else np.zeros(4)
    return Score(
        pictures,
        faces,
        found,
        false,
        float(np.mean(overlap)) if overlap else 0.0,
        (float(bias[0]), float(bias[1]), float(bias[2]), float(bias[3])),
        float(np.mean(point_errors)) if point_errors else 0.0,
    )


def report(scores: dict[str, Score]) -> str:
    """A Markdown table of scores by condition."""
    lines = [
        "| held-out pictures | faces | found | false faces per 100 | overlap | points |",
        "|---|---|---|---|---|---|",
    ]
    for name, score in scores.items():
        found = f"{100 * score.rate:.1f} % | " if score.faces else "| "
        shown = f"{score.overlap:.3f} | {100 * score.points:.1f} %" if score.found else " | "
        lines.append(
            f"| {name} ({score.pictures}) | {score.faces} | {found}"
            f"{score.false_per_100:.1f} | {shown} |"
        )
    return "\n".join(lines) + "\n"


def evaluate_detector(
    path: Path,
    data: Path | str,
    out: Path | str,
    *,
    split: str = "test",
    config: DetectConfig = DetectConfig(min_face_size=30.0),
) -> str:
    """Scores a detector on people held out of training, in all of `CONDITIONS`.

    Args:
        path: of the trained detector.
        data: folder that holds `portraits/` and `ict-facekit/`.
        out: folder that holds `registration/`.
        split: the people.
        config: of the detector.
    Returns:
        A Markdown table.
    """
    tools = load_tools(data)
    people = tools.portraits.split[split]
    sources = load_sources(tools, people, 0, Path(out))
    mtcnn = read_module(path)
    return report(
        {
            name: score_detector(mtcnn, sources, spoil, config=config)
            for name, spoil in CONDITIONS.items()
        }
    )
