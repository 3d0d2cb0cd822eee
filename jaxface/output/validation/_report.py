"""What a study found, as sections of text and tables that any format can show."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ._figures import SHARES, Spread, Summary, UnitFigures
from ._limits import LIMITS, Miss, is_upper
from ._study import Scope, Study

_HEAD = ("values", "mean", "median", "sd", "p95", "p99", "max")
_PERCENT = "Landmarks, % of the outer eye corners' distance"
_RECORDS = (
    "ms per frame are totals from the records (.run.json) beside the files, which hold no times of "
    "single frames: their figures are over clips, each of which counts once."
)
_ROWS = ("frame and face in both", "only in A", "only in B")
_FOUND = ("face in both", "face only in A", "face only in B")


class Table(NamedTuple):
    """A table of texts."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Section(NamedTuple):
    """A heading with what stands under it."""

    title: str
    lines: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    bullets: tuple[str, ...] = ()
    detail: bool = False  # that can be folded away


def report(
    study: Study, bounds: Mapping[str, float], misses: Sequence[Miss]
) -> tuple[Section, ...]:
    """The sections of a report: outcome, overview, then the figures of all, cohorts and clips.

    Args:
        study: what was compared.
        bounds: limits that were set.
        misses: those that do not hold.
    """
    # Of a single clip all figures are its own.
    scopes = (study.whole, *study.cohorts, *(study.clips if len(study.clips) > 1 else ()))
    return (
        _outcome(study, bounds, misses),
        *_said("Not compared", study.problems),
        *_said("Left out or unknown", study.notes),
        Section("Overview", _conventions(study), (_overview(study, scopes),)),
        *(
            _details(scope, first=i == 0, over="frames" if study.measured else "clips")
            for i, scope in enumerate(scopes)
            if scope.clips
        ),
    )


def _outcome(study: Study, bounds: Mapping[str, float], misses: Sequence[Miss]) -> Section:
    count = len(study.clips)
    clips = "1 clip" if count == 1 else f"{count} clips"
    problems = len(study.problems)
    failed = problems or misses
    words = [f"{len(misses)} missed" if misses else "limits hold" if bounds else "no limits set"]
    words += [f"{problems} not compared"] if problems else []
    line = f"{'FAILED' if failed else 'PASSED'}: {clips} compared, {', '.join(words)}."
    rows = study.whole.summary.rows
    if alone := rows.only_a + rows.only_b:
        line += f" {alone} of {rows.paired + alone} faces in frames stand in one of both alone."
    if not bounds:
        return Section("Validation of B against A", (line,))
    missed = {(miss.name, miss.scope): miss for miss in misses}
    found = []
    for name, bound in bounds.items():
        for scope in (study.whole, *study.cohorts):
            limit, miss = LIMITS[name], missed.get((name, scope.label))
            worst = miss.worst if miss is not None else None
            found.append(
                (
                    f"{limit.what}{f', {limit.unit}' if limit.unit else ''}",
                    scope.label,
                    _number(limit.of(scope.summary)),
                    f"{'at most' if is_upper(name) else 'at least'} {bound:g}",
                    "holds" if miss is None else "missed",
                    "" if worst is None else f"{worst[0]}: {_number(worst[1])}",
                )
            )
    head = ("limit", "of", "value", "bound", "outcome", "worst in")
    return Section("Validation of B against A", (line,), (Table("Limits", head, tuple(found)),))


def _said(title: str, lines: Sequence[str]) -> Iterator[Section]:
    if lines:
        yield Section(title, bullets=tuple(lines))


def _conventions(study: Study) -> tuple[str, ...]:
    frames = "All frames"
    if study.positions is not None:
        frames = f"The frames at {', '.join(f'{p:g}' for p in study.positions)} % of each clip"
    return (
        f"{frames}. A is the reference. Differences are of the faces that both have found. "
        "Boxes are those around the landmarks. sd is that of all values. A correlation is "
        "undefined where a series hardly changes (sd below 0.05), F1 where neither file has the "
        "unit.",
        *(study.measured or (_RECORDS,)),
    )


def _overview(study: Study, scopes: Sequence[Scope]) -> Table:
    head = ("of", "cohort", *_ROWS, *_FOUND, "agreement", "landmarks, px", "% of eyes' distance")
    head += ("box IoU", "head, mm", "head, deg", "gaze, deg", "units, mean error", "units, r")
    head += ("A, ms per frame", "B, ms per frame")
    return Table("Means", head, tuple(_overview_row(study, scope) for scope in scopes))


def _overview_row(study: Study, scope: Scope) -> tuple[str, ...]:
    found, rows = scope.summary, scope.summary.rows
    alone = scope in study.clips
    counts = (rows.paired, rows.only_a, rows.only_b)
    counts += (rows.success_both, rows.success_only_a, rows.success_only_b)
    means = (found.landmarks["all"].mean, found.landmarks_percent["all"].mean)
    means += (found.box_iou.mean, found.translation.mean, found.rotation.mean, found.gaze.mean)
    means += (found.unit_mean.mean_absolute, found.unit_mean.correlation)
    means += (scope.latency.a.mean, scope.latency.b.mean)
    cohort = study.cohort_of(scope.clips[0]).removeprefix("cohort ") if alone else ""
    return (
        scope.label,
        cohort,
        *map(str, counts),
        _number(rows.agreement),
        *map(_number, means),
    )


def _details(scope: Scope, *, first: bool, over: str) -> Section:
    found, latency = scope.summary, scope.latency
    tables = [
        _spreads("Landmarks, px", "region", found.landmarks),
        _spreads(_PERCENT, "region", found.landmarks_percent),
        _boxes(found),
        _spreads(
            "Differences of boxes, head pose and gaze",
            "figure",
            {
                "position of boxes, px": found.box_position,
                "width of boxes, px": found.box_width,
                "height of boxes, px": found.box_height,
                "translation of heads, mm": found.translation,
                "rotation of heads, deg": found.rotation,
                "angle of gaze, deg": found.gaze,
            },
        ),
        _units(found),
        _spreads(
            f"Analysis, ms per frame, over {over}",
            "result",
            {
                "A": latency.a,
                "B": latency.b,
                "A, processor time, over clips": latency.processor_a,
                "B, processor time, over clips": latency.processor_b,
            },
        ),
    ]
    title = scope.label[0].upper() + scope.label[1:]
    return Section(title, (), tuple(t for t in tables if t is not None and t.rows), (), not first)


def _spreads(title: str, what: str, found: Mapping[str, Spread]) -> Table | None:
    """A row for each, none for those without values."""
    rows = tuple(
        (name, str(s.size), *map(_number, (s.mean, s.median, s.sd, s.p95, s.p99, s.max)))
        for name, s in found.items()
        if s.size
    )
    return Table(title, (what, *_HEAD), rows) if rows else None


def _boxes(found: Summary) -> Table | None:
    iou = found.box_iou
    if not iou.size:
        return None
    head = ("agreement", "boxes", "IoU mean", "median", "sd", "min", "max")
    head += tuple(f"over {share:.2f}" for share in SHARES)
    shares = [found.box_shares[share] for share in SHARES]
    figures = [iou.mean, iou.median, iou.sd, iou.min, iou.max, *shares]
    row = (_number(found.rows.agreement), str(iou.size), *map(_number, figures))
    return Table("Boxes around the landmarks", head, (row,))


def _units(found: Summary) -> Table | None:
    if not found.units:
        return None
    head = ("unit", "r", "mean absolute difference", "same presence", "F1", "intensities")
    rows = tuple(_unit(unit) for unit in (*found.units, found.unit_mean))
    return Table("Action units", (*head, "presences"), rows)


def _unit(unit: UnitFigures) -> tuple[str, ...]:
    """A figure that is undefined although there are values says so."""

    def cell(value: float, count: int) -> str:
        return "undefined" if math.isnan(value) and count else _number(value)

    level, mark = unit.intensities, unit.presences
    figures = ((unit.correlation, level), (unit.mean_absolute, level))
    figures += ((unit.agreement, mark), (unit.f1, mark))
    return (unit.name, *(cell(*figure) for figure in figures), str(level), str(mark))


def _number(value: float) -> str:
    """Four digits, and no more decimals than they take; a dash for what there is not."""
    if math.isnan(value):
        return "–"
    if value == 0 or 1e-4 <= abs(value) < 1e5:
        decimals = 4 if abs(value) < 10 else 2 if abs(value) < 1000 else 1
        return f"{value:.{decimals}f}"
    return f"{value:.3g}"
