"""What the user sees: progress bars on a terminal, and one line for every input."""

import sys
import threading
import time
import traceback
from io import TextIOBase
from typing import TextIO

from tqdm import tqdm

from ._jobs import Job
from ._run import Outcome


class JobReport:
    """One input on its way."""

    def __init__(self, job: Job):
        """Starts the input's clock."""
        self.job = job
        self._bar: tqdm | None = None
        self._start = time.perf_counter()

    def frames(self, count: int | None) -> None:
        """Shows a bar for `count` frames, or an open-ended one."""
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=count, desc=self.job.given, unit=" frames", leave=False, file=sys.stderr
            )

    def advance(self) -> None:
        """Counts a frame."""
        if self._bar is not None:
            self._bar.update()

    def finish(self, outcome: Outcome) -> None:
        """Prints the input's line."""
        job, seconds = self.job, max(time.perf_counter() - self._start, 1e-9)
        self.close()
        if outcome.csv is None:
            result = "no face found, no CSV written"
        elif job.mode == "image":
            result = f"{_count(outcome.rows, 'face')} -> {outcome.csv}"
        else:
            found = f"{_count(outcome.frames, 'frame')}, {outcome.faces} of {outcome.rows} rows "
            result = f"{found}with a face, {outcome.frames / seconds:.1f} frames/s -> {outcome.csv}"
        if outcome.lost:
            result += f", {_count(outcome.lost, 'picture')} unreadable"
        notes = f" ({'; '.join(outcome.notes)})" if outcome.notes else ""
        _print(f"{job.given}: {result}{_overlays(job, outcome)}{notes}", sys.stdout)

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Reporter:
    """Reports on all inputs; those that are under way at the same time each have a report."""

    def __init__(self, *, debug: bool = False):
        """Begins without failures.

        Args:
            debug: show tracebacks.
        """
        self.failures = 0
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
        if not isinstance(error, (ValueError, OSError)):
            message = f"{type(error).__name__}: {message}"
            message = message if self._debug else f"{message} (--debug shows the traceback)"
        if path is not None and path not in message:
            message = f"{path}: {message}"
        _print(f"jaxface: error: {message}", sys.stderr)

    def fall_short(self) -> None:
        """Counts an input of which something was left out, and said to be."""
        with self._lock:
            self.failures += 1

    def warn(self, message: str) -> None:
        """Prints a warning on standard error, past the bars."""
        _print(f"jaxface: warning: {message}", sys.stderr)


def _print(line: str, stream: TextIO | TextIOBase) -> None:
    """Prints a line, whatever file names it holds: they need not be valid in the encoding."""
    encoding = stream.encoding or "utf-8"
    with tqdm.external_write_mode(file=stream):  # past the bars
        print(line.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def _overlays(job: Job, outcome: Outcome) -> str:
    """The end of an input's line: where its pictures are."""
    if not outcome.overlays:
        return ""
    if job.mode == "image":
        return f", overlay {outcome.overlays[0]}"
    pattern = outcome.overlays[0].with_name(f"{job.name}_overlay_*.png")
    return f", {_count(len(outcome.overlays), 'overlay')} {pattern}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
