"""Whole clips as pure functions, against `analyze_video` and against the second pass in NumPy.

Programs are compiled once each and shared: of one length, with `valid` for whatever is shorter.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import jaxface
from jaxface import Analysis, Model
from jaxface.analyze import (
    ActionUnits,
    Scores,
    finish_action_units,
    postprocess_clip,
    repredict_clip,
)
from jaxface.io import default_camera
from jaxface.reference.comparison.clips import Data, load

from .head_clip import camera, compile_alike, read_frames
from .test_action_units import float32, make_heads, make_units
from .test_frames import _COLUMNS as COLUMNS
from .toy_face import draw_face, toy_model, true_points

# AU units; three float32 roundings of values below 32, where the host has float64
_UNITS = 1e-5
_FRAMES = 24  # of the random clips
_FEW = 7  # accepted frames that are predicted again, where the test is about that


# The second pass on random clips


class RandomClip(NamedTuple):
    """What the second pass takes."""

    units: ActionUnits
    intensity: np.ndarray  # t 4
    presence: np.ndarray  # t 3
    scores: Scores
    medians: np.ndarray
    success: np.ndarray
    valid: np.ndarray


def _stack_scores(intensity: np.ndarray, presence: np.ndarray) -> Scores:
    """One row a frame; the type itself is annotated for one frame."""
    return jax.vmap(Scores)(float32(intensity), float32(presence))


def _random_clip(
    seed: int, success: np.ndarray, valid: np.ndarray, *, whole: bool, broken: bool
) -> RandomClip:
    """Numbers from a normal distribution, or small integers, of which many are the same."""
    rng = np.random.default_rng(seed)
    units = make_units(rng)

    def draw(*shape: int) -> Any:
        numbers = rng.normal(0, 2, shape)
        # A negative number that is rounded to zero is a negative zero.
        return (np.round(numbers) if whole else numbers).astype(np.float32)

    if whole:
        heads = (units.intensity, units.presence)
        weights = [float32(draw(*h.weights.shape)) for h in heads]
        units = eqx.tree_at(
            lambda u: (u.intensity.weights, u.presence.weights), units, tuple(weights)
        )
    count = len(valid)
    rows = [draw(count, width) + offset for width, offset in ((4, 1), (4, 1), (3, 0))]
    if broken:
        for row in rows:
            row[~(success & valid)] = np.nan
    return RandomClip(
        units=units,
        intensity=rows[0],
        presence=rng.integers(0, 2, (count, 3)) > 0,
        scores=_stack_scores(*rows[1:]),
        medians=draw(units.mean.size) / (1 if whole else 4),
        success=success,
        valid=valid,
    )


def _on_the_host(clip: RandomClip, *, dynamic: bool) -> tuple[np.ndarray, np.ndarray]:
    """As `analyze_video` gets them, of the frames that are valid; the other rows are zero."""
    live, units = clip.valid, clip.units
    raw = clip.intensity[live], clip.presence[live]
    success = clip.success[live]
    if dynamic:
        scores = [np.asarray(s)[live] for s in (clip.scores.intensity, clip.scores.presence)]
        inputs: list[Any] = [units, *raw, *scores, clip.medians, success]
        raw = repredict_clip(*inputs)
    intensity, presence = postprocess_clip(units, raw[0], raw[1], success, dynamic=dynamic)
    return _put_back(intensity, live), _put_back(presence, live)


def _put_back(rows: np.ndarray, live: np.ndarray) -> np.ndarray:
    full = np.zeros((len(live), rows.shape[1]))
    full[live] = rows
    return full


@functools.cache
def _program(stored: int, dynamic: bool) -> Callable:
    """Compiled where `stored` frames are predicted again: a name of the module, read in tracing."""
    return jax.jit(functools.partial(finish_action_units, dynamic=dynamic))


def _assert_as_on_the_host(clip: RandomClip, *, dynamic: bool, stored: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for module in ("_finish", "_postprocess"):
            patch.setattr(f"jaxface.analyze.{module}.STORED", stored)
        intensity, presence = _program(stored, dynamic)(*clip)
        expected = _on_the_host(clip, dynamic=dynamic)
    np.testing.assert_allclose(intensity, expected[0], rtol=0, atol=_UNITS)
    np.testing.assert_array_equal(presence, expected[1])


_EACH = st.lists(st.booleans(), min_size=_FRAMES, max_size=_FRAMES).map(np.array)
_ALL, _NONE = np.ones(_FRAMES, bool), np.zeros(_FRAMES, bool)
_FIRST = st.integers(0, _FRAMES).map(lambda count: np.arange(_FRAMES) < count)
_BUT_FEW = st.sets(st.integers(0, _FRAMES - 1), max_size=3).map(
    lambda lost: ~np.isin(np.arange(_FRAMES), list(lost))
)
_CASES: dict[str, Any] = {
    "seed": st.integers(0, 2**31),
    "success": st.one_of(st.just(_ALL), _BUT_FEW, _EACH, _FIRST),
    "valid": st.one_of(st.just(_ALL), _FIRST, _BUT_FEW, _EACH),
    "whole": st.booleans(),
    "broken": st.booleans(),
    "dynamic": st.booleans(),
    "stored": st.sampled_from([_FEW, 3000]),
}
_ONE = np.arange(_FRAMES) == 5
_COMMON: dict[str, Any] = {"seed": 1, "whole": True, "broken": True, "dynamic": True, "stored": 7}


@settings(deadline=None, max_examples=150)
@given(**_CASES)
@example(success=_NONE, valid=_ALL, **_COMMON)
@example(success=_ALL, valid=_NONE, **_COMMON)
@example(success=_ALL, valid=_ONE, **_COMMON)
@example(success=_ONE, valid=_ALL, **_COMMON)
@example(success=_ALL, valid=np.arange(_FRAMES) < 6, **_COMMON)
@example(success=_ALL, valid=np.arange(_FRAMES) % 3 > 0, **_COMMON)
@example(success=np.arange(_FRAMES) % 2 > 0, valid=_ALL, **_COMMON)
def test_second_pass_is_the_hosts(seed, success, valid, whole, broken, dynamic, stored):
    clip = _random_clip(seed, success, valid, whole=whole, broken=broken)
    _assert_as_on_the_host(clip, dynamic=dynamic, stored=stored)


@pytest.mark.parametrize("frames", (0, 1, 2, 3, 6, 7))
def test_second_pass_of_short_clips(frames):
    """Down to none: windows of three and of seven frames that do not fit."""
    clip = _random_clip(0, np.ones(frames, bool), np.ones(frames, bool), whole=False, broken=False)
    _assert_as_on_the_host(clip, dynamic=True, stored=3000)


def test_second_pass_stops_after_3000_accepted_frames():
    """With the package's own number; the frames after that keep their first prediction."""
    rng = np.random.default_rng(0)
    frames = 3020
    success = rng.uniform(size=frames) > 0.002
    clip = _random_clip(3, success, np.ones(frames, bool), whole=False, broken=True)
    assert success.sum() > 3005
    _assert_as_on_the_host(clip, dynamic=True, stored=3000)


def test_zero_level_has_the_hosts_rank():
    """Every multiple of 0.05, and others, of every count of frames up to 60.

    Values are 1/8 apart, so that a rank beside the right one moves all of them.
    """
    rng = np.random.default_rng(0)
    cutoffs = float32([*(step / 20 for step in range(21)), 0.33, 0.123, 1 / 3, 0.999])
    names = tuple(f"AU{number:02d}" for number in range(len(cutoffs)))
    heads = make_heads(rng, names, 37)
    heads = eqx.tree_at(
        lambda h: (h.weights, h.cutoff, h.dynamic),
        heads,
        (jnp.zeros_like(heads.weights), cutoffs, jnp.ones(len(cutoffs), bool)),
    )
    units = eqx.tree_at(lambda u: u.intensity, make_units(rng), heads)
    count = 60
    values = rng.permuted(np.arange(count) / 8, axis=0)
    scores = _stack_scores(np.repeat(values[:, None], len(cutoffs), 1), rng.normal(size=(count, 3)))
    raw = np.asarray(scores.intensity), np.zeros((count, 3), bool)
    medians = np.zeros(37, np.float32)
    valid = np.arange(count) < np.arange(1, count + 1)[:, None]
    found = jax.jit(
        jax.vmap(
            lambda live: finish_action_units(
                units, float32(raw[0]), jnp.asarray(raw[1]), scores, float32(medians), live, live
            )[0]
        )
    )(valid)
    for number, live in enumerate(valid):
        clip = RandomClip(units, *raw, scores, medians, live, live)
        expected = _on_the_host(clip, dynamic=True)[0]
        # Eighths are exact, and so are their differences; a mean of three is rounded.
        np.testing.assert_allclose(found[number], expected, rtol=0, atol=1e-6)


def test_derivative_of_the_second_pass():
    """That of the piecewise linear function, and finite where failed rows are not numbers."""
    success = np.arange(_FRAMES) % 5 != 0
    clip = _random_clip(4, success, _ALL, whole=False, broken=True)
    rng = np.random.default_rng(1)
    pulled = float32(rng.normal(size=(_FRAMES, 4)))
    # A level is taken off whatever the medians gave: only heads without one move with weights.
    clip = eqx.tree_at(
        lambda c: (c.units.intensity.dynamic, c.units.intensity.cutoff),
        jax.tree.map(jnp.asarray, clip),
        (jnp.ones(4, bool), float32([-1, 0.2, -1, 0.7])),
    )

    @jax.jit
    def loss(values: jax.Array, weights: jax.Array) -> jax.Array:
        units = eqx.tree_at(lambda u: u.intensity.weights, clip.units, weights)
        scores = eqx.tree_at(lambda s: s.intensity, clip.scores, values)
        return jnp.sum(pulled * finish_action_units(*clip._replace(units=units, scores=scores))[0])

    point = clip.scores.intensity, clip.units.intensity.weights
    slopes = jax.jit(jax.grad(loss, argnums=(0, 1)))(*point)
    assert all(np.isfinite(slope).all() and np.any(slope) for slope in slopes)
    np.testing.assert_array_equal(np.asarray(slopes[0])[~success], 0)
    step = 2.0**-11  # AU units: small beside the distance of the values, large beside rounding
    for argument, (value, slope) in enumerate(zip(point, slopes, strict=True)):
        way = float32(rng.choice([-1.0, 1.0], value.shape)) / value.shape[1] ** argument
        ends = [
            loss(*(v + sign * step * way if i == argument else v for i, v in enumerate(point)))
            for sign in (-1, 1)
        ]
        measured = (ends[1] - ends[0]) / (2 * step)
        # A sum of 96 values below 5 is rounded by 1e-5 at most, and divided by 1/1024.
        np.testing.assert_allclose(jnp.sum(slope * way), measured, rtol=1e-3, atol=0.01)


# The talking head with the model of the repository

_COUNT = 16  # frames


@pytest.fixture(scope="module")
def model() -> Model:
    model = jaxface.load_model("base")
    return jaxface.prepare_model(model, jaxface.default_config(model))


@pytest.fixture(scope="module")
def whole(model) -> Analysis:
    return jaxface.analyze_video(model, read_frames(_COUNT))


@pytest.fixture(scope="module")
def analyze() -> Callable:
    """`analyze_clip` on 16 frames. The camera is an argument: see `test_frames`."""

    @compile_alike
    def program(model, frames, camera, valid, state):
        return jaxface.analyze_clip(model, frames, camera, valid=valid, state=state)

    return program


@pytest.fixture(scope="module")
def finish() -> Callable:
    @compile_alike
    def program(model, state, faces, valid):
        return jaxface.finish_clip(model, state, faces, valid=valid)

    return program


@pytest.fixture(scope="module")
def analyzed(model, analyze) -> tuple[jaxface.ClipState, jaxface.ClipFace]:
    frames, valid = np.stack(read_frames(_COUNT)), np.ones(_COUNT, bool)
    return analyze(model, frames, camera(), valid, jaxface.start_clip(model))


def _assert_rows(faces: jaxface.ClipFace, whole: Analysis) -> None:
    for name, get in COLUMNS.items():
        np.testing.assert_array_equal(get(faces.face), getattr(whole, name), name)


def _assert_equal(found: Any, expected: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def _assert_units(faces: jaxface.ClipFace, whole: Analysis) -> None:
    assert whole.au_intensity.any() and whole.au_presence.any()
    np.testing.assert_allclose(faces.intensity, whole.au_intensity, rtol=0, atol=_UNITS)
    np.testing.assert_array_equal(faces.presence, whole.au_presence)


def test_clip_is_that_of_analyze_video(analyzed, whole):
    assert whole.success.all()  # `test_frames` shows that the face is the one that was drawn
    _assert_rows(analyzed[1], whole)


def test_finished_clip_is_that_of_analyze_video(model, analyzed, finish, whole):
    finished = finish(model, *analyzed, np.ones(_COUNT, bool))
    _assert_units(finished, whole)
    _assert_equal(finished.face, analyzed[1].face)


def test_pieces_with_gaps_are_the_whole(model, analyze, analyzed, finish, whole):
    """Whatever fills a piece up, even another face, changes neither the state nor other rows."""
    frames, first = np.stack(read_frames(_COUNT)), 10
    mirrored = frames[:, :, ::-1]
    pieces, state = [], jaxface.start_clip(model)
    masks = np.ones(_COUNT, bool), np.arange(_COUNT) < _COUNT - first
    masks[0][[0, 3, 4, 9, 14, 15]] = False
    for mask, part in zip(masks, (frames[:first], frames[first:]), strict=True):
        shown = mirrored.copy()
        shown[mask] = part
        state, faces = analyze(model, shown, camera(), mask, state)
        pieces.append(faces)
    joined = jax.tree.map(lambda *parts: jnp.concatenate(parts), *pieces)
    valid = np.concatenate(masks)
    _assert_equal(state, analyzed[0])
    _assert_equal(jax.tree.map(lambda leaf: leaf[valid], joined), analyzed[1])
    finished = finish(model, state, joined, valid)
    _assert_units(jax.tree.map(lambda leaf: leaf[valid], finished), whole)
    assert not np.any(finished.intensity[~valid]) and not np.any(finished.presence[~valid])


# A small model: programs that compile fast

_SHORT = 5  # frames
_PINHOLE = jaxface.Camera(*map(jnp.float32, (150, 150, 80, 60)))


def _toy_clips() -> np.ndarray:
    """Two clips; in the second's first frame nobody is found, and so soon none is looked for."""
    faces = np.stack([draw_face(true_points(number)) for number in range(_SHORT)])
    second = faces[::-1].copy()
    second[:1] = 230
    return np.stack([faces, second])


@pytest.fixture(scope="module")
def toy() -> Model:
    return toy_model()


@pytest.fixture(scope="module")
def toy_results(toy) -> list[tuple[jaxface.ClipState, jaxface.ClipFace]]:
    program = compile_alike(jaxface.analyze_clip)
    return [program(toy, frames, _PINHOLE) for frames in _toy_clips()]


def test_vmap_over_clips_is_a_loop(toy, toy_results):
    mapped = compile_alike(jax.vmap(jaxface.analyze_clip, in_axes=(None, 0, None)))
    found = mapped(toy, _toy_clips(), _PINHOLE)
    _assert_equal(found, jax.tree.map(lambda *leaves: jnp.stack(leaves), *toy_results))
    np.testing.assert_array_equal(found[1].face.accepted[0], True)
    np.testing.assert_array_equal(found[1].face.accepted[1], False)


def test_tracked_clip_is_that_of_the_whole_analysis(toy, toy_results):
    program = compile_alike(jaxface.track_clip)
    for frames, (state, faces) in zip(_toy_clips(), toy_results, strict=True):
        track, tracked = program(toy, frames)
        _assert_equal(track, state.track)
        found = tracked.fit.parameters, tracked.fit.confidence, tracked.success
        face = faces.face
        _assert_equal(found, (face.parameters, face.confidence, face.success))


_WRONG_FRAMES = {
    "one image": ((4, 6, 3), r"got shape \(4, 6, 3\): give a single one to jaxface.clip_frame"),
    "grey": ((2, 4, 6), r"expected RGB images of shape \(t, h, w, 3\), got shape \(2, 4, 6\)"),
    "alpha": ((2, 4, 6, 4), r"got shape \(2, 4, 6, 4\)"),
    "clips": ((2, 2, 4, 6, 3), r"got shape \(2, 2, 4, 6, 3\).* map several clips with jax.vmap"),
}


@pytest.mark.untyped
@pytest.mark.parametrize("kind", _WRONG_FRAMES)
def test_wrong_frames(toy, kind):
    shape, message = _WRONG_FRAMES[kind]
    frames = jnp.zeros(shape)
    with pytest.raises(ValueError, match=f"^frames: .*{message}"):
        jaxface.track_clip(toy, frames)
    with pytest.raises(ValueError, match=f"^frames: .*{message}"):
        jaxface.analyze_clip(toy, frames, _PINHOLE)


@pytest.mark.untyped
def test_wrong_mask(toy, toy_results):
    frames, valid = jnp.asarray(_toy_clips()[0]), jnp.ones(_SHORT + 1, bool)
    message = r"^valid: expected shape \(5,\), an entry for each frame, got shape \(6,\)"
    with pytest.raises(ValueError, match=message):
        jaxface.track_clip(toy, frames, valid=valid)
    with pytest.raises(ValueError, match=message):
        jaxface.analyze_clip(toy, frames, _PINHOLE, valid=valid)
    with pytest.raises(ValueError, match=message):
        jaxface.finish_clip(toy, *toy_results[0], valid=valid)


# OpenFace's model


def test_openface_on_a_video(openface_dir, model_dir, samples_dir, finish):
    """64 frames by one call of `jax.jit(analyze_clip)`."""
    model = load(Data(openface_dir, model_dir), "openface")
    model = jaxface.prepare_model(model, jaxface.default_config(model))
    frames = np.stack(list(itertools.islice(jaxface.read_video(samples_dir / "default.wmv"), 64)))
    height, width = frames.shape[1:3]
    lens = jaxface.Camera(*map(jnp.float32, default_camera(height=height, width=width)))
    whole = jaxface.analyze_video(model, list(frames))
    assert whole.success.all()
    state, faces = compile_alike(jaxface.analyze_clip)(model, frames, lens)
    _assert_rows(faces, whole)
    _assert_units(finish(model, state, faces, np.ones(len(frames), bool)), whole)
