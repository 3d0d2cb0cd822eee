"""Tables of OpenFace's runs, from its high-precision CSVs."""

import gzip
from pathlib import Path

import numpy as np

from ...output import CsvKind, Table, column_names


def csv_kind(folder: Path) -> CsvKind:
    """Which of OpenFace's programs wrote a golden run."""
    if "img_" in folder.name:
        return "image"
    return "multi_face" if "VidMulti" in folder.name else "video"


def read_highprec(folder: Path) -> tuple[Table, list[list[str]]]:
    """A golden run's 9-decimal values, float32 where OpenFace held float32, and as text."""
    kind = csv_kind(folder)
    with gzip.open(folder / "highprec.csv.gz", "rt") as file:
        header, *lines = file.read().splitlines()
    assert header.split(", ") == column_names(kind)
    cells = [line.split(", ") for line in lines]
    values = np.array(cells, np.float64)
    count = len(values)
    keys = 2 if kind == "image" else 5
    key, body, units = values[:, :keys], values[:, keys:-35], values[:, -35:]
    body = body.astype(np.float32)
    sizes = (6, 2, 112, 168, 6, 136, 204, 1, 3, 2, 34)
    blocks = np.split(body, np.cumsum(sizes)[:-1], axis=1)
    gaze, angle, eye, eye_3d, pose, face, face_3d, scale, rotation, translation, local = blocks

    def points(planar: np.ndarray, axes: int) -> np.ndarray:
        return np.swapaxes(planar.reshape(count, axes, -1), 1, 2)

    image = kind == "image"
    table = Table(
        frame=np.ones(count, int) if image else key[:, 0].astype(int),
        face_id=key[:, 0 if image else 1].astype(int),
        timestamp=np.zeros(count) if image else key[:, 2],
        confidence=key[:, 1 if image else 3].astype(np.float32),
        success=np.ones(count, bool) if image else key[:, 4] == 1,
        gaze=gaze.reshape(count, 2, 3),
        gaze_angle=angle,
        eye_landmarks=points(eye, 2),
        eye_landmarks_3d=points(eye_3d, 3),
        head_pose=pose,
        landmarks=points(face, 2),
        landmarks_3d=points(face_3d, 3),
        scale=scale[:, 0],
        rotation=rotation,
        translation=translation,
        local=local,
        au_intensity=units[:, :17],
        au_presence=units[:, 17:],
    )
    return table, cells
