"""Face alignment against the NumPy reference and OpenFace's aligned faces."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxface.analyze import AlignConfig, align_face, alignment_matrix, face_mask, warp_to_aligned
from jaxface.fit import PDM
from jaxface.models.openface import read_model
from jaxface.ops import affine_cells, pad_border, sample_cells
from jaxface.reference import align as reference
from jaxface.reference.comparison.golden_faces import STAGES, read_landmarks, read_stage
from jaxface.types import PDMParameters

from .precision import METAL_JAX

_LINEAR = 1e-6  # of about 0.5; a few float32 roundings
_OFFSET = 1e-4  # px of several hundred; float32
# px; two units of OpenFace's own float32. Older compilers add up in another order: four.
_GOLDEN_OFFSET = 7e-5 if METAL_JAX else 4e-5
_LEVEL_SHARE = 1e-3  # share of samples that may differ by more than one grey level
_GRADIENT = 1e-2  # grey levels per px; the ramp is rounded to whole levels


@pytest.fixture(scope="module")
def model(model_dir):
    return read_model(model_dir)


@pytest.fixture(scope="module", params=STAGES)
def stage(request, golden_dir, samples_dir):
    return read_stage(golden_dir, samples_dir, request.param)


_align = jax.jit(align_face, static_argnames=("scheme", "config"))
_matrix = jax.jit(alignment_matrix, static_argnames="config")
_mask = jax.jit(face_mask, static_argnames=("scheme", "config"))
_cells = jax.jit(affine_cells, static_argnums=(2, 3))
_warp = jax.jit(warp_to_aligned, static_argnames="config")


def make_parameters(translation, local=None) -> PDMParameters:
    return PDMParameters(
        scale=jnp.ones(()),
        rotation=jnp.zeros(3),
        translation=jnp.asarray(translation, jnp.float32),
        local=jnp.zeros(34) if local is None else jnp.asarray(local),
    )


def as_image(array) -> jax.Array:
    return jnp.asarray(np.asarray(array), jnp.float32)


def test_matrix_matches_golden(model, stage):
    found = _matrix(stage.landmarks, make_parameters(stage.translation), model.analyser.pdm)
    np.testing.assert_allclose(found[:, :2], stage.matrix[:, :2], rtol=0, atol=_LINEAR)
    np.testing.assert_allclose(found[:, 2], stage.matrix[:, 2], rtol=0, atol=_GOLDEN_OFFSET)


def test_warp_equals_golden(stage):
    found = _warp(as_image(stage.image), stage.matrix)
    np.testing.assert_array_equal(found, stage.unmasked)


def test_mask_equals_golden(model, stage):
    found = _mask(stage.landmarks, stage.matrix, model.clnf.scheme)
    np.testing.assert_array_equal(found, stage.mask)


def test_aligned_face_matches_golden(model, stage):
    found = _align(
        as_image(stage.image),
        stage.landmarks,
        make_parameters(stage.translation),
        model.analyser.pdm,
        model.clnf.scheme,
    )
    difference = np.abs(np.asarray(found.image) - stage.aligned)
    assert np.mean(difference > 1) <= _LEVEL_SHARE
    np.testing.assert_array_equal(found.mask, stage.mask)


def test_padding_changes_nothing(model, golden_dir, samples_dir):
    stage = read_stage(golden_dir, samples_dir, "sample1")
    padded = np.pad(stage.image, ((0, 80), (0, 64), (0, 0)))
    np.testing.assert_array_equal(_warp(as_image(padded), stage.matrix), stage.unmasked)


def test_sequence_matches_golden(model, golden_dir, samples_dir):
    landmarks = read_landmarks(golden_dir, "image_sequence")
    pdm = model.analyser.pdm
    shape, modes, eigenvalues = (
        np.asarray(a, np.float64) for a in (pdm.mean_shape, pdm.components, pdm.eigenvalues)
    )
    faces = golden_dir / "image_sequence" / "image_sequence_aligned"
    frames = sorted((samples_dir / "image_sequence").iterdir())
    worst = 0.0
    for i, path in enumerate(frames):
        image = cv2.imread(str(path))
        expected = cv2.imread(str(faces / f"frame_det_00_{i + 1:06d}.bmp"))
        assert image is not None and expected is not None
        translation = reference.refit_pdm(shape, modes, eigenvalues, landmarks[i])[2]
        found = _align(
            as_image(image[..., ::-1]),
            landmarks[i],
            make_parameters(translation),
            pdm,
            model.clnf.scheme,
        )
        difference = np.abs(np.asarray(found.image)[..., ::-1] - expected)
        worst = max(worst, float(np.mean(difference > 1)))
    assert len(frames) == 30
    assert worst <= _LEVEL_SHARE


def make_landmarks(pdm: PDM, seed: int, scale: float, turn: float, centre) -> np.ndarray:
    """The mean shape, turned in the image, with two pixels of noise."""
    cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
    turned = np.asarray(pdm.mean_shape)[:, :2] @ np.array([[cosine, sine], [-sine, cosine]])
    noise = np.random.default_rng(seed).normal(0, 2, (68, 2))
    return (turned + noise + centre).astype(np.float32)


_faces = st.tuples(
    st.integers(0, 2**31),
    st.floats(0.4, 8.0),
    st.floats(-3.1, 3.1),
    st.tuples(st.floats(-50, 4000), st.floats(-50, 2000)),
)


@settings(deadline=None, max_examples=40)
@given(face=_faces)
def test_matrix_matches_reference(model, face):
    pdm = model.analyser.pdm
    landmarks = make_landmarks(pdm, *face)
    found = _matrix(landmarks, make_parameters(face[3]), pdm)
    expected = reference.alignment_matrix(landmarks, face[3], pdm.mean_shape)
    np.testing.assert_allclose(found[:, :2], expected[:, :2], rtol=0, atol=5 * _LINEAR)
    # An error of the linear part grows with the distance from the origin.
    far = 1 + np.abs(face[3]).sum()
    np.testing.assert_allclose(found[:, 2], expected[:, 2], rtol=0, atol=_OFFSET + _LINEAR * far)


@settings(deadline=None, max_examples=20)
@given(face=_faces, turn=st.floats(-3.1, 3.1), zoom=st.floats(0.5, 2.0))
def test_matrix_undoes_a_similarity(model, face, turn, zoom):
    """Turning and scaling frame and face together leaves the aligned landmarks in place."""
    pdm = model.analyser.pdm
    cosine, sine = zoom * np.cos(turn), zoom * np.sin(turn)
    similarity = np.array([[cosine, sine], [-sine, cosine]])
    landmarks = make_landmarks(pdm, face[0], face[1], face[2], (0, 0))
    moved = (landmarks @ similarity).astype(np.float32)
    aligned = []
    for points in (landmarks, moved):
        matrix = np.asarray(_matrix(points, make_parameters((0.0, 0.0)), pdm))
        aligned.append(points @ matrix[:, :2].T + matrix[:, 2])
    np.testing.assert_allclose(aligned[0], aligned[1], rtol=0, atol=1e-3)  # px; float32


def test_matrix_never_mirrors(model):
    pdm = model.analyser.pdm
    mirrored = np.asarray(pdm.mean_shape)[:, :2] * np.array([-1, 1], np.float32)
    found = np.asarray(_matrix(mirrored, make_parameters((0.0, 0.0)), pdm))
    expected = reference.alignment_matrix(mirrored, (0, 0), pdm.mean_shape)
    assert np.linalg.det(found[:, :2]) > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=10 * _LINEAR)


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 2**31),
    scale=st.floats(0.2, 3.0),
    turn=st.floats(-3.1, 3.1),
    offset=st.tuples(st.floats(-30, 60), st.floats(-30, 60)),
)
def test_warp_equals_reference(seed, scale, turn, offset):
    image = np.random.default_rng(seed).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
    matrix = np.array([[cosine, -sine, offset[0]], [sine, cosine, offset[1]]], np.float32)
    config = AlignConfig(size=40)
    found = np.asarray(_warp(as_image(image), matrix, config=config))
    np.testing.assert_array_equal(found, reference.warp_affine(image, matrix, 40))


def test_warp_samples_as_areas_do():
    """`ops.sample_cells` wants a border, the warp has none: the same numbers but for rounding."""
    image = np.random.default_rng(1).integers(0, 256, (50, 70), dtype=np.uint8)
    # Float32 holds these, their inverses and all products, and the face lies half outside.
    affine = (
        ([[0, -2], [2, 0]], (5797 / 64, -1101 / 64)),
        ([[0.5, 0], [0, 0.5]], (1957 / 64, -337 / 64)),
        ([[-1, 0], [0, -1]], (3877 / 64, 2593 / 64)),
    )
    for linear, offset in affine:
        matrix = np.column_stack([linear, offset]).astype(np.float32)
        inverse = np.linalg.inv(linear).astype(np.float32)
        cells = _cells(inverse, -inverse @ matrix[:, 2], 112, 112)
        smooth = np.asarray(sample_cells(pad_border(jnp.asarray(image)), *cells))
        assert 0 < np.mean(smooth > 0) < 1  # areas inside and outside
        found = np.asarray(_warp(as_image(np.stack([image] * 3, axis=-1)), matrix))
        np.testing.assert_array_equal(found[..., 1], np.floor(smooth + 0.5))


def test_warp_of_bytes_is_that_of_floats(model, golden_dir, samples_dir):
    stage = read_stage(golden_dir, samples_dir, "sample1")
    assert stage.image.dtype == np.uint8
    np.testing.assert_array_equal(_warp(jnp.asarray(stage.image), stage.matrix), stage.unmasked)


def test_warp_keeps_large_offsets_exact():
    """Far from the origin float32 alone would move whole rows by 1/1024 px."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (60, 4000, 3), dtype=np.uint8)
    for _ in range(10):
        turn, scale = rng.uniform(-0.005, 0.005), rng.uniform(0.5, 1.5)
        linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        offset = 20 - linear @ np.array([3900 + rng.uniform(), 30 + rng.uniform()])
        matrix = np.column_stack([linear, offset]).astype(np.float32)
        found = np.asarray(_warp(as_image(image), matrix, config=AlignConfig(size=40)))
        np.testing.assert_array_equal(found, reference.warp_affine(image, matrix, 40))


@settings(deadline=None, max_examples=5)
@given(face=_faces)
def test_mask_matches_reference(model, face):
    pdm = model.analyser.pdm
    landmarks = make_landmarks(pdm, *face)
    matrix = _matrix(landmarks, make_parameters(face[3]), pdm)
    config = AlignConfig(size=60, scale=0.4)
    found = _mask(landmarks, matrix, model.clnf.scheme, config=config)
    expected = reference.face_mask(
        landmarks, np.asarray(matrix), np.array(model.clnf.scheme.triangles), 60, 0.4
    )
    # A pixel centre within float32 rounding of an edge may go either way.
    assert np.sum(np.asarray(found) != expected) <= 1


def test_config_sets_size_and_mask(model, golden_dir, samples_dir):
    stage = read_stage(golden_dir, samples_dir, "sample1")
    config = AlignConfig(size=65, scale=65 * 0.7 / 112, mask=False)
    face = _align(
        as_image(stage.image),
        stage.landmarks,
        make_parameters(stage.translation),
        model.analyser.pdm,
        model.clnf.scheme,
        config=config,
    )
    matrix = reference.alignment_matrix(
        stage.landmarks, stage.translation, model.analyser.pdm.mean_shape, 65, config.scale
    )
    expected = reference.warp_affine(stage.image, matrix, 65)
    assert np.mean(np.abs(np.asarray(face.image) - expected) > 1) <= _LEVEL_SHARE
    assert face.mask.all()


def test_coincident_landmarks_stay_finite(model):
    image = jnp.full((20, 30, 3), 9.0)
    face = _align(
        image,
        jnp.zeros((68, 2)),
        make_parameters((0.0, 0.0)),
        model.analyser.pdm,
        model.clnf.scheme,
    )
    assert jnp.isfinite(face.image).all()


def test_gradient_passes_through_the_rounding(model):
    """Landmarks that move right by d see a ramp brighter by d times its slope."""
    ramp = np.round(np.mgrid[:200, :200][1] * 0.5)
    image = as_image(np.stack([ramp, ramp, ramp], -1))
    landmarks = make_landmarks(model.analyser.pdm, 0, 1.0, 0.1, (100, 100))

    def mean_level(shift):
        matrix = alignment_matrix(
            landmarks + shift[None], make_parameters(100 + shift), model.analyser.pdm
        )
        return jnp.mean(warp_to_aligned(image, matrix)[30:80, 30:80])

    slope, tangent = jax.jit(
        lambda shift: (
            jax.grad(mean_level)(shift),
            jax.jvp(mean_level, (shift,), (jnp.array([1.0, 0.0]),))[1],
        )
    )(jnp.zeros(2))
    np.testing.assert_allclose(slope, [0.5, 0.0], rtol=0, atol=_GRADIENT)
    np.testing.assert_allclose(tangent, slope[0], rtol=1e-4)


@pytest.mark.untyped
@pytest.mark.parametrize("shape", [(67, 2), (68, 3), (2, 68, 2)])
def test_wrong_landmarks_raise(model, shape):
    with pytest.raises(ValueError, match="landmarks: expected shape"):
        alignment_matrix(jnp.zeros(shape), make_parameters((0.0, 0.0)), model.analyser.pdm)


@pytest.mark.untyped
def test_wrong_image_raises():
    with pytest.raises(ValueError, match="image: expected shape"):
        warp_to_aligned(jnp.zeros((4, 5)), jnp.eye(2, 3))
