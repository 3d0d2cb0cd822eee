"""One face in frames that come one by one, with action units that are ready at once."""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from ...io import Chunk
from ...models import Model
from ...output import Table, UnitNames
from ...pipeline import Config, default_config
from ...track import Tracked
from ...types import Camera
from .._chunks import UploadedChunk
from .._clip import open_clip, upload_chunks
from .._follow import track_in_turn
from .._programs import Extras, first_person, first_track_state, measure_chunk
from .._tables import HostFace, to_batch

_COUNTS = np.dtype(np.int32)  # room for 2^31 frames: wider bins in the middle would compile anew
_ONE = np.ones(1, bool)


class LiveAnalysis:
    """Follows one face through frames, as OpenFace does for a webcam: see `Config.online`.

    A frame goes through the two programs that clips go through, as a chunk of one.
    """

    def __init__(self, model: Model, *, camera: Camera | None = None, config: Config | None = None):
        """Knows nothing of the person yet.

        Args:
            model: see `load_model`.
            camera: intrinsics, px; by default OpenFace's guess from the frame size.
            config: settings; by default the model's own. Action units are always online.
        """
        config = default_config(model) if config is None else config
        online = dataclasses.replace(config, online=True)
        self._clip = open_clip(model, (), camera=camera, config=online)
        self._person = first_person(self._clip.model, _COUNTS)
        self._chunk: Chunk | None = None  # the next
        self._getting_ready: threading.Thread | None = None
        self._tracked = track_in_turn(self._clip.model, online, self._uploaded())

    @property
    def units(self) -> UnitNames:
        """Action units of the rows, in the order of their columns."""
        return self._clip.units

    def __call__(self, pixels: UInt8[np.ndarray, "h w 3"], number: int, time: float) -> Table:
        """Finds the face in the next frame.

        Args:
            pixels: RGB, 0 to 255.
            number: of the frame, from 1.
            time: s since the first frame.
        Returns:
            One row, with action units corrected by what came before.
        """
        self._chunk = Chunk(pixels[None], _ONE, np.array([number - 1]))
        found = next(self._tracked)
        if self._getting_ready is not None:
            self._getting_ready.join()
            self._getting_ready = None
        self._person, faces = measure_chunk(
            *(self._clip.model, self._person, found.frames, _ONE, found.tracked, found.camera),
            *(self._clip.config, Extras()),
        )
        measured: HostFace = jax.tree.map(np.asarray, faces)
        place = np.array([number]), np.zeros(1, np.int64), np.array([time])
        return to_batch(measured, *place).table

    def _coming(self) -> Iterator[Chunk]:
        while self._chunk is not None:
            chunk, self._chunk = self._chunk, None
            yield chunk

    def _uploaded(self) -> Iterator[UploadedChunk]:
        """Frames on the device. The program that measures compiles beside the one that tracks."""
        for number, chunk in enumerate(upload_chunks(self._clip, self._coming())):
            if not number:
                work = threading.Thread(target=self._measure_nothing, args=(chunk,), daemon=True)
                self._getting_ready = work
                work.start()
            yield chunk

    def _measure_nothing(self, chunk: UploadedChunk) -> None:
        """Loads or compiles what measures a face, as if none had been tracked."""
        model = self._clip.model
        fit = first_track_state(model).fit
        missing = Tracked(fit=fit, success=fit.success, detected=fit.success)
        tracked: Any = jax.tree.map(lambda leaf: np.zeros((1, *leaf.shape), leaf.dtype), missing)
        person = first_person(model, _COUNTS)
        with contextlib.suppress(Exception):  # what fails here fails again where it counts
            measure_chunk(
                *(model, person, chunk.frames, ~_ONE, tracked, chunk.camera),
                *(self._clip.config, Extras()),
            )
