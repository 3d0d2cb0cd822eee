"""What is being compiled, for those who wait for it, and how long that took.

Nothing is noted until `watch_compiling` is called, as the command line does.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import monitoring

_PATIENCE = 1.0  # s; what is made within it is not worth a line, nor is reading from a cache
_LONGEST = 65_535  # px; longer rows are whole pictures, laid flat
_STAGES = "/jax/core/compile/"  # durations of tracing, lowering and compiling
_LAST = "/jax/core/compile/backend_compile_duration"
_HIT = "/jax/compilation_cache/cache_hits"
# What programs do, and how long two cores take to trace and compile them for base, s.
_WORK = {
    "detect_program": ("detection", 5),
    "flat_detect_program": ("detection", 5),
    "analyze_box": ("faces of images", 30),
    "track_chunk": ("tracking", 30),
    "ahead_program": ("tracking ahead", 20),
    "scout_program": ("starts of segments", 10),
    "measure_chunk": ("measurements", 15),
    "several_chunk": ("several faces", 45),
}


class Compiling(NamedTuple):
    """A program that is being compiled."""

    work: str  # what it does
    size: tuple[int, int] | None  # height and width of its pictures, px; None: of many sizes
    seconds: int | None  # that it may take; None where nothing is known

    def __str__(self) -> str:
        size = "" if self.size is None else f" for {self.size[1]}x{self.size[0]}"
        about = "" if self.seconds is None else f", about {self.seconds} s"
        return f"compiling{size}{about} ({self.work})"


_Say = Callable[[Compiling], None]


class _Watch:
    """Who is told, and when something was compiled."""

    def __init__(self) -> None:
        self.say: _Say | None = None
        self.said: set[Compiling] = set()
        self.spans: list[tuple[float, float]] = []  # of `time.perf_counter`
        self.listens = False
        self.lock = threading.Lock()
        self.thread = threading.local()  # what this thread has traced, lowered, or been given

    def listen(self) -> None:
        """Once in a process: listeners cannot be taken back in all versions of JAX."""
        with self.lock:
            listens, self.listens = self.listens, True
        if not listens:
            monitoring.register_event_duration_secs_listener(
                lambda event, duration_secs, **kwargs: self._took(event, duration_secs)
            )
            monitoring.register_event_listener(lambda event, **kwargs: self._happened(event))

    def _happened(self, event: str) -> None:
        if event == _HIT:
            self.thread.hit = True

    def _took(self, event: str, duration_secs: float) -> None:
        if self.say is None or not event.startswith(_STAGES):
            return
        now = time.perf_counter()
        spans = [*getattr(self.thread, "spans", ()), (now - duration_secs, now)]
        if event != _LAST:
            self.thread.spans = spans
            return
        # What JAX's cache has given was not compiled, though it was lowered to be found.
        hit, self.thread.hit, self.thread.spans = getattr(self.thread, "hit", False), False, []
        if not hit:
            with self.lock:
                self.spans += spans


_watch = _Watch()


@contextlib.contextmanager
def watch_compiling(say: _Say) -> Iterator[None]:
    """Tells what is compiled while it lasts, once for each program and size.

    Args:
        say: called from a thread of its own, once a program has not come from a cache.
    """
    _watch.listen()
    before, _watch.say = _watch.say, say
    _watch.said, _watch.spans = set(), []
    try:
        yield
    finally:
        _watch.say = before


def compile_seconds(spans: Sequence[tuple[float, float]]) -> float:
    """How long something was compiled while `watch_compiling` lasted.

    Args:
        spans: begin and end of times that do not overlap, by `time.perf_counter`, s.
    Returns:
        Seconds of them; what several threads compile at a time counts once.
    """
    with _watch.lock:
        compiled = sorted(_watch.spans)
    total = 0.0
    for begin, end in spans:
        last = begin
        for first, until in compiled:
            first, until = max(first, last), min(until, end)
            if until > first:
                total, last = total + until - first, until
    return total


class Notice:
    """Tells whoever watches that a program is being compiled, if it takes long."""

    def __init__(self, function: str, arrays: Sequence[Any]):
        """Says nothing yet.

        Args:
            function: name of what is compiled.
            arrays: that it is compiled for.
        """
        self._function, self._arrays = function, arrays
        self._timer: threading.Timer | None = None

    def start(self) -> None:
        """It was found in no cache of ours."""
        if _watch.say is not None and self._timer is None:
            self._timer = threading.Timer(_PATIENCE, self._tell)
            self._timer.daemon = True
            self._timer.start()

    def stop(self) -> None:
        """It is there."""
        if self._timer is not None:
            self._timer.cancel()

    def _tell(self) -> None:
        work, seconds = _WORK.get(self._function, (self._function, None))
        on_cpu = jax.default_backend() == "cpu"
        compiling = Compiling(work, _picture_size(self._arrays), seconds if on_cpu else None)
        with _watch.lock:
            say = None if compiling in _watch.said else _watch.say
            _watch.said.add(compiling)
        if say is not None:
            say(compiling)


def _picture_size(arrays: Sequence[Any]) -> tuple[int, int] | None:
    """Height and width of the pictures among the arguments of a program."""
    shapes = [a.shape for a in arrays if a.dtype == np.uint8 and a.ndim >= 3]
    shapes = [shape for shape in shapes if max(shape) <= _LONGEST]
    pictures = [shape[-3:-1] for shape in shapes if shape[-1] == 3]
    grays = [(shape[-2] - 2, shape[-1] - 2) for shape in shapes]  # with a border
    return max(pictures or grays, key=lambda size: size[0] * size[1], default=None)
