"""Details, .hog, aligned faces and overlays."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from jaxface import io
from jaxface.errors import InputError, OutputError
from jaxface.output import (
    Details,
    HogWriter,
    aligned_name,
    details_text,
    draw_box,
    draw_landmarks,
    make_folder,
    read_hog,
    write_aligned,
    write_details,
)

# Details


def test_details_of_all_golden_runs(golden_dir):
    checked = 0
    for path in sorted(golden_dir.glob("*/*_of_details.txt")):
        given, name = path.read_text(), path.name.removesuffix("_of_details.txt")
        source = given.splitlines()[0].removeprefix("Input:")
        if "16bit" in path.parent.name or "gray" in path.parent.name:
            size = (640, 400) if "sample3" in path.parent.name else (640, 480)
        else:
            size = {
                "sample1": (640, 400),
                "sample2": (2048, 1366),
                "sample3": (640, 400),
                "sample4": (640, 578),
                "sample5": (640, 424),
            }.get(name, (640, 480))
        details = Details(
            source=source,
            full_path=source,  # shortened in the golden data
            camera=io.default_camera(*size),
            hog=f"{name}.hog",
            image=f"{name}.jpg" if "img_" in path.parent.name else None,
            aligned=f"{name}_aligned",
            csv=f"{name}.csv",
        )
        assert details_text(details) == given, path
        checked += 1
    assert checked >= 25


def test_details_without_face(tmp_path):
    details = Details("é\udcff.jpg", "/é\udcff.jpg", (500.25, 500.0, 320.0, 240.0))
    expected = "Input:é\udcff.jpg\nInput full path:/é\udcff.jpg\n"
    assert details_text(details) == f"{expected}Camera parameters:500.25,500,320,240\n"
    path = write_details(tmp_path / "x.txt", details)
    assert os.fsdecode(path.read_bytes()) == details_text(details)  # undecodable names survive
    text = details_text(details._replace(csv="a.csv", action_units=False))
    assert text.endswith(
        "Output csv:a.csv\nGaze: 1\nAUs: 0\nLandmarks 2D: 1\nLandmarks 3D: 1\n"
        "Pose: 1\nShape parameters: 1\n"
    )


# .hog


@pytest.mark.parametrize("name", ["default/default", "img_sample1/sample1"])
def test_hog_round_trip_is_exact(golden_dir, tmp_path, name):
    path = golden_dir / f"{name}.hog"
    descriptors, valid = read_hog(path)
    assert descriptors.shape[1:] == (12, 12, 31)
    # Specification 03, B, step 8: four terms of at most 0.1; texture, from channel 27 on, has more.
    assert descriptors.min() >= 0.0 and 0.1 < descriptors[..., :27].max() <= 0.4 + 1e-6
    with HogWriter(tmp_path / "a.hog") as writer:
        for descriptor, good in zip(descriptors, valid, strict=True):
            writer.write(descriptor.ravel() if good else descriptor, bool(good))
        assert not (tmp_path / "a.hog").exists()
        writer.finish()
    assert (tmp_path / "a.hog").read_bytes() == path.read_bytes()


def test_hog_equals_the_stage_descriptor(golden_dir):
    stage = np.load(golden_dir / "stages" / "default_track_f030.npz")["audyn_fhog"]
    descriptors, valid = read_hog(golden_dir / "default" / "default.hog")
    np.testing.assert_array_equal(descriptors[30].ravel(), stage.ravel().astype(np.float32))
    assert valid.all()


def test_failed_frame_and_empty_file(tmp_path):
    with HogWriter(tmp_path / "a.hog") as writer:
        writer.write(np.zeros(4464, np.float32), False)
        with pytest.raises(ValueError, match="descriptor: expected 4464 values, got 5"):
            writer.write(np.zeros(5), True)
        writer.finish()
    descriptors, valid = read_hog(tmp_path / "a.hog")
    assert (valid.tolist(), descriptors.any()) == ([False], False)
    with HogWriter(tmp_path / "b.hog") as writer:
        writer.finish()
    assert (tmp_path / "b.hog").read_bytes() == b""
    with HogWriter(tmp_path / "c.hog"):
        pass  # not finished
    assert sorted(os.listdir(tmp_path)) == ["a.hog", "b.hog"]
    (tmp_path / "a.hog").write_bytes(b"12345")
    with pytest.raises(InputError, match="a.hog: expected records of 17872 bytes .* got 5 bytes"):
        read_hog(tmp_path / "a.hog")
    (tmp_path / "a.hog").write_bytes(bytes(17872))
    with pytest.raises(InputError, match="got another size"):
        read_hog(tmp_path / "a.hog")


# Aligned faces


def test_aligned_faces_byte_for_byte(golden_dir, tmp_path):
    for path, face_id, frame in (
        (golden_dir / "image_sequence/image_sequence_aligned/frame_det_00_000007.bmp", 0, 7),
        (golden_dir / "img_sample1/sample1_aligned/face_det_000000.bmp", 0, None),
    ):
        face = io.read_image(path)
        written = write_aligned(tmp_path / "new", face, face_id=face_id, frame=frame)
        assert written.name == path.name
        assert written.read_bytes() == path.read_bytes()
    assert aligned_name(3, 12) == "frame_det_03_000012.bmp"
    assert aligned_name(3) == "face_det_000003.bmp"


def test_output_errors_name_the_path(tmp_path):
    (tmp_path / "out").write_text("a file")
    face = np.zeros((4, 4, 3), np.uint8)
    for act in (
        lambda: make_folder(tmp_path / "out"),
        lambda: write_aligned(tmp_path / "out", face, face_id=0),
        lambda: HogWriter(tmp_path / "out" / "a.hog"),
        lambda: write_details(tmp_path / "out" / "a.txt", Details("a", "a", (1.0, 1.0, 1.0, 1.0))),
    ):
        with pytest.raises(OutputError, match="out: cannot be written .*choose another output"):
            act()


# Overlays


def _changed(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Mean row and column of the pixels that differ."""
    rows, columns = np.nonzero((before != after).any(-1))
    return rows.mean(), columns.mean()


def test_landmarks_are_drawn_where_they_are(samples_dir: Path):
    image = io.read_image(samples_dir / "sample1.jpg")
    kept = image.copy()
    drawn = draw_landmarks(image, np.array([[100.25, 200.5]]))
    np.testing.assert_array_equal(image, kept)
    np.testing.assert_allclose(_changed(image, drawn), (200.5, 100.25), atol=0.5)
    assert drawn[200, 100, 2] > 200 > 100 > drawn[200, 100, 0]  # blue inside
    black = np.zeros_like(image)
    hidden = draw_landmarks(black, np.array([[100.0, 200.0]]), visible=np.array([False]))
    assert hidden.max() == 155 and (hidden[..., 0] == 155).any()


def test_box_is_drawn_along_its_sides():
    black = np.zeros((480, 640, 3), np.uint8)
    drawn = draw_box(black, np.array([99.6, 50.0, 300.0, 250.2]))
    np.testing.assert_allclose(_changed(black, drawn), (150, 200), atol=1.0)
    assert drawn[50, 200].tolist() == drawn[150, 100].tolist() == [255, 0, 0]
    assert not drawn[150, 200].any() and not black.any()
    assert cv2.countNonZero(drawn[..., 2]) == 0
