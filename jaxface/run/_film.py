"""A clip with its results drawn over every frame, as a video."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ..io import as_camera, check_camera, open_frames
from ..output import FilmWriter, Table, UnitNames, draw_face, draw_units, enlarge
from ..types import Camera
from ._checks import AnyImage, check_frames, check_rate
from ._results import Analysis

_LOWEST = 240  # px: lower pictures are enlarged, so that what is written in them can be read
_FRAME = 1 / 30  # s: of frames whose times nobody knows

Picture = UInt8[np.ndarray, "h w 3"]  # RGB, 0 to 255


def write_tracked(
    path: str | Path,
    video: str | Path | Iterable[AnyImage],
    analysis: Analysis,
    *,
    camera: Camera | None = None,
    fps: float | None = None,
) -> Path:
    """Writes a clip with landmarks, box, head, gaze, confidence and action units drawn over it.

    Action units are those of the first face that was found in a frame. Pictures of less than 240
    rows are enlarged, so that what is written in them can be read.

    Args:
        path: the file: H.264 in MP4, which browsers play. One that ends in .avi becomes MPEG-4 at a
            constant rate, `fps` or 30.
        video: what was analysed: a file, a folder of images, or RGB frames (h, w, 3), 0 to 255.
        analysis: of it; frame 1 is the first of `video`.
        camera: intrinsics, px, that it was analysed with; by default OpenFace's guess.
        fps: frames per second; by default the file's own times, else those of the rows.
    Returns:
        The path.
    Raises:
        InputError: the clip cannot be read.
        OutputError: the video cannot be written; what was there before is untouched.
        ValueError: there is no frame, or one is not an RGB image.
    """
    check_rate(fps)
    times: Callable[[int], float] | None = None
    if isinstance(video, str | Path):
        video = open_frames(video)
        times = video.shown_at
    if fps:
        times = _at_rate(fps)
    table = analysis.table()
    drawn = draw_frames(
        check_frames(video), table, units=analysis.units, camera=check_camera(camera)
    )
    film = film_frames(path, drawn, row_times(table) if times is None else times, fps=fps)
    if film is None:
        raise ValueError("video: expected at least one frame, got none")
    return film


def film_frames(
    path: str | Path,
    pictures: Iterable[Picture],
    timestamp: Callable[[int], float],
    *,
    fps: float | None = None,
) -> Path | None:
    """Writes pictures as a video; nothing where there is none.

    Args:
        path: see `FilmWriter`.
        pictures: RGB.
        timestamp: time of the picture with an index from 0, s.
        fps: of an AVI, see `FilmWriter`.
    Raises:
        OutputError: it cannot be written.
    """
    with FilmWriter(path, fps=fps) as film:
        for index, picture in enumerate(pictures):
            film.write(picture, timestamp(index))
        return film.finish() if film.frames else None


def draw_frames(
    frames: Iterable[Picture],
    rows: Table,
    *,
    units: UnitNames | None,
    camera: Camera | None = None,
    lowest: int = _LOWEST,
) -> Iterator[Picture]:
    """Draws the faces of each frame over it, and the action units of the first beside it.

    Args:
        frames: RGB, the first is number 1.
        rows: faces in the order of their frames.
        units: columns of the rows' action units; None draws no bars.
        camera: intrinsics, px; by default OpenFace's guess.
        lowest: px; pictures that are lower are enlarged.
    """
    bounds = np.searchsorted(rows.frame, np.arange(1, rows.frame.max(initial=0) + 2))
    for index, frame in enumerate(frames):
        here = bounds[index : index + 2] if index + 1 < len(bounds) else (0, 0)
        faces = rows[slice(*map(int, here))]
        height, width = frame.shape[:2]
        lens = as_camera(camera, height=height, width=width)
        if height < lowest:
            frame, faces, lens = enlarge(frame, faces, lens, -(-lowest // height))
        drawn = draw_face(frame, faces, lens)
        if units is not None:
            found = np.flatnonzero(faces.success)
            drawn = draw_units(drawn, faces[[int(i) for i in found[:1]]], units)
        yield drawn


def _at_rate(fps: float) -> Callable[[int], float]:
    return lambda index: index / fps


def row_times(rows: Table) -> Callable[[int], float]:
    """The times of frames as their rows have them; frames without a row go on at the usual pace."""
    known = dict(zip(rows.frame.tolist(), rows.timestamp.tolist(), strict=True))
    steps = np.diff(rows.timestamp) / np.maximum(np.diff(rows.frame), 1)
    steps = steps[np.isfinite(steps) & (steps > 0)]
    step = float(np.median(steps)) if len(steps) else _FRAME
    if not len(steps):  # an analysis without times
        return lambda index: index * step
    return lambda index: known.get(index + 1, index * step)
