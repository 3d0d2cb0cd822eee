"""Weights of the three kinds of patch expert: CCNF, SVR and CEN. One Module is one scale.

Support is 11x11 everywhere. Weights are indexed [row, col] of the patch, so a response is the
plain correlation of the patch with them.
"""

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int

SUPPORT = 11


class Bank(eqx.Module):
    """CCNF experts of one view, laid out for response maps of one size w; see `build_banks`."""

    strips: Float[Array, "n j i"]  # j = k r, i = 11 (r + 10), r rows at a time
    sigma: Float[Array, "n s s"] | None  # s = w**2; None where the pixels are not coupled


class CCNFExperts(eqx.Module):
    """Continuous conditional neural field experts (Baltrusaitis 2014)."""

    scale: float = eqx.field(static=True)  # px per mm of the reference frame
    component_windows: tuple[int, ...] = eqx.field(static=True)  # windows with Sigma components
    centres: Float[Array, "v 3"]  # pitch yaw roll, rad
    visible: Bool[Array, "v n"]
    weights: Float[Array, "v n k 11 11"]  # includes the neuron's norm; zeros where invisible
    bias: Float[Array, "v n k"]
    alpha: Float[Array, "v n k"]
    beta: Float[Array, "v n b"]  # b = 3, or 0 where the files give no Sigma components
    confidence: Float[Array, "v n"]  # 0 where invisible
    banks: dict[int, tuple[Bank, ...]]  # by window and view; computed, see prepare_clnf


class SVRExperts(eqx.Module):
    """Linear SVR experts over two modalities: raw, then squared gradient magnitude."""

    scale: float = eqx.field(static=True)
    centres: Float[Array, "v 3"]
    visible: Bool[Array, "v n"]
    weights: Float[Array, "v n 2 11 11"]
    scaling: Float[Array, "v n 2"]
    bias: Float[Array, "v n 2"]
    confidence: Float[Array, "v n 2"]


class CENExperts(eqx.Module):
    """Convolutional expert network patches; `e` own experts, the rest by mirroring.

    Layer l maps `biases[l] + weights[l] @ x`; the first input is the constant 1, then the 121
    pixels in column-major order.
    """

    scale: float = eqx.field(static=True)
    activations: tuple[str, ...] = eqx.field(static=True)  # per layer: sigmoid, relu or none
    centres: Float[Array, "v 3"]
    visible: Bool[Array, "v n"]
    expert: Int[Array, "v n"]  # row of the tables below; 0 where invisible
    mirrored: Bool[Array, "v n"]  # run the expert on the flipped area and flip the map back
    confidence: Float[Array, "v n"]
    weights: tuple[Float[Array, "e out in"], ...]
    biases: tuple[Float[Array, "e out"], ...]


PatchExperts = CCNFExperts | SVRExperts | CENExperts
