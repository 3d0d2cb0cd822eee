"""What the user sees: a progress bar on a terminal, and one line for every input."""

import sys
import time
import traceback
from io import TextIOBase
from types import TracebackType
from typing import TextIO

from tqdm import tqdm

from ._jobs import Job
from ._run import Outcome


class Reporter:
    """Reports one input after another."""

    def __init__(self, *, debug: bool = False):
        """Starts the first input's clock.

        Args:
            debug: show tracebacks.
        """
        self.failures = 0
        self._debug = debug
        self._bar: tqdm | None = None
        self._start = time.perf_counter()

    def start(self, job: Job) -> None:
        """Begins an input."""
        self._name = job.given
        self._start = time.perf_counter()

    def frames(self, count: int | None) -> None:
        """Shows a bar for `count` frames, or an open-ended one."""
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=count, desc=self._name, unit=" frames", leave=False, file=sys.stderr
            )

    def advance(self) -> None:
        """Counts a frame."""
        if self._bar is not None:
            self._bar.update()

    def finish(self, job: Job, outcome: Outcome) -> None:
        """Prints an input's line."""
        seconds = max(time.perf_counter() - self._start, 1e-9)
        self.close()
        if outcome.csv is None:
            result = "no face found, no CSV written"
        elif job.mode == "image":
            result = f"{_count(outcome.rows, 'face')} -> {outcome.csv}"
        else:
            found = f"{_count(outcome.frames, 'frame')}, {outcome.faces} of {outcome.rows} rows "
            result = f"{found}with a face, {outcome.frames / seconds:.1f} frames/s -> {outcome.csv}"
        _print(f"{job.given}: {result}{_overlays(job, outcome)}", sys.stdout)

    def fail(self, error: BaseException, path: str | None = None) -> None:
        """Reports a failure on standard error.

        Args:
            error: what happened. Our own errors name their file; others get `path` put before.
            path: the input that was being processed.
        """
        self.failures += 1
        self.close()
        if self._debug:
            traceback.print_exception(error)
        message = str(error).strip() or type(error).__name__
        if not isinstance(error, (ValueError, OSError)):
            message = f"{type(error).__name__}: {message}"
            message = message if self._debug else f"{message} (--debug shows the traceback)"
        if path is not None and path not in message:
            message = f"{path}: {message}"
        _print(f"jaxface: error: {message}", sys.stderr)

    def warn(self, message: str) -> None:
        """Prints a warning on standard error, past the bar."""
        if self._bar is not None:
            self._bar.clear()
        _print(f"jaxface: warning: {message}", sys.stderr)
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _print(line: str, stream: TextIO | TextIOBase) -> None:
    """Prints a line, whatever file names it holds: they need not be valid in the encoding."""
    encoding = stream.encoding or "utf-8"
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
