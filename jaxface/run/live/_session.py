"""The threads of a live analysis: capture, analyse, draw.

Between two of them there is room for one frame, the latest: who is slow skips frames, and what is
shown is never older than its own way through the threads.
"""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from ...io import LiveFrame, LiveSource
from ...output import NO_UNITS, Table, UnitNames
from ...types import Camera
from ._figures import Delays, Figures, Pace, measured
from ._paint import Paint
from ._slots import Latest

_POLL = 0.1  # s between looks at whether it is to stop, and between pictures before the first face
_GRACE = 3.0  # s that a thread has to come to its end


@runtime_checkable
class Analyse(Protocol):
    """Finds a face in one frame after another: a `LiveAnalysis`, or what stands for it."""

    @property
    def units(self) -> UnitNames:
        """Action units of the rows."""
        ...

    def __call__(self, pixels: UInt8[np.ndarray, "h w 3"], number: int, time: float) -> Table:
        """One row for the frame with that number, from 1, and time, s."""
        ...


class Shown(NamedTuple):
    """What there is to be seen of one frame."""

    picture: bytes  # as `Paint` gives it
    figures: Figures
    captured: float  # when its frame was there, s of `time.perf_counter`


class _Found(NamedTuple):
    """A frame, and the face in it."""

    frame: LiveFrame
    row: Table | None  # None before anything could be analysed


class Session:
    """A live analysis from its `start` to its `stop`, or to the end of its source."""

    def __init__(
        self,
        source: LiveSource,
        load: Callable[[], Analyse],
        paint: Paint,
        *,
        camera: Camera | None = None,
        record: Callable[[Table, UnitNames], None] | None = None,
    ):
        """Starts nothing yet.

        Args:
            source: frames; it is closed at the end.
            load: gives the analysis, in a thread: pictures are shown meanwhile.
            paint: makes a picture of a frame.
            camera: intrinsics, px, for drawing.
            record: is given the row of each frame that was analysed and shown, and its columns.
        """
        self.shown: Latest[Shown] = Latest()
        self.note = "starting"  # what the user waits for until the first face is analysed
        self.error: BaseException | None = None  # why it ended before its source did
        self.ended = threading.Event()
        self._source, self._load, self._paint = source, load, paint
        self._camera, self._record = camera, record
        self._frames: Latest[LiveFrame] = Latest()
        self._found: Latest[_Found] = Latest()
        self._units = NO_UNITS
        self._stop = threading.Event()
        self._captured = 0  # frames
        self._drawn = 0  # of them with what was found
        self._last = 0  # number of the last that was drawn
        self._skipped = 0  # frames that came before anything could be analysed
        self._coming, self._going, self._delays = Pace(), Pace(), Delays()
        work = (self._capture, self._analyse, self._draw)
        self._threads = [
            threading.Thread(target=self._run, args=(each,), daemon=True) for each in work
        ]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> bool:
        """Ends the threads and gives the camera back. May be called again.

        Returns:
            Whether all have ended: one that compiles cannot be interrupted.
        """
        self._stop.set()
        until = time.perf_counter() + _GRACE
        for thread in self._threads:
            if thread.ident is not None:  # it was started
                thread.join(max(until - time.perf_counter(), 0.0))
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def analysed(self) -> bool:
        """Whether a frame was, so that all programs are there."""
        return self._drawn > 0

    def summary(self) -> str:
        """How it went, in words."""
        if not self._drawn:
            return "no frame was analysed"
        return (
            f"{self._drawn} frames shown, {self._dropped()} dropped, "
            f"95 % within {self._delays.slow:.0f} ms"
        )

    def _dropped(self) -> int:
        missed = self._last - self._skipped - self._drawn
        return max(missed, 0) if self._drawn else 0

    def _run(self, work: Callable[[], None]) -> None:
        """A thread's life: what it raises ends all of them, and is kept."""
        try:
            work()
        except BaseException as error:
            if self.error is None and not self._stop.is_set():
                self.error = error
            self._stop.set()
        finally:
            if work == self._capture:
                self._frames.close()
                self._source.close()
            elif work == self._analyse:
                self._found.close()
            else:
                self.shown.close()
                self.ended.set()

    def _capture(self) -> None:
        for frame in self._source:
            if self._stop.is_set():
                return
            self._captured = frame.number
            self._coming.tick()
            self._frames.put(frame)

    def _analyse(self) -> None:
        analyse = self._load()
        self._units = analyse.units
        number = 0
        while not self._stop.is_set():
            latest = self._frames.get(number, _POLL)
            if latest is not None:
                number, frame = latest
                row = analyse(frame.pixels, frame.number, frame.time)
                self._found.put(_Found(frame, row))
            elif self._frames.closed:
                return

    def _draw(self) -> None:
        number = plain = 0
        while not self._stop.is_set():
            latest = self._found.get(number, _POLL)
            if latest is not None:
                number, found = latest
                self._show(found)
            elif self._found.closed:
                return
            elif not number:  # nothing was analysed yet
                frame = self._frames.get(plain, 0)
                if frame is not None:
                    plain = frame[0]
                    self._show(_Found(frame[1], None))

    def _show(self, found: _Found) -> None:
        frame, row = found
        note = self.note if row is None else ""
        picture = self._paint(frame.pixels, row, self._units, self._camera, note)
        delay = 1000 * (time.perf_counter() - frame.captured)
        self._last = frame.number
        if row is not None:
            if self._drawn:
                self._delays.add(delay)
            else:  # it waited for a compiler, and those that came meanwhile are not counted
                self._skipped = self._captured - 1
            self._drawn += 1
            self._going.tick()
        figures = Figures(
            frame=frame.number,
            time=frame.time,
            captured_rate=self._coming.rate,
            shown_rate=self._going.rate,
            captured=self._captured,
            shown=self._drawn,
            dropped=self._dropped(),
            delay=delay,
            slow_delay=self._delays.slow,
            note=note,
            **measured(row, self._units),
        )
        self.shown.put(Shown(picture, figures, frame.captured))
        if row is not None and self._record is not None:
            self._record(row, self._units)
