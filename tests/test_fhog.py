"""FHOG and geometry descriptor against the NumPy reference and OpenFace's own."""

import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxface.analyze import extract_fhog, geometry_descriptor
from jaxface.models.openface import read_model
from jaxface.reference import fhog as reference
from jaxface.reference.comparison.golden_faces import STAGES, read_hog, read_stage
from jaxface.types import PDMParameters

from .precision import double_precision

_FEATURE = 1e-6  # of at most 0.85; float32 sums over 256 pixels
_GEOMETRY = 5e-6  # mm and coefficients of up to 60; sums of 34 float32 products
_STEP = 1e-6  # grey levels
_DERIVATIVE = 1e-6  # features per grey level, up to 0.05; differences in double precision

_fhog = jax.jit(extract_fhog)
_smooth_fhog = jax.jit(functools.partial(extract_fhog, smooth=True))


def as_image(array) -> jax.Array:
    return jnp.asarray(np.asarray(array), jnp.float32)


@pytest.mark.parametrize("name", STAGES)
def test_fhog_matches_golden_stage(golden_dir, samples_dir, name):
    stage = read_stage(golden_dir, samples_dir, name)
    np.testing.assert_allclose(_fhog(as_image(stage.aligned)), stage.fhog, rtol=0, atol=_FEATURE)


@pytest.mark.parametrize("run, name", [("image_sequence",) * 2, ("img_sample1", "sample1")])
def test_fhog_matches_golden_files(golden_dir, run, name):
    expected = read_hog(golden_dir / run / f"{name}.hog")
    paths = sorted((golden_dir / run / f"{name}_aligned").glob("*.bmp"))
    assert len(paths) == len(expected) > 0
    for path, descriptor in zip(paths, expected, strict=True):
        image = cv2.imread(str(path))
        assert image is not None
        found = _fhog(as_image(image[..., ::-1]))
        np.testing.assert_allclose(found, descriptor, rtol=0, atol=_FEATURE)


@pytest.mark.parametrize("shape", [(112, 112), (65, 80), (24, 40)])
@pytest.mark.parametrize("levels", [256, 3])  # few levels give many ties between channels
def test_fhog_matches_reference(shape, levels):
    rng = np.random.default_rng(levels)
    image = rng.integers(0, levels, (*shape, 3)) * (255 // (levels - 1))
    found = _fhog(as_image(image))
    np.testing.assert_allclose(found, reference.extract_fhog(image), rtol=0, atol=_FEATURE)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**31), st.integers(0, 5))
def test_ties_follow_the_column(seed, repeats):
    """Channels of equal gradient length but other direction, in blocks and in the last columns."""
    rng = np.random.default_rng(seed)
    plane = rng.integers(0, 5, (112, 112)) * 20
    image = np.stack([plane, plane.T, plane[::-1]], -1)
    image[:, :, repeats % 3] = image[:, :, (repeats + 1) % 3]
    found = _fhog(as_image(image))
    np.testing.assert_allclose(found, reference.extract_fhog(image), rtol=0, atol=_FEATURE)


@settings(deadline=None, max_examples=20)
@given(st.integers(-255, 255), st.integers(-255, 255))
def test_every_direction_has_the_reference_bin(dx, dy):
    """The four neighbours of a pixel give it any gradient of integers."""
    image = np.zeros((24, 24, 3), int)
    image[11, 13], image[11, 11] = max(dx, 0), max(-dx, 0)
    image[12, 12], image[10, 12] = max(dy, 0), max(-dy, 0)
    found = _fhog(as_image(image))
    np.testing.assert_allclose(found, reference.extract_fhog(image), rtol=0, atol=_FEATURE)


def test_black_image_gives_zeros():
    np.testing.assert_array_equal(_fhog(jnp.zeros((112, 112, 3))), 0)


def test_derivative_matches_differences():
    """The smooth histogram's, at real values, where no small change reaches a kink."""
    rng = np.random.default_rng(1)
    with double_precision():
        image = jnp.asarray(rng.uniform(0, 255, (40, 40, 3)))
        direction = jnp.asarray(rng.normal(size=image.shape))
        ahead, behind = (_smooth_fhog(image + s * _STEP * direction) for s in (1, -1))
        expected = (ahead - behind) / (2 * _STEP)
        tangent = jax.jvp(_smooth_fhog, (image,), (direction,))[1]
        np.testing.assert_allclose(tangent, expected, rtol=0, atol=_DERIVATIVE)


def test_derivative_pulls_back_what_it_pushes_forward():
    rng = np.random.default_rng(2)
    image, direction = (as_image(rng.normal(100, 40, (40, 40, 3)).round()) for _ in range(2))
    value, tangent = jax.jvp(_fhog, (image,), (direction,))
    weights = rng.normal(size=value.shape).astype(np.float32)
    (pulled,) = jax.vjp(_fhog, image)[1](jnp.asarray(weights))
    np.testing.assert_allclose(
        np.sum(pulled * direction), np.sum(tangent * weights), rtol=1e-3, atol=0
    )


def test_derivative_of_black_is_finite():
    gradient = jax.jit(jax.grad(lambda image: jnp.sum(extract_fhog(image))))
    assert jnp.isfinite(gradient(jnp.zeros((40, 40, 3)))).all()


@pytest.mark.untyped
def test_wrong_rank_raises():
    with pytest.raises(ValueError, match="aligned: expected shape"):
        extract_fhog(jnp.zeros((112, 112)))


@pytest.fixture(scope="module")
def pdm(model_dir):
    return read_model(model_dir).analyser.pdm


def make_parameters(local) -> PDMParameters:
    return PDMParameters(jnp.ones(()), jnp.zeros(3), jnp.zeros(2), jnp.asarray(local, jnp.float32))


@pytest.mark.parametrize("name", STAGES)
def test_geometry_matches_golden_stage(pdm, golden_dir, samples_dir, name):
    stage = read_stage(golden_dir, samples_dir, name)
    found = geometry_descriptor(pdm, make_parameters(stage.local))
    np.testing.assert_allclose(found, stage.geometry, rtol=0, atol=_GEOMETRY)


def test_geometry_is_linear_with_the_reference_derivative(pdm):
    rng = np.random.default_rng(0)
    local, change = rng.normal(size=(2, 34)) * 10

    def descriptor(values):
        return geometry_descriptor(pdm, make_parameters(values))

    value, tangent = jax.jvp(descriptor, (as_image(local),), (as_image(change),))
    components = np.asarray(pdm.components)
    for found, coefficients in ((value, local), (tangent, change)):
        expected = reference.geometry_descriptor(components, coefficients.astype(np.float32))
        np.testing.assert_allclose(found, expected, rtol=0, atol=_GEOMETRY)
