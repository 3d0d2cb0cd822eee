"""A result at a glance: a strip of pictures and small curves, as HTML that needs nothing else."""

import base64
import dataclasses
import html
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from ..types import Camera
from ._columns import CsvKind
from ._draw import draw_face
from ._rows import Table, UnitNames
from ._series import Axis, axis_of, curves_of, intensities_of
from ._still import to_jpeg

Picture = UInt8[np.ndarray, "h w 3"]  # RGB, 0 to 255

_TALL, _WIDEST = 120, 220  # of a picture, px
_WIDE, _HIGH = 260, 26  # of a curve, px
_MOST = 240  # points of a curve; of more, the least and the greatest of each stretch
_UNITS = 4  # action units that are shown
_QUALITY = 80  # of the pictures' JPEG
_COLORS = ("#1f77b4", "#d1495b", "#2a9d55")
_LOST = "#8886"
_TEXT = 'style="text-align: left; white-space: nowrap"'


def strip(pictures: Mapping[str, Picture]) -> str:
    """Pictures side by side, each over its caption.

    Args:
        pictures: of some 160 px, by their captions.
    Returns:
        HTML with the pictures in it.
    """
    cells = []
    for caption, picture in pictures.items():
        height, width = picture.shape[:2]
        data = base64.b64encode(to_jpeg(picture, quality=_QUALITY)).decode()
        said = html.escape(caption)
        cells.append(
            '<figure style="display: inline-block; margin: 0 4px 4px 0; text-align: center">'
            f'<img width="{width}" height="{height}" alt="{said}" '
            f'src="data:image/jpeg;base64,{data}"><figcaption><small>{said}</small></figcaption>'
            "</figure>"
        )
    return f"<div>{''.join(cells)}</div>"


def thumbnail(picture: Picture, rows: Table, camera: Camera) -> UInt8[np.ndarray, "low narrow 3"]:
    """A small picture, drawn over once it is small, so that lines keep their width.

    Args:
        picture: RGB, 0 to 255; not changed.
        rows: faces of this frame.
        camera: intrinsics, px.
    """
    height, width = picture.shape[:2]
    scale = min(_TALL / height, _WIDEST / width, 1.0)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    half = np.array([0, 0, 0.5, 0.5])  # centres of pixels are whole numbers
    lens = scale * (np.array([*map(float, camera)]) + half) - half
    landmarks = ((rows.landmarks + 0.5) * scale - 0.5).astype(rows.landmarks.dtype)
    drawn = dataclasses.replace(rows, landmarks=landmarks)
    return draw_face(small, drawn, Camera(*map(np.asarray, lens)), text=False)


def small_plots(rows: Table, units: UnitNames, kind: CsvKind) -> str:
    """Head, gaze, confidence and the strongest action units, a small curve each.

    Args:
        rows: of one face of a clip. Of an image, or of a single row, there is nothing to plot.
        units: the columns of the action units.
        kind: of the result.
    Returns:
        HTML, "" where there is nothing to plot.
    """
    if kind == "image" or len(rows) < 2:
        return ""
    axis, found = axis_of(rows, kind), np.asarray(rows.success, bool)
    lines = []
    for group in curves_of(rows):
        names = ", ".join(curve.name for curve in group.curves)
        label = names if group.title == names else f"{group.title}: {names}"
        label += f" [{group.unit}]" if group.unit else ""
        low = (0.0, 1.0) if not group.unit else None
        lines.append(_line(label, axis, [c.values for c in group.curves], found, low, len(names)))
    intensity = intensities_of(rows)
    top = np.max(np.where(np.isfinite(intensity), intensity, 0), axis=0, initial=0)
    for column in np.argsort(-top, kind="stable")[:_UNITS]:
        if top[column] > 0:
            name = units.intensity[column]
            lines.append(_line(name, axis, [intensity[:, column]], found, (0.0, 5.0), 0))
    first, last = (f"{value:.5g}" for value in axis.values[[0, -1]])
    foot = f"{html.escape(axis.name)}: {first} to {last}; grey: no face"
    if kind == "multi_face":
        foot = f"face {rows.face_id[0]}; {foot}"
    return f"<table>{''.join(lines)}</table><p><small>{foot}</small></p>"


def _line(
    label: str,
    axis: Axis,
    curves: Sequence[Float[np.ndarray, " n"]],
    found: Bool[np.ndarray, " n"],
    bounds: tuple[float, float] | None,
    colored: int,
) -> str:
    """A row of the table: what it is, its curves, and from where to where they go."""
    values = np.concatenate(curves)
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (np.nan, np.nan)
    said = f"{low:.3g} to {high:.3g}" if len(values) else "none"
    if bounds is None:
        bounds = (low, high)
    drawn = "".join(
        _curve(axis.values, curve, bounds, color)
        for curve, color in zip(curves, _COLORS, strict=False)
    )
    picture = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDE}" height="{_HIGH}" '
        f'viewBox="0 0 {_WIDE} {_HIGH}" role="img">{_lost(axis.values, found)}{drawn}</svg>'
    )
    head = _colored(label) if colored and len(curves) > 1 else html.escape(label)
    return f"<tr><th {_TEXT}>{head}</th><td>{picture}</td><td {_TEXT}>{said}</td></tr>"


def _colored(label: str) -> str:
    """The names in a label in the colours of their curves."""
    title, _, names = label.partition(": ")
    listed, bracket, unit = names.partition(" [")
    words = [
        f'<span style="color: {color}">{html.escape(name)}</span>'
        for name, color in zip(listed.split(", "), _COLORS, strict=False)
    ]
    return f"{html.escape(title)}: {', '.join(words)}{bracket}{html.escape(unit)}"


def _across(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    span = float(x[-1] - x[0])
    return (x - x[0]) / span * _WIDE if span > 0 else np.zeros(len(x))


def _curve(
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
    bounds: tuple[float, float],
    color: str,
) -> str:
    low, high = bounds
    kept = _extremes(y)
    kept = kept[np.isfinite(y[kept])]
    if not len(kept) or not np.isfinite(high - low):
        return ""
    span = high - low if high > low else 1.0
    down = _HIGH - 2 - (np.clip(y[kept], low, high) - low) / span * (_HIGH - 4)
    # A gap where there is no face: a new line begins.
    gap = np.array([np.isnan(y[i : j + 1]).any() for i, j in zip(kept[:-1], kept[1:], strict=True)])
    pieces = np.split(np.stack([_across(x)[kept], down], axis=1), np.flatnonzero(gap) + 1)
    drawn = " ".join("M" + " ".join(f"{a:.1f},{b:.1f}" for a, b in piece) for piece in pieces)
    return f'<path d="{drawn}" fill="none" stroke="{color}" stroke-width="1"/>'


def _extremes(y: Float[np.ndarray, " n"]) -> np.ndarray:
    """Indices that a curve is drawn by: all, or those of the least and greatest value of each
    stretch, so that no short peak is lost."""
    if len(y) <= _MOST:
        return np.arange(len(y))
    kept = {0, len(y) - 1}
    for stretch in np.array_split(np.arange(len(y)), _MOST // 2):
        there = stretch[np.isfinite(y[stretch])]
        if len(there):
            kept |= {int(there[np.argmin(y[there])]), int(there[np.argmax(y[there])])}
    return np.array(sorted(kept))


def _lost(x: Float[np.ndarray, " n"], found: Bool[np.ndarray, " n"]) -> str:
    """Grey where there is no face."""
    across = _across(x)
    edges = np.concatenate([[0], (across[1:] + across[:-1]) / 2, [_WIDE]])
    turns = np.diff((~found).astype(int), prepend=0, append=0)
    begins, ends = np.flatnonzero(turns == 1), np.flatnonzero(turns == -1)
    if len(begins) > _MOST:  # flickers: more areas than pixels
        begins, ends = begins[:_MOST], ends[:_MOST]
    return "".join(
        f'<rect x="{edges[a]:.1f}" y="0" width="{edges[b] - edges[a]:.1f}" height="{_HIGH}" '
        f'fill="{_LOST}"/>'
        for a, b in zip(begins, ends, strict=True)
    )
