"""Settings that models are shipped and imported with, and the choice among a model's own."""

import dataclasses

from ._config import FitConfig
from ._model import AnyCLNF

# OpenFace's for CLNF and CLM, and for difficult still images (`-wild`); specification 01, B.2.
OPENFACE_FIT = FitConfig()
OPENFACE_WILD_FIT = FitConfig(
    windows_init=(15, 13, 11, 11),
    sigma=1.25,
    regularisation=35.0,
    weight_factor=2.5,
    iterations=10,
    multi_view=True,
)


def ceclm_settings(config: FitConfig) -> FitConfig:
    """OpenFace's settings for CE-CLM: a wider kernel and a weaker regularisation.

    Reference:
        Specification 01, B.2.
    """
    return dataclasses.replace(
        config, sigma=config.sigma * 1.5, regularisation=config.regularisation * 0.9
    )


def base_settings(config: FitConfig) -> FitConfig:
    """Settings for `base`: several starts, and a validator whose classes are 1.2 mm apart."""
    return dataclasses.replace(config, multi_view=True, validation_boundary=0.65)


def fit_config(clnf: AnyCLNF, *, wild: bool = False, multi_view: bool | None = None) -> FitConfig:
    """A model's own settings.

    Args:
        clnf: holds them.
        wild: those for difficult still images (OpenFace's `-wild`).
        multi_view: overrides whether still images are started from several rotations.
    Reference:
        Specification 01, B.2.
    """
    config = clnf.wild if wild else clnf.config
    return config if multi_view is None else dataclasses.replace(config, multi_view=multi_view)
