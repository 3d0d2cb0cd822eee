"""The NumPy reference of landmark fitting against OpenFace's intermediates.

Each step starts from OpenFace's own input to it, so that errors do not add up.
"""

import functools

import numpy as np
import pytest

from jaxface.fit import strip_clnf
from jaxface.models.openface import read_model
from jaxface.reference import clnf, pdm, response_maps, rlms, validator
from jaxface.reference.comparison import golden_fits
from jaxface.reference.comparison.golden_fits import ScaleRecord, Stage

from .as_reference import make_model, make_parts, make_views

# All seven views of the main and the inner model, a large and a small face, a tracked frame.
STAGES = ("sample1", "sample4", "sample5_multiview", "default_track_f030")
CENTRES = ("frontal", "-20", "-45", "-70", "+70", "+45", "+20")

_RESPONSE = 2e-6  # responses of at most 1; float32 sums of 121 products, measured 1.2e-6
_CEN_RESPONSE = 2e-6  # of the map's peak (up to 87), measured 8e-7
_MATRIX = 5e-6  # entries of at most 7; float32, measured 1.8e-6
_JACOBIAN = 5e-5  # px per parameter, entries up to 400; float32, measured 3e-5
_CELL = 5e-5  # cells; float32 of px coordinates up to 1300, measured 4e-5
_SHIFT = 1e-5  # cells; measured 6e-6
# px; the worst case is one 0.1-cell kernel step taken or not on the last bit of a position.
_PASS = 0.05
_USUAL_PASS = 1e-4  # px; median over the passes, measured 2e-5
_LIKELIHOOD = 3e-4  # of values near 1; a kernel step moves it, measured 1.2e-4
_FIT = 0.03  # px; one Gauss-Newton step more or less, measured 2.3e-2; else 1e-4
_USUAL_FIT = 1e-4
_WARPED_PIXELS = 4  # of up to 2642 whose 1/32-px cell flips, as OpenFace fuses multiply-adds
_LOGIT = 5e-5  # logits up to 20; float32 network, measured 9e-6
# px; the algorithm is discontinuous: specification 02, H.
_DETECTION = 0.25


@functools.cache
def _load(model_dir, kind, cen_dir=None):
    model = read_model(model_dir, kind, cen_dir=cen_dir, allow_modified=cen_dir is not None)
    model = strip_clnf(model.clnf)
    return make_model(model.main), make_parts(model), make_views(model.validator)


@pytest.fixture(scope="module")
def models(model_dir):
    main, parts, _ = _load(model_dir, "openface")
    return {"main": main, **{name: part.model for name, part in parts.items()}}


@pytest.fixture(scope="module")
def views(model_dir):
    return _load(model_dir, "openface")[2]


@functools.cache
def _read(golden_dir, name):
    return Stage(golden_dir, name)


@pytest.fixture(params=STAGES)
def stage(request, golden_dir):
    return _read(golden_dir, request.param)


def _parameters(golden: golden_fits.Parameters) -> pdm.Parameters:
    rotation, translation, local = (
        array.astype(float) for array in (golden.rotation, golden.translation, golden.local)
    )
    return pdm.Parameters(float(golden.scale), rotation, translation, local)


def _scale(model: clnf.LandmarkModel, record: ScaleRecord) -> rlms.Scale:
    experts = model.experts[record.index]
    visible = experts.visible[record.view]
    return rlms.Scale(
        responses=np.where(visible[:, None, None], record.responses.astype(float), 0),
        visible=visible,
        confidence=experts.confidence[record.view],
        base=record.landmarks.astype(float),
        to_reference=record.to_reference.astype(float),
        to_image=record.to_image.astype(float),
    )


def _settings(record: ScaleRecord) -> rlms.Settings:
    return rlms.Settings(
        record.regularisation, record.sigma, record.weight_factor, record.iterations
    )


def _error(found, expected) -> float:
    assert np.shape(found) == np.shape(expected)
    return float(np.abs(np.asarray(found, float) - expected).max())


def _response_errors(model, gray, record, landmarks):
    """Largest error and peak of each visible landmark's map, from OpenFace's own area."""
    experts = model.experts[record.index]
    for i in landmarks:
        if experts.visible[record.view, i]:
            area = response_maps.area_of_interest(
                gray, record.landmarks[i], record.to_image, record.window
            )
            found = experts.response(area, record.view, i)
            yield _error(found, record.responses[i]), record.responses[i].max()


def test_view_and_similarity(models, stage):
    for record in stage.scales():
        model = models[record.model]
        experts = model.experts[record.index]
        start = _parameters(record.start)
        assert response_maps.nearest_view(record.start.rotation, experts.centres) == record.view
        frontal = pdm.Parameters(experts.scale, np.zeros(3), np.zeros(2), start.local)
        found = response_maps.align_to_reference(
            record.landmarks.astype(float), pdm.shape_2d(model.pdm, frontal)
        )
        assert _error(found[0], record.to_reference) < _MATRIX, record.name
        assert _error(found[1], record.to_image) < _MATRIX, record.name


@pytest.mark.parametrize("view", range(7), ids=CENTRES)
def test_ccnf_responses(models, golden_dir, view):
    stage = _read(golden_dir, "sample5_multiview")
    records = [r for r in stage.scales() if r.view == view and "eye" not in r.model]
    assert {r.model for r in records} == {"main", "inner"}
    seen = set()
    for record in records:
        if (record.model, record.index) in seen:
            continue
        seen.add((record.model, record.index))
        landmarks = range(0, len(record.landmarks), 4)
        for error, _ in _response_errors(models[record.model], stage.gray, record, landmarks):
            assert error < _RESPONSE, record.name


def test_all_responses_of_one_face(models, golden_dir):
    """Every landmark, the eyes included, without a single flipped cell of the warp."""
    stage = _read(golden_dir, "sample5")
    for record in stage.scales():
        landmarks = range(len(record.landmarks))
        for error, _ in _response_errors(models[record.model], stage.gray, record, landmarks):
            assert error < _RESPONSE, record.name


def test_cen_responses(model_dir, openface_dir, golden_dir):
    main, _, _ = _load(model_dir, "openface-ceclm", openface_dir / "cen-from-ccnf")
    stage = _read(golden_dir, "ceclm_sample1")
    records = [r for r in stage.scales() if r.model == "main"]
    assert {r.index for r in records} == {0, 1, 2, 3}
    for record in records:
        for error, peak in _response_errors(main, stage.gray, record, range(0, 68, 3)):
            assert error < _CEN_RESPONSE * max(peak, 1), record.name


def test_svr_response_peaks_where_the_template_lies():
    """OpenFace has no golden SVR maps; an area made of its own template has known values."""
    rng = np.random.default_rng(0)
    area = rng.uniform(0, 255, (17, 17))
    weights = np.stack([area[2:13, 4:15], np.zeros((11, 11))])
    found = response_maps.svr_response(
        area, weights, np.array([3.0, 0.0]), np.array([-1.0, np.log(3.0)])
    )
    assert found.shape == (7, 7)
    assert np.unravel_index(found.argmax(), found.shape) == (2, 4)
    np.testing.assert_allclose(found[2, 4], 0.75 / (1 + np.exp(-2.0)), rtol=1e-12)


def test_first_step(models, stage):
    for record in stage.scales():
        model, scale = models[record.model], _scale(models[record.model], record)
        start, rigid = _parameters(record.start), _parameters(record.rigid)
        jacobian = pdm.jacobian(model.pdm, rigid, rigid=False)
        jacobian = jacobian.reshape(-1, 2, jacobian.shape[1])
        golden = record.jacobian
        visible = scale.visible
        assert _error(jacobian[visible], golden[visible]) < _JACOBIAN, record.name
        for parameters, positions, shifts in (
            (start, record.positions, record.shifts),
            (rigid, record.nonrigid_positions, record.nonrigid_shifts),
        ):
            found = rlms.offsets(pdm.shape_2d(model.pdm, parameters), scale)
            assert _error(found, positions) < _CELL, record.name
            found = rlms.mean_shifts(positions.astype(float), scale, record.sigma)
            assert _error(found[visible], shifts[visible]) < _SHIFT, record.name


def test_optimiser_passes(models, stage):
    errors = []
    for record in stage.scales():
        model, scale = models[record.model], _scale(models[record.model], record)
        settings = _settings(record)
        for start, end, rigid in (
            (record.start, record.rigid, True),
            (record.rigid, record.end, False),
        ):
            found, _ = rlms.optimise(model.pdm, _parameters(start), scale, settings, rigid=rigid)
            expected = pdm.shape_2d(model.pdm, _parameters(end))
            errors.append(_error(pdm.shape_2d(model.pdm, found), expected))
            assert errors[-1] < _PASS, record.name
    assert np.median(errors) < _USUAL_PASS


def test_likelihood(models, stage):
    last = {}
    for record in stage.scales():
        last[record.name.rpartition("s")[0]] = record
    assert last
    for prefix, record in last.items():
        model, scale = models[record.model], _scale(models[record.model], record)
        _, positions = rlms.optimise(
            model.pdm, _parameters(record.rigid), scale, _settings(record), rigid=False
        )
        found = rlms.likelihood(positions, scale, record.sigma)
        golden = stage.number(f"{prefix.split(' ')[1]}model_likelihood")
        assert abs(found - golden) < _LIKELIHOOD, prefix


def test_fit_to_landmarks(models, stage):
    errors = []
    for prefix in stage.keys("target_landmarks"):
        model = models[prefix.partition("part_")[2].rstrip("_")].pdm
        found = pdm.fit_to_landmarks(model, stage.points(f"{prefix}target_landmarks").astype(float))
        expected = pdm.shape_2d(model, _parameters(stage.parameters(f"{prefix}init_")))
        errors.append(_error(pdm.shape_2d(model, found), expected))
    for prefix in stage.keys("hier_merged_landmarks"):
        merged = stage.points(f"{prefix}hier_merged_landmarks").astype(float)
        found = pdm.fit_to_landmarks(models["main"].pdm, merged)
        expected = stage.points(f"{prefix}final_landmarks")
        errors.append(_error(pdm.shape_2d(models["main"].pdm, found), expected))
    assert max(errors) < _FIT
    assert np.median(errors) < _USUAL_FIT


def test_parameters_from_box(models, golden_dir):
    stage = _read(golden_dir, "sample5_multiview")
    prefixes = stage.keys("init_bbox")
    assert len(prefixes) == 11
    for prefix in prefixes:
        x, y, width, height, *rotation = stage.arrays[f"{prefix}init_bbox"].ravel()
        box = np.array([x, y, x + width, y + height])
        found = pdm.from_box(models["main"].pdm, box, np.array(rotation))
        golden = stage.parameters(f"{prefix}init_")
        pose = [found.scale, *found.rotation, *found.translation]
        assert _error(pose, [golden.scale, *golden.rotation, *golden.translation]) < _CELL
        assert not found.local.any() and not golden.local.any()


def test_validator(views, stage):
    prefixes = stage.keys("validator_warped")
    assert prefixes
    for prefix in prefixes:
        landmarks = stage.points(f"{prefix}final_landmarks").astype(float)
        rotation = stage.parameters(f"{prefix}final_").rotation.astype(float)
        index = validator.nearest_view(views, rotation)
        assert index == stage.number(f"{prefix}validator_view")
        warped = validator.warp(views[index], stage.gray, landmarks)
        assert warped is not None
        golden = np.where(views[index].mask, stage.arrays[f"{prefix}validator_warped"], 0)
        flipped = np.abs(warped - golden) > 1e-3
        assert flipped.sum() <= _WARPED_PIXELS and _error(warped, golden) < 1
        logits = validator.run_network(
            views[index], stage.arrays[f"{prefix}validator_cnn_input"].astype(float)
        )
        assert _error(logits, stage.arrays[f"{prefix}validator_cnn_output"].ravel()) < _LOGIT
        certainty = validator.certainty(views, stage.gray, landmarks, rotation)
        assert certainty == np.float32(stage.number(f"{prefix}detection_certainty"))


@pytest.mark.parametrize(
    ("name", "prefix", "windows"),
    [("sample1", "face0_hyp0_", (11, 9, 7)), ("default_track_f030", "track_", (0, 9, 7))],
)
def test_whole_detection(model_dir, golden_dir, name, prefix, windows):
    main, parts, views = _load(model_dir, "openface")
    stage = _read(golden_dir, name)
    config = clnf.Config(windows, rlms.Settings(25, 1.5, 0), refine=True)
    start = _parameters(stage.parameters(f"{prefix}init_"))
    found = clnf.detect_landmarks(main, list(parts.values()), views, stage.gray, start, config)
    assert _error(found.fit.landmarks, stage.points(f"{prefix}final_landmarks")) < _DETECTION
    for part, fit in zip(parts, found.parts, strict=True):
        golden = stage.points(f"{prefix}part_{part}_final_landmarks")
        assert _error(fit.landmarks, golden) < _DETECTION
    assert found.certainty == np.float32(stage.number(f"{prefix}detection_certainty"))
    assert found.success
