"""Training data: labels agree with the pixels of portraits seen anew and of rendered heads."""

import dataclasses

import cv2
import numpy as np
import pytest

from jaxface.cli import main
from jaxface.training import (
    Sample,
    SampleConfig,
    SceneConfig,
    View,
    contact_sheet,
    degrade,
    mirrored,
    occlude,
    random_background,
    register_all,
    sample_head,
    sample_negative,
    sample_portrait,
    sample_scene,
    write_data,
)
from jaxface.training.data import EYES, euler_to_matrix, eyeball, landmarks_at_contour
from jaxface.training.render import (
    draw_head,
    draw_portrait,
    gaze_direction,
    irises_of,
    random_complexion,
    seen,
)

from .training_sampler import PEOPLE, few_people

_CLEAN = SampleConfig(degrade=0.0, occlude=0.0)
_CENTRE = np.array([0, 0, -60], np.float32)
_LIGHT = np.array([[0, 0, -1, 0.9, 0.9, 0.9, 0.6]], np.float32)


@pytest.fixture(scope="module")
def sampler(training_dir):
    return few_people(training_dir)


def _same(first: Sample, second: Sample) -> bool:
    pairs = zip(dataclasses.astuple(first), dataclasses.astuple(second), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_landmarks_of_a_portrait_follow_its_mesh(sampler):
    """Eyes and mouth, which mesh and markup define alike; in shares of the outer-eye distance."""
    portraits = sampler.tools.portraits
    for person in PEOPLE:
        given = portraits.mesh[person, portraits.mesh_to_68, :2]
        found = sampler.registered[person].landmarks
        eyes = np.linalg.norm(given[45] - given[36])
        error = np.linalg.norm(found - given, axis=1) / eyes
        assert error[36:48].mean() < 0.015
        assert error[48:60].mean() < 0.035
        assert error[:17].mean() < 0.12
        assert sampler.registered[person].error < 2.5  # mm, before the bend


def test_registrations_are_kept_and_renewed(sampler, tmp_path):
    tools = sampler.tools
    first = register_all(tools, tmp_path, people=[4])
    path = tmp_path / "0004.npz"
    written = path.stat().st_mtime_ns
    again = register_all(tools, tmp_path, people=[4])
    assert path.stat().st_mtime_ns == written
    np.testing.assert_array_equal(again[4].landmarks, first[4].landmarks)
    other = dataclasses.replace(tools, bend=tools.bend * np.float32(0.5))
    changed = register_all(other, tmp_path, people=[4])
    assert path.stat().st_mtime_ns > written
    assert not np.array_equal(changed[4].landmarks, first[4].landmarks)


def test_the_photograph_s_own_pose_gives_the_photograph(sampler):
    textured = sampler.textured(0)
    image = sampler.tools.portraits.image(0)
    view = textured.registered.view
    background = np.zeros_like(image)
    drawn, fragments = draw_portrait(sampler.tools, textured, textured.vertices, view, background)
    difference = abs(drawn.astype(int) - image).mean(axis=2).ravel()[fragments.pixel]
    assert len(difference) > 40_000
    assert np.median(difference) <= 1 and (difference < 12).mean() > 0.9
    landmarks = landmarks_at_contour(
        sampler.tools.head, sampler.tools.strips, textured.vertices, view.rotation
    )
    projected = view.project(landmarks)[:, :2]
    np.testing.assert_allclose(projected, textured.registered.landmarks, atol=1e-3)


@pytest.mark.parametrize("mark", [36, 30, 48, 57, 19])
@pytest.mark.parametrize(("pitch", "yaw"), [(0.0, 35.0), (-15.0, 10.0)])
def test_pixels_go_where_the_labels_go(sampler, mark, pitch, yaw):
    """A spot painted on the photograph at a landmark is found at the landmark of the new view."""
    textured = sampler.textured(106)
    picture = np.zeros_like(textured.picture)
    x, y = np.rint(textured.registered.landmarks[mark]).astype(int)
    cv2.circle(picture, (int(x), int(y)), 3, (255, 255, 255), -1)
    marked = dataclasses.replace(textured, picture=picture, paint=0 * textured.paint)
    rotation = euler_to_matrix(np.radians([pitch, yaw, 5]))
    view = View(rotation, 1.5, np.array([160.0, 160.0]), _CENTRE, 900.0)
    background = np.zeros((320, 320, 3), np.uint8)
    blank = dataclasses.replace(marked, sheet=np.zeros_like(marked.sheet))
    drawn, _ = draw_portrait(sampler.tools, blank, blank.vertices, view, background)
    found = np.argwhere(drawn[..., 0] > 127)[:, ::-1]
    label = view.project(textured.vertices[[sampler.tools.head.landmarks[mark]]])[0, :2]
    near = found[np.linalg.norm(found - label, axis=1) < 15]
    assert len(near) > 5
    assert np.linalg.norm(near.mean(axis=0) - label) < 2.0  # px


@pytest.mark.parametrize("yaw", [-75.0, 75.0])
def test_the_far_side_of_a_head_is_hidden(sampler, yaw):
    head = sampler.tools.head
    rotation = euler_to_matrix(np.radians([0, yaw, 0]))
    view = View(rotation, 1.0, np.array([128.0, 128.0]), _CENTRE)
    complexion = random_complexion(np.random.default_rng(0), head, sampler.regions)
    canvas = np.full((256, 256, 3), 90, np.uint8)
    gaze = np.stack([gaze_direction(0, 0)] * 2)
    drawn, fragments = draw_head(head, head.mean, complexion, view, canvas, gaze=gaze, light=_LIGHT)
    landmarks = landmarks_at_contour(head, sampler.tools.strips, head.mean, rotation)
    visible = seen(view.project(landmarks), fragments.depth, slack=6.0, reach=2)
    near, far = (slice(42, 48), slice(36, 42)) if yaw > 0 else (slice(36, 42), slice(42, 48))
    assert visible[near].all() and not visible[far].any() and visible[30]
    outside = np.ones(256 * 256, bool)
    outside[fragments.pixel] = False
    np.testing.assert_array_equal(drawn.reshape(-1, 3)[outside], 90)
    # The tip of the nose shows skin, not backdrop.
    x, y = np.rint(view.project(landmarks)[30, :2]).astype(int)
    assert (drawn[y, x - 2 : x + 3] != 90).any()


def test_irises_are_drawn_where_they_are_labelled(sampler):
    head = sampler.tools.head
    view = View(np.eye(3, dtype=np.float32), 4.0, np.array([256.0, 256.0]), head.mean[2081] * 1)
    complexion = dataclasses.replace(
        random_complexion(np.random.default_rng(1), head, sampler.regions),
        iris=np.array([0, 0, 255], np.float32),
        sclera=np.array([255, 255, 255], np.float32),
    )
    gaze = np.stack([gaze_direction(0.05, 0.25)] * 2)
    canvas = np.zeros((512, 512, 3), np.uint8)
    drawn, _ = draw_head(head, head.mean, complexion, view, canvas, gaze=gaze, light=_LIGHT)
    blue = (drawn[..., 2].astype(int) - drawn[..., 0] > 30).astype(np.uint8)
    irises = irises_of(head.mean, gaze)
    for eye, points in zip(EYES, irises, strict=True):
        projected = view.project(points)[:, :2]
        radius = np.linalg.norm(projected[1:] - projected[0], axis=1).max()
        mask = np.zeros_like(blue)
        cv2.circle(mask, np.rint(projected[0]).astype(int).tolist(), int(1.3 * radius), 1, -1)
        columns = np.argwhere(blue * mask)[:, 1]
        assert len(columns) > 100
        assert abs(columns.min() - projected[:, 0].min()) < 4
        assert abs(columns.max() - projected[:, 0].max()) < 4
        centre, size = eyeball(head.mean, eye)
        assert np.linalg.norm(points[1:] - centre, axis=1) == pytest.approx(size, abs=0.1)


@pytest.mark.parametrize("sample", [sample_portrait, sample_head])
def test_a_seed_gives_one_sample(sampler, sample):
    first, second, other = (sample(sampler, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert _same(first, second)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("sample", [sample_portrait, sample_head])
def test_labels_agree_with_each_other(sampler, sample):
    for seed in range(8):
        found = sample(sampler, np.random.default_rng(seed), config=_CLEAN)
        assert found.image.shape == (160, 160, 3) and found.image.dtype == np.uint8
        np.testing.assert_allclose(found.box[:2], found.landmarks.min(axis=0), atol=1e-4)
        np.testing.assert_allclose(found.box[2:], found.landmarks.max(axis=0), atol=1e-4)
        size = max(found.box[2:] - found.box[:2])
        assert 0.45 * 160 - 0.1 <= size <= 0.8 * 160 + 0.1
        # Perspective aside, the 3-D landmarks are the 2-D ones.
        flat = found.landmarks_3d[:, :2] * found.scale
        offset = found.landmarks - flat
        assert abs(offset - offset.mean(axis=0)).max() < 0.35 * size
        assert found.visible.sum() >= 20
        assert abs(np.linalg.norm(found.gaze, axis=1) - 1).max() < 1e-4
        irises, lids = found.irises[:, 0], found.lids
        assert (abs(irises - lids.mean(axis=1)) < 0.1 * size).all()
        assert found.exact_expression == (found.kind == "head")
        assert ((found.expression >= 0) & (found.expression <= 1)).all()


def test_portraits_are_the_training_people_s(sampler):
    rng = np.random.default_rng(0)
    seen_people = {sample_portrait(sampler, rng, config=_CLEAN).person for _ in range(12)}
    assert seen_people == {0, 106}
    held_out = sample_portrait(sampler, rng, people=sampler.of_split("test"), config=_CLEAN)
    assert held_out.person == 4


def test_a_mirrored_sample_has_mirrored_labels(sampler):
    swap = sampler.tools.head.mirrored_expression
    found = sample_head(sampler, np.random.default_rng(5), config=_CLEAN)
    other = mirrored(found, swap)
    assert _same(mirrored(other, swap), found)
    width = found.image.shape[1]
    np.testing.assert_array_equal(other.image, found.image[:, ::-1])
    np.testing.assert_array_equal(other.landmarks[45, 0], width - 1 - found.landmarks[36, 0])
    assert other.rotation[1] == -found.rotation[1] and other.rotation[0] == found.rotation[0]
    # Both read the same way: the first lid point of the left eye is the one next to the nose.
    nose, corners = other.landmarks[30], other.lids[0, [0, 6]]
    assert np.argmin(np.linalg.norm(corners - nose, axis=1)) == 0
    rotation = euler_to_matrix(other.rotation)
    flip = np.diag([-1, 1, 1]).astype(np.float32)
    np.testing.assert_allclose(rotation, flip @ euler_to_matrix(found.rotation) @ flip, atol=1e-5)
    upright = other.landmarks_3d @ rotation
    before = found.landmarks_3d @ euler_to_matrix(found.rotation)
    np.testing.assert_allclose(
        upright[36:48, 2], (before * [-1, 1, 1])[_EYES_MIRRORED, 2], atol=1e-3
    )


_EYES_MIRRORED = [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]


def test_nothing_happens_to_a_picture_at_strength_0():
    image = random_background(np.random.default_rng(0), 40, 50)
    assert image.shape == (40, 50, 3) and image.dtype == np.uint8
    np.testing.assert_array_equal(degrade(np.random.default_rng(1), image, strength=0), image)
    changed = degrade(np.random.default_rng(1), image)
    assert changed.shape == image.shape and changed.dtype == np.uint8
    assert (changed != image).any()


def test_things_in_front_hide_what_the_mask_says(sampler):
    found = sample_head(sampler, np.random.default_rng(1), config=_CLEAN)
    for seed in range(12):
        image, hidden = occlude(np.random.default_rng(seed), found.image, found.landmarks)
        assert image.shape == found.image.shape and hidden.shape == found.image.shape[:2]
        if hidden.any():
            changed = (image != found.image).any(axis=2)
            assert changed[hidden].mean() > 0.95


def test_scenes_label_all_their_faces(sampler):
    config = SceneConfig(height=240, width=320, faces=(3, 3), size=(20, 80), degrade=0.0)
    first, second = (sample_scene(sampler, np.random.default_rng(2), config=config) for _ in "ab")
    np.testing.assert_array_equal(first.image, second.image)
    assert first.image.shape == (240, 320, 3) and len(first.boxes) == 3
    sizes = (first.boxes[:, 2:] - first.boxes[:, :2]).max(axis=1)
    assert ((sizes >= 19.9) & (sizes <= 80.1)).all() and (np.diff(sizes) >= 0).all()
    np.testing.assert_allclose(first.boxes[:, :2], first.landmarks.min(axis=1), atol=1e-3)
    empty = dataclasses.replace(config, faces=(0, 0))
    none = sample_scene(sampler, np.random.default_rng(2), config=empty)
    assert none.boxes.shape == (0, 4) and none.landmarks.shape == (0, 68, 2)


def test_negatives_are_seeded(sampler):
    first, second = (sample_negative(sampler, np.random.default_rng(7)) for _ in "ab")
    np.testing.assert_array_equal(first, second)
    assert first.shape == (160, 160, 3) and first.dtype == np.uint8


def test_sheets_of_samples_are_written(sampler, tmp_path, training_dir):
    done = []
    written = write_data(
        sampler.tools, tmp_path, people=[0], samples=3, scenes=1, progress=done.append
    )
    assert done == [1] and [path.stem for path in written] == [
        *("portraits", "heads", "negatives", "scenes")
    ]
    assert all(cv2.imread(str(path)) is not None for path in written)
    with pytest.raises(ValueError, match="training set"):
        write_data(sampler.tools, tmp_path, people=[4])
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])


def test_the_command_names_data_that_is_missing(tmp_path, capsys):
    status = main(["train", "data", "--data", str(tmp_path), "--out", str(tmp_path / "out")])
    assert status == 1
    assert "ict-facekit" in capsys.readouterr().err
