"""The patch experts of all views and scales.

Views of opposite yaw mirror each other, so only the frontal view and those of negative yaw are
trained, on pictures and their mirror images; of the frontal view only one of each pair of
landmarks. Each view and scale leaves a checkpoint after every epoch.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ...fit import PDM, CCNFExperts
from ..loop import digest, fingerprint, load_state, save_state, write_arrays
from ..render import MIRRORED
from ._expert_data import Source, cut_examples, starts_in_view
from ._expert_program import (
    Examples,
    ExpertConfig,
    Experts,
    Progress,
    map_quality,
    start_training,
    train_epoch,
)
from ._starts import NoiseConfig

VIEWS = (0, -20, -45, -70, 70, 45, 20)  # yaw, degrees
MIRROR_VIEW = (0, 6, 5, 4, 3, 2, 1)
TRAINED_VIEWS = 4  # views, the first of `VIEWS`
_REACH = (11.0, 14.0, 14.0, 22.0)  # degrees of yaw around a trained view's centre
_SHOWN = 0.5  # share of the pictures of a view that must show a landmark
_HELD_BACK = 0.1  # share of the examples, of other pictures, that measure an expert
_FLOOR = 0.15  # px of the map, squared: misplacement of labels, which no expert undercuts


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalePlan:
    """One scale of the experts."""

    scale: float  # px per mm
    window: int  # of the response maps in training
    noise: NoiseConfig


PLANS = (
    ScalePlan(
        scale=0.25,
        window=11,
        noise=NoiseConfig(from_box=0.5, rotation=8, scale=0.06, translation=4, shape=0.4),
    ),
    ScalePlan(
        scale=0.35,
        window=9,
        noise=NoiseConfig(from_box=0.1, rotation=5, scale=0.04, translation=2.5, shape=0.3),
    ),
    ScalePlan(
        scale=0.5,
        window=7,
        noise=NoiseConfig(rotation=3.5, scale=0.025, translation=1.5, shape=0.2, toward_mean=0.4),
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainExpertsConfig:
    """Settings of the training of all experts."""

    examples: int = 6000  # per view and scale
    seed: int = 0
    plans: tuple[ScalePlan, ...] = PLANS
    program: ExpertConfig = ExpertConfig()


@dataclasses.dataclass(frozen=True)
class TrainedView:
    """Experts of one view and scale, of all 68 landmarks."""

    experts: Experts  # arrays of NumPy; zeros where invisible
    visible: np.ndarray  # (68,) bool
    misplaced: np.ndarray  # (68,) px of the map, squared; on examples held back
    curve: np.ndarray  # (epochs, 2) mean losses


def train_experts(
    pdm: PDM,
    source: Source,
    folder: Path | str,
    config: TrainExpertsConfig = TrainExpertsConfig(),
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[tuple[CCNFExperts, ...], list[list[TrainedView]]]:
    """Trains the experts of all scales and views, or goes on where an earlier run stopped.

    Args:
        source: pictures of the training part and their mirror images.
        folder: for checkpoints; created if need be.
        progress: called with 1 after each epoch of a view.

    Returns:
        The experts, coarse to fine, without banks (`prepare_clnf` adds them), and what was
        trained, by scale and view.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    shown = [_shown(source, view) for view in range(TRAINED_VIEWS)]
    trained: list[list[TrainedView]] = [[] for _ in config.plans]
    for view in range(TRAINED_VIEWS):
        for scale, views in enumerate(trained):
            views.append(
                _train_view(pdm, source, place, config, scale, view, shown[view], progress)
            )
    scales = zip(config.plans, trained, strict=True)
    return tuple(assemble(plan.scale, views) for plan, views in scales), trained


def _shown(source: Source, view: int) -> np.ndarray:
    """Landmarks (68,) bool that most pictures of a view show."""
    yaw = np.degrees(source.pictures.rotation[:, 1])
    near = np.abs(yaw - VIEWS[view]) < _REACH[view]
    if not near.any():
        raise ValueError(f"no picture shows a yaw of {VIEWS[view]} degrees")
    share = source.pictures.visible[near].mean(axis=0)
    if VIEWS[view] == 0:
        share = (share + share[MIRRORED]) / 2
    return share >= _SHOWN


def _train_view(
    pdm: PDM,
    source: Source,
    folder: Path,
    config: TrainExpertsConfig,
    scale: int,
    view: int,
    shown: np.ndarray,
    progress: Callable[[int], None],
) -> TrainedView:
    program = config.program
    made_from = digest(pdm), source.digest
    state, curve, path = _checkpoint(folder, config, scale, view, shown, made_from)
    chosen = _own_landmarks(view, shown)
    if int(state.epoch) == program.epochs and (done := path.with_suffix(".done.npz")).is_file():
        with np.load(done) as file:
            return _spread(state.experts, chosen, file["misplaced"], view, shown, np.array(curve))
    train, check = _examples(pdm, source, config, scale, view)
    train = Examples(*(jnp.asarray(leaf[chosen]) for leaf in train))
    check = Examples(*(jnp.asarray(leaf[chosen]) for leaf in check))
    key = jax.random.fold_in(jax.random.key(config.seed), 16 * scale + view)
    while int(state.epoch) < program.epochs:
        state, losses = train_epoch(state, train, key, program)
        curve.append(np.asarray(losses).mean(axis=0))
        save_state(path, state, curve)
        progress(1)
    _, misplaced = map_quality(state.experts, check, program)
    write_arrays(path.with_suffix(".done.npz"), {"misplaced": np.asarray(misplaced)})
    return _spread(state.experts, chosen, np.asarray(misplaced), view, shown, np.array(curve))


def _own_landmarks(view: int, shown: np.ndarray) -> np.ndarray:
    """Landmarks that a view trains."""
    numbers = np.flatnonzero(shown)
    return numbers[numbers <= MIRRORED[numbers]] if VIEWS[view] == 0 else numbers


def _examples(
    pdm: PDM, source: Source, config: TrainExpertsConfig, scale: int, view: int
) -> tuple[Examples, Examples]:
    """Examples to train on and, from other pictures, to measure with."""
    plan = config.plans[scale]
    rng = np.random.default_rng([config.seed, scale, view])
    centre, reach = np.radians(VIEWS[view]), np.radians(_REACH[view])
    count = int(config.examples * (1 + _HELD_BACK))
    rows, starts = starts_in_view(pdm, source, centre, reach, count, rng, plan.noise)
    pictures = source.pictures
    cut = cut_examples(
        pdm,
        pictures.gray,
        pictures.landmarks,
        pictures.visible,
        rows,
        starts,
        scale=plan.scale,
        window=plan.window,
    )
    # A picture and its mirror image lie half of all pictures apart.
    half = len(source.pictures) // 2
    back = (rows % max(half, 1)) % round(1 / _HELD_BACK) == 0
    return (
        Examples(*(leaf[:, ~back] for leaf in cut)),
        Examples(*(leaf[:, back] for leaf in cut)),
    )


def _checkpoint(
    folder: Path,
    config: TrainExpertsConfig,
    scale: int,
    view: int,
    shown: np.ndarray,
    made_from: tuple[str, str],
) -> tuple[Progress, list[np.ndarray], Path]:
    """The state that an earlier run with the same settings and data left, or a fresh one."""
    key = fingerprint(config, view, shown.tolist(), made_from)
    path = folder / f"experts-{scale}-{-VIEWS[view]:02d}-{key}.npz"
    seed = jax.random.fold_in(jax.random.key(config.seed), 1000 + 16 * scale + view)
    fresh = start_training(seed, len(_own_landmarks(view, shown)), config.program)
    return *load_state(path, fresh), path


def _spread(
    experts: Experts,
    chosen: np.ndarray,
    misplaced: np.ndarray,
    view: int,
    shown: np.ndarray,
    curve: np.ndarray,
) -> TrainedView:
    """Puts the trained landmarks into their rows of 68; the frontal view mirrors the others."""
    rows = Experts(*(_rows(np.asarray(leaf), chosen) for leaf in jax.tree.leaves(experts)))
    error = _rows(misplaced, chosen)
    if VIEWS[view] == 0:
        other = mirror_experts(rows)
        missing = np.setdiff1d(np.flatnonzero(shown), chosen)
        for mine, theirs in zip(jax.tree.leaves(rows), jax.tree.leaves(other), strict=True):
            mine[missing] = theirs[missing]
        error[missing] = error[MIRRORED][missing]
    return TrainedView(rows, shown, error, curve)


def _rows(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    whole = np.zeros((len(MIRRORED), *values.shape[1:]), np.float32)
    whole[chosen] = values
    return whole


def mirror_experts(experts: Experts) -> Experts:
    """Experts of 68 landmarks for the mirrored view."""
    return Experts(
        experts.weights[MIRRORED, ..., ::-1], experts.bias[MIRRORED], experts.log_alpha[MIRRORED]
    )


def assemble(scale: float, trained: list[TrainedView]) -> CCNFExperts:
    """The experts of one scale in all views, as the fit takes them."""
    views = [*trained]
    for view in range(TRAINED_VIEWS, len(VIEWS)):
        other = trained[MIRROR_VIEW[view]]
        mirrored = mirror_experts(other.experts)
        views.append(
            TrainedView(mirrored, other.visible[MIRRORED], other.misplaced[MIRRORED], other.curve)
        )
    visible = np.stack([view.visible for view in views])
    shown = visible[..., None]
    log_alpha = np.stack([view.experts.log_alpha for view in views])
    alpha = np.exp(log_alpha - log_alpha.max(axis=-1, keepdims=True))
    alpha = np.where(shown, alpha / alpha.sum(axis=-1, keepdims=True), 0)
    weights = np.stack([view.experts.weights for view in views])
    weights = weights - weights.mean(axis=(-2, -1), keepdims=True)
    trust = np.where(visible, 1 / (np.stack([v.misplaced for v in views]) + _FLOOR), 0)
    trust = trust / (trust.sum(axis=1, keepdims=True) / visible.sum(axis=1, keepdims=True))
    angles = np.zeros((len(VIEWS), 3))
    angles[:, 1] = np.radians(VIEWS)
    arrays = (angles, visible, weights * shown[..., None, None])
    rest = (np.stack([view.experts.bias for view in views]) * shown, alpha)
    centres, seen, kernels, bias, alphas = (
        jnp.asarray(leaf, bool if leaf.dtype == bool else jnp.float32) for leaf in (*arrays, *rest)
    )
    return CCNFExperts(
        scale=scale,
        component_windows=(),
        centres=centres,
        visible=seen,
        weights=kernels,
        bias=bias,
        alpha=alphas,
        beta=jnp.zeros((*visible.shape, 0), jnp.float32),
        confidence=jnp.asarray(trust, jnp.float32),
    )
