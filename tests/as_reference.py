"""Converts the package's Modules to the plain inputs of `jaxface.reference`."""

import numpy as np

from jaxface.fit import (
    CLNF,
    PDM,
    AbstractPatchExperts,
    CCNFExperts,
    CENExperts,
    LandmarkModel,
    SVRExperts,
    Validator,
)
from jaxface.reference import clnf, experts, pdm, rlms, validator


def float64(array) -> np.ndarray:
    return np.asarray(array).astype(np.float64)


def make_pdm(module: PDM) -> pdm.PDM:
    return pdm.PDM(
        float64(module.mean_shape), float64(module.components), float64(module.eigenvalues)
    )


def make_experts(module: AbstractPatchExperts) -> experts.Experts:
    assert isinstance(module, CCNFExperts | SVRExperts | CENExperts)
    confidence = float64(module.confidence)
    common = (module.scale, float64(module.centres), np.asarray(module.visible))
    if isinstance(module, CCNFExperts):
        return experts.CCNF(
            *common,
            confidence,
            component_windows=module.component_windows,
            weights=float64(module.weights),
            bias=float64(module.bias),
            alpha=float64(module.alpha),
            beta=float64(module.beta),
        )
    if isinstance(module, SVRExperts):
        return experts.SVR(
            *common,
            confidence.sum(axis=-1),
            weights=float64(module.weights),
            scaling=float64(module.scaling),
            bias=float64(module.bias),
        )
    assert isinstance(module, CENExperts)
    return experts.CEN(
        *common,
        confidence,
        activations=module.activations,
        expert=np.asarray(module.expert),
        mirrored=np.asarray(module.mirrored),
        layers=[
            (float64(w), float64(b)) for w, b in zip(module.weights, module.biases, strict=True)
        ],
    )


def make_model(module: LandmarkModel) -> clnf.LandmarkModel:
    return clnf.LandmarkModel(make_pdm(module.pdm), [make_experts(e) for e in module.experts])


def make_parts(module: CLNF) -> dict[str, clnf.Part]:
    parts = {}
    for part in module.parts:
        settings = rlms.Settings(
            regularisation=part.config.regularisation,
            sigma=part.config.sigma,
            weight_factor=part.config.weight_factor,
            iterations=part.config.iterations,
        )
        config = clnf.Config(windows=part.config.windows, settings=settings, refine=False)
        model = make_model(part.model)
        parts[part.name] = clnf.Part(model, config, part.main_points, part.part_points)
    return parts


def make_views(module: Validator) -> list[validator.View]:
    views, warp = [], module.warp
    for v in range(len(warp.centres)):
        numbers = iter(
            [(float64(w)[v], float64(b)[v]) for w, b in zip(module.weights, module.biases)]
        )
        layers = []
        for name in module.layers:
            weight, bias = next(numbers) if name in ("conv", "fc") else (np.zeros(0), np.zeros(0))
            layers.append((name, weight, bias))
        views.append(
            validator.View(
                centre=float64(warp.centres[v]),
                mean=float64(warp.mean[v]),
                std=float64(warp.std[v]),
                mask=np.asarray(warp.mask[v]),
                min_x=float(warp.min_x[v]),
                min_y=float(warp.min_y[v]),
                triangles=np.asarray(warp.triangles[v]),
                triangle_id=np.asarray(warp.triangle_id[v]),
                alpha=np.asarray(warp.alpha[v]),
                beta=np.asarray(warp.beta[v]),
                layers=layers,
            )
        )
    return views
