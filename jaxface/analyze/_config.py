"""Settings of the aligned face."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignConfig:
    """Settings of the aligned face, and of the FHOG that `analyze_frame` takes from it.

    With `smooth` nothing is rounded and no choice is hard: samples are taken by a cubic at real
    positions, the mask ends in a ramp, gradients are shared between the two nearest directions.
    The action units are then a continuous function of pixels and landmarks, whose derivative is
    exact; they are not OpenFace's, see `bench/derivatives_looks.py` for how far they are off.
    """

    size: int = 112  # px, width and height
    scale: float = 0.7  # px per mm of the mean shape
    mask: bool = True  # black outside the face
    smooth: bool = False  # for derivatives: rounds nothing, differs from OpenFace
