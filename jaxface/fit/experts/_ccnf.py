"""Response maps of CCNF patch experts, for many faces at once.

A map is a correlation of normalised patches with a few neurons, their sum, and a smoothing. The
patches' means and norms are sliding sums; see `_ccnf_layout.py` for the products.
"""

import functools
import operator
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ...ops import few_on_cuda
from ._base import SUPPORT, AbstractPatchExperts
from ._ccnf_layout import Bank, Strips, build_banks, cut_strips, trace_bank

_HIGHEST = lax.Precision.HIGHEST
_MIN_ALPHA = 1e-4  # weaker neurons are skipped
# Sliding sums give a flat patch this share of its square sum at most; it then counts as flat.
_FLAT = 2e-6
_CALIBRATION = 8.0  # of variances, on rendered heads: bench/uncertainty.py


class CCNFExperts(AbstractPatchExperts):
    """Continuous conditional neural field experts (Baltrusaitis 2014).

    Weights are indexed [row, column] of the patch, so a response is the plain correlation of the
    patch with them.
    """

    calibration: ClassVar[float] = _CALIBRATION
    scale: float = eqx.field(static=True)
    component_windows: tuple[int, ...] = eqx.field(static=True)  # windows with Sigma components
    centres: Float[Array, "v 3"]
    visible: Bool[Array, "v n"]
    weights: Float[Array, "v n k 11 11"]  # includes the neuron's norm; zeros where invisible
    bias: Float[Array, "v n k"]
    alpha: Float[Array, "v n k"]
    beta: Float[Array, "v n b"]  # b = 3, or 0 where the files give no Sigma components
    confidence: Float[Array, "v n"]  # 0 where invisible

    def prepare(self, windows: frozenset[int]) -> "PreparedCCNFExperts":
        weights, alpha, beta, visible = (
            np.asarray(array) for array in (self.weights, self.alpha, self.beta, self.visible)
        )
        return PreparedCCNFExperts(
            scale=self.scale,
            centres=self.centres,
            visible=self.visible,
            gain=jax.device_put(_gain(alpha)),
            bias=self.bias,
            total=jax.device_put(alpha.sum(-1)),
            confidence=self.confidence,
            banks={
                window: build_banks(
                    weights, alpha, beta, visible, window, coupled=window in self.component_windows
                )
                for window in sorted(windows)
            },
        )

    def laid_out(self) -> None:
        return None

    def responses(
        self, areas: Float[Array, "b n s s"], views: Int[Array, " b"]
    ) -> Float[Array, "b n w w"]:
        """Lays the experts out in every call: `prepare` them unless their weights change."""
        window = areas.shape[-1] - SUPPORT + 1
        coupled = window in self.component_windows

        def respond(face: tuple[Array, Array]) -> Float[Array, "n w w"]:
            area, view = face
            bank = trace_bank(
                self.weights[view],
                self.alpha[view],
                self.beta[view],
                self.visible[view],
                window,
                coupled=coupled,
            )
            gain = jnp.where(self.alpha > _MIN_ALPHA, 2 * self.alpha, 0)
            shared = (self.visible, gain, self.bias, jnp.sum(self.alpha, axis=-1))
            return _responses(shared, (bank,), area[None], view[None])[0]

        return lax.map(respond, (areas, views))

    def confidences(self, view: Int[Array, ""]) -> Float[Array, " n"]:
        return self.confidence[view]


class PreparedCCNFExperts(AbstractPatchExperts):
    """`CCNFExperts` laid out for some windows. It holds no weights that could be edited in vain."""

    calibration: ClassVar[float] = _CALIBRATION
    scale: float = eqx.field(static=True)
    centres: Float[Array, "v 3"]
    visible: Bool[Array, "v n"]
    gain: Float[Array, "v n k"]  # of each neuron's output; 0 where it is skipped
    bias: Float[Array, "v n k"]
    total: Float[Array, "v n"]  # of the neurons' alpha, where places of a map are not coupled
    confidence: Float[Array, "v n"]
    banks: dict[int, tuple[Bank, ...]]  # by window and view

    def prepare(self, windows: frozenset[int]) -> "PreparedCCNFExperts":
        if windows <= self.banks.keys():
            return self
        raise ValueError(_unprepared(self.scale, sorted(windows), sorted(self.banks)))

    def laid_out(self) -> frozenset[int]:
        return frozenset(self.banks)

    def responses(
        self, areas: Float[Array, "b n s s"], views: Int[Array, " b"]
    ) -> Float[Array, "b n w w"]:
        """The experts of a view are applied to all faces in one product, and only if one needs
        them.

        Reference:
            Baltrusaitis et al. 2014; specification 02, C.4.
        """
        window = areas.shape[-1] - SUPPORT + 1
        if window not in self.banks:
            raise ValueError(_unprepared(self.scale, [window], sorted(self.banks)))
        shared = (self.visible, self.gain, self.bias, self.total)
        return _responses(shared, self.banks[window], areas, views)

    def confidences(self, view: Int[Array, ""]) -> Float[Array, " n"]:
        return self.confidence[view]


def _unprepared(scale: float, wanted: list[int], known: list[int]) -> str:
    return (
        f"patch experts at scale {scale} are not prepared for window "
        f"{', '.join(map(str, wanted))}, only for {known}: call "
        "jaxface.prepare_model(model, config) with the configuration that you fit with"
    )


def _gain(alpha: Float[np.ndarray, "v n k"]) -> Float[np.ndarray, "v n k"]:
    weakest = np.asarray(_MIN_ALPHA, alpha.dtype)
    return np.where(alpha > weakest, 2 * alpha, np.zeros((), alpha.dtype))


def normalise_patches(patches: Float[Array, "n 121 w w"]) -> Float[Array, "n 121 w w"]:
    """Zero mean and unit length of each patch; flat patches stay zero (specification 02, C.4)."""
    # Relative to one of their own pixels, flat patches are exactly zero before the mean is taken.
    shifted = patches - patches[:, :1]
    centred = shifted - jnp.mean(shifted, axis=1, keepdims=True)
    square = jnp.sum(centred * centred, axis=1, keepdims=True)
    return centred * lax.rsqrt(jnp.where(square == 0, 1, square))


def _responses(
    shared: tuple[Array, Array, Array, Array],
    banks: tuple[Bank, ...],
    areas: Float[Array, "b n s s"],
    views: Int[Array, " b"],
) -> Float[Array, "b n w w"]:
    """Response maps of several faces; zeros where a landmark is invisible.

    Args:
        shared: visible landmarks (v n), gains and biases (v n k), sums of alpha (v n).
        banks: of each view; or of the one view that all faces are in.
        areas: areas of interest, 0 to 255.
    """
    visible, gain, bias, total = (table[views] for table in shared)
    window = areas.shape[-1] - SUPPORT + 1
    strips = cut_strips(window)
    landmarks_first = areas.transpose(1, 0, 2, 3)
    centred = landmarks_first - jnp.mean(landmarks_first, axis=(2, 3), keepdims=True)
    columns = _stack_windows(centred, strips)
    products = _by_view(banks, views, columns, lambda bank, x: _product(bank.strips, x))
    raw = _join_strips(_add_neurons(gain, bias, products, _inverse_norms(centred, strips)), strips)
    if banks[0].sigma is None:  # all views of a window are alike
        smooth = raw / (2 * jnp.where(total == 0, 1, total)).T[:, None]
    else:
        smooth = _by_view(banks, views, raw, _smooth)
    smooth = smooth - jnp.minimum(jnp.min(smooth, axis=1, keepdims=True), 0)
    smooth = jnp.where(visible.T[:, None], smooth, 0)
    return smooth.reshape(-1, window, window, len(views)).transpose(3, 0, 1, 2)


def _stack_windows(areas: Float[Array, "n b s s"], strips: Strips) -> Float[Array, "n r b g c"]:
    """For each strip and column of the map the pixels that its rows are made from.

    Returns:
        r: row and column of the support; g: strip; c: column of the map.
    """
    height = strips.rows + SUPPORT - 1
    cut = jnp.stack([areas[:, :, start : start + height] for start in strips.starts], axis=2)
    cut = cut.transpose(0, 3, 1, 2, 4)  # n y b g s
    shifted = few_on_cuda(_gather_shifts, _stack_shifts, cut)
    return shifted.reshape(areas.shape[0], -1, *shifted.shape[3:])


def _stack_shifts(cut: Float[Array, "n y b g s"]) -> Float[Array, "n y j b g c"]:
    """Windows of columns, the first of them 0 to 10."""
    window = cut.shape[-1] - SUPPORT + 1
    return jnp.stack([cut[..., j : j + window] for j in range(SUPPORT)], axis=2)


def _gather_shifts(cut: Float[Array, "n y b g s"]) -> Float[Array, "n y j b g c"]:
    columns = np.arange(SUPPORT)[:, None] + np.arange(cut.shape[-1] - SUPPORT + 1)
    taken = cut.at[..., columns].get(mode="promise_in_bounds")
    return jnp.moveaxis(taken, -2, 2)


def _product(matrices: Float[Array, "n j i"], x: Float[Array, "n i *m"]) -> Float[Array, "n j *m"]:
    """Each landmark's own matrix times its columns."""
    flat = x.reshape(*x.shape[:2], -1)
    product = jnp.einsum("nji,nim->njm", matrices, flat, precision=_HIGHEST)
    return product.reshape(*product.shape[:2], *x.shape[2:])


def _add_neurons(
    gain: Float[Array, "b n k"],
    bias: Float[Array, "b n k"],
    products: Float[Array, "n j b g c"],
    norms: tuple[Float[Array, "n r b g c"], Bool[Array, "n r b g c"]],
) -> Float[Array, "n r b g c"]:
    """Sums of the neurons' outputs, written out: XLA makes them one loop over vectors."""
    inverse, flat = norms
    gain, bias = gain.transpose(1, 2, 0), bias.transpose(1, 2, 0)
    by_neuron = products.reshape(*gain.shape[:2], *inverse.shape[1:])
    fired = []
    for neuron in range(gain.shape[1]):
        weight, offset = (t[:, neuron, None, :, None, None] for t in (gain, bias))
        matched = jnp.where(flat, 0, by_neuron[:, neuron] * inverse)
        fired.append(weight * jax.nn.sigmoid(matched + offset))
    return functools.reduce(operator.add, fired)


def _join_strips(raw: Float[Array, "n r b g c"], strips: Strips) -> Float[Array, "n p b"]:
    """Whole maps, p = (row, column)."""
    rows = raw.transpose(0, 3, 1, 4, 2).reshape(raw.shape[0], -1, raw.shape[4], raw.shape[2])
    first = np.unique(strips.order, return_index=True)[1]
    return rows[:, first].reshape(rows.shape[0], -1, rows.shape[3])


def _smooth(bank: Bank, maps: Float[Array, "n p b"]) -> Float[Array, "n p b"]:
    assert bank.sigma is not None
    return _product(bank.sigma, maps)


def _by_view(
    banks: tuple[Bank, ...],
    views: Int[Array, " b"],
    x: Float[Array, "n i b *m"],
    apply: Callable[[Bank, Array], Array],
) -> Float[Array, "n j b *m"]:
    """Applies each face's bank; one that no face needs costs nothing."""
    if len(banks) == 1:
        return apply(banks[0], x)
    shape = jax.eval_shape(lambda x: apply(banks[0], x), x)
    result = jnp.zeros(shape.shape, shape.dtype)
    needed = jnp.any(views[None] == np.arange(len(banks), dtype=views.dtype)[:, None], axis=1)
    for view, bank in enumerate(banks):

        def fill(result, view=view, bank=bank):
            here = (views == view).reshape(1, 1, -1, *[1] * (x.ndim - 3))
            return jnp.where(here, apply(bank, x), result)

        result = lax.cond(needed[view], fill, lambda r: r, result)
    return result


def _inverse_norms(
    areas: Float[Array, "n b s s"], strips: Strips
) -> tuple[Float[Array, "n r b g c"], Bool[Array, "n r b g c"]]:
    """One over the length of each 11x11 patch without its mean, and which patches are flat."""
    side = areas.shape[-1]
    offset = np.arange(side)[:, None] - np.arange(side - SUPPORT + 1)
    band = ((offset >= 0) & (offset < SUPPORT)).astype(areas.dtype)
    both = jnp.stack([areas, areas * areas])
    across = jnp.einsum("cnbyx,xq->cnbyq", both, band, precision=_HIGHEST)
    # A product for each face: one of all would round the last faces' sums in another way, and what
    # is found in a face must not depend on its place.
    down = jnp.broadcast_to(band[:, strips.order.T], (areas.shape[1], side, *strips.order.T.shape))
    total, square = jnp.einsum("cnbyq,byrg->cnrbgq", across, down, precision=_HIGHEST)
    energy = square - total * total / SUPPORT**2
    flat = energy <= _FLAT * square
    return lax.rsqrt(jnp.where(flat, 1, energy)), flat
