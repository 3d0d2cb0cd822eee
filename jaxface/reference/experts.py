"""The three kinds of patch expert as tables over view and landmark, one object per scale."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from . import response_maps

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Experts:
    scale: float  # px per mm of the reference frame
    centres: Floats  # (v, 3) pitch yaw roll, rad
    visible: Bools  # (v, n)
    confidence: Floats  # (v, n)

    def response(self, area: Floats, view: int, landmark: int) -> Floats:
        """Response map (window, window) of one landmark to its area."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class CCNF(Experts):
    component_windows: tuple[int, ...]
    weights: Floats  # (v, n, k, 11, 11)
    bias: Floats  # (v, n, k)
    alpha: Floats
    beta: Floats  # (v, n, b)

    def response(self, area: Floats, view: int, landmark: int) -> Floats:
        window = len(area) - response_maps.SUPPORT + 1
        own = view, landmark
        sigma = response_maps.ccnf_sigma(
            window,
            self.alpha[own],
            self.beta[own],
            with_components=window in self.component_windows,
        )
        return response_maps.ccnf_response(
            area, self.weights[own], self.bias[own], self.alpha[own], sigma
        )


@dataclasses.dataclass(frozen=True)
class SVR(Experts):
    weights: Floats  # (v, n, 2, 11, 11)
    scaling: Floats  # (v, n, 2)
    bias: Floats

    def response(self, area: Floats, view: int, landmark: int) -> Floats:
        own = view, landmark
        return response_maps.svr_response(
            area, self.weights[own], self.scaling[own], self.bias[own]
        )


@dataclasses.dataclass(frozen=True)
class CEN(Experts):
    activations: tuple[str, ...]
    expert: NDArray[np.integer]  # (v, n), row of the layers' tables
    mirrored: Bools  # (v, n)
    layers: list[tuple[Floats, Floats]]  # weights (e out in), biases (e out)

    def response(self, area: Floats, view: int, landmark: int) -> Floats:
        row = self.expert[view, landmark]
        return response_maps.cen_response(
            area,
            [(weight[row], bias[row]) for weight, bias in self.layers],
            self.activations,
            mirrored=bool(self.mirrored[view, landmark]),
        )
