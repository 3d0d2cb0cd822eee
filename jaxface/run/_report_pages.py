"""Gathers what a report shows: results by their names, records, clips."""

import dataclasses
import importlib.metadata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from ..io import check_camera
from ..output import About, Stored, UnitNames, find_results
from ..output.report import Film, Named, Subject, check_bokeh, clip_page, cohort_page, named
from ..output.validation import read_cohorts
from ..types import Camera
from ._checks import AnyImage
from ._report_film import (
    aligned_film,
    camera_of,
    clip_film,
    find_clip,
    image_film,
    program_of,
    read_beside,
    tracked_film,
)
from ._results import Analysis, read_results

_RESULTS = "files of results (.csv, .parquet, .npz)"
_RATE = 30.0  # frames/s of a clip whose result has no times
Video = str | Path | Iterable[AnyImage]
Results = Analysis | str | Path | Sequence[Analysis | str | Path]


class _Source(NamedTuple):
    """A result that is to be read, or was."""

    name: str
    place: Path | Analysis


def report_page(
    results: Results,
    *,
    video: Video | None,
    camera: Camera | None,
    cohorts: str | Path | Mapping[str, str] | None,
    skip: Callable[[InputError], object] | None,
) -> bytes:
    """The page of a report, see `write_report`."""
    check_bokeh()
    sources = _sources(results, cohorts if isinstance(cohorts, str | Path) else None)
    alone = len(sources) == 1 and cohorts is None and not _is_folder(results)
    if video is not None and not alone:
        raise ValueError(
            "video: expected None for several results, a folder or cohorts, got one: make a report "
            "of that result"
        )
    groups = read_cohorts(cohorts) if isinstance(cohorts, str | Path) else cohorts
    skipped: list[str] = []

    def refuse(error: InputError) -> None:
        if skip is None:
            raise error
        skip(error)
        skipped.append(str(error))

    if alone:
        source = sources[0]
        return clip_page(_subject(source, video, camera), version=_version())
    figures = list(_figures(sources, refuse))
    if not figures:
        got = f"{len(sources)} that cannot be read"
        raise InputError("results", _RESULTS, got, "read what is said of each")
    return cohort_page(figures, cohorts=groups, skipped=skipped, version=_version())


def _version() -> str:
    try:
        return importlib.metadata.version("jaxface")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "unknown"


def _is_folder(results: object) -> bool:
    return isinstance(results, str | Path) and Path(results).is_dir()


def _sources(results: Results, cohorts: str | Path | None) -> list[_Source]:
    """The results by names, of which no two are the same. A list of cohorts among the files of a
    folder is none."""
    given = [results] if isinstance(results, Analysis | str | Path) else list(results)
    found: list[_Source] = []
    for item in given:
        if isinstance(item, Analysis):
            found.append(_Source(_name_of(item), item))
        elif Path(item).is_dir():
            inside = find_results(Path(item))
            if cohorts is not None:
                inside = {n: p for n, p in inside.items() if not _is_same(p, Path(cohorts))}
            if not inside:
                raise InputError(item, _RESULTS, "none", "check the path")
            found += [_Source(name, path) for name, path in inside.items()]
        else:
            found.append(_Source(Path(item).stem, Path(item)))
    if not found:
        raise InputError("results", _RESULTS, "none", "name at least one")
    return _named_apart(found)


def _is_same(path: Path, other: Path) -> bool:
    return path.resolve() == other.resolve()


def _name_of(analysis: Analysis) -> str:
    if analysis.origin.path is not None:
        return Path(analysis.origin.path).stem
    source = analysis.record.get("input")
    name = source.get("name") if isinstance(source, Mapping) else None
    return Path(name).stem if isinstance(name, str) and name else "result"


def _named_apart(sources: list[_Source]) -> list[_Source]:
    """By the folder where names meet, and at last by number."""

    def with_folder(number: int, source: _Source) -> str:
        place = source.place
        return (place.parent / source.name).as_posix() if isinstance(place, Path) else source.name

    def with_number(number: int, source: _Source) -> str:
        return f"{source.name} ({number})"

    for rename in (with_folder, with_number):
        names = [source.name for source in sources]
        sources = [
            source._replace(name=rename(number, source)) if names.count(source.name) > 1 else source
            for number, source in enumerate(sources, 1)
        ]
    return sources


def _read(source: _Source) -> tuple[Analysis, dict[str, Any]]:
    """A result with the record of its run, as far as it is known."""
    place = source.place
    if isinstance(place, Analysis):
        return _timed(place), dict(place.record)
    analysis = _timed(read_results(place))
    beside = read_beside(place)
    record = {**analysis.record, **beside}
    return analysis, {"result": str(place), **program_of(place, record), **record}


def _timed(analysis: Analysis) -> Analysis:
    """A clip whose result has no times gets those of 30 frames/s."""
    if analysis.kind == "image" or len(analysis) < 2 or np.ptp(analysis.timestamp) > 0:
        return analysis
    return dataclasses.replace(analysis, timestamp=(analysis.frame - 1) / _RATE)


def _stored(analysis: Analysis) -> Stored:
    units = analysis.units
    # Columns that were left out keep their names.
    units = UnitNames(
        units.intensity if analysis.au_intensity.shape[1] else (),
        units.presence if analysis.au_presence.shape[1] else (),
    )
    return Stored(analysis, About(analysis.kind, units))


def _figures(sources: list[_Source], refuse: Callable[[InputError], None]) -> Iterator[Named]:
    """The figures of each result; only one is in memory at a time."""
    for source in sources:
        try:
            analysis, _ = _read(source)
        except InputError as error:
            refuse(error)
            continue
        figures = named(source.name, _stored(analysis))
        if figures is None:
            action = "leave it out, or analyse its input again"
            refuse(InputError(source.name, "a result with rows", "none", action))
            continue
        yield figures


def _subject(source: _Source, video: Video | None, camera: Camera | None) -> Subject:
    analysis, record = _read(source)
    notes: list[str] = []
    film: Film | None = None
    folder = source.place.parent if isinstance(source.place, Path) else Path()
    origin = analysis.origin
    if video is None and origin.path is not None and Path(origin.path).exists():
        video, camera = origin.path, origin.lens() if camera is None else camera
    if video is None:
        video, why = find_clip(record, folder)
        notes += [why] if why else []
    lens = camera_of(record) if camera is None else check_camera(camera)
    if isinstance(video, str | Path) and analysis.kind == "image":
        film = image_film(Path(video), analysis, lens)
    elif video is not None:
        film = clip_film(video, analysis, lens)
    if film is None and analysis.kind != "image" and isinstance(source.place, Path):
        film = tracked_film(source.place, analysis)
    if film is None:
        film = aligned_film(analysis)
    return Subject(source.name, _stored(analysis), record, film, notes)
