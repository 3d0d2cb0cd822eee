"""A portrait seen anew: its own texture on its own head, at another pose and expression.

The photograph is projected onto the registered head. Surface that it does not show takes the
texture of the other half of the face, or of the nearest place that is shown. Hair and body, which
the head model lacks, stand behind the head as a flat sheet that turns with it.
"""

import dataclasses

import cv2
import numpy as np

from ..data import PIECES, HeadModel, Registered, Tools, View, normals
from ._degrade import lay_over
from ._raster import Fragments, rasterize, seen

_SHEET_DEPTH = 5.0  # mm behind the origin of the head frame: the plane of the ears
_GOOD = 0.2  # cosine to the line of sight from which texture is as good as any
_SMOOTHINGS = 2
_CONTINUED = (0.3, 0.4)  # of the photograph's height and width: how far its border is repeated
_NECK = 30.0  # mm below the chin at which the head ends and the sheet goes on
_TRACE = 0.01  # weights below are nothing
_LIPS_BEHIND_NOSE = 15.0  # mm
_DARKENING = 45.0  # mm behind the lips at which the inside of the mouth has lost most light
_PAINT_BLUR = 6.0  # px
_PAINT_NEIGHBOURS = 24
_BEHIND = 3.0  # mm
_FOLD = 8.0  # mm that a fold of lids or lips may lie behind what is shown
_FEATURES = slice(36, 68)  # landmarks of eyes and mouth
_AROUND = 9.0  # mm
_INTERIOR = ("mouth_socket", "gums", "teeth")
_OPEN_GAP = 1.5  # mm between the lips from which the inside of the mouth is drawn
# RGB of what the photograph does not show of the mouth.
_INSIDE = {"mouth_socket": (70, 28, 28), "gums": (150, 75, 75), "teeth": (205, 198, 185)}


@dataclasses.dataclass(frozen=True)
class Textured:
    """A registered portrait, ready to be drawn."""

    registered: Registered
    vertices: np.ndarray  # (n, 3) mm
    picture: np.ndarray  # (h, w, 3) uint8; behind the person, the nearest colours of the person
    sheet: np.ndarray  # (H, W, 4) uint8: the photograph and the person's matte, continued
    outer: np.ndarray  # (t, 3) triangles without the inside of the mouth
    inner: np.ndarray  # (s, 3) those of the inside of the mouth
    place: np.ndarray  # (n, 4) px of `picture`: own place of a vertex, its mirror image's place
    mix: np.ndarray  # (n, 2) how much of the two textures a vertex takes; the rest is `paint`
    paint: np.ndarray  # (n, 3) RGB
    irises: np.ndarray  # (2, 5, 3) mm, head frame


def prepare_portrait(tools: Tools, registered: Registered) -> Textured:
    """Projects a photograph onto its head."""
    head, view = tools.head, registered.view
    image = tools.portraits.image(registered.person)
    vertices = registered.vertices(tools)
    inside = np.concatenate([head.piece_of(name) for name in _INTERIOR])
    neck = head.mean[head.landmarks[8], 1] + _NECK
    body = np.flatnonzero(head.mean[head.triangles, 1].min(axis=1) > neck)
    outside = np.setdiff1d(np.arange(len(head.triangles)), [*inside, *body])
    projected = view.project(vertices).astype(np.float32)
    shown, open_ = _shown(vertices, projected, head.triangles, registered.rotation, image.shape[:2])
    height, width = image.shape[:2]
    matte = cv2.resize(registered.foreground, (width, height), interpolation=cv2.INTER_LINEAR)
    picture = _filled(image, matte)
    mix = _mix(head, shown, open_ & _around_features(head))
    return Textured(
        registered=registered,
        vertices=vertices,
        picture=picture,
        sheet=_continued(np.dstack([image, matte])),
        outer=head.triangles[outside],
        inner=head.triangles[inside],
        place=np.concatenate([projected[:, :2], projected[head.mirrored, :2]], axis=1),
        mix=mix,
        paint=_paint(vertices, projected, picture, mix[:, 0]),
        irises=_lift_irises(registered, projected),
    )


def _shown(
    vertices: np.ndarray,
    projected: np.ndarray,
    triangles: np.ndarray,
    rotation: np.ndarray,
    shape: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """How well the photograph shows each vertex (n,): the cosine of its surface, 0 if hidden.

    Also whether it is at least near to what the photograph shows (n,), as folds of the lids are.
    """
    facing = -(normals(vertices, triangles) @ rotation.T)[:, 2]
    fragments = rasterize(projected, triangles, *shape)
    near = seen(projected, fragments.depth, slack=_BEHIND)
    height, width = shape
    within = (projected[:, 0] < width) & (projected[:, 1] < height) & (projected.min(1) > -1e9)
    within &= (projected[:, 0] >= 0) & (projected[:, 1] >= 0)
    fold = seen(projected, fragments.depth, slack=_FOLD)
    return np.where(near & within, np.maximum(facing, 0), 0), fold & within


def _around_features(head: HeadModel) -> np.ndarray:
    """Vertices (n,) bool of the lids, eyeballs and lips, whose folds must not be painted over."""
    from scipy.spatial import KDTree

    distance, _ = KDTree(head.mean[head.landmarks[_FEATURES]]).query(head.mean)
    close = np.asarray(distance) < _AROUND
    for name in _INTERIOR:
        start, end = PIECES[name]
        close[start:end] = False
    return close


def _mix(head: HeadModel, shown: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Weights (n, 2) of a vertex's own texture and of its mirror image's, without sharp seams.

    Args:
        shown: (n,) cosines.
        kept: (n,) bool, vertices that take their own texture whatever their cosine.
    """
    good = np.clip(shown / _GOOD, 0, 1)
    pairs = np.concatenate([head.triangles, head.triangles[:, [1, 2, 0]]])
    first, second = pairs[:, 0], pairs[:, 1]
    worst = good.copy()
    np.minimum.at(worst, first, good[second])
    np.minimum.at(worst, second, good[first])
    count = np.maximum(np.bincount(first, minlength=len(good)), 1)
    for _ in range(_SMOOTHINGS):
        worst = np.minimum(worst, np.bincount(first, worst[second], len(good)) / count)
    own = worst * worst * (3 - 2 * worst)
    for name in _INTERIOR:  # little of it shows, between the lips: no rim to spare
        start, end = PIECES[name]
        own[start:end] = shown[start:end] > 0
    own[kept] = 1
    return np.stack([own, (1 - own) * own[head.mirrored]], axis=1).astype(np.float32)


def _paint(
    vertices: np.ndarray, projected: np.ndarray, picture: np.ndarray, own: np.ndarray
) -> np.ndarray:
    """Colours (n, 3) for what the photograph does not show: means of the nearest shown places."""
    from scipy.spatial import KDTree

    soft = cv2.GaussianBlur(picture, (0, 0), _PAINT_BLUR)
    height, width = picture.shape[:2]
    column = np.clip(np.rint(projected[:, 0]), 0, width - 1).astype(int)
    row = np.clip(np.rint(projected[:, 1]), 0, height - 1).astype(int)
    good = np.flatnonzero(own[: PIECES["head"][1]] > 0.7)
    near = KDTree(vertices[good]).query(vertices, _PAINT_NEIGHBOURS)[1]
    paint = soft[row[good], column[good]].astype(np.float32)[near].mean(axis=1)
    for name, colour in _INSIDE.items():
        start, end = PIECES[name]
        behind = vertices[start:end, 2] - vertices[: PIECES["face"][1], 2].min() - _LIPS_BEHIND_NOSE
        paint[start:end] = colour * np.clip(1 - behind / _DARKENING, 0.15, 1)[:, None]
    return paint


def _filled(image: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """The photograph with each pixel of the backdrop taken from the nearest of the person."""
    inside = cv2.erode(matte, np.ones((5, 5), np.uint8)) > 200
    _, labels = cv2.distanceTransformWithLabels(
        (~inside).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    labels = labels.astype(np.int64)
    rows = np.zeros(labels.max() + 1, np.int64)
    rows[labels[inside]] = np.flatnonzero(inside)
    return image.reshape(-1, 3)[rows[labels]]


def _margins(height: int, width: int) -> tuple[int, int]:
    """How far a sheet goes on below a photograph and to its sides, px."""
    return int(_CONTINUED[0] * height), int(_CONTINUED[1] * width)


def _continued(sheet: np.ndarray) -> np.ndarray:
    """The sheet with its border repeated, so that a body does not end with the photograph."""
    below, beside = _margins(*sheet.shape[:2])
    return cv2.copyMakeBorder(sheet, 0, below, beside, beside, cv2.BORDER_REPLICATE)


def _lift_irises(registered: Registered, projected: np.ndarray) -> np.ndarray:
    """Iris points (2, 5, 3), mm, on the front of the eyeballs."""
    lifted = []
    for eye, points in zip(("left_eye", "right_eye"), registered.irises, strict=True):
        start, end = PIECES[eye]
        shell = projected[start:end]
        front = shell[shell[:, 2] < np.median(shell[:, 2])]
        distance = ((front[:, None, :2] - points) ** 2).sum(-1)
        depth = front[distance.argmin(axis=0), 2]
        across = (points - registered.translation) / registered.scale
        turned = np.concatenate([across, depth[:, None]], axis=1)
        lifted.append(turned @ registered.rotation)
    return np.stack(lifted).astype(np.float32)


def draw_portrait(
    tools: Tools,
    textured: Textured,
    vertices: np.ndarray,
    view: View,
    background: np.ndarray,
    *,
    light: np.ndarray | None = None,
) -> tuple[np.ndarray, Fragments]:
    """Draws a portrait's head, hair and body over a background.

    Args:
        vertices: (n, 3) mm, those of `textured` or displaced by an expression.
        background: (h, w, 3) uint8.
        light: (4,) even light, and a vector in camera axes whose product with the outward
            normal is added; None leaves the photograph's light as it is.

    Returns:
        The picture (h, w, 3) uint8 and the surface that each pixel shows.
    """
    height, width = background.shape[:2]
    canvas = _draw_sheet(textured, view, background)
    lips = tools.head.landmarks[[62, 66]]
    gap = np.linalg.norm(vertices[lips[0]] - vertices[lips[1]])
    triangles = textured.outer
    if gap > _OPEN_GAP:
        triangles = np.concatenate([triangles, textured.inner])
    fragments = rasterize(view.project(vertices), triangles, height, width)
    colour = _colours(textured, triangles, fragments, height, width)
    if light is not None:
        turned = normals(vertices, triangles) @ view.rotation.T
        shade = np.clip(light[0] + turned @ light[1:], 0.15, 2.5).astype(np.float32)
        factor = fragments.interpolate(shade[:, None], triangles)
        colour *= factor
    colour = np.clip(colour, 0, 255).astype(np.uint8)
    return blend(canvas, colour, fragments.pixel), fragments


def _colours(
    textured: Textured, triangles: np.ndarray, fragments: Fragments, height: int, width: int
) -> np.ndarray:
    """Colours (k, 3), float32, of the fragments."""
    first = np.concatenate([textured.place[:, :2], textured.mix], axis=1)
    values = fragments.interpolate(first, triangles)
    own, other = values[:, 2:3], values[:, 3:]
    colour = own * _look_up(textured.picture, values[:, :2], fragments.pixel, height, width)
    mirrored = np.flatnonzero(other[:, 0] > _TRACE)
    place = fragments.interpolate(textured.place[:, 2:], triangles, mirrored)
    found = _look_up(textured.picture, place, fragments.pixel[mirrored], height, width)
    colour[mirrored] += other[mirrored] * found
    rest = 1 - own - other
    painted = np.flatnonzero(rest[:, 0] > _TRACE)
    colour[painted] += rest[painted] * fragments.interpolate(textured.paint, triangles, painted)
    return colour


def _look_up(
    picture: np.ndarray, place: np.ndarray, pixel: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Colours (k, 3) of a picture at places (k, 2), px, which pixels of a (h, w) view show."""
    x, y = np.zeros((2, height * width), np.float32)
    x[pixel], y[pixel] = place.T
    maps = x.reshape(height, width), y.reshape(height, width)
    found = cv2.remap(picture, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found.reshape(-1, 3)[pixel]


def blend(canvas: np.ndarray, colour: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """Lays pixels (k,) of colours (k, 3) over a canvas, with a soft rim."""
    layer = canvas.copy()
    layer.reshape(-1, 3)[pixel] = colour
    cover = np.zeros(canvas.shape[:2], np.uint8)
    cover.reshape(-1)[pixel] = 255
    soft = cv2.GaussianBlur(cover, (3, 3), 0)
    rim = np.flatnonzero((cover > 0).ravel() & (soft < 255).ravel())
    share = soft.reshape(-1)[rim, None] / np.float32(255)
    below = canvas.reshape(-1, 3)[rim]
    layer.reshape(-1, 3)[rim] = below + share * (
        layer.reshape(-1, 3)[rim] - below.astype(np.float32)
    )
    return layer


def _draw_sheet(textured: Textured, view: View, background: np.ndarray) -> np.ndarray:
    """Hair and body, on a plane through the ears."""
    registered = textured.registered
    height, width = textured.sheet.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    beside = _margins(*textured.picture.shape[:2])[1]
    across = (corners - [beside, 0] - registered.translation) / registered.scale
    # The plane is upright in the head frame, so depth along the old line of sight varies.
    normal = registered.rotation[:, 2]
    depth = (_SHEET_DEPTH - across @ normal[:2]) / normal[2]
    turned = np.concatenate([across, depth[:, None]], axis=1).astype(np.float32)
    placed = view.project(turned @ registered.rotation)[:, :2].astype(np.float32)
    matrix = cv2.getPerspectiveTransform(corners, placed)
    size = background.shape[1::-1]
    warped = cv2.warpPerspective(textured.sheet, matrix, size, flags=cv2.INTER_LINEAR)
    return lay_over(warped[..., :3], background, warped[..., 3])
