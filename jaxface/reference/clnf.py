"""One landmark detection from given parameters in float64: main fit, parts, merge, validation."""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from . import pdm as models
from . import response_maps, rlms, validator
from .experts import Experts

Floats = NDArray[np.floating]


@dataclasses.dataclass(frozen=True)
class LandmarkModel:
    pdm: models.PDM
    experts: list[Experts]  # coarse to fine


@dataclasses.dataclass(frozen=True)
class Config:
    windows: tuple[int, ...]  # per scale; 0 skips it
    settings: rlms.Settings
    refine: bool  # adapt the settings to the scale


@dataclasses.dataclass(frozen=True)
class Part:
    model: LandmarkModel
    config: Config
    main_points: tuple[int, ...]
    part_points: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Fit:
    parameters: models.Parameters
    landmarks: Floats
    likelihood: float
    completed: bool  # false when the face is too small


@dataclasses.dataclass(frozen=True)
class Detection:
    fit: Fit  # after the parts are merged
    parts: list[Fit]
    certainty: float
    success: bool


def scale_settings(config: Config, experts: list[Experts], index: int) -> rlms.Settings:
    """Settings of one scale: specification 02, D.1."""
    if not config.refine:
        return config.settings
    level = math.log2(experts[min(index, 2)].scale / 0.25)
    regularisation = config.settings.regularisation - 15 * level
    return dataclasses.replace(
        config.settings,
        regularisation=regularisation if regularisation > 0 else 0.001,
        sigma=config.settings.sigma + 0.25 * level,
        weight_factor=config.settings.weight_factor * (1 + 2 * level),
    )


def prepare_scale(
    model: LandmarkModel, gray: NDArray, parameters: models.Parameters, index: int, window: int
) -> rlms.Scale:
    """Responses around the current landmarks: C.1 to C.7."""
    experts = model.experts[index]
    landmarks = models.shape_2d(model.pdm, parameters)
    frontal = models.Parameters(experts.scale, np.zeros(3), np.zeros(2), parameters.local)
    reference = models.shape_2d(model.pdm, frontal)
    to_reference, to_image = response_maps.align_to_reference(landmarks, reference)
    view = response_maps.nearest_view(parameters.rotation.astype(np.float32), experts.centres)
    responses = np.zeros((len(landmarks), window, window))
    for i, landmark in enumerate(landmarks):
        if experts.visible[view, i]:
            area = response_maps.area_of_interest(
                gray, landmark.astype(np.float32), to_image.astype(np.float32), window
            )
            responses[i] = experts.response(area, view, i)
    return rlms.Scale(
        responses=responses,
        visible=experts.visible[view],
        confidence=experts.confidence[view],
        base=landmarks,
        to_reference=to_reference,
        to_image=to_image,
    )


def fit(model: LandmarkModel, gray: NDArray, start: models.Parameters, config: Config) -> Fit:
    """Coarse to fine, a rigid and a non-rigid pass at each scale: D.2."""
    parameters, likelihood, completed = start, -10.0, True
    windows = config.windows[: len(model.experts)]
    for index, window in enumerate(windows):
        if window == 0:
            continue
        scale = prepare_scale(model, gray, parameters, index, window)
        settings = scale_settings(config, model.experts, index)
        parameters, _ = rlms.optimise(model.pdm, parameters, scale, settings, rigid=True)
        rigid_scale = parameters.scale
        parameters, positions = rlms.optimise(model.pdm, parameters, scale, settings, rigid=False)
        last = index == len(windows) - 1 or windows[index + 1] == 0
        if last or rigid_scale < 0.30:
            likelihood = rlms.likelihood(positions, scale, settings.sigma)
        if parameters.scale < 0.25:
            completed = False
            break
    return Fit(parameters, models.shape_2d(model.pdm, parameters), likelihood, completed)


def fit_part(part: Part, gray: NDArray, main: Fit) -> Fit:
    """A part, from the main model's landmarks: D.5, step 2."""
    points = np.zeros((len(part.model.pdm.mean_shape), 2))
    points[list(part.part_points)] = main.landmarks[list(part.main_points)]
    start = models.fit_to_landmarks(part.model.pdm, points)
    if main.parameters.scale > 0.9 * part.model.experts[0].scale:
        return fit(part.model, gray, start, part.config)
    return Fit(start, models.shape_2d(part.model.pdm, start), -10.0, True)


def detect_landmarks(
    model: LandmarkModel,
    parts: list[Part],
    views: list[validator.View],
    gray: NDArray,
    start: models.Parameters,
    config: Config,
) -> Detection:
    """Main fit, parts, merge and validation: D.5."""
    main = fit(model, gray, start, config)
    part_fits = [fit_part(part, gray, main) for part in parts]
    final = main
    if any(main.parameters.scale > 0.9 * part.model.experts[0].scale for part in parts):
        merged = main.landmarks.copy()
        for part, found in zip(parts, part_fits, strict=True):
            merged[list(part.main_points)] = found.landmarks[list(part.part_points)]
        parameters = models.fit_to_landmarks(model.pdm, merged)
        landmarks = models.shape_2d(model.pdm, parameters)
        final = dataclasses.replace(main, parameters=parameters, landmarks=landmarks)
    if not main.completed:
        return Detection(final, part_fits, 0.0, False)
    rotation = final.parameters.rotation
    certainty = validator.certainty(views, gray, final.landmarks, rotation)
    return Detection(final, part_fits, certainty, bool(certainty > np.float32(0.725)))
