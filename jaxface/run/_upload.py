"""Frames on their way to the device."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int

from ..io import Chunk, clip_length, lay_in, pad_to_canvas
from ..models import Model
from ..pipeline import Config
from ..types import FlatFrames
from ._chunks import DeviceFrames


def upload(model: Model, config: Config, chunk: Chunk) -> tuple[DeviceFrames, Int[Array, "2"], Any]:
    """The frames on the device, their size, and the detector's plan for it.

    They are flat, so that clips of all sizes share few programs; where they are too large or the
    detector has no plan, they lie on a canvas.
    """
    height, width = chunk.frames.shape[1:3]
    length, detector = clip_length(height, width), model.detector
    settings = detector.config if config.detect is None else config.detect
    plan = None if length is None else detector.plan(height, width, length, settings)
    if length is None or plan is None:
        canvas, size = pad_to_canvas(chunk.frames)
        return jax.device_put(canvas), jax.device_put(np.asarray(size, np.int32)), None
    placed = lay_in(chunk.frames, length), np.array([height, width], np.int32), np.int32(width)
    frames = FlatFrames(*jax.device_put(placed))
    return frames, frames.size, plan
