"""Which inputs are analysed, how, and under which names their results appear."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ..errors import InputError
from ..io import InputKind, classify_input, list_images

Mode = Literal["video", "image"]


class NameClashError(ValueError):
    """Two inputs would write the same files."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One input that yields one CSV."""

    path: Path
    given: str  # as the user wrote it
    name: str  # of the result files, without suffix
    mode: Mode
    kind: InputKind | None  # None where `problem` is set
    problem: InputError | None = None  # why it cannot even be started


def plan_jobs(inputs: Sequence[str], mode: Mode | None) -> list[Job]:
    """Lists the jobs of a command line.

    Args:
        inputs: video files, image files and folders.
        mode: forced on all inputs; None takes image files as images and the rest as clips.
    Returns:
        The jobs in order. An input that cannot be opened becomes a job with a `problem`.
    Raises:
        NameClashError: two inputs have the same name.
    """
    jobs = [job for given in inputs for job in _jobs(given, mode)]
    _check_names(jobs)
    return jobs


def _jobs(given: str, mode: Mode | None) -> list[Job]:
    path = Path(given)
    try:
        if not given:
            raise InputError("''", "a file or folder", "an empty name", "check the command line")
        kind = classify_input(given)  # of an address, a `Path` keeps one slash
        if kind is InputKind.FOLDER and mode == "image":
            return [_job(str(file), InputKind.IMAGE, "image") for file in list_images(path)]
        if kind is InputKind.VIDEO and mode == "image":
            raise InputError(path, "an image or a folder", "a video", "leave out --mode image")
    except InputError as error:
        return [dataclasses.replace(_job(given, None, mode or "video"), problem=error)]
    return [_job(given, kind, mode or ("image" if kind is InputKind.IMAGE else "video"))]


def _job(given: str, kind: InputKind | None, mode: Mode) -> Job:
    path = Path(given)
    # A folder may be given as "." or "frames/..", whose last piece is no name.
    name = path.resolve().name if kind is InputKind.FOLDER else path.stem
    return Job(path=path, given=given, name=name or "root", mode=mode, kind=kind)


def _check_names(jobs: list[Job]) -> None:
    seen: dict[str, Job] = {}
    for job in jobs:
        other = seen.setdefault(os.path.normcase(job.name), job)
        if other is not job:
            raise NameClashError(
                f"{other.given} and {job.given} would both write {job.name}.csv; "
                "analyse them into different folders"
            )
