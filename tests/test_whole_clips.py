"""Whole clips as pure functions: the second pass against NumPy's, and scans against the host's loop.

Programs are compiled once each and shared: of one length, with `valid` for whatever is shorter.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxface.analyze import (
    ActionUnits,
    Scores,
    finish_action_units,
    postprocess_clip,
    repredict_clip,
)

from .test_action_units import float32, make_heads, make_units

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


def _random_clip(
    seed: int, success: np.ndarray, valid: np.ndarray, *, whole: bool, broken: bool
) -> RandomClip:
    """Numbers from a normal distribution, or small integers, of which many are the same."""
    rng = np.random.default_rng(seed)
    units = make_units(rng)

    def draw(*shape: int) -> np.ndarray:
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
        scores=Scores(*map(float32, rows[1:])),
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
        raw = repredict_clip(units, *raw, *scores, clip.medians, success)
    found = postprocess_clip(units, *raw, success, dynamic=dynamic)
    rows = tuple(np.zeros((len(live), part.shape[1])) for part in found)
    for row, part in zip(rows, found, strict=True):
        row[live] = part
    return rows


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
    cutoffs = float32([*(step / 20 for step in range(20)), 0.33, 0.123, 1 / 3, 0.999])
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
    scores = Scores(
        float32(np.repeat(values[:, None], len(cutoffs), 1)), float32(rng.normal(size=(count, 3)))
    )
    raw = np.asarray(scores.intensity), np.zeros((count, 3), bool)
    medians = np.zeros(37, np.float32)
    valid = np.arange(count) < np.arange(1, count + 1)[:, None]
    found = jax.jit(
        jax.vmap(
            lambda live: finish_action_units(
                units, *map(jnp.asarray, raw), scores, jnp.asarray(medians), live, live
            )[0]
        )
    )(valid)
    for number, live in enumerate(valid):
        clip = RandomClip(units, *raw, scores, medians, live, live)
        expected = _on_the_host(clip, dynamic=True)[0]
        # Eighths are exact, and so are their differences; a mean of three is rounded.
        np.testing.assert_allclose(found[number], expected, rtol=0, atol=1e-6)
