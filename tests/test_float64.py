"""Detector, fit and analysis in float64, against references in float64 and results in float32.

Strict promotion is on: a constant of float32 anywhere on the way would raise.
"""

import functools
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxface import (
    Camera,
    Model,
    PDMParameters,
    analyze_frame,
    detect_faces,
    fit_landmarks,
    load_model,
    read_video,
    to_gray,
    track_frame,
)
from jaxface.analyze import (
    align_face,
    alignment_matrix,
    baseline_medians,
    estimate_head_pose,
    extract_fhog,
    geometry_descriptor,
    init_baseline,
    label_presence,
    predict_action_units,
    update_baseline,
)
from jaxface.pipeline import clip_frame, several_frame, start_clip, start_several
from jaxface.reference import align, fhog, head_pose, medians
from jaxface.types import Fit

from .conftest import ROOT
from .precision import double_precision

_BOX = 1e-3  # px; float32 corrections times boxes of some 300 px, measured 2e-5
# In others the probability of several boxes rounds to 1 in float32 alone, and another box is kept.
_FRAME = 100
_TOL = 1e-9  # px, mm, rad or units: what float64 leaves of values up to 1000; float32 leaves 1e-4
_POSE = 1e-6  # mm and rad; 12 steps to a minimum, where the reference stops by its error

_FACE = (214.9, 173.2, 422.2, 394.9)  # px; its box in that frame
# The areas that a fit looks at lie in cells of 1/32 px: last bits move them, and the fit by its
# noise, some 0.03 px. Measured: 0.031 px, 0.019 mm and rad, 0.0017 of a unit vector, 0.041 of an
# intensity.
_SAME = {"landmarks": 0.1, "head_pose": 0.1, "gaze": 0.01, "intensity": 0.15}

_ROTATION = np.array([0.1, -0.3, 0.05])  # rad


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    with double_precision(), jax.numpy_dtype_promotion("strict"):
        yield


def as_float64(tree):
    """The same with all its floats in float64."""
    return jax.tree.map(
        lambda x: jnp.asarray(x, jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )


def assert_float64(tree) -> None:
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(tree)}
    assert "float64" in kinds and "float32" not in kinds


@pytest.fixture(scope="module")
def shipped() -> Model:
    return load_model()


@pytest.fixture
def model(shipped: Model) -> Model:
    return as_float64(shipped)


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    clip = read_video(ROOT / "bench" / "data" / "talking_head.mp4")
    return next(itertools.islice(iter(clip), _FRAME, None))


@pytest.fixture
def shape(model: Model) -> np.ndarray:
    """A face that smiles somewhat, mm."""
    pdm = model.analyser.pdm
    return np.asarray(pdm.mean_shape) + 8 * np.asarray(pdm.components[3])


@pytest.fixture
def parameters(model: Model) -> PDMParameters:
    count = model.analyser.pdm.eigenvalues.shape[0]
    local = jnp.zeros(count, jnp.float64).at[3].set(8.0)
    return PDMParameters(
        jnp.float64(2.0), jnp.asarray(_ROTATION), jnp.asarray([310.0, 240.0]), local
    )


@pytest.fixture
def landmarks(shape: np.ndarray) -> np.ndarray:
    """Where a camera with a focal length of 1000 px sees the face, 500 mm away."""
    posed = shape @ head_pose.euler_to_matrix(_ROTATION).T + [-5, 0, 500]
    return posed[:, :2] / posed[:, 2:] * 1000 + [320, 240]


def test_detector(shipped: Model, model: Model, frame: np.ndarray):
    image = jnp.asarray(frame)
    for picture in (image, image.astype(jnp.float64)):
        found = jax.jit(detect_faces)(model.detector, picture)
        assert_float64(found)
        single = jax.jit(detect_faces)(shipped.detector, image.astype(jnp.float32))
        assert int(found.valid.sum()) == int(single.valid.sum()) == 1
        np.testing.assert_allclose(found.boxes, single.boxes, rtol=0, atol=_BOX)
        score = float(found.scores[0])
        assert score != float(np.float32(score))  # more digits than float32 has


@pytest.mark.parametrize("kind", [np.uint8, np.float64])
def test_every_stage_gives_float64(model: Model, kind: type):
    """What the fit and all that follows give, which is known before anything is compiled."""
    image = jnp.zeros((240, 320, 3), kind)
    camera = Camera(*map(jnp.float64, (500, 500, 160, 120)))
    box = jnp.asarray([50.0, 50.0, 150.0, 150.0])
    fit = jax.eval_shape(_fit, model, image, box)
    clip, several = start_clip(model), start_several(model)
    assert_float64(fit)
    assert_float64((clip, several))
    assert_float64(jax.eval_shape(analyze_frame, model, image, fit, camera))
    assert_float64(jax.eval_shape(track_frame, model, clip.track, image))
    assert_float64(jax.eval_shape(clip_frame, model, clip, image, camera))
    assert_float64(jax.eval_shape(several_frame, model, several, image, camera))


def _fit(model: Model, image: jax.Array, box: jax.Array) -> Fit:
    return fit_landmarks(model.clnf, to_gray(image), box)


def _fit_and_measure(model: Model, image: jax.Array, box: jax.Array, camera: Camera):
    fit = _fit(model, image, box)
    return fit, analyze_frame(model, image, fit, camera)


def test_fit_and_analysis(shipped: Model, model: Model, frame: np.ndarray):
    """The same face as in float32, but for what a fit in cells of 1/32 px makes of last bits."""
    image, box = jnp.asarray(frame), _FACE
    results = []
    for variant, dtype in ((shipped, np.float32), (model, np.float64)):
        camera = Camera(*(jnp.asarray(x, dtype) for x in (500, 500, 320, 240)))
        inputs = variant, image, jnp.asarray(box, dtype), camera
        results.append(jax.jit(_fit_and_measure)(*inputs))
    single, double = (jax.tree.map(np.asarray, result) for result in results)
    assert_float64(double)
    (fit, face), (precise_fit, precise) = single, double
    assert fit.success and fit.confidence == precise_fit.confidence  # a class of the validator
    for name, found, expected in (
        ("landmarks", precise_fit.landmarks, fit.landmarks),
        ("head_pose", precise.head_pose, face.head_pose),
        ("gaze", precise.gaze.gaze, face.gaze.gaze),
        ("intensity", precise.scores.intensity, face.scores.intensity),
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=_SAME[name], err_msg=name)


def test_no_face_has_the_type_of_faces(model: Model):
    """The two are branches of one conditional."""
    nothing = detect_faces(model.detector, jnp.zeros((20, 20, 3), jnp.float64))
    assert_float64(nothing)


def test_head_pose(shape: np.ndarray, landmarks: np.ndarray, parameters: PDMParameters):
    camera = Camera(*map(jnp.float64, (1000, 1000, 320, 240)))
    found = jax.jit(estimate_head_pose)(
        jnp.asarray(shape), jnp.asarray(landmarks), parameters, camera
    )
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [-5, 0, 500, *_ROTATION], rtol=0, atol=_POSE)


def test_appearance(
    model: Model, frame: np.ndarray, landmarks: np.ndarray, parameters: PDMParameters
):
    pdm = model.analyser.pdm
    points, pixels = jnp.asarray(landmarks), jnp.asarray(frame, jnp.float64)
    matrix = jax.jit(alignment_matrix)(points, parameters, pdm)
    rigid = list(align.RIGID_POINTS)
    target = 0.7 * np.asarray(pdm.mean_shape)[rigid, :2]
    expected = align.similarity(landmarks[rigid], target)
    np.testing.assert_allclose(matrix[:, :2], expected, rtol=0, atol=_TOL)
    centre = matrix[:, :2] @ parameters.translation + matrix[:, 2]
    np.testing.assert_allclose(centre, [56, 56], rtol=0, atol=_TOL)
    draw = jax.jit(functools.partial(align_face, scheme=model.clnf.scheme))
    aligned = draw(pixels, points, parameters, pdm)
    assert_float64(aligned)
    of_bytes = draw(jnp.asarray(frame), points, parameters, pdm)
    np.testing.assert_array_equal(aligned.image, of_bytes.image)
    descriptor = jax.jit(extract_fhog)(aligned.image)
    expected = fhog.extract_fhog(np.asarray(aligned.image).astype(int))
    np.testing.assert_allclose(descriptor, expected, rtol=0, atol=_TOL)


def test_action_units(model: Model, parameters: PDMParameters):
    rng = np.random.default_rng(0)
    pdm, units = model.analyser.pdm, model.analyser.video
    geometry = geometry_descriptor(pdm, parameters)
    features = jnp.asarray(rng.uniform(0, 0.4, (12, 12, 31)))
    size = units.mean.shape[0]
    state = init_baseline(size - geometry.size, geometry.size, np.dtype(np.float64))
    for _ in range(3):
        state = jax.jit(update_baseline)(state, features, geometry, jnp.asarray(True))
    assert_float64(state)
    neutral = baseline_medians(state)
    assert neutral.dtype == np.float64
    fhogs, geometries = (np.tile(np.ravel(part), (3, 1)) for part in (features, geometry))
    expected = [rows[-1] for rows in medians.run_medians(fhogs, geometries, [True] * 3)]
    np.testing.assert_allclose(neutral, np.concatenate(expected), rtol=0, atol=_TOL)
    intensity, presence = predict_action_units(units, features, geometry, neutral)
    everything = np.concatenate([np.ravel(features), geometry]) - np.asarray(units.mean)
    for heads, found in ((units.intensity, intensity), (units.presence, presence)):
        taken = everything - np.where(np.asarray(heads.dynamic)[:, None], neutral, 0)
        values = np.sum(np.asarray(heads.weights) * taken, axis=1) + np.asarray(heads.bias)
        if heads is units.intensity:
            assert found.dtype == np.float64
            np.testing.assert_allclose(found, values, rtol=0, atol=_TOL)
        else:
            np.testing.assert_array_equal(found, label_presence(heads, jnp.asarray(values)))
