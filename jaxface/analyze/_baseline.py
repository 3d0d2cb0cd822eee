"""Person-specific running medians of the descriptors (specification 03, C.2 and C.3)."""

import dataclasses
import functools

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Integer

# Lowest value, range, coarse bins, fine bins in each: 1000 and 10000 bins in all.
_FHOG = (-0.005, 1.005, 40, 25)
_GEOMETRY = (-60.0, 120.0, 100, 100)
_UNROLL = 20  # bins counted in one step of a loop


class Histogram(eqx.Module):
    """Counts of each dimension's values; `coarse` holds the sums of `fine`, to search faster."""

    fine: Integer[Array, "d c f"]  # of the type that `init_baseline` was asked for
    coarse: Int[Array, "c d"]


class Baseline(eqx.Module):
    """What is remembered of a person: the history of one video, not weights."""

    frames: Int[Array, ""]  # seen, failed ones too
    counted: Int[Array, ""]  # descriptors in the histograms
    fhog: Histogram
    geometry: Histogram
    latest: Float[Array, " d"]  # descriptor of the last odd frame; zero where that failed


def init_baseline(
    fhog_size: int = 4464,
    geometry_size: int = 238,
    dtype: np.dtype = np.dtype(np.float32),
    *,
    counts: np.dtype = np.dtype(np.int32),
) -> Baseline:
    """Returns the state before the first frame of a video.

    Args:
        fhog_size: number of FHOG features.
        geometry_size: number of geometry features.
        dtype: of the features.
        counts: of the histograms' bins, which take 28 MB as they are. As uint16 they take 14 MB,
            and hold 65535 frames, which are 131070 of a video: `widen_baseline` goes on from there.
    """

    def empty(dimensions: int, coarse: int, fine: int) -> Histogram:
        return Histogram(
            jnp.zeros((dimensions, coarse, fine), counts),
            jnp.zeros((coarse, dimensions), jnp.int32),
        )

    return Baseline(
        frames=jnp.zeros((), jnp.int32),
        counted=jnp.zeros((), jnp.int32),
        fhog=empty(fhog_size, *_FHOG[2:]),
        geometry=empty(geometry_size, *_GEOMETRY[2:]),
        latest=jnp.zeros(fhog_size + geometry_size, dtype),
    )


def widen_baseline(baseline: Baseline) -> Baseline:
    """The same state with room for 2^31 frames: bins in 32 bits.

    Nothing is rounded, and nothing is lost if it is done before `counted` is over 65535.
    """

    def widen(histogram: Histogram) -> Histogram:
        return dataclasses.replace(histogram, fine=histogram.fine.astype(jnp.int32))

    return dataclasses.replace(
        baseline, fhog=widen(baseline.fhog), geometry=widen(baseline.geometry)
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
    live = jnp.ones(1, bool)
    return update_baseline_at_once(
        baseline, fhog[None], geometry[None], jnp.reshape(success, 1), live
    )


def update_baseline_at_once(
    baseline: Baseline,
    fhogs: Float[Array, "t r c 31"],
    geometries: Float[Array, "t g"],
    success: Bool[Array, " t"],
    valid: Bool[Array, " t"],
) -> Baseline:
    """Counts consecutive frames of a video: `update_baseline` of one after the other.

    The frames that do not enter the medians cost nothing.

    Args:
        baseline: state after the previous frame.
        fhogs: descriptors; ignored, like `geometries`, where `success` is false.
        geometries: mm and coefficients.
        success: whether the landmarks were accepted.
        valid: false for frames that only fill the arrays up; they leave the state as it is.

    Returns:
        State after these frames, a constant under differentiation.

    Reference:
        Specification 03, C.2, step 4, and C.3.
    """
    frames = len(valid)
    fhogs, geometries = lax.stop_gradient((fhogs.reshape(frames, -1), geometries))
    seen = jnp.cumsum(valid, dtype=jnp.int32)
    odd = valid & ((baseline.frames + seen) % 2 == 1)  # frames count from 1
    # Odd frames in front: they are half of the valid ones.
    front = jnp.argsort(~odd, stable=True)[: (frames + 1) // 2]
    counts = (odd & success)[front].astype(jnp.int32)
    fhog, geometry = fhogs[front], geometries[front]
    last = jnp.sum(odd, dtype=jnp.int32) - 1
    row = jnp.maximum(last, 0)
    latest = jnp.where(success[front[row]], jnp.concatenate([fhog[row], geometry[row]]), 0)
    return Baseline(
        frames=baseline.frames + seen[-1],
        counted=baseline.counted + jnp.sum(counts, dtype=jnp.int32),
        fhog=_count(baseline.fhog, fhog, counts, *_FHOG),
        geometry=_count(baseline.geometry, geometry, counts, *_GEOMETRY),
        latest=jnp.where(last >= 0, latest, baseline.latest),
    )


def baseline_medians(baseline: Baseline) -> Float[Array, " d"]:
    """Medians in force after the frames seen so far: FHOG, then geometry. They have no derivative.

    Reference:
        Specification 03, C.2, step 4, and C.3.
    """
    wanted, dtype = (baseline.counted + 1) // 2, baseline.latest.dtype
    fhog = jnp.maximum(_median(baseline.fhog, wanted, dtype, *_FHOG), 0)
    geometry = _median(baseline.geometry, wanted, dtype, *_GEOMETRY)
    # A single counted frame is its own median, unquantised; a failed odd frame after it
    # replaces both by zeros.
    return jnp.where(baseline.counted == 1, baseline.latest, jnp.concatenate([fhog, geometry]))


def _count(
    histogram: Histogram,
    values: Float[Array, "k d"],
    counts: Int[Array, " k"],
    low: float,
    length: float,
    coarse: int,
    fine: int,
) -> Histogram:
    """Adds the `counts` of each row to the bins of its values."""
    index = _bin(values, low, length, coarse * fine)
    rows = np.arange(values.shape[1], dtype=np.int32)[None]
    block, rest = index // fine, index % fine
    counts = jnp.broadcast_to(counts[:, None], index.shape)

    def add(places, added):
        return places.add(added, mode="promise_in_bounds")

    return Histogram(
        add(histogram.fine.at[rows, block, rest], counts.astype(histogram.fine.dtype)),
        add(histogram.coarse.at[block, rows], counts),
    )


def _bin(values: Float[Array, "k d"], low: float, length: float, bins: int) -> Int[Array, "k d"]:
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
    wanted: Int[Array, ""],
    dtype: np.dtype,
    low: float,
    length: float,
    coarse: int,
    fine: int,
) -> Float[Array, " d"]:
    """Centre of the first bin up to which at least `wanted` values were counted."""
    rows = np.arange(histogram.coarse.shape[1], dtype=np.int32)
    block, before = _count_up(histogram.coarse, jnp.zeros(rows.shape, jnp.int32), wanted)
    rest, _ = _count_up(histogram.fine[rows, block].T, before, wanted)
    centres = low + (np.arange(coarse * fine) + 0.5) * length / (coarse * fine)
    return jnp.asarray(centres, dtype)[block * fine + rest]


def _count_up(
    counts: Integer[Array, "b d"], before: Int[Array, " d"], wanted: Int[Array, ""]
) -> tuple[Int[Array, " d"], Int[Array, " d"]]:
    """Number of bins whose running sum stays below `wanted`, and that sum after them."""

    def step(carry, row):
        found, below, up_to = carry
        up_to = up_to + row.astype(jnp.int32)
        less = up_to < wanted
        return (found + less.astype(jnp.int32), jnp.where(less, up_to, below), up_to), None

    start = (jnp.zeros_like(before), before, before)
    (found, below, _), _ = lax.scan(step, start, counts, unroll=_UNROLL)
    return found, below
