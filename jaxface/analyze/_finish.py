"""Action units over a whole clip as one pure function (specification 03, C.5).

What `repredict_clip` and `postprocess_clip` compute on the host in double precision, in arrays of
fixed shape: rows that do not count are moved behind the others, and masked.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..ops import double
from ._action_units import ActionUnits, LinearHeads, Scores, label_presence
from ._postprocess import STORED

_VOTERS = 7  # frames whose vote is the presence in the middle one
_STEP = 20  # OpenFace's cutoffs are multiples of 1 / 20


def finish_action_units(
    units: ActionUnits,
    raw_intensity: Float[Array, "t u"],
    raw_presence: Bool[Array, "t c"],
    scores: Scores,
    medians: Float[Array, " d"],
    success: Bool[Array, " t"],
    valid: Bool[Array, " t"],
    *,
    dynamic: bool = True,
) -> tuple[Float[Array, "t u"], Bool[Array, "t c"]]:
    """The second pass over a clip's start, calibration, and smoothing: `postprocess_clip` in JAX.

    Values are those of the host's to 1e-5, presence the same, as sums are of about 45 bits and
    ranks are exact.

    Args:
        units: the heads that gave the predictions.
        raw_intensity: one row a frame, with the medians of its time.
        raw_presence: likewise.
        scores: one row a frame, without medians.
        medians: `baseline_medians` after the last frame.
        success: whether the landmarks were accepted.
        valid: frames of the clip; the others count as if they were not there.
        dynamic: adapt to the person; false for OpenFace's `-au_static`.
    Returns:
        Intensity, 0 to 5, and presence; zero where `valid` is false. An intensity moves with its
        own score, with those of the two frames that it is smoothed over and with the one that is
        taken as zero; where it is cut at 0 or 5 its derivative is zero. Medians are constants of
        the person: they have a derivative by the heads' weights only.
    Reference:
        Specification 03, C.5.
    """
    if not len(valid):
        return raw_intensity, raw_presence
    # The clip's frames in front, in their order.
    order = jnp.argsort(~valid, stable=True)
    count = jnp.sum(valid.astype(jnp.int32))
    intensity, presence, good = raw_intensity[order], raw_presence[order], (success & valid)[order]
    if dynamic:
        again = good & (jnp.cumsum(good.astype(jnp.int32)) <= STORED)
        new = _without_neutral(units.intensity, scores.intensity[order], medians)
        decisions = _without_neutral(units.presence, scores.presence[order], medians)
        labels = jax.vmap(lambda row: label_presence(units.presence, row))(decisions)
        intensity = jnp.where(again[:, None], new, intensity)
        presence = jnp.where(again[:, None], labels, presence)
    intensity = jnp.where(good[:, None], intensity, 0)
    if dynamic:
        intensity = intensity - _zero_levels(units.intensity, intensity, good)[None]
    intensity = jnp.where(good[:, None], jnp.clip(intensity, 0, 5), 0)
    smooth = _smooth(intensity, count)
    voted = _vote(presence & good[:, None], count)
    # Back to where they were.
    places = jnp.maximum(jnp.cumsum(valid.astype(jnp.int32)) - 1, 0)
    shown = valid[:, None]
    return jnp.where(shown, smooth[places], 0), voted[places] & shown


def _without_neutral(
    heads: LinearHeads, scores: Float[Array, "t u"], medians: Float[Array, " d"]
) -> Float[Array, "t u"]:
    """Scores without what the dynamic heads give for the person's medians."""
    high, low = double.exact_product(heads.weights, jnp.broadcast_to(medians, heads.weights.shape))
    while (width := high.shape[1]) > 1:
        half = -(-width // 2)
        high, low = (jnp.pad(part, ((0, 0), (0, 2 * half - width))) for part in (high, low))
        high, low = double.add((high[:, :half], low[:, :half]), (high[:, half:], low[:, half:]))
    high, low = (jnp.where(heads.dynamic, part[:, 0], 0) for part in (high, low))
    return (scores - high[None]) - low[None]


def _zero_levels(
    heads: LinearHeads, intensity: Float[Array, "t u"], good: Bool[Array, " t"]
) -> Float[Array, " u"]:
    """Quantile of each calibrated head's values in the successful frames; zero for the others."""
    calibrated = heads.dynamic & (heads.cutoff != -1)
    count = jnp.sum(good.astype(jnp.int32))
    ranks = jnp.clip(_ranks(heads.cutoff, count), 0, len(good) - 1)
    ordered = jnp.sort(jnp.where(good[:, None], intensity, jnp.inf), axis=0)
    levels = jnp.take_along_axis(ordered, ranks[None], axis=0)[0]
    return jnp.where(calibrated & (count > 0), levels, 0)


def _ranks(cutoff: Float[Array, " u"], count: Int[Array, ""]) -> Int[Array, " u"]:
    """Whole part of the cutoffs' products with a count of frames, exact."""
    steps = jnp.round(cutoff * _STEP)
    whole = steps.astype(jnp.int32) * count // _STEP
    near = jnp.abs(steps * np.asarray(1 / _STEP, cutoff.dtype) - cutoff) < 1e-6
    high, low = double.exact_product(
        cutoff, jnp.broadcast_to(count.astype(cutoff.dtype), cutoff.shape)
    )
    floor = jnp.floor(high)
    other = floor - ((high == floor) & (low < 0)).astype(cutoff.dtype)
    return jnp.where(near, whole, other.astype(jnp.int32))


def _smooth(intensity: Float[Array, "t u"], count: Int[Array, ""]) -> Float[Array, "t u"]:
    """Means of three frames; the first and the last stay as they are."""
    place = jnp.arange(len(intensity), dtype=jnp.int32)
    inside = (place > 0) & (place < count - 1)
    padded = jnp.pad(intensity, ((1, 1), (0, 0)))
    means = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return jnp.where(inside[:, None], means, intensity)


def _vote(presence: Bool[Array, "t c"], count: Int[Array, ""]) -> Bool[Array, "t c"]:
    """The majority of seven frames; the first and the last three stay as they are."""
    reach = _VOTERS // 2
    place = jnp.arange(len(presence), dtype=jnp.int32)
    inside = (place >= reach) & (place < count - reach)
    padded = jnp.pad(presence.astype(jnp.int32), ((reach, reach), (0, 0)))
    votes = sum(padded[i : i + len(presence)] for i in range(_VOTERS))
    return jnp.where(inside[:, None], votes > reach, presence)
