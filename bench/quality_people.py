"""Held-out people: their photographs, and the same people seen anew."""

import dataclasses
import functools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import jaxface
from jaxface.reference.comparison.figures import Figure
from jaxface.training import (
    CONDITIONS,
    PictureConfig,
    SampleConfig,
    Sampler,
    as_reported,
    draw_pictures,
    load_sampler,
    load_sources,
    pair_up,
    picture_faces,
    score_detector,
)
from jaxface.training.landmarks import REGIONS, outer_eye_distance

from .quality import Context, draw_points, save_sheet

_RENDERED = 300  # pictures
_YAWS = ((0, 15, 5.0), (15, 30, 5.0), (30, 45, 5.0), (45, 60, 8.0))  # degrees, and the bound
_SEED = 2
_SHIFT, _STRETCH = 0.04, 0.06  # of boxes, of their size: standard deviations


def _data() -> Path:
    root = Path(__file__).resolve().parents[1]
    return Path(os.environ.get("JAXFACE_SHARED", root.parent / "shared")) / "training"


@functools.cache
def _sampler(work: Path) -> Sampler:
    return load_sampler(_data(), work / "registration")


def _people(context: Context) -> np.ndarray:
    people = _sampler(context.work).tools.portraits.split["test"]
    return people[:: 5 if context.quick else 1]


@dataclasses.dataclass
class _Found:
    """Faces of photographs, those found."""

    people: list[int] = dataclasses.field(default_factory=list)
    landmarks: list[np.ndarray] = dataclasses.field(default_factory=list)
    confidence: list[float] = dataclasses.field(default_factory=list)
    turn: list[np.ndarray] = dataclasses.field(default_factory=list)
    false: int = 0
    believed: int = 0  # false faces that the validator accepts


def photograph_measures(context: Context) -> Iterator[Figure]:
    """Whole pipeline on unchanged photographs: detection, landmarks, confidence."""
    sampler, people = _sampler(context.work), _people(context)
    portraits = sampler.tools.portraits
    head = sampler.tools.head
    labels = {int(p): as_reported(sampler.registered[int(p)], head) for p in people}
    found = _analyse(context, sampler, people, labels)
    about = context.subject(f"{len(people)} photographs held out")
    yield about.at_least("faces found, %", 99, 100 * len(found.people) / len(people))
    yield about.at_most("false faces per 100 images", 1, 100 * found.false / len(people))
    yield about.plain("of these accepted by the validator", 100 * found.believed / len(people))
    landmarks, who = np.stack(found.landmarks), found.people
    mesh = portraits.mesh[who][:, portraits.mesh_to_68, :2]
    registered = np.stack([labels[p] for p in who])
    errors = _percent(landmarks, registered)
    yield about.at_most("landmarks, mean, % of the eye distance", 3.0, errors.mean())
    worst = np.percentile(errors.mean(1), 95)
    yield about.at_most("landmarks, 95 % of the faces under, %", 5.0, worst)
    for name, points in REGIONS.items():
        yield about.plain(f"landmarks, {name}, %", errors[:, points].mean())
    raw = _percent(landmarks, mesh)
    yield about.plain("against the raw mesh labels, mean, %", raw.mean())
    yield about.plain("against them, 95 % of the faces under, %", np.percentile(raw.mean(1), 95))
    for name, points in REGIONS.items():
        yield about.plain(f"against them, {name}, %", raw[:, points].mean())
    good = np.array(found.confidence)[errors.mean(1) < 5]
    yield about.plain("confidence of good fits, median", np.median(good) if len(good) else 0)
    yield about.plain("good fits accepted, %", _mean(100.0 * (good > _boundary(context))))
    if context.overlays:
        order = np.argsort(errors.mean(1))
        shown = [*order[:6], *order[len(order) // 2 :][:6], *order[-12:]]
        tiles = [draw_points(portraits.image(who[i]), landmarks[i], registered[i]) for i in shown]
        save_sheet(context.overlays / f"{context.name}-photographs.png", tiles)


def _analyse(
    context: Context, sampler: Sampler, people: np.ndarray, labels: dict[int, np.ndarray]
) -> _Found:
    config = jaxface.default_config(context.model, static_action_units=True)
    found = _Found()
    for person in people.tolist():
        analysis = jaxface.analyze_image(
            context.model, sampler.tools.portraits.image(person), config=config
        )
        points = analysis.landmarks
        boxes = np.concatenate([points.min(1), points.max(1)], axis=1) if len(points) else points
        truth = labels[person]
        pairs = pair_up(boxes.reshape(-1, 4), np.concatenate([truth.min(0), truth.max(0)])[None])
        false = np.delete(analysis.success, [row for row, _, _ in pairs])
        found.false += len(false)
        found.believed += int(false.sum())
        for row, _, _ in pairs:
            found.people.append(person)
            found.landmarks.append(points[row])
            found.confidence.append(float(analysis.confidence[row]))
            found.turn.append(analysis.head_pose[row, 3:])
    return found


def _boundary(context: Context) -> float:
    """Confidence from which a fit is accepted."""
    return context.model.clnf.config.validation_boundary


def _mean(values: np.ndarray) -> float:
    """Mean, 0 of none."""
    return float(values.mean()) if len(values) else 0.0


def _percent(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Errors (f, 68), % of the eye distance."""
    return 100 * np.linalg.norm(found - wanted, axis=-1) / outer_eye_distance(wanted)[:, None]


def rendered_measures(context: Context) -> Iterator[Figure]:
    """Held-out people seen anew, spoilt pictures among them, from a box that is a little off."""
    count = 60 if context.quick else _RENDERED
    pictures = draw_pictures(
        _sampler(context.work),
        context.work / "cache" / "pictures",
        PictureConfig(split="test", count=count, seed=_SEED, sample=SampleConfig(size=256)),
    )
    pictures = dataclasses.replace(
        pictures, landmarks=picture_faces(pictures, _sampler(context.work).tools.head).landmarks
    )
    rng = np.random.default_rng(_SEED)
    config = jaxface.default_config(context.model, static_action_units=True)
    distance = outer_eye_distance(pictures.landmarks_3d) * pictures.scale
    errors, confidence, fitted = [], [], []
    for gray, points, visible, whole in zip(
        pictures.gray, pictures.landmarks, pictures.visible, distance, strict=True
    ):
        box = _around(points, rng)
        image = np.repeat(gray[..., None], 3, axis=2)
        found = jaxface.analyze_image(context.model, image, boxes=box[None], config=config)
        missed = np.linalg.norm(found.landmarks[0] - points, axis=1)[visible]
        errors.append(100 * missed.mean() / whole)
        confidence.append(found.confidence[0])
        fitted.append(found.landmarks[0])
    errors, confidence = np.array(errors), np.array(confidence)
    yaw = np.abs(np.degrees(pictures.rotation[:, 1]))
    for low, high, bound in _YAWS:
        rows = (yaw >= low) & (yaw < high + (high == _YAWS[-1][1]))
        about = context.subject(f"people held out, seen anew, yaw {low} to {high} degrees")
        yield about.at_most("landmarks, mean, % of the eye distance", bound, errors[rows].mean())
        yield about.plain("landmarks, median, %", np.median(errors[rows]))
        yield about.plain("faces over 10 %, %", 100 * np.mean(errors[rows] > 10))
    about = context.subject("people held out, seen anew")
    accepted = 100.0 * (confidence > _boundary(context))
    yield about.plain("good fits (< 5 %) accepted, %", _mean(accepted[errors < 5]))
    yield about.plain("bad fits (> 10 %) accepted, %", _mean(accepted[errors > 10]))
    if context.overlays:
        order = np.argsort(errors)
        shown = [*order[len(order) // 2 :][:6], *order[-30:]]
        tiles = [
            draw_points(
                np.repeat(pictures.gray[i][..., None], 3, axis=2),
                fitted[i],
                pictures.landmarks[i],
                256,
            )
            for i in shown
        ]
        save_sheet(context.overlays / f"{context.name}-rendered.png", tiles)


def _around(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Box around landmarks, moved and stretched at random."""
    low, high = points.min(0), points.max(0)
    size, middle = high - low, (low + high) / 2
    middle = middle + _SHIFT * size * rng.normal(size=2)
    half = size * np.exp(_STRETCH * rng.normal(size=2)) / 2
    return np.concatenate([middle - half, middle + half]).astype(np.float32)


def spoilt_measures(context: Context) -> Iterator[Figure]:
    """The detector on photographs spoilt one way at a time."""
    sampler, people = _sampler(context.work), _people(context)
    sources = load_sources(sampler.tools, people, 0, context.work)
    config = dataclasses.replace(jaxface.default_config(context.model).detect, min_face_size=30.0)
    for name, spoil in CONDITIONS.items():
        score = score_detector(context.model.detector, sources, spoil, config=config)
        about = context.subject(f"detector, held out, {name}")
        if score.faces:
            yield about.plain("faces found, %", 100 * score.rate)
        yield about.plain("false faces per 100 pictures", score.false_per_100)
