"""One CLNF fit: scales, hierarchical parts and validation (specification 02, D.2 and D.5)."""

import equinox as eqx
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
    rigid, _ = nu_rlms(model.pdm, frame, fit.parameters, config=config, rigid=True)
    moved, likelihood = nu_rlms(model.pdm, frame, rigid, config=config, rigid=False)
    scored = last | (rigid.scale < _SMALL)
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
    scales: tuple[ScaleConfig | None, ...],
    *,
    alternative: tuple[ScaleConfig | None, ...] | None = None,
    use_alternative: Bool[Array, ""] | bool = False,
) -> ScaleFit:
    """Fits coarse to fine; ends at the first scale after which the face is too small.

    Args:
        start: `large_enough` must be true.
        scales: settings per scale, None to skip it.
        alternative: another plan, taken where `use_alternative` is true. A scale that both plans
            share is compiled once.
    Reference:
        Specification 02, D.2.
    """
    fit = start
    other = scales if alternative is None else alternative
    use = jnp.asarray(use_alternative)
    count = len(model.experts)
    for index in range(count):
        last = jnp.where(use, _is_last(other, index, count), _is_last(scales, index, count))
        for config, chosen in _branches(scales[index], other[index], use):

            def run(fit, index=index, config=config, last=last):
                return _fit_scale(model, gray, fit, scale=index, config=config, last=last)

            fit = lax.cond(chosen & fit.large_enough, run, lambda f: f, fit)
    return fit


def _is_last(scales: tuple[ScaleConfig | None, ...], index: int, count: int) -> bool:
    return index + 1 >= count or scales[index + 1] is None


def _branches(
    first: ScaleConfig | None, second: ScaleConfig | None, use_second: Bool[Array, ""]
) -> list[tuple[ScaleConfig, Bool[Array, ""]]]:
    """Settings of one scale with the condition under which they run."""
    if first == second:
        return [] if first is None else [(first, jnp.ones_like(use_second))]
    pairs = [(first, ~use_second), (second, use_second)]
    return [(config, chosen) for config, chosen in pairs if config is not None]


def plan_scales(
    model: LandmarkModel, config: FitConfig, windows: tuple[int, ...]
) -> tuple[ScaleConfig | None, ...]:
    """Settings per scale of the main model for a list of windows."""
    patch_scales = tuple(experts.scale for experts in model.experts)
    return tuple(
        scale_config(config, patch_scales, i, window) if window else None
        for i, window in enumerate(windows[: len(patch_scales)])
    )


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
    """Starts a part from the main landmarks and fits it if the face is large enough."""
    pdm = part.model.pdm
    points = np.asarray(part.part_points)
    count = pdm.mean_shape.shape[0]
    target = jnp.zeros((count, 2), landmarks.dtype)
    target = target.at[points].set(landmarks[np.asarray(part.main_points)])
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
        return fit_scales(part.model, gray, first, _part_scales(part)).parameters

    fitted = lax.cond(_part_runs(part, main_scale), run, lambda p: p, start)
    return PartFit(parameters=fitted, landmarks=shape_2d(pdm, fitted))


def _part_runs(part: Part, main_scale: Float[Array, ""]) -> Bool[Array, ""]:
    return main_scale > _PART_SCALE * np.float32(part.model.experts[0].scale)


def refine_with_parts(
    clnf: CLNF, gray: Gray, parameters: PDMParameters
) -> tuple[PDMParameters, tuple[PartFit, ...]]:
    """Fits the parts and, if the face is large enough, refits the main PDM to their points.

    Reference:
        Specification 02, D.5.
    """
    landmarks = shape_2d(clnf.main.pdm, parameters)
    parts = tuple(_fit_part(p, gray, landmarks, parameters.scale) for p in clnf.parts)
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


def finish_fit(
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


def start_scales(fit: Fit) -> ScaleFit:
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
    tracking: Bool[Array, ""] | bool,
) -> Fit:
    """Fits once more from the parameters of `fit` (specification 02, D.5).

    Args:
        size: height and width of the picture, px.
        tracking: use `config.windows_track` instead of `config.windows_init`.
    """
    scales = fit_scales(
        clnf.main,
        gray,
        start_scales(fit),
        plan_scales(clnf.main, config, config.windows_init),
        alternative=plan_scales(clnf.main, config, config.windows_track),
        use_alternative=tracking,
    )
    return finish_fit(clnf, gray, scales, fit, size=size, config=config)
