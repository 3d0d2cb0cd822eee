"""Golden intermediates of the landmark fit: `stages/*.npz` as typed records."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_SCALE_KEY = re.compile(r"(?P<fit>.*?)s(?P<index>\d)_response_maps(?P<run>__\d)?$")


@dataclasses.dataclass(frozen=True)
class Parameters:
    scale: np.floating
    rotation: np.ndarray
    translation: np.ndarray
    local: np.ndarray


@dataclasses.dataclass(frozen=True)
class ScaleRecord:
    """One scale of one fit of the main model or of a part."""

    name: str
    model: str  # main, inner, left_eye_28, right_eye_28
    index: int  # scale
    view: int
    window: int
    regularisation: float
    sigma: float
    weight_factor: float
    iterations: int
    start: Parameters
    rigid: Parameters
    end: Parameters
    landmarks: np.ndarray  # (n, 2), centres of the maps
    to_reference: np.ndarray
    to_image: np.ndarray
    responses: np.ndarray  # (n, window, window); stale where invisible
    jacobian: np.ndarray  # (n, 2, 6 + m), first non-rigid step
    positions: np.ndarray  # (n, 2) in the maps, first rigid step
    nonrigid_positions: np.ndarray
    shifts: np.ndarray  # (n, 2), first rigid step
    nonrigid_shifts: np.ndarray


class Stage:
    """Arrays of one stage file."""

    def __init__(self, golden_dir: Path, name: str) -> None:
        with np.load(golden_dir / "stages" / f"{name}.npz") as file:
            self.arrays = {key: file[key] for key in file.files if not key.startswith("mtcnn")}
        self.name = name
        self.gray = self.arrays["gray"]

    def keys(self, suffix: str) -> list[str]:
        """Prefixes of all keys that end in `suffix`."""
        return [key.removesuffix(suffix) for key in self.arrays if key.endswith(suffix)]

    def points(self, key: str) -> np.ndarray:
        return self.arrays[key].reshape(2, -1).T

    def number(self, key: str) -> float:
        return float(self.arrays[key].ravel()[0])

    def parameters(self, prefix: str, run: str = "") -> Parameters:
        pose = self.arrays[f"{prefix}params_global{run}"].ravel()
        local = self.arrays[f"{prefix}params_local{run}"].ravel()
        return Parameters(pose[0], pose[1:4], pose[4:6], local)

    def scales(self) -> Iterator[ScaleRecord]:
        for key in self.arrays:
            match = _SCALE_KEY.match(key)
            if match:
                yield self._scale(match["fit"], int(match["index"]), match["run"] or "")

    def _scale(self, fit: str, index: int, run: str) -> ScaleRecord:
        prefix = f"{fit}s{index}_"

        def array(name: str) -> np.ndarray:
            return self.arrays[f"{prefix}{name}{run}"]

        def positions(phase: str) -> np.ndarray:
            pair = [array(f"{phase}_{axis}_it0").ravel() for axis in ("dxs", "dys")]
            return np.stack(pair, axis=-1)

        view, regularisation, sigma, weight_factor, iterations = array(
            "view_reg_sigma_weight"
        ).ravel()
        window = int(array("window_size").ravel()[0])
        landmarks = array("current_shape").reshape(2, -1).T
        return ScaleRecord(
            name=f"{self.name} {prefix}",
            model=fit.partition("part_")[2].rstrip("_") or "main",
            index=index,
            view=int(view),
            window=window,
            regularisation=float(regularisation),
            sigma=float(sigma),
            weight_factor=float(weight_factor),
            iterations=int(iterations),
            start=self.parameters(f"{prefix}in_", run),
            rigid=self.parameters(f"{prefix}rigid_", run),
            end=self.parameters(f"{prefix}out_", run),
            landmarks=landmarks,
            to_reference=array("sim_img_to_ref"),
            to_image=array("sim_ref_to_img"),
            responses=array("response_maps")[:, :window, :window],
            jacobian=array("nonrigid_J_it0").reshape(2, len(landmarks), -1).transpose(1, 0, 2),
            positions=positions("rigid"),
            nonrigid_positions=positions("nonrigid"),
            shifts=array("rigid_meanshift_it0").reshape(2, -1).T,
            nonrigid_shifts=array("nonrigid_meanshift_it0").reshape(2, -1).T,
        )
