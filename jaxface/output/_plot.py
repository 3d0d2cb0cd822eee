"""A result as a figure of matplotlib, whose figures every notebook and every paper takes."""

import functools
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from ._columns import CsvKind
from ._rows import Table, UnitNames
from ._series import Axis, Curves, axis_of, curves_of, intensities_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH = 10.0  # inches
_UNIT, _CURVES = 0.16, 1.25  # height of an action unit and of a group of curves, inches
_STRONGEST = 5.0  # intensity of the brightest colour
_LOST = dict(color="0.5", alpha=0.2, linewidth=0)


def plot_table(rows: Table, units: UnitNames, kind: CsvKind, title: str) -> "Figure":
    """Action units, head pose, gaze and confidence, one below another.

    Where no face was found, curves have a gap and the ground is grey.

    Args:
        rows: of one face of a clip, or all faces of an image.
        units: the columns of the action units.
        kind: of an image the faces stand side by side, else the frames.
        title: over the figure.
    Raises:
        ModuleNotFoundError: matplotlib is missing.
    """
    axis, groups = axis_of(rows, kind), curves_of(rows)
    intensity, names = intensities_of(rows), units.intensity
    heights = [_CURVES] * len(groups)
    if intensity.shape[1]:
        heights = [max(_UNIT * len(names), 0.6), *heights]
    figure = _figure_type()((_WIDTH, sum(heights) + 0.6), layout="constrained")
    axes = figure.subplots(len(heights), sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    figure.suptitle(title, fontsize="medium")
    if intensity.shape[1]:
        _draw_units(figure, axes[0], axis, intensity, names)
        axes = axes[1:]
    for panel, group in zip(axes, groups, strict=True):
        _draw_curves(panel, axis, group, "o" if kind == "image" else "")
        if kind != "image":
            _shade(panel, axis, np.asarray(rows.success, bool))
    last = axes[-1]
    last.set_ylim(0, 1.05)
    last.set_xlabel(axis.name)
    if kind == "image":
        last.set_xticks(axis.values)
    return figure


@functools.cache
def _figure_type() -> type["Figure"]:
    """Figures that notebooks show as the value of a cell.

    Those of pyplot they would show twice, as a value and as one that is open; plain ones only after
    pyplot has drawn another.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise ModuleNotFoundError(
            "plot needs matplotlib: run pip install 'jaxface[plot]'", name="matplotlib"
        ) from error

    class ShownFigure(Figure):
        def _repr_png_(self) -> bytes:
            data = io.BytesIO()
            self.savefig(data, format="png")
            return data.getvalue()

    return ShownFigure


def _edges(axis: Axis) -> Float[np.ndarray, " edges"]:
    """Where each row begins and ends: halfway to its neighbours."""
    values = axis.values
    if len(values) < 2:
        middle = values if len(values) else np.zeros(1)
        return np.array([middle[0] - 0.5, middle[0] + 0.5])
    halfway = (values[1:] + values[:-1]) / 2
    first, last = 2 * values[0] - halfway[0], 2 * values[-1] - halfway[-1]
    return np.concatenate([[first], halfway, [last]])


def _draw_units(
    figure: "Figure",
    panel: Any,
    axis: Axis,
    intensity: Float[np.ndarray, "n u"],
    names: tuple[str, ...],
) -> None:
    """A row of colours for each unit."""
    if len(intensity):
        rows = np.arange(len(names) + 1) - 0.5
        mesh = panel.pcolormesh(
            _edges(axis), rows, intensity.T, vmin=0, vmax=_STRONGEST, cmap="viridis"
        )
        figure.colorbar(mesh, ax=panel, label="intensity", pad=0.01)
    panel.set_facecolor("0.85")
    panel.set_yticks(np.arange(len(names)), names, fontsize="x-small")
    panel.invert_yaxis()
    panel.set_title("action units", fontsize="small", loc="left")


def _draw_curves(panel: Any, axis: Axis, group: Curves, marker: str) -> None:
    for curve in group.curves:
        line = "" if marker else "-"
        panel.plot(axis.values, curve.values, line, marker=marker, label=curve.name, linewidth=1)
    unit = f" [{group.unit}]" if group.unit else ""
    panel.set_title(f"{group.title}{unit}", fontsize="small", loc="left")
    panel.grid(alpha=0.3)
    if len(group.curves) > 1:
        panel.legend(loc="center left", bbox_to_anchor=(1.005, 0.5), fontsize="x-small")


def _shade(panel: Any, axis: Axis, found: Bool[np.ndarray, " n"]) -> None:
    """Greys the ground where there is no face."""
    lost = np.diff((~found).astype(int), prepend=0, append=0)
    edges = _edges(axis)
    for begin, end in zip(np.flatnonzero(lost == 1), np.flatnonzero(lost == -1), strict=True):
        panel.axvspan(edges[begin], edges[end], **_LOST)
