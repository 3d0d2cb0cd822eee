"""Frames of any number and size, brought to few fixed shapes."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8

from ..types import FLAT_STRETCH

# Sides of common formats. Every new canvas size compiles again, so there are few of them.
_LADDER = (120, 160, 240, 320, 360, 480, 640, 720, 960, 1080, 1280, 1440, 1920, 2160, 2560, 3840)
_STEP = 640  # px between sizes above the ladder
# Pixels that arrays of flat pictures have room for: VGA, full HD, 16 megapixels. Each is a program.
_LENGTHS = (640 * 480, 1920 * 1080, 4096 * 4096)
# The same of clips, of which each frame's array is read as a whole: VGA, 720p, full HD.
_CLIP_LENGTHS = (640 * 480, 1280 * 720, 1920 * 1080)
_ALIGNMENT = 64  # bytes


class Chunk(NamedTuple):
    """A fixed number of frames of one size."""

    frames: UInt8[np.ndarray, "n h w 3"]  # RGB; zeros where not valid
    valid: Bool[np.ndarray, " n"]  # false only at the end
    indices: Int[np.ndarray, " n"]  # position in the clip, from 0; -1 where not valid


def chunks(frames: Iterable[UInt8[np.ndarray, "_ _ 3"]], size: int) -> Iterator[Chunk]:
    """Collects frames into chunks of equal length.

    A chunk is cut short, and filled up with zeros, at the end and where the frame size changes.

    Args:
        frames: RGB frames.
        size: frames in a chunk.
    Returns:
        The chunks in order.
    Raises:
        ValueError: `size` is below 1.
    """
    if size < 1:
        raise ValueError(f"size: expected at least 1, got {size}")
    return _chunks(frames, size)


def canvas_size(height: int, width: int) -> tuple[int, int]:
    """Rounds an image size up to one of few canvas sizes.

    Args:
        height: px.
        width: px.
    Returns:
        Height and width of the canvas, px, each at least as large.
    """
    return _round_up(height), _round_up(width)


def pad_to_canvas(
    image: UInt8[np.ndarray, "*n h w 3"],
) -> tuple[UInt8[np.ndarray, "*n canvas_h canvas_w 3"], tuple[int, int]]:
    """Puts an image, or several of one size, into the upper left corner of a black canvas.

    Args:
        image: RGB, 0 to 255.
    Returns:
        The canvas (the image itself if it has that size already), and the image's own height
        and width, px.
    """
    height, width = image.shape[-3:-1]
    shape = canvas_size(height, width)
    if shape == (height, width):
        return image, (height, width)
    canvas = np.zeros((*image.shape[:-3], *shape, 3), image.dtype)
    canvas[..., :height, :width, :] = image
    return canvas, (height, width)


def flat_lengths(height: int, width: int) -> list[int]:
    """The lengths of flat arrays that a picture of that size fits in, px, the shortest first.

    None for pictures of more than 16 megapixels, or that are more than 5 times as long as wide.
    """
    return [length for length in _LENGTHS if _fits(height, width, length)]


def clip_length(height: int, width: int) -> int | None:
    """The length of the flat arrays in which frames of that size are tracked, px.

    Returns:
        The shortest; None for frames of more pixels than full HD, or that are more than 5 times as
        long as wide: they are put on a canvas.
    """
    return next((n for n in _CLIP_LENGTHS if _fits(height, width, n)), None)


def _fits(height: int, width: int, length: int) -> bool:
    return height * width <= length and max(height, width) ** 2 <= FLAT_STRETCH**2 * length


def face_length(height: int, width: int) -> int | None:
    """The length of the flat array in which the faces of such a picture are fitted, px.

    Not the shortest that a detector may take: what a fit costs hardly depends on it, and its
    program takes half a minute to compile.

    Returns:
        The shortest from full HD on; None where the picture fits in none.
    """
    return next((n for n in flat_lengths(height, width) if n > _LENGTHS[0]), None)


def lay_in(image: UInt8[np.ndarray, "*n h w 3"], length: int) -> UInt8[np.ndarray, "*n l 3"]:
    """Pixels of a picture, or of several, row after row in longer arrays, zeros behind.

    What JAX can take over as it is, since pictures fill their arrays, is not copied.
    """
    lead, size = image.shape[:-3], 3 * image.shape[-3] * image.shape[-2]
    aligned = image.flags.c_contiguous and image.ctypes.data % _ALIGNMENT == 0
    if size == 3 * length and aligned:
        return image.reshape(*lead, length, 3)
    count = int(np.prod(lead))
    room = np.zeros(3 * length * count + _ALIGNMENT, np.uint8)  # what is not written takes no room
    offset = -room.ctypes.data % _ALIGNMENT
    flat = room[offset : offset + 3 * length * count].reshape(count, 3 * length)
    flat[:, :size] = image.reshape(count, size)
    return flat.reshape(*lead, length, 3)


def _round_up(side: int) -> int:
    fitting = (step for step in _LADDER if step >= side)
    return next(fitting, -(-side // _STEP) * _STEP)


def _chunks(frames: Iterable[UInt8[np.ndarray, "_ _ 3"]], size: int) -> Iterator[Chunk]:
    held: np.ndarray | None = None
    start = count = 0
    for frame in frames:
        if held is not None and (count == size or frame.shape != held.shape[1:]):
            yield _chunk(held, count, start)
            start += count
            held, count = None, 0
        if held is None:
            held = _aligned((size, *frame.shape))
        held[count] = frame
        count += 1
    if held is not None:
        yield _chunk(held, count, start)


def _aligned(shape: tuple[int, ...]) -> UInt8[np.ndarray, "n h w 3"]:
    """An uninitialised array that JAX takes over on CPUs without a copy."""
    count = int(np.prod(shape))
    room = np.empty(count + _ALIGNMENT, np.uint8)
    offset = -room.ctypes.data % _ALIGNMENT
    return room[offset : offset + count].reshape(shape)


def _chunk(frames: UInt8[np.ndarray, "n h w 3"], count: int, start: int) -> Chunk:
    frames[count:] = 0
    place = np.arange(len(frames))
    valid = place < count
    return Chunk(frames, valid, np.where(valid, start + place, -1))
