"""The plots of a report, as bokeh's models: JSON that the page's script gives to BokehJS.

What users name, files, cohorts and models, is never part of a plot: bokeh would take some signs in
it for formulas. It stands in the page around it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._rows import UnitNames
from ._asymmetry import MEASURES
from ._events import Event
from ._figures import Cohort, UnitOfCohort
from ._series import Series, lanes_of

if TYPE_CHECKING:  # loaded where something is drawn: half a second
    from bokeh.document import Document
    from bokeh.models import ColumnDataSource, Range1d
    from bokeh.plotting import figure as Figure

# Dark enough for white ground, apart for the colour-blind, and each with a dash of its own.
COLORS = ("#1f5fa8", "#b3410e", "#2c7a4b", "#7a3fa0")
DASHES = ("solid", "dashed", "dotted", "dashdot")
_PRESENT, _EVENT, _LOST, _CURSOR = "#5b6570", "#f2b705", "#8a929a", "#c4123f"
_NO_BOKEH = "jaxface report needs bokeh: run pip install 'jaxface[report]'"
_LEFT = 58  # px
UNIT_HEIGHT, HEIGHT = 26, 170  # of a lane and of a plot, px
_SIGN = re.compile(r"[^\w.+-]")


class Curve(NamedTuple):
    """A line of a plot, as its key names it."""

    column: str
    name: str


class Panel(NamedTuple):
    """A plot of a clip."""

    key: str
    title: str
    unit: str
    curves: tuple[Curve, ...]
    words: str  # what is shown, for those who do not see it


PANELS = (
    Panel(
        "rotation",
        "Head rotation",
        "degrees",
        (Curve("pitch", "pitch (down)"), Curve("yaw", "yaw (left)"), Curve("roll", "roll")),
        "Rotation of the head about the three axes of the camera.",
    ),
    Panel(
        "place",
        "Head position",
        "mm",
        (Curve("x", "x (right)"), Curve("y", "y (down)"), Curve("z", "z (away)")),
        "Position of the head in the camera's frame.",
    ),
    Panel(
        "gaze",
        "Gaze",
        "degrees",
        (Curve("right", "to the right"), Curve("down", "down")),
        "Direction in which both eyes look, in the camera's frame.",
    ),
    Panel(
        "asymmetry",
        "Left against right",
        "mm",
        tuple(Curve(measure.key, measure.name) for measure in MEASURES),
        "Differences between the left and the right of the face, turned to the front.",
    ),
    Panel(
        "confidence",
        "Confidence",
        "0 to 1",
        (Curve("confidence", "confidence"),),
        "How sure the landmarks are.",
    ),
)


class Drawn(NamedTuple):
    """What the page needs of the plots."""

    document: dict[str, Any]  # JSON of bokeh's document
    roots: dict[str, str]  # id of each root by its plot's key


def check_bokeh() -> None:
    """Says what to install where bokeh is missing.

    Raises:
        ModuleNotFoundError: it is.
    """
    try:
        import bokeh  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(_NO_BOKEH, name="bokeh") from error


def library() -> str:
    """BokehJS, the script that draws: what its plots need of it."""
    from bokeh.resources import Resources

    return Resources(mode="inline", components=["bokeh"], log_level="warn").js_raw[0]


def panels_of(faces: Sequence[Series]) -> tuple[Panel, ...]:
    """The plots for which there are values."""

    def has(series: Series, curve: Curve) -> bool:
        return bool(np.isfinite(series.columns.get(curve.column, np.zeros(0))).any())

    return tuple(p for p in PANELS if any(has(s, c) for s in faces for c in p.curves))


def draw_clip(
    faces: Sequence[Series], units: UnitNames, events: Mapping[int, Sequence[Event]]
) -> Drawn:
    """Draws the plots of a clip, over one axis of time.

    Args:
        faces: of the clip; the first is shown, the others can be chosen.
        units: columns of the action units.
        events: of each face by its number.
    Returns:
        Plots "units", if there are any, and those of `panels_of`. Sources are named `shown`,
        `face-0` and so on, and `events`, `lost` in the same way; the cursors `cursor`.
    """
    from bokeh.document import Document
    from bokeh.models import ColumnDataSource, Range1d

    document = Document()
    ends = [float(f(s.columns["time"])) for s in faces for f in (np.min, np.max)]
    low, high = min(ends), max(max(ends), min(ends) + 1e-3)
    span = Range1d(start=low, end=high, bounds=(low, high), name="time")
    data: dict[str, list[dict[str, Any]]] = {
        "shown": [dict(series.columns) for series in faces],
        "events": [_event_columns(events[s.face], units) for s in faces],
        "lost": [_lost_columns(series) for series in faces],
    }
    shown, marks, lost = (ColumnDataSource(some[0], name=name) for name, some in data.items())
    plots: dict[str, Figure] = {}
    if lanes_of(units):
        plots["units"] = _draw_units(units, shown, marks, span)
    for panel in panels_of(faces):
        plots[panel.key] = _draw_panel(panel, shown, span)
    for plot in plots.values():
        _finish(plot, lost, low)
        document.add_root(plot)
    # What is drawn nowhere is no root, which the page would look for a place for: the last plot
    # holds what is drawn when another face is chosen.
    list(plots.values())[-1].tags = [marks, *_others(data)]
    return Drawn(_json(document), {key: plot.id for key, plot in plots.items()})


def _others(data: Mapping[str, Sequence[Mapping[str, Any]]]) -> "list[ColumnDataSource]":
    """The sources of all faces, where there are several."""
    from bokeh.models import ColumnDataSource

    return [
        ColumnDataSource(dict(columns), name=f"{name}-{number}")
        for name, some in data.items()
        if len(some) > 1
        for number, columns in enumerate(some)
    ]


def _event_columns(events: Sequence[Event], units: UnitNames) -> dict[str, np.ndarray]:
    """Rectangles in the lanes of the units that events are found by."""
    base = {lane.name: lane.base for lane in lanes_of(units)}
    homes = {"blink": "AU45", "closure": "AU45", "smile": "AU12"}
    # Without AU45, blinks found by the lids are marked over all lanes.
    rows = []
    for event in events:
        lane = base.get(homes[event.kind])
        low, high = (-0.2, len(base)) if lane is None else (lane - 0.02, lane + 0.96)
        rows.append((event.start, event.end, low, high))
    columns = np.array(rows, np.float64).reshape(-1, 4).T
    return dict(zip(("left", "right", "bottom", "top"), columns, strict=True))


def _lost_columns(series: Series) -> dict[str, np.ndarray]:
    columns = np.array(series.lost, np.float64).reshape(-1, 2).T
    return {"left": columns[0], "right": columns[1]}


def _figure(height: int, span: "Range1d") -> "Figure":
    from bokeh.models import BoxZoomTool, ResetTool, SaveTool, WheelZoomTool
    from bokeh.plotting import figure

    plot = figure(
        height=height,
        sizing_mode="stretch_width",
        x_range=span,
        tools=[
            BoxZoomTool(dimensions="width"),
            WheelZoomTool(dimensions="width"),
            ResetTool(),
            SaveTool(),
        ],
        active_drag=None,
        active_scroll=None,
        toolbar_location="right",
        min_border_left=_LEFT,
        min_border_bottom=22,
        min_border_top=6,
        outline_line_color=None,
        output_backend="canvas",
    )
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.xgrid.grid_line_color = plot.ygrid.grid_line_color = "#e3e7eb"
    for axis in (*plot.xaxis, *plot.yaxis):
        axis.axis_line_color = "#8a929a"
        axis.major_tick_line_color = "#8a929a"
        axis.minor_tick_line_color = None
        axis.major_label_text_font_size = "12px"
        axis.major_label_text_color = "#1b1f24"
    return plot


def _draw_units(
    units: UnitNames, shown: "ColumnDataSource", marks: "ColumnDataSource", span: "Range1d"
) -> "Figure":
    """A lane for each unit: its intensity as an area, under it a bar where it is present."""
    from bokeh.models import FixedTicker, Range1d

    lanes = lanes_of(units)
    plot = _figure(UNIT_HEIGHT * len(lanes) + 40, span)
    plot.y_range = Range1d(start=-0.25, end=len(lanes) + 0.05)
    plot.quad(
        left="left",
        right="right",
        bottom="bottom",
        top="top",
        source=marks,
        fill_color=_EVENT,
        fill_alpha=0.45,
        line_color=None,
    )
    for number, lane in enumerate(lanes):
        color = COLORS[number % 2]
        if lane.intensity is not None:
            plot.varea(
                x="time",
                y1=lane.base,
                y2=lane.intensity,
                source=shown,
                fill_color=color,
                fill_alpha=0.35,
            )
            plot.line(x="time", y=lane.intensity, source=shown, line_color=color, line_width=1.4)
        if lane.presence is not None:
            plot.line(x="time", y=lane.presence, source=shown, line_color=_PRESENT, line_width=3)
    plot.yaxis.ticker = FixedTicker(ticks=[lane.base for lane in lanes])
    plot.yaxis.major_label_overrides = {lane.base: _SIGN.sub("·", lane.name)[:10] for lane in lanes}
    return plot


def _draw_panel(panel: Panel, shown: "ColumnDataSource", span: "Range1d") -> "Figure":
    from bokeh.models import Range1d

    plot = _figure(HEIGHT, span)
    for curve, color, dash in zip(panel.curves, COLORS, DASHES, strict=False):
        plot.line(
            x="time",
            y=curve.column,
            source=shown,
            line_color=color,
            line_dash=dash,
            line_width=1.6,
        )
    if panel.key == "confidence":
        plot.y_range = Range1d(start=0, end=1.05)
    return plot


def _finish(plot: "Figure", lost: "ColumnDataSource", start: float) -> None:
    """Grey where there is no face, and the cursor."""
    from bokeh.models import Span, VStrip

    gone = VStrip(
        x0="left",
        x1="right",
        fill_color=_LOST,
        fill_alpha=0.25,
        line_color=None,
        hatch_pattern=None,
    )
    plot.add_glyph(lost, gone, level="underlay")
    cursor = Span(location=start, dimension="height", line_color=_CURSOR, line_width=2)
    cursor.name = "cursor"
    plot.add_layout(cursor)


def _json(document: "Document") -> dict[str, Any]:
    """As JSON alone holds it: arrays as base64."""
    return dict(document.to_json(deferred=False))


def draw_cohorts(
    cohorts: Sequence[Cohort], units: Sequence[Sequence[UnitOfCohort]]
) -> Drawn | None:
    """Draws the action units of cohorts: means over results, and one sd to both sides.

    Args:
        cohorts: at most as many are drawn as there are colours.
        units: of each cohort.
    Returns:
        A plot "units"; None where no result has intensities.
    """
    from bokeh.document import Document
    from bokeh.models import ColumnDataSource, FixedTicker, Range1d

    few = list(zip(cohorts, units, strict=True))[: len(COLORS)]
    names = sorted({u.name for _, some in few for u in some if u.intensity.size})
    if not names:
        return None
    place = {name: float(len(names) - 1 - i) for i, name in enumerate(names)}
    document = Document()
    plot = _figure(UNIT_HEIGHT * len(names) + 46, Range1d(start=-0.1, end=5))
    plot.y_range = Range1d(start=-0.6, end=len(names) - 0.4)
    markers = ("circle", "square", "triangle", "diamond")
    for number, (_, some) in enumerate(few):
        known = [u for u in some if u.intensity.size]
        shift = 0.6 * ((number + 0.5) / len(few) - 0.5)
        y = np.array([place[u.name] - shift for u in known])
        mean = np.array([u.intensity.mean for u in known])
        sd = np.nan_to_num(np.array([u.intensity.sd for u in known]))
        source = ColumnDataSource(
            {"y": y, "mean": mean, "low": np.maximum(mean - sd, 0), "high": mean + sd}
        )
        color = COLORS[number]
        plot.segment(
            x0="low", x1="high", y0="y", y1="y", source=source, line_color=color, line_width=2
        )
        plot.scatter(x="mean", y="y", source=source, color=color, marker=markers[number], size=8)
    plot.x_range = Range1d(start=-0.05, end=0.05 + max(0.5, *_tops(few)))
    plot.yaxis.ticker = FixedTicker(ticks=list(place.values()))
    plot.yaxis.major_label_overrides = {y: _SIGN.sub("·", n)[:10] for n, y in place.items()}
    document.add_root(plot)
    return Drawn(_json(document), {"units": plot.id})


def _tops(few: Sequence[tuple[Cohort, Sequence[UnitOfCohort]]]) -> list[float]:
    """Ends of all whiskers."""
    spreads = [u.intensity for _, some in few for u in some if u.intensity.size]
    return [float(s.mean + np.nan_to_num(s.sd)) for s in spreads]
