"""Clips with their results drawn over every frame, as videos."""

import dataclasses
import resource

import av
import cv2
import numpy as np
import pytest

import jaxface
from jaxface import Analysis, OutputError
from jaxface.output import OPENFACE_UNITS, FilmWriter, UnitNames, draw_units, join_tables
from jaxface.run import draw_frames

from .stand_in import make_row

_FEW = UnitNames(("AU06", "AU12"), ("AU12", "AU28"))


def _picture(height: int = 240, width: int = 320) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 200, (6, 8, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def _rows(frames: list[int], times: list[float], units: UnitNames = _FEW) -> Analysis:
    rows = join_tables(make_row(f, 0, t, 1.0) for f, t in zip(frames, times, strict=True))
    count = len(rows)
    landmarks = np.tile(np.linspace([100, 60], [200, 160], 68, dtype=np.float32), (count, 1, 1))
    head_pose = np.tile(np.array([0, 0, 600, 0, 0, 0], np.float32), (count, 1))
    table = dataclasses.replace(
        rows,
        landmarks=landmarks,
        head_pose=head_pose,
        au_intensity=np.full((count, len(units.intensity)), 2.5, np.float32),
        au_presence=np.ones((count, len(units.presence)), np.float32),
    )
    columns = {f.name: getattr(table, f.name) for f in dataclasses.fields(table)}
    return Analysis(**columns, kind="video", units=units)


def _decode(path) -> tuple[list[np.ndarray], list[float], str]:
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context.name
        frames = list(container.decode(video=0))
    times = [frame.time for frame in frames if frame.time is not None]
    return [frame.to_ndarray(format="rgb24") for frame in frames], times, codec


# The bars


def _bars(panel: np.ndarray) -> list[int]:
    """Lengths of the green runs, from top to bottom."""
    green = (panel[..., 1].astype(int) - panel[..., 0] > 60).sum(axis=1)
    starts = np.flatnonzero(np.diff((green > 3).astype(int), prepend=0) == 1)
    return [int(green[start + 1]) for start in starts]


def test_bars_are_as_long_as_the_intensities():
    image, row = _picture(480, 640), _rows([1], [0.0])
    row = dataclasses.replace(row, au_intensity=np.array([[5.0, 1.25]], np.float32))
    drawn = draw_units(image, row, _FEW)
    np.testing.assert_array_equal(drawn[:, :640], image)
    whole, quarter = _bars(drawn[:, 640:])
    assert quarter == pytest.approx(whole / 4, abs=1) and whole > 60


def test_bars_are_empty_without_a_face():
    image, row = _picture(), _rows([1], [0.0])
    failed = dataclasses.replace(row, success=np.array([False]))
    empty = draw_units(image, row[:0], _FEW)
    np.testing.assert_array_equal(draw_units(image, failed, _FEW), empty)
    assert _bars(empty[:, 320:]) == []


def test_names_of_present_units_are_white():
    image, row = _picture(), _rows([1], [0.0])
    absent = dataclasses.replace(row, au_presence=np.zeros((1, 2), np.float32))
    bright = [
        int((draw_units(image, r, _FEW)[:, 320:380] > 240).all(-1).sum()) for r in (row, absent)
    ]
    assert bright[0] > 20 and bright[1] == 0


@pytest.mark.parametrize("height", [240, 480, 1080])
def test_every_unit_has_a_row_that_can_be_read(height):
    row = _rows([1], [0.0], OPENFACE_UNITS)
    drawn = draw_units(_picture(height, 320), row, OPENFACE_UNITS)
    assert drawn.shape[0] == height and drawn.shape[1] % 2 == 0
    assert len(_bars(drawn[:, 320:])) == 17


# The video


def test_a_clip_is_shown_at_its_own_times(tmp_path):
    times = [0.0, 0.04, 0.2, 0.24]
    frames = [_picture()] * 4
    path = jaxface.write_tracked(tmp_path / "t.mp4", frames, _rows([1, 2, 3, 4], times))
    pictures, shown, codec = _decode(path)
    assert codec == "h264" and shown == pytest.approx(times, abs=1e-4)
    expected = list(draw_frames(frames, _rows([1], [0.0]).table(), units=_FEW))[0]
    assert pictures[0].shape == expected.shape
    # Lossy, with chroma at half the resolution.
    assert np.abs(pictures[0].astype(int) - expected).mean() < 4
    assert [p.name for p in tmp_path.iterdir()] == ["t.mp4"]


def test_frames_without_rows_are_shown_as_they_are():
    frames = [_picture()] * 5
    drawn = list(draw_frames(frames, _rows([2, 4], [0.1, 0.3]).table(), units=None))
    plain = [np.array_equal(picture, frames[0]) for picture in drawn]
    assert plain == [True, False, True, False, True]


def test_times_without_rows_go_on_at_the_usual_pace(tmp_path):
    analysis = _rows([2, 3, 4], [0.1, 0.2, 0.3])
    path = jaxface.write_tracked(tmp_path / "t.mp4", [_picture()] * 6, analysis)
    assert _decode(path)[1] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], abs=1e-4)


def test_rows_without_times_are_thirty_a_second(tmp_path):
    analysis = _rows([1, 2, 3], [0.0, 0.0, 0.0])
    path = jaxface.write_tracked(tmp_path / "t.mp4", [_picture()] * 3, analysis)
    assert _decode(path)[1] == pytest.approx([0, 1 / 30, 2 / 30], abs=1e-4)


def test_small_pictures_are_enlarged_with_what_is_drawn(tmp_path):
    small = cv2.resize(_picture(), (80, 60), interpolation=cv2.INTER_AREA)
    analysis = _rows([1], [0.0])
    landmarks = analysis.landmarks / 4 - 0.375  # the same places in a picture a quarter as large
    found = next(
        draw_frames(
            [small],
            dataclasses.replace(analysis, landmarks=landmarks).table(),
            units=None,
            camera=jaxface.default_camera(height=60, width=80),
        )
    )
    large = cv2.resize(small, (320, 240), interpolation=cv2.INTER_LINEAR)
    camera = jaxface.default_camera(height=60, width=80)
    wider = 4 * np.array([*camera], np.float32) + np.array([0, 0, 1.5, 1.5], np.float32)
    lens = jaxface.Camera(*map(np.asarray, wider))
    expected = next(draw_frames([large], analysis.table(), units=None, camera=lens))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("height", "width"), [(241, 319), (240, 321)])
def test_odd_sizes_lose_nothing(tmp_path, height, width):
    with FilmWriter(tmp_path / "t.mp4") as film:
        film.write(_picture(height, width), 0.0)
        film.finish()
    (picture,), _, _ = _decode(tmp_path / "t.mp4")
    assert picture.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(picture[:height, :width].astype(int) - _picture(height, width)).mean() < 4


def test_pictures_of_another_size_are_fitted_in(tmp_path):
    with FilmWriter(tmp_path / "t.mp4") as film:
        film.write(_picture(), 0.0)
        film.write(np.full((480, 320, 3), 200, np.uint8), 0.1)
        film.finish()
    _, second = _decode(tmp_path / "t.mp4")[0]
    assert second[:, :155].mean() > 190 and second[:, 165:].mean() < 10


def test_an_avi_has_openfaces_codec_and_rate(tmp_path):
    with FilmWriter(tmp_path / "t.avi", fps=25) as film:
        for index in range(5):
            film.write(_picture(), 0.9 * index)  # a constant rate: times do not count
        film.finish()
    pictures, times, codec = _decode(tmp_path / "t.avi")
    assert (codec, len(pictures)) == ("mpeg4", 5)
    assert np.diff(times) == pytest.approx([0.04] * 4)


def test_times_that_go_back_are_mended(tmp_path):
    with FilmWriter(tmp_path / "t.mp4") as film:
        for time in (0.5, 0.4, float("nan"), 0.6, 1.0):
            film.write(_picture(), time)
        film.finish()
    shown = _decode(tmp_path / "t.mp4")[1]
    assert np.all(np.diff(shown) > 0) and shown[-1] - shown[0] == pytest.approx(0.5, abs=1e-3)


# What goes wrong


def test_an_interrupted_video_leaves_what_was_there(tmp_path):
    (tmp_path / "t.mp4").write_bytes(b"before")

    def frames():
        yield _picture()
        raise RuntimeError("the camera is gone")

    with pytest.raises(RuntimeError, match="camera"):
        jaxface.write_tracked(tmp_path / "t.mp4", frames(), _rows([1], [0.0]))
    assert (tmp_path / "t.mp4").read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["t.mp4"]


def test_a_clip_without_frames_is_refused(tmp_path):
    with pytest.raises(ValueError, match="video: expected at least one frame"):
        jaxface.write_tracked(tmp_path / "t.mp4", [], _rows([1], [0.0]))
    assert [*tmp_path.iterdir()] == []


def test_a_disk_that_is_full_is_named(tmp_path):
    _, most = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, most))
    try:
        with pytest.raises(OutputError, match="t.mp4.*too large"):
            jaxface.write_tracked(tmp_path / "t.mp4", [_picture()] * 3, _rows([1], [0.0]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [*tmp_path.iterdir()] == []


def test_a_video_of_no_frame_is_refused(tmp_path):
    with (
        pytest.raises(OutputError, match="t.mp4.*no frame"),
        FilmWriter(tmp_path / "t.mp4") as film,
    ):
        film.finish()
    assert [*tmp_path.iterdir()] == []
