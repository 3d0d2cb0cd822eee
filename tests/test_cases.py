"""Inputs as laboratories have them: what is right for each is in the README of the shared cases."""

import csv
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import jaxface
from jaxface import Analysis, Model, io
from jaxface.errors import InputError, InputWarning
from jaxface.io import InputKind

from .films import copy_film, write_film

_MS = 0.002  # s; times are written with three decimals
_25 = [i / 25 for i in range(60)]  # s


@pytest.fixture(scope="module")
def model() -> Model:
    return jaxface.load_model()


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """No warning about a file that is whole."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        yield


def _listed(folder: Path, name: str) -> list[float]:
    with open(folder / "timestamps.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [float(row["timestamp"]) for row in rows if row["file"] == name]


def _off(found: Analysis, expected: Analysis) -> float:
    """The largest mean distance of a row's landmarks, px."""
    distances = np.linalg.norm(found.landmarks - expected.landmarks, axis=-1)
    return float(distances.mean(axis=-1).max())


# Clocks


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vfr_gap.mp4", 40),
        ("browser_recording.webm", 60),
        ("browser_recording_with_duration.webm", 60),
    ],
)
def test_clocks(cases_dir, name, count):
    folder = cases_dir / "clocks"
    reader = io.read_video(folder / name)
    expected = _listed(folder, name)
    assert len(expected) == len(list(reader)) == reader.count == count
    found = [reader.timestamp(index) for index in range(count)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=_MS)
    assert any("the file's clock" in note for note in reader.notes)


# Films, analysed


@pytest.fixture(scope="module")
def small(model: Model, cases_dir: Path) -> Analysis:
    """The clip that others are compared with: frames 0 to 7, 25 a second."""
    return jaxface.analyze_video(model, cases_dir / "small.mp4")


def test_pixels_that_are_not_square(model, cases_dir):
    folder = cases_dir / "pixels"
    square, stored = (
        jaxface.analyze_video(model, folder / name)
        for name in ("square_pixels.mp4", "anamorphic.mp4")
    )
    assert square.success.all() and stored.success.all()
    assert len(square.landmarks) == len(stored.landmarks) == 16
    assert _off(stored, square) < 1.0  # px; 3 are right, 0.34 was measured
    turned = np.abs(stored.head_pose - square.head_pose)[:, 3:]
    assert turned.max() < 0.05  # rad; 0.12 is right, 0.011 was measured, 0.4 if stretched
    notes = io.read_video(folder / "anamorphic.mp4").notes
    assert notes == ("pixel aspect 1.333 resampled to square pixels",)


@pytest.mark.parametrize(
    ("name", "notes"), [("av1.mp4", ()), ("interlaced.mp4", ("deinterlaced",))]
)
def test_codecs(model, cases_dir, small, name, notes):
    path = cases_dir / "codecs" / name
    found = jaxface.analyze_video(model, path)
    assert len(found.landmarks) == len(small.landmarks) == 8
    assert found.success.all()
    assert _off(found, small) < 2.0  # px; 4 are right, 0.4 and 0.7 were measured
    np.testing.assert_allclose(found.timestamp, _25[:8], rtol=0, atol=1e-12)
    assert io.read_video(path).notes == notes


def test_sound_with_a_cover_picture(cases_dir):
    path = cases_dir / "codecs" / "song_with_cover.mp3"
    assert io.classify_input(path) is InputKind.VIDEO  # so that nobody takes it for a picture
    with pytest.raises(InputError, match="song_with_cover.mp3: .*sound and a cover picture, no v"):
        io.open_frames(path)


# Pictures


def _same(model: Model, path: Path, expected: Path, within: float) -> None:
    """Each face of a picture stands where one of another picture does, and the other way round."""
    found, wanted = (jaxface.analyze_image(model, p).landmarks for p in (path, expected))
    apart = np.linalg.norm(found[:, None] - wanted[None], axis=-1).mean(axis=-1)
    assert max(apart.min(axis=0).max(), apart.min(axis=1).max()) <= within


@pytest.mark.parametrize(
    ("name", "reference", "within"),
    [
        ("pictures/two_people.gif", "pictures/two_people.jpg", 1.0),  # px; 0.15
        ("pictures/two_people.jfif", "pictures/two_people.jpg", 0.0),
        ("pictures/one_person.avif", "folders/unpadded_names/1.jpg", 1.0),  # 0.07
        ("pictures/rotated_6.tif", "pictures/rotated_6_reference.png", 0.0),
    ],
)
def test_pictures(model, cases_dir, name, reference, within):
    if name.endswith("gif"):
        assert io.image_notes(cases_dir / name) == ()  # it has one picture
    assert io.classify_input(cases_dir / name) is InputKind.IMAGE
    _same(model, cases_dir / name, cases_dir / reference, within)


@pytest.mark.parametrize(
    ("name", "reference", "within"),
    [
        ("pictures/two_people.heic", "pictures/two_people.jpg", 1.0),  # px; 0.05
        # A second, false face lies upon the first.
        ("pictures/iphone_like_grid.heic", "pictures/iphone_like_grid_reference.jpg", 4.0),  # 2.1
        ("twins/live_photo/IMG_0001.HEIC", "folders/unpadded_names/1.jpg", 1.0),  # 0.3
    ],
)
def test_heic(model, cases_dir, name, reference, within):
    pytest.importorskip("pillow_heif", reason="pillow-heif is missing: install jaxface[heif]")
    assert io.classify_input(cases_dir / name) is InputKind.IMAGE
    _same(model, cases_dir / name, cases_dir / reference, within)


def test_motion_photo(cases_dir, tmp_path, capfd):
    path = cases_dir / "pictures" / "motion_photo.jpg"
    (tmp_path / "alone.jpg").write_bytes(path.read_bytes()[:9885])
    np.testing.assert_array_equal(io.read_image(path), io.read_image(tmp_path / "alone.jpg"))
    assert capfd.readouterr() == ("", "")
    (tmp_path / "less.jpg").write_bytes(path.read_bytes()[:9000])
    with pytest.warns(InputWarning, match="less.jpg: the file ends early"):
        io.read_image(tmp_path / "less.jpg")


# Folders


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("unpadded_names", [f"{n}.jpg" for n in range(1, 13)]),
        ("mixed_case", ["f1.JPG", "f2.jpg", "f3.JPG", "f4.jpg", "f5.JPG", "f6.jpg"]),
        ("hidden_file", [f"0{n}.jpg" for n in range(1, 7)]),
    ],
)
def test_folders(cases_dir, name, files):
    reader = io.read_sequence(cases_dir / "folders" / name)
    assert reader.names == tuple(files)
    assert sum(1 for _ in reader) == reader.count == len(files)
    assert reader.problems == []


@pytest.mark.parametrize("bad", [1, 3, 6])
def test_one_unreadable_picture(model, cases_dir, tmp_path, bad):
    """The third, and the same at the beginning and at the end."""
    given = cases_dir / "folders" / "hidden_file"
    for number in range(1, 7):
        data = (given / f"0{number}.jpg").read_bytes()
        (tmp_path / f"0{number}.jpg").write_bytes(b"" if number == bad else data)
    folder = cases_dir / "folders" / "one_unreadable" if bad == 3 else tmp_path
    with pytest.warns(InputWarning, match=f"0{bad}.jpg: expected an image, got an empty file"):
        found = jaxface.analyze_video(model, folder)
    assert found.success.tolist() == [number != bad for number in range(1, 7)]
    for column in (found.landmarks, found.confidence, found.head_pose, found.au_intensity):
        assert np.isfinite(column).all()


@pytest.mark.parametrize("open_it", [io.open_frames, io.read_sequence])
def test_folder_of_clips(cases_dir, open_it: Callable):
    folder = cases_dir / "twins" / "subjects" / "s01"
    with pytest.raises(InputError, match="s01: .*a folder of videos .1, the first is video.mp4."):
        open_it(folder)
    assert [path.name for path in io.folder_contents(folder).videos] == ["video.mp4"]


def test_live_photo_is_a_picture_and_a_film(cases_dir):
    contents = io.folder_contents(cases_dir / "twins" / "live_photo")
    assert [path.name for path in contents.images] == ["IMG_0001.HEIC"]
    assert [path.name for path in contents.videos] == ["IMG_0001.MOV"]
    assert len(list(io.open_frames(contents.videos[0]))) == 8


# Behaviour


def test_a_rate_for_a_folder(cases_dir):
    reader = io.read_sequence(cases_dir / "folders" / "unpadded_names", fps=25.0)
    found = [reader.timestamp(index) for index in range(12)]
    np.testing.assert_allclose(found, _25[:12], rtol=0, atol=1e-12)


def test_cut_short_film(tmp_path):
    """Its index stands in front, and it has several pictures to begin from."""
    path = write_film(tmp_path / "a.mp4", frames=40, options={"g": "5"}, size=(240, 320))
    copy_film(path, tmp_path / "b.mp4", container={"movflags": "faststart"})
    whole, data = list(io.read_video(path)), (tmp_path / "b.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(data[: 6 * len(data) // 10])
    reader = io.read_video(tmp_path / "b.mp4")
    with pytest.warns(InputWarning, match="b.mp4: the file ends early: only .* of 40 frames"):
        found = list(reader)
    assert 5 < len(found) < 40
    for index, frame in enumerate(found):
        place = round(25 * reader.timestamp(index))
        np.testing.assert_array_equal(frame, whole[place])


@pytest.mark.untyped
@pytest.mark.parametrize("camera", [0, 0.5, None])
def test_a_cameras_number_is_refused(model, camera):
    with pytest.raises(ValueError, match=f"video: expected a file, .* got {camera}; cameras are"):
        jaxface.analyze_video(model, camera)
