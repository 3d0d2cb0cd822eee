"""The whole model: detector, landmark model, analyser, and the settings that suit it."""

import dataclasses
from typing import Any

import equinox as eqx

from ..analyze import AlignConfig, FaceAnalyser
from ..detect import AbstractDetector
from ..fit import AnyCLNF, FitConfig, fit_config, prepare_clnf, strip_clnf


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Where a model comes from and how it may be used."""

    name: str  # base, openface, openface-ceclm, openface-clm
    source: str
    licence: str
    landmark_scheme: str  # e.g. "multi-pie-68"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of all stages. None stands for what the model carries: see `Model.config`."""

    detect: Any = None  # of the detector's type, as `DetectConfig`
    fit: FitConfig | None = None
    align: AlignConfig | None = None
    static_action_units: bool = False  # the image model, not adapted to the person
    online: bool = False  # action units corrected while a live video runs


class Model(eqx.Module):
    """Everything that `jaxface.load_model` returns: weights, and the settings that suit them."""

    info: ModelInfo = eqx.field(static=True)
    detector: AbstractDetector
    clnf: AnyCLNF
    analyser: FaceAnalyser

    @property
    def config(self) -> Config:
        """The model's own settings, for videos."""
        return default_config(self)


def default_config(
    model: Model,
    *,
    wild: bool = False,
    multi_view: bool | None = None,
    static_action_units: bool = False,
) -> Config:
    """A model's own settings, which its detector and its landmark model carry.

    Args:
        model: holds them.
        wild: settings for difficult still images (OpenFace's `-wild`).
        multi_view: start still images from several rotations (OpenFace's `-multi_view`); the
            default is the model's.
        static_action_units: action units without adapting to the person (`-au_static`).
    """
    return Config(
        detect=model.detector.config,
        fit=fit_config(model.clnf, wild=wild, multi_view=multi_view),
        align=model.analyser.align,
        static_action_units=static_action_units,
    )


def complete_config(
    model: Model, config: Config | None, *, static_action_units: bool = False
) -> Config:
    """Settings with the model's own in place of those that are left out.

    Args:
        config: None for the model's own altogether.
        static_action_units: of the model's own, where `config` is None.
    """
    own = default_config(model, static_action_units=static_action_units)
    if config is None:
        return own
    missing = [name for name in ("detect", "fit", "align") if getattr(config, name) is None]
    if not missing:
        return config
    return dataclasses.replace(config, **{name: getattr(own, name) for name in missing})


def prepare_model(model: Model, config: Config | None = None) -> Model:
    """Lays a model out for a configuration; see `fit.prepare_clnf`.

    Args:
        config: settings that it will be used with; by default its own.
    """
    clnf = prepare_clnf(model.clnf, None if config is None else config.fit)
    return model if clnf is model.clnf else dataclasses.replace(model, clnf=clnf)


def strip_model(model: Model) -> Model:
    """The model whose weights count, also for derivatives: the inverse of `prepare_model`.

    A prepared model, as `load_model` gives it, holds no expert's or validator's weights, so that
    they cannot be edited in vain. Edit this one with `equinox.tree_at`, then use it as it is
    (slower: what is laid out is laid out in every call) or give it to `prepare_model`.
    """
    clnf = strip_clnf(model.clnf)
    return model if clnf is model.clnf else dataclasses.replace(model, clnf=clnf)
