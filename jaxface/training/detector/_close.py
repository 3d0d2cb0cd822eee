"""Portraits seen close, turned, cut by the border or without their face.

Scenes of many people teach what faces look like among other things. These teach what people have
besides a face, at the size it is seen in a portrait: ears, hair, hands, collars, half a face.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from ..render import lay_over, occlude
from ._clutter import Picture, make_clutter
from ._scenes import Face, Scene, degrade, divide_faces, mirror_landmarks

Generator = np.random.Generator

_FACELESS = 0.45  # share of the scenes
_OCCLUDED = 0.3  # share of the faces
_SPOILT = 0.6  # share of the scenes
_WIDTHS = (0.1, 1.4)  # of a face, in sides of the picture
_SHOWN, _GONE = 0.75, 0.25  # shares of a face in view: from where it must be found, may be ignored
_TILES = 3  # a side, of a face taken apart


def make_close_scene(
    rng: Generator, faces: Sequence[Face], patches: Sequence[Picture], size: int
) -> Scene:
    """Shows a piece of one photograph, with or without the face in it.

    Args:
        rng: decides everything.
        faces: photographs to choose from.
        patches: pieces of photographs without a face, to hide faces with.
        size: of the square picture, px.
    """
    face = faces[int(rng.integers(len(faces)))]
    bare = rng.random() < _FACELESS
    source = hide_face(rng, face, patches) if bare else face.image
    matrix = _view(rng, face, size, turned=bare)
    image = _warp(rng, source, matrix, patches, size)
    landmarks = face.landmarks @ matrix[:, :2].T + matrix[:, 2]
    if np.linalg.det(matrix[:, :2]) < 0:
        landmarks = mirror_landmarks(landmarks)
    seen = 0.0 if bare else _in_view(landmarks, size)
    if seen > _SHOWN and rng.random() < _OCCLUDED:
        image, _ = occlude(rng, image, landmarks)
    if rng.random() < _SPOILT:
        image = degrade(rng, image)
    kept = [landmarks] if seen > _GONE else []
    return divide_faces(image, kept, [seen > _SHOWN] * len(kept))


def hide_face(rng: Generator, face: Face, patches: Sequence[Picture]) -> Picture:
    """The photograph with something else where the face was, or only its features.

    Args:
        rng: decides what.
        face: photograph.
        patches: pieces of photographs without a face.
    """
    height, width = face.image.shape[:2]
    low, high = face.landmarks.min(0), face.landmarks.max(0)
    extent = high - low
    above, beside = (0.55, 0.15) if rng.random() < 0.6 else (0.1, -0.05)
    left, top = np.maximum(low - np.array([beside, above]) * extent, 0).astype(int)
    right, bottom = np.minimum(high + np.array([beside, 0.1]) * extent, (width, height)).astype(int)
    shape = (int(right - left), int(bottom - top))
    area = face.image[top:bottom, left:right]
    kind = rng.random()
    if kind < 0.4 and len(patches):
        cover = cv2.resize(patches[int(rng.integers(len(patches)))], shape)
    elif kind < 0.6:
        cover = cv2.GaussianBlur(area, (0, 0), float(rng.uniform(0.2, 0.5) * extent[0]))
    elif kind < 0.85:
        cover = _take_apart(rng, area)
    else:
        cover = make_clutter(rng, shape[1], shape[0], ())
    mask = np.zeros((height, width), np.uint8)
    if rng.random() < 0.5:
        mask[top:bottom, left:right] = 255
    else:
        center = (int(left + right) // 2, int(top + bottom) // 2)
        cv2.ellipse(mask, center, (shape[0] // 2, shape[1] // 2), 0, 0, 360, 255, -1)
    blur = 2 * int(rng.choice([0.0, 0.02, 0.06]) * extent[0]) + 1
    alpha = cv2.GaussianBlur(mask, (blur, blur), 0)[top:bottom, left:right]
    image = face.image.copy()
    image[top:bottom, left:right] = lay_over(cover, area, alpha)
    return image


def _take_apart(rng: Generator, area: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The regions of the face in other places, each turned at random."""
    high, wide = (max(side // _TILES, 1) for side in area.shape[:2])
    places = [(y * high, x * wide) for y in range(_TILES) for x in range(_TILES)]
    mixed = area.copy()
    for (y, x), number in zip(places, rng.permutation(len(places)), strict=True):
        v, u = places[int(number)]
        tile = np.rot90(area[v : v + high, u : u + wide], int(rng.integers(4)))
        mixed[y : y + high, x : x + wide] = cv2.resize(np.ascontiguousarray(tile), (wide, high))
    return mixed


def _view(rng: Generator, face: Face, size: int, *, turned: bool) -> Float32[np.ndarray, "2 3"]:
    """Affine map from the photograph to the scene.

    Args:
        rng: decides.
        face: photograph.
        size: of the scene, px.
        turned: any angle is as good as another.
    """
    low, high = face.landmarks.min(0), face.landmarks.max(0)
    reach = 180 if turned else 45
    roll = np.deg2rad(rng.uniform(-reach, reach) if rng.random() < 0.4 else rng.normal(0, 8))
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    width = size * np.exp(rng.uniform(*np.log(_WIDTHS)))
    linear = turn * (width / float((high - low)[0]))
    if rng.random() < 0.5:
        linear = linear @ np.diag([-1.0, 1.0])
    limits = np.array(face.image.shape[1::-1])
    middle = (low + high) / 2
    anchor = middle if rng.random() < 0.5 else rng.uniform((0, 0), limits)
    target = size * np.clip(rng.normal(0.5, 0.15, 2), 0, 1)
    offset = target - linear @ anchor
    return np.concatenate([linear, offset[:, None]], axis=1).astype(np.float32)


def _warp(
    rng: Generator, source: Picture, matrix: np.ndarray, patches: Sequence[Picture], size: int
) -> Picture:
    """The view of a photograph; what lies beside it is its border drawn out, or clutter."""
    ratio = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    matrix = matrix.copy()
    if ratio < 0.7:
        reduced = [max(round(side * ratio), 2) for side in source.shape[1::-1]]
        back = np.array(source.shape[1::-1]) / reduced
        source = cv2.resize(source, reduced, interpolation=cv2.INTER_AREA)
        matrix[:, 2] += matrix[:, :2] @ (0.5 * back - 0.5).astype(np.float32)
        matrix[:, :2] *= back.astype(np.float32)
    if rng.random() < 0.4:
        return cv2.warpAffine(source, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
    image = make_clutter(rng, size, size, patches)
    inside = np.full(source.shape[:2], 255, np.uint8)
    alpha = cv2.warpAffine(inside, matrix, (size, size))
    warped = cv2.warpAffine(source, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
    return lay_over(warped, image, alpha)


def _in_view(landmarks: np.ndarray, size: int) -> float:
    """Share of a face's box that lies in the picture."""
    low, high = landmarks.min(0), landmarks.max(0)
    shown = np.minimum(high, size) - np.maximum(low, 0)
    return float(np.prod(np.maximum(shown, 0)) / np.prod(high - low))


def photographs(faces: Sequence[Face]) -> tuple[Face, ...]:
    """Those of some faces that are whole photographs."""
    return tuple(face for face in faces if face.whole)
