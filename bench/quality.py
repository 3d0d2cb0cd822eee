"""What all sections of bench/model_quality.py share: a measure, and where it comes from."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from jaxface import Model
from jaxface.training.landmarks import OUTER_EYES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure of one model; without a bound it is only reported."""

    where: str
    what: str
    value: float
    bound: float | None = None
    at_least: bool = False

    @property
    def passed(self) -> bool | None:
        """Whether the bound is kept; None without one."""
        if self.bound is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    @property
    def sign(self) -> str:
        return "≥" if self.at_least else "≤"


@dataclasses.dataclass(frozen=True)
class Place:
    """Makes the measures of one set."""

    where: str

    def plain(self, what: str, value: float | np.floating) -> Measure:
        return Measure(where=self.where, what=what, value=float(value))

    def at_most(self, what: str, bound: float, value: float | np.floating) -> Measure:
        return Measure(where=self.where, what=what, value=float(value), bound=bound)

    def at_least(self, what: str, bound: float, value: float | np.floating) -> Measure:
        return dataclasses.replace(self.at_most(what, bound, value), at_least=True)


@dataclasses.dataclass(frozen=True)
class Context:
    """A model, and how it is to be measured."""

    name: str
    model: Model
    work: Path
    quick: bool
    overlays: Path | None


def eye_distance(landmarks: Float[np.ndarray, "n 68 2"]) -> Float[np.ndarray, " n"]:
    """Distance of the outer corners of the eyes."""
    first, second = OUTER_EYES
    return np.linalg.norm(landmarks[:, first] - landmarks[:, second], axis=-1)


def angles(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Degrees between directions (..., 3)."""
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    sine = np.linalg.norm(np.cross(found, wanted), axis=-1)
    return np.degrees(np.arctan2(sine, np.sum(found * wanted, axis=-1)))


def draw_points(
    image: UInt8[np.ndarray, "h w 3"],
    found: Float[np.ndarray, "n 2"],
    wanted: Float[np.ndarray, "k 2"],
    side: int = 480,
) -> UInt8[np.ndarray, "s s 3"]:
    """The face cut out of an RGB picture: what is wanted in blue, what was found in green."""
    low, high = wanted.min(0), wanted.max(0)
    half = 0.75 * float((high - low).max())
    scale = side / (2 * half)
    corner = (low + high) / 2 - half
    matrix = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]])
    tile = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR)
    for points, colour in ((wanted, (60, 120, 255)), (found, (60, 255, 60))):
        for x, y in scale * (points - corner):
            cv2.circle(tile, (round(float(x)), round(float(y))), 2, colour, -1)
    return tile


def save_sheet(path: Path, tiles: list[np.ndarray], columns: int = 6) -> None:
    """Writes tiles of one size as one PNG.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    blank = np.zeros_like(tiles[0])
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    width = max(len(row) for row in rows)
    sheet = np.vstack([np.hstack(row + [blank] * (width - len(row))) for row in rows])
    if not cv2.imwrite(str(path), sheet[..., ::-1]):
        raise OSError(f"{path}: cannot be written")
