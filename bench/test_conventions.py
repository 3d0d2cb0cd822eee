"""The page of conventions says and shows what the code does."""

import numpy as np
import pytest

from jaxface.io import read_image

from .conventions import (
    DATA,
    DRAWINGS,
    PAGE,
    SIDE,
    TURN,
    TURNS,
    head,
    sight,
    tables,
    with_tables,
)
from .overlay_strip import CLIP
from .talking_head import TRUTH, read_columns
from .test_overlay_strip import _dots

_NEAR = 2.0  # px; a dot has a radius of 1.1, and its green is searched for with a margin
_NOSE, _CHIN, _JAW = 30, 8, range(17)
_WORDS = {  # of a growing angle: its landmark, the axis, its sign and the words
    "pitch": (1, "the face turns down", "the face turns up"),
    "yaw": (
        0,
        "the face turns to the right of the picture",
        "the face turns to the left of the picture",
    ),
    "roll": (0, "the head turns counterclockwise", "the head turns clockwise"),
}


def _said(column: str) -> str:
    """What the page says of a column."""
    (line,) = (
        line for line in PAGE.read_text("utf-8").splitlines() if line.startswith(f"| `{column}` |")
    )
    return line.strip("| ").split(" | ")[-1]


def test_the_tables_are_those_of_the_code():
    text = PAGE.read_text(encoding="utf-8")
    assert with_tables(text) == text
    assert len(tables()) == 3 and all(f"bench/data/{name}" in text for name in DRAWINGS)
    with pytest.raises(ValueError, match="expected the mark 'signs' once, got it 0 times"):
        with_tables(text.replace("<!-- signs -->", ""))


@pytest.mark.parametrize("axis", range(3))
def test_signs_of_the_head_are_those_of_the_clip_that_others_drew(axis):
    """The talking head was rendered from meshes, not by what draws the page."""
    columns = read_columns(TRUTH)
    angles = columns[f"pose_R{'xyz'[axis]}"]
    points = np.stack([[columns[f"{c}_{i}"] for i in range(68)] for c in "xy"], axis=-1)
    moves = points[_NOSE] - points[_JAW].mean(axis=0)
    if TURNS[axis] == "roll":  # the chin, from the middle of the eyes
        moves = points[_CHIN] - points[36:48].mean(axis=0)
    along, grows, falls = _WORDS[TURNS[axis]]
    most, least = int(angles.argmax()), int(angles.argmin())
    assert angles[most] > 0.15 and angles[least] < -0.15  # rad
    step = moves[most, along] - moves[least, along]
    assert abs(step) > 5  # px
    assert _said(f"pose_R{'xyz'[axis]}") == (grows if step > 0 else falls)
    here = [head(*(sign * TURN if axis == i else 0.0 for i in range(3))) for sign in (1, -1)]
    assert here[0].head_pose[3 + axis] == pytest.approx(np.radians(TURN))


def test_signs_of_gaze_are_those_of_the_vectors():
    assert _said("gaze_angle_x") == "the eyes look to the right of the picture"
    assert _said("gaze_angle_y") == "the eyes look down"
    for angles in ((0, 0), (TURN, 0), (0, TURN), (-TURN, TURN)):
        seen = sight(*map(float, angles))
        # Half a degree: the line of sight meets the eyeball before the plane of the iris.
        assert np.degrees(seen.gaze_angle) == pytest.approx(angles, abs=0.5)
        x, y, z = seen.gaze.mean(axis=0)
        assert np.degrees([np.arctan2(x, -z), np.arctan2(y, -z)]) == pytest.approx(
            np.degrees(seen.gaze_angle), abs=0.1
        )


@pytest.mark.parametrize("panel", range(4))
def test_heads_are_drawn_where_the_code_has_them(panel):
    picture = read_image(DATA / "conventions_pose.png")
    assert picture.shape == (SIDE, 4 * SIDE, 3)
    dots = _dots(picture[:, panel * SIDE : (panel + 1) * SIDE])
    turned, other = (
        head(*(sign * TURN if panel == i + 1 else 0.0 for i in range(3))).landmarks
        for sign in (1, -1)
    )
    assert _share(turned, dots) > 0.75  # arrows and boxes cover some
    if panel:
        assert _share(other, dots) < 0.6


def _share(points: np.ndarray, dots: np.ndarray) -> float:
    apart = np.linalg.norm(points[:, None] - dots[None], axis=-1)
    return float((apart.min(axis=1) < _NEAR).mean())


@pytest.mark.parametrize(("panel", "step"), [(1, (1, 0)), (2, (0, 1))])
def test_rays_go_where_the_page_says(panel, step):
    picture = read_image(DATA / "conventions_gaze.png")[:, panel * SIDE : (panel + 1) * SIDE]
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    y, x = np.nonzero((red > 180) & (green < 120) & (blue < 140))
    irises = head().landmarks[36:48].reshape(2, 6, 2).mean(axis=1)
    rays = np.stack([x, y], axis=1)
    nearest = np.linalg.norm(rays[:, None] - irises[None], axis=-1).argmin(axis=1)
    for eye in range(2):
        middle = rays[nearest == eye].mean(axis=0) - irises[eye]
        across = np.dot(middle, step[::-1])
        assert np.dot(middle, step) > 5 and abs(across) < 0.6 * np.dot(middle, step)


def test_drawings_are_small_and_their_clip_is_there():
    assert CLIP.is_file()
    assert sum((DATA / name).stat().st_size for name in DRAWINGS) < 400_000
