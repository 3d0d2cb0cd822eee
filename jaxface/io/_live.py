"""Frames as they come: from a camera, or from a file that is played as if it were one."""

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import UInt8

from ..errors import InputError
from ._quiet import quiet_opencv
from ._video import SequenceReader, VideoReader, open_frames

_FOLDER_RATE = 30.0  # frames per second of pictures in a folder, which have no clock
_AHEAD = 2  # frames of a file that are decoded ahead: enough for an even pace
_PATIENCE = 0.5  # s; however late a file's decoder is, one frame in this time is given
_FAILURES = 3  # reads without a picture, in a row, after which a camera is taken for gone
_PAUSE = 0.05  # s between them


class LiveFrame(NamedTuple):
    """A frame at the moment when it was there."""

    pixels: UInt8[np.ndarray, "h w 3"]  # RGB, 0 to 255
    number: int  # from 1; frames that were left out are counted
    time: float  # s since the first frame
    captured: float  # when it was there, s of `time.perf_counter`


@runtime_checkable
class LiveSource(Protocol):
    """What gives frames at their own pace; another of your own may stand in its place."""

    name: str  # for messages
    height: int  # of its pictures, px
    width: int

    def __iter__(self) -> Iterator[LiveFrame]:
        """Waits for each frame. Ends where there are no more; raises InputError if it breaks."""
        ...

    def close(self) -> None:
        """Gives the device back, once nothing reads from it any more."""
        ...


class Webcam:
    """A camera: a `LiveSource`. See `open_webcam`."""

    def __init__(self, number: int, device: Any):
        """Takes over a device that is open."""
        self.name = f"camera {number}"
        self.height = int(device.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.width = int(device.get(cv2.CAP_PROP_FRAME_WIDTH))
        self._device = device

    def __iter__(self) -> Iterator[LiveFrame]:
        """Yields frames until nobody asks for more.

        Raises:
            InputError: the camera gives no pictures any more.
        """
        number, failures, first = 0, 0, 0.0
        while failures < _FAILURES:
            there, picture = self._device.read()
            now = time.perf_counter()
            if not there or picture is None:
                failures += 1
                time.sleep(_PAUSE)
                continue
            first = first if number else now
            number, failures = number + 1, 0
            yield LiveFrame(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), number, now - first, now)
        got = f"no more after frame {number}" if number else "none"
        raise InputError(
            self.name,
            "pictures",
            got,
            "see whether it was unplugged or another program has it, and start again",
        )

    def close(self) -> None:
        """Gives the camera back."""
        self._device.release()


def open_webcam(
    number: int = 0,
    *,
    height: int = 480,
    width: int = 640,
    device: Callable[[int], Any] = cv2.VideoCapture,
) -> Webcam:
    """Opens a camera.

    Args:
        number: of the camera, from 0, as the system counts them.
        height: of the pictures that it is asked for, px; a camera may give another size.
        width: likewise.
        device: opens one; it has the methods of `cv2.VideoCapture`.
    Raises:
        InputError: there is no such camera, or another program has it.
    """
    with quiet_opencv():
        camera = device(number)
        if not camera.isOpened():
            camera.release()
            raise InputError(
                f"camera {number}",
                "a camera that can be opened",
                "none",
                "plug it in, close other programs that use it, or name another number or a file",
            )
        camera.set(cv2.CAP_PROP_FRAME_WIDTH, width)
        camera.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
        camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # where it is known: no frame is old when it comes
    return Webcam(number, camera)


class Playback:
    """A file that is played as if it were a camera: a `LiveSource`. See `play_live`."""

    def __init__(self, reader: VideoReader | SequenceReader, loop: bool):
        """Starts nothing yet."""
        self.name = str(reader.path)
        self.height, self.width = reader.height, reader.width
        self._reader, self._loop = reader, loop

    def __iter__(self) -> Iterator[LiveFrame]:
        """Yields each frame at its time, without those that are late by more than a frame."""
        period = 1 / (self._reader.fps or _FOLDER_RATE)
        start, given, number, base = 0.0, 0.0, 0, 0.0
        while True:
            last = base
            for place, pixels in enumerate(self._reader):
                start = start or time.perf_counter()  # opening the file takes its time
                if place == _AHEAD:
                    # The first frame lies in a circle of references (see `_decode._Converter`),
                    # and holds its memory; while it is young it is found in no time.
                    gc.collect(1)
                last = base + self._reader.timestamp(place)
                early = start + last - time.perf_counter()
                if early > 0:
                    time.sleep(early)
                now = time.perf_counter()
                number += 1
                if -early <= period or now - given >= _PATIENCE:
                    yield LiveFrame(pixels, number, last, now)
                    given = now
            if not self._loop:
                return
            base = last + period

    def close(self) -> None:
        """Nothing to do: each iteration closes its file."""


def play_live(path: str | Path, *, loop: bool = False) -> Playback:
    """Opens a video, or a folder of images at 30 frames a second, to play it as if live.

    Args:
        path: the file or folder.
        loop: begin again at its end; times go on.
    Raises:
        InputError: it cannot be opened.
    """
    return Playback(open_frames(path, fps=_FOLDER_RATE, ahead=_AHEAD), loop)
