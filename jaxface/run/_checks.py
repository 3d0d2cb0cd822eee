"""What is refused before anything is computed, by name and with what to do."""

from collections.abc import Iterable, Iterator
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, UInt8

from ..errors import refuse_fork

Frame = UInt8[np.ndarray, "h w 3"]  # RGB, 0 to 255
AnyImage = Array | np.ndarray  # whatever a user gives for a Frame: `as_image` says what is wrong


def refuse_tracers(function: str, *inputs: Any) -> None:
    """Refuses to be traced, or forked: the functions of this package work on the host.

    Args:
        function: that was called.
        inputs: its arguments.
    Raises:
        TypeError: one of them, or an array in it, is traced by jit, vmap, grad or scan.
        ForkError: the process was forked after JAX had been used.
    """
    refuse_fork(function)
    if any(map(_is_traced, inputs)):
        raise TypeError(
            f"{function} cannot be traced (by jax.jit, vmap, grad, ...): it reads frames on the "
            "host and calls compiled programs by itself. Call it as it is; or trace the pure "
            "functions: jaxface.clip_frame for a frame of a clip (or jaxface.track_frame for its "
            "landmarks alone), with jax.lax.scan over frames, and for a still image "
            "jaxface.detect_faces, fit_landmarks and analyze_frame"
        )


def _is_traced(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_is_traced, value))
    if isinstance(value, eqx.Module):
        return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))
    return isinstance(value, Tracer)  # and not what else a clip may come from


def check_frames(frames: Iterable[AnyImage]) -> Iterator[Frame]:
    """Passes frames on; raises a ValueError for one that is not an 8-bit RGB image."""
    for index, frame in enumerate(frames):
        yield as_image(frame, f"frame {index}")


def as_image(image: AnyImage, name: str) -> Frame:
    """An 8-bit RGB image from any array of one, or a ValueError that says what is wrong."""
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[-1] != 3 or 0 in array.shape:
        raise ValueError(
            f"{name}: expected an RGB image of shape (h, w, 3), got shape {array.shape}: "
            "stack a grey image three times, drop an alpha channel"
        )
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        raise ValueError(
            f"{name}: expected 8-bit values, got uint16: divide by 256 first (image // 256)"
        )
    if array.dtype == bool:
        raise ValueError(
            f"{name}: expected values from 0 to 255, got bool: multiply by 255 "
            "(image * numpy.uint8(255))"
        )
    # Extension types, such as bfloat16, are of kind "V".
    if not np.can_cast(array.dtype, np.float64):
        raise ValueError(f"{name}: expected numbers from 0 to 255, got {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite values from 0 to 255, got NaN or infinity")
    if array.min() < 0 or array.max() > 255:
        raise ValueError(
            f"{name}: expected values from 0 to 255, got {array.min():g} to {array.max():g}"
        )
    levels = np.rint(array)
    # A frame of a video that is all but black has such values too, but whole ones.
    if array.max() <= 1 and (levels != array).any():
        raise ValueError(
            f"{name}: expected values from 0 to 255, got fractions from {array.min():g} to "
            f"{array.max():g}: multiply by 255, or round to uint8 if it is as dark as that"
        )
    return levels.astype(np.uint8)


def check_boxes(boxes: Any) -> Float[np.ndarray, "f 4"]:
    """Face boxes as an array, or a ValueError that says what is wrong with them."""
    array = np.asarray(boxes, np.float32)
    if array.size == 0 and array.shape in ((0,), (0, 4)):
        return np.zeros((0, 4), np.float32)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(
            f"boxes: expected shape (f, 4), x0 y0 x1 y1 of each face, got shape {array.shape}"
            + (": put it in a list, boxes=[box]" if array.shape == (4,) else "")
        )
    for number, box in enumerate(array):
        if not np.isfinite(box).all() or (box[:2] >= box[2:]).any():
            raise ValueError(
                f"boxes[{number}]: expected finite x0 y0 x1 y1, px, with x0 < x1 and y0 < y1, "
                f"got {box.tolist()}"
            )
    return array


def check_rate(fps: float | None) -> None:
    """Refuses frames per second that are none; 0 stands for unknown times."""
    if fps is not None and not (np.isfinite(fps) and fps >= 0):
        raise ValueError(
            f"fps: expected frames per second, or 0 for timestamps of 0, got {fps}: leave it out "
            "to take the file's"
        )
