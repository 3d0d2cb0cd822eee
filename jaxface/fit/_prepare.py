"""Lays a landmark model out for a configuration, on the host, and gives the weights back."""

import dataclasses
import itertools

import jax
import numpy as np

from ._config import FitConfig
from ._model import CLNF, AnyCLNF, LandmarkModel, PreparedCLNF, group_parts, settings_of
from ._origin import Origin
from .experts import AbstractPatchExperts, CCNFExperts, PreparedCCNFExperts


def prepare_clnf(clnf: AnyCLNF, config: FitConfig | None = None) -> PreparedCLNF:
    """Lays weights out as the fit takes them, for the windows of a configuration.

    `load_model` prepares a model for its own settings. Settings with other windows, as `wild`, need
    another call, which takes a second. A model that is not prepared can be fitted too: every fit
    then lays out what it needs, which is slow, but derivatives reach the weights.

    Args:
        clnf: any landmark model.
        config: settings that the model will be fitted with; by default its own.
    Returns:
        The prepared model; itself where nothing was missing.
    """
    wanted = _windows(settings_of(clnf, config))
    if isinstance(clnf, PreparedCLNF):
        known = [experts.laid_out() for experts in clnf.main.experts]
        pairs = list(zip(wanted, known, strict=False))
        if all(have is None or windows <= have for windows, have in pairs):
            return clnf
        wanted = [windows | (have or frozenset()) for windows, have in pairs]
        clnf = strip_clnf(clnf)
    parts = tuple(
        dataclasses.replace(
            part,
            model=_prepare(part.model, [frozenset({w} - {0}) for w in part.config.windows]),
        )
        for part in clnf.parts
    )
    main = _prepare(clnf.main, wanted)
    return PreparedCLNF(
        main=main,
        groups=group_parts(parts),
        validator=clnf.validator.prepare(),
        search=clnf.search,
        scheme=clnf.scheme,
        config=clnf.config,
        wild=clnf.wild,
        reported=clnf.reported,
        origin=Origin(jax.tree.map(np.asarray, clnf)),
    )


def strip_clnf(clnf: AnyCLNF) -> CLNF:
    """The model whose weights count, also for derivatives; itself where it is not prepared.

    What the prepared model holds as it was, PDMs, search, biases, views, the validator's warp, is
    taken from `clnf` with every edit that was made. The weights, which it does not hold, are those
    that it was prepared from.
    """
    if isinstance(clnf, CLNF):
        return clnf
    dtype = clnf.main.pdm.mean_shape.dtype

    def restore(leaf: np.ndarray) -> jax.Array:
        floats = np.issubdtype(leaf.dtype, np.floating)
        return jax.device_put(leaf.astype(dtype) if floats else leaf)

    before: CLNF = jax.tree.map(restore, clnf.origin.tree)
    pairs = zip(before.parts, clnf.parts, strict=True)
    parts = tuple(
        dataclasses.replace(old, model=_strip(old.model, new.model)) for old, new in pairs
    )
    validator = clnf.validator
    return CLNF(
        main=_strip(before.main, clnf.main),
        parts=parts,
        validator=dataclasses.replace(
            before.validator, warp=validator.warp, biases=validator.biases
        ),
        search=clnf.search,
        scheme=clnf.scheme,
        config=clnf.config,
        wild=clnf.wild,
        reported=clnf.reported,
    )


def _strip(before: LandmarkModel, now: LandmarkModel) -> LandmarkModel:
    """The model that `now` was prepared from, with the edits of what `now` holds unchanged."""
    pairs = zip(before.experts, now.experts, strict=True)
    return LandmarkModel(pdm=now.pdm, experts=tuple(_strip_experts(*pair) for pair in pairs))


def _strip_experts(before: AbstractPatchExperts, now: AbstractPatchExperts) -> AbstractPatchExperts:
    if type(before) is type(now):  # they need no preparation
        return now
    if not (isinstance(before, CCNFExperts) and isinstance(now, PreparedCCNFExperts)):
        return before
    return dataclasses.replace(
        before,
        centres=now.centres,
        visible=now.visible,
        bias=now.bias,
        confidence=now.confidence,
    )


def _windows(config: FitConfig) -> list[frozenset[int]]:
    """Sizes of the response maps of each scale of the main model."""
    scales = itertools.zip_longest(config.windows_init, config.windows_track, fillvalue=0)
    return [frozenset({first, second} - {0}) for first, second in scales]


def _prepare(model: LandmarkModel, windows: list[frozenset[int]]) -> LandmarkModel:
    count = len(model.experts)
    wanted = (windows + [frozenset()] * count)[:count]  # a scale without a window is never fitted
    experts = tuple(e.prepare(w) for e, w in zip(model.experts, wanted, strict=True))
    return dataclasses.replace(model, experts=experts)
