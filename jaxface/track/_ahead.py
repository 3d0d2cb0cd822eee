"""Running ahead: faces are followed as if each fit was accepted, and judged together afterwards.

The validator decides whether a frame's fit is gone on from. Most fits are accepted. So several
faces, the lanes, step through their frames together without it, in one program without branches on
what it says, and then it judges all frames in one product. The first that it rejects ends what may
be used of a lane: there the state machine of `track_landmarks` takes over.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int, Shaped

from ..fit import AnyCLNF, CutFaces, FitConfig, cut_fits, follow_lanes, judge_fits, run_lanes
from ..types import BorderedLanes, Fit, FlatLanes

Pool = Shaped[Array, "f h2 w2"] | Shaped[Array, "f l"]  # luma of frames


def run_ahead(
    clnf: AnyCLNF,
    fits: Fit,
    pool: Pool,
    rows: Int[Array, "t b"],
    valid: Bool[Array, "t b"],
    *,
    sizes: Int[Array, "b 2"],
    config: FitConfig | None,
) -> Fit:
    """Follows several faces through several frames, each through frames of its own.

    Args:
        clnf: landmark model, prepared for `config`.
        fits: where each face was in the frame before, one row each.
        pool: luma with a border of all frames, finite: see `fit.border_luma`; or flat luma, row
            after row without gaps.
        rows: of the pool that each step and face looks at.
        valid: false for steps that only fill the array up: where a step has no face, it costs
            nothing, else what it gives means nothing.
        sizes: height and width of each face's pictures, px.
        config: settings; by default the model's own.
    Returns:
        Fits with the validator's verdicts, [step, face]. Those of a face are what tracking frame
        by frame gives, within the noise of the fit, up to the first that is rejected; what comes
        after it means nothing. Derivatives are those of fits that start from one another.
    Raises:
        ValueError: a flat pool has 2**31 pixels or more.
    Reference:
        Specification 01, B.5, step 1.
    """

    def step(fits: Fit, inputs: tuple[Array, Array]) -> tuple[Fit, tuple[Fit, Array, CutFaces]]:
        places, live = inputs

        def follow(lanes: tuple[Fit, Array, CutFaces]) -> tuple[Fit, Array, CutFaces]:
            images = take_lanes(pool, places, sizes)
            found, large = follow_lanes(clnf, images, lanes[0], config=config)
            return found, large, cut_fits(clnf, images, found, sizes=sizes)

        after = run_lanes(live, follow, (fits, jnp.zeros_like(live), _no_faces(clnf, fits)))
        return after[0], after

    with jax.named_scope("track"):
        _, trail = lax.scan(step, fits, (rows, valid))
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), trail)
        judged = judge_fits(clnf, flat[0], flat[2], flat[1], config=config)
    return jax.tree.map(lambda leaf: leaf.reshape(*rows.shape, *leaf.shape[1:]), judged)


def _no_faces(clnf: AnyCLNF, fits: Fit) -> CutFaces:
    count, dtype = fits.view.shape[0], fits.landmarks.dtype
    side = clnf.validator.warp.mask.shape[-1]
    return CutFaces(
        faces=jnp.zeros((count, side, side), dtype),
        inside=jnp.zeros(count, bool),
        views=jnp.zeros(count, jnp.int32),
    )


def take_lanes(pool: Pool, rows: Int[Array, " b"], sizes: Int[Array, "b 2"]) -> BorderedLanes:
    """Frames of a pool, one for each lane; past its end its last one repeats.

    Args:
        pool: see `run_ahead`. Flat frames stay where they are.
        rows: of the pool.
        sizes: height and width of the pictures, px; only those of flat ones count.
    """
    if pool.ndim == 3:
        return take_frames(pool, rows)
    if pool.size > np.iinfo(np.int32).max:
        raise ValueError(f"pool: expected fewer than 2**31 pixels in all, got shape {pool.shape}")
    starts = jnp.clip(rows, 0, pool.shape[0] - 1) * np.int32(pool.shape[1])
    return FlatLanes(pool.reshape(-1), sizes, sizes[:, 1], starts)


def take_frames(pool: Shaped[Array, "f h2 w2"], rows: Int[Array, " b"]) -> Shaped[Array, "b h2 w2"]:
    """Frames of a pool with their borders; past its end its last one repeats."""
    places = jnp.clip(rows, 0, pool.shape[0] - 1)

    # Slices are copied whole; a gather of them would go pixel by pixel on CPUs.
    def slices(pool: Array, places: Array) -> Array:
        return jnp.stack([lax.dynamic_index_in_dim(pool, i, keepdims=False) for i in places])

    def gather(pool: Array, places: Array) -> Array:
        return pool[places]

    return lax.platform_dependent(pool, places, cpu=slices, default=gather)
