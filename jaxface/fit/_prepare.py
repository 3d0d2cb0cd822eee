"""Host-side preparation of a landmark model for a configuration."""

import equinox as eqx
import jax.numpy as jnp

from ._ccnf import compute_sigmas
from ._config import FitConfig
from ._experts import CCNFExperts, PatchExperts
from ._model import CLNF, LandmarkModel


def prepare_clnf(clnf: CLNF, config: FitConfig) -> CLNF:
    """Adds the Sigma matrices that CCNF experts need for the windows of a configuration.

    `load_model` brings those of the default configuration; others (`wild`) take seconds. Other
    kinds of experts need nothing.

    Args:
        clnf: any landmark model.
        config: settings that the model will be fitted with.
    Returns:
        The model, unchanged where nothing was missing.
    """
    scales = zip(config.windows_init, config.windows_track, strict=False)
    windows = [{first, second} for first, second in scales]
    parts = tuple(
        eqx.tree_at(
            lambda p: p.model,
            part,
            _prepare(part.model, [{window} for window in part.config.windows]),
        )
        for part in clnf.parts
    )
    return eqx.tree_at(lambda c: (c.main, c.parts), clnf, (_prepare(clnf.main, windows), parts))


def _prepare(model: LandmarkModel, windows: list[set[int]]) -> LandmarkModel:
    experts = tuple(
        _add_sigmas(experts, wanted)
        for experts, wanted in zip(model.experts, windows, strict=False)
    )
    return eqx.tree_at(lambda m: m.experts, model, experts + model.experts[len(experts) :])


def _add_sigmas(experts: PatchExperts, windows: set[int]) -> PatchExperts:
    if not isinstance(experts, CCNFExperts):
        return experts
    missing = (windows & set(experts.component_windows)) - experts.sigmas.keys()
    new = {window: jnp.asarray(compute_sigmas(experts, window)) for window in sorted(missing)}
    return eqx.tree_at(lambda e: e.sigmas, experts, {**experts.sigmas, **new})
