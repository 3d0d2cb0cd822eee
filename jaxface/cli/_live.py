"""`jaxface live`: one face in a camera's pictures, as they come."""

import contextlib
import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from ..fit import FitConfig
from ..io import LiveSource, default_camera, open_webcam, play_live
from ..models import load_model
from ..output import CsvWriter, Table, UnitNames
from ..pipeline import default_config
from ..run import Compiling, watch_compiling
from ..run.live import (
    Analyse,
    LiveAnalysis,
    LiveServer,
    Session,
    paint_page,
    paint_window,
    show_window,
    why_no_window,
)
from ..types import Camera
from ._report import Reporter, print_line

_POLL = 0.2  # s between looks at whether it has ended
_FAREWELL = 0.3  # s for pages to hear of the end


@dataclasses.dataclass(frozen=True, kw_only=True)
class LiveOptions:
    """What the user asked for. Lengths in px."""

    source: int | Path = 0  # number of a camera, or a file or folder
    serve: int | None = None  # port of the page, 0 for any; None: a window, if there is a display
    loop: bool = False
    size: tuple[int, int] = (480, 640)  # height and width that a camera is asked for
    csv: Path | None = None
    model: str = "base"
    static: bool = False
    wild: bool = False
    fit: FitConfig | None = None  # in place of the model's own and of `wild`
    lens: Mapping[str, float | None] = dataclasses.field(default_factory=dict)  # fx fy cx cy


def load_analysis(options: LiveOptions, camera: Camera | None) -> Analyse:
    """Loads the model.

    Args:
        options: model and settings.
        camera: intrinsics, px; None for OpenFace's guess.
    Raises:
        ModelFileError: the model is not installed or damaged.
    """
    model = load_model(options.model, wild=options.wild)
    config = default_config(model, wild=options.wild, static_action_units=options.static)
    if options.fit is not None:
        config = dataclasses.replace(config, fit=options.fit)
    return LiveAnalysis(model, camera=camera, config=config)


def run_live(
    options: LiveOptions,
    reporter: Reporter,
    *,
    remember: Callable[[], None] = lambda: None,
) -> int:
    """Shows a camera or a file until it ends or the user stops it.

    Args:
        options: what is shown, and how.
        reporter: is told what fails, and what the user waits for.
        remember: called at the end if a frame was analysed.
    Returns:
        Exit status: 0, or 1 where the camera or the analysis failed.
    Raises:
        InputError: the camera or file cannot be opened.
        OutputError: the CSV cannot be written.
        OSError: another program has the port.
    """
    source = open_source(options)
    camera = _camera(options, source)
    problem = None if options.serve is not None else why_no_window()
    window = options.serve is None and problem is None
    rows = None if options.csv is None else _Rows(options.csv)
    session = Session(
        source,
        lambda: load_analysis(options, camera),
        paint_window if window else paint_page,
        camera=camera,
        record=None if rows is None else rows.write,
    )
    with contextlib.ExitStack() as stack:
        stack.callback(source.close)
        stack.enter_context(_compiling_said(session, reporter))
        if problem is not None:
            reporter.say(f"no window ({problem}): open the page instead")
        if not window:
            server = LiveServer(session.shown, source.name, port=options.serve or 0)
            stack.enter_context(server)
            print_line(f"{source.name}: {server.url}", sys.stdout)
        with _stopped_by_signals():
            session.start()
            if window:
                show_window(session, f"{source.name} - jaxface live")
            else:
                _wait(session)
        over = session.stop()
    return _end(session, source.name, rows, reporter, over, remember)


def open_source(options: LiveOptions) -> LiveSource:
    """Opens the camera or file.

    Raises:
        InputError: it cannot be opened.
    """
    if isinstance(options.source, int):
        height, width = options.size
        return open_webcam(options.source, height=height, width=width)
    return play_live(options.source, loop=options.loop)


def _camera(options: LiveOptions, source: LiveSource) -> Camera | None:
    given = {name: value for name, value in options.lens.items() if value is not None}
    if not given:
        return None
    return default_camera(height=source.height, width=source.width, **given)


def _wait(session: Session) -> None:
    """Until the session has ended; pages then hear of it."""
    while not session.ended.wait(_POLL):
        pass
    threading.Event().wait(_FAREWELL)


def _end(
    session: Session,
    name: str,
    rows: "_Rows | None",
    reporter: Reporter,
    over: bool,
    remember: Callable[[], None],
) -> int:
    """Says how it went, and finishes the CSV. Returns the exit status."""
    if session.error is not None:
        reporter.fail(session.error, name)
    if session.analysed:
        remember()
    file = None if rows is None else rows.finish()
    written = "" if rows is None else f" -> {file}" if file else ", no CSV written"
    print_line(f"{name}: {session.summary()}{written}", sys.stdout)
    status = 0 if session.error is None else 1
    if not over:
        # A compiler is still at work, which cannot be interrupted: Python's own end would take
        # things from under it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


@contextlib.contextmanager
def _compiling_said(session: Session, reporter: Reporter) -> Iterator[None]:
    """Says what is compiled, once, and shows it over the camera's picture."""

    def say(compiling: Compiling) -> None:
        session.note = str(compiling)
        reporter.say(compiling)

    with watch_compiling(say):
        yield


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Ctrl-C, or a request to terminate, ends what is inside, and no more."""

    def interrupt(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread hears of signals
            return
        before = signal.signal(signal.SIGTERM, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


class _Rows:
    """The CSV of the frames that are shown."""

    def __init__(self, path: Path):
        """Creates nothing yet."""
        self._path = path
        self._writer: CsvWriter | None = None

    def write(self, row: Table, units: UnitNames) -> None:
        """Appends a row. Raises `OutputError`."""
        if self._writer is None:
            self._writer = CsvWriter(self._path, units=units)
        self._writer.write(row)

    def finish(self) -> Path | None:
        """Gives the file its name; None where there was no row. Raises `OutputError`."""
        return None if self._writer is None else self._writer.finish()
