"""The window of a live analysis, by Tk."""

import gc
from typing import Any

from ._session import Session

_POLL = 5  # ms between looks for a newer picture
_FRAME = 120  # px of the screen that the rest of the window takes
_KEYS = ("<Escape>", "q", "<Control-c>")  # that close it
_BACK, _TEXT = "#18191e", "#e1e1e1"


def why_no_window() -> str | None:
    """Why no window can be shown here, in words; None where one can."""
    try:
        import tkinter
    except ImportError:  # of itself, or of the Tk library
        return "this Python has no tkinter"
    try:
        tkinter.Tk().destroy()
    except tkinter.TclError as error:
        return str(error) or "no display"
    finally:
        gc.collect()  # see `show_window`
    return None


def show_window(session: Session, title: str) -> None:
    """Shows a session until the user closes the window, or the session ends.

    Args:
        session: that was started, and paints PPM.
        title: of the window.
    Raises:
        KeyboardInterrupt: by Ctrl-C.
    """
    try:
        error = _show(session, title)
    finally:
        # Tk's objects lie in circles of references, and Tcl ends the process if another thread
        # than this one comes to free them.
        gc.collect()
    if isinstance(error, KeyboardInterrupt):
        raise KeyboardInterrupt  # a new one: the other's traceback holds the window
    if error is not None:
        raise error


def _show(session: Session, title: str) -> BaseException | None:
    """Returns what was raised in the main loop."""
    import tkinter

    root = tkinter.Tk()
    try:
        root.title(title)
        root.configure(background=_BACK)
        root.resizable(False, False)
        view = _View(root, session)
        for key in _KEYS:
            root.bind(key, lambda event: view.close())
        root.protocol("WM_DELETE_WINDOW", view.close)
        root.report_callback_exception = view.fail
        view.begin()
        root.mainloop()
        return view.error
    finally:
        root.destroy()


class _View:
    """What the window holds."""

    def __init__(self, root: Any, session: Session):
        import tkinter

        self.error: BaseException | None = None
        self._root, self._session, self._number = root, session, 0
        self._again = ""  # the next look, by Tk's name
        self._image: Any = None
        self._picture = tkinter.Label(root, background=_BACK, borderwidth=0)
        self._picture.pack()
        colors = {"background": _BACK, "foreground": _TEXT, "anchor": "w", "padx": 8, "pady": 3}
        self._lines = [tkinter.Label(root, font="TkFixedFont", **colors) for _ in range(2)]
        for line in self._lines:
            line.pack(fill="x")

    def begin(self) -> None:
        """Looks for a picture as soon as the main loop runs."""
        self._again = self._root.after(0, self.look)

    def look(self) -> None:
        """Shows the latest picture if it is new, and looks again a little later."""
        latest = self._session.shown.get(self._number, 0)
        if latest is not None:
            self._number, shown = latest
            self._show(shown.picture)
            for label, text in zip(self._lines, shown.figures.lines(), strict=True):
                label.configure(text=text)
        if self._session.ended.is_set() and latest is None:
            self._root.quit()
        else:
            self._again = self._root.after(_POLL, self.look)

    def _show(self, picture: bytes) -> None:
        """Puts a picture into the window, smaller where it would not fit the screen."""
        import tkinter

        image = tkinter.PhotoImage(master=self._root, data=picture)
        wide = -(-image.width() // self._root.winfo_screenwidth())
        tall = -(-image.height() // max(self._root.winfo_screenheight() - _FRAME, 1))
        if max(wide, tall) > 1:
            image = image.subsample(max(wide, tall))
        self._picture.configure(image=image)
        self._image = image  # Tk shows nothing of a picture that Python has forgotten

    def close(self) -> None:
        """Ends the main loop."""
        self._root.after_cancel(self._again)
        self._root.quit()

    def fail(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        """An exception in the main loop, Ctrl-C among them, ends it."""
        self.error = error
        self._root.quit()
