"""Training of the landmark model on problems whose answers are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxface import ops
from jaxface.fit import (
    CLNF,
    PDM,
    FitConfig,
    LandmarkModel,
    OneRound,
    prepare_clnf,
    project,
    response_maps,
    warp_to_mean_shape,
)
from jaxface.models import ModelFileError, read_module, write_module
from jaxface.training import MIRRORED, landmark_config, planned_steps
from jaxface.training.landmarks import (
    BINS,
    MIRRORED_EYE,
    PART_POINTS,
    SIDE,
    VIEWS,
    Errors,
    Examples,
    ExpertConfig,
    Experts,
    NoiseConfig,
    Starts,
    TrainedView,
    ValidatorConfig,
    align_shapes,
    assemble,
    blank_validator,
    cut_examples,
    eye_points,
    face_frames,
    face_triangles,
    jittered_boxes,
    logits,
    map_quality,
    mirror_experts,
    mirror_eye_pdm,
    mirror_net,
    principal_components,
    random_starts,
    raw_responses,
    soft_classes,
    start_net,
    start_training,
    target_maps,
    train_epoch,
    true_parameters,
    with_mirror_images,
)
from jaxface.training.loop import load_state, replacing, save_state, write_arrays
from jaxface.training.render import MIRRORED_IRIS, MIRRORED_LIDS, Pictures
from jaxface.types import MULTI_PIE_68

_FLOAT = 1e-4  # float32 sums over at most a thousand terms of order 1
_FLIP = np.array([-1, 1, 1], np.float32)
_CONFIG = ExpertConfig(batch=32, epochs=4)


def _face(rng: np.random.Generator) -> np.ndarray:
    """A symmetrical shape (68, 3), mm, around the origin, that is roughly a face."""
    angle = np.linspace(np.pi, 0, 17)
    jaw = np.stack([70 * np.cos(angle), 75 * np.sin(angle) - 10, 40 - 45 * np.sin(angle)], 1)
    rest = np.concatenate([rng.uniform(-50, 50, (51, 2)), rng.uniform(-30, 0, (51, 1))], axis=1)
    shape = np.concatenate([jaw, rest]).astype(np.float32)
    shape = (shape + (shape * _FLIP)[MIRRORED]) / 2
    return shape - shape.mean(axis=0)


def _pdm(rng: np.random.Generator, modes: int = 3) -> PDM:
    mean = _face(rng)
    basis = np.linalg.qr(rng.normal(size=(mean.size, modes)))[0].T.reshape(modes, *mean.shape)
    deviations = np.linspace(20, 8, modes)
    return PDM(
        mean_shape=jnp.asarray(mean),
        components=jnp.asarray(basis, jnp.float32),
        eigenvalues=jnp.asarray(deviations**2, jnp.float32),
    )


@pytest.fixture(scope="module")
def pdm():
    return _pdm(np.random.default_rng(0))


def test_principal_components_recover_a_subspace(pdm):
    rng = np.random.default_rng(1)
    deviation = np.sqrt(np.asarray(pdm.eigenvalues))
    local = rng.normal(size=(4000, 3)) * deviation
    shapes = np.asarray(pdm.mean_shape) + np.tensordot(local, np.asarray(pdm.components), 1)
    found, kept = principal_components(shapes + rng.normal(0, 0.01, shapes.shape), 3)
    flat = np.asarray(found.components).reshape(3, -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(3), atol=_FLOAT)
    overlap = np.linalg.svd(flat @ np.asarray(pdm.components).reshape(3, -1).T)[1]
    assert overlap.min() > 0.9999
    # 4000 samples give a deviation to 3 % (three standard errors).
    np.testing.assert_allclose(np.sqrt(found.eigenvalues), deviation, rtol=0.04)
    assert kept > 0.999


def test_alignment_removes_the_pose(pdm):
    rng = np.random.default_rng(2)
    deviation = np.sqrt(np.asarray(pdm.eigenvalues))
    local = rng.normal(size=(20, 3)) * deviation
    shapes = np.asarray(pdm.mean_shape) + np.tensordot(local, np.asarray(pdm.components), 1)
    posed = []
    for shape in shapes:
        turn = np.asarray(ops.euler_to_matrix(jnp.asarray(rng.normal(0, 0.1, 3), jnp.float32)))
        posed.append(rng.uniform(0.8, 1.2) * shape @ turn.T + rng.normal(0, 5, 3))
    still, moved = align_shapes(shapes), align_shapes(np.stack(posed))
    # Both sets may be aligned to means that differ by one common similarity.
    difference = align_shapes(np.concatenate([still, moved]))
    np.testing.assert_allclose(difference[:20], difference[20:], atol=0.05)


def _textured_areas(rng: np.random.Generator, count: int, window: int) -> Examples:
    """Noise with one texture at a random place of each area."""
    side = window + 10
    mark = rng.normal(size=(11, 11))
    areas = rng.normal(size=(count, side, side))
    corner = rng.integers(0, window, (count, 2))
    for area, (column, row) in zip(areas, corner, strict=True):
        area[row : row + 11, column : column + 11] = mark + 0.4 * rng.normal(size=(11, 11))
    return Examples(
        jnp.asarray(np.clip(128 + 30 * areas, 0, 255).astype(np.uint8)[None]),
        jnp.asarray(corner[None], jnp.float32),
        jnp.ones((1, count), jnp.float32),
    )


def test_experts_learn_a_texture():
    examples = _textured_areas(np.random.default_rng(3), 512, 7)
    state = start_training(jax.random.key(0), 1, _CONFIG)
    before, losses = float(map_quality(state.experts, examples, _CONFIG)[0][0, 0]), None
    for _ in range(_CONFIG.epochs):
        state, losses = train_epoch(state, examples, jax.random.key(1), _CONFIG)
    expert = jax.tree.map(lambda leaf: leaf[0], state.experts)
    maps = np.asarray(raw_responses(expert, examples.areas[0].astype(jnp.float32)))
    peak = maps.reshape(len(maps), -1).argmax(axis=1)
    found = np.stack([peak % 7, peak // 7], axis=1)
    missed = np.abs(found - np.asarray(examples.places[0])).max(axis=1)
    assert (missed <= 1).mean() > 0.98
    assert losses is not None and float(losses[0, 0]) < 0.5 * before


def test_hidden_landmarks_teach_nothing():
    examples = _textured_areas(np.random.default_rng(4), 96, 7)
    hidden = examples._replace(present=jnp.zeros_like(examples.present))
    config = dataclasses.replace(_CONFIG, decay=0.0)
    state = start_training(jax.random.key(0), 1, config)
    after, losses = train_epoch(state, hidden, jax.random.key(1), config)
    np.testing.assert_array_equal(after.experts.weights, state.experts.weights)
    np.testing.assert_array_equal(losses, 0)


def test_a_resumed_run_gives_the_same_bits(tmp_path):
    examples = _textured_areas(np.random.default_rng(5), 96, 7)
    key = jax.random.key(7)
    straight, _ = train_epoch(start_training(jax.random.key(0), 1, _CONFIG), examples, key, _CONFIG)
    straight, losses = train_epoch(straight, examples, key, _CONFIG)
    first, curve = train_epoch(
        start_training(jax.random.key(0), 1, _CONFIG), examples, key, _CONFIG
    )
    save_state(tmp_path / "views.state", first, [np.asarray(curve)])
    fresh = start_training(jax.random.key(0), 1, _CONFIG)
    loaded, curves = load_state(tmp_path / "views.state", fresh)
    assert int(loaded.epoch) == 1 and len(curves) == 1
    resumed, again = train_epoch(loaded, examples, key, _CONFIG)
    for one, other in zip(jax.tree.leaves(straight), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(losses, again)
    assert load_state(tmp_path / "none.state", fresh) == (fresh, [])
    larger = start_training(jax.random.key(0), 2, _CONFIG)
    with pytest.raises(RuntimeError, match="shape"):
        load_state(tmp_path / "views.state", larger)


def test_an_interrupted_write_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "found.npz"
    write_arrays(path, {"a": np.arange(3)})
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"half of it")
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["found.npz"]
    with np.load(path) as kept:
        np.testing.assert_array_equal(kept["a"], np.arange(3))


def _experts(rng: np.random.Generator) -> Experts:
    return Experts(
        rng.normal(size=(68, 3, 11, 11)).astype(np.float32),
        rng.normal(size=(68, 3)).astype(np.float32),
        rng.normal(size=(68, 3)).astype(np.float32),
    )


def test_mirrored_experts_respond_mirrored():
    rng = np.random.default_rng(6)
    experts = _experts(rng)
    mirrored = mirror_experts(experts)
    area = jnp.asarray(rng.uniform(0, 255, (1, 17, 17)), jnp.float32)
    for landmark in (0, 27, 39):
        one = jax.tree.map(lambda leaf, i=landmark: jnp.asarray(leaf[i]), experts)
        other = jax.tree.map(lambda leaf, i=MIRRORED[landmark]: jnp.asarray(leaf[i]), mirrored)
        np.testing.assert_allclose(
            raw_responses(other, area[..., ::-1])[..., ::-1], raw_responses(one, area), atol=_FLOAT
        )


def test_the_fit_sees_the_maps_that_were_trained(pdm):
    rng = np.random.default_rng(8)
    views = []
    for _ in range(4):
        visible = rng.random(68) < 0.8
        views.append(TrainedView(_experts(rng), visible, rng.uniform(0.1, 2, 68), np.ones((1, 2))))
    assembled = assemble(0.5, views)
    triangles = face_triangles(pdm)
    clnf = CLNF(
        main=LandmarkModel(pdm, (assembled,)),
        parts=(),
        validator=blank_validator(pdm, triangles, ValidatorConfig()),
        search=OneRound(),
        scheme=MULTI_PIE_68,
    )
    config = FitConfig(windows_init=(7,), windows_track=(7,))
    experts = prepare_clnf(clnf, config).main.experts[0]
    areas = jnp.asarray(rng.uniform(0, 255, (68, 17, 17)), jnp.float32)
    respond = jax.jit(lambda view: response_maps(experts, areas, view))
    expect = jax.jit(lambda trained: jax.vmap(raw_responses)(trained, areas[:, None])[:, 0])
    for view in range(len(VIEWS)):
        source = view if view < 4 else (0, 6, 5, 4, 3, 2, 1)[view]
        trained, visible = views[source].experts, views[source].visible
        if view >= 4:
            trained, visible = mirror_experts(trained), visible[MIRRORED]
        maps = np.asarray(respond(jnp.asarray(view)))
        expected = expect(jax.tree.map(jnp.asarray, trained))
        # The fit halves the sum of twice the neurons, so both are means of sigmoids.
        np.testing.assert_allclose(maps[visible], expected[visible], atol=_FLOAT)
        assert not maps[~visible].any()
    assert np.asarray(assembled.confidence)[np.asarray(assembled.visible)].mean() == pytest.approx(
        1
    )


def test_targets_peak_where_landmarks_are():
    maps = np.asarray(target_maps(jnp.array([[2.0, 4.0]], jnp.float32), 7, 1.0))[0]
    assert np.unravel_index(maps.argmax(), maps.shape) == (4, 2) and maps.max() == 1


def _pictures(pdm: PDM, rng: np.random.Generator, count: int) -> tuple[Pictures, Starts]:
    """Pictures whose grey level grows to the right, and the parameters of their shapes."""
    deviation = np.sqrt(np.asarray(pdm.eigenvalues))
    local = (rng.normal(size=(count, len(deviation))) * deviation).astype(np.float32)
    rotation = (rng.normal(size=(count, 3)) * 0.2).astype(np.float32)
    scale = rng.uniform(0.5, 1, count).astype(np.float32)
    truth = Starts(scale, rotation, np.full((count, 2), 80, np.float32), local)
    shapes = np.asarray(pdm.mean_shape) + np.tensordot(local, np.asarray(pdm.components), 1)
    parameters = truth.parameters()
    turns = np.asarray(jax.vmap(ops.euler_to_matrix)(parameters.rotation))
    pictures = Pictures(
        gray=np.tile(np.arange(160, dtype=np.uint8), (count, 160, 1)),
        landmarks=np.asarray(jax.vmap(project)(jnp.asarray(shapes), parameters)),
        landmarks_3d=np.einsum("sde,sne->snd", turns, shapes),
        visible=np.ones((count, 68), bool),
        rotation=rotation,
        scale=scale,
        irises=rng.uniform(0, 160, (count, 2, 9, 2)).astype(np.float32),
        lids=rng.uniform(0, 160, (count, 2, 12, 2)).astype(np.float32),
        gaze=rng.normal(size=(count, 2, 3)).astype(np.float32),
        person=np.full(count, -1),
    )
    return pictures, truth


def test_true_parameters_are_found(pdm):
    pictures, truth = _pictures(pdm, np.random.default_rng(9), 8)
    # Coefficients are bounded by three deviations, and the shapes' own size is not the mean's.
    found = true_parameters(pdm, pictures)
    again = np.asarray(jax.vmap(project)(_shapes(pdm, found), found.parameters()))
    missed = np.linalg.norm(again - pictures.landmarks, axis=-1) / truth.scale[:, None]
    assert missed.mean() < 0.3  # mm, of shapes that deviate by 3 mm
    np.testing.assert_allclose(found.rotation, truth.rotation, atol=1e-6)


def _shapes(pdm: PDM, starts: Starts) -> jax.Array:
    offsets = np.tensordot(starts.local, np.asarray(pdm.components), 1)
    return jnp.asarray(np.asarray(pdm.mean_shape) + offsets, jnp.float32)


def test_examples_hold_the_landmark_where_they_say(pdm):
    rng = np.random.default_rng(10)
    pictures, truth = _pictures(pdm, rng, 6)
    truth = dataclasses.replace(truth, rotation=np.zeros_like(truth.rotation))
    shapes = _shapes(pdm, truth)
    landmarks = np.asarray(jax.vmap(project)(shapes, truth.parameters()))
    boxes = np.concatenate([landmarks.min(axis=1), landmarks.max(axis=1)], axis=1)
    noise = NoiseConfig(rotation=0, scale=0, translation=1.5, shape=0, toward_mean=0)
    starts = random_starts(pdm, truth, boxes, rng, noise)
    rows = np.arange(6)
    cut = cut_examples(
        pdm, pictures.gray, landmarks, pictures.visible, rows, starts, scale=0.5, window=7
    )
    # Grey is the column, so the level at the true place is the label's x.
    inside = (np.abs(cut.places - 3) < 3).all(axis=-1)
    assert inside.mean() > 0.5
    for landmark, example in np.argwhere(inside)[::7]:
        x = cut.places[landmark, example, 0] + 5
        row = cut.areas[landmark, example][8].astype(np.float32)
        level = np.interp(x, np.arange(17), row)
        label = landmarks[example, landmark, 0]
        if 10 < label < 150:  # beyond the picture there is nothing
            assert level == pytest.approx(label, abs=1.0)  # px; areas hold whole grey levels


def test_starts_from_boxes_fill_them(pdm):
    rng = np.random.default_rng(11)
    pictures, truth = _pictures(pdm, rng, 5)
    low, high = pictures.landmarks.min(axis=1), pictures.landmarks.max(axis=1)
    noise = NoiseConfig(from_box=1, box_shift=0, box_scale=0)
    starts = random_starts(pdm, truth, np.concatenate([low, high], axis=1), rng, noise)
    shape = np.asarray(jax.vmap(project)(_shapes(pdm, starts), starts.parameters()))
    middle = (shape.min(axis=1) + shape.max(axis=1)) / 2
    np.testing.assert_allclose(middle, (low + high) / 2, atol=0.01)
    size = (shape.max(axis=1) - shape.min(axis=1)) / (high - low)
    np.testing.assert_allclose(size.mean(axis=1), 1, atol=0.2)


def test_two_mirrors_change_nothing(pdm):
    pictures, _ = _pictures(pdm, np.random.default_rng(12), 2)
    other = with_mirror_images(pictures).take(np.array([2, 3]))
    back = with_mirror_images(other).take(np.array([2, 3]))
    for field in dataclasses.fields(Pictures):
        before, after = getattr(pictures, field.name), getattr(back, field.name)
        np.testing.assert_allclose(before, after, atol=_FLOAT, err_msg=field.name)
    np.testing.assert_array_equal(other.gray[0, 0], pictures.gray[0, 0, ::-1])


def test_eyes_mirror_point_by_point():
    rng = np.random.default_rng(13)
    rings, lids, corners = (rng.normal(size=(1, n, 2)) for n in (9, 12, 6))
    points = eye_points(rings, lids, corners)
    np.testing.assert_array_equal(points[0, list(PART_POINTS)], corners[0])
    flip = np.array([-1, 1])
    other = eye_points(
        rings[:, MIRRORED_IRIS] * flip,
        lids[:, MIRRORED_LIDS] * flip,
        corners[:, [3, 2, 1, 0, 5, 4]] * flip,
    )
    np.testing.assert_allclose(other[0], points[0, MIRRORED_EYE] * flip)
    eye = PDM(*(jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((28, 3), (2, 28, 3), (2,))))
    twice = mirror_eye_pdm(mirror_eye_pdm(eye))
    for one, two in zip(jax.tree.leaves(eye), jax.tree.leaves(twice), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_frontal_frame_is_an_affine_picture_of_the_mean_shape(pdm):
    triangles = face_triangles(pdm)
    frames = face_frames(pdm, triangles)
    blank = blank_validator(pdm, triangles, ValidatorConfig())
    mean = np.asarray(pdm.mean_shape)[:, :2]
    gray = jnp.asarray(np.tile(np.arange(200, dtype=np.float32), (200, 1)))
    size = jnp.array([200, 200])
    padded = jnp.pad(gray, 1)
    warp = jax.jit(lambda at: warp_to_mean_shape(blank.warp, padded, at, jnp.asarray(0), size=size))
    warped, inside = warp(jnp.asarray(mean + 100))
    mask = frames.triangle_id[0] >= 0
    assert bool(inside) and mask.mean() > 0.3
    columns = np.tile(np.arange(SIDE), (SIDE, 1))[mask]
    levels = np.asarray(warped)[mask]
    slope, start = np.polyfit(columns, levels, 1)
    np.testing.assert_allclose(levels, slope * columns + start, atol=0.1)  # 1/32 px cells
    np.testing.assert_array_equal(mask, mask[:, ::-1])


def test_a_mirrored_network_answers_to_mirrored_faces(pdm):
    config = ValidatorConfig(channels=(2, 3), hidden=4)
    net = start_net(jax.random.key(3), config)
    shape = blank_validator(pdm, face_triangles(pdm), config)
    faces = jnp.asarray(np.random.default_rng(14).normal(size=(2, SIDE, SIDE)), jnp.float32)
    answer = jax.jit(lambda net, faces: logits(shape, net, faces))
    np.testing.assert_allclose(
        answer(mirror_net(net), faces[..., ::-1]), answer(net, faces), atol=_FLOAT
    )


def test_classes_follow_the_error():
    config = ValidatorConfig(bin_width=1.0)
    classes = soft_classes(np.array([0.5, 4.5, 60.0, np.inf]), config)
    np.testing.assert_array_equal(classes.argmax(axis=1), [0, 4, BINS - 1, BINS - 1])
    np.testing.assert_allclose(classes.sum(axis=1), 1, atol=1e-6)


def test_errors_leave_hidden_landmarks_out():
    each = np.full((2, 68), 2.0)
    each[0, :17] = np.nan
    errors = Errors(each, np.ones(2), np.ones(2, bool))
    np.testing.assert_array_equal(errors.mean(), 2)
    assert errors.summary()["mouth"] == 2
    boxes = jittered_boxes(
        np.random.default_rng(0).normal(size=(3, 68, 2)), np.random.default_rng(1)
    )
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_modules_survive_a_file(tmp_path, pdm):
    path = tmp_path / "pdm.safetensors"
    write_module(pdm, path)
    for one, other in zip(jax.tree.leaves(pdm), jax.tree.leaves(read_module(path)), strict=True):
        np.testing.assert_array_equal(one, other)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ModelFileError, match="missing or damaged"):
        read_module(path)


def test_a_smaller_training_is_planned():
    whole, part = landmark_config(), landmark_config(seed=3, share=0.01)
    assert part.portraits < whole.portraits and part.experts.seed == 3
    assert planned_steps("experts", part)["pictures"] < planned_steps("experts", whole)["pictures"]
    with pytest.raises(ValueError, match="positive"):
        landmark_config(share=0)
