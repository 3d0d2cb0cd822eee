"""Camera intrinsics on the host: where none are known, and whether given ones make sense."""

import sys
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ..types import Camera

_FIELDS = ("fx", "fy", "cx", "cy")
_PACKAGE = __name__.removesuffix("io._camera")  # with a dot behind
_ORDER = ("width", "height", *_FIELDS)  # of the arguments by position, in jaxface 0.1


class Intrinsics(NamedTuple):
    """Deprecated: the intrinsics as plain numbers, px. `Camera` takes their place."""

    fx: float
    fy: float
    cx: float
    cy: float


def default_camera(
    *by_position: float,
    height: float | None = None,
    width: float | None = None,
    fx: float | None = None,
    fy: float | None = None,
    cx: float | None = None,
    cy: float | None = None,
) -> Camera:
    """Fills in OpenFace's intrinsics where they are not given.

    The focal length is that of a webcam, 500 px at 640x480; the optical centre is the centre
    of the image.

    Args:
        by_position: deprecated, in the order width, height, fx, fy, cx, cy of jaxface 0.1: sizes
            are (height, width) everywhere else, so these two are taken by name.
        height: px.
        width: px.
        fx: horizontal focal length, px.
        fy: vertical focal length, px.
        cx: column of the optical centre, px.
        cy: row of the optical centre, px.
    Returns:
        All four, as float32 arrays of NumPy.
    Raises:
        TypeError: `height` or `width` is missing.
        ValueError: only one of `fx` and `fy`, or of `cx` and `cy`, is given, or one of them is
            not finite, or a focal length not positive.
    Reference:
        Specification 01, C.3. Differs: half a pair is an error, not a -1 in the other half.
    """
    if by_position:
        message = (
            "default_camera: pass the size by name, default_camera(height=..., width=...); "
            "by position the order is still width, height"
        )
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        given = dict(zip(_ORDER, by_position))
        height, width = given.get("height", height), given.get("width", width)
        fx, fy, cx, cy = (given.get(n, v) for n, v in zip(_FIELDS, (fx, fy, cx, cy), strict=True))
    if height is None or width is None:
        raise TypeError(f"default_camera: expected height= and width=, got {height} and {width}")
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
    return _checked((fx, fy, cx, cy), "")


def check_camera(camera: Camera | Iterable[float] | None) -> Camera | None:
    """Refuses a camera that cannot be one, before any frame is read.

    Args:
        camera: intrinsics, px; None stays None. The `Intrinsics` of jaxface 0.1, or any four
            numbers, are taken for one more release.
    Returns:
        The camera, as float32 arrays of NumPy.
    Raises:
        TypeError: it is no camera.
        ValueError: a value is not one finite number, or a focal length is not positive.
    """
    if camera is None:
        return None
    if not isinstance(camera, Camera):
        message = f"camera: pass a jaxface.Camera(fx, fy, cx, cy) in place of {camera!r}"
        try:
            values = tuple(camera)
        except TypeError as error:
            raise TypeError(message) from error
        if len(values) != len(_FIELDS):
            raise TypeError(message)
        warnings.warn(message, DeprecationWarning, stacklevel=_callers_level())
        camera = Camera(*(np.asarray(value, np.float32) for value in values))
    return _checked(camera, "camera.")


def as_camera(camera: Camera | None, *, height: int, width: int) -> Camera:
    """The camera of an image: what `check_camera` gave, or else OpenFace's guess from its size.

    Args:
        camera: intrinsics, px.
        height: of the image, px.
        width: of the image, px.
    """
    return default_camera(height=height, width=width) if camera is None else camera


def _callers_level() -> int:
    """The `stacklevel` of whoever called the package: Python hides warnings of a library's own."""
    level, frame = 2, sys._getframe(2)
    while frame.f_back and frame.f_globals["__name__"].startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level


def _checked(values: Iterable[Any], prefix: str) -> Camera:
    """A camera of float32 NumPy arrays, or a ValueError that names what is wrong."""
    found = {}
    for name, value in zip(_FIELDS, values, strict=True):
        number = np.asarray(value, np.float32)
        what = "a finite number of px" if name.startswith("c") else "a positive focal length in px"
        if number.shape:
            got = f"an array of shape {number.shape}; all frames share one camera"
            raise ValueError(f"{prefix}{name}: expected one number, got {got}")
        if not np.isfinite(number) or (name.startswith("f") and number <= 0):
            raise ValueError(f"{prefix}{name}: expected {what}, got {number:g}")
        found[name] = number
    return Camera(**found)
