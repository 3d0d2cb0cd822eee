"""Everything that training starts from, on disk, with sheets to look at."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from ..data import Tools, eyelid_paths, register_all
from ._complexion import find_regions
from ._contact_sheet import contact_sheet, draw_scene
from ._crowd import sample_scene
from ._sampler import Sampler, sample_head, sample_negative, sample_portrait

REGISTRATION = "registration"  # folder of the registrations


def write_data(
    tools: Tools,
    out: Path | str,
    *,
    people: Sequence[int],
    seed: int = 0,
    samples: int = 40,
    scenes: int = 12,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Path]:
    """Registers portraits, unless an earlier run has, and draws sheets of samples.

    Args:
        out: folder; created if need be.
        people: numbers of those to register; at least one of them in the training set.
        samples: on each sheet but that of the scenes.
        scenes: on theirs.
        progress: called with 1 for each person done.

    Returns:
        The sheets: portraits, heads, negatives and scenes.

    Raises:
        ValueError: none of the people is in the training set.
    """
    folder = Path(out)
    registered = register_all(tools, folder / REGISTRATION, people=people, progress=progress)
    lids = eyelid_paths(tools.head)
    sampler = Sampler(tools, registered, find_regions(tools.head, lids), lids)
    if not len(sampler.of_split("train")):
        raise ValueError("people: expected at least one of the training set, got none")
    rng = np.random.default_rng(seed)
    sheets = {
        "portraits": contact_sheet([sample_portrait(sampler, rng) for _ in range(samples)]),
        "heads": contact_sheet([sample_head(sampler, rng) for _ in range(samples)]),
        "negatives": contact_sheet([sample_negative(sampler, rng) for _ in range(samples)]),
        "scenes": contact_sheet(
            [draw_scene(sample_scene(sampler, rng)) for _ in range(scenes)], columns=3, cell=480
        ),
    }
    written = []
    for name, sheet in sheets.items():
        path = folder / f"{name}.png"
        if not cv2.imwrite(str(path), sheet[..., ::-1]):
            raise OSError(f"{path}: cannot be written")
        written.append(path)
    return written
