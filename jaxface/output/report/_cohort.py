"""The report of several results: figures of each, of all and of cohorts."""

from collections.abc import Mapping, Sequence
from typing import Any

from .._about import Stored
from ._clip import asymmetry_words, event_rules, face_values
from ._figures import (
    Cohort,
    Named,
    UnitOfCohort,
    cohort_figures,
    face_figures,
    faces_of,
    group,
    unit_rows,
)
from ._page import Table, render
from ._plots import COLORS, UNIT_HEIGHT, check_bokeh, draw_cohorts, library
from ._texts import UNITS, number, percent, plural, plus_minus, to_json

_COHORT_HEAD = ("figure", "unit")
_MARKERS = ("●", "■", "▲", "◆")


def named(name: str, result: Stored) -> Named | None:
    """The figures of a result's first face, the one that is seen most.

    Args:
        name: of the result.
        result: its rows.
    Returns:
        None where it has no row.
    """
    faces = faces_of(result)
    if not faces:
        return None
    first = next(iter(faces))
    return Named(name, result.about.kind, face_figures(first, faces[first], result), len(faces))


def cohort_page(
    results: Sequence[Named],
    *,
    cohorts: Mapping[str, str] | None,
    skipped: Sequence[str],
    version: str,
) -> bytes:
    """The report of several results, as a page that needs no other file.

    Args:
        results: their figures.
        cohorts: of results by their names; None: there are none.
        skipped: messages about results that could not be read.
        version: of jaxface.
    Raises:
        ModuleNotFoundError: bokeh is missing.
    """
    check_bokeh()
    groups, notes = group(results, cohorts)
    chosen = {"all results": results, **groups}
    found = [cohort_figures(name, some) for name, some in chosen.items()]
    units = [unit_rows(some) for some in chosen.values()]
    # Cohorts are compared with each other; all of them together are no cohort.
    shown = slice(1, None) if groups else slice(0, 1)
    drawn = draw_cohorts(found[shown], units[shown])
    page = {
        **_EMPTY,
        "title": _title(results),
        "lead": _lead(results, groups),
        "notes": [*(f"not read: {message}" for message in skipped), *notes],
        "tables": [_figures_table(found), _units_table(found, units)],
        "plots": _plots(found[shown], units[shown]) if drawn is not None else [],
        "folded": [_results_table(results, cohorts)],
        "rules": _rules(results),
    }
    plan = None
    if drawn is not None:
        plan = {"document": drawn.document, "roots": drawn.roots, "timed": False}
    return render(
        page,
        figures=_values(results, found, units, cohorts, version),
        plan=plan,
        library=library() if plan else "",
        version=version,
    )


# What only the report of a single result has.
_EMPTY: dict[str, Any] = {
    "faces": [],
    "timed": False,
    "film": None,
    "film_title": "",
    "film_note": "",
    "readouts": [],
    "meters": [],
    "plots_title": "Action units",
    "plots_words": "Means over results, each of which counts once, and one sd to both sides.",
    "asymmetry_words": [],
    "no_asymmetry": "",
    "record": None,
    "record_text": "",
}


def _title(every: Sequence[Named]) -> str:
    return plural(len(every), "result")


def _lead(every: Sequence[Named], groups: Mapping[str, Sequence[Named]]) -> str:
    frames = sum(result.figures.frames for result in every)
    words = [plural(frames, "frame")]
    if groups:
        words.append(plural(len(groups), "cohort"))
    return (
        ", ".join(words)
        + ". Of a result with several faces the one that is seen most counts. Each result counts "
        "once, however long it is: mean ± sd over results."
    )


def _figures_table(found: Sequence[Cohort]) -> Table:
    head = (*_COHORT_HEAD, *(cohort.name for cohort in found))
    rows = [
        ("results", "", *(str(cohort.clips) for cohort in found)),
        ("frames", "", *(str(cohort.frames) for cohort in found)),
    ]
    for index, (name, unit, _) in enumerate(found[0].rows):
        spreads = [cohort.rows[index][2] for cohort in found]
        if any(spread.size for spread in spreads):  # images have no blinks
            rows.append((name, unit, *map(plus_minus, spreads)))
    return Table("Mean ± sd over results", head, rows, texts=2)


def _units_table(found: Sequence[Cohort], units: Sequence[Sequence[UnitOfCohort]]) -> Table:
    head = ["unit", "name"]
    for cohort in found:
        head += [f"{cohort.name}: intensity", f"{cohort.name}: present, %"]
    by_name = [{unit.name: unit for unit in some} for some in units]
    rows = []
    for name in sorted({name for some in by_name for name in some}):
        cells = [name, UNITS.get(name, "")]
        for some in by_name:
            unit = some.get(name)
            if unit is None:
                cells += ["–", "–"]
                continue
            present = unit.present._replace(mean=100 * unit.present.mean, sd=100 * unit.present.sd)
            cells += [plus_minus(unit.intensity), plus_minus(present, 1)]
        rows.append(tuple(cells))
    return Table("Action units, mean ± sd over results", tuple(head), rows, texts=2)


def _results_table(every: Sequence[Named], cohorts: Mapping[str, str] | None) -> Table:
    head = ["result"] + (["cohort"] if cohorts is not None else [])
    head += ["frames", "with the face", "confidence", "blinks", "a minute", "smiles", "a minute"]
    rows = []
    for result in every:
        f = result.figures
        cells = [result.name] + ([cohorts.get(result.name, "")] if cohorts is not None else [])
        cells += [str(f.frames), percent(f.success), number(f.confidence)]
        for kind in ("blink", "smile"):
            rate = f.per_minute(kind)
            cells += [str(f.count(kind)) if rate == rate else "–", number(rate, 1)]
        rows.append(tuple(cells))
    return Table("Each result", tuple(head), rows, texts=1 if cohorts is None else 2)


def _plots(
    found: Sequence[Cohort], units: Sequence[Sequence[UnitOfCohort]]
) -> list[dict[str, Any]]:
    """The plot of the action units; only as many cohorts are in it as there are colours."""
    names = {unit.name for some in units for unit in some if unit.intensity.size}
    curves = [
        {"name": f"{marker} {cohort.name}", "color": color, "dash": "solid"}
        for cohort, color, marker in zip(found, COLORS, _MARKERS, strict=False)
    ]
    more = len(found) - len(curves)
    words = "Intensity, 0 to 5." + (
        f" {plural(more, 'cohort')} more in the table." if more > 0 else ""
    )
    height = UNIT_HEIGHT * len(names) + 46
    return [
        {
            "key": "units",
            "title": "Intensity",
            "unit": "",
            "curves": curves,
            "words": words,
            "height": height,
        }
    ]


def _rules(every: Sequence[Named]) -> list[str]:
    sources = {result.figures.blinks_by for result in every}
    lines: list[str] = []
    for source in ("AU45", "lids"):
        if source in sources:
            lines += event_rules(source)
    return [*dict.fromkeys(lines), *asymmetry_words()]


def _values(
    every: Sequence[Named],
    found: Sequence[Cohort],
    units: Sequence[Sequence[UnitOfCohort]],
    cohorts: Mapping[str, str] | None,
    version: str,
) -> dict[str, Any]:
    """The machine-readable block."""
    return {
        "format": 1,
        "jaxface": version,
        "results": [
            {
                "name": result.name,
                "cohort": (cohorts or {}).get(result.name),
                "kind": result.kind,
                "face": face_values(result.figures),
            }
            for result in every
        ],
        "cohorts": [
            {
                "name": cohort.name,
                "results": cohort.clips,
                "frames": cohort.frames,
                "figures": [
                    {"figure": name, "unit": unit, **to_json(value)}
                    for name, unit, value in cohort.rows
                ],
                "units": to_json(tuple(some)),
            }
            for cohort, some in zip(found, units, strict=True)
        ],
    }
