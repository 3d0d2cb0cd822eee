"""Heads of the morphable model, drawn with procedural colours and light.

They show what portraits do not: profiles, and expressions and gaze whose weights are exact.
"""

import numpy as np

from ..data import EYES, IRIS_RADIUS, PIECES, HeadModel, View, eyeball, iris_points, normals
from ._complexion import Complexion
from ._portrait import blend
from ._raster import Fragments, rasterize

_SHINE = 14  # exponent of the highlights
_EYE_SHINE = 60
_INTERIOR = ("mouth_socket", "gums", "teeth")
_OPEN_GAP = 1.5  # mm between the lips from which the inside of the mouth is drawn


def gaze_direction(pitch: float, yaw: float) -> np.ndarray:
    """Unit vector (3,) in the head frame; positive looks down and to the right of the picture."""
    return np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), -np.cos(yaw) * np.cos(pitch)])


def draw_head(
    head: HeadModel,
    vertices: np.ndarray,
    complexion: Complexion,
    view: View,
    background: np.ndarray,
    *,
    gaze: np.ndarray,
    light: np.ndarray,
) -> tuple[np.ndarray, Fragments]:
    """Draws a head over a background.

    Args:
        vertices: (n, 3) mm, without hair.
        gaze: (2, 3) unit vectors of the left and the right eye, head frame.
        light: (k, 7) sources: a unit vector towards each in camera axes, RGB strength, and the
            share of it that reaches all surfaces alike.

    Returns:
        The picture (h, w, 3) uint8 and the surface that each pixel shows.
    """
    height, width = background.shape[:2]
    triangles = _visible_parts(head, vertices)
    direction = normals(vertices, triangles)
    shell = vertices + complexion.hair_depth[:, None] * direction
    turned = direction @ view.rotation.T.astype(np.float32)
    fragments = rasterize(view.project(shell), triangles, height, width)
    colour, glow = _shade(complexion, turned, light)
    colour = fragments.interpolate(np.concatenate([colour, glow], axis=1), triangles)
    pixels = colour[:, :3] + colour[:, 3:]
    for eye, looks in zip(EYES, gaze, strict=True):
        _draw_eye(head, vertices, complexion, view, fragments, triangles, pixels, eye, looks, light)
    return blend(background, np.clip(pixels, 0, 255).astype(np.uint8), fragments.pixel), fragments


def _visible_parts(head: HeadModel, vertices: np.ndarray) -> np.ndarray:
    lips = vertices[head.landmarks[[62, 66]]]
    hidden = () if np.linalg.norm(lips[0] - lips[1]) > _OPEN_GAP else _INTERIOR
    hidden_pieces = [list(PIECES).index(name) for name in hidden]
    return head.triangles[~np.isin(head.triangle_piece, hidden_pieces)]


def _shade(
    complexion: Complexion, turned: np.ndarray, light: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse colours and highlights (n, 3) of all vertices."""
    diffuse = np.zeros_like(complexion.albedo)
    glow = np.zeros_like(complexion.albedo)
    for source in light.astype(np.float32):
        facing = turned @ source[:3]
        diffuse += source[3:6] * (source[6] + (1 - source[6]) * np.maximum(facing, 0)[:, None])
        half = source[:3] + np.array([0, 0, -1], np.float32)
        half /= max(float(np.linalg.norm(half)), 1e-6)
        shine = np.maximum(turned @ half, 0) ** _SHINE
        glow += 255 * complexion.gloss * source[3:6] * shine[:, None] * (1 - source[6])
    glow[complexion.hair_depth > 0.5] *= 0.3
    return complexion.albedo * diffuse, glow


def _draw_eye(
    head: HeadModel,
    vertices: np.ndarray,
    complexion: Complexion,
    view: View,
    fragments: Fragments,
    triangles: np.ndarray,
    pixels: np.ndarray,
    eye: str,
    looks: np.ndarray,
    light: np.ndarray,
) -> None:
    """Colours the pixels of one eyeball from the angle to the direction of gaze."""
    start, end = PIECES[eye]
    first = triangles[fragments.triangle, 0]
    rows = np.flatnonzero((first >= start) & (first < end))
    if not len(rows):
        return
    centre, radius = eyeball(vertices, eye)
    points = fragments.interpolate(vertices, triangles, rows) - centre
    outward = points / np.linalg.norm(points, axis=1, keepdims=True)
    across = radius * np.sqrt(np.maximum(1 - (outward @ looks) ** 2, 0))
    across = np.where(outward @ looks > 0, across, radius)[:, None]
    pixel = 0.6 / view.scale  # half the width of the edges, mm
    iris = np.clip(0.5 - (across - IRIS_RADIUS) / (2 * max(pixel, 0.3)), 0, 1)
    pupil = np.clip(0.5 - (across - complexion.pupil) / (2 * max(pixel, 0.2)), 0, 1)
    rim = 1 - 0.5 * np.exp(-0.5 * ((across - IRIS_RADIUS) / 0.7) ** 2)
    colour = complexion.sclera + iris * (complexion.iris * rim - complexion.sclera)
    colour = colour * (1 - pupil) + 12 * pupil
    turned = outward @ view.rotation.T
    total = np.zeros_like(colour)
    for source in light:
        facing = np.maximum(turned @ source[:3], 0)[:, None]
        total += source[3:6] * (source[6] + (1 - source[6]) * (0.4 + 0.6 * facing))
        half = source[:3] + np.array([0, 0, -1])
        half /= max(float(np.linalg.norm(half)), 1e-6)
        shine = np.maximum(turned @ half, 0)[:, None] ** _EYE_SHINE
        total += 0.8 * shine * source[3:6] * (1 - source[6])
    # The lids' shadow: the eyeball is darkest where it dives under the upper lid.
    shadow = np.clip(1 - 0.45 * np.maximum(-outward[:, 1:2] - 0.1, 0) / 0.4, 0.5, 1)
    pixels[rows] = colour * total * shadow


def irises_of(vertices: np.ndarray, gaze: np.ndarray) -> np.ndarray:
    """Iris points (2, 9, 3), mm, head frame, of eyes that look along (2, 3)."""
    found = []
    for eye, looks in zip(EYES, gaze, strict=True):
        centre, radius = eyeball(vertices, eye)
        found.append(iris_points(centre, radius, looks))
    return np.stack(found)
