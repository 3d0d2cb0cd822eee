"""What all sections of bench/model_quality.py share: the model that is measured, and pictures."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from jaxface import Model
from jaxface.reference.comparison.figures import Subject


@dataclasses.dataclass(frozen=True)
class Context:
    """A model, and how it is to be measured."""

    name: str
    model: Model
    work: Path
    quick: bool
    overlays: Path | None
    section: str = ""

    def subject(self, clip: str) -> Subject:
        """What this section's figures of a clip, or of another set, are about."""
        return Subject(self.section, self.name, clip)


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
