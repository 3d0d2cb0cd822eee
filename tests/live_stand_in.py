"""What a live session is tested with: frames that are drawn, and an analysis that knows them."""

import dataclasses
from collections.abc import Iterator
from time import perf_counter, sleep

import numpy as np

from jaxface.io import LiveFrame
from jaxface.output import OPENFACE_UNITS, Table, UnitNames

from .stand_in import make_row


class DrawnFrames:
    """Grey frames at a rate: a `LiveSource`. Frame n is of level n % 200 + 20."""

    name = "drawn <b>frames</b>"

    def __init__(
        self,
        count: int,
        *,
        rate: float = 1000.0,
        size: tuple[int, int] = (48, 64),
        breaks: Exception | None = None,
    ):
        self.height, self.width = size
        self.closed = 0
        self._count, self._rate, self._breaks = count, rate, breaks

    def __iter__(self) -> Iterator[LiveFrame]:
        start = perf_counter()
        for number in range(1, self._count + 1):
            due = (number - 1) / self._rate
            sleep(max(start + due - perf_counter(), 0))
            level = np.uint8(number % 200 + 20)
            pixels = np.full((self.height, self.width, 3), level)
            yield LiveFrame(pixels, number, due, perf_counter())
        if self._breaks is not None:
            raise self._breaks

    def close(self) -> None:
        self.closed += 1


class KnowsFrames:
    """Takes a while for each frame; landmarks are its level, intensities follow its number."""

    units: UnitNames = OPENFACE_UNITS

    def __init__(self, *, seconds: float = 0.0, first: float = 0.0, breaks_at: int = 0):
        self.seen: list[int] = []
        self._seconds, self._first, self._breaks_at = seconds, first, breaks_at

    def __call__(self, pixels: np.ndarray, number: int, time: float) -> Table:
        sleep(self._seconds if self.seen else self._first)
        if number == self._breaks_at:
            raise RuntimeError("the analysis broke")
        self.seen.append(number)
        height, width = pixels.shape[:2]
        row = make_row(number, 0, time, float(pixels[0, 0, 0]))
        turn = np.linspace(0, 2 * np.pi, 68, endpoint=False)
        ring = np.stack([np.cos(turn), np.sin(turn)], axis=1) * height / 4
        points = (ring + [width / 2, height / 2]).astype(np.float32)
        pose = np.array([[0.0, 0.0, 600.0, 0.1, -0.21, 0.0]], np.float32)
        return dataclasses.replace(
            row,
            landmarks=points[None],
            head_pose=pose,
            au_intensity=np.full((1, 17), number / 10 % 5, np.float32),
            au_presence=np.full((1, 18), float(number % 2), np.float32),
        )
