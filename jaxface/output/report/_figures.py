"""Figures of one result and of cohorts of them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .._about import Stored
from .._rows import Table
from ._asymmetry import MEASURES, asymmetry
from ._events import Event, blink_source, find_events, frame_time

_MOST_FACES = 8  # of which a report tells


class Spread(NamedTuple):
    """Mean and standard deviation of the values that there are; NaN where they say nothing."""

    size: int
    mean: float
    sd: float  # with one degree of freedom less


class UnitFigures(NamedTuple):
    """One action unit, over the frames with a face."""

    name: str
    intensity: Spread  # 0 to 5; of no value where the model gives none
    present: float  # share of the frames; NaN where the model gives none


class AsymmetryFigures(NamedTuple):
    """One of `MEASURES`, over the frames with a face."""

    key: str
    spread: Spread  # mm
    yaw: float  # correlation with the head's turn; NaN where it hardly turns


class FaceFigures(NamedTuple):
    """One face of a result."""

    face: int
    frames: int
    found: int  # frames with the face
    seconds: float  # with the face in sight
    confidence: float  # mean over frames with the face
    blinks_by: str | None  # see `blink_source`
    events: tuple[Event, ...]
    units: tuple[UnitFigures, ...]
    asymmetry: tuple[AsymmetryFigures, ...]

    @property
    def success(self) -> float:
        """Share of the frames in which the face was found."""
        return self.found / self.frames if self.frames else math.nan

    def count(self, kind: str) -> int:
        """How many events of a kind there are."""
        return sum(event.kind == kind for event in self.events)

    def per_minute(self, kind: str) -> float:
        """Events in a minute with the face in sight; NaN where there is no time, or none to see."""
        known = self.blinks_by is not None if kind != "smile" else self._has("AU12")
        return 60 * self.count(kind) / self.seconds if self.seconds > 0 and known else math.nan

    def _has(self, unit: str) -> bool:
        return any(u.name == unit and u.intensity.size for u in self.units)


def spread(values: Float[np.ndarray, " n"] | Sequence[float]) -> Spread:
    """Mean and standard deviation of what is finite."""
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return Spread(0, math.nan, math.nan)
    sd = float(known.std(ddof=1)) if len(known) > 1 else math.nan
    return Spread(len(known), float(known.mean()), sd)


def faces_of(result: Stored) -> dict[int, Table]:
    """The faces of a result, those seen most first, each with its rows in the order of time.

    Of a clip of several a face has a row for each frame, as one of a single face has.

    Returns:
        At most eight, by their numbers; one where no face was found.
    """
    table = result.table
    numbers, counts = np.unique(table.face_id[table.success], return_counts=True)
    order = np.lexsort((numbers, -counts))[:_MOST_FACES]
    chosen = [int(number) for number in numbers[order]]
    if not chosen and len(table):
        chosen = [int(table.face_id[0])]
    found = {}
    for number in chosen:
        rows = table[table.face_id == number]
        rows = rows[np.lexsort((rows.frame, rows.timestamp))]
        found[number] = _filled(rows, table) if result.about.kind == "multi_face" else rows
    return found


def _filled(face: Table, whole: Table) -> Table:
    """Rows for all frames of a clip of several faces, which has none of a face not found."""
    frames, places = np.unique(whole.frame, return_index=True)
    every = np.arange(frames[0], frames[-1] + 1)
    own, rows = np.unique(face.frame, return_index=True)
    before = np.maximum(np.searchsorted(own, every, side="right") - 1, 0)
    return dataclasses.replace(
        face[rows[before]],
        frame=every,
        timestamp=np.interp(every, frames, whole.timestamp[places]),
        success=face.success[rows[before]] & (own[before] == every),
    )


def face_figures(number: int, face: Table, result: Stored) -> FaceFigures:
    """The figures of one face.

    Args:
        number: of the face.
        face: its rows in the order of time.
        result: that it is one of.
    """
    kind, units = result.about.kind, result.about.units
    clip = kind != "image"
    found = int(face.success.sum())
    return FaceFigures(
        face=number,
        frames=len(face),
        found=found,
        seconds=found * frame_time(face.timestamp) if clip else 0.0,
        confidence=spread(face.confidence[face.success]).mean,
        blinks_by=blink_source(face, units) if clip else None,
        events=find_events(face, units) if clip else (),
        units=_unit_figures(face, result),
        asymmetry=_asymmetry_figures(face),
    )


def _unit_figures(face: Table, result: Stored) -> tuple[UnitFigures, ...]:
    units, seen = result.about.units, face.success
    names = sorted({*units.intensity, *units.presence})
    found = []
    for name in names:
        values, present = np.zeros(0), math.nan
        if name in units.intensity:
            values = face.au_intensity[seen, units.intensity.index(name)]
        if name in units.presence:
            present = spread(face.au_presence[seen, units.presence.index(name)]).mean
        found.append(UnitFigures(name, spread(values), present))
    return tuple(found)


def _asymmetry_figures(face: Table) -> tuple[AsymmetryFigures, ...]:
    values = asymmetry(face)
    if values is None:
        return ()
    yaw = face.rotation[:, 1].astype(np.float64)
    return tuple(
        AsymmetryFigures(measure.key, spread(column), _correlation(column, yaw))
        for measure, column in zip(MEASURES, values.T, strict=True)
    )


def _correlation(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    # Below half a degree the head stands still, and figures of noise remain.
    if len(a) < 3 or a.std() < 1e-6 or b.std() < np.radians(0.5):
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


class Named(NamedTuple):
    """The figures of a result's first face, with the result's name."""

    name: str
    kind: str  # of the result
    figures: FaceFigures
    faces: int


class Cohort(NamedTuple):
    """Results taken together: each counts once, however long it is."""

    name: str
    clips: int
    frames: int
    rows: tuple[tuple[str, str, Spread], ...]  # figure, its unit, over clips


def cohort_figures(name: str, results: Sequence[Named]) -> Cohort:
    """Mean and sd over results of the figures of each.

    Args:
        name: of the cohort.
        results: in it.
    """
    every = [result.figures for result in results]
    rows = [
        ("share of frames with the face", "%", spread([100 * f.success for f in every])),
        ("confidence", "", spread([f.confidence for f in every])),
        ("blinks", "per minute", spread([f.per_minute("blink") for f in every])),
        ("length of blinks", "ms", spread([_length(f, "blink") for f in every])),
        ("closed or lowered eyes", "per minute", spread([f.per_minute("closure") for f in every])),
        ("smiles", "per minute", spread([f.per_minute("smile") for f in every])),
        ("length of smiles", "s", spread([_length(f, "smile") / 1000 for f in every])),
    ]
    for measure in MEASURES:
        means = [a.spread.mean for f in every for a in f.asymmetry if a.key == measure.key]
        rows.append((f"asymmetry: {measure.name}", "mm", spread(means)))
    return Cohort(name, len(every), sum(f.frames for f in every), tuple(rows))


def _length(figures: FaceFigures, kind: str) -> float:
    """Mean length of the events that were seen whole, ms."""
    whole = [1000 * e.duration for e in figures.events if e.kind == kind and not e.cut]
    return float(np.mean(whole)) if whole else math.nan


class UnitOfCohort(NamedTuple):
    """One action unit over the results of a cohort."""

    name: str
    intensity: Spread  # of the means of the results
    present: Spread  # of the shares of the results


def unit_rows(results: Sequence[Named]) -> tuple[UnitOfCohort, ...]:
    """The action units of a cohort's results, by their names."""
    by_name: dict[str, list[UnitFigures]] = {}
    for result in results:
        for unit in result.figures.units:
            by_name.setdefault(unit.name, []).append(unit)
    return tuple(
        UnitOfCohort(
            name,
            spread([unit.intensity.mean for unit in found]),
            spread([unit.present for unit in found]),
        )
        for name, found in sorted(by_name.items())
    )


def group(
    results: Sequence[Named], cohorts: Mapping[str, str] | None
) -> tuple[dict[str, list[Named]], tuple[str, ...]]:
    """The results of each cohort, in the order of their names, and what does not fit.

    Args:
        results: by their names.
        cohorts: of each result by its name; None: there are none.
    """
    if cohorts is None:
        return {}, ()
    names = {result.name for result in results}
    notes = [f"{n}: in the list of cohorts, but no such result was given" for n in cohorts]
    notes = [note for note, name in zip(notes, cohorts, strict=True) if name not in names]
    notes += [f"{name}: in no cohort" for name in sorted(names) if name not in cohorts]
    grouped: dict[str, list[Named]] = {}
    for cohort in sorted({cohorts[name] for name in names if name in cohorts}):
        grouped[cohort] = [result for result in results if cohorts.get(result.name) == cohort]
    return grouped, tuple(notes)
