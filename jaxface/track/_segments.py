"""Tracking in parallel over time: segments of a clip, stepped together.

A frame depends on the one before only through where its fit starts, and a fit forgets its start
within a few frames. So the clip is cut into segments, a cheap scout finds where each may start,
each runs a few frames ahead of its own (the burn-in), and where the burn-in of a segment ends it
must agree with the segment before: then its frames are what tracking one by one would have given,
within the noise of the fit. The caller checks that, and tracks by itself what does not agree.
"""

import dataclasses
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ..fit import (
    AnyCLNF,
    FitConfig,
    Phase,
    align_lanes,
    lane_frames,
    plan_scales,
    settings_of,
)
from ..fit.solvers import run_passes
from ..types import Fit, PDMParameters
from ._ahead import Pool, take_lanes

Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentConfig:
    """How a run of frames is cut."""

    count: int
    longest: int  # frames of a segment
    burn_in: int = 6  # frames; the first segment starts from a known frame and takes them over
    stride: int = 2  # frames from one scouted frame to the next

    def __post_init__(self) -> None:
        if min(self.count, self.longest, self.burn_in, self.stride) < 1:
            raise ValueError(f"SegmentConfig: expected numbers of at least 1, got {self}")

    @property
    def frames(self) -> int:
        """Frames in a run of full length."""
        return self.count * self.longest + self.burn_in

    def length(self, frames: int) -> int:
        """Length of the segments that cover so many frames; at least the burn-in."""
        return max(-(-(frames - self.burn_in) // self.count), self.burn_in)


def _rows(like: Tree, count: int) -> Tree:
    return jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), like)


def _put(table: Tree, row: Tree, index: Int[Array, ""]) -> Tree:
    return jax.tree.map(lambda t, r: t.at[index].set(r, mode="drop"), table, row)


def scout_segments(
    clnf: AnyCLNF,
    parameters: PDMParameters,
    pool: Pool,
    start: Int[Array, ""],
    length: Int[Array, ""],
    *,
    size: Int[Array, "2"],
    config: FitConfig | None,
    segments: SegmentConfig,
) -> PDMParameters:
    """Where each segment starts: a coarse scale follows the pose alone, in strides.

    The shape stays as it is. The result is a few px off, which the burn-in mends.

    Args:
        parameters: of the frame before the first.
        pool: luma of the frames, see `run_ahead`.
        start: first frame of the run.
        length: of the segments.
        size: height and width of the pictures, px.
    Returns:
        One row per segment; the first is `parameters`.
    """
    plan = plan_scales(clnf.main, settings_of(clnf, config), Phase.INIT)
    scale, coarse = next((i, c) for i, c in enumerate(plan) if c is not None)

    def step(
        index: Int[Array, ""], carry: tuple[PDMParameters, Float[Array, "2"], PDMParameters]
    ) -> tuple[PDMParameters, Float[Array, "2"], PDMParameters]:
        parameters, before, starts = carry
        frame = segments.stride * index
        # Heads move on: the next frame is looked for where the last motion leads.
        ahead = parameters.translation + (parameters.translation - before)
        guess = eqx.tree_at(lambda p: p.translation, parameters, ahead)
        lane = jax.tree.map(lambda leaf: leaf[None], guess)
        image = take_lanes(pool, (start + frame)[None], size[None])
        aligned = align_lanes(clnf.main, lane, scale)
        frames = lane_frames(clnf.main, image, aligned, scale=scale, window=coarse.window)
        single = jax.tree.map(lambda leaf: leaf[0], frames)
        (moved,), _ = run_passes(clnf.main.pdm, single, guess, config=coarse, rigid=(True,))
        # The last frame that is scouted before a segment begins is where it starts from.
        segment = (frame + segments.stride - 1) // length
        segment = jnp.where(segment * length >= frame, segment, segments.count)
        return moved, parameters.translation, _put(starts, moved, segment)

    last = (segments.count - 1) * length // segments.stride
    with jax.named_scope("scout"):
        starts = _rows(parameters, segments.count)
        carry = parameters, parameters.translation, starts
        starts = lax.fori_loop(0, last + 1, step, carry)[2]
    # The first segment goes on from the frame before it.
    return _put(starts, parameters, jnp.zeros((), jnp.int32))


def in_order(
    trail: Fit, length: int, segments: SegmentConfig
) -> tuple[Fit, Float[np.ndarray, " f"]]:
    """Fits frame by frame, without the burn-ins, on the host.

    Args:
        trail: result of `run_ahead` on all segments of a run.
        length: of the segments.
    Returns:
        One row per frame; and for each the distance, in px, between the segment that it starts
        and the one that it continues, 0 within a segment.
    """
    frames = np.arange(segments.count * length + segments.burn_in)
    segment = np.maximum((frames - segments.burn_in) // length, 0)
    step = frames - segment * length
    fits = jax.tree.map(lambda leaf: np.asarray(leaf)[step, segment], trail)
    landmarks = np.asarray(trail.landmarks)
    last, ahead = landmarks[length + segments.burn_in - 1, :-1], landmarks[segments.burn_in - 1, 1:]
    seams = np.zeros(len(frames))
    starts = length * np.arange(1, segments.count) + segments.burn_in
    seams[starts] = mean_distance(last, ahead)
    return fits, seams


def mean_distance(
    landmarks: Float[np.ndarray, "*b n 2"], others: Float[np.ndarray, "*b n 2"]
) -> Float[np.ndarray, "*b"]:
    """Mean distance between two sets of landmarks, px."""
    return np.asarray(np.linalg.norm(landmarks - others, axis=-1).mean(axis=-1))
