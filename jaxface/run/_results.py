"""Results of a whole clip or image, on the host."""

from pathlib import Path
from typing import TYPE_CHECKING

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ..output import OPENFACE_UNITS, CsvKind, Table, UnitNames, to_dataframe
from ..output import write_csv as write_table

if TYPE_CHECKING:
    import pandas as pd  # loaded by `to_dataframe`: 40 MB that few clips need


class Analysis(eqx.Module):
    """Every face of every frame, one row each, as NumPy arrays.

    Coordinate frames and units are those of `jaxface.types`.
    """

    kind: CsvKind = eqx.field(static=True)  # video: one face; multi_face; image
    frame: Int[np.ndarray, " n"]  # from 1
    face_id: Int[np.ndarray, " n"]  # from 0
    timestamp: Float[np.ndarray, " n"]  # s
    confidence: Float[np.ndarray, " n"]  # 0 to 1
    success: Bool[np.ndarray, " n"]
    gaze: Float[np.ndarray, "n 2 3"]  # unit vectors, image-left eye first; 0 without success
    gaze_angle: Float[np.ndarray, "n 2"]  # rad, to the right and down
    eye_landmarks: Float[np.ndarray, "n 56 2"]  # px, 28 of the image-left eye first
    eye_landmarks_3d: Float[np.ndarray, "n 56 3"]  # mm
    head_pose: Float[np.ndarray, "n 6"]  # Tx Ty Tz mm, Rx Ry Rz rad
    landmarks: Float[np.ndarray, "n 68 2"]  # px
    landmarks_3d: Float[np.ndarray, "n 68 3"]  # mm
    scale: Float[np.ndarray, " n"]  # px per mm
    rotation: Float[np.ndarray, "n 3"]  # rad
    translation: Float[np.ndarray, "n 2"]  # px
    local: Float[np.ndarray, "n m"]  # shape coefficients, mm
    au_intensity: Float[np.ndarray, "n u"]  # 0 to 5, columns `units.intensity`
    au_presence: Float[np.ndarray, "n c"]  # 0 or 1, columns `units.presence`
    fhog: Float[np.ndarray, "n 4464"] | None = None
    aligned: UInt8[np.ndarray, "n s s 3"] | None = None  # RGB
    units: UnitNames = eqx.field(static=True, default=OPENFACE_UNITS)  # that the model knows

    def table(self) -> Table:
        """The columns that OpenFace's CSV holds."""
        return Table(**{name: getattr(self, name) for name in Table._fields})

    def to_dataframe(self) -> "pd.DataFrame":
        """The same as `write_csv`, with OpenFace's column names and full precision."""
        return to_dataframe(self.table(), kind=self.kind, units=self.units)


def empty_table(modes: int, units: UnitNames) -> Table:
    """A table without rows.

    Args:
        modes: number of shape coefficients.
        units: action units with columns.
    """
    shapes = {
        "gaze": (2, 3),
        "gaze_angle": (2,),
        "eye_landmarks": (56, 2),
        "eye_landmarks_3d": (56, 3),
        "head_pose": (6,),
        "landmarks": (68, 2),
        "landmarks_3d": (68, 3),
        "rotation": (3,),
        "translation": (2,),
        "local": (modes,),
        "au_intensity": (len(units.intensity),),
        "au_presence": (len(units.presence),),
    }
    return Table(
        **{name: np.zeros((0, *shapes.get(name, ())), np.float32) for name in Table._fields}
    )


def write_csv(path: str | Path, analysis: Analysis) -> Path:
    """Writes the CSV that OpenFace would have written, to the character.

    Args:
        path: the file; a complete one appears under this name, or none.
        analysis: result of `analyze_video` or `analyze_image`.
    Returns:
        The path.
    Raises:
        OutputError: it cannot be written.
    Reference:
        Specification 03, E.4.
    """
    return write_table(path, analysis.table(), kind=analysis.kind, units=analysis.units)
