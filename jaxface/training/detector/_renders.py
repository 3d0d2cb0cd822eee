"""Faces for the detector's scenes: photographs, and the same people turned and in other light."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ..._files import AtomicFile
from ..data import Registered, Tools, View, euler_to_matrix, landmarks_at_contour
from ..render import Textured, draw_portrait, prepare_portrait
from ._scenes import Face

_SIDE = 208  # px of a rendering; the networks see 48 px at most
_MIDDLE = (0.5, 0.54)  # where the face's middle is drawn, in sides
_WIDTH_MM, _WIDTH = 145.0, 96.0  # a face's width in mm, and what it becomes, px
_DISTANCES = (350.0, 3000.0)  # mm from the camera
_MOVES = 4  # expression shapes that move at once, at most


def _random_view(rng: np.random.Generator, middle: np.ndarray) -> View:
    """Yaw to +-70, pitch to +-30, roll mostly to +-20 degrees."""
    yaw = rng.uniform(-70, 70) if rng.random() < 0.65 else rng.normal(0, 15)
    pitch = np.clip(rng.normal(0, 13), -30, 30)
    rotation = euler_to_matrix(np.radians([pitch, yaw, rng.normal(0, 10)]))
    distance = float(np.exp(rng.uniform(*np.log(_DISTANCES))))
    place = np.array(_MIDDLE, np.float32) * _SIDE
    return View(rotation.astype(np.float32), _WIDTH / _WIDTH_MM, place, middle, distance)


def _random_light(rng: np.random.Generator) -> np.ndarray | None:
    """Light from one side, in camera axes; None for the photograph's own."""
    if rng.random() < 0.4:
        return None
    direction = rng.normal(0, 1, 3) - np.array([0, 0.5, 0.5])
    strength = rng.uniform(0.1, 0.7)
    even = rng.uniform(0.9, 1.1) - 0.6 * strength
    return np.array([even, *(strength * direction / np.linalg.norm(direction))], np.float32)


def _moved(rng: np.random.Generator, tools: Tools, registered: Registered) -> np.ndarray:
    """Vertices of the head with some of its expression shapes changed."""
    expression = registered.expression.copy()
    count = int(rng.integers(0, _MOVES + 1))
    shapes = rng.choice(len(expression), count, replace=False)
    names = tools.head.expression_names
    shapes = [i for i in shapes if not names[i].startswith("eyeLook")]
    if rng.random() < 0.4:
        shapes.append(names.index("jawOpen"))
    expression[shapes] = rng.uniform(0, 0.8, len(shapes))
    return tools.head.vertices(registered.identity, expression) + (
        tools.bend @ registered.displacement
    )


def _render(rng: np.random.Generator, tools: Tools, textured: Textured) -> Face:
    """One view, with its matte from a drawing over black and one over white."""
    vertices = _moved(rng, tools, textured.registered)
    view = _random_view(rng, vertices[tools.head.landmarks].mean(0))
    light = _random_light(rng)
    black, white = (
        draw_portrait(
            tools, textured, vertices, view, np.full((_SIDE, _SIDE, 3), v, np.uint8), light=light
        )[0]
        for v in (0, 255)
    )
    matte = 255 - (white.astype(np.int16) - black).max(-1)
    matte = np.clip(matte, 0, 255).astype(np.uint8)
    # What is drawn over black is dimmed along the rim already.
    image = np.where(matte[..., None] > 127, np.minimum(black, white), 0)
    image = np.clip(
        image.astype(np.float32) * 255 / np.maximum(matte[..., None], 128), 0, 255
    ).astype(np.uint8)
    points = landmarks_at_contour(tools.head, tools.strips, vertices, view.rotation)
    return Face(image, view.project(points)[:, :2].astype(np.float32), matte, False)


def photograph(tools: Tools, registered: Registered) -> Face:
    """A portrait with the landmarks of the registered head."""
    image = tools.portraits.image(registered.person)
    matte = cv2.resize(registered.foreground, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    matte = cv2.GaussianBlur(matte, (5, 5), 0)
    return Face(image, registered.landmarks.astype(np.float32), matte, True)


def render_people(
    tools: Tools, people: Mapping[int, Registered], views: int, *, seed: int, cache: Path
) -> list[Face]:
    """Views of people at random poses, expressions and light, or those left by an earlier run.

    Args:
        tools: portraits and head model.
        people: by number.
        views: of each.
        seed: decides everything.
        cache: folder for one file per person.
    """
    folder = cache / f"views-{tools.fingerprint}-{seed}-{views}"
    folder.mkdir(parents=True, exist_ok=True)
    faces = []
    for person, registered in tqdm(people.items(), "views", unit="person"):
        path = folder / f"{person:04d}.npz"
        if not path.is_file():
            textured = prepare_portrait(tools, registered)
            rng = np.random.default_rng([seed, person])
            _save_views(path, [_render(rng, tools, textured) for _ in range(views)])
        faces += _load_views(path)
    return faces


def _save_views(path: Path, faces: list[Face]) -> None:
    with AtomicFile(path) as file:
        np.savez(
            file.stream,
            images=np.stack([face.image for face in faces]),
            landmarks=np.stack([face.landmarks for face in faces]),
            mattes=np.stack([face.matte for face in faces]),
        )
        file.commit()


def _load_views(path: Path) -> list[Face]:
    with np.load(path) as stored:
        views = zip(stored["images"], stored["landmarks"], stored["mattes"], strict=True)
        return [Face(image, landmarks, matte, False) for image, landmarks, matte in views]
