"""Keeps OpenCV and the image libraries from writing to the terminal; PyAV never does."""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import cv2

_LOCK = threading.Lock()
_SILENT = 0  # OpenCV's LOG_LEVEL_SILENT


@contextlib.contextmanager
def quiet_opencv() -> Iterator[None]:
    """Silences OpenCV's log."""
    with _LOCK:
        logging: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 4: the functions lie in cv2
        level = logging.getLogLevel()
        logging.setLogLevel(_SILENT)
        try:
            yield
        finally:
            logging.setLogLevel(level)


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Discards what C code writes to standard error. For short calls on damaged files only.

    libjpeg and libpng complain there directly; while this lasts, so would other threads.
    """
    with _LOCK:
        try:
            saved = os.dup(2)
        except OSError:  # no standard error, so nothing to silence
            yield
            return
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(sink)
