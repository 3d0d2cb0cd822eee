"""Person-specific running medians of the descriptors (specification 03, C.2 and C.3)."""

import functools

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

# Lowest value, range, coarse bins, fine bins in each: 1000 and 10000 bins in all.
_FHOG = (-0.005, 1.005, 40, 25)
_GEOMETRY = (-60.0, 120.0, 100, 100)


class Histogram(eqx.Module):
    """Counts of each dimension's values; `coarse` holds the sums of `fine`, to search faster."""

    fine: Int[Array, "d c f"]
    coarse: Int[Array, "d c"]


class Baseline(eqx.Module):
    """What is remembered of a person: the history of one video, not weights."""

    frames: Int[Array, ""]  # seen, failed ones too
    counted: Int[Array, ""]  # descriptors in the histograms
    fhog: Histogram
    geometry: Histogram
    latest: Float[Array, " d"]  # descriptor of the last odd frame; zero where that failed


def init_baseline(
    fhog_size: int = 4464, geometry_size: int = 238, dtype: np.dtype = np.dtype(np.float32)
) -> Baseline:
    """Returns the state before the first frame of a video.

    Args:
        fhog_size: number of FHOG features.
        geometry_size: number of geometry features.
        dtype: of the features.
    """

    def empty(dimensions: int, coarse: int, fine: int) -> Histogram:
        return Histogram(
            jnp.zeros((dimensions, coarse, fine), jnp.int32),
            jnp.zeros((dimensions, coarse), jnp.int32),
        )

    return Baseline(
        frames=jnp.zeros((), jnp.int32),
        counted=jnp.zeros((), jnp.int32),
        fhog=empty(fhog_size, *_FHOG[2:]),
        geometry=empty(geometry_size, *_GEOMETRY[2:]),
        latest=jnp.zeros(fhog_size + geometry_size, dtype),
    )


def update_baseline(
    baseline: Baseline,
    fhog: Float[Array, "r c 31"],
    geometry: Float[Array, " g"],
    success: Bool[Array, ""],
) -> Baseline:
    """Counts one frame of a video; only every other frame, from the first, enters the medians.

    Costs one increment for each feature: the medians are found by `baseline_medians`.

    Args:
        baseline: state after the previous frame.
        fhog: the frame's descriptor; ignored, like `geometry`, where `success` is false.
        geometry: the frame's geometry, mm and coefficients.
        success: whether the landmarks were accepted.

    Returns:
        State after this frame. Constant under differentiation, by design: a median in bins is a
        step, and a person's neutral face is not what one differentiates by.

    Reference:
        Specification 03, C.2, step 4, and C.3.
    """
    fhog, geometry = lax.stop_gradient((fhog.reshape(-1), geometry))
    odd = baseline.frames % 2 == 0  # frames count from 1
    counts = (odd & success).astype(jnp.int32)
    latest = jnp.where(success, jnp.concatenate([fhog, geometry]), 0)
    return Baseline(
        frames=baseline.frames + 1,
        counted=baseline.counted + counts,
        fhog=_count(baseline.fhog, fhog, counts, *_FHOG),
        geometry=_count(baseline.geometry, geometry, counts, *_GEOMETRY),
        latest=jnp.where(odd, latest, baseline.latest),
    )


def baseline_medians(baseline: Baseline) -> Float[Array, " d"]:
    """Medians in force after the frames seen so far: FHOG, then geometry. They have no derivative.

    Reference:
        Specification 03, C.2, step 4, and C.3.
    """
    wanted = ((baseline.counted + 1) // 2).astype(baseline.latest.dtype)
    fhog = jnp.maximum(_median(baseline.fhog, wanted, *_FHOG), 0)
    geometry = _median(baseline.geometry, wanted, *_GEOMETRY)
    # A single counted frame is its own median, unquantised; a failed odd frame after it
    # replaces both by zeros.
    return jnp.where(baseline.counted == 1, baseline.latest, jnp.concatenate([fhog, geometry]))


def _count(
    histogram: Histogram,
    values: Float[Array, " d"],
    counts: Int[Array, ""],
    low: float,
    length: float,
    coarse: int,
    fine: int,
) -> Histogram:
    """Adds `counts` to the bin of each value."""
    index = _bin(values, low, length, coarse * fine)
    rows = np.arange(values.shape[0], dtype=np.int32)
    block, rest = index // fine, index % fine
    return Histogram(
        histogram.fine.at[rows, block, rest].add(counts, mode="promise_in_bounds"),
        histogram.coarse.at[rows, block].add(counts, mode="promise_in_bounds"),
    )


def _bin(values: Float[Array, " d"], low: float, length: float, bins: int) -> Int[Array, " d"]:
    """Bin that double precision gives to each float32 value."""
    guess = jnp.clip((values - low) * (bins / length), 0, bins - 1).astype(jnp.int32)
    starts = jnp.asarray(_bin_starts(low, length, bins), values.dtype)
    above, below = values >= starts[guess + 1], values < starts[guess]
    return guess + above.astype(jnp.int32) - below.astype(jnp.int32)


@functools.cache
def _bin_starts(low: float, length: float, bins: int) -> np.ndarray:
    """Smallest float32 value of each bin, and infinity after the last; the first is open."""
    wanted = np.arange(bins)

    def position(values: np.ndarray) -> np.ndarray:
        return (values.astype(np.float64) - low) * bins / length

    starts = (low + wanted * length / bins).astype(np.float32)
    starts = np.where(position(starts) < wanted, np.nextafter(starts, np.float32(np.inf)), starts)
    before = np.nextafter(starts, np.float32(-np.inf))
    starts = np.where(position(before) >= wanted, before, starts)
    starts[0] = -np.inf
    return np.append(starts, np.float32(np.inf))


def _median(
    histogram: Histogram,
    wanted: Float[Array, ""],
    low: float,
    length: float,
    coarse: int,
    fine: int,
) -> Float[Array, " d"]:
    """Centre of the first bin up to which at least `wanted` values were counted."""
    up_to = _running_sum(histogram.coarse, wanted.dtype)
    block = jnp.sum(up_to < wanted, axis=1)
    rows = np.arange(block.shape[0])
    inside = histogram.fine[rows, block]
    before = up_to[rows, block] - histogram.coarse[rows, block].astype(wanted.dtype)
    rest = jnp.sum(before[:, None] + _running_sum(inside, wanted.dtype) < wanted, axis=1)
    centres = low + (np.arange(coarse * fine) + 0.5) * length / (coarse * fine)
    return jnp.asarray(centres, wanted.dtype)[block * fine + rest]


def _running_sum(counts: Int[Array, "d b"], dtype: np.dtype) -> Float[Array, "d b"]:
    """Cumulative sums, exact below 2^24 in float32; as a product, which is faster than a scan."""
    upper = np.triu(np.ones((counts.shape[1], counts.shape[1]), dtype))
    return jnp.matmul(counts.astype(dtype), upper, precision=lax.Precision.HIGHEST)
