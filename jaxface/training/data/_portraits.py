"""Portrait photographs with their face meshes, and the split of people that never changes.

Who is held out follows from a person's number alone, so that no run, machine or order of files
can move a person from one set to another.
"""

import dataclasses
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

_PERIOD = 20
_TEST = (4, 10, 17)  # remainders: 15 % held out
_VALIDATION = (8,)  # 5 %, for choosing settings and stopping
SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Portraits:
    """One photograph and one 478-point mesh of each person."""

    folder: Path
    names: tuple[str, ...]
    mesh: np.ndarray  # (person, 478, 3) float32: x, y px; z px, smaller is nearer
    mesh_to_68: np.ndarray  # (68,) mesh point of each landmark

    def __len__(self) -> int:
        return len(self.names)

    def image(self, person: int) -> np.ndarray:
        """Reads one photograph.

        Returns:
            RGB, (h, w, 3) uint8.

        Raises:
            FileNotFoundError: the file is missing or no image.
        """
        path = self.folder / "images" / self.names[person]
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise FileNotFoundError(f"{path}: missing, or no image that OpenCV reads")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    @cached_property
    def split(self) -> dict[str, np.ndarray]:
        """Numbers of the people of each of `SPLITS`, ascending."""
        chosen = np.array([split_of(person) for person in range(len(self))])
        return {name: np.flatnonzero(chosen == name) for name in SPLITS}


def split_of(person: int) -> str:
    """Part of the data that a person belongs to, one of `SPLITS`.

    Of each 20 consecutive people, numbers 4, 10 and 17 (from 0) are held out and 8 is for
    validation.
    """
    place = person % _PERIOD
    if place in _TEST:
        return "test"
    return "validation" if place in _VALIDATION else "train"


def load_portraits(data: Path | str) -> Portraits:
    """Reads the labels; photographs are read one at a time.

    Args:
        data: folder that holds `portraits/`.

    Raises:
        FileNotFoundError: there are no labels.
    """
    folder = Path(data) / "portraits"
    path = folder / "labels.npz"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: --data names the folder of portraits/")
    with np.load(path) as labels:
        return Portraits(
            folder=folder,
            names=tuple(str(name) for name in labels["names"]),
            mesh=labels["mesh478"].astype(np.float32),
            mesh_to_68=labels["mesh_to_68"].astype(np.int64),
        )
