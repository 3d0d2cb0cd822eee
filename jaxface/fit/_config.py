"""Settings of landmark fitting."""

import dataclasses
import math

from ._model import CLNF
from .experts import CENExperts

_ACCEPTED = 0.65  # of our validator, whose classes are 1.2 mm of mean error apart


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings of the main model's fit (specification 02, D.1). Use `fit_config` for a model.

    Windows are one per patch-expert scale, coarse to fine; 0 skips a scale, and entries beyond
    the model's scales are ignored.
    """

    windows_init: tuple[int, ...] = (11, 9, 7, 5)  # first fit, and after a failure
    windows_track: tuple[int, ...] = (0, 9, 7, 0)
    iterations: int = 5
    sigma: float = 1.5  # of the mean-shift kernel, px of the reference frame
    regularisation: float = 25.0
    weight_factor: float = 0.0  # 0: all landmarks weigh the same
    refine_parts: bool = True  # hierarchical models
    validation_boundary: float = 0.725
    multi_view: bool = False  # several start rotations instead of the frontal one


def fit_config(clnf: CLNF, *, wild: bool = False, multi_view: bool | None = None) -> FitConfig:
    """OpenFace's settings for a model; those that suit it better for one of our own.

    Args:
        clnf: CE-CLM models get a wider kernel and weaker regularisation. Models that report other
            points than they fit are our own: they start still images from several rotations, and
            their validator has another scale.
        wild: settings for difficult still images (OpenFace's `-wild`).
        multi_view: overrides whether still images are started from 11 rotations.
    Reference:
        Specification 01, B.2.
    """
    config = FitConfig(multi_view=clnf.reported is not None)
    if wild:
        config = FitConfig(
            windows_init=(15, 13, 11, 11),
            sigma=1.25,
            regularisation=35.0,
            weight_factor=2.5,
            iterations=10,
            multi_view=True,
        )
    if isinstance(clnf.main.experts[0], CENExperts):
        config = dataclasses.replace(
            config, sigma=config.sigma * 1.5, regularisation=config.regularisation * 0.9
        )
    if clnf.reported is not None:
        config = dataclasses.replace(config, validation_boundary=_ACCEPTED)
    if multi_view is not None:
        config = dataclasses.replace(config, multi_view=multi_view)
    return config


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaleConfig:
    """Settings of one NU-RLMS run."""

    window: int
    sigma: float
    regularisation: float
    weight_factor: float
    iterations: int


def scale_config(
    config: FitConfig, patch_scales: tuple[float, ...], index: int, window: int
) -> ScaleConfig:
    """Settings of one scale: the kernel widens and the regularisation weakens with it.

    Scales beyond the third take the third one's values.

    Reference:
        Specification 02, D.1.
    """
    octaves = math.log2(patch_scales[min(index, 2)] / 0.25)
    regularisation = config.regularisation - 15.0 * octaves
    return ScaleConfig(
        window=window,
        sigma=config.sigma + 0.25 * octaves,
        regularisation=regularisation if regularisation > 0 else 0.001,
        weight_factor=config.weight_factor * (1.0 + 2.0 * octaves),
        iterations=config.iterations,
    )
