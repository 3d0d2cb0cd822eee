"""Fits through the scales of patch experts, coarse to fine (specification 02, C and D.2).

Everything here fits several faces at once, each in an image of its own and on a leading axis
`b`; one face is a batch of one.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..ops import materialise, pad_border, select
from ..types import BorderedLanes, FlatGray, Gray, PDMParameters
from ._areas import align_to_reference, as_lane, map_lanes, nearest_view, sample_areas
from ._config import FitConfig, Phase, scale_config
from ._model import LandmarkModel
from ._pdm import shape_2d
from .solvers import ResponseFrame, ScaleConfig, Solution, Solver, solve_scale

Lanes = TypeVar("Lanes")  # a pytree whose leaves have one row per face

_TOO_SMALL = 0.25  # px per mm: the fit ends, a face of less than about 30 px
_SMALL = 0.30  # px per mm: the likelihood is taken already here


class Alignment(NamedTuple):
    """Where faces are, one row per face: what a scale's response maps are computed around."""

    landmarks: Float[Array, "b n 2"]
    views: Int[Array, " b"]
    to_reference: Float[Array, "b 2 2"]
    to_image: Float[Array, "b 2 2"]


class ScaleFit(eqx.Module):
    """Progress of fits through the scales, one row per face."""

    parameters: PDMParameters
    likelihood: Float[Array, " b"]
    view: Int[Array, " b"]
    large_enough: Bool[Array, " b"]


def response_frame(
    model: LandmarkModel,
    gray: Gray | FlatGray,
    parameters: PDMParameters,
    *,
    scale: int,
    window: int,
    smooth: bool = False,
) -> tuple[ResponseFrame, Int[Array, ""]]:
    """Response maps around the current landmarks, and the view that they belong to.

    Args:
        scale: index of the patch experts.
        window: side of the maps.
    Reference:
        Specification 02, C.
    """
    padded = as_lane(pad_border(gray))
    parameters = jax.tree.map(lambda leaf: leaf[None], parameters)
    aligned = align_lanes(model, parameters, scale, smooth=smooth)
    frames = lane_frames(model, padded, aligned, scale=scale, window=window, smooth=smooth)
    return jax.tree.map(lambda leaf: leaf[0], (frames, aligned.views))


def align_lanes(
    model: LandmarkModel,
    parameters: PDMParameters,
    scale: int,
    *,
    smooth: bool = False,
    fitted: bool = False,
) -> Alignment:
    """Finds the views and the similarities to the reference frame.

    Args:
        smooth, fitted: see `align_to_reference`.
    """
    experts = model.experts[scale]

    def align(parameters: PDMParameters) -> Alignment:
        landmarks = shape_2d(model.pdm, parameters)
        view = nearest_view(experts, parameters.rotation)
        kind = {"smooth": smooth, "fitted": fitted}
        maps = align_to_reference(model.pdm, parameters, landmarks, experts.scale, **kind)
        return Alignment(landmarks, view, *maps)

    return jax.vmap(align)(parameters)


def lane_frames(
    model: LandmarkModel,
    padded: BorderedLanes,
    aligned: Alignment,
    *,
    scale: int,
    window: int,
    smooth: bool = False,
) -> ResponseFrame:
    """`response_frame` of several faces, each in an image of its own with a border."""
    experts = model.experts[scale]

    def look(padded, landmarks, to_image):
        return sample_areas(padded, landmarks, to_image, window, smooth=smooth)

    # Each pixel is used eleven times, and must not be sampled as often.
    areas = materialise(map_lanes(look, padded, aligned.landmarks, aligned.to_image))
    return jax.vmap(ResponseFrame)(
        responses=experts.responses(areas, aligned.views),
        landmarks=aligned.landmarks,
        to_reference=aligned.to_reference,
        to_image=aligned.to_image,
        visible=experts.visible[aligned.views],
        confidence=jax.vmap(experts.confidences)(aligned.views),
    )


def _fit_scale(
    model: LandmarkModel,
    padded: BorderedLanes,
    aligned: Alignment,
    fit: ScaleFit,
    *,
    scale: int,
    config: ScaleConfig,
    solver: Solver,
    last: Bool[Array, " b"],
) -> ScaleFit:
    with jax.named_scope("responses"):
        frames = lane_frames(
            model, padded, aligned, scale=scale, window=config.window, smooth=config.smooth
        )

    def optimise(frame: ResponseFrame, parameters: PDMParameters) -> Solution:
        return solve_scale(solver, model.pdm, frame, parameters, config)

    with jax.named_scope("optimise"):
        found = jax.vmap(optimise)(frames, fit.parameters)
    scored = last | (found.pose_scale < _SMALL)
    return ScaleFit(
        parameters=found.parameters,
        likelihood=jnp.where(scored, found.likelihood, fit.likelihood),
        view=aligned.views.astype(fit.view.dtype),
        large_enough=found.parameters.scale >= _TOO_SMALL,
    )


def fit_scales(
    model: LandmarkModel,
    padded: BorderedLanes,
    start: ScaleFit,
    plans: Mapping[Phase, tuple[ScaleConfig | None, ...]],
    phases: Int[Array, " b"],
    solver: Solver,
    *,
    rounds: int = 1,
    fitted: bool = False,
) -> ScaleFit:
    """Fits coarse to fine; ends at the first scale after which the face is too small.

    Args:
        padded: an image with a border per face.
        start: `large_enough` must be true.
        plans: for every phase that may occur, the settings per scale, None to skip it. A run
            that several plans share is compiled once.
        phases: which plan each face follows.
        solver: moves the parameters up the response maps.
        rounds: how often each scale is fitted, each time from maps around where the last one led.
        fitted: the starts are fits, not mean shapes in boxes.
    Reference:
        Specification 02, D.2; there one round.
    """
    fit = start
    count = len(model.experts)
    for index in range(count):
        ends = [p for p, plan in plans.items() if index + 1 >= count or plan[index + 1] is None]
        last = _is_one_of(phases, ends)
        configs = dict.fromkeys(c for plan in plans.values() if (c := plan[index]) is not None)
        if not configs:
            continue
        smooth = any(config.smooth for config in configs)

        def one_round(fit, index=index, configs=configs, last=last, smooth=smooth):
            # Once for all plans: a face follows one of them.
            aligned = align_lanes(model, fit.parameters, index, smooth=smooth, fitted=fitted)
            for config in configs:

                def run(fit, config=config, aligned=aligned):
                    settings = {"scale": index, "config": config, "solver": solver, "last": last}
                    return _fit_scale(model, padded, aligned, fit, **settings)

                same = [p for p, plan in plans.items() if plan[index] == config]
                chosen = _is_one_of(phases, same)
                fit = run_lanes(chosen & fit.large_enough, run, fit)
            return fit

        # Unrolled: a loop around the experts costs their weights' copies in every round.
        for _ in range(rounds):
            fit = one_round(fit)
    return fit


def run_lanes(wanted: Bool[Array, " b"], run: Callable[[Lanes], Lanes], lanes: Lanes) -> Lanes:
    """Applies `run` to all faces if any wants it, and keeps the results of those that do."""

    def change(lanes: Lanes) -> Lanes:
        return jax.vmap(select)(wanted, run(lanes), lanes)

    return lax.cond(jnp.any(wanted), change, lambda x: x, lanes)


def _is_one_of(phases: Int[Array, " b"], wanted: list[Phase]) -> Bool[Array, " b"]:
    return jnp.any(phases.astype(jnp.int32)[:, None] == np.asarray(wanted, np.int32)[None], axis=1)


def plan_scales(
    model: LandmarkModel, config: FitConfig, phase: Phase
) -> tuple[ScaleConfig | None, ...]:
    """Settings per scale of the main model in one phase."""
    patch_scales = tuple(experts.scale for experts in model.experts)
    windows = config.windows_track if phase is Phase.TRACK else config.windows_init
    plan = [
        scale_config(config, patch_scales, i, window) if window else None
        for i, window in enumerate((*windows, *[0] * len(patch_scales))[: len(patch_scales)])
    ]
    if phase is Phase.COARSE:
        plan[1:] = [None] * (len(plan) - 1)
    if phase is Phase.FINISH:
        plan[0] = None
    return tuple(plan)
