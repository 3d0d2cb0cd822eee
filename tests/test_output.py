"""Details, .hog, aligned faces and overlays."""

import dataclasses
import os

import numpy as np
import pytest

from jaxface import io
from jaxface.errors import InputError, OutputError
from jaxface.output import (
    Details,
    HogWriter,
    Table,
    aligned_name,
    details_text,
    draw_box,
    draw_face,
    draw_gaze,
    draw_landmarks,
    draw_pose,
    make_folder,
    read_hog,
    write_aligned,
    write_details,
    write_picture,
)
from jaxface.reference import head_pose

CAMERA = io.default_camera(height=480, width=640)

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
            camera=io.default_camera(height=size[1], width=size[0]),
            hog=f"{name}.hog",
            image=f"{name}.jpg" if "img_" in path.parent.name else None,
            aligned=f"{name}_aligned",
            csv=f"{name}.csv",
        )
        assert details_text(details) == given, path
        checked += 1
    assert checked >= 25


def test_details_without_face(tmp_path):
    camera = io.default_camera(height=480, width=640, fx=500.25, fy=500)
    details = Details("é\udcff.jpg", "/é\udcff.jpg", camera)
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
        lambda: write_details(tmp_path / "out" / "a.txt", Details("a", "a", CAMERA)),
    ):
        with pytest.raises(OutputError, match="out: cannot be written .*choose another output"):
            act()


# Overlays


def _changed(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Mean row and column of the pixels that differ."""
    rows, columns = np.nonzero((before != after).any(-1))
    return rows.mean(), columns.mean()


_DOT = (90, 250, 170)  # colour of a landmark


def test_landmarks_are_drawn_where_they_are():
    image = np.full((480, 640, 3), 100, np.uint8)
    kept = image.copy()
    drawn = draw_landmarks(image, np.array([[100.25, 200.5]]))
    np.testing.assert_array_equal(image, kept)
    # A dot is symmetric about its centre, which lies on a sixteenth of a pixel.
    np.testing.assert_allclose(_changed(image, drawn), (200.5, 100.25), atol=0.5)
    assert tuple(drawn[200, 100]) == _DOT
    black = np.zeros_like(image)
    hidden = draw_landmarks(black, np.array([[100.0, 200.0]]), visible=np.array([False]))
    assert tuple(hidden[200, 100]) == (54, 150, 102)  # six tenths as bright


@pytest.mark.untyped
def test_only_bytes_are_drawn_on():
    image = np.zeros((480, 640, 3), np.float32)
    with pytest.raises(ValueError, match="image: expected an 8-bit RGB image .* got float32"):
        draw_landmarks(image, np.zeros((1, 2)))


def test_a_dot_is_round():
    """OpenCV's own circles are squares below a radius of 3 px."""
    drawn = draw_landmarks(np.zeros((540, 540, 3), np.uint8), np.array([[50.0, 60.0]]))
    inked = (drawn[..., 1] > 128).nonzero()
    reach = np.hypot(inked[0] - 60, inked[1] - 50)
    assert 2.0 <= reach.max() <= 2.9  # the radius is 2 px, and pixels half covered count
    assert len(reach) >= 0.9 * np.pi * 2.0**2


def test_box_is_drawn_along_its_sides():
    black = np.zeros((480, 640, 3), np.uint8)
    drawn = draw_box(black, np.array([99.6, 50.0, 300.0, 250.2]))
    np.testing.assert_allclose(_changed(black, drawn), (150, 200), atol=1.0)
    assert drawn[50, 200].min() > 200 and drawn[150, 300].min() > 200
    assert drawn[150, 99:101].max() > 100  # shared by two columns
    assert not drawn[150, 200].any() and not black.any()


def _pinhole(points: np.ndarray) -> np.ndarray:
    fx, fy, cx, cy = map(float, CAMERA)
    return points[:, :2] / points[:, 2:] * [fx, fy] + [cx, cy]


def test_pose_box_lies_where_the_reference_puts_its_corners():
    pose = np.array([20.0, -30.0, 700.0, 0.3, -0.5, 0.2])
    black = np.zeros((480, 640, 3), np.uint8)
    drawn = draw_pose(black, pose, CAMERA)
    corners = np.array([[x, y, -35.0] for x in (-80.0, 80.0) for y in (-95.0, 90.0)])
    front = corners @ head_pose.euler_to_matrix(pose[3:]).T + pose[:3]
    for x, y in np.rint(_pinhole(front)).astype(int):
        # The last pixel of a line lies within 1 px of its rounded end.
        assert drawn[y - 1 : y + 2, x - 1 : x + 2].max() > 200, (x, y)
    rows, columns = np.nonzero(drawn.any(axis=-1))
    low, high = _pinhole(front).min(axis=0), _pinhole(front).max(axis=0)
    assert columns.min() < low[0] + 3 and rows.max() > high[1] - 3
    behind = draw_pose(black, pose * [1, 1, -1, 1, 1, 1], CAMERA)
    assert not behind.any()


def test_gaze_rays_start_at_the_irises_and_follow_the_gaze():
    black = np.zeros((480, 640, 3), np.uint8)
    turn = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    ring = 6 * np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=1)
    eyes = [np.concatenate([ring, 0 * ring]) + [x, 0, 500] for x in (-32, 32)]
    gaze = np.array([[0.0, 0.6, -0.8], [0.0, 0.0, 0.0]])
    drawn = draw_gaze(black, np.concatenate(eyes), gaze, CAMERA)
    start, end = _pinhole(np.array([[-32.0, 0, 500], [-32.0, 50 * 0.6, 500 - 50 * 0.8]]))
    for share in (0.0, 0.5, 1.0):
        x, y = np.rint(start + share * (end - start)).astype(int)
        assert drawn[y, x, 0] > 200, share  # red
    assert not drawn[:, 330:].any()  # the other eye looks nowhere


def _face_row(success: bool = True) -> Table:
    rng = np.random.default_rng(3)
    landmarks = rng.uniform([250, 180], [390, 320], (68, 2))
    eyes = rng.uniform([-40, -20, 490], [40, 20, 500], (56, 3))
    return Table(
        frame=np.array([1]),
        face_id=np.array([0]),
        timestamp=np.zeros(1),
        confidence=np.array([0.9]),
        success=np.array([success]),
        gaze=np.array([[[0, 0, -1.0]] * 2]),
        gaze_angle=np.zeros((1, 2)),
        eye_landmarks=np.zeros((1, 56, 2)),
        eye_landmarks_3d=eyes[None],
        head_pose=np.array([[0, 0, 500, 0, 0, 0.0]]),
        landmarks=landmarks[None],
        landmarks_3d=np.zeros((1, 68, 3)),
        scale=np.ones(1),
        rotation=np.zeros((1, 3)),
        translation=np.zeros((1, 2)),
        local=np.zeros((1, 34)),
        au_intensity=np.zeros((1, 0)),
        au_presence=np.zeros((1, 0)),
    )


def test_a_face_is_drawn_with_all_it_has():
    black, row = np.zeros((480, 640, 3), np.uint8), _face_row()
    drawn = draw_face(black, row, CAMERA, text=False)
    parts = (
        draw_landmarks(black, row.landmarks[0]),
        draw_pose(black, row.head_pose[0], CAMERA),
        draw_gaze(black, row.eye_landmarks_3d[0], row.gaze[0], CAMERA),
        draw_box(black, np.array([*row.landmarks[0].min(axis=0), *row.landmarks[0].max(axis=0)])),
    )
    for part in parts:
        inked = part.any(axis=-1)
        assert drawn[inked].any(axis=-1).mean() > 0.99  # dark rims may cover a pixel
    labelled = draw_face(black, row, CAMERA)
    rows, _ = (labelled != drawn).any(axis=-1).nonzero()
    assert rows.max() <= row.landmarks[..., 1].min() + 1  # the text stands above the face
    assert not black.any()


def test_a_row_without_success_is_only_written_about():
    grey, row = np.full((480, 640, 3), 90, np.uint8), _face_row(success=False)
    np.testing.assert_array_equal(draw_face(grey, row, CAMERA, text=False), grey)
    rows, columns = np.nonzero((draw_face(grey, row, CAMERA) != grey).any(axis=-1))
    assert rows.min() > 440 and columns.max() < 320  # the lower left corner


def test_drawing_survives_what_lies_outside():
    """Far away, not finite, behind the camera, or larger than the picture."""
    dot, row = np.zeros((9, 7, 3), np.uint8), _face_row()
    odd = row.landmarks.copy()
    odd[0, 0], odd[0, 1] = np.nan, 1e30
    pose, gaze = np.full((1, 6), np.nan), np.full((1, 2, 3), np.inf)
    wrong = dataclasses.replace(row, landmarks=odd, head_pose=pose, gaze=gaze)
    blind = dataclasses.replace(wrong, eye_landmarks_3d=np.zeros((1, 0, 3)))
    lacking = dataclasses.replace(
        blind, gaze=gaze[:, :0], gaze_angle=np.zeros((1, 0)), head_pose=pose[:, :0]
    )
    for face in (row, wrong, blind, lacking):
        assert draw_face(dot, face, CAMERA).shape == dot.shape
        assert draw_face(np.zeros((480, 640, 3), np.uint8), face, CAMERA).any()


def test_pictures_are_written_as_they_are(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (5, 7, 3)).astype(np.uint8)
    path = write_picture(tmp_path / "deep" / "a.png", picture)
    np.testing.assert_array_equal(io.read_image(path), picture)
    with pytest.raises(OutputError, match="a.what: cannot be written .no .what file"):
        write_picture(tmp_path / "a.what", picture)
    assert os.listdir(path.parent) == ["a.png"]
