"""Pictures of a result: single frames with what was found in them, read again from the source."""

import dataclasses
import html
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ..errors import InputError
from ..io import as_camera, check_camera, open_frames, read_frames, read_image
from ..output import CsvKind, Still, Table, UnitNames, one_face, small_plots, strip, thumbnail
from ..types import Camera
from ._checks import AnyImage, as_image, check_frames
from ._film import draw_frames
from ._origin import Origin

Picture = UInt8[np.ndarray, "h w 3"]  # RGB, 0 to 255

_PICTURES = 6  # of a strip
_PATIENCE = 3000  # frames that are decoded for a strip where they cannot be looked for


def show_frame(
    rows: Table,
    frame: int,
    *,
    units: UnitNames,
    kind: CsvKind,
    origin: Origin,
    source: str | Path | Iterable[AnyImage] | AnyImage | None,
    camera: Camera | None,
) -> Still:
    """One frame as the annotated video shows it. See `Analysis.show`."""
    if kind == "image" and frame != 1:
        raise ValueError(f"frame: expected 1, as an image has one, got {frame}")
    if isinstance(frame, bool) or frame < 1:
        raise ValueError(f"frame: expected a number from 1 on, as in `frame`, got {frame!r}")
    if source is None:
        source = origin.path
        if source is None:
            raise ValueError(
                "source: expected the clip or image, as this analysis is of arrays or read from a "
                "file: give what was analysed, as in show(frame, source='clip.mp4')"
            )
    lens = origin.lens() if camera is None else check_camera(camera)
    return Still(_draw(_read(source, frame, kind), rows, frame, units, lens))


def _read(source: str | Path | Iterable[AnyImage] | AnyImage, frame: int, kind: CsvKind) -> Picture:
    if isinstance(source, str | Path):
        if kind == "image":
            return read_image(source)
        found = read_frames(open_frames(source), [frame - 1])
        if frame - 1 not in found:
            raise InputError(
                source, f"a frame {frame}", "none that can be read", "look at `frame` of the rows"
            )
        return found[frame - 1]
    if kind == "image":
        image: Any = source
        return as_image(image, "source")
    for picture in check_frames(itertools.islice(source, frame - 1, frame)):
        return picture
    raise ValueError(f"source: expected at least {frame} frames, got fewer")


def _draw(
    picture: Picture, rows: Table, frame: int, units: UnitNames, camera: Camera | None
) -> UInt8[np.ndarray, "taller wider 3"]:
    """What `write_tracked` draws over this frame."""
    bars = units if units.intensity or units.presence else None
    return next(draw_frames([picture], _rows_of(rows, frame), units=bars, camera=camera))


def _rows_of(rows: Table, frame: int) -> Table:
    """The rows of a frame, as if it were the first."""
    here = rows[np.flatnonzero(rows.frame == frame)]
    return dataclasses.replace(here, frame=np.ones(len(here), np.int64))


def glance(rows: Table, units: UnitNames, kind: CsvKind, origin: Origin) -> str:
    """A strip of pictures and small curves for notebooks.

    Args:
        rows: of a clip or an image.
        units: the columns of the action units.
        kind: of the result.
        origin: where they come from.
    Returns:
        HTML that needs no other file. What cannot be shown says why; nothing is raised.
    """
    return _tried("pictures", lambda: _strip(rows, kind, origin)) + _tried(
        "curves", lambda: small_plots(one_face(rows, None), units, kind)
    )


def _tried(what: str, make: Callable[[], str]) -> str:
    """HTML of a part, or the words why there is none: who looks at a result must see the rest."""
    try:
        return make()
    except Exception as error:
        return f"<p><small>no {what}: {html.escape(str(error)[:300])}</small></p>"


def _strip(rows: Table, kind: CsvKind, origin: Origin) -> str:
    if origin.path is None or not len(rows):
        return ""
    frames = [1] if kind == "image" else _spread(rows)
    if kind == "image":
        found = {0: read_image(origin.path)}
    else:
        found = read_frames(open_frames(origin.path), [f - 1 for f in frames], most=_PATIENCE)
    lens = origin.lens()
    pictures = {}
    for frame in frames:
        if frame - 1 in found:
            caption = Path(origin.path).name if kind == "image" else _caption(rows, frame)
            pictures[caption] = _thumbnail(found[frame - 1], _rows_of(rows, frame), lens)
    return strip(pictures)


def _spread(rows: Table) -> list[int]:
    """Numbers of some frames: in the middle of stretches as long as one another."""
    frames = np.unique(rows.frame)
    places = (np.arange(_PICTURES) + 0.5) / _PICTURES * len(frames)
    return sorted({int(frames[int(place)]) for place in places})


def _caption(rows: Table, frame: int) -> str:
    time = float(rows.timestamp[np.flatnonzero(rows.frame == frame)[0]])
    return f"{frame}: {time:.2f} s"


def _thumbnail(
    picture: Picture, rows: Table, camera: Camera | None
) -> UInt8[np.ndarray, "low narrow 3"]:
    height, width = picture.shape[:2]
    return thumbnail(picture, rows, as_camera(camera, height=height, width=width))
