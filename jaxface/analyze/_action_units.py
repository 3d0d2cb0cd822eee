"""Action units: linear SVR intensity and linear SVM presence over FHOG and geometry."""

import equinox as eqx
from jaxtyping import Array, Bool, Float

from ..fit import PDM


class LinearHeads(eqx.Module):
    """One linear model per action unit: w . (x - mean [- person median]) + b."""

    names: tuple[str, ...] = eqx.field(static=True)  # AU01, AU02, ... in alphabetical order
    weights: Float[Array, "u d"]
    bias: Float[Array, " u"]
    dynamic: Bool[Array, " u"]  # the person-specific median is subtracted
    cutoff: Float[Array, " u"]  # quantile of a person's values taken as zero; -1 for none
    positive: Float[Array, " u"]  # label of a positive decision value (presence heads; else 1)
    negative: Float[Array, " u"]


class ActionUnits(eqx.Module):
    """Intensity and presence heads over 4464 FHOG and 238 geometry features."""

    mean: Float[Array, " d"]
    intensity: LinearHeads
    presence: LinearHeads


class FaceAnalyser(eqx.Module):
    """The analyser's own PDM and the two sets of heads."""

    pdm: PDM
    video: ActionUnits  # OpenFace's AU_all_best: static and dynamic heads
    image: ActionUnits  # OpenFace's AU_all_static
