"""Makes README's picture: frames of bench/data/talking_head.mp4 with what jaxface found in them.

Usage: python bench/overlay_strip.py [--out FILE]

`jaxface analyze --overlay` draws the frames; this only cuts them out and puts them side by side.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from jaxface.cli import main as jaxface
from jaxface.io import read_image

DATA = Path(__file__).resolve().parent / "data"
CLIP, STRIP = DATA / "talking_head.mp4", DATA / "overlay.png"
FRAMES = (21, 62, 141, 200)  # from 1, as in the CSV
ROWS, COLUMNS = slice(56, 476), slice(120, 520)  # of the clip that a panel shows, px
SIZE = 300, 315  # width and height of a panel, px
_STEP = 4  # levels of a channel that become one


def main(argv: list[str] | None = None) -> int:
    """Writes the strip. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Makes the picture of README.")
    parser.add_argument("--out", type=Path, default=STRIP, help="default: %(default)s")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        chosen = ",".join(map(str, FRAMES))
        status = jaxface(["analyze", str(CLIP), "--out", folder, "--overlay", chosen])
        if status:
            return status
        names = [f"{CLIP.stem}_overlay_{frame:06d}.png" for frame in FRAMES]
        panels = [read_image(Path(folder) / name)[ROWS, COLUMNS] for name in names]
    panels = [cv2.resize(panel, SIZE, interpolation=cv2.INTER_AREA) for panel in panels]
    write_small(arguments.out, np.concatenate(panels, axis=1))
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1000:.0f} kB")
    return 0


def write_small(path: Path, image: np.ndarray) -> None:
    """Writes a PNG of RGB in half the bytes: the noise of the clip's coding is rounded away."""
    rounded = image // _STEP * _STEP + _STEP // 2
    fewest = [cv2.IMWRITE_PNG_COMPRESSION, 9]
    if not cv2.imwrite(str(path), cv2.cvtColor(rounded, cv2.COLOR_RGB2BGR), fewest):
        raise OSError(f"{path}: cannot be written")


if __name__ == "__main__":
    sys.exit(main())
