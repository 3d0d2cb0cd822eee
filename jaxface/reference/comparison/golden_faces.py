"""Golden inputs of the face analyser: stage files, landmarks of runs and `.hog` files."""

import dataclasses
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from ... import io
from ...fit import PDM
from .. import align, fhog

STAGES = (
    *(f"sample{i}" for i in (1, 3, 4, 5)),
    *(f"sample{i}_multiview" for i in (1, 3, 4, 5)),
    *(f"default_image_f{i:03d}" for i in (0, 30, 100)),
    *(f"default_track_f{i:03d}" for i in (0, 30, 100)),
    *("ceclm_sample1", "ceclm_sample4_multiview"),
    *(f"ceclm_default_track_f{i:03d}" for i in (0, 30, 100)),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """What OpenFace's analyser made of one face; images are turned from BGR to RGB."""

    name: str
    tracked: bool  # video with dynamic heads; else a still image
    image: np.ndarray
    landmarks: np.ndarray  # (68, 2)
    scale: float
    rotation: np.ndarray
    translation: np.ndarray
    local: np.ndarray
    matrix: np.ndarray
    unmasked: np.ndarray
    mask: np.ndarray
    aligned: np.ndarray
    fhog: np.ndarray  # (12, 12, 31)
    geometry: np.ndarray
    arrays: dict[str, np.ndarray]  # the rest, without prefix


def read_stage(golden_dir: Path, samples_dir: Path, name: str) -> Stage:
    with np.load(golden_dir / "stages" / f"{name}.npz") as file:
        arrays = {key: file[key] for key in file.files if "au" in key or "chosen_land" in key}
    tracked = "track" in name
    face = "" if tracked else "face0_"
    prefix = "audyn_" if tracked else "face0_au_"
    own = {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}
    names = {key: arrays[key] for key in ("au_reg_names", "au_class_names")}
    pose = own["pdm_params_global"].ravel()
    return Stage(
        name=name,
        tracked=tracked,
        image=read_image(samples_dir, name),
        landmarks=arrays[f"{face}chosen_landmarks"].reshape(2, 68).T.astype(np.float32),
        scale=float(pose[0]),
        rotation=pose[1:4],
        translation=pose[4:],
        local=own["pdm_params_local"].ravel(),
        matrix=own["align_warp_matrix"],
        unmasked=own["aligned_unmasked"][..., ::-1],
        mask=own["align_mask"] > 0,
        aligned=own["aligned_face"][..., ::-1],
        fhog=own["fhog"].reshape(12, 12, 31),
        geometry=own["geom"].ravel(),
        arrays=own | names,
    )


def read_image(samples_dir: Path, name: str) -> np.ndarray:
    """RGB image that a stage file was recorded from."""
    name = name.removeprefix("ceclm_")
    if name.startswith("sample"):
        return io.read_image(samples_dir / f"{name.split('_')[0]}.jpg")
    video = iter(io.read_video(samples_dir / "default.wmv"))
    return next(islice(video, int(name[-3:]), None))


def read_landmarks(golden_dir: Path, run: str) -> np.ndarray:
    """Landmarks (t, 68, 2), px, of every row of a golden run."""
    table = pd.read_csv(golden_dir / run / "highprec.csv.gz", skipinitialspace=True)
    columns = [[f"{axis}_{i}" for i in range(68)] for axis in "xy"]
    return np.stack([table[c].to_numpy(np.float32) for c in columns], axis=-1)


def read_hog(path: Path) -> np.ndarray:
    """Descriptors (t, 12, 12, 31) of a `.hog` file."""
    records = np.fromfile(path, np.uint8).reshape(-1, 17872)
    return records[:, 16:].copy().view("<f4").reshape(-1, 12, 12, 31)


_refits: dict[tuple[Path, str], np.ndarray] = {}


def refit_geometry(golden_dir: Path, run: str, pdm: PDM) -> np.ndarray:
    """Geometry descriptors (t, 238) of a run by the reference refit; slow, so kept."""
    if (golden_dir, run) not in _refits:
        arrays = (pdm.mean_shape, pdm.components, pdm.eigenvalues)
        shape, modes, eigenvalues = (np.asarray(a, np.float64) for a in arrays)
        local = [
            align.refit_pdm(shape, modes, eigenvalues, points)[3]
            for points in read_landmarks(golden_dir, run)
        ]
        rows = [fhog.geometry_descriptor(modes, p) for p in local]
        _refits[golden_dir, run] = np.array(rows, np.float32)
    return _refits[golden_dir, run]
