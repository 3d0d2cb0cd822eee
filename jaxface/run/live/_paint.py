"""Live pictures: with all that was found drawn over them."""

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from ...io import as_camera
from ...output import Table, UnitNames, draw_face, draw_note, draw_units, encode_jpeg, enlarge
from ...types import Camera

_LOWEST = 240  # px: lower pictures are enlarged, so that what is written in them can be read

Picture = UInt8[np.ndarray, "h w 3"]  # RGB, 0 to 255
# Of a frame, the face in it or None where it was not analysed, the columns of its action units,
# the camera (None for OpenFace's guess) and what the user waits for.
Paint = Callable[[Picture, Table | None, UnitNames, Camera | None, str], bytes]


def paint_page(
    pixels: Picture, row: Table | None, units: UnitNames, camera: Camera | None, note: str
) -> bytes:
    """A picture for the page, which writes text and draws bars itself.

    Args:
        pixels: the frame.
        row: the face in it; None where it was not analysed.
        units: columns of its action units; not looked at.
        camera: intrinsics, px; by default OpenFace's guess.
        note: what the user waits for; not looked at.
    Returns:
        A JPEG file.
    """
    return encode_jpeg(_draw(pixels, row, camera))


def paint_window(
    pixels: Picture, row: Table | None, units: UnitNames, camera: Camera | None, note: str
) -> bytes:
    """A picture for the window: bars of action units beside it, the note in it.

    Args:
        pixels: the frame.
        row: the face in it; None where it was not analysed.
        units: columns of its action units.
        camera: intrinsics, px; by default OpenFace's guess.
        note: what the user waits for; ASCII.
    Returns:
        A PPM file, which Tk reads.
    """
    drawn = _draw(pixels, row, camera)
    if note:
        drawn = draw_note(drawn, note)
    if row is not None:
        drawn = draw_units(drawn, row, units)
    height, width = drawn.shape[:2]
    return b"P6 %d %d 255\n" % (width, height) + drawn.tobytes()


def _draw(
    pixels: Picture, row: Table | None, camera: Camera | None
) -> UInt8[np.ndarray, "taller wider 3"]:
    if row is None:
        return pixels
    height, width = pixels.shape[:2]
    lens = as_camera(camera, height=height, width=width)
    if height < _LOWEST:
        pixels, row, lens = enlarge(pixels, row, lens, -(-_LOWEST // height))
    return draw_face(pixels, row, lens, text=False)
