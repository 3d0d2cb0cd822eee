"""Training of the detector: geometry, matching, mining, the loop, storage."""

import dataclasses
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxface.cli import main
from jaxface.detect import (
    MTCNN,
    Boxes,
    DetectConfig,
    Net,
    correct,
    crop,
    landmark_box,
    lay_flat,
    plan_pyramid,
)
from jaxface.models import ModelFileError, read_module, write_module

pytest.importorskip("optax", reason="needs jaxface[train]")

from jaxface.training import pair_up  # noqa: E402
from jaxface.training.detector import (  # noqa: E402
    NAMES,
    SIDES,
    Scenes,
    Score,
    Sources,
    add_grain,
    build_crops,
    crop_margins,
    detected_margins,
    detector_loss,
    divide_faces,
    draw_batch,
    draw_hard,
    erase,
    face_margins,
    hard_mean,
    mine_squares,
    mining,  # noqa: E402
    mirror,
    mirror_landmarks,
    new_detector,
    quieten,
    rank_crops,
    report,
    run_batch,
    set_operating_point,
)
from jaxface.training.loop import Fitted, Recipe, fit  # noqa: E402

from .cartoons import cartoon_scenes, cartoon_sources, draw_face, oval  # noqa: E402

_PIXEL_TOL = 1e-3  # px; float32 arithmetic on coordinates up to 300
_GREY_TOL = 1.01 / 128  # network input; crops are rounded to whole grey levels
_NET_TOL = 1e-5  # float32 sums of a few hundred products of order 1


@pytest.fixture(scope="module")
def fresh() -> MTCNN:
    """An untrained detector."""
    return new_detector(0, mining.LANDMARK_FRAME)


@pytest.fixture(scope="module")
def sources() -> Sources:
    return cartoon_sources()


@pytest.fixture(scope="module")
def scenes(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return cartoon_scenes(sources, tmp_path_factory.mktemp("scenes"))


def test_overlap_of_boxes_by_hand():
    a = np.array([[0, 0, 10, 10], [100, 100, 4, 4]], np.float32)
    b = np.array([[5, 0, 10, 10], [0, 0, 10, 10], [2, 2, 5, 5]], np.float32)
    found = mining.overlaps(a, b)
    assert np.allclose(found, [[50 / 150, 1, 0.25], [0, 0, 0]], rtol=1e-6, atol=0)


def test_squares_are_sorted_by_their_overlap():
    landmarks = oval((60, 60), 40)[None]
    face = mining.square_around(mining.face_boxes(landmarks))[0]
    side = face[2]
    # Moved aside by t sides, two equal squares overlap (1 - t) / (1 + t).
    shifts = {0.0: 2, 0.2: 2, 0.3: 1, 0.5: -1, 0.6: 0, 2.0: 0}
    squares = np.stack([face + (t * side, 0, 0, 0) for t in shifts]).astype(np.float32)
    kinds, nearest = mining.match(squares, landmarks)
    assert kinds.tolist() == list(shifts.values())
    assert not nearest.any()


def test_nothing_matches_where_there_is_no_face():
    kinds, _ = mining.match(np.ones((3, 4), np.float32), np.zeros((0, 68, 2), np.float32))
    assert kinds.tolist() == [mining.NEGATIVE] * 3


def test_what_touches_an_ignored_face_is_no_negative():
    face, hidden = oval((60, 60), 40)[None], oval((160, 60), 40)[None]
    squares = mining.square_around(mining.face_boxes(np.concatenate([face, hidden, hidden])))
    squares[2, :2] += squares[2, 2]  # beside it
    kinds, _ = mining.match(squares, face, hidden)
    assert kinds.tolist() == [mining.POSITIVE, -1, mining.NEGATIVE]


def test_faces_that_hardly_show_are_ignored():
    face = draw_face(96)
    scene = divide_faces(face.image, [face.landmarks], [True])
    assert len(scene.landmarks) == 1 and len(scene.ignored) == 0
    dark = (face.image * 0.03).astype(np.uint8)
    for image, shown in ((dark, True), (face.image, False)):
        scene = divide_faces(image, [face.landmarks], [shown])
        assert len(scene.landmarks) == 0 and np.array_equal(scene.ignored[0], face.landmarks)


def test_choice_keeps_at_most_so_many_of_each_kind():
    kinds = np.array([0] * 9 + [1] * 2 + [2] * 5 + [-1] * 4, np.int8)
    index = mining.choose(np.random.default_rng(0), kinds, (4, 3, 1))
    assert np.bincount(kinds[index], minlength=3).tolist() == [4, 2, 1]
    assert len(set(index.tolist())) == len(index)


@pytest.mark.parametrize("square", [(20, 30, 50, 50), (-12, 5, 61, 61), (70, 80, 48, 48)])
@pytest.mark.parametrize("side", [24, 48])
def test_crops_are_what_the_networks_see(square: tuple[int, ...], side: int):
    image = np.random.default_rng(1).integers(0, 256, (100, 90, 3), np.uint8)
    pixels, config = jnp.asarray(image, jnp.float32), DetectConfig()
    flat, _ = lay_flat(pixels, jnp.array(image.shape[:2], jnp.int32), config)
    expected = crop(flat, jnp.array(square, jnp.float32), side)
    found = (mining.cut(image, np.array(square), side).astype(np.float32) - 127.5) / 128
    assert np.max(np.abs(found - expected)) <= _GREY_TOL


def test_a_cell_claims_the_box_that_the_pyramid_gives_it():
    layout = plan_pyramid(240, 240, 48.0, 0.709)
    scale = 12 / 48
    for cell in (0, 3, 20):
        low, high = layout.edges[0, cell]
        window = np.array([[2 * cell / scale + 1, 1, 12 / scale - 1, 12 / scale - 1]], np.float32)
        claimed = mining.cell_box(window)[0]
        # The pyramid truncates; the claim is its mean over all phases.
        assert abs(claimed[0] - low) <= 1 and abs(claimed[0] + claimed[2] - high) <= 1


@pytest.mark.parametrize("inclusive", [False, True])
def test_labels_lead_back_to_the_landmarks(inclusive: bool):
    landmarks = np.stack([oval((60, 70), 40), oval((150, 90), 77)])
    squares = np.array([[30, 40, 55, 55], [120, 40, 90, 90]], np.float32)
    corrections, points = mining.label(squares, landmarks, inclusive=inclusive)
    boxes = Boxes(jnp.asarray(squares), jnp.ones(2), jnp.asarray(corrections), jnp.ones(2, bool))
    tight = landmark_box(correct(boxes, inclusive=inclusive), mining.LANDMARK_FRAME)
    wanted = np.concatenate([landmarks.min(1), np.ptp(landmarks, axis=1)], axis=1)
    assert np.max(np.abs(tight - wanted)) <= _PIXEL_TOL
    placed = squares[:, None, :2] + points * squares[:, None, 2:]
    assert np.max(np.abs(placed - mining.five_points(landmarks))) <= _PIXEL_TOL


def test_mirrored_labels_are_the_labels_of_mirrored_faces():
    landmarks, square = oval((63, 70), 40)[None], np.array([[40, 40, 51, 51]], np.float32)
    corrections, points = mining.label(square, landmarks, inclusive=False)
    width = 2 * square[0, 0] + square[0, 2]  # of a picture that mirrors the square onto itself
    turned = mirror_landmarks((landmarks[0] * (-1, 1) + (width, 0)).astype(np.float32))[None]
    wanted = mining.label(square, turned, inclusive=False)
    image = np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3)
    given = jnp.asarray(image), jnp.asarray(corrections), jnp.asarray(points)
    found = mirror(*given, jnp.array([True]))
    assert np.array_equal(found[0], image[:, :, ::-1])
    assert np.max(np.abs(found[1] - wanted[0])) <= _NET_TOL
    assert np.max(np.abs(found[2] - wanted[1])) <= _NET_TOL
    assert mining.five_points(turned)[0, 0, 0] < mining.five_points(turned)[0, 1, 0]


def test_hard_examples_alone_count():
    losses = jnp.array([1.0, 9.0, 2.0, 3.0, 100.0])
    counted = jnp.array([True, True, True, True, False])
    assert hard_mean(losses, counted, 0.5) == 6.0
    assert hard_mean(losses, jnp.zeros(5, bool), 0.5) == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_batches_give_what_single_crops_give(name: str, fresh: MTCNN):
    net, shape = getattr(fresh, name), (3, SIDES[name], SIDES[name], 3)
    crops = jnp.asarray(np.random.default_rng(2).normal(size=shape), jnp.float32)
    found = jax.jit(run_batch)(net, crops)
    expected = jax.jit(lambda net, crops: jax.vmap(net)(crops))(net, crops).reshape(3, -1)
    assert found.shape == (3, 16 if name == "onet" else 6)
    assert np.max(np.abs(found - expected)) <= _NET_TOL


def test_operating_point_lets_the_wanted_share_pass(fresh: MTCNN):
    net = fresh.pnet
    images = np.random.default_rng(0).integers(0, 256, (400, 12, 12, 3), np.uint8)
    kinds = np.full(400, mining.POSITIVE, np.int8)
    corrections, points = np.zeros((400, 4), np.float32), np.zeros((400, 5, 2), np.float32)
    crops = mining.Crops(images, kinds, corrections, points)
    moved = set_operating_point(net, face_margins(net, crops, mining.POSITIVE), 0.1, 0.6)
    passed = face_margins(moved, crops, mining.POSITIVE) >= np.log(0.6 / 0.4)
    assert abs(passed.mean() - 0.9) < 0.005


def _line_loss(model, batch, key):
    x, y = batch
    noise = 0.01 * jax.random.normal(key, y.shape)
    loss = jnp.mean((model["a"] * x + model["b"] - y + noise) ** 2)
    return loss, {"a": model["a"]}


def _line_batch(step: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(step).normal(size=32).astype(np.float32)
    return x, 3 * x - 1


def _fit_line(path: Path, recipe: Recipe) -> Fitted:
    start = {"a": jnp.zeros(()), "b": jnp.zeros(())}
    return _fit(start, _line_batch, path, recipe)


def _fit(start, batches, path: Path, recipe: Recipe, loss=_line_loss) -> Fitted:
    terms = ("a",)
    return fit(start, loss, batches, recipe, terms=terms, checkpoint=path, title="line", seed=5)


def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path, monkeypatch):
    recipe = Recipe(steps=160, rate=0.2, save_every=20)
    whole = _fit_line(tmp_path / "whole.state", recipe)

    def stop(step: int) -> tuple[np.ndarray, np.ndarray]:
        if step == 147:
            raise KeyboardInterrupt
        return _line_batch(step)

    path, start = tmp_path / "cut.state", {"a": jnp.zeros(()), "b": jnp.zeros(())}
    with pytest.raises(KeyboardInterrupt):
        _fit(start, stop, path, recipe)
    calls = []

    def watch(step: int) -> tuple[np.ndarray, np.ndarray]:
        calls.append(step)
        return _line_batch(step)

    resumed = _fit(start, watch, path, recipe)
    assert calls == list(range(140, 160))
    assert all(np.array_equal(resumed.losses[k], whole.losses[k]) for k in ("loss", "a"))
    assert resumed.losses.keys() == {"loss", "a"}
    assert all(np.array_equal(resumed.model[k], whole.model[k]) for k in "ab")
    assert abs(float(whole.model["a"]) - 3) < 0.1 and abs(float(whole.model["b"]) + 1) < 0.1


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    def broken(model, batch, key):
        return model["a"] * jnp.nan, {"a": model["a"]}

    with pytest.raises(FloatingPointError, match="line: the loss is nan in step 0"):
        _fit({"a": jnp.ones(())}, _line_batch, tmp_path / "s.state", Recipe(steps=3), broken)


def test_grain_spoils_some_crops():
    images = np.full((300, 24, 24, 3), 128, np.uint8)
    found = np.asarray(add_grain(jnp.asarray(images), jax.random.key(3)))
    assert found.min() >= 0 and found.max() <= 255
    spread = found.std((1, 2, 3))
    noisy = spread > 0
    assert 0.2 < noisy.mean() < 0.4 and 8 < spread[noisy].min() and spread.max() < 65
    grey = np.ptp(found[noisy], axis=-1).max((1, 2)) == 0
    assert 0.3 < grey.mean() < 0.7
    assert np.array_equal(found[~noisy], images[~noisy])


def test_erasing_hides_a_rectangle_of_some_crops():
    images = np.full((200, 24, 24, 3), 100, np.uint8)
    found = np.asarray(erase(jnp.asarray(images), jax.random.key(3)))
    hidden = (found != 100).any(-1)
    share = hidden.mean((1, 2))
    assert 0.12 < np.mean(share > 0) < 0.4 and share.max() < 0.2
    for mask, image in zip(hidden, found, strict=True):
        rows, columns = mask.any(1), mask.any(0)
        assert np.array_equal(mask, rows[:, None] & columns)
        assert len(np.unique(image[mask], axis=0)) <= 1


@pytest.fixture(scope="module")
def toy(
    fresh: MTCNN, scenes: Scenes, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Fitted, mining.Crops]:
    """P-Net after 150 steps on cartoons, and the crops that it learnt from."""
    folder = tmp_path_factory.mktemp("toy")
    crops = build_crops("pnet", fresh, scenes, seed=0, path=folder / "crops.npz")
    kinds = [np.flatnonzero(crops.kinds == kind) for kind in range(3)]

    def batches(step: int) -> tuple[np.ndarray, ...]:
        return draw_batch(crops, kinds, (64, 32, 64), np.random.default_rng(step))

    recipe = Recipe(steps=150, rate=5e-3)
    state = folder / "toy.state"
    fitted = fit(
        fresh.pnet,
        detector_loss,
        batches,
        recipe,
        terms=("score", "box"),
        checkpoint=state,
        title="toy",
        seed=0,
    )
    return fitted, crops


def test_a_network_learns_cartoons(toy: tuple[Fitted, mining.Crops]):
    fitted, crops = toy
    for part in ("score", "box"):
        losses = fitted.losses[part]
        assert np.mean(losses[-20:]) < 0.6 * np.mean(losses[:10]), part
    faces = face_margins(fitted.model, crops, mining.POSITIVE)
    rest = face_margins(fitted.model, crops, mining.NEGATIVE)
    assert np.mean(faces > np.median(faces) - 3) > 0.8
    order = np.argsort(np.concatenate([faces, rest]))
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    area = (ranks[: len(faces)].mean() - (len(faces) - 1) / 2) / len(rest)
    assert area > 0.9  # chance that a face scores above something else


def test_hard_crops_are_those_that_the_network_gets_wrong(toy: tuple[Fitted, mining.Crops]):
    fitted, crops = toy
    margins = crop_margins(fitted.model, crops.images)
    ranked = rank_crops(fitted.model, crops)
    for kind, sign in ((mining.NEGATIVE, 1), (mining.POSITIVE, -1)):
        every, hard = ranked[kind]
        assert np.array_equal(np.sort(every), np.flatnonzero(crops.kinds == kind))
        rest = np.setdiff1d(every, hard)
        assert len(hard) < len(rest)
        assert (sign * margins[hard]).min() >= (sign * margins[rest]).max()
    drawn = draw_hard(crops, ranked, (0, 1), 0)
    assert all(np.array_equal(a, b) for a, b in zip(drawn, draw_hard(crops, ranked, (0, 1), 0)))
    found = np.sort(crop_margins(fitted.model, drawn[0][drawn[1] == mining.NEGATIVE]))
    assert np.mean(found) > np.mean(margins[crops.kinds == mining.NEGATIVE])


def test_mining_finds_what_the_network_before_takes_for_faces(
    toy: tuple[Fitted, mining.Crops], fresh: MTCNN, scenes: Scenes
):
    fitted, crops = toy
    margins = face_margins(fitted.model, crops, mining.POSITIVE)
    net = set_operating_point(fitted.model, margins, 0.05, DetectConfig().thresholds[0])
    detector = eqx.tree_at(lambda m: m.pnet, fresh, net)
    covered, wrong = [], 0
    for image, landmarks in zip(scenes.images, scenes.landmarks, strict=True):
        squares = mine_squares(detector, np.asarray(image), "rnet")
        assert np.array_equal(squares, np.round(squares))
        assert np.array_equal(squares[:, 2], squares[:, 3])
        wrong += int((mining.match(squares, landmarks)[0] == mining.NEGATIVE).sum())
        wide = landmarks[np.ptp(landmarks[..., 0], axis=1) > 30]
        if len(wide) and len(squares):
            faces = mining.square_around(mining.face_boxes(wide))
            covered += (mining.overlaps(squares, faces).max(0) > 0.4).tolist()
    assert np.mean(covered) > 0.7 and wrong > 10
    # Nothing is proposed where nothing passes.
    strict = eqx.tree_at(
        lambda m: m.pnet.layers[-1].bias, detector, replace_fn=lambda bias: bias.at[1].add(-1e3)
    )
    assert len(mine_squares(strict, np.asarray(scenes.images[0]), "rnet")) == 0


def test_few_false_faces_pass_where_the_score_is_cut(fresh: MTCNN, scenes: Scenes):
    few = Scenes(scenes.images[:8], scenes.landmarks[:8], scenes.ignored[:8])
    loud = eqx.tree_at(
        lambda m: [getattr(m, name).layers[-1].bias for name in ("pnet", "rnet")],
        fresh,
        replace_fn=lambda bias: bias.at[1].add(20.0),
    )
    _, false = detected_margins(loud, few)
    assert len(false) > 40
    quiet = quieten(loud, few, 0.5)
    _, left = detected_margins(quiet, few)
    threshold = DetectConfig().thresholds[2]
    assert 0 < np.sum(left > np.log(threshold / (1 - threshold))) <= 4
    assert len(detected_margins(fresh, few)[1]) < len(false)


def test_crops_of_a_scene_hold_what_their_labels_say(scenes: Scenes):
    index = next(i for i, found in enumerate(scenes.landmarks) if len(found))
    image, landmarks = np.asarray(scenes.images[index]), scenes.landmarks[index]
    rng = np.random.default_rng(0)
    squares = mining.random_squares(rng, landmarks, image.shape[:2], near=20, anywhere=20)
    crops = mining.make_crops(
        "onet", image, landmarks, landmarks[:0], squares, 48, rng=rng, most=(6, 4, 5)
    )
    counts = np.bincount(crops.kinds, minlength=3)
    assert 0 < counts[2] <= 5 and counts[1] <= 4 and 0 < counts[0] <= 6
    assert not crops.corrections[crops.kinds == mining.NEGATIVE].any()
    assert np.all(np.abs(crops.corrections[crops.kinds == mining.POSITIVE]) < 0.5)


def test_a_trained_detector_survives_its_file(tmp_path, fresh: MTCNN):
    path = tmp_path / "detector.safetensors"
    write_module(jax.tree.map(lambda leaf: leaf.astype(jnp.float16), fresh), path)
    loaded = read_module(path)
    assert loaded.landmark_frame == mining.LANDMARK_FRAME
    for before, after in zip(jax.tree.leaves(fresh), jax.tree.leaves(loaded), strict=True):
        assert after.dtype == jnp.float32
        assert np.array_equal(after, np.asarray(before).astype(np.float16).astype(np.float32))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelFileError, match="damaged"):
        read_module(path)


def test_detections_pair_up_once_and_best_first():
    truth = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32)
    boxes = np.array([[1, 0, 11, 10], [0, 0, 10, 10], [50, 50, 60, 60]], np.float32)
    assert pair_up(boxes, truth) == [(1, 0, 1.0)]
    assert pair_up(boxes[:0], truth) == []


def test_the_report_gives_rates():
    score = Score(50, 40, 30, 1, 0.8, (0.0, 0.0, 0.0, 0.0), 0.031)
    line = report({"grey": score}).splitlines()[-1]
    assert line == "| grey (50) | 40 | 75.0 % | 2.0 | 0.800 | 3.1 % |"


def test_the_command_says_what_is_missing(tmp_path, capsys):
    status = main(["train", "detector", "--data", str(tmp_path), "--out", str(tmp_path / "out")])
    assert status == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_recipes_name_their_files_apart():
    from jaxface.training import DetectorRecipe
    from jaxface.training.detector import key_of

    keys = {key_of(dataclasses.asdict(DetectorRecipe(scenes=n))) for n in (1, 2, 3, 3)}
    assert len(keys) == 3


def test_networks_are_small(fresh: MTCNN):
    assert all(isinstance(getattr(fresh, name), Net) for name in NAMES)
    weights = sum(leaf.size for leaf in jax.tree.leaves(fresh))
    assert 2 * weights < 1_000_000  # bytes in half precision
