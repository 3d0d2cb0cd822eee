"""Settings of landmark fitting. They travel with the model: see `CLNF.config`."""

import dataclasses
import enum
import math

from .solvers import NU_RLMS, ScaleConfig, Solver, find_solver


class Phase(enum.IntEnum):
    """Which scales a fit runs through."""

    INIT = 0  # all of `windows_init`
    TRACK = 1  # all of `windows_track`
    COARSE = 2  # the first of `windows_init` alone, to rank starts
    FINISH = 3  # the others of `windows_init`


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings of the main model's fit (specification 02, D.1).

    The defaults are OpenFace's for CLNF; a model carries those that suit it in `CLNF.config`.
    Windows are one per patch-expert scale, coarse to fine; 0 or none skips a scale, and entries
    beyond the model's scales are ignored.
    """

    windows_init: tuple[int, ...] = (11, 9, 7, 5)  # first fit, and after a failure
    windows_track: tuple[int, ...] = (0, 9, 7, 0)
    iterations: int = 5
    sigma: float = 1.5  # of the mean-shift kernel, px of the reference frame
    regularisation: float = 25.0
    weight_factor: float = 0.0  # 0: all landmarks weigh the same
    refine_parts: bool = True  # hierarchical models
    validation_boundary: float = 0.725
    # False: no fit is judged; each face that is large enough succeeds, with confidence 1.
    validate: bool = True
    multi_view: bool = False  # several start rotations instead of the frontal one
    # Nothing is rounded, so that derivatives are exact: samples and kernels at any place, areas
    # under a kernel that blurs by 0.9 px, parts refitted to the minimum, no face frozen. Landmarks
    # differ by 0.1 to 0.4 px from the faithful ones of `base`, as near to the truth; by
    # 0.1 to 2.9 px with OpenFace's model.
    smooth: bool = False
    solver: str | Solver = NU_RLMS  # a name, or a function of the user's: see `Solver`
    rounds: int = 1  # at each scale, of alignment, response maps and solver; of the parts too

    def __post_init__(self) -> None:
        for name in ("windows_init", "windows_track"):
            windows = getattr(self, name)
            if not all(w == 0 or (w > 0 and w % 2 == 1) for w in windows):
                raise ValueError(
                    f"{name}: expected odd sizes of response maps, or 0 to skip a scale, "
                    f"got {windows}"
                )
        if not any(self.windows_init):
            raise ValueError(f"windows_init: expected a scale to fit, got {self.windows_init}")
        for name in ("iterations", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not 0 < self.sigma < math.inf:
            raise ValueError(f"sigma: expected a positive number of pixels, got {self.sigma}")
        for name in ("regularisation", "weight_factor"):
            if not 0 <= getattr(self, name) < math.inf:
                got = getattr(self, name)
                raise ValueError(f"{name}: expected a finite number of at least 0, got {got}")
        if not 0 <= self.validation_boundary <= 1:
            raise ValueError(
                f"validation_boundary: expected a confidence, 0 to 1, "
                f"got {self.validation_boundary}"
            )
        find_solver(self.solver)


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
        smooth=config.smooth,
    )
