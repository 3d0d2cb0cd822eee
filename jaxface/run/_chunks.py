"""Pieces of a clip on their way through the chain of generators."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Int, UInt8

from ..types import Camera, FlatFrames

DeviceFrames = UInt8[Array, "c h w 3"] | FlatFrames  # on a canvas, or flat: few programs for all
HostTracked = Any  # a Tracked whose arrays are NumPy's, where its fields are annotated with JAX's


class Tally(NamedTuple):
    """How the frames of a clip were tracked."""

    frames: int = 0
    one_by_one: int = 0  # outside runs: where no face was tracked, or a seam was mended
    runs: int = 0
    seams: int = 0  # between the segments of all runs
    mended: int = 0  # seams at which the segments did not agree

    def plus(self, more: "Tally") -> "Tally":
        """The tally of these frames and of more."""
        return Tally(*(a + b for a, b in zip(self, more, strict=True)))


class UploadedChunk(NamedTuple):
    """Frames on the device."""

    frames: DeviceFrames  # the last may only fill the chunk up
    size: Int[Array, "2"]  # height and width of the pictures, px
    plan: Any  # of flat frames, for the detector: see `AbstractDetector.plan`
    camera: Camera
    indices: Int[np.ndarray, " n"]  # of the frames in the clip, from 0


class TrackedChunk(NamedTuple):
    """Frames on the device with the face that was tracked in them."""

    frames: DeviceFrames
    camera: Camera
    indices: Int[np.ndarray, " n"]
    tracked: HostTracked  # one row for each index
    tally: Tally


def room_of(frames: DeviceFrames) -> int:
    """Pixels of a frame's array."""
    if isinstance(frames, FlatFrames):
        return frames.pixels.shape[1]
    return frames.shape[1] * frames.shape[2]


def some_of(frames: DeviceFrames, start: int, stop: int) -> UInt8[Array, "n h w 3"] | FlatFrames:
    """Some consecutive frames."""
    if isinstance(frames, FlatFrames):
        return FlatFrames(frames.pixels[start:stop], frames.size, frames.pitch)
    return frames[start:stop]
