"""Comparisons of many clips, in cohorts."""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ...errors import InputError
from .._load import read_file
from ._comparison import Comparison, compare_stored
from ._figures import Spread, Summary, spread, summarize
from ._files import FilePair

_RECORD = ".run.json"


class Timing(NamedTuple):
    """How long an analysis took, ms per frame."""

    frames: Float[np.ndarray, " n"]  # of each frame; of records, which hold totals, one value
    processor: float = math.nan  # time of all cores together; NaN where it is not known


NO_TIMING = Timing(np.zeros(0))


class Clip(NamedTuple):
    """One pair of results."""

    pair: FilePair
    comparison: Comparison
    timing_a: Timing = NO_TIMING
    timing_b: Timing = NO_TIMING


class Latency(NamedTuple):
    """ms per frame of the analysis: over frames where it was measured, over clips of records."""

    a: Spread
    b: Spread
    processor_a: Spread  # over clips
    processor_b: Spread


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
        sides = [[c.timing_a for c in self.clips], [c.timing_b for c in self.clips]]
        frames = [np.concatenate([np.zeros(0), *(t.frames for t in side)]) for side in sides]
        known = [[t.processor for t in side if not math.isnan(t.processor)] for side in sides]
        return Latency(*map(spread, frames), *(spread(np.array(k, np.float64)) for k in known))


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """Everything that was compared, and what could not be."""

    whole: Scope
    cohorts: tuple[Scope, ...]
    clips: tuple[Scope, ...]  # of one clip each
    problems: tuple[str, ...]  # what should have been compared and was not
    notes: tuple[str, ...]
    positions: tuple[float, ...] | None
    measured: tuple[str, ...] = ()  # what was analysed for the study, and how; else files are read

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
        found.append(Clip(pair, comparison, _timing(pair.a), _timing(pair.b)))
    if not found:
        failed.append("no pair of files was compared")
    return make_study(found, failed, cohorts=cohorts, positions=positions)


def make_study(
    found: Sequence[Clip],
    problems: Sequence[str],
    *,
    cohorts: Mapping[str, str] | None,
    positions: Sequence[float] | None,
    measured: Sequence[str] = (),
) -> Study:
    """The study of clips that were compared.

    Args:
        found: the clips.
        problems: what was not compared.
        cohorts: of each clip by its name; None: there are none.
        positions: of the frames that were compared, % of each clip; None: all.
        measured: how the clips were analysed for it; of files nothing is known.
    """
    clips = tuple(Scope(f"clip {clip.pair.name}", (clip,)) for clip in found)
    groups, notes = _group(found, cohorts)
    return Study(
        whole=Scope("all clips" if len(found) != 1 else clips[0].label, tuple(found)),
        cohorts=groups,
        clips=clips,
        problems=tuple(problems),
        notes=(*notes, *(note for clip in found for note in _notes(clip))),
        positions=None if positions is None else tuple(positions),
        measured=tuple(measured),
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


def _timing(path: Path) -> Timing:
    """From the record beside a result, which holds the total alone: so a clip counts once."""
    try:
        record = json.loads(path.with_name(path.stem + _RECORD).read_bytes())
        mean = 1000 * float(record["seconds"]) / int(record["frames"])
    except (OSError, ValueError, LookupError, TypeError, ZeroDivisionError):
        return NO_TIMING
    return NO_TIMING if math.isnan(mean) else Timing(np.array([mean]))
