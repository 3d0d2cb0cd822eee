"""Inputs of OpenFace's command lines: which there are, and where their results go."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ._openface_flags import FlagError, Given, Request

if TYPE_CHECKING:  # NumPy, which waits until the programs of the last run are being read
    import numpy as np

    from ._jobs import Job

_DEFAULT_FOLDER = "processed"


class Planned(NamedTuple):
    """An input, and where its results go."""

    job: "Job"
    folder: Path


def plan_outputs(request: Request) -> list[Planned]:
    """Inputs with their output folders and names.

    Args:
        request: what is asked for.
    Raises:
        NameClashError: two inputs would write the same files, where OpenFace overwrites the first.
        FlagError: there are more names than inputs.
    Reference:
        Specification 03, E.2.
    """
    from ._jobs import NameClashError

    base = Path(request.out_dir or "")
    planned: list[Planned] = []
    seen: dict[tuple[str, str], str] = {}
    for number, job in enumerate(job for given in request.inputs for job in _jobs(request, given)):
        folder = base
        if number < len(request.names):
            named = base / request.names[number]
            folder = named.parent
            job = dataclasses.replace(job, name=named.stem or job.name)
        if folder == Path() and request.out_dir is None:
            folder = Path(_DEFAULT_FOLDER)
        where = os.path.normcase(folder), os.path.normcase(job.name)
        if seen.setdefault(where, job.given) is not job.given:
            raise NameClashError(
                f"{seen[where]} and {job.given} would both write {folder / job.name}.csv: "
                "give -of before each, or another -out_dir"
            )
        planned.append(Planned(job, folder))
    if len(request.names) > len(planned):
        given = f"{len(request.names)} names for {len(planned)} inputs"
        raise FlagError(f"-of: expected at most one name for each input, got {given}")
    return planned


def _jobs(request: Request, given: Given) -> "list[Job]":
    """The jobs of one input: a clip, an image, or the images of a folder."""
    from ..errors import InputError
    from ..io import InputKind, classify_input, list_images
    from ._jobs import Job

    path = Path(given.path)
    mode = "image" if request.command == "FaceLandmarkImg" else "video"
    name = path.resolve().name if given.folder else path.stem
    broken = Job(path=path, given=given.path, name=name or "root", mode=mode, kind=None)
    try:
        kind = classify_input(path)
        if given.folder and kind is not InputKind.FOLDER:
            raise InputError(path, "a folder of images", "a file", "name it by -f")
        if not given.folder and kind is InputKind.FOLDER:
            raise InputError(path, "a file", "a folder", "name it by -fdir")
        if mode == "image" and kind is InputKind.VIDEO:
            raise InputError(path, "an image", "a video", "use FeatureExtraction for videos")
        if mode == "video" or not given.folder:
            return [dataclasses.replace(broken, kind=kind)]
        files = list_images(path)
    except InputError as error:
        return [dataclasses.replace(broken, problem=error)]
    return [_image(request, file) for file in files]


def _image(request: Request, file: Path) -> "Job":
    """One image of a folder, with its boxes if they lie in a file."""
    from ..errors import InputError
    from ..io import InputKind
    from ._jobs import Job

    job = Job(path=file, given=str(file), name=file.stem, mode="image", kind=InputKind.IMAGE)
    if request.boxes is None:
        return job
    try:
        return dataclasses.replace(job, boxes=read_boxes(Path(request.boxes, f"{file.stem}.txt")))
    except InputError as error:
        return dataclasses.replace(job, problem=error)


def read_boxes(path: Path) -> "np.ndarray":
    """Face boxes from a file of -bboxdir.

    Args:
        path: a text file with a box on each line: least x and y, greatest x and y, px.
    Returns:
        One row per face, maybe none.
    Raises:
        InputError: the file is missing, or a line is no box.
    Reference:
        Specification 01, C.1.
    """
    import numpy as np

    from ..errors import InputError

    expected, what_to_do = "a file of boxes, min_x min_y max_x max_y a line", "correct the file"
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        got = "nothing there" if not path.exists() else str(error)
        raise InputError(path, expected, got, "give each image of -fdir its file") from error
    boxes = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            x0, y0, x1, y1 = (float(value) for value in line.replace(",", " ").split())
        except ValueError as error:
            raise InputError(path, expected, f"{line!r} in line {number}", what_to_do) from error
        if not (np.isfinite((x0, y0, x1, y1)).all() and x0 < x1 and y0 < y1):
            raise InputError(path, expected, f"{line!r} in line {number}", what_to_do)
        boxes.append((x0, y0, x1, y1))
    return np.asarray(boxes, np.float32).reshape(-1, 4)
