"""One face in frames that come one by one, with action units that are ready at once."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from jaxtyping import UInt8

from ...io import as_camera, check_camera, pad_to_canvas
from ...models import Model
from ...output import Table, UnitNames
from ...pipeline import Config, default_config, prepare_model
from ...track import Tracked
from ...types import Camera
from .._programs import (
    Extras,
    first_person,
    first_track_state,
    measure_chunk,
    track_chunk,
)
from .._tables import HostFace, to_batch, to_camera, unit_names

_COUNTS = np.dtype(np.int32)  # room for 2^31 frames: wider bins in the middle would compile anew


class LiveAnalysis:
    """Follows one face through frames, as OpenFace does for a webcam: see `Config.online`.

    A frame is one call of two programs, those that clips are analysed with, for chunks of one.
    """

    def __init__(self, model: Model, *, camera: Camera | None = None, config: Config | None = None):
        """Knows nothing of the person yet.

        Args:
            model: see `load_model`.
            camera: intrinsics, px; by default OpenFace's guess from the frame size.
            config: settings; by default the model's own. Action units are always online.
        """
        config = default_config(model) if config is None else config
        self._config = dataclasses.replace(config, online=True)
        self._model = prepare_model(model, self._config)
        self._camera = check_camera(camera)
        self._state = first_track_state(self._model)
        self._person = first_person(self._model, _COUNTS)
        self._compiled = False

    @property
    def units(self) -> UnitNames:
        """Action units of the rows, in the order of their columns."""
        return unit_names(self._model, self._config)

    def __call__(self, pixels: UInt8[np.ndarray, "h w 3"], number: int, time: float) -> Table:
        """Finds the face in the next frame.

        Args:
            pixels: RGB, 0 to 255.
            number: of the frame, from 1.
            time: s since the first frame.
        Returns:
            One row, with action units corrected by what came before.
        """
        height, width = pixels.shape[:2]
        canvas, size = pad_to_canvas(pixels[None])
        frames, sides = jax.device_put((canvas, np.asarray(size, np.int32)))
        lens = to_camera(as_camera(self._camera, height=height, width=width))
        valid = np.ones(1, bool)
        with ThreadPoolExecutor(1) as thread:  # the second program compiles beside the first
            if not self._compiled:
                thread.submit(self._measure_nothing, frames, lens)  # what fails fails below, too
            self._state, tracked = track_chunk(
                *(self._model, self._state, frames, valid, sides, self._config)
            )
        self._compiled = True
        self._person, faces = measure_chunk(
            *(self._model, self._person, frames, valid, tracked, lens, self._config, Extras())
        )
        found: HostFace = jax.tree.map(np.asarray, faces)
        return to_batch(found, np.array([number]), np.zeros(1, np.int64), np.array([time])).table

    def _measure_nothing(self, frames: jax.Array, lens: Camera) -> None:
        """Loads or compiles what measures a face, as if none had been tracked."""
        fit = self._state.fit
        missing = Tracked(fit=fit, success=fit.success, detected=fit.success)
        tracked = jax.tree.map(lambda leaf: np.zeros((1, *leaf.shape), leaf.dtype), missing)
        person = first_person(self._model, _COUNTS)
        measure_chunk(
            *(self._model, person, frames, np.zeros(1, bool), tracked, lens),
            *(self._config, Extras()),
        )
