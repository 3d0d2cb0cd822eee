"""Random samples: portraits seen anew, rendered heads, pictures without faces, and crowds.

All randomness comes from the generator that the caller passes, so a seed gives the same samples.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..data import (
    EYES,
    Registered,
    Tools,
    View,
    euler_to_matrix,
    eyeball,
    eyelid_paths,
    iris_points,
    landmarks_at_contour,
    load_tools,
    register_all,
)
from ._backgrounds import faceless_piece, random_background
from ._complexion import Regions, find_regions, random_complexion
from ._degrade import degrade, occlude
from ._expressions import lids_follow, random_expression
from ._head import draw_head, gaze_direction, irises_of
from ._portrait import Textured, draw_portrait, prepare_portrait
from ._raster import Fragments, seen
from ._sample import Sample, label, mirrored

_CENTRE = np.array([0, 0, -60], np.float32)  # mm: about which heads turn and are placed
_PREPARED = 64  # portraits kept ready to be drawn, about 3 MB each
_IDENTITY_MODES, _IDENTITY_CHANGE = 20, 0.6  # first modes of the head, and their spread
_BEHIND = 6.0  # mm that a landmark may lie behind the surface that hides nothing of it
_MIN_DRAWN = 70.0  # px: smaller faces are drawn larger and reduced


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Ranges of the samples; angles in degrees."""

    size: int = 160  # px, height and width
    face: tuple[float, float] = (0.45, 0.8)  # longer side of the face's box, of the size
    shift: float = 0.08  # of the middle of the box from the middle of the picture, of the size
    yaw: float = 60.0
    pitch: float = 25.0
    roll: float = 30.0
    degrade: float = 1.0  # strength; 0 leaves pictures clean
    occlude: float = 0.25  # chance of something in front of the face
    own_pose: float = 0.1  # chance that a portrait keeps the pose of its photograph


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Everything that samples are made from."""

    tools: Tools
    registered: dict[int, Registered]
    regions: Regions
    lids: np.ndarray  # (2, 12) vertices
    prepared: dict[int, Textured] = dataclasses.field(default_factory=dict)

    @property
    def people(self) -> np.ndarray:
        """Numbers of the registered people, ascending."""
        return np.array(sorted(self.registered))

    def of_split(self, name: str, *, needed: bool = False) -> np.ndarray:
        """Numbers of the registered people of one set of the split.

        Raises:
            ValueError: somebody is needed, and nobody of the set is registered.
        """
        people = np.intersect1d(self.people, self.tools.portraits.split[name])
        if needed and not len(people):
            raise ValueError(f"split {name}: expected registered people, got none")
        return people

    def textured(self, person: int) -> Textured:
        """One portrait ready to be drawn; some are kept, the longest unused goes first."""
        found = self.prepared.pop(person, None)
        if found is None:
            found = prepare_portrait(self.tools, self.registered[person])
            while len(self.prepared) >= _PREPARED:
                del self.prepared[next(iter(self.prepared))]
        self.prepared[person] = found
        return found


def load_sampler(
    data: Path | str, cache: Path | str, *, people: Sequence[int] | None = None
) -> Sampler:
    """Reads the data and registers the portraits, unless an earlier run has.

    Args:
        data: folder that holds `portraits/` and `ict-facekit/`.
        cache: folder for the registrations.
        people: all by default.
    """
    tools = load_tools(data)
    lids = eyelid_paths(tools.head)
    registered = register_all(tools, cache, people=people)
    return Sampler(tools, registered, find_regions(tools.head, lids), lids)


def sample_portrait(
    sampler: Sampler,
    rng: np.random.Generator,
    *,
    person: int | None = None,
    people: np.ndarray | None = None,
    config: SampleConfig = SampleConfig(),
) -> Sample:
    """A photographed person at a random pose and expression.

    Args:
        person: whose portrait; by default one of
        people: numbers to choose from, by default those of the training set.
    """
    if person is None:
        people = sampler.of_split("train") if people is None else people
        person = int(people[rng.integers(len(people))])
    canvas, face, middle = _random_place(rng, sampler, config)
    sample = portrait_over(sampler, rng, person, canvas, face, middle, config=config)
    return _spoil(rng, sampler, sample, config)


def sample_head(
    sampler: Sampler,
    rng: np.random.Generator,
    *,
    config: SampleConfig = SampleConfig(yaw=90.0),
) -> Sample:
    """A made-up head: random identity, expression, gaze, colours, light and pose."""
    canvas, face, middle = _random_place(rng, sampler, config)
    sample = head_over(sampler, rng, canvas, face, middle, config=config)
    return _spoil(rng, sampler, sample, config)


def portrait_over(
    sampler: Sampler,
    rng: np.random.Generator,
    person: int,
    canvas: np.ndarray,
    face: float,
    middle: np.ndarray,
    *,
    config: SampleConfig,
) -> Sample:
    """Draws a portrait at a random pose and expression, clean, over a picture.

    Args:
        canvas: (h, w, 3) uint8.
        face: longer side of the box around the landmarks, px.
        middle: (2,) of that box, px.
        config: limits of the pose.
    """
    textured = sampler.textured(person)
    head, registered = sampler.tools.head, textured.registered
    if rng.random() < config.own_pose:
        rotation, weights = registered.rotation, registered.expression
        vertices = textured.vertices
    else:
        rotation = _random_rotation(rng, config)
        weights = _change_expression(rng, sampler, registered.expression)
        change = head.expression_offsets(weights - registered.expression)
        vertices = textured.vertices + change + _change_identity(rng, sampler)
    landmarks = landmarks_at_contour(head, sampler.tools.strips, vertices, rotation)
    view, factor = place_face(rng, landmarks, rotation, face, middle)
    image, fragments = draw_portrait(
        sampler.tools, textured, vertices, view, enlarged(canvas, factor), light=extra_light(rng)
    )
    irises, gaze = _portrait_eyes(textured)
    labels = label(view, landmarks, irises, vertices[sampler.lids])
    labels["gaze"] = (gaze @ rotation.T).astype(np.float32)
    kept = {"expression": weights, "exact_expression": False, "person": person, "kind": "portrait"}
    return _finish(image, fragments, view, landmarks, factor, labels, kept)


def head_over(
    sampler: Sampler,
    rng: np.random.Generator,
    canvas: np.ndarray,
    face: float,
    middle: np.ndarray,
    *,
    config: SampleConfig,
) -> Sample:
    """Draws a made-up head, clean, over a picture; the arguments are `portrait_over`'s."""
    head = sampler.tools.head
    pitch, yaw = rng.normal(0, 0.12), rng.normal(0, 0.22)
    weights = lids_follow(head, random_expression(rng, head), pitch, yaw)
    vertices = head.vertices(rng.normal(size=len(head.identity_basis)), weights)
    gaze = np.stack([gaze_direction(pitch, yaw)] * 2)
    rotation = _random_rotation(rng, config)
    landmarks = landmarks_at_contour(head, sampler.tools.strips, vertices, rotation)
    view, factor = place_face(rng, landmarks, rotation, face, middle)
    image, fragments = draw_head(
        head,
        vertices,
        random_complexion(rng, head, sampler.regions),
        view,
        enlarged(canvas, factor),
        gaze=gaze,
        light=random_light(rng),
    )
    labels = label(view, landmarks, irises_of(vertices, gaze), vertices[sampler.lids])
    labels["gaze"] = (gaze @ rotation.T).astype(np.float32)
    kept = {"expression": weights, "exact_expression": True, "person": -1, "kind": "head"}
    return _finish(image, fragments, view, landmarks, factor, labels, kept)


def sample_negative(
    sampler: Sampler,
    rng: np.random.Generator,
    *,
    people: np.ndarray | None = None,
    config: SampleConfig = SampleConfig(),
) -> np.ndarray:
    """A picture (h, w, 3) uint8 without a face."""
    people = sampler.of_split("train") if people is None else people
    photograph = functools.partial(faceless, rng, sampler, people)
    picture = random_background(rng, config.size, config.size, photograph=photograph)
    return degrade(rng, picture, strength=config.degrade)


def _random_rotation(rng: np.random.Generator, config: SampleConfig) -> np.ndarray:
    """Evenly spread yaw; pitch and roll nearer to upright, within their limits."""
    pitch, roll = np.clip(rng.normal(0, 0.5, 2), -1, 1) * [config.pitch, config.roll]
    angles = np.array([pitch, rng.uniform(-config.yaw, config.yaw), roll])
    return euler_to_matrix(np.radians(angles))


def _change_expression(rng: np.random.Generator, sampler: Sampler, own: np.ndarray) -> np.ndarray:
    """The photograph's weights, or a random expression in the place of some of them."""
    kind = rng.random()
    if kind < 0.3:
        return own
    wanted = random_expression(rng, sampler.tools.head)
    # What the photograph shows of a smile cannot be taken back entirely without traces.
    remaining = rng.uniform(0.3, 1) if kind < 0.8 else 1.0
    return np.clip(remaining * own + wanted, 0, 1).astype(np.float32)


def _change_identity(rng: np.random.Generator, sampler: Sampler) -> np.ndarray:
    """Displacement (n, 3), mm: half the time the face becomes somebody else's a little."""
    if rng.random() < 0.5:
        return np.zeros(3, np.float32)
    weights = rng.normal(0, _IDENTITY_CHANGE, _IDENTITY_MODES).astype(np.float32)
    return np.tensordot(weights, sampler.tools.head.identity_basis[:_IDENTITY_MODES], 1)


def _random_place(
    rng: np.random.Generator, sampler: Sampler, config: SampleConfig
) -> tuple[np.ndarray, float, np.ndarray]:
    """A background, and the size and the middle of the face on it, px."""
    size = config.size
    photograph = functools.partial(faceless, rng, sampler, sampler.of_split("train"))
    canvas = random_background(rng, size, size, photograph=photograph)
    middle = size * (0.5 + rng.uniform(-config.shift, config.shift, 2)) - 0.5
    return canvas, size * rng.uniform(*config.face), middle


def place_face(
    rng: np.random.Generator,
    landmarks: np.ndarray,
    rotation: np.ndarray,
    face: float,
    middle: np.ndarray,
) -> tuple[View, int]:
    """The view that puts a face into a picture, and how many times larger it is to be drawn."""
    factor = int(np.clip(np.ceil(_MIN_DRAWN / face), 1, 4))
    distance = np.inf if rng.random() < 0.3 else float(rng.uniform(450, 1500))
    unit = View(rotation, 1.0, np.zeros(2), _CENTRE, distance)
    projected = unit.project(landmarks)[:, :2]
    low, high = projected.min(axis=0), projected.max(axis=0)
    scale = factor * face / float(max(high - low))
    translation = (middle + 0.5) * factor - 0.5 - scale * (low + high) / 2
    return View(rotation, scale, translation.astype(np.float32), _CENTRE, distance), factor


def enlarged(canvas: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return canvas
    return cv2.resize(canvas, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)


def extra_light(rng: np.random.Generator) -> np.ndarray | None:
    """Light (4,), as `draw_portrait` takes it, that a photograph gets on top; often none."""
    if rng.random() < 0.5:
        return None
    towards = rng.normal(size=3) * [1, 0.7, 0.4] + [0, -0.2, -0.4]
    towards *= rng.uniform(0, 0.7) / np.linalg.norm(towards)
    return np.array([1 + 0.6 * towards[2], *towards], np.float32)


def faceless(rng: np.random.Generator, sampler: Sampler, people: np.ndarray) -> np.ndarray:
    """A piece of a photograph of one of the people, without the face."""
    person = int(people[rng.integers(len(people))])
    portraits = sampler.tools.portraits
    return faceless_piece(rng, portraits.image(person), portraits.mesh[person])


def _portrait_eyes(textured: Textured) -> tuple[np.ndarray, np.ndarray]:
    """Irises (2, 9, 3), mm, and directions of gaze (2, 3) of a photograph, in the head frame."""
    irises, gaze = [], []
    for eye, points in zip(EYES, textured.irises, strict=True):
        centre, _ = eyeball(textured.vertices, eye)
        direction = points[0] - centre
        reach = float(np.linalg.norm(direction))
        radius = float(np.linalg.norm(points[1:, :2] - points[0, :2], axis=1).mean())
        direction = direction / max(reach, 1e-6)
        ring = iris_points(np.zeros(3), np.hypot(reach, radius), direction, radius)
        irises.append(centre + ring)
        gaze.append(direction)
    return np.stack(irises), np.stack(gaze)


def random_light(rng: np.random.Generator) -> np.ndarray:
    """Two sources (2, 7), as `draw_head` takes them."""
    sources = []
    for strength, even in ((rng.uniform(0.4, 0.9), 0.1), (rng.uniform(0.45, 0.75), 0.8)):
        towards = rng.normal(size=3) * [1, 0.7, 0.4] + [0, -0.3, -0.6]
        colour = strength * rng.uniform(0.9, 1.1, 3)
        sources.append([*(towards / np.linalg.norm(towards)), *colour, even])
    return np.array(sources, np.float32)


def _finish(
    image: np.ndarray,
    fragments: Fragments,
    view: View,
    landmarks: np.ndarray,
    factor: int,
    labels: dict[str, Any],
    kept: dict[str, Any],
) -> Sample:
    """Reduces the drawing to its size, and completes the labels."""
    visible = seen(view.project(landmarks), fragments.depth, slack=_BEHIND, reach=2)
    if factor > 1:
        size = (image.shape[1] // factor, image.shape[0] // factor)
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        for name in ("landmarks", "irises", "lids", "box"):
            labels[name] = (labels[name] + np.float32(0.5)) / factor - np.float32(0.5)
    height, width = image.shape[:2]
    x, y = np.rint(labels["landmarks"]).astype(int).T
    visible &= (x >= 0) & (y >= 0) & (x < width) & (y < height)
    return Sample(image=image, visible=visible, scale=view.scale / factor, **labels, **kept)


def _spoil(
    rng: np.random.Generator, sampler: Sampler, sample: Sample, config: SampleConfig
) -> Sample:
    """Makes a drawn picture as poor as pictures of cameras are, at random.

    First something may hide a region of the face; landmarks behind it then count as not visible.
    Then the picture is degraded: blurred, made noisy, compressed. Last, half of the pictures are
    mirrored together with their labels, so that the training has no favourite side.
    """
    image, visible = sample.image, sample.visible
    if rng.random() < config.occlude:
        image, hidden = occlude(rng, image, sample.landmarks)
        x, y = np.clip(np.rint(sample.landmarks).astype(int), 0, config.size - 1).T
        visible = visible & ~hidden[y, x]
    image = degrade(rng, image, strength=config.degrade)
    sample = dataclasses.replace(sample, image=image, visible=visible)
    if rng.random() < 0.5:
        return mirrored(sample, sampler.tools.head.mirrored_expression)
    return sample
