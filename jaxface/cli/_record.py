"""What made a result: `<name>.run.json` beside it, to repeat it and to go on with a batch."""

import dataclasses
import datetime
import functools
import glob
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .. import __version__
from ..errors import InputError
from ..io import InputKind, list_images
from ..output import Record, write_file
from ._jobs import Job
from ._run import Options, Outcome

SUFFIX = ".run.json"
_FORMAT = 1
_PACKAGES = ("jax", "jaxlib", "numpy", "equinox", "opencv-python-headless", "opencv-python", "av")
_NOT_SETTINGS = ("out",)  # a folder that is moved stays finished


class Described(NamedTuple):
    """What analysed, apart from what the user asked for."""

    model: Mapping[str, Any]  # name and sha256
    config: Mapping[str, Any]  # effective settings
    device: str
    lanes: int  # that clips of one face were followed in


class Times(NamedTuple):
    """When an input was analysed."""

    started: float  # seconds since 1970
    seconds: float  # that it took, without what was compiled
    compiling: float  # s that it waited for what was compiled


def record_path(job: Job, options: Options) -> Path:
    """Where the record of an input lies."""
    return options.out / f"{job.name}{SUFFIX}"


def hash_input(job: Job) -> str:
    """sha256 of a file, or of the names and contents of a folder's pictures.

    Raises:
        InputError: it cannot be read, or is no longer there.
    """
    try:
        if job.kind is not InputKind.FOLDER:
            return _hash_file(job.path)
        whole = hashlib.sha256()
        for path in list_images(job.path):
            whole.update(f"{path.name}\0{_hash_file(path)}\n".encode(errors="surrogateescape"))
        return whole.hexdigest()
    except OSError as error:
        got = error.strerror or str(error)
        raise InputError(job.path, "an input that can be read", got, "check it") from error


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def settings_of(job: Job, options: Options, engine: Described) -> dict[str, Any]:
    """All that decides what is written, besides the input and the model."""
    asked = {
        key: value
        for key, value in dataclasses.asdict(options).items()
        if key not in _NOT_SETTINGS and key != "lanes"
    }
    # Of stills and of several faces in a clip none are followed in lanes.
    lanes = engine.lanes if job.mode == "video" and options.faces != "all" else 1
    return _plain({**asked, "mode": job.mode, "lanes": lanes, "config": engine.config})


def describe_run(job: Job, options: Options, engine: Described, digest: str) -> Record:
    """What made a result, for the files of results that hold it: nothing that a second run with
    the same input and settings would not say, too.

    Args:
        digest: of the input, see `hash_input`.
    """
    return Record(
        {
            "jaxface": __version__,
            "input": {"name": job.path.name, "sha256": digest},
            "model": dict(engine.model),
            "settings": settings_of(job, options, engine),
            "versions": _all_versions(),
            "device": engine.device,
        }
    )


def write_record(
    job: Job,
    options: Options,
    engine: Described,
    outcome: Outcome,
    *,
    times: Times,
    digest: str,
) -> Path:
    """Writes the record of an input that is finished, after all of its files.

    Args:
        times: of the analysis.
        digest: of the input, as it was before: see `hash_input`.
    Raises:
        OutputError: it cannot be written.
    """
    begun = datetime.datetime.fromtimestamp(times.started, datetime.UTC)
    record = {
        "format": _FORMAT,
        "jaxface": __version__,
        "input": {"given": job.given, "path": str(job.path.resolve()), "sha256": digest},
        "model": dict(engine.model),
        "settings": settings_of(job, options, engine),
        "versions": _all_versions(),
        "device": engine.device,
        "started": begun.isoformat(timespec="seconds"),
        "seconds": round(times.seconds, 3),
        "compile_seconds": round(times.compiling, 3),
        "frames": outcome.frames,
        "rows": outcome.rows,
        "faces": outcome.faces,
        "unreadable": outcome.lost,
        "notes": list(outcome.notes),
        "files": {name: _hash_file(path) for name, path in _files(job, options).items()},
    }
    text = json.dumps(record, indent=1, sort_keys=False, allow_nan=False)
    return write_file(record_path(job, options), text.encode() + b"\n")


def read_record(job: Job, options: Options) -> dict[str, Any] | None:
    """The record of an input; None where there is none, or a damaged one."""
    try:
        record = json.loads(record_path(job, options).read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("format") == _FORMAT else None


def is_finished(job: Job, options: Options, engine: Described) -> bool:
    """Whether an input was analysed before: the same contents, model and settings, and its files
    are as they were written."""
    record = read_record(job, options)
    if record is None or record.get("jaxface") != __version__:
        return False
    same = (
        record.get("model") == _plain(engine.model)
        and record.get("settings") == settings_of(job, options, engine)
        and record.get("unreadable") == 0  # pictures may be readable now
    )
    if not same:
        return False
    try:
        files = {name: _hash_file(path) for name, path in _files(job, options).items()}
        return files == record.get("files") and record["input"]["sha256"] == hash_input(job)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _files(job: Job, options: Options) -> dict[str, Path]:
    """The files of an input that are there, by what follows its name; aligned faces and overlays
    too, so that none that is lost goes unnoticed."""
    base = options.out / job.name
    # Results of other formats are an older run's.
    ends = (*(f".{name}" for name in options.formats), ".hog", "_tracked.mp4", "_of_details.txt")
    paths = {end: base.with_name(base.name + end) for end in ends}
    for pattern in ("_aligned/*", "_overlay*.png"):
        for path in sorted(base.parent.glob(glob.escape(base.name) + pattern)):
            paths[path.relative_to(base.parent).as_posix()[len(base.name) :]] = path
    return {end: path for end, path in paths.items() if path.is_file()}


@functools.cache
def _all_versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _plain(value: Any) -> Any:
    """As JSON gives it back: lists for tuples, names for functions."""
    return json.loads(json.dumps(value, default=_name))


def _name(value: Any) -> str:
    return str(value) if isinstance(value, Path) else getattr(value, "__qualname__", repr(value))
