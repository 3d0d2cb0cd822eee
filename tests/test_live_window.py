"""The live window, on a display of its own: Xvfb."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from jaxface.run.live import Latest, Session, Shown, paint_window, show_window, why_no_window

from .live_stand_in import DrawnFrames, KnowsFrames

try:
    import tkinter
except ImportError:  # of itself, or of the Tk library
    pytest.skip("no tkinter: apt-get install python3-tk", allow_module_level=True)


@pytest.fixture(scope="module")
def display() -> Iterator[None]:
    """A screen of 800x600 that nobody sees."""
    xvfb = shutil.which("Xvfb")
    if xvfb is None:
        pytest.skip("no Xvfb on the PATH: apt-get install xvfb")
    read, write = os.pipe()
    command = [xvfb, "-displayfd", str(write), "-screen", "0", "800x600x24", "-nolisten", "tcp"]
    before = os.environ.get("DISPLAY")
    with subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL) as server:
        os.close(write)
        with os.fdopen(read) as said:
            os.environ["DISPLAY"] = f":{said.readline().strip()}"
        yield
        server.terminate()
    del os.environ["DISPLAY"]
    if before is not None:
        os.environ["DISPLAY"] = before


class _Watched(Latest[Shown]):
    """Notes what the window shows each time that it looks for a newer picture."""

    def __init__(self, key: str = ""):
        super().__init__()
        self.key, self.looks, self.seen = key, 0, []

    def get(self, after: int, timeout: float) -> Any:
        root: Any = tkinter._get_default_root()  # pyright: ignore[reportAttributeAccessIssue]
        picture, *lines = root.winfo_children()
        name = str(picture.cget("image"))
        if name:  # it has shown one
            size = tuple(int(root.tk.call("image", side, name)) for side in ("width", "height"))
            self.seen.append((after, size, [line.cget("text") for line in lines]))
        self.looks += 1
        if self.looks == 20 and self.key == "raise":
            raise KeyboardInterrupt
        if self.looks == 20 and self.key:
            root.focus_force()
            root.event_generate(self.key)
        return super().get(after, timeout)


def _session(count: int, shown: _Watched, *, size: tuple[int, int] = (48, 64)) -> Session:
    session = Session(DrawnFrames(count, rate=60, size=size), KnowsFrames, paint_window)
    session.shown = shown
    session.start()
    return session


@pytest.mark.usefixtures("display")
def test_the_window_shows_picture_and_figures():
    shown = _Watched()
    session = _session(40, shown)
    show_window(session, "drawn")
    assert session.ended.is_set()  # it closes by itself
    after, (width, height), (found, goes) = shown.seen[-1]
    assert height == 240 and width > 320  # enlarged, with bars beside it
    assert after > 10 and len({size for _, size, _ in shown.seen[-9:]}) == 1
    assert found.startswith("confidence 0.90   pitch +6° yaw -12° roll +0°   60 cm away")
    assert re.fullmatch(r"\d+ frames/s of \d+ +\d+ ms from frame to picture .* \d+ dropped", goes)
    session.stop()


@pytest.mark.usefixtures("display")
@pytest.mark.parametrize("key", ["<Escape>", "q"])
def test_keys_close_it(key):
    shown = _Watched(key)
    session = _session(10**6, shown)
    began = time.perf_counter()
    show_window(session, "drawn")
    assert time.perf_counter() - began < 5 and session.stop() and session.error is None


@pytest.mark.usefixtures("display")
def test_interrupts_get_out():
    session = _session(10**6, _Watched("raise"))
    with pytest.raises(KeyboardInterrupt):
        show_window(session, "drawn")
    assert session.stop()


@pytest.mark.usefixtures("display")
def test_pictures_that_are_larger_than_the_screen_are_shrunk():
    shown = _Watched()
    session = _session(5, shown, size=(1080, 1920))
    show_window(session, "drawn")
    session.stop()
    _, (width, height), _ = shown.seen[-1]
    assert 400 < width <= 800 and 200 < height <= 500


@pytest.mark.usefixtures("display")
def test_there_is_a_display():
    assert why_no_window() is None


def test_there_is_no_display(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":99999")
    assert "99999" in (why_no_window() or "")


def test_there_is_no_tk(monkeypatch):
    monkeypatch.setitem(sys.modules, "tkinter", None)
    assert why_no_window() == "this Python has no tkinter"
