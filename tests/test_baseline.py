"""Running medians against the NumPy reference and OpenFace's own."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxface.analyze import (
    baseline_medians,
    init_baseline,
    update_baseline,
    update_baseline_at_once,
    widen_baseline,
)
from jaxface.models.openface import read_model
from jaxface.reference import medians as reference
from jaxface.reference.comparison.golden_faces import read_hog, read_stage, refit_geometry

_MEDIAN = 4e-6  # up to 60 in float32; a wrong bin would be 1e-3 or 1.2e-2
_REFIT = 1e-4  # mm; the float64 refit against OpenFace's, where a median is not yet quantised
_FEATURES = (31, 6)  # of the small state that random tests use
_SHORT = np.dtype(np.uint16)

_one, _at_once = jax.jit(update_baseline), jax.jit(update_baseline_at_once)


@jax.jit
def _run(state, fhogs, geometries, success):
    def step(state, frame):
        state = update_baseline(state, *frame)
        return state, baseline_medians(state)

    return jax.lax.scan(step, state, (fhogs, geometries, success))


@pytest.fixture(scope="module")
def pdm(model_dir):
    return read_model(model_dir).analyser.pdm


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    success=st.lists(st.booleans(), min_size=24, max_size=24),
)
def test_medians_match_reference(seed, success):
    rng = np.random.default_rng(seed)
    fhogs = rng.choice([0.0, 0.1, 0.4, 1.3], (24, _FEATURES[0])) * rng.uniform(0, 1, (24, 1))
    geometries = rng.normal(0, 30, (24, _FEATURES[1]))
    check_run(fhogs.astype(np.float32), geometries.astype(np.float32), np.array(success))


@pytest.mark.parametrize(
    "success",
    [
        [False] * 4,  # nothing counted: the lowest bin, zero for FHOG
        [True, False, True, True],  # the first frame is its own median until the next odd one
        [True, True, False, True],  # a failed odd frame after one success: zeros
        [False, True, True, True],  # the first success falls on an even frame
    ],
)
def test_first_frames_match_reference(success):
    rng = np.random.default_rng(0)
    fhogs = rng.uniform(0, 0.4, (4, _FEATURES[0])).astype(np.float32)
    geometries = rng.normal(0, 9, (4, _FEATURES[1])).astype(np.float32)
    check_run(fhogs, geometries, np.array(success))


def check_run(fhogs, geometries, success):
    zeroed = [np.where(success[:, None], a, 0).astype(float) for a in (fhogs, geometries)]
    expected = np.concatenate(reference.run_medians(zeroed[0], zeroed[1], success), axis=1)
    blocks = fhogs.reshape(len(fhogs), 1, 1, -1)
    state, found = _run(init_baseline(*_FEATURES), blocks, geometries, success)
    np.testing.assert_allclose(found, expected, rtol=0, atol=_MEDIAN)
    assert state.frames == len(success)
    assert state.counted == np.sum(success[::2])


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    success=st.lists(st.booleans(), min_size=24, max_size=24),
    valid=st.lists(st.booleans(), min_size=24, max_size=24),
)
def test_frames_at_once_are_frames_one_after_the_other(seed, success, valid):
    """In pieces of eight, with frames between them that do not count; all numbers are the same."""
    rng = np.random.default_rng(seed)
    fhogs = rng.uniform(0, 1, (24, 1, 1, _FEATURES[0])).astype(np.float32)
    geometries = rng.normal(0, 30, (24, _FEATURES[1])).astype(np.float32)
    success, valid = np.array(success), np.array(valid)
    one, several = init_baseline(*_FEATURES), init_baseline(*_FEATURES, counts=_SHORT)
    for k in range(24):
        if valid[k]:
            one = _one(one, fhogs[k], geometries[k], success[k])
    for k in range(0, 24, 8):
        piece = (x[k : k + 8] for x in (fhogs, geometries, success, valid))
        several = _at_once(several, *piece)
    jax.tree.map(np.testing.assert_array_equal, several, one)
    assert several.fhog.fine.dtype == _SHORT


@pytest.mark.parametrize("low", [False, True], ids=["median in the full bin", "median below"])
def test_bins_hold_more_than_16_bits(low):
    """65534 frames in one bin, then, in wide bins, 12 more; the median tells 65546 from 10."""
    counted, more = 65534, 12
    fhog = jnp.full((1, 1, _FEATURES[0]), 0.3, jnp.float32)
    geometry = jnp.full(_FEATURES[1], 7.0, jnp.float32)
    below = (jnp.full_like(fhog, 0.2), jnp.full_like(geometry, 4.0))
    start = init_baseline(*_FEATURES, counts=_SHORT)
    filled = _times(_one(start, fhog, geometry, True), counted)
    state = widen_baseline(filled)
    for _ in range(more):
        state = _one(state, fhog, geometry, False)  # an even frame
        state = _one(state, fhog, geometry, True)
    assert int(jnp.max(state.fhog.fine)) == counted + more
    # As many below as make the one or the other the middle.
    others = counted + more + 2 if low else counted + more - 1
    under = _times(widen_baseline(_one(start, *below, True)), others)
    state = jax.tree.map(lambda a, b: a + b if a.ndim != 1 else a, state, under)
    values = np.repeat([0.2, 0.3], [others, counted + more])
    middle = np.sort(values)[(len(values) + 1) // 2 - 1]
    np.testing.assert_allclose(baseline_medians(state)[: _FEATURES[0]], middle, atol=1e-3 / 2)


def _times(state, factor):
    """A state whose only frame was counted so many times."""
    counts = state.counted, state.fhog, state.geometry
    return eqx.tree_at(
        lambda s: (s.counted, s.fhog, s.geometry),
        state,
        jax.tree.map(lambda x: (x.astype(jnp.int32) * factor).astype(x.dtype), counts),
    )


def test_bin_edges_match_double_precision():
    """Values on and next to the edges of bins, where float32 arithmetic alone errs."""
    edges = np.concatenate(
        [
            np.linspace(-0.005, 1.0, 1001, dtype=np.float32)[:, None].repeat(_FEATURES[0], 1),
            np.linspace(-60, 60, 1001, dtype=np.float32)[:, None].repeat(_FEATURES[1], 1),
        ],
        axis=1,
    )
    up, down = (np.nextafter(edges, np.float32(v)) for v in (np.inf, -np.inf))
    step = jax.jit(update_baseline)
    for values in np.concatenate([edges, up, down])[::7]:
        fhog, geometry = values[: _FEATURES[0]], values[_FEATURES[0] :]
        state = step(init_baseline(*_FEATURES), fhog.reshape(1, 1, -1), geometry, True)
        for histogram, one, low, high, bins in (
            (state.fhog, fhog[0], *reference.FHOG_RANGE),
            (state.geometry, geometry[0], *reference.GEOMETRY_RANGE),
        ):
            expected = int(np.clip((float(one) - low) * bins / (high - low), 0, bins - 1))
            assert np.argmax(np.asarray(histogram.fine)[0].ravel()) == expected


def test_medians_match_golden(pdm, golden_dir, samples_dir):
    fhogs = read_hog(golden_dir / "default" / "default.hog")[:101]
    geometries = refit_geometry(golden_dir, "default", pdm)[:101]
    step, state = jax.jit(update_baseline, donate_argnums=0), init_baseline()
    for frame, (fhog, geometry) in enumerate(zip(fhogs, geometries, strict=True)):
        state = step(state, jnp.asarray(fhog), jnp.asarray(geometry), jnp.asarray(True))
        if frame in (0, 30, 100):
            stage = read_stage(golden_dir, samples_dir, f"default_track_f{frame:03d}")
            found = np.asarray(baseline_medians(state))
            expected = stage.arrays["hog_median"].ravel()
            np.testing.assert_allclose(found[:4464], expected, rtol=0, atol=_MEDIAN)
            tolerance = _MEDIAN if frame > 0 else _REFIT
            expected = stage.arrays["geom_median"].ravel()
            np.testing.assert_allclose(found[4464:], expected, rtol=0, atol=tolerance)


def test_derivatives_are_zero():
    def medians(fhog):
        state = update_baseline(
            init_baseline(*_FEATURES), fhog, jnp.zeros(_FEATURES[1]), jnp.asarray(True)
        )
        return jnp.sum(baseline_medians(state))

    np.testing.assert_array_equal(jax.jit(jax.grad(medians))(jnp.ones((1, 1, _FEATURES[0]))), 0)
