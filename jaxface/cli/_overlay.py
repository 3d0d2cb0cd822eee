"""Pictures of what was found in an image, or in chosen frames of a clip."""

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ..output import Table, draw_face, draw_note, write_picture
from ..types import Camera

_Picture = UInt8[np.ndarray, "h w 3"]  # RGB
SPREAD = 8  # pictures of a clip whose frames were not chosen


def spread_frames(count: int) -> list[int]:
    """Numbers, from 1, of up to eight frames in the middles of equal sections of a clip.

    Args:
        count: frames of the clip.
    """
    sections = min(count, SPREAD)
    return [1 + (2 * i + 1) * count // (2 * sections) for i in range(sections)]


class Overlays:
    """Keeps the frames that are to be drawn until their rows are known, then writes them.

    A clip's rows come some frames after its frames, and one thread takes frames while another
    writes rows: no more pictures than are chosen of the frames between wait here.
    """

    def __init__(
        self,
        base: Path,
        chosen: Iterable[int] | None,
        camera: Camera,
        *,
        still: str = "_overlay.png",
    ):
        """Prepares the pictures of one input; nothing is written before the first is complete.

        Args:
            base: path of the pictures without `_overlay` and the frame's number.
            chosen: numbers of the frames, from 1; None for a still image.
            camera: intrinsics, px, that the input is analysed with.
            still: what follows `base` in the name of a still image's picture.
        """
        self.missing: set[int] = {1} if chosen is None else set(chosen)
        self.paths: list[Path] = []
        self._base, self._camera = base, camera
        self._still = still if chosen is None else None
        self._waiting: deque[tuple[int, _Picture]] = deque()
        self._drawn: _Picture | None = None  # the first of those that wait, once it has a face

    def watch(self, frames: Iterable[_Picture]) -> Iterator[_Picture]:
        """Passes frames on and keeps those that were chosen."""
        for number, frame in enumerate(frames, 1):
            if number in self.missing:
                self.missing.discard(number)
                self._waiting.append((number, frame))
            yield frame

    def add(self, row: Table) -> None:
        """Draws a row if its frame was chosen. Rows come in the order of their frames.

        Raises:
            OutputError: a picture that is complete cannot be written.
        """
        frame = int(row.frame[0])
        while self._waiting and self._waiting[0][0] < frame:
            self._write()
        if self._waiting and self._waiting[0][0] == frame:
            before = self._waiting[0][1] if self._drawn is None else self._drawn
            self._drawn = draw_face(before, row, self._camera)

    def finish(self) -> None:
        """Writes the pictures that wait, once there is no more row. Raises `OutputError`."""
        while self._waiting:
            self._write()

    def _write(self) -> None:
        number, frame = self._waiting.popleft()
        picture = draw_note(frame, "no face") if self._drawn is None else self._drawn
        self._drawn = None
        end = f"_overlay_{number:06d}.png" if self._still is None else self._still
        path = self._base.with_name(f"{self._base.name}{end}")
        self.paths.append(write_picture(path, picture))
