"""Action units against the NumPy reference, OpenFace's intermediate values and its CSV files."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxface.analyze import (
    ActionUnits,
    LinearHeads,
    Scores,
    baseline_medians,
    correct_online,
    init_baseline,
    init_online_correction,
    label_presence,
    postprocess_clip,
    predict_action_units,
    predict_static_action_units,
    repredict_clip,
    score_action_units,
    subtract_medians,
    update_baseline,
)
from jaxface.models.openface import read_model
from jaxface.reference import action_units as reference
from jaxface.reference.comparison.golden_faces import (
    STAGES,
    Stage,
    read_hog,
    read_stage,
    refit_geometry,
)

_SCORE = 2e-5  # AU units; float32 sums of 4702 products
_RANDOM_SCORE = 1e-4  # random heads of larger weights
_PRINTED = 0.005 + 5e-5  # AU units; the CSV has two decimals
_CLIP = 1e-12  # both sides in double precision
_ONLINE = 1e-6  # AU units; one float32 rounding of values up to 5

_score = jax.jit(score_action_units)
_subtract = jax.jit(subtract_medians)
_predict = jax.jit(predict_action_units)
_predict_static = jax.jit(predict_static_action_units)


@pytest.fixture(scope="module")
def analyser(model_dir):
    return read_model(model_dir).analyser


_labels = jax.vmap(label_presence, in_axes=(None, 0))


def float32(array) -> jax.Array:
    return jnp.asarray(np.asarray(array), jnp.float32)


def make_heads(rng, names: tuple[str, ...], features: int) -> LinearHeads:
    count = len(names)
    positive = rng.integers(0, 2, count).astype(np.float32)
    cutoffs = rng.choice([-1, 0.2, 0.3, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8], count)
    return LinearHeads(
        names=names,
        weights=float32(rng.normal(size=(count, features))),
        bias=float32(rng.normal(size=count)),
        dynamic=jnp.asarray(rng.integers(0, 2, count) > 0),
        cutoff=float32(cutoffs),
        positive=float32(positive),
        negative=float32(1 - positive),
    )


def make_units(rng, features: int = 31 + 6) -> ActionUnits:
    return ActionUnits(
        mean=float32(rng.normal(size=features)),
        intensity=make_heads(rng, ("AU01", "AU02", "AU04", "AU05"), features),
        presence=make_heads(rng, ("AU01", "AU02", "AU28"), features),
    )


def stage_scores(analyser, stage: Stage) -> tuple[ActionUnits, Scores, jax.Array]:
    """The stage's heads, its scores and the medians in force."""
    units = analyser.video if stage.tracked else analyser.image
    scores = _score(units, float32(stage.fhog), float32(stage.geometry))
    medians = jnp.zeros(4702)
    if stage.tracked:
        names = ("hog_median", "geom_median")
        medians = float32(np.concatenate([stage.arrays[n].ravel() for n in names]))
    return units, _subtract(units, scores, medians), medians


@pytest.mark.parametrize("name", STAGES)
def test_scores_match_golden_stage(analyser, golden_dir, samples_dir, name):
    stage = read_stage(golden_dir, samples_dir, name)
    units, scores, medians = stage_scores(analyser, stage)
    order = [units.intensity.names.index(au) for au in stage.arrays["au_reg_names"]]
    found = np.asarray(scores.intensity)[order]
    np.testing.assert_allclose(found, stage.arrays["reg_raw"].ravel(), rtol=0, atol=_SCORE)

    dynamic = np.asarray(units.presence.dynamic)
    found = np.asarray(scores.presence)
    decisions = [("svm_static_decision", ~dynamic), ("svm_dynamic_decision", dynamic)]
    for key, kind in decisions if stage.tracked else decisions[:1]:
        expected = stage.arrays[key].ravel()
        np.testing.assert_allclose(found[kind], expected, rtol=0, atol=_SCORE)

    order = [units.presence.names.index(au) for au in stage.arrays["au_class_names"]]
    inputs = (units, float32(stage.fhog), float32(stage.geometry))
    _, presence = _predict(*inputs, medians) if stage.tracked else _predict_static(*inputs)
    expected = stage.arrays["class"].ravel()
    np.testing.assert_array_equal(np.asarray(presence)[order], expected > 0.5)


@pytest.mark.parametrize("number", [1, 3, 4, 5])
def test_image_matches_golden_csv(analyser, golden_dir, samples_dir, number):
    stage = read_stage(golden_dir, samples_dir, f"sample{number}")
    path = golden_dir / f"img_sample{number}" / f"sample{number}.csv"
    row = pd.read_csv(path, skipinitialspace=True).iloc[0]
    units = analyser.image
    intensity, presence = _predict_static(units, float32(stage.fhog), float32(stage.geometry))
    expected = [row[f"{name}_r"] for name in units.intensity.names]
    np.testing.assert_allclose(intensity, expected, rtol=0, atol=_PRINTED)
    expected = [row[f"{name}_c"] for name in units.presence.names]
    np.testing.assert_array_equal(np.asarray(presence, float), expected)


@pytest.mark.parametrize("run", ["default", "default_au_static"])
def test_clip_matches_golden_csv(analyser, golden_dir, run):
    """From the golden FHOG and landmarks through medians, second pass and post-processing."""
    dynamic = run == "default"
    units = analyser.video if dynamic else analyser.image
    fhogs = read_hog(golden_dir / "default" / "default.hog")
    geometries = refit_geometry(golden_dir, "default", analyser.pdm)
    success = np.ones(len(fhogs), bool)

    @jax.jit
    def run_clip(fhogs, geometries):
        def step(state, frame):
            fhog, geometry = frame
            state = update_baseline(state, fhog, geometry, jnp.asarray(True))
            return state, score_action_units(units, fhog, geometry)

        state, scores = jax.lax.scan(step, init_baseline(), (fhogs, geometries))
        return baseline_medians(state), scores

    medians, scores = run_clip(fhogs, geometries)
    raw_intensity = np.asarray(scores.intensity)
    raw_presence = np.asarray(_labels(units.presence, scores.presence))
    if dynamic:
        raw_intensity, raw_presence = repredict_clip(
            units,
            np.full_like(raw_intensity, np.nan),  # not a value of these survives
            np.zeros_like(raw_presence),
            raw_intensity,
            np.asarray(scores.presence),
            np.asarray(medians),
            success,
        )
    intensity, presence = postprocess_clip(
        units, raw_intensity, raw_presence, success, dynamic=dynamic
    )
    table = pd.read_csv(golden_dir / run / "default.csv", skipinitialspace=True)
    expected = table[[f"{name}_r" for name in units.intensity.names]].to_numpy()
    np.testing.assert_allclose(intensity, expected, rtol=0, atol=_PRINTED)
    expected = table[[f"{name}_c" for name in units.presence.names]].to_numpy()
    np.testing.assert_array_equal(presence, expected)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31))
def test_prediction_matches_reference(seed):
    rng = np.random.default_rng(seed)
    units = make_units(rng)
    features, medians = rng.normal(size=(2, units.mean.size)).astype(np.float32)
    inputs = (units, features[:31].reshape(1, 1, 31), features[31:])
    intensity, presence = _predict(*inputs, medians)
    scores = _subtract(units, _score(*inputs), medians)
    for heads, found in ((units.intensity, intensity), (units.presence, scores.presence)):
        for u in range(len(heads.names)):
            expected = reference.decision_value(
                features.astype(float),
                np.asarray(units.mean, float),
                medians,
                np.asarray(heads.weights[u], float),
                float(heads.bias[u]),
                bool(heads.dynamic[u]),
            )
            np.testing.assert_allclose(found[u], expected, rtol=0, atol=_RANDOM_SCORE)
    for u, value in enumerate(scores.presence):
        positive, negative = units.presence.positive[u], units.presence.negative[u]
        assert presence[u] == (reference.presence_label(value, positive, negative) > 0.5)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    frames=st.sampled_from([0, 1, 2, 3, 6, 7, 8, 10, 20, 40]),
    failing=st.sampled_from([0.0, 0.2, 1.0]),
    dynamic=st.booleans(),
)
def test_postprocessing_matches_reference(seed, frames, failing, dynamic):
    rng = np.random.default_rng(seed)
    units = make_units(rng)
    raw_intensity = rng.normal(1, 3, (frames, 4))
    raw_presence = rng.integers(0, 2, (frames, 3)) > 0
    success = rng.uniform(size=frames) >= failing
    intensity, presence = postprocess_clip(
        units, raw_intensity, raw_presence, success, dynamic=dynamic
    )
    for u in range(4):
        heads = units.intensity
        cutoff = round(float(heads.cutoff[u]), 6)
        calibrated = dynamic and bool(heads.dynamic[u])
        expected = reference.smooth_intensity(raw_intensity[:, u], success, cutoff, calibrated)
        np.testing.assert_allclose(intensity[:, u], expected, rtol=0, atol=_CLIP)
    for u in range(3):
        expected = reference.smooth_presence(raw_presence[:, u], success)
        np.testing.assert_array_equal(presence[:, u], expected)


def test_failed_rows_do_not_count():
    """A failed frame's own values are ignored, even when they are not finite."""
    rng = np.random.default_rng(0)
    units = make_units(rng)
    raw = rng.normal(1, 3, (12, 4))
    presence = rng.integers(0, 2, (12, 3)) > 0
    success = np.arange(12) % 3 != 0
    expected = postprocess_clip(units, raw, presence, success)
    found = postprocess_clip(units, np.where(success[:, None], raw, np.nan), presence, success)
    np.testing.assert_array_equal(found[0], expected[0])


def test_second_pass_stops_after_3000_successes():
    rng = np.random.default_rng(0)
    units, frames = make_units(rng), 3020
    success = np.ones(frames, bool)
    success[[5, 6, 100, 3005]] = False
    first = (np.full((frames, 4), -7.0), np.zeros((frames, 3), bool))
    score = (rng.normal(size=(frames, 4)), rng.normal(size=(frames, 3)))
    medians = rng.normal(size=units.mean.size).astype(np.float32)
    intensity, presence = repredict_clip(units, *first, *score, medians, success)
    stored = success & (np.arange(frames) < 3003)  # three failures before the limit
    np.testing.assert_array_equal(intensity[~stored], -7.0)
    np.testing.assert_array_equal(presence[~stored], False)
    expected = jax.vmap(lambda *scores: subtract_medians(units, Scores(*scores), float32(medians)))(
        *map(float32, score)
    )
    np.testing.assert_allclose(
        intensity[stored], np.asarray(expected.intensity)[stored], rtol=0, atol=_RANDOM_SCORE
    )
    labels = np.asarray(_labels(units.presence, expected.presence))
    np.testing.assert_array_equal(presence[stored], labels[stored])


def test_online_correction_matches_reference():
    rng = np.random.default_rng(0)
    state, expected_state = init_online_correction(), reference.OnlineCorrection(17)
    step = jax.jit(correct_online)
    for _ in range(60):
        values = rng.normal(0.5, 2, 17).astype(np.float32)
        success = bool(rng.uniform() < 0.8)
        state, found = step(state, values, success)
        expected = expected_state.update(values.astype(float) if success else np.zeros(17), success)
        np.testing.assert_allclose(found, expected, rtol=0, atol=_ONLINE)


def test_online_state_may_be_for_more_units():
    """The models of clips and of single pictures may know different units."""
    rng = np.random.default_rng(1)
    larger, exact = init_online_correction(5), init_online_correction(3)
    for values in float32(rng.normal(1, 1, (20, 3))):
        larger, found = correct_online(larger, values, jnp.ones((), bool))
        exact, expected = correct_online(exact, values, jnp.ones((), bool))
        np.testing.assert_array_equal(found, expected)


def test_intensity_has_the_weights_as_derivative(analyser):
    rng = np.random.default_rng(0)
    fhog, geometry = float32(rng.uniform(0, 0.4, (12, 12, 31))), float32(rng.normal(size=238))
    units = analyser.video

    def intensity(fhog):
        return predict_action_units(units, fhog, geometry, jnp.zeros(4702))[0]

    slope = jax.jit(jax.jacrev(intensity))(fhog).reshape(17, -1)
    np.testing.assert_array_equal(slope, units.intensity.weights[:, :4464])


def test_wrong_descriptor_size_raises(analyser):
    with pytest.raises(ValueError, match="expected 4702 values in all, got 4703"):
        score_action_units(analyser.video, jnp.zeros((12, 12, 31)), jnp.zeros(239))


@pytest.mark.untyped
def test_wrong_row_count_raises():
    units = make_units(np.random.default_rng(0))
    with pytest.raises(ValueError, match="raw_presence: expected 5 rows, got 4"):
        postprocess_clip(units, np.zeros((5, 4)), np.zeros((4, 3), bool), np.ones(5, bool))


def test_heads_keep_their_order(analyser):
    for units in (analyser.video, analyser.image):
        for heads, count in ((units.intensity, 17), (units.presence, 18)):
            assert heads.names == tuple(sorted(heads.names))
            assert len(heads.names) == count
    assert not np.any(analyser.image.intensity.dynamic)
