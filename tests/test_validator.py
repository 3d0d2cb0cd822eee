"""The validator against OpenFace's warped faces, logits and certainties, and the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxface.fit import (
    PreparedValidator,
    Validator,
    normalise_face,
    run_validator,
    strip_clnf,
    validate_landmarks,
    warp_to_mean_shape,
)
from jaxface.ops import pad_border
from jaxface.reference import validator as reference
from jaxface.reference.comparison.fit_inputs import (
    CEN_STAGES,
    STAGES,
    error,
    last_run,
    put_on_canvas,
    read_stage,
    to_parameters,
)
from jaxface.reference.comparison.golden_fits import Stage
from jaxface.types import PDMParameters

from .as_reference import make_views

_WARPED = 1e-3  # grey levels; float32 sums of four taps
_FLIPPED_PIXELS = 4  # of up to 2642, as OpenFace fuses multiply-adds: measured 2
_FLIPPED = 255 / 32  # grey levels; one 1/32-px cell, measured 2.1
_NORMALISED = 2e-6  # of the largest value; float32 statistics over 2642 pixels, measured 6e-7
_LOGIT = 5e-5  # logits up to 20; float32 network, measured 5e-6
_FACE = {"openface_model": STAGES, "openface_ceclm": CEN_STAGES}


@jax.jit
def _warp(warp, gray, landmarks, view, *, size):
    return warp_to_mean_shape(warp, pad_border(gray), landmarks, view, size=size)


_normalise = jax.jit(normalise_face)


@jax.jit
def _network(validator, face, view):
    return run_validator(validator, face[None], view)[0]


_validate = jax.jit(validate_landmarks)


@pytest.fixture(scope="module", params=_FACE)
def checks(request, golden_dir):
    """Every validated fit: validator, picture, its size, stage, prefix of the keys."""
    clnf, found = request.getfixturevalue(request.param), []
    for name in _FACE[request.param]:
        stage = read_stage(golden_dir, name)
        gray, size = put_on_canvas(stage)
        for prefix in stage.keys("validator_warped"):
            found.append((clnf.validator, gray, size, stage, prefix))
    assert len(found) >= 2
    return found


def _final(stage: Stage, prefix: str) -> tuple[np.ndarray, PDMParameters]:
    run = last_run(stage, f"{prefix}final_landmarks")
    parameters = to_parameters(stage.parameters(f"{prefix}final_", run))
    return stage.points(f"{prefix}final_landmarks{run}"), parameters


def test_a_validator_that_was_not_prepared_gives_the_same(openface_model):
    validator, raw = openface_model.validator, strip_clnf(openface_model).validator
    assert isinstance(validator, PreparedValidator) and isinstance(raw, Validator)
    face = jax.random.normal(jax.random.key(1), validator.warp.mask.shape[1:])
    for view in range(len(validator.warp.centres)):
        found = _network(raw, face, view)
        np.testing.assert_array_equal(found, _network(validator, face, view))


def test_golden_warps(checks):
    for validator, gray, size, stage, prefix in checks:
        view = int(stage.number(f"{prefix}validator_view"))
        landmarks, _ = _final(stage, prefix)
        found, inside = _warp(validator.warp, gray, landmarks, view, size=size)
        golden = np.where(validator.warp.mask[view], stage.arrays[f"{prefix}validator_warped"], 0)
        apart = np.abs(np.asarray(found) - golden)
        assert inside and golden.max() > 50
        assert (apart > _WARPED).sum() <= _FLIPPED_PIXELS and apart.max() < _FLIPPED, prefix


def test_golden_normalisation(checks):
    for validator, _, _, stage, prefix in checks:
        view = int(stage.number(f"{prefix}validator_view"))
        warped = np.where(validator.warp.mask[view], stage.arrays[f"{prefix}validator_warped"], 0)
        found = _normalise(validator.warp, warped, view)
        golden = stage.arrays[f"{prefix}validator_cnn_input"]
        assert error(found, golden) < _NORMALISED * np.abs(golden).max(), prefix


def test_golden_logits(checks):
    for validator, _, _, stage, prefix in checks:
        view = int(stage.number(f"{prefix}validator_view"))
        found = _network(validator, stage.arrays[f"{prefix}validator_cnn_input"], view)
        golden = stage.arrays[f"{prefix}validator_cnn_output"].ravel()
        assert error(found, golden) < _LOGIT, prefix


def test_golden_certainties(checks):
    """Exact: 1 - (class + 0.5) / classes, and 0.725 for class 5 of CE-CLM's 20."""
    for validator, gray, size, stage, prefix in checks:
        landmarks, parameters = _final(stage, prefix)
        found = _validate(validator, gray, landmarks, parameters, size=size)
        assert found == np.float32(stage.number(f"{prefix}detection_certainty")), prefix


def _looking(yaw: float) -> PDMParameters:
    return PDMParameters(
        scale=jnp.asarray(1.0),
        rotation=jnp.asarray([0, yaw, 0], jnp.float32),
        translation=jnp.zeros(2),
        local=jnp.zeros(34),
    )


@pytest.mark.parametrize("degrees", [0, -20, -45, -70, 20, 45, 70])
def test_all_views_match_the_reference(openface_model, golden_dir, degrees):
    """One face pushed through each view's triangles and network; a part is off the picture."""
    stage = read_stage(golden_dir, "sample5_multiview")
    gray, size = put_on_canvas(stage)
    landmarks = stage.points("face0_chosen_landmarks") + np.array([-230, 100], np.float32)
    assert landmarks.min() < 0
    views = make_views(strip_clnf(openface_model).validator)
    rotation = np.array([0, np.deg2rad(degrees), 0])
    index = reference.nearest_view(views, rotation)
    np.testing.assert_allclose(views[index].centre[1], rotation[1], atol=1e-6)
    warped, _ = _warp(openface_model.validator.warp, gray, landmarks, index, size=size)
    expected = reference.warp(views[index], stage.gray, landmarks.astype(float))
    assert expected is not None
    apart = np.abs(np.asarray(warped) - expected)
    assert (apart > _WARPED).sum() <= _FLIPPED_PIXELS
    face = _normalise(openface_model.validator.warp, expected.astype(np.float32), index)
    exact = reference.normalise(views[index], expected)
    assert error(face, exact) < _NORMALISED * np.abs(exact).max()
    logits = _network(openface_model.validator, face, index)
    assert error(logits, reference.run_network(views[index], np.asarray(face, float))) < _LOGIT
    parameters = _looking(np.deg2rad(degrees))
    found = _validate(openface_model.validator, gray, landmarks, parameters, size=size)
    assert found == np.float32(
        reference.certainty(views, stage.gray, landmarks.astype(float), rotation)
    )


def test_landmarks_beside_the_picture_have_no_certainty(openface_model, golden_dir):
    stage = read_stage(golden_dir, "sample1")
    gray, size = put_on_canvas(stage)
    landmarks = stage.points("face0_chosen_landmarks")
    for shift in ((-900, 0), (0, -900), (700, 0), (0, 700)):
        moved = landmarks + np.array(shift, np.float32)
        found = _validate(openface_model.validator, gray, moved, _looking(0), size=size)
        assert found == 0


def test_padding_of_the_picture_does_not_count(openface_model, golden_dir):
    """Whatever lies beyond `size` is neither sampled nor part of the face's box."""
    stage = read_stage(golden_dir, "sample1")
    gray, size = put_on_canvas(stage)
    landmarks = stage.points("face0_chosen_landmarks") + np.array([0, 180], np.float32)
    assert landmarks[:, 1].max() > int(size[0])
    dirty = jnp.where(jnp.arange(gray.shape[0])[:, None] >= size[0], 200, gray)
    for view in (0, 6):
        clean_face, _ = _warp(openface_model.validator.warp, gray, landmarks, view, size=size)
        dirty_face, _ = _warp(openface_model.validator.warp, dirty, landmarks, view, size=size)
        np.testing.assert_array_equal(clean_face, dirty_face)


def test_a_black_picture_has_a_certainty(openface_model):
    landmarks = np.random.default_rng(0).uniform(20, 400, (68, 2)).astype(np.float32)
    size = jnp.asarray([578, 640])
    gray = jnp.zeros((578, 640))
    found = _validate(openface_model.validator, gray, landmarks, _looking(0), size=size)
    assert 0 <= found < 0.725
