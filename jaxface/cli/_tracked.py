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

    def __init__(self, path: Path):
        """Prepares the video of one clip; nothing is written before the clip ends.

        Args:
            path: of the video.
        """
        self.path = path
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
    ) -> Path | None:
        """Draws and writes the video.

        Args:
            frames: of the clip once more.
            units: columns of the action units.
            action_units: of all rows; None where the rows have them.
            camera: intrinsics, px.
            timestamp: of the frame with an index from 0, s.
        Returns:
            Its path; None where the clip has no row.
        Raises:
            InputError: the clip cannot be read again.
            OutputError: the video cannot be written; what was there before is untouched.
        """
        from ..run import draw_frames, film_frames

        pieces = [*self._pieces, *([join_tables(self._rows)] if self._rows else [])]
        if not pieces:
            return None
        rows = join_tables(pieces)
        if action_units is not None:
            values = zip(*action_units, strict=True)
            intensity, presence = (np.asarray(column, np.float32) for column in values)
            rows = dataclasses.replace(rows, au_intensity=intensity, au_presence=presence)
        bars = units if units.intensity or units.presence else None
        return film_frames(
            self.path, draw_frames(frames, rows, units=bars, camera=camera), timestamp
        )
