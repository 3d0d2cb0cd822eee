"""`jaxface validate A B --clips CLIP ...`: analyses clips in two ways and times both."""

import dataclasses
import itertools
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import OutputError
from ..io import SequenceReader, VideoReader, canvas_size, read_frames
from ..output import About, Layout, Stored, Table, empty_table, join_tables
from ..output.validation import Clip, FilePair, Timing, compare_stored, frames_at
from ..run import (
    Analysis,
    analyze_chunks,
    collect_clip,
    compile_seconds,
    watch_compiling,
    write_npz,
)
from ._engine import Engine
from ._jobs import Job, Mode
from ._parser import build_parser, check_arguments, find_command
from ._report import Reporter, print_line
from ._run import Options, check_output_folder, open_input, source_of
from ._settings_file import read_settings

# What decides how a clip is analysed; the other options decide what is written, or where.
_KEYS = (
    *("model", "mode", "faces", "static", "at-once", "wild", "multi-view"),
    *("fx", "fy", "cx", "cy", "fps", "clock"),
)
_WARM = 24  # frames that are analysed before the clock is started: three chunks

_Reader = VideoReader | SequenceReader


class Configuration(NamedTuple):
    """One of the two ways to analyse."""

    given: str  # as the user wrote it
    options: Options
    mode: Mode


class Analysed(NamedTuple):
    """What became of the clips."""

    clips: list[Clip]
    problems: list[str]
    said: list[str]  # how it was done, for the report


def read_configuration(given: str) -> Configuration:
    """Understands a model's name or path, or a TOML file with options of `analyze`.

    Args:
        given: as the user wrote it.
    Raises:
        SystemExit: the file cannot be used, or holds options that say nothing of the analysis.
    """
    parser = build_parser()
    analyze, validate = find_command(parser, "analyze"), find_command(parser, "validate")
    flags = [f"--model={given}"]
    if given.lower().endswith(".toml"):
        flags, inputs = read_settings(validate, analyze, Path(given))
        if inputs:
            validate.error(f"{given}: inputs: leave them out, and name the clips after --clips")
        for name in (flag[2:].partition("=")[0] for flag in flags):
            if name not in _KEYS:
                known = ", ".join(_KEYS)
                validate.error(f"{given}: {name} does not decide the results: take some of {known}")
    arguments = parser.parse_args(["analyze", "-", "--out", ".", *flags])
    check_arguments(validate, arguments)
    options = Options(
        out=Path("."),
        model=arguments.model,
        faces=arguments.faces,
        static=arguments.static,
        at_once=arguments.at_once,
        wild=arguments.wild,
        multi_view=None if arguments.multi_view is None else bool(arguments.multi_view),
        fx=arguments.fx,
        fy=arguments.fy,
        cx=arguments.cx,
        cy=arguments.cy,
        fps=arguments.fps,
        clock=arguments.clock,
    )
    return Configuration(given, options, arguments.mode or "video")


def analyze_both(
    configurations: Sequence[Configuration],
    jobs: Sequence[Job],
    *,
    positions: Sequence[float] | None,
    out: Path | None,
    reporter: Reporter,
) -> Analysed:
    """Analyses every clip in both ways, one way after the other, and compares them.

    Args:
        configurations: A and B.
        jobs: the clips.
        positions: compares only the frames at these % of each clip; of still pictures only these
            are analysed. None: all.
        out: folder that keeps the results, as a/<clip>.npz and b/<clip>.npz; None keeps none.
        reporter: warns, and says what is compiled.
    Raises:
        OutputError: a result cannot be written.
        ModelFileError: a model is not there, or damaged.
    """
    if out is not None:
        check_output_folder(out)
    sides = [_Side(c, "ab"[i], out) for i, c in enumerate(configurations)]
    found = Analysed([], [], _said(configurations, positions))
    with watch_compiling(reporter.say):
        for job in jobs:
            try:
                if job.problem is not None:
                    raise job.problem
                clip = _compare(job, sides, positions)
            except OutputError:
                raise
            except ValueError as error:  # of this clip alone
                found.problems.append(str(error))
                continue
            found.clips.append(clip)
            times = (f"{t.frames.mean():.1f}" for t in (clip.timing_a, clip.timing_b))
            words = "{} ms per frame by A, {} by B".format(*times)
            print_line(f"{job.given}: {words}", sys.stderr)
    if not found.clips:
        found.problems.append("no clip was compared")
    return found


def _said(configurations: Sequence[Configuration], positions: Sequence[float] | None) -> list[str]:
    a, b = configurations
    modes = {configuration.mode for configuration in configurations}
    lines = [
        f"A is {_words(a)}, B is {_words(b)}. Both analysed each clip by itself, one after the "
        "other.",
        "ms per frame are of the whole analysis, decoding among it. Clips go through in chunks of "
        "frames, whose time counts for each of them alike; that of the pass over the clip at its "
        "end counts for all. What is compiled and loaded before is left out. Processor time is "
        "that of all cores together.",
    ]
    if positions is not None and "video" in modes:
        lines.append(
            "A face is tracked from frame to frame, so all frames of a clip were analysed."
        )
    if positions is not None and "image" in modes:
        lines.append(
            "Of still pictures only those at the positions were analysed; decoding them is not "
            "counted."
        )
    return lines


def _words(configuration: Configuration) -> str:
    model = configuration.options.model
    words = [] if configuration.given == model else [f"model {model}"]
    words += ["still pictures"] if configuration.mode == "image" else []
    return f"{configuration.given} ({', '.join(words)})" if words else configuration.given


def _compare(job: Job, sides: Sequence["_Side"], positions: Sequence[float] | None) -> Clip:
    frames = None
    if positions is not None and any(side.mode == "image" for side in sides):
        frames = frames_at(np.arange(1, _count(job, sides[0].options) + 1), positions)
    results, timings, paths = [], [], []
    for side in sides:
        analysis, timing = side.analyze(job, frames)
        paths.append(side.keep(job, analysis))
        if frames is not None:
            analysis = analysis[np.isin(analysis.frame, frames)]
        results.append(Stored(analysis, About(analysis.kind, analysis.units)))
        timings.append(timing)
    comparison = compare_stored(*results, positions=None if frames is not None else positions)
    return Clip(FilePair(job.name, *paths), comparison, *timings)


def _count(job: Job, options: Options) -> int:
    """Frames of a clip."""
    reader = open_input(job, options)
    return sum(1 for _ in reader) if reader.count is None else reader.count


class _Side:
    """One of the two ways, with its model."""

    def __init__(self, configuration: Configuration, name: str, out: Path | None):
        self.options, self.mode = configuration.options, configuration.mode
        self._engine = Engine(configuration.options)
        self._folder = None if out is None else out / name
        self._warm: set[tuple[int, int]] = set()  # canvases whose programs are loaded

    def analyze(self, job: Job, frames: Sequence[int] | None) -> tuple[Analysis, Timing]:
        """Analyses a clip.

        Args:
            job: the clip.
            frames: their numbers from 1, where only these are wanted; a tracked clip has all.
        """
        reader = open_input(job, self.options)
        canvas = canvas_size(reader.height, reader.width)
        if canvas not in self._warm:
            self._run(job, reader, itertools.islice(enumerate(reader, 1), _WARM))
            self._warm.add(canvas)
        if self.mode == "video" or frames is None:
            return self._run(job, reader, enumerate(reader, 1))
        found = read_frames(reader, [frame - 1 for frame in frames])
        return self._run(job, reader, ((index + 1, frame) for index, frame in found.items()))

    def keep(self, job: Job, analysis: Analysis) -> Path:
        """Writes the result where it is wanted. Returns its path, else that of the clip."""
        if self._folder is None:
            return job.path
        return write_npz(self._folder / f"{job.name}.npz", analysis)

    def _run(
        self, job: Job, reader: _Reader, frames: Iterator[tuple[int, np.ndarray]]
    ) -> tuple[Analysis, Timing]:
        how = self._stills if self.mode == "image" else self._track
        return how(dataclasses.replace(job, mode=self.mode), reader, frames)

    def _track(
        self, job: Job, reader: _Reader, frames: Iterator[tuple[int, np.ndarray]]
    ) -> tuple[Analysis, Timing]:
        """A clip, whose faces are followed."""
        pictures = (frame for _, frame in frames)
        clip = self._engine.open(source_of(job, reader, self.options, pictures))
        laps, batches = _Laps(), []
        for batch in analyze_chunks(clip):
            laps.end(batch.tally.frames)
            batches.append(batch)
        analysis = collect_clip(clip, batches)
        return analysis, laps.finish()

    def _stills(
        self, job: Job, reader: _Reader, frames: Iterator[tuple[int, np.ndarray]]
    ) -> tuple[Analysis, Timing]:
        """Pictures, each by itself."""
        whole = source_of(job, reader, self.options, iter(()))
        laps, found, units = _Laps(), [], None
        for number, frame in frames:
            results = self._engine(whole._replace(frames=iter([frame])))
            rows = [record.row for record in results]
            found += [_numbered(row, number, whole.timestamp(number - 1)) for row in rows]
            units = results.units
            laps.end(1)
        if units is None:
            raise ValueError(f"{job.given}: expected at least one frame, got none")
        table = join_tables(found) if found else empty_table(Layout(units=units))
        columns = {f.name: getattr(table, f.name) for f in dataclasses.fields(table)}
        kind = "video" if whole.faces == "one" else "multi_face"
        return Analysis(**columns, kind=kind, units=units), laps.finish()


def _numbered(row: Table, frame: int, time: float) -> Table:
    """A row of an image as one of a clip."""
    return dataclasses.replace(row, frame=np.array([frame]), timestamp=np.array([time]))


class _Laps:
    """How long frames take, without what is compiled in between."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []
        self._frames: list[int] = []
        self._processor, self._last = time.process_time(), time.perf_counter()

    def end(self, frames: int) -> None:
        """So many frames are done."""
        now = time.perf_counter()
        self._spans.append((self._last, now))
        self._frames.append(frames)
        self._last = now

    def finish(self) -> Timing:
        """What is done since the last frames counts for all of them."""
        rest = self._seconds([(self._last, time.perf_counter())])
        total = sum(self._frames)
        if not total:
            return Timing(np.zeros(0))
        each = [
            np.full(count, self._seconds([span]) / count)
            for span, count in zip(self._spans, self._frames, strict=True)
            if count
        ]
        processor = time.process_time() - self._processor
        return Timing(1000 * (np.concatenate(each) + rest / total), 1000 * processor / total)

    def _seconds(self, spans: Iterable[tuple[float, float]]) -> float:
        spans = list(spans)
        return max(sum(end - begin for begin, end in spans) - compile_seconds(spans), 0.0)
