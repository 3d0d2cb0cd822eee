"""The command line's flags on the real analysis with `base`: what each asks for, compared with the
Python functions called with the explicit setting. Pictures of one small size: few programs compile.
"""

import dataclasses
import json
import os
from pathlib import Path

import cv2
import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import jaxface
from jaxface import Analysis, Camera, Extras, Model
from jaxface.cli import main
from jaxface.io import default_camera, read_image, read_video
from jaxface.output import draw_face, read_hog
from jaxface.run import open_clip

ROOT = Path(__file__).resolve().parents[1]
HEAD = ROOT / "bench" / "data" / "talking_head.mp4"
SIZE = (320, 240)  # width and height of all pictures, px
FRAMES = range(40, 48)  # in which the head turns and speaks
EXTRAS = Extras(fhog=True, aligned=True)


@pytest.fixture(scope="module")
def model() -> Model:
    return jaxface.load_model()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `clip.avi`, and with `still.png`, which shows two heads."""
    folder = tmp_path_factory.mktemp("inputs")
    frames = list(read_video(HEAD))
    writer = cv2.VideoWriter(str(folder / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, SIZE)
    for index in FRAMES:
        small = cv2.resize(frames[index], SIZE, interpolation=cv2.INTER_AREA)
        writer.write(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    writer.release()
    still = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    for index, place, side in ((140, (60, 0), 130), (20, (25, 130), 190)):
        head = cv2.resize(frames[index][56:476, 110:530], (side, side), None, 0, 0, cv2.INTER_AREA)
        still[place[0] : place[0] + side, place[1] : place[1] + side] = head
    assert cv2.imwrite(str(folder / "still.png"), cv2.cvtColor(still, cv2.COLOR_RGB2BGR))
    return folder


@pytest.fixture(scope="module")
def faces(model: Model, inputs: Path) -> Analysis:
    """The still's two faces."""
    found = jaxface.analyze_image(model, inputs / "still.png", extras=EXTRAS)
    assert len(found.frame) == 2 and found.origin.path == str(inputs / "still.png")
    return found


def _run(path: Path, out: Path, *flags: str) -> Path:
    """Analyses a file by the command line. Returns the CSV."""
    assert main(["analyze", str(path), "--out", str(out), "--no-compile-cache", *flags]) == 0
    return out / f"{path.stem}.csv"


def _assert_same(csv: Path, expected: Analysis) -> None:
    written = jaxface.write_csv(csv.with_name("expected.csv"), expected)
    assert csv.read_bytes() == written.read_bytes()


def test_still_with_hog_and_aligned_faces(inputs, faces, tmp_path):
    csv = _run(inputs / "still.png", tmp_path, "--hog", "--aligned", "--no-details", "--overlay")
    _assert_same(csv, faces)
    descriptors, valid = read_hog(tmp_path / "still.hog")
    np.testing.assert_array_equal(descriptors.reshape(2, -1), faces.fhog)
    np.testing.assert_array_equal(valid, faces.success)
    for face in range(2):
        aligned = read_image(tmp_path / "still_aligned" / f"face_det_{face:06d}.bmp")
        np.testing.assert_array_equal(aligned, faces.aligned[face])
    assert not (tmp_path / "still_of_details.txt").exists()
    frame = read_image(inputs / "still.png")
    _assert_drawn(tmp_path / "still_overlay.png", frame, faces, faces.frame == 1)


def _assert_drawn(path: Path, frame: np.ndarray, found: Analysis, rows: np.ndarray) -> None:
    """The pixels of a picture's landmarks are those of the rows drawn over the frame."""
    camera, expected = default_camera(height=SIZE[1], width=SIZE[0]), frame
    expected = draw_face(expected, found[rows].table(), camera, text=False)
    x, y = np.rint(found.landmarks[rows].reshape(-1, 2)).astype(int).T
    drawn = read_image(path)
    np.testing.assert_array_equal(drawn[y, x], expected[y, x])
    assert (drawn[y, x] != frame[y, x]).any(axis=-1).mean() > 0.99


def test_one_face_of_a_still_is_the_widest(inputs, faces, tmp_path):
    csv = _run(inputs / "still.png", tmp_path, "--faces", "one")
    widest = int(np.argmax(np.ptp(faces.landmarks[..., 0], axis=1)))
    rows = [line.split(", ") for line in csv.read_text().splitlines()]
    x = rows[0].index("x_0")
    assert [row[x] for row in rows[1:]] == [f"{faces.landmarks[widest, 0, 0]:.1f}"]


def test_wild_and_multi_view(model, inputs, faces, tmp_path):
    csv = _run(inputs / "still.png", tmp_path, "--wild", "--multi-view", "0")
    config = jaxface.default_config(model, wild=True, multi_view=False, static_action_units=True)
    found = jaxface.analyze_image(model, inputs / "still.png", config=config)
    _assert_same(csv, found)
    assert np.abs(found.landmarks - faces.landmarks).max() > 0.1  # px; neither does nothing


def test_folder_as_images_and_image_as_a_clip(model, inputs, faces, static, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        os.link(inputs / "still.png", folder / name)
    _run(folder, tmp_path, "--mode", "image")
    for name in ("a", "b"):
        _assert_same(tmp_path / f"{name}.csv", faces)
    csv = _run(folder / "a.png", tmp_path, "--mode", "video", "--static")
    (folder / "b.png").unlink()
    _assert_same(csv, jaxface.analyze_video(model, folder, config=static))


@pytest.fixture(scope="module")
def static(model: Model) -> jaxface.Config:
    return jaxface.default_config(model, static_action_units=True)


@pytest.fixture(scope="module")
def tracked(model: Model, inputs: Path, static: jaxface.Config) -> Analysis:
    """The clip, with the camera of `test_clip_with_all_flags`."""
    camera = Camera(*map(jnp.float32, (300, 310, 150, 130)))
    clip = inputs / "clip.avi"
    return jaxface.analyze_video(model, clip, camera=camera, config=static, extras=EXTRAS)


def test_clip_with_all_flags(inputs, tracked, tmp_path):
    flags = ["--fx", "300", "--fy", "310", "--cx", "150", "--cy", "130", "--static"]
    flags += ["--hog", "--aligned", "--faces", "one", "--overlay", "2,7"]
    path = next(m.path for m in jaxface.installed_models() if m.name == "base")
    csv = _run(inputs / "clip.avi", tmp_path, *flags, "--model", str(path))
    _assert_same(csv, tracked)
    descriptors, valid = read_hog(tmp_path / "clip.hog")
    np.testing.assert_array_equal(descriptors.reshape(len(valid), -1), tracked.fhog)
    np.testing.assert_array_equal(valid, tracked.success)
    for frame in tracked.frame:
        aligned = read_image(tmp_path / "clip_aligned" / f"frame_det_00_{frame:06d}.bmp")
        np.testing.assert_array_equal(aligned, tracked.aligned[frame - 1])
    details = (tmp_path / "clip_of_details.txt").read_text()
    assert "Camera parameters:300,310,150,130\n" in details
    assert sorted(p.name for p in tmp_path.glob("*.png")) == [
        *("clip_overlay_000002.png", "clip_overlay_000007.png"),
    ]


def test_overlays_show_their_frames(model, inputs, static, tracked, tmp_path):
    """With the default camera, as what is drawn over the landmarks follows it."""
    _run(inputs / "clip.avi", tmp_path, "--static", "--overlay", "2,7")
    found = jaxface.analyze_video(model, inputs / "clip.avi", config=static)
    assert np.abs(found.head_pose - tracked.head_pose)[:, 2].min() > 10  # mm; the camera counts
    frames = list(read_video(inputs / "clip.avi"))
    for number in (2, 7):
        path = tmp_path / f"clip_overlay_{number:06d}.png"
        _assert_drawn(path, frames[number - 1], found, found.frame == number)


def test_all_faces_of_a_clip(model, inputs, tmp_path):
    csv = _run(inputs / "clip.avi", tmp_path, "--faces", "all")
    expected = jaxface.analyze_video(model, inputs / "clip.avi", faces="all")
    assert expected.kind == "multi_face" and len(expected.frame) == len(FRAMES)
    _assert_same(csv, expected)


def test_many_frames_at_once(model, inputs, tracked, tmp_path, monkeypatch):
    """The flag reaches the clip; one of eight frames is tracked one by one all the same."""
    given = []

    def spy(*args, **named):
        given.append(named["at_once"])
        return open_clip(*args, **named)

    monkeypatch.setattr("jaxface.cli._engine.open_clip", spy)
    csv = _run(inputs / "clip.avi", tmp_path, "--at-once")
    assert given == [True]
    expected = jaxface.analyze_video(model, inputs / "clip.avi", at_once=True)
    _assert_same(csv, expected)
    np.testing.assert_array_equal(expected.landmarks, tracked.landmarks)


def test_cameras_are_checked_by_every_function(model, inputs):
    wrong = dataclasses.replace(
        default_camera(height=240, width=320), fx=np.asarray(np.nan, np.float32)
    )
    still, clip = inputs / "still.png", inputs / "clip.avi"
    for call in (
        lambda: jaxface.analyze_image(model, still, camera=wrong),
        lambda: jaxface.analyze_images(model, [still], camera=wrong),
        lambda: jaxface.analyze_video(model, clip, camera=wrong),
        lambda: jaxface.analyze_batch(model, [clip], camera=wrong),
    ):
        with pytest.raises(ValueError, match="camera.fx: expected a positive focal length"):
            call()


def test_validate_analyses_clips_in_two_ways(model, inputs, static, tmp_path, capsys):
    """What is kept is what the functions give; of stills what they give of each frame."""
    (tmp_path / "static.toml").write_text("static = true\n")
    (tmp_path / "still.toml").write_text('mode = "image"\n')
    clip, found = inputs / "clip.avi", tmp_path / "found.json"

    def validate(name: str, *more: str) -> dict:
        arguments = ["base", str(tmp_path / name), "--clips", str(clip), "--json", str(found)]
        assert main(["validate", *arguments, "--out", str(tmp_path / "out"), *more]) == 0
        return json.loads(found.read_text())["all"]

    def kept(side: str) -> Analysis:
        return jaxface.read_results(tmp_path / "out" / side / "clip.npz")

    values = validate("static.toml")
    for side, config in (("a", None), ("b", static)):
        assert eqx.tree_equal(kept(side), jaxface.analyze_video(model, clip, config=config))
        times = values["ms_per_frame"][side]
        assert times["size"] == len(FRAMES) and 0 < times["min"] <= times["max"] < 60_000
    assert values["landmarks"]["all"]["max"] == 0 < values["unit_mean"]["mean_absolute"]
    values = validate("still.toml", "--positions", "100")
    assert values["rows"]["paired"] == 1 and values["ms_per_frame"]["b"]["size"] == 1
    assert "all frames of a clip were analysed" in capsys.readouterr().out
    assert len(kept("a")) == len(FRAMES)
    *_, last = read_video(clip)
    alone, still = jaxface.analyze_image(model, last), kept("b")
    np.testing.assert_array_equal(still.landmarks, alone.landmarks)
    assert still.frame.tolist() == [len(FRAMES)] and still.kind == "multi_face"
