"""Where the clip of a result is, and the clip with what was found drawn over it, for a report."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..io import as_camera, open_frames, read_image
from ..output import Table, draw_face
from ..output.report import Film, encode_film, encode_picture
from ..types import Camera
from ._checks import AnyImage, check_frames
from ._film import draw_frames, row_times
from ._results import Analysis

_MOST_FRAMES = 3000  # of a film: 100 s at 30 frames/s; of longer clips some are left out
_NO_VERSION = "OpenFace, or a program that writes its CSV (which states no version)"


def read_beside(path: Path) -> dict[str, Any]:
    """What lies beside a file of results about the run that wrote it.

    Args:
        path: the file of results.
    Returns:
        jaxface's `<name>.run.json`; OpenFace's `<name>_of_details.txt` under `details`; without
        the first, what can be said of the `program`. Damaged ones are left out.
    """
    record: dict[str, Any] = {}
    try:
        found = json.loads(path.with_name(f"{path.stem}.run.json").read_bytes())
        record = found if isinstance(found, dict) else {}
    except (OSError, ValueError, RecursionError):
        pass
    try:
        text = path.with_name(f"{path.stem}_of_details.txt").read_text("utf-8", "surrogateescape")
        lines = [line.partition(":") for line in text.splitlines()]
        record["details"] = {name.strip(): value.strip() for name, sign, value in lines if sign}
    except OSError:
        pass
    return record


def program_of(path: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Who wrote a CSV that no record of ours speaks of."""
    if "jaxface" in record or path.suffix.lower() != ".csv":
        return {}
    return {"program": _NO_VERSION}


def find_clip(record: Mapping[str, Any], folder: Path) -> tuple[Path | None, str]:
    """Finds the clip that a record names.

    Args:
        record: of the run.
        folder: of the result, beside which the clip may have been put.
    Returns:
        The clip, if it is there and has the contents that the record states; else words that say
        why it is not taken.
    """
    source, details = record.get("input"), record.get("details")
    named: list[str] = []
    for part, keys in (
        (source, ("path", "given", "name")),
        (details, ("Input full path", "Input")),
    ):
        if isinstance(part, Mapping):
            named += [part[key] for key in keys if isinstance(part.get(key), str) and part[key]]
    digest = source.get("sha256") if isinstance(source, Mapping) else None
    changed = None
    for name in named:
        for place in (Path(name), folder / name, folder / Path(name).name):
            try:
                there = place.exists()
            except (OSError, ValueError):  # a name that no file can have
                continue
            if not there:
                continue
            if _has_changed(place, digest):
                changed = place
                continue
            return place, ""
    if changed is not None:
        return None, f"{changed.name} is not the clip that was analysed: its contents have changed."
    return None, ""


def _has_changed(path: Path, digest: object) -> bool:
    if not isinstance(digest, str) or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() != digest
    except OSError:
        return False


def clip_film(
    video: str | Path | Iterable[AnyImage], analysis: Analysis, camera: Camera | None
) -> Film | None:
    """A small film of a clip, with landmarks, box, head and gaze drawn over every frame.

    Args:
        video: what was analysed: a file, a folder of images, or RGB frames.
        analysis: of it.
        camera: that it was analysed with; by default OpenFace's guess.
    Raises:
        InputError: it cannot be read.
    """
    table = analysis.table()
    stride = _stride(table)
    frames = open_frames(video) if isinstance(video, str | Path) else video
    some = itertools.islice(check_frames(frames), 0, None, stride)
    drawn = draw_frames(some, _every(table, stride), units=None, camera=camera)
    note = "Drawn over it: landmarks, the head's box, gaze."
    return _encode(drawn, table, stride, note)


def tracked_film(path: Path, analysis: Analysis) -> Film | None:
    """The same of the video that `jaxface analyze --tracked` wrote beside a result, if it did.

    Args:
        path: of the result.
        analysis: that it holds.
    Raises:
        InputError: the video cannot be read.
    """
    video = path.with_name(f"{path.stem}_tracked.mp4")
    if not video.is_file():
        return None
    table = analysis.table()
    stride = _stride(table)
    some = itertools.islice(check_frames(open_frames(video)), 0, None, stride)
    return _encode(some, table, stride, f"The clip was not found: this is {video.name}.")


def _stride(table: Table) -> int:
    """One frame in how many a film has."""
    return -(-int(table.frame.max(initial=1)) // _MOST_FRAMES)


def _encode(pictures: Iterable[np.ndarray], table: Table, stride: int, note: str) -> Film | None:
    time = row_times(table)
    timed = ((p, time(i)) for p, i in zip(pictures, itertools.count(0, stride)))
    note += f" One frame in {stride} is shown." if stride > 1 else ""
    return encode_film(timed, note=note, words="The clip with what was found drawn over it")


def _every(table: Table, stride: int) -> Table:
    """The rows of every `stride`-th frame, these counted from 1."""
    if stride == 1:
        return table
    kept = table[(table.frame - 1) % stride == 0]
    return dataclasses.replace(kept, frame=(kept.frame - 1) // stride + 1)


def image_film(path: Path, analysis: Analysis, camera: Camera | None) -> Film:
    """A picture with what was found drawn over it.

    Raises:
        InputError: it cannot be read.
    """
    picture = read_image(path)
    lens = as_camera(camera, height=picture.shape[0], width=picture.shape[1])
    drawn = draw_face(picture, analysis.table(), lens)
    note = "Drawn over it: landmarks, the head's box, gaze."
    return encode_picture(drawn, note=note, words="The picture with what was found drawn over it")


def aligned_film(analysis: Analysis) -> Film | None:
    """A film of the aligned faces that a result holds, where it does: thumbnails of a clip."""
    if analysis.aligned is None or not len(analysis):
        return None
    note = "The clip was not found: these are the aligned faces that the result holds."
    words = "The aligned faces"
    if analysis.kind == "image":
        return encode_picture(
            np.concatenate([*analysis.aligned[:8]], axis=1), note=note, words=words
        )
    first = analysis[analysis.face_id == analysis.face_id[0]]
    assert first.aligned is not None
    pairs: Iterator[tuple[np.ndarray, float]] = zip(
        first.aligned, first.timestamp.tolist(), strict=True
    )
    return encode_film(itertools.islice(pairs, 0, _MOST_FRAMES), note=note, words=words)


def camera_of(record: Mapping[str, Any]) -> Camera | None:
    """The camera that a run was told, or that OpenFace guessed; None where nothing says so."""
    details = record.get("details")
    if not isinstance(details, Mapping):
        return None
    try:
        values = [float(v) for v in str(details["Camera parameters"]).split(",")]
        fx, fy, cx, cy = (np.float32(value) for value in values)
    except (KeyError, ValueError):
        return None
    known = all(np.isfinite(values)) and fx > 0 and fy > 0
    return Camera(*map(np.asarray, (fx, fy, cx, cy))) if known else None
