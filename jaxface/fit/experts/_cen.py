"""Response maps of convolutional expert network patches (CE-CLM)."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ...ops import extract_patches
from ._base import SUPPORT, AbstractPatchExperts
from ._ccnf import normalise_patches

_CALIBRATION = 1350.0  # of variances, on rendered heads: bench/uncertainty.py


class CENExperts(AbstractPatchExperts):
    """Convolutional expert network patches; `e` experts of their own, the rest by mirroring.

    Layer l maps `biases[l] + weights[l] @ x`; the first input is the constant 1, then the 121
    pixels in column-major order.
    """

    calibration: ClassVar[float] = _CALIBRATION
    scale: float = eqx.field(static=True)
    activations: tuple[str, ...] = eqx.field(static=True)  # per layer: sigmoid, relu or none
    centres: Float[Array, "v 3"]
    visible: Bool[Array, "v n"]
    expert: Int[Array, "v n"]  # row of the tables below; 0 where invisible
    mirrored: Bool[Array, "v n"]  # run the expert on the flipped area and flip the map back
    confidence: Float[Array, "v n"]
    weights: tuple[Float[Array, "e _ _"], ...]  # e out in
    biases: tuple[Float[Array, "e _"], ...]

    def prepare(self, windows: frozenset[int]) -> "CENExperts":
        return self

    def laid_out(self) -> None:
        return None

    def responses(
        self, areas: Float[Array, "b n s s"], views: Int[Array, " b"]
    ) -> Float[Array, "b n w w"]:
        # One face after the other: the networks are too large to gather for all at once.
        return lax.map(lambda face: cen_responses(self, *face), (areas, views))

    def confidences(self, view: Int[Array, ""]) -> Float[Array, " n"]:
        return self.confidence[view]


def _odd_positions(window: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the positions that the network is run on, in column-major order."""
    linear = np.arange(1, window * window, 2)
    return linear % window, linear // window


def _fill_even(sparse: Float[Array, "w w"]) -> Float[Array, "w w"]:
    """Even positions become the mean of their neighbours inside the map."""
    window = sparse.shape[0]
    row, column = np.indices((window, window))
    odd = (row + column) % 2 == 1
    neighbours = 4.0 - (row == 0) - (row == window - 1) - (column == 0) - (column == window - 1)
    padded = jnp.pad(sparse, 1)
    total = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return jnp.where(odd, sparse, total / neighbours.astype(total.dtype))


def _run_network(
    experts: CENExperts, index: Int[Array, ""], inputs: Float[Array, "121 q"]
) -> Float[Array, " q"]:
    hidden = jnp.concatenate([jnp.ones_like(inputs[:1]), inputs])
    for activation, weights, biases in zip(
        experts.activations, experts.weights, experts.biases, strict=True
    ):
        weight = lax.dynamic_index_in_dim(weights, index, 0, keepdims=False)
        bias = lax.dynamic_index_in_dim(biases, index, 0, keepdims=False)
        hidden = jnp.dot(weight, hidden, precision=lax.Precision.HIGHEST) + bias[:, None]
        if activation == "sigmoid":
            hidden = jax.nn.sigmoid(hidden)
        elif activation == "relu":
            hidden = jax.nn.relu(hidden)
    return hidden[0]


def cen_responses(
    experts: CENExperts, areas: Float[Array, "n s s"], view: Int[Array, ""]
) -> Float[Array, "n w w"]:
    """Response maps of all landmarks in one view; zeros where a landmark is invisible.

    The networks run on every second position; a mirrored expert sees the flipped area and its
    map is flipped back. Landmarks are scanned, since each has weights of its own that are too
    large to gather for all of them at once.

    Args:
        areas: areas of interest, 0 to 255.
        view: index of the view.
    Reference:
        Zadeh et al. 2017; specification 02, C.7.
    """

    def one(_, landmark):
        area, index, mirrored = landmark
        area = jnp.where(mirrored, area[:, ::-1], area)
        patches = normalise_patches(extract_patches(area[None], SUPPORT))[0]
        window = patches.shape[-1]
        rows, columns = _odd_positions(window)
        values = _run_network(experts, index, patches[:, rows, columns])
        response = _fill_even(jnp.zeros((window, window), area.dtype).at[rows, columns].set(values))
        return None, jnp.where(mirrored, response[:, ::-1], response)

    landmarks = (areas, experts.expert[view], experts.mirrored[view])
    responses = lax.scan(one, None, landmarks)[1]
    return jnp.where(experts.visible[view][:, None, None], responses, 0)
