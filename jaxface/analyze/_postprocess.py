"""Action units over a whole clip, on the host in double precision (specification 03, C.5)."""

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from ._action_units import ActionUnits, LinearHeads

STORED = 3000  # successful frames that OpenFace keeps descriptors of


def repredict_clip(
    units: ActionUnits,
    raw_intensity: Float[ndarray, "t u"],
    raw_presence: Bool[ndarray, "t c"],
    score_intensity: Float[ndarray, "t u"],
    score_presence: Float[ndarray, "t c"],
    medians: Float[ndarray, " d"],
    success: Bool[ndarray, " t"],
) -> tuple[Float[ndarray, "t u"], Bool[ndarray, "t c"]]:
    """Predicts the clip's first successful frames again, with the medians known at its end.

    Args:
        units: the heads of the video model.
        raw_intensity: `predict_action_units` of each frame, with the medians of its time; only
            the values after the 3000th successful frame are used.
        raw_presence: likewise.
        score_intensity: `score_action_units` of each frame, without medians.
        score_presence: likewise.
        medians: `baseline_medians` after the last frame.
        success: whether the landmarks were accepted.

    Returns:
        Raw intensity and presence, new for the first 3000 successful frames.

    Reference:
        Specification 03, C.5, step 1.
    """
    again = success & (np.cumsum(success) <= STORED)
    intensity = score_intensity - _neutral(units.intensity, medians)
    decisions = score_presence - _neutral(units.presence, medians)
    heads = units.presence
    labels = np.where(decisions > 0, np.asarray(heads.positive), np.asarray(heads.negative))
    return (
        np.where(again[:, None], intensity, raw_intensity),
        np.where(again[:, None], labels > 0.5, raw_presence),
    )


def postprocess_clip(
    units: ActionUnits,
    raw_intensity: Float[ndarray, "t u"],
    raw_presence: Bool[ndarray, "t c"],
    success: Bool[ndarray, " t"],
    *,
    dynamic: bool = True,
) -> tuple[Float[ndarray, "t u"], Float[ndarray, "t c"]]:
    """Calibrates, limits and smooths the predictions of a clip.

    Args:
        units: the heads that gave the predictions.
        raw_intensity: one row a frame; rows of failed frames count as zeros.
        raw_presence: likewise.
        success: whether the landmarks were accepted.
        dynamic: subtract the person's own zero level from the dynamic heads; false for
            OpenFace's `-au_static`.

    Returns:
        Intensity, 0 to 5, smoothed over three frames, and presence, 0 or 1, by the vote of
        seven frames. Next to good frames a failed frame is not zero, as in OpenFace.

    Raises:
        ValueError: the arrays do not have one row a frame.

    Reference:
        Specification 03, C.5, steps 2 and 3.
    """
    for name, rows in (("raw_intensity", raw_intensity), ("raw_presence", raw_presence)):
        if len(rows) != len(success):
            raise ValueError(f"{name}: expected {len(success)} rows, got {len(rows)}")
    good = success[:, None]
    intensity = np.asarray(raw_intensity, np.float64)
    if dynamic:
        intensity = intensity - _zero_levels(units.intensity, intensity[success])
    intensity = np.where(good, np.clip(intensity, 0, 5), 0)
    smooth = intensity.copy()
    smooth[1:-1] = (intensity[:-2] + intensity[1:-1] + intensity[2:]) / 3
    presence = np.where(good, np.asarray(raw_presence, np.float64), 0)
    voted = presence.copy()
    if len(presence) > 6:
        votes = np.lib.stride_tricks.sliding_window_view(presence, 7, axis=0).sum(axis=-1)
        voted[3:-3] = votes / 7 >= 0.5
    return smooth, voted


def _neutral(heads: LinearHeads, medians: Float[ndarray, " d"]) -> Float[ndarray, " u"]:
    """What the dynamic heads give for the person's medians."""
    neutral = np.asarray(heads.weights, np.float64) @ np.asarray(medians, np.float64)
    return np.where(np.asarray(heads.dynamic), neutral, 0)


def _zero_levels(heads: LinearHeads, good: Float[ndarray, "s u"]) -> Float[ndarray, " u"]:
    """Quantile of each calibrated head's values in the successful frames; zero for the others."""
    cutoffs = np.asarray(heads.cutoff, np.float64)
    calibrated = np.asarray(heads.dynamic) & (cutoffs != -1)
    if not len(good) or not calibrated.any():
        return np.zeros(len(cutoffs))
    # OpenFace's cutoffs are multiples of 0.05 in double precision. In float32 some are smaller,
    # and their product with a frame count would be cut to the integer below.
    steps = np.round(cutoffs / 0.05) * 0.05
    cutoffs = np.where(np.abs(steps - cutoffs) < 1e-6, steps, cutoffs)
    # A cutoff of 1 is the largest value.
    ranks = np.where(calibrated, len(good) * cutoffs, 0).astype(int).clip(0, len(good) - 1)
    values = np.take_along_axis(np.sort(good, axis=0), ranks[None], axis=0)[0]
    return np.where(calibrated, values, 0)
