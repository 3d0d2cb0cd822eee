"""The report of a training: what was done, and every figure on people held out of it."""

import json
from collections.abc import Mapping

import numpy as np

from ...fit import AnyCLNF, prepare_clnf
from ..landmarks import (
    Errors,
    FaceSet,
    fit_faces,
    jittered_boxes,
    landmark_errors,
    photograph_faces,
    picture_faces,
)
from ..render import PictureConfig, SampleConfig, draw_pictures
from ._base import PARTS, BaseConfig, curve_files, seconds_of
from ._landmarks import Workplace

_RERENDERED = 300  # pictures of held-out people
_YAWS = (0, 15, 30, 45, 60)  # degrees; edges of the buckets
_SEED = 3


def training_report(place: Workplace, config: BaseConfig, clnf: AnyCLNF) -> str:
    """Markdown text of the report.

    Args:
        place: of a finished training.
        clnf: the assembled landmark model.
    """
    split = {s: len(place.sampler.of_split(s)) for s in ("train", "validation", "test")}
    people = ", ".join(f"{count} {name}" for name, count in split.items())
    lines = [
        "# How `base` was trained",
        "",
        f"Written by `jaxface train base`. Seed {config.seed}; people: {people}.",
        "",
        "| part | time, min |",
        "|---|---|",
        *(f"| {part} | {_minutes(place, part)} |" for part in PARTS),
        "",
        "## Landmarks of held-out people",
        "",
        "Fits start from the box around the true landmarks, moved and stretched at random. Errors",
        "are percent of the distance between the outer corners of the eyes.",
        "",
        *_landmark_table(place, clnf),
        "",
        "## Detector, on held-out people",
        "",
        (place.out / "parts" / "detector.md").read_text(),
        *(line for part in PARTS[1:] for line in _figures(place, part)),
        "## Loss curves",
        "",
        *(f"![{path.stem}](base-training/{path.name})" for path in curve_files(place)),
    ]
    return "\n".join(lines) + "\n"


def _minutes(place: Workplace, part: str) -> str:
    seconds = seconds_of(place, part)
    return "unknown" if seconds is None else f"{seconds / 60:.0f}"


def _landmark_table(place: Workplace, clnf: AnyCLNF) -> list[str]:
    test = place.sampler.of_split("test")
    if not len(test):
        return ["Nobody is held out."]
    prepared = prepare_clnf(clnf)
    photographs = photograph_faces(place.sampler, test)
    rows = {f"photographs ({len(test)})": _measure(prepared, photographs)}
    pictures = draw_pictures(
        place.sampler,
        place.out / "cache" / "pictures",
        PictureConfig(split="test", count=_RERENDERED, seed=2, sample=SampleConfig(size=256)),
    )
    drawn = picture_faces(pictures, place.sampler.tools.head)
    errors = _measure(prepared, drawn)
    for low, high in zip(_YAWS, _YAWS[1:], strict=False):
        chosen = (np.abs(drawn.yaw) >= low) & (np.abs(drawn.yaw) < high + (high == _YAWS[-1]))
        if chosen.any():
            some = Errors(errors.each[chosen], errors.confidence[chosen], errors.success[chosen])
            rows[f"re-rendered, yaw {low} to {high} ({chosen.sum()})"] = some
    names = list(next(iter(rows.values())).summary())
    table = [f"| faces | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for name, found in rows.items():
        figures = " | ".join(f"{value:.2f}" for value in found.summary().values())
        table.append(f"| {name} | {figures} |")
    return table


def _measure(clnf: AnyCLNF, faces: FaceSet) -> Errors:
    boxes = jittered_boxes(faces.landmarks, np.random.default_rng(_SEED))
    return landmark_errors(fit_faces(clnf, faces, boxes), faces)


def _figures(place: Workplace, part: str) -> list[str]:
    """What a part's training says about itself."""
    path = place.part(part).with_suffix(".json")
    if not path.is_file():
        return []
    figures = _flat(json.loads(path.read_text()))
    rows = [f"| {name} | {value} |" for name, value in figures.items()]
    title = f"## {part.capitalize()}, on what was held back"
    return [title, "", "| figure | |", "|---|---|", *rows, ""]


def _flat(figures: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Figures by their whole names."""
    found: dict[str, str] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}: ")
        elif isinstance(value, list):
            found[prefix + name] = ", ".join(_text(item) for item in value)
        else:
            found[prefix + name] = _text(value)
    return found


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
