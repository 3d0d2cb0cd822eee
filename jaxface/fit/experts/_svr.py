"""Response maps of linear SVR patch experts (CLM)."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ...ops import extract_patches
from ._base import SUPPORT, AbstractPatchExperts

_MIN_VARIANCE = 2.220446049250313e-16
_CALIBRATION = 0.215  # of variances, on rendered heads: bench/uncertainty.py


class SVRExperts(AbstractPatchExperts):
    """Linear SVR experts over two modalities: raw, then squared gradient magnitude.

    Weights are indexed [row, column] of the patch.
    """

    calibration: ClassVar[float] = _CALIBRATION
    scale: float = eqx.field(static=True)
    centres: Float[Array, "v 3"]
    visible: Bool[Array, "v n"]
    weights: Float[Array, "v n 2 11 11"]
    scaling: Float[Array, "v n 2"]
    bias: Float[Array, "v n 2"]
    confidence: Float[Array, "v n 2"]

    def prepare(self, windows: frozenset[int]) -> "SVRExperts":
        return self

    def laid_out(self) -> None:
        return None

    def responses(
        self, areas: Float[Array, "b n s s"], views: Int[Array, " b"]
    ) -> Float[Array, "b n w w"]:
        return jax.vmap(lambda area, view: svr_responses(self, area, view))(areas, views)

    def confidences(self, view: Int[Array, ""]) -> Float[Array, " n"]:
        return jnp.sum(self.confidence[view], axis=-1)


def svr_responses(
    experts: SVRExperts, areas: Float[Array, "n s s"], view: Int[Array, ""]
) -> Float[Array, "n w w"]:
    """Response maps of all landmarks in one view: the product over both modalities.

    Args:
        areas: areas of interest, 0 to 255.
        view: index of the view.
    Reference:
        Saragih et al. 2011; specification 02, C.6.
    """
    maps = []
    for modality, prepare in enumerate((_standardise, _squared_gradient)):
        correlation = _correlate(prepare(areas), experts.weights[view][:, modality])
        scaling = experts.scaling[view][:, modality, None, None]
        bias = experts.bias[view][:, modality, None, None]
        maps.append(jax.nn.sigmoid(correlation * scaling + bias))
    return jnp.where(experts.visible[view][:, None, None], maps[0] * maps[1], 0)


def _standardise(areas: Float[Array, "n s s"]) -> Float[Array, "n s s"]:
    centred = areas - jnp.mean(areas, axis=(1, 2), keepdims=True)
    variance = jnp.mean(centred * centred, axis=(1, 2), keepdims=True)
    return centred * lax.rsqrt(jnp.where(variance == 0, 1, variance))


def _squared_gradient(areas: Float[Array, "n s s"]) -> Float[Array, "n s s"]:
    dx = areas[:, 1:-1, 2:] - areas[:, 1:-1, :-2]
    dy = areas[:, 2:, 1:-1] - areas[:, :-2, 1:-1]
    return jnp.pad(dx * dx + dy * dy, ((0, 0), (1, 1), (1, 1)))


def _correlate(
    areas: Float[Array, "n s s"], weights: Float[Array, "n 11 11"]
) -> Float[Array, "n w w"]:
    """Normalised correlation coefficient with OpenCV's limits at tiny variances."""
    count = areas.shape[0]
    template = weights.transpose(0, 2, 1).reshape(count, SUPPORT**2)
    template = template - jnp.mean(template, axis=1, keepdims=True)
    energy = jnp.sum(template * template, axis=1)[:, None, None]
    patches = extract_patches(areas, SUPPORT)
    centred = patches - jnp.mean(patches, axis=1, keepdims=True)
    product = jnp.einsum("nd,ndyx->nyx", template, centred, precision=lax.Precision.HIGHEST)
    square = jnp.sum(centred * centred, axis=1) * energy
    bound = jnp.sqrt(jnp.where(square > 0, square, 1)) * (square > 0).astype(square.dtype)
    ratio = product / jnp.where(bound > 0, bound, 1)
    size = jnp.abs(product)
    limited = jnp.where(size < 1.125 * bound, jnp.sign(product), 0)
    coefficient = jnp.where(size < bound, ratio, limited)
    return jnp.where(energy / SUPPORT**2 < _MIN_VARIANCE, 1, coefficient)
