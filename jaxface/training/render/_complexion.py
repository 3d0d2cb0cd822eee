"""Procedural colours of a rendered head: skin, lips, brows, hair, beard, mouth and eyes."""

import dataclasses

import cv2
import numpy as np

from ..data import PIECES, HeadModel

# Two ends of the range of skin, and colours of hair and of irises, RGB.
_SKIN = np.array([[248, 215, 190], [225, 175, 140], [180, 125, 92], [125, 80, 56], [70, 44, 32]])
_HAIR = np.array([[25, 20, 18], [60, 40, 26], [110, 75, 42], [190, 155, 100], [170, 165, 160]])
_IRIS = np.array([[60, 38, 22], [95, 65, 35], [90, 110, 125], [95, 115, 80], [30, 22, 16]])
# Ears of the mean head, mm: beyond this far from its middle plane, between these heights.
_EAR_X, _EAR_Y = 76, (-60, 25)
_CHEEKS = np.array([[-28, -5, 15], [28, -5, 15]])  # mm from the wings of the nose
_OUTER_LIPS, _INNER_LIPS = tuple(range(48, 60)), tuple(range(60, 68))


@dataclasses.dataclass(frozen=True)
class Regions:
    """Where on the neutral mean head what grows; weights 0 to 1 of all vertices (n,)."""

    lips: np.ndarray
    brow_distance: np.ndarray  # mm from the middle of the nearer brow
    brow_along: np.ndarray  # 0 at the inner end, 1 at the outer
    scalp: np.ndarray
    beard: np.ndarray
    lid_distance: np.ndarray  # mm from the rim of the lids
    cheeks: np.ndarray


@dataclasses.dataclass(frozen=True)
class Complexion:
    """Colours of one rendered head, before light."""

    albedo: np.ndarray  # (n, 3) RGB, 0 to 255
    hair_depth: np.ndarray  # (n,) mm that hair stands off the head
    iris: np.ndarray  # (3,) RGB
    sclera: np.ndarray  # (3,) RGB
    pupil: float  # radius, mm
    gloss: float  # strength of the highlights of skin


def find_regions(head: HeadModel, lids: np.ndarray) -> Regions:
    """Finds the regions of the head, once.

    Args:
        lids: (2, 12) vertices of the lids.
    """
    mean, marks = head.mean, head.mean[head.landmarks]
    outer = _inside(mean, marks[list(_OUTER_LIPS)], 1.2)
    inner = _inside(mean, marks[list(_INNER_LIPS)], 0.4)
    front = mean[:, 2] < marks[48:60, 2].max() + 4
    lips = np.where(front, np.clip(outer, 0, 1), 0) * (1 - 0.3 * inner)
    distances, along = zip(*(_along(mean, marks[s]) for s in (slice(17, 22), slice(26, 21, -1))))
    nearer = np.argmin(np.stack(distances), axis=0)[None]
    lid_points = mean[lids.ravel()]
    lid_distance = np.sqrt(((mean[:, None] - lid_points) ** 2).sum(-1).min(axis=1))
    skin = np.zeros(len(mean), bool)
    skin[: PIECES["head"][1]] = True
    return Regions(
        lips=np.where(skin, lips, 0),
        brow_distance=np.where(skin, np.take_along_axis(np.stack(distances), nearer, 0)[0], 1e3),
        brow_along=np.take_along_axis(np.stack(along), nearer, 0)[0],
        scalp=np.where(skin, _scalp(mean, marks), 0),
        beard=np.where(skin, _beard(mean, marks), 0),
        lid_distance=np.where(skin, lid_distance, 1e3),
        cheeks=np.exp(-0.5 * (_nearest(mean, marks[[31, 35]] + _CHEEKS) / 18) ** 2),
    )


def _inside(points: np.ndarray, ring: np.ndarray, soft: float) -> np.ndarray:
    """1 within a ring of landmarks as seen from the front, 0 outside, with a rim of `soft` mm."""
    scale = 8.0
    low = ring[:, :2].min(0) - 10
    size = np.ceil((np.ptp(ring[:, :2], axis=0) + 20) * scale).astype(int)
    canvas = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillPoly(canvas, [np.rint((ring[:, :2] - low) * scale).astype(np.int32)], 255)
    canvas = cv2.GaussianBlur(canvas, (0, 0), soft * scale / 2)
    place = np.rint((points[:, :2] - low) * scale).astype(int)
    within = ((place >= 0) & (place < size)).all(1)
    place = np.clip(place, 0, size - 1)
    return np.where(within, canvas[place[:, 1], place[:, 0]] / 255, 0)


def _along(points: np.ndarray, line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance from a line of landmarks (from its outer end), and the place along it."""
    share = np.linspace(0, 1, 60)
    knots = np.linspace(0, 1, len(line))
    fine = np.stack([np.interp(share, knots, column) for column in line.T], axis=1)
    squared = (points**2).sum(1)[:, None] + (fine**2).sum(1) - 2 * points @ fine.T
    nearest = squared.argmin(axis=1)
    distance = np.sqrt(np.maximum(squared[np.arange(len(points)), nearest], 0))
    return distance, 1 - share[nearest]


def _nearest(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.sqrt(((points[:, None] - targets) ** 2).sum(-1).min(axis=1))


def _scalp(mean: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Above a line that falls from the forehead to behind the ears."""
    forehead = marks[19, 1] - 48
    back = mean[:, 2] - marks[0, 2]
    line = np.where(back < 5, forehead + 0.25 * (back + 70), marks[30, 1] + 0.5 * back)
    line = np.where((back >= 5) & (back < 30), marks[36, 1] - 25, line)
    ears = (np.abs(mean[:, 0]) > _EAR_X) & (mean[:, 1] > _EAR_Y[0]) & (mean[:, 1] < _EAR_Y[1])
    return np.where(ears, 0, 1 / (1 + np.exp(np.clip((mean[:, 1] - line) / 2.5, -30, 30))))


def _beard(mean: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Jaw, chin, and between nose and mouth."""
    below = 1 / (1 + np.exp(-np.clip((mean[:, 1] - marks[33, 1] - 8) / 3, -30, 30)))
    neck = 1 / (1 + np.exp(np.clip((mean[:, 1] - marks[8, 1] - 12) / 4, -30, 30)))
    cheek = np.clip((mean[:, 1] - marks[33, 1]) / 30 + np.abs(mean[:, 0]) / 90 - 0.35, 0, 1)
    middle = np.exp(-0.5 * (mean[:, 0] / 26) ** 2)
    front = mean[:, 2] < marks[1, 2] + 8
    return below * neck * np.maximum(middle, np.minimum(cheek * 2, 1)) * front


def random_complexion(rng: np.random.Generator, head: HeadModel, regions: Regions) -> Complexion:
    """Draws the colours of one head."""
    tone = rng.random() * (len(_SKIN) - 1)
    skin = _mix(_SKIN, tone) * rng.uniform(0.88, 1.06) * rng.uniform(0.97, 1.03, 3)
    hair = _mix(_HAIR, rng.random() * (len(_HAIR) - 1)) * rng.uniform(0.8, 1.1)
    noise = _noise(rng, head.mean)
    albedo = skin * (1 + rng.uniform(0.01, 0.04) * noise[:, :1])
    flush = np.array([1.06, 0.88, 0.86])
    albedo *= 1 - rng.uniform(0, 0.8) * regions.cheeks[:, None] * (1 - flush)
    lip_colour = skin * rng.uniform([0.75, 0.45, 0.45], [1.0, 0.75, 0.75])
    if rng.random() < 0.15:
        lip_colour = rng.uniform([130, 10, 20], [210, 70, 90])
    albedo = _over(albedo, lip_colour, regions.lips * rng.uniform(0.5, 1))
    _grow_brows(rng, albedo, regions, hair, skin, noise)
    rim = np.exp(-0.5 * (regions.lid_distance / rng.uniform(0.8, 1.8)) ** 2)
    albedo[:] = _over(albedo, 0.35 * skin, rim * rng.uniform(0.3, 0.9))
    depth = np.zeros(len(albedo))
    if rng.random() < 0.85:
        albedo[:] = _over(albedo, hair * (1 + 0.35 * noise[:, 1:2]), regions.scalp)
        depth = regions.scalp * rng.uniform(2, 22) * (1 + 0.2 * noise[:, 2])
    if rng.random() < 0.35:
        strength = rng.choice([0.25, 0.5, 0.9]) * np.clip(1 + 0.5 * noise[:, 1], 0, 1)
        albedo[:] = _over(albedo, hair, regions.beard * strength * (1 - regions.lips))
    _colour_mouth(rng, head, albedo)
    return Complexion(
        albedo=np.clip(albedo, 0, 255).astype(np.float32),
        hair_depth=np.maximum(depth, 0).astype(np.float32),
        iris=_mix(_IRIS, rng.random() * (len(_IRIS) - 1)).astype(np.float32),
        sclera=rng.uniform([205, 200, 195], [245, 240, 238]).astype(np.float32),
        pupil=float(rng.uniform(1.3, 2.8)),
        gloss=float(rng.uniform(0, 0.35)),
    )


def _mix(palette: np.ndarray, place: float) -> np.ndarray:
    """Colour at a real-valued place of a palette."""
    low = min(int(place), len(palette) - 2)
    return palette[low] + (place - low) * (palette[low + 1] - palette[low])


def _over(below: np.ndarray, colour: np.ndarray, cover: np.ndarray) -> np.ndarray:
    return below + cover[:, None] * (colour - below)


def _noise(rng: np.random.Generator, points: np.ndarray) -> np.ndarray:
    """Smooth random fields (n, 3) of unit spread: a sum of waves of 5 to 60 mm."""
    waves = 48
    length = rng.uniform(5, 60, waves)
    direction = rng.normal(size=(waves, 3))
    direction *= (2 * np.pi / length / np.linalg.norm(direction, axis=1))[:, None]
    phase = rng.uniform(0, 2 * np.pi, waves)
    values = np.sin(points @ direction.T.astype(np.float32) + phase.astype(np.float32))
    return values @ rng.normal(size=(waves, 3)).astype(np.float32) * np.sqrt(2 / waves)


def _grow_brows(
    rng: np.random.Generator,
    albedo: np.ndarray,
    regions: Regions,
    hair: np.ndarray,
    skin: np.ndarray,
    noise: np.ndarray,
) -> None:
    width = rng.uniform(1.5, 4.5) * (1 - 0.5 * regions.brow_along)
    cover = np.clip(1.6 - regions.brow_distance / width, 0, 1) * rng.uniform(0.3, 1)
    colour = np.minimum(hair * rng.uniform(0.5, 1), skin * 0.75)
    albedo[:] = _over(albedo, colour, cover * np.clip(1 + 0.25 * noise[:, 1], 0, 1))


def _colour_mouth(rng: np.random.Generator, head: HeadModel, albedo: np.ndarray) -> None:
    """Teeth, gums and the dark behind them."""
    front = head.mean[: PIECES["face"][1], 2].min() + 15
    light = np.clip(1 - (head.mean[:, 2] - front) / 50, 0.15, 1)[:, None]
    colours = {
        "teeth": rng.uniform([190, 180, 155], [240, 236, 225]),
        "gums": rng.uniform([120, 55, 55], [190, 100, 100]),
        "mouth_socket": rng.uniform([70, 25, 25], [130, 60, 60]),
    }
    for name, colour in colours.items():
        start, end = PIECES[name]
        albedo[start:end] = colour * light[start:end]
