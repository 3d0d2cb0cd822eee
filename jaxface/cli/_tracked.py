"""The annotated video of a clip, drawn once its results are final."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from ..output import Table, UnitNames, join_tables
from ..types import Camera

_Units = tuple[Float[np.ndarray, " u"], Float[np.ndarray, " c"]]  # intensity and presence
_UNDRAWN = ("eye_landmarks", "landmarks_3d", "local", "rotation", "translation", "gaze_angle")
_PIECE = 256  # rows that are kept in one table


class TrackedVideo:
    """Keeps what is drawn of each row, some 2 kB, until the clip ends, and draws it then.

    The bars so show what the result files hold; the action units of a clip are known at its end.
    """

    def __init__(self, base: Path, *, openface: bool):
        """Prepares the video of one clip; nothing is written before the clip ends.

        Args:
            base: path of the clip's results, without a suffix.
            openface: as OpenFace's: an AVI of the source's size and rate, without bars.
        """
        end = ".avi" if openface else "_tracked.mp4"
        self.path = base.with_name(f"{base.name}{end}")
        self._openface = openface
        self._pieces: list[Table] = []
        self._rows: list[Table] = []

    def add(self, row: Table) -> None:
        """Takes a row. Rows come in the order of their frames."""
        rest = {name: getattr(row, name)[:, :0] for name in _UNDRAWN}
        self._rows.append(dataclasses.replace(row, **rest))
        if len(self._rows) == _PIECE:
            self._pieces.append(join_tables(self._rows))
            self._rows.clear()

    def write(
        self,
        frames: Iterable[UInt8[np.ndarray, "h w 3"]],
        *,
        units: UnitNames,
        action_units: Iterable[_Units] | None,
        camera: Camera,
        timestamp: Callable[[int], float],
        fps: float | None,
    ) -> Path | None:
        """Draws and writes the video.

        Args:
            frames: of the clip once more.
            units: columns of the action units.
            action_units: of all rows; None where the rows have them.
            camera: intrinsics, px.
            timestamp: of the frame with an index from 0, s.
            fps: frames per second, if they are known; times count but for an AVI.
        Returns:
            Its path; None where the clip has no frame.
        Raises:
            InputError: the clip cannot be read again.
            OutputError: the video cannot be written; what was there before is untouched.
        """
        from ..run import draw_frames, film_frames

        pieces = [*self._pieces, *([join_tables(self._rows)] if self._rows else [])]
        if not pieces:  # several faces are looked for, and none is found
            return film_frames(self.path, frames, timestamp, fps=fps)
        rows = join_tables(pieces)
        if action_units is not None:
            values = zip(*action_units, strict=True)
            intensity, presence = (np.asarray(column, np.float32) for column in values)
            rows = dataclasses.replace(rows, au_intensity=intensity, au_presence=presence)
        bars = None if self._openface or not (units.intensity or units.presence) else units
        lowest = {"lowest": 0} if self._openface else {}
        drawn = draw_frames(frames, rows, units=bars, camera=camera, **lowest)
        return film_frames(self.path, drawn, timestamp, fps=fps)
