"""Action units: linear SVR intensity and linear SVM presence over FHOG and geometry."""

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from ..fit import PDM
from ._config import AlignConfig

_HIGHEST = lax.Precision.HIGHEST
FHOG_FEATURES = 4464  # of an aligned face


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
    """Intensity and presence heads over FHOG (4464) and geometry features (OpenFace: 238)."""

    mean: Float[Array, " d"]
    intensity: LinearHeads
    presence: LinearHeads


class FaceAnalyser(eqx.Module):
    """The analyser's own PDM and the two sets of heads."""

    pdm: PDM
    video: ActionUnits  # OpenFace's AU_all_best: static and dynamic heads
    image: ActionUnits  # OpenFace's AU_all_static
    align: AlignConfig = eqx.field(static=True, default=AlignConfig())  # that the heads learnt on


def no_action_units(pdm: PDM) -> FaceAnalyser:
    """An analyser that aligns faces and knows no action units.

    Args:
        pdm: of the aligned face.
    """
    dtype = pdm.mean_shape.dtype
    none = jnp.zeros(0, dtype)
    features = FHOG_FEATURES + pdm.mean_shape.size + pdm.eigenvalues.size
    heads = LinearHeads(
        names=(),
        weights=jnp.zeros((0, features), dtype),
        bias=none,
        dynamic=jnp.zeros(0, bool),
        cutoff=none,
        positive=none,
        negative=none,
    )
    units = ActionUnits(mean=jnp.zeros(features, dtype), intensity=heads, presence=heads)
    return FaceAnalyser(pdm=pdm, video=units, image=units)


class Scores(eqx.Module):
    """Values of all heads for one frame, in the order of the heads' names."""

    intensity: Float[Array, " u"]
    presence: Float[Array, " p"]  # decision values, not labels


def score_action_units(
    units: ActionUnits, fhog: Float[Array, "r c 31"], geometry: Float[Array, " g"]
) -> Scores:
    """Evaluates all heads with the person's medians taken as zero.

    The heads are linear, so `subtract_medians` turns these scores into the ones for any
    medians: a video needs to keep these 35 numbers a frame and no descriptor.

    Args:
        units: the heads of the video or of the image model.
        fhog: descriptor of the masked aligned face.
        geometry: `geometry_descriptor` of the refitted PDM.

    Returns:
        Scores; only those of the static heads are final. Linear, so their derivative is exact.

    Raises:
        ValueError: the descriptors do not have the heads' number of features.

    Reference:
        Specification 03, C.4.
    """
    features = fhog.size + geometry.size
    if features != units.mean.size:
        raise ValueError(
            f"fhog and geometry: expected {units.mean.size} values in all, got {features}"
        )
    # The mean comes off first: the products are then small, and so is their rounding.
    centred = jnp.concatenate([fhog.reshape(-1), geometry]) - units.mean

    def score(heads: LinearHeads) -> Float[Array, " u"]:
        return jnp.matmul(heads.weights, centred, precision=_HIGHEST) + heads.bias

    return Scores(score(units.intensity), score(units.presence))


def subtract_medians(units: ActionUnits, scores: Scores, medians: Float[Array, " d"]) -> Scores:
    """Removes a person's neutral face from the scores of the dynamic heads.

    Args:
        units: the heads that gave `scores`.
        scores: result of `score_action_units`.
        medians: result of `baseline_medians`.

    Returns:
        Scores as if the medians had been subtracted from the features.

    Reference:
        Specification 03, C.4.
    """

    def correct(heads: LinearHeads, values: Float[Array, " u"]) -> Float[Array, " u"]:
        neutral = jnp.matmul(heads.weights, medians, precision=_HIGHEST)
        return values - jnp.where(heads.dynamic, neutral, 0)

    return Scores(
        correct(units.intensity, scores.intensity), correct(units.presence, scores.presence)
    )


def label_presence(heads: LinearHeads, decisions: Float[Array, " p"]) -> Bool[Array, " p"]:
    """Turns decision values into presence; many heads say "absent" with a positive value.

    Labels have no derivative; that of the decision values is exact.
    """
    return jnp.where(decisions > 0, heads.positive, heads.negative) > 0.5


def predict_action_units(
    units: ActionUnits,
    fhog: Float[Array, "r c 31"],
    geometry: Float[Array, " g"],
    medians: Float[Array, " d"],
) -> tuple[Float[Array, " u"], Bool[Array, " p"]]:
    """Predicts the action units of one video frame, before any correction over time.

    Args:
        units: the heads of the video model.
        fhog: descriptor of the masked aligned face.
        geometry: `geometry_descriptor` of the refitted PDM.
        medians: result of `baseline_medians` after this frame.

    Returns:
        Raw intensity, not limited to 0 to 5, and presence. Intensities are linear in descriptors
        and medians; medians themselves are constant by design, see `update_baseline`, and labels
        have no derivative.

    Raises:
        ValueError: the descriptors do not have the heads' number of features.

    Reference:
        Baltrusaitis et al. 2015, "Cross-dataset learning and person-specific normalisation for
        automatic action unit detection"; specification 03, C.4.
    """
    scores = subtract_medians(units, score_action_units(units, fhog, geometry), medians)
    return scores.intensity, label_presence(units.presence, scores.presence)


def predict_static_action_units(
    units: ActionUnits, fhog: Float[Array, "r c 31"], geometry: Float[Array, " g"]
) -> tuple[Float[Array, " u"], Bool[Array, " p"]]:
    """Predicts the action units of a single image, without anything known about the person.

    Args:
        units: the heads of the image model, all static.
        fhog: descriptor of the masked aligned face.
        geometry: `geometry_descriptor` of the refitted PDM.

    Returns:
        Intensity, 0 to 5, and presence. A limited intensity has no derivative, nor has a label:
        `score_action_units` gives what has.

    Raises:
        ValueError: the descriptors do not have the heads' number of features.

    Reference:
        Specification 03, C.7.
    """
    scores = score_action_units(units, fhog, geometry)
    return jnp.clip(scores.intensity, 0, 5), label_presence(units.presence, scores.presence)
