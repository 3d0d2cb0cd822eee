"""What the user sees: progress bars on a terminal, and one line for every input."""

import collections
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from io import TextIOBase
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from tqdm import tqdm

from .._files import damaged_files
from ..output import write_file
from ._formats import NAMES
from ._jobs import Job
from ._run import Outcome

# What can become of an input, and how the summary counts it.
_SUMMARY = (
    ("analysed", "now"),
    ("skipped", "finished before"),
    ("incomplete", "with unreadable pictures"),
    ("failed", "failed"),
)


_OUT_OF_MEMORY = (
    "memory ran out: take fewer inputs at a time (--lanes 1 for clips, --jobs 1 for pictures), "
    "leave out --at-once, or make the frames smaller"
)
_PAUSE = 0.5  # s; an input that stands still for less did not wait for a compiler


class Took(NamedTuple):
    """How long an input took, s."""

    seconds: float  # without what was compiled
    compiling: float  # that it waited for


class JobReport:
    """One input on its way."""

    def __init__(self, job: Job):
        """Starts the input's clock."""
        self.job = job
        self.began = time.time()
        self._bar: tqdm | None = None
        self._start = self._moved = time.perf_counter()
        self._pauses: list[tuple[float, float]] = []

    def frames(self, count: int | None) -> None:
        """Shows a bar for `count` frames, or an open-ended one."""
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=count, desc=self.job.given, unit=" frames", leave=False, file=sys.stderr
            )

    def advance(self) -> None:
        """Counts a frame."""
        self._move()
        if self._bar is not None:
            self._bar.update()

    def _move(self) -> None:
        """The input went on; it may have stood still before, which compiling makes it do."""
        now = time.perf_counter()
        if now - self._moved > _PAUSE:
            self._pauses.append((self._moved, now))
        self._moved = now

    def stop(self) -> "Took":
        """Stops the input's clock."""
        self._move()
        compiling = _compile_seconds(self._pauses)
        return Took(max(self._moved - self._start - compiling, 1e-9), compiling)

    def finish(self, outcome: Outcome, took: Took) -> None:
        """Prints the input's line."""
        job, seconds = self.job, took.seconds
        self.close()
        files = ", ".join(map(str, outcome.files))
        apart = f", {took.compiling:.0f} s of compiling apart" if took.compiling >= _PAUSE else ""
        if not files:
            wanted = " or ".join(NAMES[name] for name in outcome.formats)
            result = f"no face found, no {wanted} written"
        elif job.mode == "image":
            result = f"{_count(outcome.rows, 'face')}{apart} -> {files}"
        else:
            rate = f"{seconds:.1f} s ({outcome.frames / seconds:.1f} frames/s){apart}"
            found = f"{outcome.faces} of {outcome.rows} rows with a face"
            result = f"{_count(outcome.frames, 'frame')} in {rate}, {found} -> {files}"
        if outcome.lost:
            result += f", {_count(outcome.lost, 'picture')} unreadable"
        notes = f" ({'; '.join(outcome.notes)})" if outcome.notes else ""
        print_line(f"{job.given}: {result}{_overlays(job, outcome)}{notes}", sys.stdout)

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Reporter:
    """Reports on all inputs; those that are under way at the same time each have a report."""

    def __init__(self, *, debug: bool = False, quiet: bool = False):
        """Begins without failures.

        Args:
            debug: show tracebacks.
            quiet: do not say what the user waits for.
        """
        self.failures = 0
        self._quiet = quiet
        # By input and the name of the results.
        self._became: dict[tuple[str, str], dict[str, Any]] = {}
        self._debug = debug
        self._lock = threading.Lock()

    def fail(self, error: BaseException, path: str | None = None) -> None:
        """Reports a failure on standard error.

        Args:
            error: what happened. Our own errors name their file; others get `path` put before.
            path: the input that was being processed.
        """
        with self._lock:
            self.failures += 1
        if self._debug:
            traceback.print_exception(error)
        message = str(error).strip() or type(error).__name__
        if type(error).__module__ == "builtins" and isinstance(error, OSError) and error.strerror:
            message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        if _is_out_of_memory(error):
            message = f"{_OUT_OF_MEMORY} ({message.splitlines()[0]})"
        elif not isinstance(error, (ValueError, OSError)):
            message = f"{type(error).__name__}: {message}"
            message = message if self._debug else f"{message} (--debug shows the traceback)"
        if path is not None and path not in message:
            message = f"{path}: {message}"
        print_line(f"jaxface: error: {message}", sys.stderr)

    def note(self, job: Job, status: str, more: Mapping[str, Any]) -> None:
        """Keeps what became of an input, for the summary."""
        with self._lock:
            self._became[job.given, job.name] = {"input": job.given, "status": status, **more}

    def skip(self, job: Job) -> None:
        """Says that an input was finished before."""
        self.note(job, "skipped", {})
        print_line(f"{job.given}: finished before, skipped", sys.stdout)

    def sum_up(self, jobs: Sequence[Job], path: str | None) -> None:
        """Prints how many inputs were analysed, and writes the summary of all where it is wanted.

        Args:
            jobs: all, in the order of the command.
            path: of a JSON file; - for standard output, None for none.
        """
        self._tell_damage()
        rows = [
            self._became.get((j.given, j.name), {"input": j.given, "status": "failed"})
            for j in jobs
        ]
        counts = collections.Counter(row["status"] for row in rows)
        done = counts["analysed"] + counts["skipped"]
        parts = [f"{counts[kind]} {word}" for kind, word in _SUMMARY if counts[kind]]
        line = f"{done} of {_count(len(jobs), 'input')} analysed"
        print_line(f"{line}: {', '.join(parts)}" if len(parts) > 1 else line, sys.stdout)
        if path is None:
            return
        text = json.dumps({"inputs": rows, **counts}, indent=1)
        if path == "-":
            print_line(text, sys.stdout)
            return
        try:
            write_file(Path(path), text.encode() + b"\n")
        except OSError as error:
            self.fail(error)

    def fall_short(self) -> None:
        """Counts an input of which something was left out, and said to be."""
        with self._lock:
            self.failures += 1

    def _tell_damage(self) -> None:
        """Says that something in the cache was damaged, which by now is made again."""
        found = damaged_files()
        if found:
            where = found[0] if len(found) == 1 else os.path.commonpath(found)
            self.warn(f"{where}: {_count(len(found), 'damaged file')} of the cache, made again")

    def warn(self, message: str) -> None:
        """Prints a warning on standard error, past the bars."""
        print_line(f"jaxface: warning: {message}", sys.stderr)

    def say(self, message: object) -> None:
        """Prints what the user waits for on standard error, past the bars."""
        if not self._quiet:
            print_line(f"jaxface: {message}", sys.stderr)


def print_line(line: str, stream: TextIO | TextIOBase) -> None:
    """Prints a line, whatever file names it holds: they need not be valid in the encoding."""
    encoding = stream.encoding or "utf-8"
    with tqdm.external_write_mode(file=stream):  # past the bars
        print(line.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def _overlays(job: Job, outcome: Outcome) -> str:
    """The end of an input's line: where its video and its pictures are."""
    film = "" if outcome.film is None else f", video {outcome.film}"
    if not outcome.overlays:
        return film
    if job.mode == "image":
        return f", overlay {outcome.overlays[0]}"
    pattern = outcome.overlays[0].with_name(f"{job.name}_overlay_*.png")
    return f"{film}, {_count(len(outcome.overlays), 'overlay')} {pattern}"


def _is_out_of_memory(error: BaseException) -> bool:
    """Of the device, whose errors are of no class of their own, or of the computer."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    )


def _compile_seconds(pauses: Sequence[tuple[float, float]]) -> float:
    """How long something was compiled while an input stood still, s."""
    if not pauses or "jaxface.run" not in sys.modules:  # nothing was compiled
        return 0.0
    from ..run import compile_seconds

    return compile_seconds(pauses)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
