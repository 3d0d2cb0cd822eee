"""Training of the first guess on pictures whose faces are three bright discs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxface
from jaxface.fit import PDM
from jaxface.training.data import euler_to_matrix
from jaxface.training.landmarks import (
    RegressorConfig,
    Source,
    Starts,
    measure_regressor,
    new_regressor,
    project,
    tilt_pictures,
    train_regressor,
)
from jaxface.training.loop import Recipe
from jaxface.training.render import Pictures

_SIZE, _COUNT = 96, 200
_DISCS = (36, 45, 57)  # landmarks: outer corners of the eyes, lower lip
_CONFIG = RegressorConfig(batch=16, recipe=Recipe(steps=120, rate=2e-3, save_every=60))


@pytest.fixture(scope="module")
def pdm() -> PDM:
    return jaxface.load_model().clnf.main.pdm


def _source(pdm: PDM, seed: int) -> Source:
    """Mean faces, tilted and turned a little."""
    rng = np.random.default_rng(seed)
    modes = len(pdm.eigenvalues)
    truth = Starts(
        scale=rng.uniform(0.25, 0.35, _COUNT).astype(np.float32),
        rotation=rng.normal(0, [0.1, 0.2, 0.6], (_COUNT, 3)).astype(np.float32),
        translation=(_SIZE / 2 + rng.uniform(-5, 5, (_COUNT, 2))).astype(np.float32),
        local=np.zeros((_COUNT, modes), np.float32),
    )
    landmarks = project(pdm, truth).astype(np.float32)
    rows, cols = np.mgrid[:_SIZE, :_SIZE]
    gray = np.full((_COUNT, _SIZE, _SIZE), 60, np.uint8)
    for picture, points in zip(gray, landmarks, strict=True):
        for level, (x, y) in zip((160, 200, 250), points[list(_DISCS)], strict=True):
            picture[(cols - x) ** 2 + (rows - y) ** 2 < 16] = level
    none = np.zeros((_COUNT, 2, 0, 2), np.float32)
    pictures = Pictures(
        *(gray, landmarks, np.zeros((_COUNT, 68, 3), np.float32)),
        *(np.ones((_COUNT, 68), bool), truth.rotation, truth.scale, none, none, none),
        person=np.zeros(_COUNT, int),
    )
    return Source(pictures, truth)


@pytest.fixture(scope="module")
def source(pdm) -> Source:
    return _source(pdm, 0)


@pytest.fixture(scope="module")
def trained(pdm, source, tmp_path_factory):
    return train_regressor(pdm, source, tmp_path_factory.mktemp("run"), _CONFIG)


def test_it_learns_the_pose(pdm, trained):
    other = _source(pdm, 1).pictures
    before = measure_regressor(pdm, new_regressor(pdm, 0), other)
    after = measure_regressor(pdm, trained.model, other)
    name = "rotation, median, degrees"
    assert after[name] < 0.5 * before[name]
    assert trained.losses["loss"][-20:].mean() < 0.6 * trained.losses["loss"][:5].mean()


@pytest.mark.parametrize("angle", (-70, 25, 90))
def test_landmarks_follow_a_tilted_picture(source, angle):
    pictures = source.pictures
    tilt = euler_to_matrix(np.radians([0, 0, angle]))
    some = pictures.gray[:20], pictures.landmarks[:20]
    grays, landmarks = tilt_pictures(*some, np.stack([tilt] * 20))
    for gray, points in zip(grays, landmarks, strict=True):
        rows, cols = np.nonzero(gray > 225)  # the disc at the lip
        middle = np.array([cols.mean(), rows.mean()])
        np.testing.assert_allclose(middle, points[_DISCS[-1]], atol=1)  # px


def test_first_weights_follow_the_seed(pdm):
    first, again, other = (jax.tree.leaves(new_regressor(pdm, seed)) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    assert all(leaf.dtype == jnp.float32 for leaf in first)
