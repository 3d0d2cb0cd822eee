"""Results drawn over a picture: landmarks, box, head pose, gaze and a line of text.

Every function takes a picture and gives a copy with something drawn; what is drawn lies where the
numbers say to 1/16 px, and its lines grow with the picture.
"""

import dataclasses
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ..types import Camera
from ._rows import Table

Picture = UInt8[np.ndarray, "h w 3"]  # RGB, 0 to 255
_Color = tuple[int, int, int]

_SHIFT = 4  # fractional bits of a coordinate
_FAR = 1 << 20  # px; OpenCV's fixed point would overflow beyond
_NEAR = 1.0  # mm before the camera; nothing nearer is projected

_DOT, _RIM = (90, 250, 170), (0, 60, 40)
_FACE, _BACK, _HEAD = (255, 200, 60), (200, 120, 40), (235, 160, 50)
_RAY, _IRIS = (255, 70, 90), (80, 190, 255)
_BOX, _TEXT, _SHADE = (235, 235, 235), (255, 255, 255), 0.45
_HIDDEN = 0.6  # brightness of landmarks that are hidden

# mm in the head's frame, whose origin lies behind the bridge of the nose; -z is the front.
_HEAD_SIDES = np.array([[-80.0, 80.0], [-95.0, 90.0], [-35.0, 75.0]])
# Corners differ in one bit along an edge; bits are x, y, z, so the first four are the front.
_CORNERS = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)])
_EDGES = [(i, i | bit) for i in range(8) for bit in (1, 2, 4) if not i & bit]
# OpenCV's own circles are squares below a radius of 3 px.
_TURN = np.linspace(0, 2 * np.pi, 16, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
_RAY_LENGTH = 50.0  # mm, as OpenFace draws gaze
_IRIS_POINTS = 8  # the first points of an eye are the ring of its iris


class _Pen(NamedTuple):
    """Sizes of what is drawn, px."""

    line: int  # thickness of lines
    dot: float  # radius of a landmark
    letter: float  # of OpenCV's font, whose capitals are 22 px high at 1


def draw_landmarks(
    image: Picture,
    landmarks: Float[np.ndarray, "n 2"],
    *,
    visible: Bool[np.ndarray, " n"] | None = None,
) -> Picture:
    """Draws landmarks as dots.

    Args:
        image: RGB, 0 to 255; not changed.
        landmarks: px; those that are not finite are left out.
        visible: false for landmarks hidden by the head's turn, which are darker; None draws all
            as visible.
    Returns:
        A copy with the landmarks drawn.
    """
    drawn = _copy(image)
    _landmarks(drawn, np.asarray(landmarks), _pen(drawn, landmarks), visible)
    return drawn


def draw_box(image: Picture, box: Float[np.ndarray, "4"]) -> Picture:
    """Draws a face box.

    Args:
        image: RGB, 0 to 255; not changed.
        box: x0 y0 x1 y1, px.
    Returns:
        A copy with the box drawn.
    """
    drawn = _copy(image)
    _box(drawn, np.asarray(box), _pen(drawn))
    return drawn


def draw_pose(image: Picture, head_pose: Float[np.ndarray, "6"], camera: Camera) -> Picture:
    """Draws a box around the head; its front, where the face is, is brighter.

    Args:
        image: RGB, 0 to 255; not changed.
        head_pose: Tx Ty Tz mm, Rx Ry Rz rad.
        camera: intrinsics, px.
    Returns:
        A copy with the box drawn; without it where the head is not before the camera.
    """
    drawn = _copy(image)
    _pose(drawn, np.asarray(head_pose, np.float64), camera, _pen(drawn))
    return drawn


def draw_gaze(
    image: Picture,
    eye_landmarks_3d: Float[np.ndarray, "e 3"],
    gaze: Float[np.ndarray, "2 3"],
    camera: Camera,
) -> Picture:
    """Draws the two irises and a ray of 50 mm from each along its gaze.

    Args:
        image: RGB, 0 to 255; not changed.
        eye_landmarks_3d: mm, camera frame; the first half is the image-left eye's, and begins
            with the ring of its iris.
        gaze: unit vectors, camera frame, image-left eye first.
        camera: intrinsics, px.
    Returns:
        A copy with the rays drawn; without those of eyes that are not before the camera.
    """
    drawn = _copy(image)
    _gaze(drawn, np.asarray(eye_landmarks_3d), np.asarray(gaze), camera, _pen(drawn))
    return drawn


def draw_face(image: Picture, rows: Table, camera: Camera, *, text: bool = True) -> Picture:
    """Draws all that rows hold: landmarks, their box, head pose, gaze and confidence.

    Args:
        image: RGB, 0 to 255; not changed.
        rows: faces of this frame, as in `analysis[3]`; without success only the text is drawn.
        camera: intrinsics, px, that it was analysed with.
        text: write the confidence, and whether the face was found, over the face.
    Returns:
        A copy with the faces drawn.
    """
    drawn = _copy(image)
    for row in rows:
        _face(drawn, row, camera, text)
    return drawn


def _face(drawn: Picture, row: Table, camera: Camera, text: bool) -> None:
    landmarks = np.asarray(row.landmarks[0], np.float64)
    landmarks = landmarks[np.isfinite(landmarks).all(axis=1)]
    if row.success[0] and len(landmarks):
        box = np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)])
        pen = _pen(drawn, landmarks)
        if row.head_pose.shape[1]:  # a CSV may lack it
            _pose(drawn, np.asarray(row.head_pose[0], np.float64), camera, pen)
        _box(drawn, box, pen)
        _landmarks(drawn, landmarks, pen, None)
        if row.gaze.shape[1]:
            _gaze(drawn, row.eye_landmarks_3d[0], row.gaze[0], camera, pen)
        place = box[:2] - [0, 3 * pen.line]
    else:
        pen = _pen(drawn)
        place = np.array([0.0, np.inf])  # the lower left corner
    if text:
        found = "success" if row.success[0] else "no success"
        _label(drawn, f"{found}  confidence {row.confidence[0]:.2f}", place, pen)


def draw_note(image: Picture, text: str) -> Picture:
    """Writes a line of text into the lower left corner.

    Args:
        image: RGB, 0 to 255; not changed.
        text: ASCII.
    Returns:
        A copy with the text.
    """
    drawn = _copy(image)
    _label(drawn, text, np.array([0.0, np.inf]), _pen(drawn))
    return drawn


def enlarge(
    image: Picture, rows: Table, camera: Camera, factor: int
) -> tuple[UInt8[np.ndarray, "taller wider 3"], Table, Camera]:
    """A picture with what is drawn over it, so that small ones can be read.

    Args:
        image: RGB, 0 to 255; not changed.
        rows: faces of this frame.
        camera: intrinsics, px.
        factor: how many times as large.
    Returns:
        The larger picture, and rows and intrinsics for `draw_face` in it.
    """
    height, width = image.shape[:2]
    larger = cv2.resize(image, (factor * width, factor * height), interpolation=cv2.INTER_LINEAR)
    shift = (factor - 1) / 2  # of the centre of the first pixel
    landmarks = (factor * rows.landmarks + shift).astype(rows.landmarks.dtype)
    fx, fy, cx, cy = (np.float32(factor * float(value)) for value in camera)
    lens = Camera(*map(np.asarray, (fx, fy, cx + shift, cy + shift)))
    return larger, dataclasses.replace(rows, landmarks=landmarks), lens


def _copy(image: Picture) -> Picture:
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(
            "image: expected an 8-bit RGB image of shape (h, w, 3), got "
            f"{image.dtype} of shape {image.shape}"
        )
    return np.array(image, order="C")


def _pen(image: Picture, landmarks: Float[np.ndarray, "n 2"] | None = None) -> _Pen:
    """Sizes for a picture, and for dots that do not run together on a small face."""
    side = min(image.shape[:2])
    line = max(1, round(side / 480))
    dot = side / 270
    if landmarks is not None and len(landmarks) > 1:
        extent = float(np.ptp(landmarks, axis=0).max())
        dot = min(dot, extent / 90) if np.isfinite(extent) else dot
    return _Pen(line, max(dot, 1.0), max(side / 1200, 0.35))


def _fixed(points: Float[np.ndarray, "*n 2"]) -> Int[np.ndarray, "*n 2"]:
    """Coordinates in 1/16 px."""
    return np.rint(np.clip(points, -_FAR, _FAR) * (1 << _SHIFT)).astype(np.int32)


def _landmarks(
    image: Picture,
    landmarks: Float[np.ndarray, "n 2"],
    pen: _Pen,
    visible: Bool[np.ndarray, " n"] | None,
) -> None:
    shown = np.ones(len(landmarks), bool) if visible is None else np.asarray(visible)
    finite = np.isfinite(landmarks).all(axis=1)
    # Rims first: none then covers a neighbour's dot.
    for radius, color in ((pen.dot + 0.75, _RIM), (pen.dot, _DOT)):
        hidden = tuple(round(_HIDDEN * channel) for channel in color)
        discs = landmarks[finite, None] + radius * _CIRCLE
        for disc, clear in zip(_fixed(discs), shown[finite], strict=True):
            cv2.fillConvexPoly(image, disc, color if clear else hidden, cv2.LINE_AA, _SHIFT)


def _box(image: Picture, box: Float[np.ndarray, "4"], pen: _Pen) -> None:
    if np.isfinite(box).all():
        first, last = _fixed(np.asarray(box, np.float64).reshape(2, 2)).tolist()
        cv2.rectangle(image, first, last, _BOX, pen.line, cv2.LINE_AA, _SHIFT)


def _pose(image: Picture, head_pose: Float[np.ndarray, "6"], camera: Camera, pen: _Pen) -> None:
    place, angles = head_pose[:3], head_pose[3:]
    corners = np.take_along_axis(_HEAD_SIDES, _CORNERS.T, axis=1).T
    projected = _project(corners @ _rotation(angles).T + place, camera)
    if projected is None:
        return
    fixed = _fixed(projected).tolist()
    front = [(i, j) for i, j in _EDGES if j < 4]
    for i, j in [edge for edge in _EDGES if edge not in front]:
        color = _BACK if min(i, j) >= 4 else _HEAD
        cv2.line(image, fixed[i], fixed[j], color, pen.line, cv2.LINE_AA, _SHIFT)
    for i, j in front:
        cv2.line(image, fixed[i], fixed[j], _FACE, 2 * pen.line, cv2.LINE_AA, _SHIFT)


def _gaze(
    image: Picture,
    eye_landmarks_3d: Float[np.ndarray, "e 3"],
    gaze: Float[np.ndarray, "2 3"],
    camera: Camera,
    pen: _Pen,
) -> None:
    for eye, look in zip(np.split(np.asarray(eye_landmarks_3d), 2), gaze, strict=True):
        iris = eye[:_IRIS_POINTS]
        if not len(iris) or not np.any(look):
            continue  # a model without eyes, or a frame without gaze
        middle = iris.mean(axis=0)
        points = _project(np.stack([*iris, middle, middle + _RAY_LENGTH * look]), camera)
        if points is None:
            continue
        fixed = _fixed(points)
        cv2.polylines(image, [fixed[:-2]], True, _IRIS, pen.line, cv2.LINE_AA, _SHIFT)
        start, end = fixed[-2:].tolist()
        cv2.line(image, start, end, _RAY, 2 * pen.line, cv2.LINE_AA, _SHIFT)


def _label(image: Picture, text: str, place: Float[np.ndarray, "2"], pen: _Pen) -> None:
    """Writes a line of text on a darkened strip whose lower left corner is `place`."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, height), below = cv2.getTextSize(text, font, pen.letter, pen.line)
    edge = 3 * pen.line
    tall, wide = height + below + 2 * edge, width + 2 * edge
    limits = image.shape[1] - wide, image.shape[0] - tall
    x, y = (int(max(min(p, most), 0)) for p, most in zip(place - [0, tall], limits, strict=True))
    strip = image[y : y + tall, x : x + wide]
    strip[...] = (strip * _SHADE).astype(np.uint8)
    origin = (x + edge, y + edge + height)
    cv2.putText(image, text, origin, font, pen.letter, _TEXT, pen.line, cv2.LINE_AA)


def _project(points: Float[np.ndarray, "n 3"], camera: Camera) -> Float[np.ndarray, "n 2"] | None:
    """Pixels of points in the camera's frame, mm; None where one is not before the camera."""
    points = np.asarray(points, np.float64)
    if not (np.isfinite(points).all() and (points[:, 2] > _NEAR).all()):
        return None
    fx, fy, cx, cy = map(float, camera)
    return points[:, :2] / points[:, 2:] * [fx, fy] + [cx, cy]


def _rotation(angles: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Rx @ Ry @ Rz of pitch, yaw and roll, rad."""
    (sx, sy, sz), (cx, cy, cz) = np.sin(angles), np.cos(angles)
    return np.array(
        [
            [cy * cz, -cy * sz, sy],
            [cx * sz + sx * sy * cz, cx * cz - sx * sy * sz, -sx * cy],
            [sx * sz - cx * sy * cz, sx * cz + cx * sy * sz, cx * cy],
        ]
    )
