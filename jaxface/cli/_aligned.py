"""Which aligned faces are written, where they are not those that action units come from."""

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Bool, UInt8

from ..analyze import AlignConfig
from ..models import Model
from ..run import FaceBatch, draw_aligned

_Picture = UInt8[np.ndarray, "h w 3"]  # RGB


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignedFiles:
    """How aligned faces are written."""

    config: AlignConfig | None = None  # None: the very picture that action units come from
    gray: bool = False  # those of faces that were found
    failed: bool = True  # also of frames whose landmarks failed


class Redrawing:
    """Aligns faces once more as they come: keeps each frame until its rows are known."""

    def __init__(self, model: Model, config: AlignConfig):
        """Prepares for one input.

        Args:
            model: that the faces were fitted with.
            config: of the pictures.
        """
        self._model, self._config = model, config
        self._frames: deque[_Picture] = deque()
        self._first = 1  # number of the first that is kept

    def watch(self, frames: Iterable[_Picture]) -> Iterator[_Picture]:
        """Passes frames on and keeps them."""
        for frame in frames:
            self._frames.append(frame)
            yield frame

    def draw(self, batch: FaceBatch, drawn: Bool[np.ndarray, " n"], frames: int) -> FaceBatch:
        """A batch with new pictures.

        Args:
            batch: rows of the next frames, without pictures.
            drawn: which of its faces are shown; the others are black.
            frames: how many it covers. They are let go.
        """
        faces = np.zeros((len(batch.table), self._config.size, self._config.size, 3), np.uint8)
        for i in np.flatnonzero(drawn):
            image = self._frames[int(batch.table.frame[i]) - self._first]
            landmarks, scale = batch.table.landmarks[i], float(batch.table.scale[i])
            faces[i] = draw_aligned(self._model, image, landmarks, scale, self._config)
        for _ in range(frames):
            self._frames.popleft()
        self._first += frames
        return batch._replace(aligned=faces)
