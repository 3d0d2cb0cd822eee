"""One CLNF fit: scales, hierarchical parts and validation (specification 02, D.2 and D.5)."""

import enum
from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .._types import Fit, Gray, Landmarks, PartFit, PDMParameters
from ._areas import align_to_reference, areas_of_interest, nearest_view
from ._config import FitConfig, ScaleConfig, scale_config
from ._model import CLNF, LandmarkModel, Part
from ._pdm import shape_2d, zero_parameters
from ._refit import fit_pdm_to_landmarks
from ._responses import patch_confidences, response_maps
from ._rlms import ResponseFrame, nu_rlms
from ._validator import validate_landmarks

_TOO_SMALL = np.float32(0.25)  # px per mm: the fit ends, a face of less than about 30 px
_SMALL = np.float32(0.30)  # px per mm: the likelihood is taken already here
_PART_SCALE = np.float32(0.9)  # of a part's patch scale: parts are fitted from this size on


class Phase(enum.IntEnum):
    """Which scales a fit runs through."""

    INIT = 0  # all of `windows_init`
    TRACK = 1  # all of `windows_track`
    COARSE = 2  # the first of `windows_init` alone, to rank starts
    FINISH = 3  # the others of `windows_init`


class ScaleFit(eqx.Module):
    """Progress of a fit through the scales."""

    parameters: PDMParameters
    likelihood: Float[Array, ""]
    view: Int[Array, ""]
    large_enough: Bool[Array, ""]


def response_frame(
    model: LandmarkModel, gray: Gray, parameters: PDMParameters, *, scale: int, window: int
) -> tuple[ResponseFrame, Int[Array, ""]]:
    """Response maps around the current landmarks, and the view that they belong to.

    Args:
        scale: index of the patch experts.
        window: side of the maps.
    Reference:
        Specification 02, C.
    """
    experts = model.experts[scale]
    landmarks = shape_2d(model.pdm, parameters)
    view = nearest_view(experts, parameters.rotation)
    to_reference, to_image = align_to_reference(model.pdm, parameters, landmarks, experts.scale)
    areas = areas_of_interest(gray, landmarks, to_image, window)
    frame = ResponseFrame(
        responses=response_maps(experts, areas, view),
        landmarks=landmarks,
        to_reference=to_reference,
        to_image=to_image,
        visible=experts.visible[view],
        confidence=patch_confidences(experts, view),
    )
    return frame, view


def _fit_scale(
    model: LandmarkModel,
    gray: Gray,
    fit: ScaleFit,
    *,
    scale: int,
    config: ScaleConfig,
    last: Bool[Array, ""] | bool,
) -> ScaleFit:
    frame, view = response_frame(model, gray, fit.parameters, scale=scale, window=config.window)
    turned, _ = nu_rlms(model.pdm, frame, fit.parameters, config=config, rigid=True)
    moved, likelihood = nu_rlms(model.pdm, frame, turned, config=config, rigid=False)
    scored = last | (turned.scale < _SMALL)
    return ScaleFit(
        parameters=moved,
        likelihood=jnp.where(scored, likelihood, fit.likelihood),
        view=view.astype(fit.view.dtype),
        large_enough=moved.scale >= _TOO_SMALL,
    )


def fit_scales(
    model: LandmarkModel,
    gray: Gray,
    start: ScaleFit,
    plans: Mapping[Phase, tuple[ScaleConfig | None, ...]],
    phase: Int[Array, ""],
) -> ScaleFit:
    """Fits coarse to fine; ends at the first scale after which the face is too small.

    Args:
        start: `large_enough` must be true.
        plans: for every phase that may occur, the settings per scale, None to skip it. A run
            that several plans share is compiled once.
        phase: which plan to follow.
    Reference:
        Specification 02, D.2.
    """
    fit = start
    count = len(model.experts)
    for index in range(count):
        ends = [p for p, plan in plans.items() if index + 1 >= count or plan[index + 1] is None]
        last = _is_one_of(phase, ends)
        for config in dict.fromkeys(plan[index] for plan in plans.values()):
            if config is None:
                continue

            def run(fit, index=index, config=config, last=last):
                return _fit_scale(model, gray, fit, scale=index, config=config, last=last)

            chosen = _is_one_of(phase, [p for p, plan in plans.items() if plan[index] == config])
            fit = lax.cond(chosen & fit.large_enough, run, lambda f: f, fit)
    return fit


def _is_one_of(phase: Int[Array, ""], phases: list[Phase]) -> Bool[Array, ""]:
    return jnp.any(phase == np.asarray(phases, np.int32)) if phases else jnp.zeros((), bool)


def _plan(model: LandmarkModel, config: FitConfig, phase: Phase) -> tuple[ScaleConfig | None, ...]:
    """Settings per scale of the main model in one phase."""
    patch_scales = tuple(experts.scale for experts in model.experts)
    windows = config.windows_track if phase is Phase.TRACK else config.windows_init
    plan = [
        scale_config(config, patch_scales, i, window) if window else None
        for i, window in enumerate(windows[: len(patch_scales)])
    ]
    if phase is Phase.COARSE:
        plan[1:] = [None] * (len(plan) - 1)
    if phase is Phase.FINISH:
        plan[0] = None
    return tuple(plan)


def _part_scales(part: Part) -> tuple[ScaleConfig, ...]:
    c = part.config
    return tuple(
        ScaleConfig(
            window=window,
            sigma=c.sigma,
            regularisation=c.regularisation,
            weight_factor=c.weight_factor,
            iterations=c.iterations,
        )
        for window in c.windows[: len(part.model.experts)]
    )


def _fit_part(
    part: Part, gray: Gray, landmarks: Landmarks, main_scale: Float[Array, ""]
) -> PartFit:
    """Starts a part from the main landmarks and fits it if the face is large enough.

    Args:
        landmarks: the main model's, those of `part.main_points` only.
    """
    pdm = part.model.pdm
    points = np.asarray(part.part_points)
    count = pdm.mean_shape.shape[0]
    target = jnp.zeros((count, 2), landmarks.dtype).at[points].set(landmarks)
    mapped = np.zeros(count, bool)
    mapped[points] = True
    start = fit_pdm_to_landmarks(pdm, target, (target[:, 0] != 0) & mapped)

    def run(parameters):
        first = ScaleFit(
            parameters=parameters,
            likelihood=jnp.zeros((), gray.dtype),
            view=jnp.zeros((), jnp.int32),
            large_enough=jnp.ones((), bool),
        )
        plans = {Phase.INIT: _part_scales(part)}
        return fit_scales(part.model, gray, first, plans, jnp.asarray(Phase.INIT)).parameters

    fitted = lax.cond(_part_runs(part, main_scale), run, lambda p: p, start)
    return PartFit(parameters=fitted, landmarks=shape_2d(pdm, fitted))


def _part_runs(part: Part, main_scale: Float[Array, ""]) -> Bool[Array, ""]:
    return main_scale > _PART_SCALE * np.float32(part.model.experts[0].scale)


def _fit_parts(
    parts: tuple[Part, ...], gray: Gray, landmarks: Landmarks, main_scale: Float[Array, ""]
) -> tuple[PartFit, ...]:
    """Fits all parts; parts of one structure, such as the two eyes, in one mapped program."""
    groups: dict[object, list[int]] = {}
    for i, part in enumerate(parts):
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(part.model))
        key = (jax.tree.structure(part.model), shapes, part.config, part.part_points)
        groups.setdefault(key, []).append(i)
    fits: dict[int, PartFit] = {}
    for members in groups.values():
        targets = jnp.stack([landmarks[np.asarray(parts[i].main_points)] for i in members])
        models = jax.tree.map(lambda *x: jnp.stack(x), *[parts[i].model for i in members])
        like = parts[members[0]]

        def fit(model, target, like=like):
            part = eqx.tree_at(lambda p: p.model, like, model)
            return _fit_part(part, gray, target, main_scale)

        if len(members) == 1:
            fits[members[0]] = fit(like.model, targets[0])
        else:
            stacked = jax.vmap(fit)(models, targets)
            for row, i in enumerate(members):
                fits[i] = jax.tree.map(lambda leaf, row=row: leaf[row], stacked)
    return tuple(fits[i] for i in range(len(parts)))


def refine_with_parts(
    clnf: CLNF, gray: Gray, parameters: PDMParameters
) -> tuple[PDMParameters, tuple[PartFit, ...]]:
    """Fits the parts and, if the face is large enough, refits the main PDM to their points.

    Reference:
        Specification 02, D.5.
    """
    landmarks = shape_2d(clnf.main.pdm, parameters)
    parts = _fit_parts(clnf.parts, gray, landmarks, parameters.scale)
    if not parts:
        return parameters, parts
    merged = landmarks
    for part, fit in zip(clnf.parts, parts, strict=True):
        source = fit.landmarks[np.asarray(part.part_points)]
        merged = merged.at[np.asarray(part.main_points)].set(source)
    ran = jnp.stack([_part_runs(p, parameters.scale) for p in clnf.parts]).any()
    refitted = lax.cond(
        ran, lambda m: fit_pdm_to_landmarks(clnf.main.pdm, m), lambda m: parameters, merged
    )
    return refitted, parts


def _finish_fit(
    clnf: CLNF,
    gray: Gray,
    fit: ScaleFit,
    previous: Fit,
    *,
    size: Int[Array, "2"],
    config: FitConfig,
) -> Fit:
    """Parts and validation after the main scales.

    Args:
        previous: its parts are kept where none are fitted.
        size: height and width of the picture, px.
    """
    parameters, parts = fit.parameters, previous.parts
    if config.refine_parts:
        parameters, parts = refine_with_parts(clnf, gray, parameters)
    landmarks = shape_2d(clnf.main.pdm, parameters)
    certainty = validate_landmarks(clnf.validator, gray, landmarks, parameters, size=size)
    confidence = jnp.where(fit.large_enough, certainty, 0)
    return Fit(
        parameters=parameters,
        landmarks=landmarks,
        likelihood=fit.likelihood,
        confidence=confidence,
        success=confidence > np.float32(config.validation_boundary),
        view=fit.view,
        parts=parts,
    )


def _start_scales(fit: Fit) -> ScaleFit:
    """A fit about to run through the scales from the parameters of `fit`."""
    return ScaleFit(
        parameters=fit.parameters,
        likelihood=fit.likelihood,
        view=fit.view,
        large_enough=jnp.ones((), bool),
    )


def empty_fit(clnf: CLNF) -> Fit:
    """What stands before any face was found (specification 01, B.3)."""
    parameters = zero_parameters(clnf.main.pdm)
    zero = jnp.zeros((), parameters.scale.dtype)
    return Fit(
        parameters=parameters,
        landmarks=jnp.zeros_like(clnf.main.pdm.mean_shape[:, :2]),
        likelihood=zero - 10,
        confidence=zero,
        success=jnp.zeros((), bool),
        view=jnp.zeros((), jnp.int32),
        parts=tuple(
            PartFit(
                parameters=zero_parameters(p.model.pdm),
                landmarks=jnp.zeros_like(p.model.pdm.mean_shape[:, :2]),
            )
            for p in clnf.parts
        ),
    )


def refine_fit(
    clnf: CLNF,
    gray: Gray,
    fit: Fit,
    *,
    size: Int[Array, "2"],
    config: FitConfig,
    phase: Int[Array, ""] | int,
    phases: tuple[Phase, ...],
) -> Fit:
    """Fits once more from the parameters of `fit` (specification 02, D.5).

    Args:
        size: height and width of the picture, px.
        phase: which scales are run; the coarse phase ends without parts and validation.
        phases: all phases that may occur; only their runs are compiled.
    """
    gray = jnp.where(jnp.isfinite(gray), gray, 0)  # a damaged frame is a failed one, not NaN
    phase = jnp.asarray(phase)
    plans = {p: _plan(clnf.main, config, p) for p in phases}
    scales = fit_scales(clnf.main, gray, _start_scales(fit), plans, phase)

    def finish(scales: ScaleFit) -> Fit:
        return _finish_fit(clnf, gray, scales, fit, size=size, config=config)

    def stop(scales: ScaleFit) -> Fit:
        reached = (scales.parameters, scales.likelihood, scales.view)
        return eqx.tree_at(lambda f: (f.parameters, f.likelihood, f.view), fit, reached)

    if Phase.COARSE not in phases:
        return finish(scales)
    return lax.cond(phase == Phase.COARSE, stop, finish, scales)
