"""One CLNF fit: scales, hierarchical parts and validation (specification 02, D.2 and D.5).

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
from jaxtyping import Array, Bool, Float, Int, Shaped

from ..ops import materialise, pad_border, select
from ..types import Fit, Gray, PartFit, PDMParameters
from ._areas import align_to_reference, nearest_view, sample_areas
from ._config import FitConfig, Phase, scale_config
from ._model import AnyCLNF, LandmarkModel, Part, PartGroup, settings_of
from ._pdm import shape_2d, zero_parameters
from ._refit import fit_pdm_to_landmarks
from ._validator import validate_lanes
from .solvers import (
    ResponseFrame,
    ScaleConfig,
    Solution,
    Solver,
    find_solver,
    solve_scale,
)

Lanes = TypeVar("Lanes")  # a pytree whose leaves have one row per face

_TOO_SMALL = 0.25  # px per mm: the fit ends, a face of less than about 30 px
_SMALL = 0.30  # px per mm: the likelihood is taken already here
_PART_SCALE = 0.9  # of a part's patch scale: parts are fitted from this size on


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
    gray: Gray,
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
    padded, parameters = jax.tree.map(lambda leaf: leaf[None], (pad_border(gray), parameters))
    aligned = align_lanes(model, parameters, scale, smooth=smooth)
    frames = lane_frames(model, padded, aligned, scale=scale, window=window, smooth=smooth)
    return jax.tree.map(lambda leaf: leaf[0], (frames, aligned.views))


def align_lanes(
    model: LandmarkModel, parameters: PDMParameters, scale: int, *, smooth: bool = False
) -> Alignment:
    """Finds the views and the similarities to the reference frame."""
    experts = model.experts[scale]

    def align(parameters: PDMParameters) -> Alignment:
        landmarks = shape_2d(model.pdm, parameters)
        view = nearest_view(experts, parameters.rotation)
        maps = align_to_reference(model.pdm, parameters, landmarks, experts.scale, smooth=smooth)
        return Alignment(landmarks, view, *maps)

    return jax.vmap(align)(parameters)


def lane_frames(
    model: LandmarkModel,
    padded: Shaped[Array, "b h2 w2"],
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
    areas = materialise(jax.vmap(look)(padded, aligned.landmarks, aligned.to_image))
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
    padded: Shaped[Array, "b h2 w2"],
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
    padded: Shaped[Array, "b h2 w2"],
    start: ScaleFit,
    plans: Mapping[Phase, tuple[ScaleConfig | None, ...]],
    phases: Int[Array, " b"],
    solver: Solver,
    *,
    rounds: int = 1,
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
            aligned = align_lanes(model, fit.parameters, index, smooth=smooth)
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


def part_scales(group: PartGroup | Part, smooth: bool) -> tuple[ScaleConfig, ...]:
    """Settings per scale of a part."""
    c = group.config
    return tuple(
        ScaleConfig(
            window=window,
            sigma=c.sigma,
            regularisation=c.regularisation,
            weight_factor=c.weight_factor,
            iterations=c.iterations,
            smooth=smooth,
        )
        for window in c.windows[: len(group.model.experts)]
    )


def _fit_part(
    group: PartGroup,
    model: LandmarkModel,
    padded: Shaped[Array, "b h2 w2"],
    landmarks: Float[Array, "b p 2"],
    main_scale: Float[Array, " b"],
    config: FitConfig,
) -> PartFit:
    """Starts a part from the main landmarks and fits it where the face is large enough.

    Args:
        group: that the part is one of.
        model: of the part itself.
        landmarks: the main model's, those at the part's `main_points` only.
        config: of the main model; its solver and its `smooth` count for parts too.
    """
    pdm = model.pdm
    points = np.asarray(group.part_points)
    count = pdm.mean_shape.shape[0]
    mapped = np.zeros(count, bool)
    mapped[points] = True
    target = jnp.zeros((landmarks.shape[0], count, 2), landmarks.dtype).at[:, points].set(landmarks)
    present = (target[..., 0] != 0) & mapped[None]
    start = jax.vmap(lambda t, p: fit_pdm_to_landmarks(pdm, t, p, converge=config.smooth))(
        target, present
    )

    def run(parameters):
        lanes = main_scale.shape
        first = ScaleFit(
            parameters=parameters,
            likelihood=jnp.zeros(lanes, landmarks.dtype),
            view=jnp.zeros(lanes, jnp.int32),
            large_enough=jnp.ones(lanes, bool),
        )
        plans = {Phase.INIT: part_scales(group, config.smooth)}
        phases = jnp.full(lanes, int(Phase.INIT), jnp.int32)
        solver = find_solver(config.solver)
        rounds = config.rounds
        found = fit_scales(model, padded, first, plans, phases, solver, rounds=rounds)
        return found.parameters

    fitted = run_lanes(_is_run(group, main_scale), run, start)
    return jax.vmap(lambda p: PartFit(parameters=p, landmarks=shape_2d(pdm, p)))(fitted)


def _is_run(group: PartGroup, main_scale: Float[Array, " b"]) -> Bool[Array, " b"]:
    """Whether faces are large enough for the parts of a group to be fitted."""
    share, scale = np.asarray([_PART_SCALE, group.model.experts[0].scale], main_scale.dtype)
    return main_scale > share * scale


def _fit_parts(
    groups: tuple[PartGroup, ...],
    padded: Shaped[Array, "b h2 w2"],
    landmarks: Float[Array, "b n 2"],
    main_scale: Float[Array, " b"],
    config: FitConfig,
) -> tuple[PartFit, ...]:
    """Fits all parts, in their order; those of one group in one mapped program."""
    fits: dict[int, PartFit] = {}
    for group in groups:
        targets = jnp.stack([landmarks[:, np.asarray(points)] for points in group.main_points])

        def fit(model: LandmarkModel, target: Array, group: PartGroup = group) -> PartFit:
            return _fit_part(group, model, padded, target, main_scale, config)

        if len(group.places) == 1:
            fits[group.places[0]] = fit(group.model, targets[0])
        else:
            stacked = jax.vmap(fit)(group.model, targets)
            for row, place in enumerate(group.places):
                fits[place] = jax.tree.map(lambda leaf, row=row: leaf[row], stacked)
    return tuple(fits[place] for place in range(len(fits)))


def _in_order(groups: tuple[PartGroup, ...]) -> list[tuple[PartGroup, int]]:
    """Each part's group and its row in it, in the order of the parts."""
    found = {place: (group, row) for group in groups for row, place in enumerate(group.places)}
    return [found[place] for place in sorted(found)]


def _refine_with_parts(
    clnf: AnyCLNF,
    padded: Shaped[Array, "b h2 w2"],
    parameters: PDMParameters,
    config: FitConfig,
) -> tuple[PDMParameters, tuple[PartFit, ...]]:
    """Fits the parts and, where the face is large enough, refits the main PDM to their points.

    Reference:
        Specification 02, D.5.
    """
    pdm = clnf.main.pdm
    landmarks = jax.vmap(lambda p: shape_2d(pdm, p))(parameters)
    groups = clnf.groups
    parts = _fit_parts(groups, padded, landmarks, parameters.scale, config)
    if not parts:
        return parameters, parts
    merged = landmarks
    for (group, row), fit in zip(_in_order(groups), parts, strict=True):
        source = fit.landmarks[:, np.asarray(group.part_points)]
        merged = merged.at[:, np.asarray(group.main_points[row])].set(source)
    ran = jnp.stack([_is_run(g, parameters.scale) for g, _ in _in_order(groups)]).any(axis=0)

    def refit(_):
        return jax.vmap(lambda points: fit_pdm_to_landmarks(pdm, points, converge=config.smooth))(
            merged
        )

    return run_lanes(ran, refit, parameters), parts


def _with_parts(
    clnf: AnyCLNF,
    padded: Shaped[Array, "b h2 w2"],
    fit: ScaleFit,
    previous: Fit,
    config: FitConfig,
) -> Fit:
    """Parts and landmarks after the main scales; the verdicts are those of `previous`.

    Args:
        previous: its parts are kept where none are fitted.
    """
    parameters, parts = fit.parameters, previous.parts
    if config.refine_parts:
        with jax.named_scope("parts"):
            parameters, parts = _refine_with_parts(clnf, padded, parameters, config)
    return jax.vmap(Fit)(
        parameters=parameters,
        landmarks=jax.vmap(lambda p: shape_2d(clnf.main.pdm, p))(parameters),
        likelihood=fit.likelihood,
        confidence=previous.confidence,
        success=previous.success,
        view=fit.view,
        parts=parts,
    )


@jax.named_scope("validate")
def validate_fits(
    clnf: AnyCLNF,
    padded: Shaped[Array, "b h2 w2"],
    fits: Fit,
    large_enough: Bool[Array, " b"],
    *,
    size: Int[Array, "2"],
    config: FitConfig | None = None,
) -> Fit:
    """Fits with the validator's verdicts on them: `confidence` and `success`.

    Args:
        padded: luma of each fit's image with a border, finite.
        large_enough: false for faces that are too small to be judged: they are rejected.
        size: height and width of the pictures, px.
        config: settings; by default the model's own.
    """
    config = settings_of(clnf, config)
    certainty = validate_lanes(clnf.validator, padded, fits.landmarks, fits.parameters, size=size)
    confidence = jnp.where(large_enough, certainty, 0)
    boundary = np.asarray(np.float32(config.validation_boundary), confidence.dtype)
    return eqx.tree_at(
        lambda f: (f.confidence, f.success), fits, (confidence, confidence > boundary)
    )


def _start_scales(fit: Fit) -> ScaleFit:
    """Fits about to run through the scales from the parameters of `fit`."""
    return ScaleFit(
        parameters=fit.parameters,
        likelihood=fit.likelihood,
        view=fit.view,
        large_enough=jnp.ones(fit.view.shape, bool),
    )


def empty_fit(clnf: AnyCLNF) -> Fit:
    """What stands before any face was found (specification 01, B.3)."""
    parameters = zero_parameters(clnf.main.pdm)
    pdms = [group.part_pdm(row) for group, row in _in_order(clnf.groups)]
    zero = jnp.zeros((), parameters.scale.dtype)
    return Fit(
        parameters=parameters,
        landmarks=jnp.zeros_like(clnf.main.pdm.mean_shape[:, :2]),
        likelihood=zero - 10,
        confidence=zero,
        success=jnp.zeros((), bool),
        view=jnp.zeros((), jnp.int32),
        parts=tuple(
            PartFit(zero_parameters(pdm), jnp.zeros_like(pdm.mean_shape[:, :2])) for pdm in pdms
        ),
    )


def refine_fit(
    clnf: AnyCLNF,
    gray: Gray,
    fit: Fit,
    *,
    size: Int[Array, "2"],
    phase: Int[Array, ""] | int,
    phases: tuple[Phase, ...],
    config: FitConfig | None = None,
) -> Fit:
    """Fits once more from the parameters of `fit` (specification 02, D.5).

    What its derivatives mean is said at `fit_landmarks`; those by the parameters of `fit` are those
    by a start. In the faithful mode, steps after the landmarks stood still count for nothing.

    Args:
        size: height and width of the picture, px.
        phase: which scales are run; the coarse phase ends without parts and validation.
        phases: all phases that may occur; only their runs are compiled.
        config: settings; by default the model's own.
    """
    settings = {"size": size, "config": config, "phases": phases}
    return refine_bordered(clnf, border_luma(gray), fit, jnp.asarray(phase), **settings)


def border_luma(gray: Shaped[Array, "*n h w"]) -> Shaped[Array, "*n h2 w2"]:
    """Luma as fits take it, with one pixel of 0 around it.

    Args:
        gray: of one picture or several, 0 to 255.
    """
    if jnp.issubdtype(gray.dtype, jnp.floating):
        gray = jnp.where(jnp.isfinite(gray), gray, 0)  # a damaged frame is a failed one, not NaN
    return pad_border(gray)


def refine_bordered(
    clnf: AnyCLNF,
    padded: Shaped[Array, "h2 w2"],
    fit: Fit,
    phase: Int[Array, ""],
    *,
    size: Int[Array, "2"],
    phases: tuple[Phase, ...],
    config: FitConfig | None = None,
) -> Fit:
    """`refine_fit` in luma that has its border already: see `border_luma`."""
    lanes = jax.tree.map(lambda leaf: leaf[None], (padded, fit, phase))
    fits = refine_lanes(clnf, *lanes, size=size, config=config, phases=phases)
    return jax.tree.map(lambda leaf: leaf[0], fits)


@jax.named_scope("fit")
def refine_lanes(
    clnf: AnyCLNF,
    padded: Shaped[Array, "b h2 w2"],
    fits: Fit,
    phase: Int[Array, " b"],
    *,
    size: Int[Array, "2"],
    phases: tuple[Phase, ...],
    config: FitConfig | None = None,
) -> Fit:
    """`refine_fit` of several faces: what many share is computed in one product.

    Args:
        padded: luma of each face's image with a border, finite.
        fits: where each face starts.
        phase: of each face.
    """
    config = settings_of(clnf, config)
    scales, stopped = _run_scales(clnf, padded, fits, phase, phases, config)

    def finish(previous: Fit) -> Fit:
        found = _with_parts(clnf, padded, scales, previous, config)
        large = scales.large_enough
        return validate_fits(clnf, padded, found, large, size=size, config=config)

    if Phase.COARSE not in phases:
        return finish(stopped)
    return run_lanes(phase != int(Phase.COARSE), finish, stopped)


@jax.named_scope("fit")
def follow_lanes(
    clnf: AnyCLNF,
    padded: Shaped[Array, "b h2 w2"],
    fits: Fit,
    *,
    config: FitConfig | None = None,
) -> tuple[Fit, Bool[Array, " b"]]:
    """Follows several faces into their next frames, but does not ask the validator.

    `validate_fits` does, for many frames in one product.

    Args:
        padded: luma of each face's image with a border, finite.
        fits: of the frames before; all were accepted.
    Returns:
        Fits, with the verdicts of the frames before; and which are large enough to be judged.
    """
    config = settings_of(clnf, config)
    phase = jnp.full(fits.view.shape, int(Phase.TRACK), jnp.int32)
    scales, stopped = _run_scales(clnf, padded, fits, phase, (Phase.TRACK,), config)
    return _with_parts(clnf, padded, scales, stopped, config), scales.large_enough


@jax.named_scope("main")
def _run_scales(
    clnf: AnyCLNF,
    padded: Shaped[Array, "b h2 w2"],
    fits: Fit,
    phase: Int[Array, " b"],
    phases: tuple[Phase, ...],
    config: FitConfig,
) -> tuple[ScaleFit, Fit]:
    """Fits the main model. Returns where it came to, and `fits` with that."""
    plans = {p: plan_scales(clnf.main, config, p) for p in phases}
    start, solver = _start_scales(fits), find_solver(config.solver)
    scales = fit_scales(clnf.main, padded, start, plans, phase, solver, rounds=config.rounds)
    reached = (scales.parameters, scales.likelihood, scales.view)
    return scales, eqx.tree_at(lambda f: (f.parameters, f.likelihood, f.view), fits, reached)
