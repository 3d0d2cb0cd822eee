"""Makes the drawings and the tables of jaxface/output/CONVENTIONS.md.

Usage: python -m bench.conventions

Everything is drawn by the package: heads are the mean shape of `base`, turned and projected as
the analysis does it, gaze is what `estimate_gaze` gives for an iris that is turned, and the words
of the tables are said of the numbers that come out.
"""

import functools
import re
import sys
from pathlib import Path
from typing import NamedTuple

import cv2
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

import jaxface
from jaxface.analyze import estimate_gaze
from jaxface.fit import reported_pdm
from jaxface.io import default_camera, read_frames, read_video
from jaxface.ops import euler_to_matrix, project_pinhole
from jaxface.output import draw_gaze, draw_landmarks, draw_pose
from jaxface.types import Camera, PartFit, PDMParameters

from .overlay_strip import CLIP, DATA, write_small
from .talking_head import TRUTH, read_columns

PAGE = Path(__file__).resolve().parents[1] / "jaxface" / "output" / "CONVENTIONS.md"
TURN = 20.0  # degrees that heads and eyes are turned by
SIDE = 300  # px, of a panel with a head
DISTANCE, FOCAL = 520.0, 500.0  # mm from the camera to the heads, px
PIXELS, ZOOM = (4, 6), 60  # rows and columns of the enlarged picture, and how many times
DOTS = ((0.0, 0.0), (2.0, 1.0), (4.5, 2.5))  # landmarks in it, px
TURNS = ("pitch", "yaw", "roll")  # Rx, Ry, Rz
SIGHTS = ("right", "down")  # gaze_angle

Picture = UInt8[np.ndarray, "h w 3"]  # RGB, 0 to 255

_GROUND, _INK, _FAINT = (28, 31, 38), (235, 235, 235), (120, 126, 138)
_AXES = ((255, 90, 90), (110, 220, 110), (110, 160, 255))  # x, y, z
_AXIS = 70.0  # mm
_NOSE, _CHIN, _JAW = 30, 8, slice(0, 17)
_EYEBALL, _RADIUS, _IRIS = 12.0, 6.0, 8  # mm, mm, points of the ring
_UNITS = 15, 5  # of the clip, and panels in a row


class Head(NamedTuple):
    """A head before the camera."""

    landmarks_3d: Float[np.ndarray, "n 3"]  # mm, camera frame
    landmarks: Float[np.ndarray, "n 2"]  # px
    head_pose: Float[np.ndarray, "6"]


@functools.cache
def model() -> jaxface.Model:
    """`base`, with its weights as they are stored."""
    return jaxface.strip_model(jaxface.load_model("base"))


def camera() -> Camera:
    """Of a panel: a narrow one, in which heads are large."""
    lens = default_camera(height=SIDE, width=SIDE, fx=FOCAL, fy=FOCAL)
    return Camera(*(jnp.asarray(value, jnp.float32) for value in lens))


@functools.cache
def head(pitch: float = 0.0, yaw: float = 0.0, roll: float = 0.0) -> Head:
    """The mean face, turned by angles in degrees, in the middle of a panel."""
    shape = jnp.asarray(reported_pdm(model().clnf).mean_shape, jnp.float32)
    angles = jnp.radians(jnp.asarray([pitch, yaw, roll], jnp.float32))
    place = jnp.asarray([0.0, -10.0, DISTANCE], jnp.float32)
    turned = shape @ euler_to_matrix(angles).T + place[None]
    flat = project_pinhole(turned, camera())
    return Head(np.asarray(turned), np.asarray(flat), np.asarray(jnp.concatenate([place, angles])))


def turned_words(axis: int) -> str:
    """What a head does in the picture when an angle grows, by where its landmarks go."""
    before, after = head(), head(*(TURN if axis == i else 0.0 for i in range(3)))
    if TURNS[axis] == "roll":  # nothing goes anywhere but around the nose
        chin = (after.landmarks - before.landmarks)[_CHIN]
        return f"the head turns {'clockwise' if chin[0] < 0 else 'counterclockwise'}"
    nose, rest = (h.landmarks[_NOSE] - h.landmarks[_JAW].mean(axis=0) for h in (before, after))
    right, down = rest - nose
    if TURNS[axis] == "pitch":
        return f"the face turns {'down' if down > 0 else 'up'}"
    return f"the face turns to the {_side(right)}"


def _side(x: float) -> str:
    return "right of the picture" if x > 0 else "left of the picture"


class Sight(NamedTuple):
    """Eyes that look somewhere."""

    eye_landmarks_3d: Float[np.ndarray, "e 3"]  # mm, camera frame
    gaze: Float[np.ndarray, "2 3"]
    gaze_angle: Float[np.ndarray, "2"]  # rad


@functools.cache
def sight(right: float = 0.0, down: float = 0.0) -> Sight:
    """What the package measures on a frontal head whose irises are turned by degrees."""
    frontal, (a, b) = head(), np.radians([right, down])
    towards = np.array([np.tan(a), np.tan(b), -1.0])
    towards /= np.linalg.norm(towards)
    across = np.cross(towards, [0.0, 1.0, 0.0])
    across /= np.linalg.norm(across)
    ring = np.linspace(0, 2 * np.pi, _IRIS, endpoint=False)[:, None]
    circle = _RADIUS * (np.cos(ring) * across + np.sin(ring) * np.cross(across, towards))
    fits, shapes = [], []
    for left, last in ((36, 39), (42, 45)):
        middle = frontal.landmarks_3d[[left, last]].mean(axis=0)
        centre = middle + [0.0, -3.5, 7.0]  # where `estimate_gaze` takes the eyeball to be
        points = np.concatenate([centre + _EYEBALL * towards + circle, np.tile(middle, (20, 1))])
        depth = float(points[:, 2].mean())
        shape = jnp.asarray(points - [0.0, 0.0, depth], jnp.float32)
        parameters = PDMParameters(
            scale=jnp.asarray(camera().fx / depth, jnp.float32),
            rotation=jnp.zeros(3),
            translation=jnp.zeros(2),
            local=jnp.zeros(10),
        )
        flat = project_pinhole(jnp.asarray(points, jnp.float32), camera())
        fits.append(PartFit(parameters, flat))
        shapes.append(shape)
    eyes = estimate_gaze(
        (fits[0], fits[1]),
        (shapes[0], shapes[1]),
        jnp.asarray(frontal.landmarks_3d),
        jnp.asarray(frontal.head_pose),
        camera(),
    )
    return Sight(*map(np.asarray, (eyes.eye_landmarks_3d, eyes.gaze, eyes.gaze_angle)))


def sight_words(axis: int) -> str:
    """Where eyes look in the picture when an angle of gaze grows."""
    x, y, _ = sight(*(TURN if axis == i else 0.0 for i in range(2))).gaze.mean(axis=0)
    if SIGHTS[axis] == "down":
        return f"the eyes look {'down' if y > 0 else 'up'}"
    return f"the eyes look to the {_side(x)}"


# Drawings


def _canvas(height: int, width: int) -> Picture:
    return np.full((height, width, 3), _GROUND, np.uint8)


def _write(
    picture: Picture,
    text: str,
    place: tuple[float, float],
    size: float = 0.45,
    color: tuple[int, int, int] = _INK,
) -> None:
    x, y = map(round, place)
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA)


def _arrow(
    picture: Picture,
    start: Float[np.ndarray, "2"],
    end: Float[np.ndarray, "2"],
    name: str,
    color: tuple[int, int, int],
) -> None:
    first, last = (tuple(map(round, point.tolist())) for point in (start, end))
    if np.linalg.norm(end - start) > 3:
        cv2.arrowedLine(picture, first, last, color, 2, cv2.LINE_AA, tipLength=0.15)
    _write(picture, name, (last[0] + 6, last[1] + 4), 0.45, color)


def draw_turns() -> Picture:
    """Heads with their own axes: not turned, and turned by each angle."""
    panels = []
    for axis in (None, 0, 1, 2):
        angles = [TURN if axis == i else 0.0 for i in range(3)]
        here = head(*angles)
        panel = draw_pose(_canvas(SIDE, SIDE), here.head_pose, camera())
        panel = draw_landmarks(panel, here.landmarks)
        ends = np.vstack([np.zeros(3), _AXIS * np.eye(3)]).astype(np.float32)
        matrix = np.asarray(euler_to_matrix(jnp.asarray(here.head_pose[3:])))
        points = jnp.asarray(ends @ matrix.T + here.head_pose[None, :3])
        origin, *tips = np.asarray(project_pinhole(points, camera()))
        for tip, name, color in zip(tips, "xyz", _AXES, strict=True):
            _arrow(panel, origin, tip, name, color)
        title = "not turned" if axis is None else f"{TURNS[axis]} +{TURN:.0f} deg"
        _write(panel, title, (10, SIDE - 12))
        panels.append(panel)
    return np.concatenate(panels, axis=1)


def draw_sights() -> Picture:
    """Eyes that look into the camera, to the right and down."""
    panels = []
    for axis in (None, 0, 1):
        seen = sight(*(TURN if axis == i else 0.0 for i in range(2)))
        panel = draw_landmarks(_canvas(SIDE, SIDE), head().landmarks)
        panel = draw_gaze(panel, seen.eye_landmarks_3d, seen.gaze, camera())
        right, down = np.degrees(seen.gaze_angle)
        title = f"gaze_angle: x {round(right):+d}, y {round(down):+d} deg"
        _write(panel, title, (10, SIDE - 12))
        panels.append(panel)
    return np.concatenate(panels, axis=1)


def draw_pixels() -> Picture:
    """A picture of few pixels, much enlarged, with landmarks in it."""
    rows, columns = PIXELS
    checks = np.indices((rows, columns)).sum(axis=0) % 2
    picture = np.where(checks[..., None] > 0, 62, 44).astype(np.uint8).repeat(3, axis=2)
    large = picture.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
    edge = 70
    canvas = _canvas(rows * ZOOM + edge, columns * ZOOM + 2 * edge)
    dots = np.array(DOTS) * ZOOM + (ZOOM - 1) / 2  # as `enlarge` has it
    canvas[edge:, edge : edge + columns * ZOOM] = draw_landmarks(large, dots.astype(np.float32))
    for x, y in DOTS:
        at = round((x + 0.5) * ZOOM) + edge, round((y + 0.5) * ZOOM) + edge
        cv2.circle(canvas, at, 7, _INK, 1, cv2.LINE_AA)
        place = at[0] + 10, at[1] - 8
        _write(canvas, f"({x:g}, {y:g})", place, 0.42)
    corner = np.array([edge - 8, edge - 8])
    for name, step, color in (("x", [120, 0], _AXES[0]), ("y", [0, 120], _AXES[1])):
        _arrow(canvas, corner, corner + step, name, color)
    _write(canvas, "x to the right, y down; z is away from the camera", (edge, 24), 0.42)
    return canvas


def draw_numbers() -> Picture:
    """The numbers of the landmarks, and of those of both eyes."""
    shape = np.asarray(reported_pdm(model().clnf).mean_shape)[:, :2]
    face = _numbered(shape, 560, 620, 0)
    eyes = []
    for part, first in zip(model().clnf.parts, (0, 28), strict=True):
        points = np.asarray(part.model.pdm.mean_shape)[:, :2]
        panel = _numbered(points, 420, 310, first)
        _write(panel, f"{part.name}: eye_lmk {first} to {first + 27}", (10, 20), 0.42)
        eyes.append(panel)
    return np.concatenate([face, np.concatenate(eyes)], axis=1)


def _numbered(points: Float[np.ndarray, "n 2"], width: int, height: int, first: int) -> Picture:
    """Points with their numbers, each a little outward of the middle."""
    low, high = points.min(axis=0), points.max(axis=0)
    scale = min((width - 80) / (high - low)[0], (height - 80) / (high - low)[1])
    places = (points - (low + high) / 2) * scale + [width / 2, height / 2 + 6]
    panel = draw_landmarks(_canvas(height, width), places.astype(np.float32))
    for number, (x, y) in enumerate(places, first):
        _write(panel, str(number), (x + 4, y - 4), 0.33, _INK)
    return panel


def draw_units() -> Picture:
    """The talking head where each of its action units is strongest."""
    columns = read_columns(TRUTH)
    names = [n for n in columns if re.fullmatch(r"AU\d\d_r", n) and columns[n].max() > 0]
    strongest = {name: int(columns[name].argmax()) for name in names}
    frames = read_frames(read_video(CLIP), [*strongest.values()])
    panels = []
    for name, index in strongest.items():
        crop = np.ascontiguousarray(frames[index][56:476, 110:530])
        panel = cv2.resize(crop, (180, 180), interpolation=cv2.INTER_AREA)
        panel[:22] = panel[:22] // 3
        _write(panel, f"{name} {columns[name][index]:.1f}", (6, 16), 0.45)
        panels.append(panel)
    wide = _UNITS[1]
    panels += [_canvas(180, 180)] * (-len(panels) % wide)
    rows = [np.concatenate(panels[i : i + wide], axis=1) for i in range(0, len(panels), wide)]
    return np.concatenate(rows)


DRAWINGS = {
    "conventions_pose.png": draw_turns,
    "conventions_gaze.png": draw_sights,
    "conventions_pixels.png": draw_pixels,
    "conventions_landmarks.png": draw_numbers,
    "conventions_units.png": draw_units,
}


# Tables


def tables() -> dict[str, str]:
    """The tables of the page, by their marks in it."""
    signs = [
        (f"`pose_R{'xyz'[axis]}`", f"{name} of the head", turned_words(axis))
        for axis, name in enumerate(TURNS)
    ]
    signs += [
        (f"`gaze_angle_{'xy'[axis]}`", f"gaze, {name}", sight_words(axis))
        for axis, name in enumerate(("sideways", "up and down"))
    ]
    scheme = model().clnf.scheme
    regions = [
        (name, f"{min(points)} to {max(points)}", " ".join(str(scheme.mirror[p]) for p in points))
        for name, points in scheme.regions
    ]
    heads = model().analyser.video
    known = {True: "yes", False: "no"}
    every = jaxface.output.OPENFACE_UNITS
    units = [
        (
            f"`{name}`",
            *(known[name in some] for some in (every.intensity, every.presence)),
            *(known[name in part.names] for part in (heads.intensity, heads.presence)),
        )
        for name in sorted({*every.intensity, *every.presence})
    ]
    return {
        "signs": _table(("column", "what", "when it grows"), signs),
        "regions": _table(("region", "landmarks", "their mirror images"), regions),
        "units": _table(("unit", "`_r` in OpenFace", "`_c`", "`_r` in `base`", "`_c`"), units),
    }


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_tables(text: str) -> str:
    """The page with its tables as they are now."""
    for mark, table in tables().items():
        pattern = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = pattern.subn(lambda m, table=table: f"{m[1]}\n{table}\n\n{m[2]}", text)
        if count != 1:
            raise ValueError(f"{PAGE.name}: expected the mark {mark!r} once, got it {count} times")
    return text


def main() -> int:
    """Writes drawings and tables. Returns the exit status."""
    for name, draw in DRAWINGS.items():
        write_small(DATA / name, draw())
        print(f"{name}: {(DATA / name).stat().st_size / 1000:.0f} kB")
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
