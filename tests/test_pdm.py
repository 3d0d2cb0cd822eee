"""The PDM against OpenFace's intermediates, the NumPy reference and automatic derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from jaxface.fit import (
    PDM,
    bounding_box,
    clamp_local,
    fit_pdm_to_landmarks,
    full_jacobian,
    parameters_from_box,
    project,
    rigid_jacobian,
    shape_2d,
    shape_3d,
    update_parameters,
)
from jaxface.ops import euler_to_matrix
from jaxface.reference import pdm as reference
from jaxface.reference.comparison.fit_inputs import (
    STAGES,
    error,
    models_of,
    read_stage,
    to_parameters,
    to_reference,
)
from jaxface.types import PDMParameters

from .as_reference import make_pdm
from .precision import double_precision

_SHAPE = 2e-4  # px of up to 1300; float32, measured 6e-5
_SHAPE_3D = 3e-5  # mm of up to 100; float32, measured 1e-5
_JACOBIAN = 1e-4  # px per parameter, entries up to 400; float32, measured 3e-5
_AUTOMATIC = 2e-4  # as above; both sides are float32, measured 6e-5
_POSE = 5e-5  # px and rad; float32 of positions up to 600 px, measured 1.5e-5
_ANGLE = 1e-6  # entries of rotations; float32, measured 1.2e-7
_UPDATED = 1e-5  # mm, px; one float32 sum
# px; a last bit decides on a Gauss-Newton step more or less. Measured 1.8e-4.
_FIT = 0.03
_USUAL_FIT = 1e-4  # px; median over the fits, measured 3e-5
_RECOVERED = 0.005  # of the face's size; the prior pulls shapes to the mean, measured 0.001
_RECOVERED_ANGLE = 0.03  # rad; as above, measured 0.008
_DERIVATIVE = 1e-4  # relative; the fit stops short of the minimum, measured 2e-6

_shape_2d = jax.jit(shape_2d)
_fit = jax.jit(fit_pdm_to_landmarks)
_from_box = jax.jit(parameters_from_box)
_jacobians = jax.jit(lambda pdm, s, p: (rigid_jacobian(s, p), full_jacobian(pdm, s, p)))
_update = jax.jit(update_parameters)
_seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def pdms(openface_model) -> dict[str, PDM]:
    return {name: model.pdm for name, model in models_of(openface_model).items()}


@pytest.fixture(scope="module")
def references(pdms) -> dict[str, reference.PDM]:
    return {name: make_pdm(pdm) for name, pdm in pdms.items()}


def draw(pdm: PDM, seed: int, *, turn: float = 0.6, deviations: float = 1.0) -> PDMParameters:
    """A face of 60 to 600 px within `turn` rad of the frontal pose."""
    rng = np.random.default_rng(seed)
    bound = deviations * np.sqrt(np.asarray(pdm.eigenvalues))
    return PDMParameters(
        scale=jnp.asarray(rng.uniform(0.5, 4), jnp.float32),
        rotation=jnp.asarray(rng.uniform(-turn, turn, 3), jnp.float32),
        translation=jnp.asarray(rng.uniform(50, 900, 2), jnp.float32),
        local=jnp.asarray(rng.uniform(-bound, bound), jnp.float32),
    )


@pytest.mark.parametrize("name", ["main", "inner", "left_eye_28", "right_eye_28"])
@settings(max_examples=10, deadline=None)
@given(seed=_seeds)
def test_shapes_match_the_reference(pdms, references, name, seed):
    p = draw(pdms[name], seed, turn=1.5, deviations=3)
    plain = to_reference(p)
    expected_3d = reference.shape_3d(references[name], plain.local)
    assert error(shape_3d(pdms[name], p.local), expected_3d) < _SHAPE_3D
    expected = reference.shape_2d(references[name], plain)
    found = _shape_2d(pdms[name], p)
    assert error(found, expected) < _SHAPE
    corners = np.concatenate([np.min(found, axis=0), np.max(found, axis=0)])
    assert error(jax.jit(bounding_box)(pdms[name], p), corners) == 0


@pytest.mark.parametrize("name", ["main", "inner", "left_eye_28"])
@settings(max_examples=10, deadline=None)
@given(seed=_seeds)
def test_jacobian_matches_automatic_derivatives(pdms, references, name, seed):
    """By a turn in object space, R(r) (I + [omega]x): not by the Euler angles."""
    pdm, p = pdms[name], draw(pdms[name], seed, turn=1.5, deviations=3)
    rigid, full = _jacobians(pdm, shape_3d(pdm, p.local), p)
    plain = reference.jacobian(references[name], to_reference(p), rigid=False)
    assert error(full, plain.reshape(full.shape)) < _JACOBIAN
    np.testing.assert_array_equal(np.asarray(full[..., :6]), np.asarray(rigid))
    expected = _automatic_jacobian(pdm, p)
    assert error(full, expected) < _AUTOMATIC


@jax.jit
def _automatic_jacobian(pdm: PDM, p: PDMParameters):
    def moved(delta):
        x, y, z = delta[1:4]
        zero = jnp.zeros_like(x)
        cross = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
        turn = jnp.matmul(
            euler_to_matrix(p.rotation), jnp.eye(3) + cross, precision=jax.lax.Precision.HIGHEST
        )
        shape = shape_3d(pdm, p.local + delta[6:])
        flat = jnp.matmul(shape, turn[:2].T, precision=jax.lax.Precision.HIGHEST)
        return (p.scale + delta[0]) * flat + p.translation[None] + delta[4:6][None]

    return jax.jacfwd(moved)(jnp.zeros(6 + p.local.shape[0]))


def test_golden_jacobians(pdms, golden_dir):
    for name in STAGES:
        for record in read_stage(golden_dir, name).scales():
            pdm, p = pdms[record.model], to_parameters(record.rigid)
            _, full = _jacobians(pdm, shape_3d(pdm, p.local), p)
            golden = record.jacobian
            seen = np.abs(golden).sum(axis=(1, 2)) > 0
            assert seen.any()
            assert error(np.asarray(full)[seen], golden[seen]) < _JACOBIAN, record.name


@settings(max_examples=50, deadline=None)
@given(seed=_seeds, size=st.floats(0, 1), rigid=st.booleans())
def test_updates_match_the_reference(pdms, seed, size, rigid):
    p = draw(pdms["main"], seed)
    rng = np.random.default_rng(seed + 1)
    delta = (size * rng.normal(size=6 if rigid else 40)).astype(np.float32)
    found, expected = _update(p, delta), reference.update(to_reference(p), delta.astype(float))
    # As matrices: Euler angles jump by a full turn at half turns.
    turned = (euler_to_matrix(found.rotation), reference.euler_to_matrix(expected.rotation))
    assert error(*turned) < _ANGLE
    assert error(found.scale, expected.scale) < _UPDATED
    assert error(found.translation, expected.translation) < _UPDATED
    assert error(found.local, expected.local) < _UPDATED
    if rigid:
        np.testing.assert_array_equal(np.asarray(found.local), np.asarray(p.local))


def test_update_turns_by_the_arc_tangent(pdms):
    p = draw(pdms["main"], 0, turn=0)
    found = _update(p, np.array([0, 0, 0.5, 0, 0, 0], np.float32))
    assert error(found.rotation, [0, np.arctan(0.5), 0]) < _ANGLE


def test_update_has_finite_derivatives_at_zero(pdms):
    p = draw(pdms["main"], 0)
    slopes = jax.jit(jax.jacrev(lambda d: jax.tree.leaves(update_parameters(p, d))))(jnp.zeros(40))
    assert all(np.isfinite(slope).all() for slope in slopes)
    assert np.abs(slopes[1][:, 1:4]).max() > 0.5


def test_clamp_limits_each_coefficient_to_three_deviations(pdms, references):
    pdm = pdms["main"]
    p = draw(pdm, 3, deviations=5)
    found = clamp_local(pdm, p)
    expected = reference.clamp(references["main"], to_reference(p).local)
    assert error(found.local, expected) < _UPDATED
    assert (np.abs(expected) < np.abs(p.local)).sum() > 5
    for name in ("scale", "rotation", "translation"):
        np.testing.assert_array_equal(getattr(found, name), getattr(p, name))


@pytest.mark.parametrize("name", ["sample5_multiview", "sample1"])
def test_parameters_from_golden_boxes(pdms, golden_dir, name):
    stage = read_stage(golden_dir, name)
    prefixes = stage.keys("init_bbox")
    assert len(prefixes) == (11 if "multiview" in name else 1)
    for prefix in prefixes:
        x, y, width, height, *rotation = stage.arrays[f"{prefix}init_bbox"].ravel()
        box = np.array([x, y, x + width, y + height], np.float32)
        found = _from_box(pdms["main"], box, np.array(rotation, np.float32))
        golden = stage.parameters(f"{prefix}init_")
        assert error(found.scale, golden.scale) < _POSE
        assert error(found.rotation, golden.rotation) < _POSE
        assert error(found.translation, golden.translation) < _POSE
        assert not np.any(found.local)


def test_box_of_parameters_from_a_box(pdms):
    box = np.array([100, 50, 300, 270], np.float32)
    p = _from_box(pdms["main"], box, np.zeros(3, np.float32))
    found = np.asarray(jax.jit(bounding_box)(pdms["main"], p))
    assert error((found[:2] + found[2:]) / 2, (box[:2] + box[2:]) / 2) < _SHAPE
    # One scale cannot fill both sides: it is the mean of the two that would.
    ratios = (box[2:] - box[:2]) / (found[2:] - found[:2])
    assert abs(np.mean(ratios) - 1) < 1e-6 and np.ptp(ratios) > 0.01


def test_golden_fits(pdms, references, golden_dir):
    """Starts of parts (most landmarks missing) and fits to the merged landmarks."""
    errors = []
    for name in STAGES:
        stage = read_stage(golden_dir, name)
        for prefix in stage.keys("target_landmarks"):
            part = prefix.partition("part_")[2].rstrip("_")
            target = stage.points(f"{prefix}target_landmarks")
            found = _shape_2d(pdms[part], _fit(pdms[part], target))
            expected = _shape_2d(pdms[part], to_parameters(stage.parameters(f"{prefix}init_")))
            errors.append(error(found, expected))
            assert errors[-1] < _FIT, prefix
        for prefix in stage.keys("hier_merged_landmarks"):
            merged = stage.points(f"{prefix}hier_merged_landmarks")
            found = _shape_2d(pdms["main"], _fit(pdms["main"], merged))
            errors.append(error(found, stage.points(f"{prefix}final_landmarks")))
            assert errors[-1] < _FIT, prefix
    assert np.median(errors) < _USUAL_FIT


@settings(max_examples=20, deadline=None)
@given(seed=_seeds)
def test_fit_matches_the_reference(pdms, references, seed):
    """Noisy shapes, some landmarks missing."""
    rng = np.random.default_rng(seed)
    target = np.array(_shape_2d(pdms["main"], draw(pdms["main"], seed)))
    target += rng.normal(scale=2, size=target.shape).astype(np.float32)
    target[rng.random(68) < 0.2] = 0
    found = _shape_2d(pdms["main"], _fit(pdms["main"], target))
    plain = reference.fit_to_landmarks(references["main"], target.astype(float))
    assert error(found, reference.shape_2d(references["main"], plain)) < _FIT


@settings(max_examples=20, deadline=None)
@given(seed=_seeds, missing=st.integers(0, 20))
def test_fit_recovers_the_pose_of_projected_shapes(pdms, seed, missing):
    pdm, p = pdms["main"], draw(pdms["main"], seed, turn=0.4, deviations=0.5)
    truth = np.asarray(_shape_2d(pdm, p))
    present = np.ones(68, bool)
    present[np.random.default_rng(seed).permutation(68)[:missing]] = False
    found = _fit(pdm, truth * present[:, None], present)
    size = np.ptp(truth, axis=0).max()
    assert error(_shape_2d(pdm, found), truth) < _RECOVERED * size
    assert abs(found.scale / p.scale - 1) < 0.05
    assert error(found.rotation, p.rotation) < _RECOVERED_ANGLE


def test_missing_landmarks_do_not_count(pdms):
    """By default those whose x is exactly 0, whatever their y."""
    pdm = pdms["main"]
    truth = np.array(_shape_2d(pdm, draw(pdm, 5)))
    present = np.arange(68) % 3 > 0
    expected = _shape_2d(pdm, _fit(pdm, np.where(present[:, None], truth, 0), present))
    for junk in (np.array([0, 77.0]), np.array([0, -1e4])):
        found = _fit(pdm, np.where(present[:, None], truth, junk).astype(np.float32))
        np.testing.assert_array_equal(_shape_2d(pdm, found), expected)


def test_no_landmark_at_all_gives_finite_parameters_and_derivatives(pdms):
    nothing = jnp.zeros((68, 2))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(_fit(pdms["main"], nothing)))
    slope = jax.jit(jax.grad(lambda x: jnp.sum(_total(pdms["main"], x))))(nothing)
    assert np.isfinite(slope).all()


def _total(pdm: PDM, landmarks):
    return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(fit_pdm_to_landmarks(pdm, landmarks)))


def test_fit_derivatives_match_differences(pdms):
    """Differences of true minima; the fit's stopping rule reaches them only about."""
    rng = np.random.default_rng(7)
    with double_precision():
        pdm = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), pdms["main"])
        face = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), draw(pdm, 9))
        target = shape_2d(pdm, face) + rng.normal(scale=0.3, size=(68, 2))
        direction = jnp.asarray(rng.normal(size=target.shape))
        points = jax.jit(functools.partial(_fitted_points, pdm))
        found, moved = jax.jvp(points, (target,), (direction,))
        weight = jnp.asarray(rng.normal(size=found.shape))
        (back,) = jax.vjp(points, target)[1](weight)
        step = 1e-3
        ends = [_minimum(pdm, face, target + side * step * direction) for side in (1, -1)]
        expected = (ends[0] - ends[1]) / (2 * step)
        assert expected.dtype == np.float64 and error(found, _minimum(pdm, face, target)) < _FIT
    assert error(moved, expected) < _DERIVATIVE * np.abs(expected).max()
    forward = np.sum(np.asarray(weight) * np.asarray(moved))
    np.testing.assert_allclose(np.sum(np.asarray(back) * np.asarray(direction)), forward, rtol=1e-6)


def _fitted_points(pdm: PDM, target):
    return shape_2d(pdm, fit_pdm_to_landmarks(pdm, target))


def _minimum(pdm: PDM, start: PDMParameters, target):
    """Landmarks of the regularised least squares solution, by full Gauss-Newton steps."""
    values, unravel = ravel_pytree(start)

    @jax.jit
    def residuals(values):
        p = unravel(values)
        apart = (shape_2d(pdm, p) - target).ravel()
        return jnp.concatenate([apart, p.local / jnp.sqrt(pdm.eigenvalues)])

    slope = jax.jit(jax.jacfwd(residuals))
    for _ in range(15):
        values = values - np.linalg.lstsq(slope(values), residuals(values), rcond=None)[0]
    return shape_2d(pdm, unravel(values))


def test_derivatives_by_the_model_are_finite(pdms):
    """A PDM is weights: it can be trained through the fit."""
    target = _shape_2d(pdms["main"], draw(pdms["main"], 11))
    slopes = jax.jit(jax.grad(_total))(pdms["main"], target)
    for leaf in jax.tree.leaves(slopes):
        assert np.isfinite(leaf).all() and np.any(leaf)


def test_projection_of_one_point():
    """By hand: a quarter turn about y takes z to x and x away from the camera."""
    pose = PDMParameters(
        scale=jnp.asarray(2.0),
        rotation=jnp.asarray([0, np.pi / 2, 0], jnp.float32),
        translation=jnp.asarray([10.0, 20.0]),
        local=jnp.zeros(0),
    )
    found = project(jnp.asarray([[1.0, 3.0, 5.0]]), pose)
    assert error(found, [[20, 26]]) < _UPDATED
