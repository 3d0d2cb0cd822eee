"""Comparisons of many clips, in cohorts."""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import InputError
from .._load import read_file
from ._comparison import Comparison, compare_stored
from ._figures import Spread, Summary, spread, summarize
from ._files import FilePair

_RECORD = ".run.json"


class Clip(NamedTuple):
    """One pair of files."""

    pair: FilePair
    comparison: Comparison
    speed_a: float  # ms per frame that the analysis took; NaN where no record says so
    speed_b: float


class Latency(NamedTuple):
    """ms per frame of the analysis. Records hold totals alone: each clip counts once."""

    a: Spread
    b: Spread


@dataclasses.dataclass(frozen=True, eq=False)
class Scope:
    """Clips that are taken together."""

    label: str
    clips: tuple[Clip, ...]

    @functools.cached_property
    def summary(self) -> Summary:
        """Their figures."""
        return summarize([clip.comparison for clip in self.clips])

    @functools.cached_property
    def latency(self) -> Latency:
        """How long their analysis took."""
        speeds = [[c.speed_a for c in self.clips], [c.speed_b for c in self.clips]]
        known = [np.array([v for v in some if not math.isnan(v)], np.float64) for some in speeds]
        return Latency(spread(known[0]), spread(known[1]))


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """Everything that was compared, and what could not be."""

    whole: Scope
    cohorts: tuple[Scope, ...]
    clips: tuple[Scope, ...]  # of one clip each
    problems: tuple[str, ...]  # what should have been compared and was not
    notes: tuple[str, ...]
    positions: tuple[float, ...] | None

    def cohort_of(self, clip: Clip) -> str:
        """Label of a clip's cohort, "" without one."""
        return next((scope.label for scope in self.cohorts if clip in scope.clips), "")


def run_study(
    pairs: Sequence[FilePair],
    problems: Sequence[str] = (),
    *,
    cohorts: Mapping[str, str] | None = None,
    positions: Sequence[float] | None = None,
) -> Study:
    """Compares pairs of files.

    Args:
        pairs: the files.
        problems: what has no partner, see `pair_files`.
        cohorts: of each clip by its name; None: there are none.
        positions: compares only the frames at these % of each clip; None: all.
    Returns:
        The figures. Files that cannot be read are among its problems.
    """
    found, failed = [], list(problems)
    for pair in pairs:
        try:
            stored = read_file(pair.a), read_file(pair.b)
        except InputError as error:
            failed.append(str(error))
            continue
        comparison = compare_stored(*stored, positions=positions)
        found.append(Clip(pair, comparison, _speed(pair.a), _speed(pair.b)))
    clips = tuple(Scope(f"clip {clip.pair.name}", (clip,)) for clip in found)
    groups, notes = _group(found, cohorts)
    if not found:
        failed.append("no pair of files was compared")
    return Study(
        whole=Scope("all clips" if len(found) != 1 else clips[0].label, tuple(found)),
        cohorts=groups,
        clips=clips,
        problems=tuple(failed),
        notes=(*notes, *(note for clip in found for note in _notes(clip))),
        positions=None if positions is None else tuple(positions),
    )


def _group(
    clips: Sequence[Clip], cohorts: Mapping[str, str] | None
) -> tuple[tuple[Scope, ...], list[str]]:
    """The cohorts in the order of their names, and what does not fit."""
    if cohorts is None:
        return (), []
    names = {clip.pair.name for clip in clips}
    unknown = [name for name in cohorts if name not in names]
    homeless = [name for name in sorted(names) if name not in cohorts]
    notes = [f"{name}: in the list of cohorts, but no such clip was compared" for name in unknown]
    notes += [f"{name}: in no cohort" for name in homeless]
    scopes = []
    for cohort in sorted({cohorts[name] for name in names if name in cohorts}):
        some = tuple(clip for clip in clips if cohorts.get(clip.pair.name) == cohort)
        scopes.append(Scope(f"cohort {cohort}", some))
    return tuple(scopes), notes


def _notes(clip: Clip) -> list[str]:
    """What of a clip was left out of the figures."""
    name, comparison = clip.pair.name, clip.comparison
    notes = [f"{name}: {group} not compared, {why}" for group, why in comparison.missing]
    for side, units in (("A", comparison.units_a), ("B", comparison.units_b)):
        for kind, alone, shared in zip(units._fields, units, comparison.units, strict=True):
            if alone and shared:
                notes.append(f"{name}: {kind} of {', '.join(alone)} only in {side}")
    summary = summarize([comparison])
    lost = {
        "distances of landmarks": summary.landmarks["all"].lost,
        "boxes": summary.box_iou.lost,
        "head poses": max(summary.translation.lost, summary.rotation.lost),
        "angles of gaze": summary.gaze.lost,
        "values of action units": summary.unit_mean.lost,
    }
    notes += [f"{name}: {count} {what} are no numbers" for what, count in lost.items() if count]
    return notes


def _speed(path: Path) -> float:
    """ms per frame, from the record beside a result; NaN where there is none."""
    try:
        record = json.loads(path.with_name(path.stem + _RECORD).read_bytes())
        return 1000 * float(record["seconds"]) / int(record["frames"])
    except (OSError, ValueError, LookupError, TypeError, ZeroDivisionError):
        return math.nan
