"""Bars of action units beside a picture."""

import functools
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from ._rows import Table, UnitNames

Picture = UInt8[np.ndarray, "h w 3"]  # RGB, 0 to 255

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAPITAL = 22  # px: height of the font's capitals at scale 1
_TALLEST = 30  # px: of a row, at a picture 480 px high
_SMALLEST = 11  # px: of a row whose letters can be read
_STRONGEST = 5.0  # intensity at the end of a bar
_BACK, _RAIL = (24, 26, 30), (52, 56, 64)
_NAME, _PRESENT, _BAR, _VALUE = (165, 170, 180), (255, 255, 255), (90, 200, 150), (225, 225, 225)


class _Layout(NamedTuple):
    """Where the parts of a panel lie, px."""

    height: int
    width: int
    row: int  # height of one
    name: int  # right end of the names
    bar: int  # right end of the longest bar
    letter: float  # scale of the font


def draw_units(image: Picture, row: Table, units: UnitNames) -> UInt8[np.ndarray, "h wider 3"]:
    """Puts a panel with the action units of a face at the right side of a picture.

    A unit's bar ends at an intensity of 5; the name of one that is present is white. Units that
    have no intensity have no bar. Where the picture is too low for all, the last are left out.

    Args:
        image: RGB, 0 to 255; not changed.
        row: one face, or none: the bars are then empty.
        units: the columns of its action units.
    Returns:
        A wider picture: the image, and the panel beside it.
    """
    names = _shown(units)
    layout = _lay_out(image.shape[0], len(names))
    names = names[: layout.height // layout.row]
    panel = np.array(_empty_panel(layout, names))
    if len(row) and row.success[0]:
        intensity = dict(zip(units.intensity, row.au_intensity[0], strict=False))
        presence = dict(zip(units.presence, row.au_presence[0], strict=False))
        for place, name in enumerate(names):
            value = float(intensity.get(name, np.nan))  # NaN: the unit has none
            _fill(panel, layout, place, name, value, bool(presence.get(name, 0)))
    return np.concatenate([image, panel], axis=1)


def _shown(units: UnitNames) -> tuple[str, ...]:
    """All units, by their numbers."""
    return tuple(sorted({*units.intensity, *units.presence}))


@functools.lru_cache(maxsize=8)
def _lay_out(height: int, count: int) -> _Layout:
    tallest = max(_TALLEST * height // 480, _SMALLEST)
    row = int(np.clip(height // max(count, 1), _SMALLEST, tallest))
    letter = 0.5 * row / _CAPITAL
    edge = row // 3
    name = 2 * edge + _wide("AU00", letter)
    bar = name + 4 * row
    width = bar + 2 * edge + _wide("0.0", letter)
    return _Layout(height, width + width % 2, row, name, bar, letter)


def _wide(text: str, letter: float) -> int:
    return cv2.getTextSize(text, _FONT, letter, 1)[0][0]


@functools.lru_cache(maxsize=8)
def _empty_panel(layout: _Layout, names: tuple[str, ...]) -> Picture:
    panel = np.full((layout.height, layout.width, 3), _BACK, np.uint8)
    for place, name in enumerate(names):
        top, bottom = _rails(layout, place)
        panel[top:bottom, layout.name : layout.bar] = _RAIL
        _write(panel, layout, place, name, layout.row // 3, _NAME)
    return panel


def _rails(layout: _Layout, place: int) -> tuple[int, int]:
    """First and last row of pixels of a bar."""
    top = place * layout.row + layout.row // 4
    return top, top + max(layout.row // 2, 3)


def _fill(
    panel: Picture, layout: _Layout, place: int, name: str, value: float, present: bool
) -> None:
    if present:
        _write(panel, layout, place, name, layout.row // 3, _PRESENT)
    if not np.isfinite(value):
        return
    share = float(np.clip(value / _STRONGEST, 0, 1))
    top, bottom = _rails(layout, place)
    panel[top:bottom, layout.name : layout.name + round(share * (layout.bar - layout.name))] = _BAR
    _write(panel, layout, place, f"{value:.1f}", layout.bar + layout.row // 3, _VALUE)


def _write(
    panel: Picture, layout: _Layout, place: int, text: str, left: int, color: tuple[int, int, int]
) -> None:
    base = place * layout.row + round((layout.row + 0.9 * _CAPITAL * layout.letter) / 2)
    cv2.putText(panel, text, (left, base), _FONT, layout.letter, color, 1, cv2.LINE_AA)
