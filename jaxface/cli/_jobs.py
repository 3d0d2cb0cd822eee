"""Which inputs are analysed, how, and under which names their results appear."""

import dataclasses
import glob
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from ..errors import InputError, InputWarning
from ..io import InputKind, classify_input, folder_contents, list_images, natural_key

Mode = Literal["video", "image"]

_LIST = "@"  # before the name of a file that lists inputs
_PATTERN = frozenset("*?[")


class NameClashError(ValueError):
    """Two inputs would write the same files."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One input that yields one CSV."""

    path: Path
    given: str  # as the user wrote it, or as it was found below what the user wrote
    name: str  # of the result files below the output folder, without suffix
    mode: Mode
    kind: InputKind | None  # None where `problem` is set
    problem: InputError | None = None  # why it cannot even be started
    # Of an image's faces, x0 y0 x1 y1, px; None: they are detected.
    boxes: Float[np.ndarray, "f 4"] | None = dataclasses.field(default=None, compare=False)


def plan_jobs(inputs: Sequence[str], mode: Mode | None, *, recursive: bool = False) -> list[Job]:
    """Lists the jobs of a command line.

    Args:
        inputs: video files, image files, folders, patterns with `*`, `?` and `[...]`, and `@FILE`
            for a file with an input in each line.
        mode: forced on all inputs; None takes image files as images and the rest as clips.
        recursive: look into the folders of a folder, too.
    Returns:
        The jobs in order. An input that cannot be opened becomes a job with a `problem`.
    Raises:
        NameClashError: the same input is given twice.
    """
    jobs = [job for given in _expand(inputs) for job in _jobs(given, mode, recursive)]
    return _name_apart(jobs)


def _expand(inputs: Iterable[str]) -> Iterator[str | Job]:
    """Inputs without lists and patterns; a problem in place of one that gives none."""
    for given in inputs:
        if given.startswith(_LIST) and not os.path.lexists(given):
            yield from _read_list(given)
        elif _PATTERN & set(given) and not os.path.lexists(given):
            found = sorted((Path(p) for p in glob.glob(given, recursive=True)), key=natural_key)
            if not found:
                expected = "a pattern that fits files"
                yield _problem(given, expected, "none that fits", "check its folder and suffix")
            yield from map(str, found)
        else:
            yield given


def _read_list(given: str) -> Iterator[str | Job]:
    """The lines of a list file: an input each; empty ones and those that begin with # are none."""
    path = Path(given[len(_LIST) :])
    expected = "a text file with an input in each line"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        yield _problem(str(path), expected, "bytes that are no UTF-8 text", "save it as UTF-8")
        return
    except OSError as error:
        got = error.strerror or str(error)
        yield _problem(str(path), expected, got, "check the spelling of the path")
        return
    found = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not found:
        yield _problem(str(path), expected, "a file without any", "write an input in each line")
    yield from _expand(line for line in found if not line.startswith(_LIST))
    for line in found:
        if line.startswith(_LIST):
            yield _problem(line, "an input", "a list within a list", "name the files in one list")


def _problem(given: str, expected: str, got: str, hint: str) -> Job:
    problem = InputError(given, expected, got, hint)
    return dataclasses.replace(_job(given, None, "video"), problem=problem)


def _jobs(given: str | Job, mode: Mode | None, recursive: bool) -> list[Job]:
    if isinstance(given, Job):
        return [given]
    path = Path(given)
    try:
        if not given:
            raise InputError("''", "a file or folder", "an empty name", "check the command line")
        kind = classify_input(given)  # of an address, a `Path` keeps one slash
        if kind is InputKind.FOLDER:
            return _jobs_below(path, given, mode, recursive)
        if kind is InputKind.VIDEO and mode == "image":
            raise InputError(path, "an image or a folder", "a video", "leave out --mode image")
    except InputError as error:
        return [dataclasses.replace(_job(given, None, mode or "video"), problem=error)]
    return [_job(given, kind, mode or ("image" if kind is InputKind.IMAGE else "video"))]


def _jobs_below(path: Path, given: str, mode: Mode | None, recursive: bool) -> list[Job]:
    """Inputs in a folder: one clip of its pictures, or each file by itself."""
    if not recursive:
        jobs = _jobs_in(path, given, mode)
        if jobs:
            return jobs
        below = sum(1 for entry in path.iterdir() if _is_folder(entry))
        if below and mode != "image":
            got = f"none in it, but {below} folder{'s' * (below > 1)}"
            hint = "--recursive looks into them"
            raise InputError(path, "a folder of pictures or videos", got, hint)
        list_images(path)  # says what is wrong
    jobs = []
    for folder, below, _ in os.walk(path):
        shown_below = (name for name in below if not name.startswith("."))
        below[:] = sorted(shown_below, key=lambda name: natural_key(Path(name)))
        here = Path(folder)
        shown = given if here == path else str(here)
        parent = "" if here == path else here.relative_to(path).as_posix() + "/"
        for job in _jobs_in(here, shown, mode):
            whole = job.kind is InputKind.FOLDER  # its name is that of the folder
            kept = parent.rstrip("/") or job.name if whole else parent + job.name
            jobs.append(dataclasses.replace(job, name=kept))
    if not jobs:
        expected = "pictures or videos in the folder or below it"
        raise InputError(path, expected, "none", "check the path")
    return jobs


def _jobs_in(folder: Path, given: str, mode: Mode | None) -> list[Job]:
    contents = folder_contents(folder)
    if mode == "image":
        return [_job(str(file), InputKind.IMAGE, "image") for file in contents.images]
    if contents.images and not contents.videos:
        return [_job(given, InputKind.FOLDER, "video")]
    for other in contents.others if contents.videos else ():
        message = f"{other}: neither a picture nor a video, left out"
        warnings.warn(message, InputWarning, stacklevel=2)
    videos = [_job(str(file), InputKind.VIDEO, "video") for file in contents.videos]
    if mode == "video":  # the pictures, too, are a clip
        frames = [_job(given, InputKind.FOLDER, "video")] if contents.images else []
        return [*videos, *frames]
    return [*videos, *(_job(str(file), InputKind.IMAGE, "image") for file in contents.images)]


def _is_folder(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _job(given: str, kind: InputKind | None, mode: Mode) -> Job:
    path = Path(given)
    # A folder may be given as "." or "frames/..", whose last piece is no name.
    name = path.resolve().name if kind is InputKind.FOLDER else path.stem
    return Job(path=path, given=given, name=name or "root", mode=mode, kind=kind)


def _name_apart(jobs: list[Job]) -> list[Job]:
    """Gives inputs of one name the folders that they differ in, then their suffixes."""
    for groups in (_with_folders, _with_suffixes):
        by_name: dict[str, list[Job]] = {}
        for job in jobs:
            by_name.setdefault(os.path.normcase(job.name), []).append(job)
        names = {id(job): job.name for job in jobs}
        for same in by_name.values():
            if len(same) > 1:
                names |= groups(same)
        jobs = [dataclasses.replace(job, name=names[id(job)]) for job in jobs]
    seen: dict[str, Job] = {}
    for job in jobs:
        other = seen.setdefault(os.path.normcase(job.name), job)
        if other is not job:
            raise NameClashError(
                f"{other.given} and {job.given} would both write {job.name}.csv; "
                "name each input once, or analyse them into different folders"
            )
    return jobs


def _with_folders(jobs: list[Job]) -> dict[int, str]:
    parents = [os.path.dirname(os.path.abspath(job.path)) for job in jobs]
    if len(set(parents)) == 1:
        return {}
    drives = {os.path.splitdrive(parent)[0] for parent in parents}
    common = os.path.commonpath(parents) if len(drives) == 1 else ""
    names = {}
    for job, parent in zip(jobs, parents, strict=True):
        below = os.path.relpath(parent, common) if common else os.path.splitdrive(parent)[1]
        folders = "" if below == os.curdir else Path(below.lstrip(os.sep)).as_posix() + "/"
        names[id(job)] = folders + job.name.rpartition("/")[2]
    return names


def _with_suffixes(jobs: list[Job]) -> dict[int, str]:
    return {id(job): job.name + job.path.suffix for job in jobs if job.kind is not InputKind.FOLDER}
