"""Trains the action units of the model: heads for clips, and heads for single pictures.

In a clip what a person shows at rest is known and taken off; a single picture is judged by
itself, which is harder: a smile may be how the mouth always is. Both learn from landmarks as the
landmark model finds them, which is not quite where they are. Of each, the units that people of the
validation part show to be learnt well enough are kept; the others are not in the model.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ...analyze import ActionUnits, FaceAnalyser
from ...fit import CLNF, PDM
from ...models import write_module
from ..loop import draw_curves
from ..render import Sampler
from ._follow import FollowConfig, Follower
from ._heads import (
    HeadsConfig,
    UnitFit,
    correlation,
    f1_score,
    fit_units,
    pack_heads,
    targets,
    without_medians,
)
from ._labels import FULL, PRESENT, UNITS
from ._pictures import Faces, SeriesConfig, draw_series, measure_series

PART = "action_units"
# Least correlation, on the validation people, of a unit that is kept. What the landmark model makes
# of turned, spoilt and half-hidden faces costs much of it; clear clips are far better.
_GOOD = 0.6
_MODELS = {"video": True, "image": False}  # and whether what rest shows is taken off

Report = Callable[[str, int], None]


def _series(split: str, portraits: int, heads: int) -> SeriesConfig:
    return SeriesConfig(split=split, portraits=portraits, heads=heads)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActionUnitConfig:
    """How much data the heads are trained, chosen and measured on, and all settings."""

    series: tuple[SeriesConfig, SeriesConfig, SeriesConfig] = (
        _series("train", 560, 200),
        _series("validation", 70, 30),
        _series("test", 105, 60),
    )
    follow: FollowConfig = FollowConfig()
    heads: HeadsConfig = HeadsConfig()


def action_unit_config(*, seed: int = 0, share: float = 1.0) -> ActionUnitConfig:
    """The usual settings with another seed, or with a share of the pictures.

    Raises:
        ValueError: the share is not positive.
    """
    if not share > 0:
        raise ValueError(f"share: expected a positive number, got {share}")
    usual = ActionUnitConfig()
    series = [
        dataclasses.replace(
            config,
            portraits=max(int(share * config.portraits), 1),
            heads=max(int(share * config.heads), 1),
            seed=seed,
        )
        for config in usual.series
    ]
    return dataclasses.replace(usual, series=tuple(series))


def planned_series(config: ActionUnitConfig) -> int:
    """How much training will report, for a progress bar: each series drawn, then measured."""
    return 2 * sum(config.total for config in config.series)


def train_action_units(
    sampler: Sampler, clnf: CLNF, out: Path, config: ActionUnitConfig, report: Report
) -> Mapping[str, object]:
    """Trains and stores the heads; returns their figures.

    Args:
        clnf: the trained landmark model, without banks: heads learn from what it finds.
        out: folder of parts and cache.
        report: called with the name of a step and how many series are done.

    Raises:
        ValueError: a split has no registered people, or no unit was learnt.
    """
    pdm, follower = clnf.main.pdm, Follower(clnf, config.follow)
    train, validation, test = (
        measure_series(
            draw_series(
                sampler,
                out / "cache" / PART,
                series,
                progress=lambda done: report("pictures", done),
            ),
            pdm,
            follower,
            progress=lambda done: report("descriptors", done),
        )
        for series in config.series
    )
    fits = {
        name: fit_units(train, validation, pdm, config.heads, dynamic=dynamic)
        for name, dynamic in _MODELS.items()
    }
    analyser, figures = assemble_analyser(pdm, fits, train, test, config.heads)
    write_module(analyser, out / "parts" / f"{PART}.safetensors")
    _draw_curves(out / f"{PART}.png", fits, config.heads)
    path = out / "parts" / f"{PART}.json"
    path.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def assemble_analyser(
    pdm: PDM,
    fits: Mapping[str, Mapping[str, UnitFit]],
    train: Faces,
    test: Faces,
    config: HeadsConfig,
) -> tuple[FaceAnalyser, dict[str, object]]:
    """Keeps the units that validation shows to be learnt, and measures all on people held out.

    Args:
        fits: of "video" and "image", each with all units.
        train: gives the mean of the features.

    Raises:
        ValueError: no unit was learnt.
    """
    mean = train.features.mean(axis=0)
    packed: dict[str, ActionUnits] = {}
    figures: dict[str, object] = {}
    for name, dynamic in _MODELS.items():
        units = fits[name]
        kept = {unit: fit for unit, fit in units.items() if fit.curve.max() >= _GOOD}
        if not kept:
            raise ValueError(
                f"action units: expected a correlation of {_GOOD} for some, got it for none; "
                "train with more people or a larger share"
            )
        packed[name] = pack_heads(kept, mean, dynamic=dynamic, cutoff=config.cutoff)
        figures[name] = {
            "kept": sorted(kept),
            "left out": sorted(set(units) - set(kept)),
            "people held out": measure_units(units, test, dynamic=dynamic),
        }
    return FaceAnalyser(pdm=pdm, video=packed["video"], image=packed["image"]), figures


def measure_units(
    fits: Mapping[str, UnitFit], faces: Faces, *, dynamic: bool
) -> dict[str, dict[str, float]]:
    """Figures by unit: correlation with the exact intensity, and how well presence is told."""
    rows = without_medians(faces) if dynamic else faces.features
    wanted = np.clip(targets(faces, dynamic=dynamic), 0, FULL)
    drawn = faces.person < 0
    table = {}
    for u, unit in enumerate(UNITS):
        found, truth = fits[unit](rows), wanted[:, u]
        told, present = found > fits[unit].threshold, truth >= PRESENT
        figures = {
            "r": correlation(found, truth),
            "r portraits": correlation(found[~drawn], truth[~drawn]),
            "r heads": correlation(found[drawn], truth[drawn]),
            "mean error": float(np.abs(found - truth).mean()),
            "F1": f1_score(told, present),
            "accuracy": float((told == present).mean()),
            "present": float(present.mean()),
        }
        table[unit] = {name: round(value, 3) for name, value in figures.items()}
    return table


def _draw_curves(
    path: Path, fits: Mapping[str, Mapping[str, UnitFit]], config: HeadsConfig
) -> None:
    """Correlations on the validation people over the penalties."""
    panels = {
        name: {unit: fit.curve for unit, fit in units.items()} for name, units in fits.items()
    }
    marks = ", ".join(f"{penalty:g}" for penalty in config.penalties)
    labels = (f"number of the penalty: {marks}", "correlation on validation people")
    draw_curves(path, panels, labels=labels)
