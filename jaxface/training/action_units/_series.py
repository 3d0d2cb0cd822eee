"""Series of pictures of one person: the same face, camera and place, changing expression and pose.

Action units are changes of a face, so what is learnt from a series are the differences within it.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from ..data import View, euler_to_matrix, landmarks_at_contour
from ..render import (
    Sampler,
    degrade,
    draw_head,
    draw_portrait,
    extra_light,
    faceless,
    gaze_direction,
    lids_follow,
    occlude,
    place_face,
    random_background,
    random_complexion,
    random_light,
)
from ._expressions import expression_series, resting_face
from ._labels import label_units, lip_gap

_SIZE = 240  # px, height and width of the pictures
_FACE = (0.5, 0.92)  # longer side of the face's box, of the size
_SHIFT = 0.04  # of the size
# Standard deviations, degrees: pitch, yaw, roll of a person's usual pose, and around it.
_USUAL, _AROUND = np.array([4.0, 7.0, 3.0]), np.array([6.0, 10.0, 4.0])
_MOST = np.array([25.0, 35.0, 20.0])
# Chance that a picture is turned far: at any angle within the limits. Heads must learn that a turn
# is no expression; what a fit makes of a turned face differs from what it makes of a frontal one.
_TURNED = 0.3
_KEEPS_OWN, _OWN_EXPRESSION = 0.4, (0.0, 0.6)  # chance that a photograph's own expression stays,
# as the face at rest, and how much of it
_IDENTITY_MODES, _IDENTITY_CHANGE, _OTHER_IDENTITY = 30, 0.7, 0.6
_OTHER_LIGHT, _WORN = 0.25, 0.08  # chances of a light of its own, and of something before the face
# Standard deviations of the gaze, rad. Lids follow a gaze further down as if the eyes closed.
_LOOK_PITCH, _LOOK_YAW = 0.1, 0.2
_SPOILT = (0.0, 0.6)  # strength of what camera and file do to the pictures


@dataclasses.dataclass(frozen=True)
class Series:
    """Pictures of one person; left and right are the person's."""

    images: np.ndarray  # (k, h, w, 3) uint8 RGB
    landmarks: np.ndarray  # (k, 68, 2) px
    intensity: np.ndarray  # (k, units) 0 to 5, in the order of `UNITS`
    rest: np.ndarray  # (units,) of the face at rest
    rotation: np.ndarray  # (k, 3) rad
    scale: np.ndarray  # (k,) px per mm


Painter = Callable[[View, np.ndarray], np.ndarray]  # view and background -> picture
Show = Callable[[np.ndarray], tuple[np.ndarray, Painter]]  # weights -> vertices (n, 3) mm, painter


def portrait_series(
    sampler: Sampler, rng: np.random.Generator, person: int, *, count: int
) -> Series:
    """Draws a photographed person.

    The photograph's own expression is taken back, all of it or some; what stays of it is the
    person's face at rest.
    """
    head, textured = sampler.tools.head, sampler.textured(person)
    own = textured.registered.expression
    kept = rng.uniform(*_OWN_EXPRESSION) if rng.random() < _KEEPS_OWN else 0.0
    identity = rng.normal(0, _IDENTITY_CHANGE, _IDENTITY_MODES).astype(np.float32)
    identity *= np.float32(rng.random() < _OTHER_IDENTITY)
    changed = textured.vertices + np.tensordot(identity, head.identity_basis[:_IDENTITY_MODES], 1)
    usual = extra_light(rng)

    def show(weights: np.ndarray) -> tuple[np.ndarray, Painter]:
        vertices = changed + head.expression_offsets(weights - own)
        light = extra_light(rng) if rng.random() < _OTHER_LIGHT else usual

        def paint(view: View, canvas: np.ndarray) -> np.ndarray:
            return draw_portrait(sampler.tools, textured, vertices, view, canvas, light=light)[0]

        return vertices, paint

    return _series(sampler, rng, np.float32(kept) * own, show, count)


def head_series(sampler: Sampler, rng: np.random.Generator, *, count: int) -> Series:
    """Draws a made-up head; the eyes look around, and the lids follow."""
    head = sampler.tools.head
    identity = rng.normal(size=len(head.identity_basis)).astype(np.float32)
    complexion = random_complexion(rng, head, sampler.regions)
    usual = random_light(rng)

    def show(weights: np.ndarray) -> tuple[np.ndarray, Painter]:
        pitch, yaw = rng.normal(0, (_LOOK_PITCH, _LOOK_YAW))
        vertices = head.vertices(identity, lids_follow(head, weights, pitch, yaw))
        light = random_light(rng) if rng.random() < _OTHER_LIGHT else usual
        gaze = np.stack([gaze_direction(pitch, yaw)] * 2)

        def paint(view: View, canvas: np.ndarray) -> np.ndarray:
            return draw_head(head, vertices, complexion, view, canvas, gaze=gaze, light=light)[0]

        return vertices, paint

    return _series(sampler, rng, resting_face(rng, head), show, count)


def _random_pose(rng: np.random.Generator, usual: np.ndarray) -> np.ndarray:
    """Pitch, yaw and roll, degrees, of a person with this usual pose."""
    if rng.random() < _TURNED:
        return rng.uniform(-_MOST, _MOST)
    return np.clip(usual + rng.normal(0, _AROUND), -_MOST, _MOST)


def _series(
    sampler: Sampler, rng: np.random.Generator, rest: np.ndarray, show: Show, count: int
) -> Series:
    """Draws the same face with many expressions and poses."""
    head, strips = sampler.tools.head, sampler.tools.strips
    photograph = functools.partial(faceless, rng, sampler, sampler.of_split("train"))
    background = random_background(rng, _SIZE, _SIZE, photograph=photograph)
    size, usual_pose = _SIZE * rng.uniform(*_FACE), rng.normal(0, _USUAL)
    camera, strength = int(rng.integers(1 << 31)), rng.uniform(*_SPOILT)
    worn = int(rng.integers(1 << 31)) if rng.random() < _WORN else None
    closed = lip_gap(show(np.zeros_like(rest))[0][head.landmarks])
    rows = []
    for change in expression_series(rng, head, count):
        weights = np.clip(rest + change, 0, 1)
        vertices, paint = show(weights)
        rotation = euler_to_matrix(np.radians(_random_pose(rng, usual_pose)))
        points = landmarks_at_contour(head, strips, vertices, rotation)
        middle = _SIZE * (0.5 + rng.normal(0, _SHIFT, 2)) - 0.5
        view, _ = place_face(rng, points, rotation, size, middle)
        image, landmarks = paint(view, background), view.project(points)[:, :2]
        if worn is not None:
            image = occlude(np.random.default_rng(worn), image, landmarks)[0]
        image = degrade(np.random.default_rng(camera), image, strength=strength)
        intensity = label_units(head, weights, lip_gap(vertices[head.landmarks]) - closed)
        rows.append((image, landmarks.astype(np.float32), intensity, view.euler, view.scale))
    images, landmarks, intensity, angles, scales = (np.stack(c) for c in zip(*rows, strict=True))
    resting = lip_gap(show(rest)[0][head.landmarks]) - closed
    return Series(images, landmarks, intensity, label_units(head, rest, resting), angles, scales)
