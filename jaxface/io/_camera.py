"""Camera intrinsics where none are known."""

from typing import NamedTuple

import numpy as np


class Intrinsics(NamedTuple):
    """Pinhole intrinsics, px, each exactly a float32."""

    fx: float
    fy: float
    cx: float
    cy: float


def default_camera(
    width: int,
    height: int,
    fx: float | None = None,
    fy: float | None = None,
    cx: float | None = None,
    cy: float | None = None,
) -> Intrinsics:
    """Fills in OpenFace's intrinsics where they are not given.

    The focal length is that of a webcam, 500 px at 640x480; the optical centre is the centre
    of the image.

    Args:
        width: px.
        height: px.
        fx: horizontal focal length, px.
        fy: vertical focal length, px.
        cx: column of the optical centre, px.
        cy: row of the optical centre, px.
    Returns:
        All four.
    Raises:
        ValueError: only one of `fx` and `fy`, or of `cx` and `cy`, is given.
    Reference:
        Specification 01, C.3. Differs: half a pair is an error, not a -1 in the other half.
    """
    if (fx is None) != (fy is None):
        raise ValueError(f"fx, fy: expected both or neither, got fx={fx}, fy={fy}")
    if (cx is None) != (cy is None):
        raise ValueError(f"cx, cy: expected both or neither, got cx={cx}, cy={cy}")
    if fx is None or fy is None:
        # Rounded before the mean is taken, as OpenFace does: the last bit depends on it.
        sides = np.float32(500.0 * (width / 640.0)), np.float32(500.0 * (height / 480.0))
        fx = fy = float((sides[0] + sides[1]) / np.float32(2.0))
    if cx is None or cy is None:
        cx, cy = width / 2.0, height / 2.0
    return Intrinsics(*(float(np.float32(value)) for value in (fx, fy, cx, cy)))
