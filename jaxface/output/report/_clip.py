"""The report of one result."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .._about import Stored
from ._asymmetry import MEASURES
from ._events import APERTURE, BLINK, LONGEST_BLINK, SMILE
from ._figures import FaceFigures, face_figures, faces_of
from ._page import Film, Table, render
from ._plots import (
    COLORS,
    DASHES,
    HEIGHT,
    UNIT_HEIGHT,
    Drawn,
    check_bokeh,
    draw_clip,
    library,
    panels_of,
)
from ._series import LANE, Series, face_series, lanes_of
from ._texts import UNITS, flat, number, percent, plural, to_json

_KINDS = {"video": "Clip of one face", "multi_face": "Clip of several faces", "image": "Image"}
_EVENTS = {"blink": "blink", "closure": "closed or lowered eyes", "smile": "smile"}
_VALUES = (
    ("pitch, deg", "pitch", 1),
    ("yaw, deg", "yaw", 1),
    ("roll, deg", "roll", 1),
    ("gaze right, deg", "right", 1),
    ("gaze down, deg", "down", 1),
    ("distance, mm", "z", 0),
    ("confidence", "confidence", 2),
)
_NO_ASYMMETRY = (
    "Not measured: it takes 68 landmarks in two and three dimensions, with the parameters of the "
    "shape (columns x_0, Z_0, p_scale, p_rx and so on), which this result does not have."
)


class Subject(NamedTuple):
    """One result, with what is known about it."""

    name: str
    result: Stored
    record: Mapping[str, Any]  # of the run, as far as it is known
    film: Film | None
    notes: Sequence[str]  # what the reader must know


def clip_page(subject: Subject, *, version: str) -> bytes:
    """The report of one result, as a page that needs no other file.

    Args:
        subject: the result.
        version: of jaxface.
    Raises:
        ModuleNotFoundError: bokeh is missing.
    """
    check_bokeh()
    result = subject.result
    timed = result.about.kind != "image"
    tables = faces_of(result)
    figures = [face_figures(n, table, result) for n, table in tables.items()]
    series: list[Series] = []
    drawn: Drawn | None = None
    units = result.about.units
    if timed and figures:
        series = [face_series(n, table, units) for n, table in tables.items()]
        drawn = draw_clip(series, units, {f.face: f.events for f in figures})
    several = len(figures) > 1
    page = {
        "title": subject.name,
        "lead": _lead(subject, figures),
        "notes": subject.notes,
        "tables": [],
        "faces": [_face(f, timed, several) for f in figures],
        "timed": timed and drawn is not None,
        "film": subject.film,
        "film_title": "Clip" if timed else "Picture",
        "film_note": subject.film.note if subject.film else _no_film(timed),
        "readouts": [
            {"name": name, "column": column, "digits": digits}
            for name, column, digits in _VALUES
            if series and column in series[0].columns
        ],
        "meters": _meters(result, timed),
        "plots": _plots(series, drawn, result),
        "plots_title": "Over time",
        "plots_words": _plots_words(series),
        "asymmetry_words": asymmetry_words(timed),
        "no_asymmetry": _NO_ASYMMETRY,
        "record": _record(subject.record),
        "record_text": json.dumps(to_json(subject.record), indent=1) if subject.record else "",
        "folded": [],
        "rules": [],
    }
    plan = None
    if drawn is not None:
        plan = _plan(drawn, result, subject.film, series)
    return render(
        page,
        figures=_values(subject, figures, version),
        plan=plan,
        library=library() if plan else "",
        version=version,
    )


def _plan(
    drawn: Drawn, result: Stored, film: Film | None, series: Sequence[Series]
) -> dict[str, Any]:
    lanes = lanes_of(result.about.units)
    start = film.start if film is not None else float(series[0].columns["time"][0])
    return {
        "document": drawn.document,
        "roots": drawn.roots,
        "timed": True,
        "film_start": start,
        "bases": {lane.intensity: lane.base for lane in lanes if lane.intensity is not None},
        "lane": LANE,
    }


def _lead(subject: Subject, figures: Sequence[FaceFigures]) -> str:
    kind, table = subject.result.about.kind, subject.result.table
    words = [_KINDS[kind]]
    if kind == "image":
        words.append(plural(len(table), "face"))
    elif len(table):
        frames = int(table.frame.max())
        length = float(table.timestamp.max() - table.timestamp.min())
        words += [plural(frames, "frame"), f"{length:.1f} s"]
    if kind == "multi_face":
        count = len({*table.face_id.tolist()})
        shown = len(figures)
        words.append(plural(count, "face") + (f", {shown} of them here" if shown < count else ""))
    model = subject.record.get("model")
    if isinstance(model, Mapping) and model.get("name"):
        words.append(f"model {model['name']}")
    return ", ".join(words) + "."


def _no_film(timed: bool) -> str:
    what = "clip" if timed else "picture"
    return (
        f"The {what} was not found. Name it with --clip, or as video= in Python, to have it here."
    )


def _face(found: FaceFigures, timed: bool, several: bool) -> dict[str, Any]:
    label = f"face {found.face}: {percent(found.success)} of the frames"
    return {
        "label": label,
        "suffix": f" of face {found.face}" if several else "",
        "facts": _facts(found, timed),
        "timed": timed,
        "events": [
            {
                "kind": _EVENTS[e.kind],
                "start": repr(e.start),
                "from": number(e.start, 3),
                "to": number(e.end, 3),
                "length": number(e.duration, 3),
                "peak": number(e.peak, 2),
                "note": ", ".join(filter(None, (e.note, "not seen whole" if e.cut else ""))),
            }
            for e in found.events
        ],
        "events_caption": _counted(found),
        "no_events": "None were found." if found.blinks_by else "There is nothing to find them by.",
        "event_rules": event_rules(found.blinks_by),
        "units": _units(found) if timed else _units_of_image(found),
        "asymmetry": _asymmetry(found, timed),
    }


def _counted(found: FaceFigures) -> str:
    counts = [(found.count(kind), kind) for kind in _EVENTS]
    return ", ".join(
        plural(count, _EVENTS[kind], "closed or lowered eyes" if kind == "closure" else "")
        for count, kind in counts
        if count
    )


def _facts(found: FaceFigures, timed: bool) -> list[tuple[str, str, str]]:
    """Name, value and what is to be added to it."""
    if not timed:
        return [("confidence", number(found.confidence), "")]
    facts = [
        ("frames", str(found.frames), ""),
        ("with the face", percent(found.success), ""),
        ("mean confidence", number(found.confidence), ""),
    ]
    if found.blinks_by:
        rate = number(found.per_minute("blink"), 1)
        facts.append(("blinks", str(found.count("blink")), f"{rate} a minute"))
    smiles = found.per_minute("smile")
    if smiles == smiles:
        lasting = sum(e.duration for e in found.events if e.kind == "smile")
        facts.append(("smiles", str(found.count("smile")), f"{number(lasting, 1)} s in all"))
    return facts


def event_rules(blinks_by: str | None) -> list[str]:
    """In words, what makes an event."""
    rules = {
        "AU45": (
            f"Blinks, by AU45: consecutive frames of at least {BLINK.leave:g}, one of them of at "
            f"least {BLINK.enter:g}, for {1000 * BLINK.shortest:.0f} ms or more. What lasts longer "
            f"than {LONGEST_BLINK:g} s are closed or lowered eyes."
        ),
        "lids": (
            "Blinks, by the landmarks of the lids, as the model has no AU45: the opening of both "
            "eyes, ((p2 − p6) + (p3 − p5)) / (2 (p1 − p4)), over its median of the 2 s around, is "
            f"at least {100 * APERTURE.leave:.0f} % less than 1, in one frame at least "
            f"{100 * APERTURE.enter:.0f} %. What lasts longer than {LONGEST_BLINK:g} s are closed "
            "or lowered eyes."
        ),
    }
    return [
        *([rules[blinks_by]] if blinks_by else []),
        f"Smiles, by AU12: at least {SMILE.leave:g}, one frame of at least {SMILE.enter:g}, for "
        f"{SMILE.shortest:g} s or more; pauses of up to {SMILE.gap:g} s do not end one. With "
        "raised cheeks: the mean of AU06 meanwhile is at least 1.",
        "Frames without the face end an event; one that begins or ends there, or with the clip, "
        "was not seen whole. Rates are per minute with the face in sight.",
    ]


def _units(found: FaceFigures) -> Table | None:
    rows = [
        (
            unit.name,
            UNITS.get(unit.name, ""),
            number(unit.intensity.mean),
            number(unit.intensity.sd),
            percent(unit.present),
        )
        for unit in found.units
    ]
    head = ("unit", "name", "mean", "sd", "present")
    caption = "Intensity, 0 to 5, and share of frames, over the frames with the face"
    return Table(caption, head, rows, texts=2) if rows else None


def _units_of_image(found: FaceFigures) -> Table | None:
    said = {1.0: "yes", 0.0: "no"}
    rows = [
        (
            unit.name,
            UNITS.get(unit.name, ""),
            number(unit.intensity.mean),
            said.get(unit.present, "–"),
        )
        for unit in found.units
    ]
    head = ("unit", "name", "intensity", "present")
    return Table("Intensity, 0 to 5", head, rows, texts=2) if rows else None


def _asymmetry(found: FaceFigures, timed: bool) -> Table | None:
    names = {m.key: m for m in MEASURES}
    rows = [
        (
            names[a.key].name,
            number(a.spread.mean),
            *((number(a.spread.sd), number(a.yaw)) if timed else ()),
        )
        for a in found.asymmetry
    ]
    head = ("left of the picture is", "mean, mm", "sd, mm", "r with yaw")
    head = head if timed else (head[0], "mm")
    return Table("Left minus right of the picture, mm", head, rows) if rows else None


def asymmetry_words(timed: bool = True) -> list[str]:
    """What is measured, and what it is worth."""
    turned = "A figure that goes with the head's turn (r with yaw far from 0)"
    turned = turned if timed else "A figure of a turned head"
    return [
        "Landmarks are turned to the front: the fit's rotation R and scale s give "
        "Rᵀ((x − tx)/s, (y − ty)/s, Z), then the line between the eyes is made level. x is to the "
        "right of the picture, y down, mm; 0 is the middle between the eyes. A landmark is named "
        "by its number from 0. Of a symmetric face all figures are 0.",
        *(f"{m.name[0].upper()}{m.name[1:]}: {m.words}, {m.formula}." for m in MEASURES),
        "Left and right are those of the picture: the left of it is the right of a person who "
        "looks into the camera, unless the clip is mirrored.",
        f"{turned} tells of perspective or of the fit more than of the face.",
        "The shape model draws every face towards those that it has learnt from, and hides most of "
        "a palsy (notebooks/06_asymmetry.ipynb measures how much). Not for diagnosis.",
    ]


def _meters(result: Stored, timed: bool) -> list[dict[str, str]]:
    return [
        {"name": lane.name, "words": UNITS.get(lane.name, ""), "column": lane.intensity}
        for lane in lanes_of(result.about.units)
        if timed and lane.intensity is not None
    ]


def _plots(series: Sequence[Series], drawn: Drawn | None, result: Stored) -> list[dict[str, Any]]:
    if drawn is None:
        return []
    found: list[dict[str, Any]] = []
    if "units" in drawn.roots:
        words = (
            "A lane for each unit: intensity from 0 to 5, under it a bar where it is present. "
            "Yellow: events. Grey: no face."
        )
        lanes = len(lanes_of(result.about.units))
        height = UNIT_HEIGHT * lanes + 40
        common = {"key": "units", "title": "Action units", "unit": "", "curves": []}
        found.append({**common, "words": words, "height": height})
    for panel in panels_of(series):
        curves = [
            {"name": curve.name, "color": color, "dash": "dashed" if dash == "dashdot" else dash}
            for curve, color, dash in zip(panel.curves, COLORS, DASHES, strict=False)
        ]
        found.append({**panel._asdict(), "curves": curves, "height": HEIGHT})
    return found


def _plots_words(series: Sequence[Series]) -> str:
    words = "Time is in seconds. Press or drag in a plot to move the clip."
    if series and series[0].stride > 1:
        words += (
            f" A point stands for {series[0].stride} frames: the largest of their intensities, of "
            "everything else the middle frame."
        )
    return words


def _record(record: Mapping[str, Any]) -> Table | None:
    """The first things that one wants to know; the rest is in the whole record."""
    wanted = ["jaxface", "program", "model", "input", "result", "device", "started", "seconds"]
    # What a run of ours says in its details, its record says, too.
    wanted += ["frames", "notes", "settings"] if "jaxface" in record else ["details"]
    rows: list[tuple[str, str]] = []
    for key in wanted:
        if key in record:
            rows += [row for row in flat({key: record[key]}) if _tells(*row)]
    return Table("What the run says of itself", ("entry", "value"), rows, 2) if rows else None


def _tells(name: str, value: str) -> bool:
    """Whether an entry says more than that something was not asked for."""
    return ".config." not in name and value not in ("null", "false", "[]", "")


def _values(subject: Subject, figures: Sequence[FaceFigures], version: str) -> dict[str, Any]:
    """The machine-readable block."""
    return {
        "format": 1,
        "jaxface": version,
        "name": subject.name,
        "kind": subject.result.about.kind,
        "record": to_json(subject.record),
        "faces": [face_values(found) for found in figures],
    }


def face_values(found: FaceFigures) -> dict[str, Any]:
    """The figures of a face for the machine-readable block."""
    values = to_json(found)
    values["share"] = to_json(found.success)
    for kind in _EVENTS:
        values[f"{kind}s_per_minute"] = to_json(found.per_minute(kind))
    values["events"] = [{**to_json(e), "duration": e.duration} for e in found.events]
    return values
