"""Results of a whole clip or image, on the host."""

import html
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import equinox as eqx
import numpy as np
from jaxtyping import Float, UInt8

from ..output import (
    FIELDS,
    NO_RECORD,
    OPENFACE_UNITS,
    About,
    ColumnChoice,
    CsvKind,
    Record,
    Still,
    Stored,
    Table,
    UnitNames,
    columns_of,
    one_face,
    plot_table,
    read_file,
    to_dataframe,
)
from ..output import read_csv as read_table
from ..output import write_csv as write_table
from ..output import write_npz as write_arrays
from ..output import write_parquet as write_columns
from ..types import Camera
from ._checks import AnyImage
from ._origin import NO_ORIGIN, Origin

if TYPE_CHECKING:
    import pandas as pd  # loaded by `to_dataframe`: 40 MB that few clips need
    from matplotlib.figure import Figure

_WORDS = {"video": "clip of one face", "multi_face": "clip of several faces", "image": "image"}
_SHOWN = 5  # rows of the HTML table
_STYLE = 'style="text-align: right"'


class Analysis(Table):
    """Every face of every frame, one row each, as NumPy arrays: the fields of `Table`, and these.

    Coordinate frames and units are those of `jaxface.types`. `len` counts the rows; an index, a
    slice or a mask gives some of them, as in `analysis[analysis.success]`.
    """

    kind: CsvKind = eqx.field(static=True, kw_only=True)  # video: one face; multi_face; image
    fhog: Float[np.ndarray, "n 4464"] | None = eqx.field(default=None, kw_only=True)
    aligned: UInt8[np.ndarray, "n s s 3"] | None = eqx.field(default=None, kw_only=True)  # RGB
    # Columns of `au_intensity` and `au_presence`: the units that the model knows.
    units: UnitNames = eqx.field(static=True, default=OPENFACE_UNITS, kw_only=True)
    # Clips followed at a time in the batch: on it, and on nothing else of the batch, bits depend.
    lanes: int = eqx.field(static=True, default=1, kw_only=True)
    # What made it, where a file says so: model, settings, versions, as in `<name>.run.json`.
    record: Record = eqx.field(static=True, default=NO_RECORD, kw_only=True)
    # What was analysed, where it is a file: `show` reads it again. No file of results holds it.
    origin: Origin = eqx.field(static=True, default=NO_ORIGIN, kw_only=True)

    @property
    def columns(self) -> ColumnChoice:
        """Which groups of columns there are: the arrays of the others have no width."""
        return columns_of(self)

    def table(self) -> Table:
        """The columns that OpenFace's CSV holds."""
        return Table(**{name: getattr(self, name) for name in FIELDS})

    def to_dataframe(self) -> "pd.DataFrame":
        """The same as `write_csv`, with OpenFace's column names and full precision."""
        return to_dataframe(self, kind=self.kind, units=self.units)

    def plot(self, *, face: int | None = None) -> "Figure":
        """Action units, head pose, gaze and confidence over time, one below another.

        Of an image the faces stand side by side. Where no face was found, curves have a gap.

        Args:
            face: `face_id` of the one to plot of several in a clip; None: the one found most.
        Returns:
            A figure of matplotlib: notebooks show it, `savefig` writes it.
        Raises:
            ValueError: there is no such face, or no row.
            ModuleNotFoundError: matplotlib is missing: `pip install 'jaxface[plot]'`.
        """
        if not len(self):
            raise ValueError("plot: expected rows, got an analysis of none")
        rows = self.table()
        if self.kind != "image":
            rows = one_face(rows, face)
        elif face is not None:
            raise ValueError(f"face: expected None, as an image shows all faces, got {face!r}")
        title = _WORDS[self.kind] if self.origin.path is None else Path(self.origin.path).name
        if self.kind == "multi_face":
            title = f"{title}, face {rows.face_id[0]}"
        return plot_table(rows, self.units, self.kind, title)

    def show(
        self,
        frame: int = 1,
        *,
        source: str | Path | Iterable[AnyImage] | AnyImage | None = None,
        camera: Camera | None = None,
    ) -> Still:
        """A frame with all that was found drawn over it, as in `write_tracked`'s video.

        Args:
            frame: its number from 1, as in `frame`.
            source: what was analysed: a file, a folder, RGB frames (h, w, 3), 0 to 255, or the
                RGB image; by default the file that it was, which is read again. An analysis of
                arrays, or one that was read from a file, does not know it.
            camera: intrinsics, px, that it was analysed with; by default the same.
        Returns:
            A picture: notebooks show it, `np.asarray` gives its pixels, `save` writes it.
        Raises:
            InputError: the source cannot be read, or has no such frame.
            ValueError: the source is not known, or `frame` is none.
        """
        from ._views import show_frame

        return show_frame(
            *(self.table(), frame),
            units=self.units,
            kind=self.kind,
            origin=self.origin,
            source=source,
            camera=camera,
        )

    def report(
        self,
        path: str | Path,
        *,
        source: str | Path | Iterable[AnyImage] | None = None,
        camera: Camera | None = None,
    ) -> Path:
        """Writes a report: one page of HTML with the clip, plots and events. See `write_report`.

        Args:
            path: the page.
            source: what was analysed, as of `show`; without it, and where the analysis does not
                know it, the page has no pictures.
            camera: intrinsics, px, that it was analysed with; by default the same.
        Returns:
            The path.
        Raises:
            InputError: the source cannot be read.
            OutputError: the page cannot be written.
            ModuleNotFoundError: bokeh is missing: `pip install 'jaxface[report]'`.
        """
        from ._report import write_report

        return write_report(path, self, video=source, camera=camera)

    def __repr__(self) -> str:
        return f"<Analysis: {_summary(self)}>"

    def _repr_html_(self) -> str:
        """Summary, a strip of pictures, small curves and the first rows, as notebooks show them."""
        from ._views import glance

        head, rows = _first_rows(self)
        cells = "".join(f"<th {_STYLE}>{html.escape(name)}</th>" for name in head)
        lines = [f"<tr>{cells}</tr>"]
        for row in rows:
            cells = "".join(f"<td {_STYLE}>{html.escape(cell)}</td>" for cell in row)
            lines.append(f"<tr>{cells}</tr>")
        if len(self) > _SHOWN:
            lines.append(f'<tr><td colspan="{len(head)}">and {len(self) - _SHOWN} more</td></tr>')
        title = f"<p><b>Analysis</b>: {html.escape(_summary(self))}</p>"
        seen = glance(self.table(), self.units, self.kind, self.origin)
        return f"<div>{title}{seen}<table>{''.join(lines)}</table></div>"


def _summary(analysis: Analysis) -> str:
    rows, faces = len(analysis), int(analysis.success.sum())
    units = len({*analysis.units.intensity, *analysis.units.presence})
    extras = [name for name in ("fhog", "aligned") if getattr(analysis, name) is not None]
    phrases = [
        f"{_WORDS[analysis.kind]}, {rows} row{'s' * (rows != 1)}, {faces} with a face",
        f"{analysis.landmarks.shape[1]} landmarks, {units} action units",
        *([f"with {' and '.join(extras)}"] if extras else []),
    ]
    return "; ".join(phrases)


def _first_rows(analysis: Analysis) -> tuple[list[str], list[list[str]]]:
    """Names and cells of the columns that a reader looks at first."""
    head = ["frame", "time [s]", "face", "success", "confidence"]
    turned = analysis.head_pose.shape[1] > 0
    head += ["pitch, yaw, roll [deg]", "distance [mm]"] if turned else []
    head += ["strongest action units"] if analysis.au_intensity.shape[1] else []
    rows = []
    for row in analysis[:_SHOWN]:
        cells = [str(row.frame[0]), f"{row.timestamp[0]:.3f}", str(row.face_id[0])]
        cells += ["yes" if row.success[0] else "no", f"{row.confidence[0]:.2f}"]
        if turned:
            angles = ", ".join(f"{angle:.0f}" for angle in np.degrees(row.head_pose[0, 3:]))
            cells += [angles, f"{row.head_pose[0, 2]:.0f}"]
        if row.au_intensity.shape[1]:
            strongest = np.argsort(-row.au_intensity[0], kind="stable")[:3]
            named = ((row.units.intensity[i], row.au_intensity[0, i]) for i in strongest)
            cells.append(", ".join(f"{name} {value:.1f}" for name, value in named if value > 0))
        rows.append(cells)
    return head, rows


def write_csv(path: str | Path, analysis: Analysis) -> Path:
    """Writes the CSV that OpenFace would have written, to the character.

    Args:
        path: the file; a complete one appears under this name, or none.
        analysis: result of `analyze_video` or `analyze_image`.
    Returns:
        The path.
    Raises:
        OutputError: it cannot be written.
    Reference:
        Specification 03, E.4.
    """
    return write_table(path, analysis, kind=analysis.kind, units=analysis.units)


def write_parquet(path: str | Path, analysis: Analysis) -> Path:
    """Writes a Parquet file: OpenFace's columns, each in the type of its array.

    pandas, polars, R and others read it. `read_results` gives from it the same analysis to the
    bit, with `lanes`, `record`, `fhog` and `aligned`; the last two are columns of lists. Of images
    there are `frame`, `timestamp` and `success`, too, which OpenFace's CSV leaves out.

    Args:
        path: the file; a complete one appears under this name, or none.
        analysis: result of `analyze_video` or `analyze_image`.
    Returns:
        The path.
    Raises:
        OutputError: it cannot be written.
        ModuleNotFoundError: pyarrow is missing: `pip install 'jaxface[parquet]'`.
    """
    return write_columns(path, _to_stored(analysis))


def write_npz(path: str | Path, analysis: Analysis) -> Path:
    """Writes an NPZ file, which `numpy.load` reads: an array for each of `Analysis`, by its name.

    Beside them are the names of the action units' columns, `intensity_names` and `presence_names`,
    and `about`, a JSON text with all that is no array. `read_results` gives from it the same
    analysis to the bit.

    Args:
        path: the file; a complete one appears under this name, or none.
        analysis: result of `analyze_video` or `analyze_image`.
    Returns:
        The path.
    Raises:
        OutputError: it cannot be written.
    """
    return write_arrays(path, _to_stored(analysis))


def read_results(path: str | Path) -> Analysis:
    """Reads results: a CSV of OpenFace or jaxface, or a Parquet or NPZ file of jaxface.

    What the file does not have has no width, as `landmarks` of shape (n, 0, 2); `scale` is NaN
    then. `Analysis.columns` says which groups are there. Without a column `frame` is 1, `face_id`
    and `timestamp` are 0, `success` is true: in CSVs of images, and `face_id` in old ones.

    Args:
        path: the file. Its contents tell the format, not its suffix.
    Returns:
        Its rows, from a CSV as precise as they are printed, else to the bit.
    Raises:
        InputError: the file is missing, damaged, or no results; it names what is wrong where.
    """
    return _to_analysis(read_file(path))


def _to_stored(analysis: Analysis) -> Stored:
    about = About(analysis.kind, analysis.units, analysis.lanes, analysis.record)
    return Stored(analysis, about, analysis.fhog, analysis.aligned)


def _to_analysis(stored: Stored) -> Analysis:
    columns = {name: getattr(stored.table, name) for name in FIELDS}
    extras = {"fhog": stored.fhog, "aligned": stored.aligned}
    return Analysis(**columns, **extras, **stored.about._asdict())


def read_csv(path: str | Path) -> Analysis:
    """Reads a CSV of `write_csv` or of OpenFace: `write_csv` writes the same bytes from it again.

    Groups of columns that OpenFace leaves out on request may be missing: gaze with the eyes, pose,
    landmarks in two or three dimensions, shape parameters, action units. Their arrays then have no
    width, as (n, 0, 2), and `scale` is NaN.

    Args:
        path: the file.
    Returns:
        Its rows, as precise as they are printed. Where OpenFace prints no frame, time or
        success, for images, these are 1, 0 and true; so is `face_id` 0 in files of old versions.
    Raises:
        InputError: the file is missing, damaged, or no such CSV; it names line and column.
    Reference:
        Specification 03, E.4.
    """
    table, kind, units = read_table(path)
    return _to_analysis(Stored(table, About(kind, units)))
