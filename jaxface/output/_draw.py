"""Landmarks and boxes drawn over an image, for notebooks."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

_SHIFT = 4  # fractional bits of a coordinate
_RED, _BLUE = (255, 0, 0), (0, 0, 255)


def draw_landmarks(
    image: UInt8[np.ndarray, "h w 3"],
    landmarks: Float[np.ndarray, "n 2"],
    *,
    visible: Bool[np.ndarray, " n"] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws landmarks as OpenFace does: a blue dot in a red ring, fainter where hidden.

    Args:
        image: RGB, 0 to 255; not changed.
        landmarks: px.
        visible: false for landmarks hidden by the head's turn; None draws all as visible.
    Returns:
        A copy with the landmarks drawn.
    Reference:
        Specification 03, E.6.
    """
    drawn = np.ascontiguousarray(image).copy()
    width = image.shape[1]
    shown = np.ones(len(landmarks), bool) if visible is None else np.asarray(visible)
    for point, clear in zip(np.asarray(landmarks, np.float64), shown, strict=True):
        center = np.rint(point * (1 << _SHIFT)).astype(int).tolist()
        share = 1.0 if clear else 155 / 255
        rings = ((_RED, 3.0 if clear else 2.5), (_BLUE, 1.0))
        for color, thickness in rings:
            faded = [int(round(share * channel)) for channel in color]
            line = int(np.ceil(thickness * width / 640))
            cv2.circle(drawn, center, 1 << _SHIFT, faded, line, cv2.LINE_AA, _SHIFT)
    return drawn


def draw_box(
    image: UInt8[np.ndarray, "h w 3"], box: Float[np.ndarray, "4"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws a face box.

    Args:
        image: RGB, 0 to 255; not changed.
        box: x0 y0 x1 y1, px.
    Returns:
        A copy with the box drawn.
    """
    drawn = np.ascontiguousarray(image).copy()
    x0, y0, x1, y1 = np.rint(np.asarray(box)).astype(int).tolist()
    line = int(np.ceil(2 * image.shape[1] / 640))
    cv2.rectangle(drawn, (x0, y0), (x1, y1), _RED, line)
    return drawn
