"""What notebooks show of a result: figures, frames with what was found, and the HTML of all."""

import dataclasses
import html.parser
import re
import subprocess
import sys
from typing import Any

import cv2
import jax
import numpy as np
import pytest

import jaxface
from jaxface import Analysis
from jaxface.output import ColumnChoice, UnitNames, choose_columns, write_picture
from jaxface.run import FaceBatch, Origin, collect_clip, draw_frames, open_clip

from .head_clip import CLIP, read_frames, read_truth
from .test_results import _analysis

_FEW = UnitNames(("AU06", "AU12"), ("AU12", "AU28"))
_MARKUP = "<img src=x onerror=alert(1)>&'\""


def _talking_head(count: int = 250) -> Analysis:
    """The truth of the talking head, as if it had been found."""
    truth, rows = read_truth(), _analysis("video", count, units=_FEW)
    pose = np.zeros((count, 6), np.float32)
    pose[:, 2], pose[:, 3:] = 350, truth.rotation[:count]
    return dataclasses.replace(
        rows,
        success=np.ones(count, bool),
        landmarks=truth.landmarks[:count].astype(np.float32),
        head_pose=pose,
        gaze=truth.gaze[:count].astype(np.float32),
        origin=Origin(CLIP),
    )


# Where rows come from


def test_a_file_is_known_by_its_rows(tmp_path, monkeypatch):
    """The path stays right where the notebook changes its folder; no result file holds it."""
    monkeypatch.chdir(CLIP.parent)
    clip = open_clip(jaxface.load_model(), CLIP.name)
    rows = _talking_head(2)
    batch = FaceBatch(rows.table(), rows.success)
    monkeypatch.setattr("jaxface.run._clip.second_pass", lambda *_: None)
    found = collect_clip(clip, [batch])
    monkeypatch.chdir(tmp_path)
    assert found.origin.path == str(CLIP)
    shown, expected = (np.asarray(some.show(2)) for some in (found, rows))
    np.testing.assert_array_equal(shown[:, :640], expected[:, :640])  # other units beside it
    named = dataclasses.replace(found, units=_FEW)
    again = jaxface.read_results(jaxface.write_npz(tmp_path / "a.npz", named))
    assert again.origin.path is None
    assert str(CLIP.parent).encode() not in (tmp_path / "a.npz").read_bytes()


def test_rows_of_different_files_can_be_joined():
    one = _talking_head(3)
    two = dataclasses.replace(one, origin=Origin("other.mp4"))
    joined = jax.tree.map(lambda *rows: np.concatenate(rows), one, two)
    assert len(joined) == 6 and one.origin == two.origin and hash(one.origin) == hash(two.origin)


# Frames


def test_a_frame_is_drawn_as_in_the_video():
    rows = _talking_head()
    still = rows.show(62)
    frame = read_frames(1, 61)[0]
    moved = dataclasses.replace(rows[61], frame=np.array([1]))
    (expected,) = draw_frames([frame], moved.table(), units=_FEW)
    np.testing.assert_array_equal(still.pixels, expected)
    assert still.shape == expected.shape[:2] and repr(still).startswith("<Still: ")
    shown = cv2.imdecode(np.frombuffer(still._repr_jpeg_(), np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert np.abs(shown[..., ::-1].astype(int) - expected).mean() < 4  # lossy


def test_a_frame_of_what_is_given(tmp_path):
    """Files, arrays, generators; other cameras; where the analysis does not know its source."""
    rows = _talking_head(6)
    unknown = dataclasses.replace(rows, origin=Origin())
    expected = rows.show(5).pixels
    frames = read_frames(6)
    for source in (CLIP, str(CLIP), list(frames), iter(frames)):
        np.testing.assert_array_equal(unknown.show(5, source=source).pixels, expected)
    assert rows.show(5).save(tmp_path / "a.png").stat().st_size > 10_000
    np.testing.assert_array_equal(jaxface.read_image(tmp_path / "a.png"), expected)
    camera = jaxface.default_camera(height=480, width=640, fx=900.0, fy=900.0)
    other = unknown.show(5, source=CLIP, camera=camera).pixels
    remembered = dataclasses.replace(rows, origin=Origin(CLIP, camera)).show(5).pixels
    np.testing.assert_array_equal(other, remembered)
    assert (other != expected).any()


def test_a_frame_without_rows_is_shown_as_it_is():
    rows = _talking_head(3)
    plain = dataclasses.replace(rows, units=UnitNames((), ())).show(9)
    np.testing.assert_array_equal(plain.pixels, read_frames(1, 8)[0])


def test_faces_of_an_image(tmp_path):
    picture = read_frames(1, 20)[0]
    path = write_picture(tmp_path / "a.png", picture)
    rows = _talking_head()[[20, 20]]
    image = dataclasses.replace(
        rows, kind="image", frame=np.ones(2, int), face_id=np.arange(2), origin=Origin(path)
    )
    (expected,) = draw_frames([picture], image.table(), units=_FEW)
    np.testing.assert_array_equal(image.show().pixels, expected)
    np.testing.assert_array_equal(image.show(source=picture).pixels, expected)
    with pytest.raises(ValueError, match="frame: expected 1, as an image has one, got 2"):
        image.show(2)
    assert image._repr_html_().count("data:image/jpeg") == 1
    assert "<svg" not in image._repr_html_()


@pytest.mark.untyped
def test_what_cannot_be_shown_says_why(tmp_path):
    rows = _talking_head(3)
    unknown = dataclasses.replace(rows, origin=Origin())
    with pytest.raises(ValueError, match="source: expected the clip or image, as this analysis is"):
        unknown.show(1)
    for wrong in (0, -1, True):
        with pytest.raises(ValueError, match="frame: expected a number from 1 on"):
            rows.show(wrong)
    with pytest.raises(jaxface.InputError, match="a frame 251, got none"):
        rows.show(251)
    with pytest.raises(ValueError, match="expected at least 9 frames, got fewer"):
        unknown.show(9, source=read_frames(4))
    with pytest.raises(jaxface.InputError):
        dataclasses.replace(rows, origin=Origin(tmp_path / "gone.mp4")).show(1)


# HTML


class _Tags(html.parser.HTMLParser):
    """Tags and attributes, each of which is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("img", "rect", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("rect", "path"):
            assert self.open.pop() == tag


def test_html_shows_pictures_curves_and_rows():
    text = _talking_head()._repr_html_()
    found = _Tags(text)
    assert found.tags.count("img") == 6 and found.tags.count("svg") == 4 + 2
    assert "21: 0.80 s" in text and "and 245 more" in text
    assert len(text) < 200_000
    assert "script" not in found.tags
    links = [value for name, value in found.attributes if name in ("src", "href")]
    assert all(link is not None and link.startswith("data:image/jpeg;base64,") for link in links)


def test_html_of_long_clips_stays_small():
    count = 60_000
    rows = _analysis("video", 100, units=_FEW)[np.arange(count) % 100]
    rows = dataclasses.replace(
        rows, frame=np.arange(1, count + 1), timestamp=0.04 * np.arange(count)
    )
    text = rows._repr_html_()  # every second row is without a face
    assert len(text) < 200_000 and text.count("<svg") == 6
    _Tags(text)


def test_no_peak_is_lost_between_the_points_of_a_curve():
    count = 5000
    rows = _analysis("video", 1, units=_FEW)[np.zeros(count, int)]
    intensity = np.zeros((count, 2), np.float32)
    intensity[3333, 0] = 5
    rows = dataclasses.replace(
        rows,
        au_intensity=intensity,
        timestamp=0.04 * np.arange(count),
        frame=np.arange(count),
        success=np.ones(count, bool),
    )
    drawn = rows._repr_html_().split("AU06</th>")[1].split("</svg>")[0]
    heights = [float(y) for y in re.findall(r",(-?[\d.]+)", drawn.split('d="')[1])]
    assert min(heights) == 2 and max(heights) == 24  # the whole height of the curve


def test_html_without_the_clip_says_so(tmp_path):
    gone = dataclasses.replace(_talking_head(), origin=Origin(tmp_path / _MARKUP))
    text = gone._repr_html_()
    found = _Tags(text)
    assert "img" not in found.tags and found.tags.count("svg") == 6
    assert "no pictures: " in text and "nothing there" in text
    assert "<img" not in text and "&lt;img" in text


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_html_of_any_values(value):
    rows = _talking_head(10)
    spoilt = {
        name: np.full_like(getattr(rows, name), value)
        for name in ("landmarks", "head_pose", "gaze", "gaze_angle", "au_intensity", "confidence")
    }
    _Tags(dataclasses.replace(rows, **spoilt)._repr_html_())
    bare = choose_columns(rows, ColumnChoice(False, False, False, False, False, False))
    none = dataclasses.replace(rows, success=np.zeros(10, bool))
    named = dataclasses.replace(rows, units=UnitNames((_MARKUP, "AU12"), _FEW.presence))
    for some in (bare, none, rows[:0], rows[:1], named):
        _Tags(some._repr_html_())
    assert "<img src=x" not in named._repr_html_()


# Figures


def _axes(figure: Any) -> dict[str, Any]:
    return {axes.get_title(loc="left"): axes for axes in figure.axes}


def test_a_figure_shows_every_value():
    rows = _talking_head(50)
    lost = np.arange(50) // 10 == 2
    rows = dataclasses.replace(rows, success=~lost)
    axes = _axes(rows.plot())
    pitch, yaw, roll = axes["head [deg]"].get_lines()
    expected = np.where(lost, np.nan, np.degrees(rows.head_pose[:, 4].astype(float)))
    np.testing.assert_allclose(yaw.get_ydata(), expected)
    np.testing.assert_array_equal(yaw.get_xdata(), rows.timestamp)
    assert [line.get_label() for line in (pitch, yaw, roll)] == ["pitch", "yaw", "roll"]
    (mesh,) = axes["action units"].collections
    shown = np.ma.filled(mesh.get_array().astype(float), np.nan)
    np.testing.assert_allclose(shown, np.where(lost, np.nan, rows.au_intensity.T))
    assert [t.get_text() for t in axes["action units"].get_yticklabels()] == ["AU06", "AU12"]
    (grey,) = axes["head [mm]"].patches
    assert grey.get_x() == pytest.approx((rows.timestamp[19] + rows.timestamp[20]) / 2)


def test_a_figure_of_one_of_several_faces():
    rows = _analysis("multi_face", 9, units=_FEW)
    figure: Any = rows.plot(face=1)
    np.testing.assert_array_equal(
        _axes(figure)["confidence"].get_lines()[0].get_ydata(), rows.confidence[1::2]
    )
    assert figure._suptitle.get_text() == "clip of several faces, face 1"
    # By default the face that was found most.
    first = _axes(rows.plot())["confidence"].get_lines()[0]
    np.testing.assert_array_equal(first.get_ydata(), rows.confidence[::2])
    assert cv2.imdecode(np.frombuffer(figure._repr_png_(), np.uint8), cv2.IMREAD_COLOR) is not None
    with pytest.raises(ValueError, match=r"face: expected the face_id of a row \(0, 1\), got 7"):
        rows.plot(face=7)


def test_figures_of_images_and_of_few_columns(tmp_path):
    image = _analysis("image", 3, units=_FEW)
    axes = _axes(image.plot())["confidence"]
    np.testing.assert_array_equal(axes.get_lines()[0].get_xdata(), [0, 1, 2])
    assert axes.get_xlabel() == "face"
    bare = choose_columns(
        _analysis("video", 1, units=_FEW), ColumnChoice(False, False, False, False, False, False)
    )
    assert [*_axes(bare.plot())] == ["confidence"]
    timeless = dataclasses.replace(_analysis("video", 4), timestamp=np.zeros(4))
    figure = timeless.plot()
    assert figure.axes[-2].get_xlabel() == "frame" or figure.axes[-1].get_xlabel() == "frame"
    figure.savefig(tmp_path / "a.svg")
    with pytest.raises(ValueError, match="plot: expected rows"):
        image[:0].plot()
    with pytest.raises(ValueError, match="face: expected None, as an image"):
        image.plot(face=0)


def test_matplotlib_is_loaded_when_it_is_asked_for(tmp_path):
    """And named where it is missing."""
    path = jaxface.write_npz(tmp_path / "a.npz", _talking_head(3))
    code = f"""
import sys
import jaxface
rows = jaxface.read_results({str(path)!r})
rows._repr_html_()
print(*{{"matplotlib", "bokeh"}} & {{*sys.modules}})
sys.modules["matplotlib"] = None
rows.plot()
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.split() == [] and run.returncode == 1
    assert run.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: plot needs matplotlib: run pip install 'jaxface[plot]'"
    )


def test_a_report_shows_the_file_that_was_analysed(tmp_path):
    pytest.importorskip("bokeh", reason="pip install 'jaxface[report]'")
    rows = _talking_head(30)
    page = rows.report(tmp_path / "a.html").read_text()
    given = dataclasses.replace(rows, origin=Origin()).report(tmp_path / "b.html", source=CLIP)
    gone = dataclasses.replace(rows, origin=Origin(tmp_path / "gone.mp4"))
    films = [
        re.findall(r"data:video/mp4;base64,([A-Za-z0-9+/=]+)", text)
        for text in (page, given.read_text(), gone.report(tmp_path / "c.html").read_text())
    ]
    assert films[0] == films[1] and len(films[0]) == 1 and films[2] == []
    assert "talking_head" in page
