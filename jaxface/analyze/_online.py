"""Correction of action-unit intensities while a live video runs (specification 03, C.6)."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

_BINS, _LOW, _WIDTH = 200, -3.0, 0.04
_MINIMUM = 10  # frames before anything is corrected


class OnlineCorrection(eqx.Module):
    """Histograms of the intensities that a live video has given so far."""

    histogram: Int[Array, "u 200"]
    counted: Int[Array, ""]


def init_online_correction(units: int = 17) -> OnlineCorrection:
    """Returns the state before the first frame, for at most so many units."""
    return OnlineCorrection(jnp.zeros((units, _BINS), jnp.int32), jnp.zeros((), jnp.int32))


def correct_online(
    state: OnlineCorrection, intensity: Float[Array, " u"], success: Bool[Array, ""]
) -> tuple[OnlineCorrection, Float[Array, " u"]]:
    """Takes the tenth percentile of the values so far as zero, and limits to 0 to 5.

    Args:
        state: after the previous frame.
        intensity: raw, of this frame; ignored where `success` is false.
        success: whether the landmarks were accepted.

    Returns:
        The state after this frame, and the intensity, zero where `success` is false.

    Reference:
        Specification 03, C.6.
    """
    position = lax.stop_gradient((intensity - _LOW) / _WIDTH)
    bins = jnp.clip(position, 0, _BINS - 1).astype(jnp.int32)
    counts = success.astype(jnp.int32)
    rows = np.arange(intensity.shape[0], dtype=np.int32)
    histogram = state.histogram.at[rows, bins].add(counts, mode="promise_in_bounds")
    counted = state.counted + counts
    up_to = jnp.cumsum(histogram[: len(rows)], axis=1)
    first = jnp.sum(up_to <= counted // 10, axis=1).astype(intensity.dtype)
    level = jnp.where(counted >= _MINIMUM, _LOW + _WIDTH * first, 0)
    corrected = jnp.where(success, jnp.clip(intensity - level, 0, 5), 0)
    return OnlineCorrection(histogram, counted), corrected
