"""Scenes that the detector is trained with."""

import numpy as np
import pytest

pytest.importorskip("optax", reason="needs jaxface[train]")

from jaxface.training import degrade  # noqa: E402
from jaxface.training.detector import (  # noqa: E402  # noqa: E402
    Scenes,
    Sources,
    build_scenes,
    hide_face,
    make_close_scene,
    make_clutter,  # noqa: E402
    make_scene,  # noqa: E402
    mining,  # noqa: E402
)

from .cartoons import cartoon_scenes, cartoon_sources, parts_of, scene_maker  # noqa: E402


@pytest.fixture(scope="module")
def sources() -> Sources:
    return cartoon_sources()


@pytest.fixture(scope="module")
def scenes(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return cartoon_scenes(sources, tmp_path_factory.mktemp("scenes"))


def test_scenes_follow_from_their_seed(sources: Sources):
    made = [make_scene(np.random.default_rng(s), *parts_of(sources), 160) for s in (1, 1, 2)]
    assert np.array_equal(made[0].image, made[1].image)
    assert np.array_equal(made[0].landmarks, made[1].landmarks)
    assert not np.array_equal(made[0].image, made[2].image)


def test_faces_of_scenes_are_in_view_and_apart(sources: Sources):
    faces = 0
    for seed in range(60):
        landmarks = make_scene(np.random.default_rng(seed), *parts_of(sources), 160).landmarks
        low, high = landmarks.min(1), landmarks.max(1)
        middle = (low + high) / 2
        assert np.all((middle > 0) & (middle < 160))
        boxes = np.concatenate([low, high - low], axis=1)
        shared = mining.overlaps(boxes, boxes) - np.eye(len(boxes))
        assert shared.max(initial=0) == 0
        # Left and right stay left and right in the picture, mirrored or not.
        assert np.all(landmarks[:, 36:42, 0].mean(1) < landmarks[:, 42:48, 0].mean(1))
        faces += len(landmarks)
    assert faces > 50


def test_scenes_are_read_again(scenes: Scenes, sources: Sources, tmp_path):
    path = tmp_path / "again.npy"
    first = build_scenes(scene_maker(sources), 4, 128, path=path)
    nothing = scene_maker(Sources((), ()))
    again = build_scenes(nothing, 4, 128, path=path)
    for made in (first, again):
        assert np.array_equal(made.images, scenes.images[:4])
        pairs = zip(made.landmarks, scenes.landmarks, strict=False)
        assert all(np.array_equal(a, b) for a, b in pairs)


def test_close_scenes_show_faces_whole_or_none(sources: Sources):
    faces = bare = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        scene = make_close_scene(rng, *parts_of(sources), 160)
        assert scene.image.shape == (160, 160, 3) and scene.image.dtype == np.uint8
        assert len(scene.landmarks) + len(scene.ignored) <= 1
        for landmarks in scene.landmarks:
            low, high = landmarks.min(0), landmarks.max(0)
            shown = np.minimum(high, 160) - np.maximum(low, 0)
            assert np.all(shown > 0) and np.prod(shown) > 0.75 * np.prod(high - low)
            assert landmarks[36:42, 0].mean() < landmarks[42:48, 0].mean()
        faces += len(scene.landmarks)
        bare += not len(scene.landmarks) and not len(scene.ignored)
    assert faces > 15 and bare > 15
    again = [make_close_scene(np.random.default_rng(5), *parts_of(sources), 160) for _ in range(2)]
    assert np.array_equal(again[0].image, again[1].image)


def test_a_hidden_face_leaves_the_rest_of_the_photograph(sources: Sources):
    face = sources.faces[0]
    low, high = face.landmarks.min(0), face.landmarks.max(0)
    extent = high - low
    start, end = low - (0.2, 0.6) * extent, high + (0.2, 0.15) * extent
    y, x = np.mgrid[: face.image.shape[0], : face.image.shape[1]]
    outside = (x < start[0]) | (x > end[0]) | (y < start[1]) | (y > end[1])
    middle = face.landmarks[[36, 39, 42, 45, 48, 54]].astype(int)
    changed = []
    for seed in range(30):
        image = hide_face(np.random.default_rng(seed), face, sources.patches)
        assert np.array_equal(image[outside], face.image[outside])
        changed.append((image != face.image).any(-1)[middle[:, 1], middle[:, 0]].mean())
    assert np.mean(changed) > 0.6


def test_spoiling_keeps_size_and_type():
    image = make_clutter(np.random.default_rng(3), 60, 80, [])
    changed = [degrade(np.random.default_rng(seed), image) for seed in range(20)]
    assert all(c.shape == image.shape and c.dtype == np.uint8 for c in changed)
    assert sum(np.array_equal(c, image) for c in changed) < 5
