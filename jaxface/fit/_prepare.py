"""Host-side preparation of a landmark model for a configuration."""

import dataclasses

import equinox as eqx

from ._config import FitConfig
from ._model import CLNF, LandmarkModel, Part, stack_parts
from ._validator import build_bands
from .experts import CCNFExperts, PatchExperts, build_banks


def prepare_clnf(clnf: CLNF, config: FitConfig) -> CLNF:
    """Lays out weights for the windows of a configuration as the fit takes them.

    `load_model` does it for the default configuration; others (`wild`) take a second. What is laid
    out no longer follows changes of `parts`, of experts or of the validator: `strip_clnf` first.

    Args:
        clnf: any landmark model.
        config: settings that the model will be fitted with.
    Returns:
        The model, unchanged where nothing was missing.
    """
    scales = zip(config.windows_init, config.windows_track, strict=False)
    wanted = [(clnf.main, [{first, second} - {0} for first, second in scales])]
    wanted += [(part.model, [{w} - {0} for w in part.config.windows]) for part in clnf.parts]
    if clnf.validator.bands and all(_is_prepared(model, windows) for model, windows in wanted):
        return clnf
    main, *models = (_prepare(model, windows) for model, windows in wanted)
    parts = _with_models(clnf.parts, models)
    bands = build_bands(clnf.validator.layers, clnf.validator.weights)
    validator = dataclasses.replace(clnf.validator, bands=bands)
    stacks = stack_parts(parts)
    return dataclasses.replace(clnf, main=main, parts=parts, validator=validator, stacks=stacks)


def _is_prepared(model: LandmarkModel, windows: list[set[int]]) -> bool:
    return all(
        not isinstance(experts, CCNFExperts) or needed <= experts.banks.keys()
        for experts, needed in zip(model.experts, windows, strict=False)
    )


def strip_clnf(clnf: CLNF) -> CLNF:
    """Drops what `prepare_clnf` adds: it is large, and soon computed again."""
    parts = _with_models(clnf.parts, [_strip(part.model) for part in clnf.parts])
    validator = dataclasses.replace(clnf.validator, bands=())
    main = _strip(clnf.main)
    return dataclasses.replace(clnf, main=main, parts=parts, validator=validator, stacks=())


def _with_models(parts: tuple[Part, ...], models: list[LandmarkModel]) -> tuple[Part, ...]:
    pairs = zip(parts, models, strict=True)
    return tuple(dataclasses.replace(part, model=model) for part, model in pairs)


def _strip(model: LandmarkModel) -> LandmarkModel:
    experts = tuple(
        eqx.tree_at(lambda e: e.banks, e, {}) if isinstance(e, CCNFExperts) else e
        for e in model.experts
    )
    return eqx.tree_at(lambda m: m.experts, model, experts)


def _prepare(model: LandmarkModel, windows: list[set[int]]) -> LandmarkModel:
    experts = tuple(
        _add_banks(experts, wanted) for experts, wanted in zip(model.experts, windows, strict=False)
    )
    return eqx.tree_at(lambda m: m.experts, model, experts + model.experts[len(experts) :])


def _add_banks(experts: PatchExperts, windows: set[int]) -> PatchExperts:
    if not isinstance(experts, CCNFExperts):
        return experts
    missing = sorted(windows - experts.banks.keys())
    new = {window: build_banks(experts, window) for window in missing}
    return eqx.tree_at(lambda e: e.banks, experts, {**experts.banks, **new})
