"""What the public functions and the real command line make of good and of bad input."""

import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import jaxface
from jaxface import Analysis, Model
from jaxface.cli import main
from jaxface.output import column_names

SIZE = (480, 640)  # px; one canvas for all, so that every program compiles once


def _frame(level: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.full((*size, 3), level, np.uint8)


def _noise(size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def _assert_finite(analysis: Analysis) -> None:
    table = analysis.to_dataframe()
    assert list(table.columns) == column_names(analysis.kind)
    assert np.isfinite(table.to_numpy()).all()


@pytest.fixture(scope="module")
def cache_dir(model_dir: Path, tmp_path_factory) -> Path:
    """A user's cache folder with OpenFace's models in it."""
    path = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXFACE_CACHE_DIR", str(path))
        assert main(["models", "import", str(model_dir)]) == 0
    return path


@pytest.fixture(scope="module")
def model(cache_dir: Path) -> Model:
    return jaxface.load_model(cache_dir / "models" / "openface.safetensors")


# Public names


@pytest.mark.parametrize("name", jaxface.__all__)
def test_public_names_are_documented(name):
    thing = getattr(jaxface, name)
    assert thing.__name__ == name
    assert name in dir(jaxface)
    # Dataclasses without a docstring get their signature as one.
    assert inspect.getdoc(thing) and not thing.__doc__.startswith(f"{name}(")


def test_unknown_name():
    with pytest.raises(AttributeError, match="module 'jaxface' has no attribute 'analyse'"):
        jaxface.analyse  # noqa: B018  # pyright: ignore


# Images and frames that cannot be analysed


def _with_nan() -> np.ndarray:
    image = _frame().astype(np.float32)
    image[3, 4, 1] = np.nan
    return image


WRONG = {
    "nan": (_with_nan(), "expected finite values from 0 to 255, got NaN or infinity"),
    "uint16": (_frame().astype(np.uint16), r"expected 8-bit values, got uint16: divide by 256"),
    "grey": (_frame()[..., 0], r"\(h, w, 3\), got shape \(480, 640\): stack a grey image"),
    "rgba": (np.zeros((*SIZE, 4), np.uint8), r"got shape \(480, 640, 4\).*drop an alpha channel"),
    "batch": (_frame()[None], r"expected an RGB image of shape \(h, w, 3\), got shape \(1, 480"),
    "no rows": (_frame(size=(0, 640)), r"expected an RGB image .*, got shape \(0, 640, 3\)"),
    "negative": (_frame() - np.float32(1), "expected values from 0 to 255, got -1 to -1"),
    "too bright": (_frame() + np.float32(256), "expected values from 0 to 255, got 256 to 256"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_image(model, kind):
    image, message = WRONG[kind]
    with pytest.raises(ValueError, match=f"^image: .*{message}"):
        jaxface.analyze_image(model, image)


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_frame(model, kind):
    frame, message = WRONG[kind]
    with pytest.raises(ValueError, match=f"^frame 2: .*{message}"):
        jaxface.analyze_video(model, iter([_frame(), _frame(), frame]))


def test_many_images_are_as_each_by_itself(model, samples_dir, tmp_path):
    """A file that is missing or no image costs nobody else's result."""
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    good = [samples_dir / "sample1.jpg", samples_dir / "sample3.jpg"]
    images = [good[0], tmp_path / "gone.jpg", broken, _frame(), good[1], _frame()[..., 0]]
    found = jaxface.analyze_images(model, images, workers=2)
    assert [type(f).__name__ for f in found] == [
        *("Analysis", "InputError", "InputError", "Analysis", "Analysis", "ValueError")
    ]
    assert "gone.jpg" in str(found[1]) and "broken.jpg" in str(found[2])
    for index, path in ((0, good[0]), (4, good[1])):
        alone, together = jaxface.analyze_image(model, path), found[index]
        assert isinstance(together, Analysis)
        np.testing.assert_array_equal(together.landmarks, alone.landmarks)
        np.testing.assert_array_equal(together.au_intensity, alone.au_intensity)
    assert isinstance(found[3], Analysis) and len(found[3].frame) == 0
    assert jaxface.analyze_images(model, []) == []
    with pytest.raises(ValueError, match="^workers: expected at least 1, got 0"):
        jaxface.analyze_images(model, images, workers=0)


def test_no_frame(model):
    with pytest.raises(ValueError, match="^video: expected at least one frame, got none"):
        jaxface.analyze_video(model, iter([]))


@pytest.mark.untyped
@pytest.mark.parametrize("faces", ("two", "", None, 1))
def test_wrong_number_of_faces(model, faces):
    with pytest.raises(ValueError, match='^faces must be "one" or "all", got '):
        jaxface.analyze_video(model, [_frame()], faces=faces)


@pytest.mark.parametrize("analyze", (jaxface.analyze_image, jaxface.analyze_video))
@pytest.mark.parametrize(
    ("name", "message"),
    (("gone.png", "got nothing there"), ("empty.png", r"\(0 bytes\)"), ("folder", "got ")),
)
def test_wrong_file(model, tmp_path, analyze: Callable, name, message):
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(jaxface.InputError, match=f"{name}: expected .*{message}"):
        analyze(model, tmp_path / name)


def test_model_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXFACE_CACHE_DIR", str(tmp_path))
    with pytest.raises(jaxface.ModelFileError, match="jaxface models import DIR"):
        jaxface.load_model("openface")


# Images and clips without a face


@pytest.mark.parametrize(
    "image",
    (_noise(), _frame(), _frame(255), _noise((42, 42)), _frame(9, (1, 1)), _noise((1, 120))),
    ids=("noise", "black", "white", "42 pixels", "1 pixel", "1 row"),
)
def test_image_without_a_face(model, image):
    found = jaxface.analyze_image(model, image)
    assert len(found.frame) == 0
    assert list(found.to_dataframe().columns) == column_names("image")
    assert found.to_dataframe().empty


@pytest.mark.parametrize("image", (_noise(), _frame()), ids=("noise", "black"))
def test_box_without_a_face(model, image):
    found = jaxface.analyze_image(model, image, boxes=np.array([[100, 90, 260, 250]], np.float32))
    assert found.success.tolist() == [False]
    _assert_finite(found)


@pytest.fixture(scope="module")
def faceless(model: Model) -> Analysis:
    """A clip whose frames change in size, without a face: black, noise, white."""
    smaller = (400, 500)  # on the same canvas
    return jaxface.analyze_video(
        model, (f for f in (_frame(), _noise(), _noise(smaller), _frame(255, smaller))), fps=25.0
    )


def test_video_without_a_face(faceless):
    assert faceless.frame.tolist() == [1, 2, 3, 4]
    assert faceless.timestamp == pytest.approx([0, 0.04, 0.08, 0.12])
    assert not faceless.success.any()
    assert not faceless.au_presence.any() and not faceless.au_intensity.any()
    assert not faceless.gaze.any()
    _assert_finite(faceless)


def test_written_csv_is_what_the_table_holds(faceless, tmp_path):
    path = jaxface.write_csv(tmp_path / "a.csv", faceless)
    header, *rows = path.read_text().splitlines()
    assert header == ", ".join(column_names("video"))
    assert [row.split(", ")[0] for row in rows] == list("1234")


def test_frames_of_a_pixel(model, faceless):
    """A clip of pixels gives what any clip without a face gives."""
    found = jaxface.analyze_video(model, [_frame(7, (1, 1))] * 2)
    assert found.success.tolist() == [False, False]
    assert found.timestamp.tolist() == [0, 0]
    _assert_finite(found)


# The command line, with the model


@pytest.fixture(scope="module")
def clip(samples_dir: Path, tmp_path_factory) -> Path:
    """A folder with the first ten frames of the sample sequence."""
    folder = tmp_path_factory.mktemp("clip") / "ten"
    folder.mkdir()
    for path in sorted((samples_dir / "image_sequence").iterdir())[:10]:
        os.symlink(path, folder / path.name)
    return folder


def test_command_line_on_good_and_bad_inputs(cache_dir, samples_dir, clip, tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("no video\n")
    (tmp_path / "zero.png").touch()
    (tmp_path / "empty").mkdir()
    cv2.imwrite(str(tmp_path / "pixel.png"), _frame(9, (1, 1)))
    bad = [str(tmp_path / name) for name in ("gone.wmv", "text.mp4", "zero.png", "empty")]
    image, out = str(samples_dir / "sample1.jpg"), tmp_path / "out"
    inputs = [*bad[:2], image, str(tmp_path / "pixel.png"), *bad[2:], str(clip)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXFACE_CACHE_DIR", str(cache_dir))
        # In lanes what fails may be said in another order.
        flags = ["--out", str(out), "--no-compile-cache", "--lanes", "1", "--model", "openface"]
        assert main(["analyze", *inputs, *flags]) == 1
    assert sorted(path.name for path in out.iterdir()) == [
        *("pixel.run.json", "pixel_of_details.txt"),
        *("sample1.csv", "sample1.run.json", "sample1_of_details.txt"),
        *("ten.csv", "ten.run.json", "ten_of_details.txt"),
    ]
    printed = capsys.readouterr()
    said = [line for line in printed.err.splitlines() if "jaxface: compiling" not in line]
    errors = [line for line in said if line.startswith("jaxface: error: ")]
    assert len(said) == len(errors) == len(bad)  # one line each, and no traceback
    for name, error in zip(bad, errors, strict=True):
        assert error.startswith(f"jaxface: error: {name}: expected ")
    lines = re.sub(r", \d+ s of compiling apart", "", printed.out).splitlines()
    first, second, third, last = lines
    assert first == f"{image}: 1 face -> {out / 'sample1.csv'}"
    assert second == f"{tmp_path / 'pixel.png'}: no face found, no CSV written"
    assert third.startswith(f"{clip}: 10 frames in ")
    assert third.endswith(f"), 10 of 10 rows with a face -> {out / 'ten.csv'}")
    assert last == "3 of 7 inputs analysed: 3 now, 4 failed"
    assert len((out / "sample1.csv").read_text().splitlines()) == 1 + 1
    assert len((out / "ten.csv").read_text().splitlines()) == 1 + 10
