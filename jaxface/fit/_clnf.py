"""One CLNF fit: scales, hierarchical parts and validation (specification 02, D.2 and D.5).

Everything here fits several faces at once, each in an image of its own and on a leading axis
`b`; one face is a batch of one.
"""

from typing import overload

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from ..ops import pad_border
from ..types import Bordered, BorderedLanes, Fit, FlatGray, Gray, PartFit, PDMParameters
from ._areas import as_lane, finite_luma
from ._config import FitConfig, Phase
from ._model import AnyCLNF, LandmarkModel, Part, PartGroup, settings_of
from ._pdm import shape_2d, zero_parameters
from ._refit import fit_pdm_to_landmarks
from ._scales import ScaleFit, fit_scales, plan_scales, run_lanes
from ._validator import CutFaces, cut_faces, judge_faces
from .solvers import ScaleConfig, find_solver

_PART_SCALE = 0.9  # of a part's patch scale: parts are fitted from this size on


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
    padded: BorderedLanes,
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
        how = {"rounds": rounds, "fitted": True}
        found = fit_scales(model, padded, first, plans, phases, solver, **how)
        return found.parameters

    fitted = run_lanes(_is_run(group, main_scale), run, start)
    return jax.vmap(lambda p: PartFit(parameters=p, landmarks=shape_2d(pdm, p)))(fitted)


def _is_run(group: PartGroup, main_scale: Float[Array, " b"]) -> Bool[Array, " b"]:
    """Whether faces are large enough for the parts of a group to be fitted."""
    share, scale = np.asarray([_PART_SCALE, group.model.experts[0].scale], main_scale.dtype)
    return main_scale > share * scale


def _fit_parts(
    groups: tuple[PartGroup, ...],
    padded: BorderedLanes,
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
    padded: BorderedLanes,
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
    padded: BorderedLanes,
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
def cut_fits(
    clnf: AnyCLNF, padded: BorderedLanes, fits: Fit, *, sizes: Int[Array, "b 2"]
) -> CutFaces:
    """What the validator looks at of some fits.

    Args:
        padded: luma of each fit's image with a border, finite.
        sizes: height and width of the pictures, px.
    """
    return cut_faces(clnf.validator, padded, fits.landmarks, fits.parameters, sizes=sizes)


@jax.named_scope("validate")
def judge_fits(
    clnf: AnyCLNF,
    fits: Fit,
    cut: CutFaces,
    large_enough: Bool[Array, " b"],
    *,
    config: FitConfig | None = None,
) -> Fit:
    """Fits with the validator's verdicts on them: `confidence` and `success`.

    Args:
        cut: see `cut_fits`.
        large_enough: false for faces that are too small to be judged: they are rejected.
        config: settings; by default the model's own.
    Reference:
        Specification 01, B.4, step 4.
    """
    config = settings_of(clnf, config)
    if not config.validate:
        certain = large_enough.astype(fits.confidence.dtype)
        return eqx.tree_at(lambda f: (f.confidence, f.success), fits, (certain, large_enough))
    confidence = jnp.where(large_enough, judge_faces(clnf.validator, cut), 0)
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
    gray: Gray | FlatGray,
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


@overload
def border_luma(gray: FlatGray) -> FlatGray: ...
@overload
def border_luma(gray: Shaped[Array, "*n h w"]) -> Shaped[Array, "*n h2 w2"]: ...
def border_luma(
    gray: Shaped[Array, "*n h w"] | FlatGray,
) -> Shaped[Array, "*n h2 w2"] | FlatGray:
    """Luma as fits take it, with one pixel of 0 around it.

    Args:
        gray: of one picture or several, 0 to 255; a flat one needs no border.
    """
    return pad_border(finite_luma(gray))


def refine_bordered(
    clnf: AnyCLNF,
    padded: Bordered,
    fit: Fit,
    phase: Int[Array, ""],
    *,
    size: Int[Array, "2"],
    phases: tuple[Phase, ...],
    config: FitConfig | None = None,
) -> Fit:
    """`refine_fit` in luma that has its border already: see `border_luma`."""
    *lanes, sizes = jax.tree.map(lambda leaf: leaf[None], (fit, phase, size))
    fits = refine_lanes(clnf, as_lane(padded), *lanes, sizes=sizes, config=config, phases=phases)
    return jax.tree.map(lambda leaf: leaf[0], fits)


@jax.named_scope("fit")
def refine_lanes(
    clnf: AnyCLNF,
    padded: BorderedLanes,
    fits: Fit,
    phase: Int[Array, " b"],
    *,
    sizes: Int[Array, "b 2"],
    phases: tuple[Phase, ...],
    config: FitConfig | None = None,
) -> Fit:
    """`refine_fit` of several faces: what many share is computed in one product.

    Args:
        padded: luma of each face's image with a border, or flat luma of all; finite.
        fits: where each face starts.
        phase: of each face.
        sizes: height and width of each picture, px.
    """
    config = settings_of(clnf, config)
    scales, stopped = _run_scales(clnf, padded, fits, phase, phases, config)

    def finish(previous: Fit) -> Fit:
        found = _with_parts(clnf, padded, scales, previous, config)
        cut = cut_fits(clnf, padded, found, sizes=sizes)
        return judge_fits(clnf, found, cut, scales.large_enough, config=config)

    if Phase.COARSE not in phases:
        return finish(stopped)
    return run_lanes(phase != int(Phase.COARSE), finish, stopped)


@jax.named_scope("fit")
def follow_lanes(
    clnf: AnyCLNF,
    padded: BorderedLanes,
    fits: Fit,
    *,
    config: FitConfig | None = None,
) -> tuple[Fit, Bool[Array, " b"]]:
    """Follows several faces into their next frames, but does not ask the validator.

    `cut_fits` and `judge_fits` do, for many frames in one product.

    Args:
        padded: luma of each face's image with a border, or flat luma of all; finite.
        fits: of the frames before; all were accepted.
        config: settings; by default the model's own.
    Returns:
        Fits, with the verdicts of the frames before; and which are large enough to be judged.
    Reference:
        Specification 02, D.5, without its last step.
    """
    config = settings_of(clnf, config)
    phase = jnp.full(fits.view.shape, int(Phase.TRACK), jnp.int32)
    scales, stopped = _run_scales(clnf, padded, fits, phase, (Phase.TRACK,), config)
    return _with_parts(clnf, padded, scales, stopped, config), scales.large_enough


@jax.named_scope("main")
def _run_scales(
    clnf: AnyCLNF,
    padded: BorderedLanes,
    fits: Fit,
    phase: Int[Array, " b"],
    phases: tuple[Phase, ...],
    config: FitConfig,
) -> tuple[ScaleFit, Fit]:
    """Fits the main model. Returns where it came to, and `fits` with that."""
    plans = {p: plan_scales(clnf.main, config, p) for p in phases}
    start, solver = _start_scales(fits), find_solver(config.solver)
    how = {"rounds": config.rounds, "fitted": phases == (Phase.TRACK,)}
    scales = fit_scales(clnf.main, padded, start, plans, phase, solver, **how)
    reached = (scales.parameters, scales.likelihood, scales.view)
    return scales, eqx.tree_at(lambda f: (f.parameters, f.likelihood, f.view), fits, reached)
