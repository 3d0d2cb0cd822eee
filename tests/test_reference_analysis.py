"""The NumPy reference of the face analyser against OpenFace's recorded intermediate results."""

import cv2
import numpy as np
import pandas as pd
import pytest

from jaxface.models.openface import read_model
from jaxface.reference import action_units, align, fhog, medians
from jaxface.reference.comparison.golden_faces import (
    STAGES,
    read_hog,
    read_landmarks,
    read_stage,
    refit_geometry,
)

_POSE = 2e-5  # scale, rad and px; OpenFace refits in float32
_LOCAL = 2e-4  # mm; likewise
_MATRIX = 4e-5  # px of several hundred; OpenFace's float32
_FEATURE = 2e-7  # OpenFace's FHOG is float32
_GEOMETRY = 1e-6  # mm; likewise
_MEDIAN = 1e-12
_SCORE = 2e-6  # AU units; the weights went through float32
_PRINTED = 0.005 + 5e-5  # AU units; the CSV has two decimals


@pytest.fixture(scope="module")
def model(model_dir):
    return read_model(model_dir)


@pytest.fixture(scope="module", params=STAGES)
def stage(request, golden_dir, samples_dir):
    return read_stage(golden_dir, samples_dir, request.param)


def pdm_arrays(model) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pdm = model.analyser.pdm
    shape, modes, eigenvalues = pdm.mean_shape, pdm.components, pdm.eigenvalues
    return np.asarray(shape, float), np.asarray(modes, float), np.asarray(eigenvalues, float)


def test_refit_matches_golden(model, stage):
    scale, rotation, translation, local = align.refit_pdm(*pdm_arrays(model), stage.landmarks)
    np.testing.assert_allclose(scale, stage.scale, rtol=0, atol=_POSE)
    np.testing.assert_allclose(rotation, stage.rotation, rtol=0, atol=_POSE)
    np.testing.assert_allclose(translation, stage.translation, rtol=0, atol=_POSE)
    np.testing.assert_allclose(local, stage.local, rtol=0, atol=_LOCAL)


def test_refit_of_default_frame_has_the_published_values(model, golden_dir):
    """Specification 03, I."""
    landmarks = read_landmarks(golden_dir, "default")[0]
    scale, rotation, translation, local = align.refit_pdm(*pdm_arrays(model), landmarks)
    np.testing.assert_allclose(scale, 1.306987, rtol=0, atol=2e-6)
    np.testing.assert_allclose(rotation, [0.027210, 0.029585, -0.013972], rtol=0, atol=2e-6)
    np.testing.assert_allclose(translation, [241.04315, 262.98325], rtol=0, atol=2e-5)
    expected = [-13.582086, 11.005784, -6.321203, 11.061165]
    np.testing.assert_allclose(local[:4], expected, rtol=0, atol=_LOCAL)


def test_alignment_matches_golden(model, stage):
    shape = pdm_arrays(model)[0]
    matrix = align.alignment_matrix(stage.landmarks, stage.translation, shape)
    np.testing.assert_allclose(matrix, stage.matrix, rtol=0, atol=_MATRIX)
    np.testing.assert_array_equal(align.warp_affine(stage.image, stage.matrix), stage.unmasked)


# The loops over triangles and pixels are slow: one still image and one tracked frame.
@pytest.mark.parametrize("name", ["sample3", "default_track_f030"])
def test_mask_matches_golden(model, golden_dir, samples_dir, name):
    stage = read_stage(golden_dir, samples_dir, name)
    triangles = np.asarray(model.clnf.triangles)
    mask = align.face_mask(stage.landmarks, stage.matrix, triangles)
    np.testing.assert_array_equal(mask, stage.mask)


def test_descriptors_match_golden(model, stage):
    np.testing.assert_allclose(fhog.extract_fhog(stage.aligned), stage.fhog, rtol=0, atol=_FEATURE)
    geometry = fhog.geometry_descriptor(pdm_arrays(model)[1], stage.local)
    np.testing.assert_allclose(geometry, stage.geometry, rtol=0, atol=_GEOMETRY)


def test_fhog_matches_hog_file(golden_dir):
    expected = read_hog(golden_dir / "img_sample1" / "sample1.hog")[0]
    path = golden_dir / "img_sample1" / "sample1_aligned" / "face_det_000000.bmp"
    image = cv2.imread(str(path))
    assert image is not None
    found = fhog.extract_fhog(image[..., ::-1])
    np.testing.assert_allclose(found, expected, rtol=0, atol=_FEATURE)


def test_medians_match_golden(model, golden_dir, samples_dir):
    fhogs = read_hog(golden_dir / "default" / "default.hog")[:101].reshape(101, -1)
    geometries = refit_geometry(golden_dir, "default", model.analyser.pdm)[:101]
    found, found_geometry = medians.run_medians(
        fhogs.astype(float), geometries.astype(float), np.ones(101, bool)
    )
    for frame in (30, 100):
        arrays = read_stage(golden_dir, samples_dir, f"default_track_f{frame:03d}").arrays
        expected = arrays["hog_median"].ravel(), arrays["geom_median"].ravel()
        np.testing.assert_allclose(found[frame], expected[0], rtol=0, atol=_MEDIAN)
        np.testing.assert_allclose(found_geometry[frame], expected[1], rtol=0, atol=_MEDIAN)


@pytest.mark.parametrize("name", ["sample1", "default_track_f100"])
def test_scores_match_golden(model, golden_dir, samples_dir, name):
    stage = read_stage(golden_dir, samples_dir, name)
    units = model.analyser.video if stage.tracked else model.analyser.image
    features = np.concatenate([stage.fhog.ravel(), stage.geometry])
    median = np.zeros(4702)
    if stage.tracked:
        names = ("hog_median", "geom_median")
        median = np.concatenate([stage.arrays[n].ravel() for n in names])
    heads, mean = units.intensity, np.asarray(units.mean, float)
    for au, expected in zip(
        stage.arrays["au_reg_names"], stage.arrays["reg_raw"].ravel(), strict=True
    ):
        u = heads.names.index(au)
        weights, bias = np.asarray(heads.weights[u], float), float(heads.bias[u])
        found = action_units.decision_value(
            features, mean, median, weights, bias, bool(heads.dynamic[u])
        )
        np.testing.assert_allclose(found, expected, rtol=0, atol=_SCORE)


def test_static_clip_matches_golden_csv(model, golden_dir):
    """Clamp, three-frame mean and seven-frame vote, without medians or offsets."""
    units = model.analyser.image
    fhogs = read_hog(golden_dir / "default" / "default.hog").reshape(288, -1)
    geometries = refit_geometry(golden_dir, "default", model.analyser.pdm)
    centred = np.concatenate([fhogs, geometries], axis=1).astype(float) - np.asarray(units.mean)
    table = pd.read_csv(golden_dir / "default_au_static" / "default.csv", skipinitialspace=True)
    success = [True] * 288
    for heads, suffix in ((units.intensity, "_r"), (units.presence, "_c")):
        values = centred @ np.asarray(heads.weights, float).T + np.asarray(heads.bias, float)
        for u, name in enumerate(heads.names):
            if suffix == "_r":
                found = action_units.smooth_intensity(values[:, u], success, -1, False)
            else:
                labels = float(heads.positive[u]), float(heads.negative[u])
                history = [action_units.presence_label(v, *labels) for v in values[:, u]]
                found = action_units.smooth_presence(history, success)
            np.testing.assert_allclose(found, table[name + suffix], rtol=0, atol=_PRINTED)
