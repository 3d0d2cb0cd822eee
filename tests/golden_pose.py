"""Golden faces with their pose and gaze, as the inputs of both implementations."""

import dataclasses
import functools
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxface.models.openface import read_model
from jaxface.reference.comparison.golden_fits import Parameters, Stage
from jaxface.types import Camera, PartFit, PDMParameters

from .as_reference import make_pdm

STAGES = (
    *(f"sample{i}" for i in (1, 3, 4, 5)),
    *("sample3_multiview", "ceclm_sample4_multiview"),
    *(f"default_track_f{i:03d}" for i in (0, 30, 100)),
)
EYES = ("left_eye_28", "right_eye_28")


@dataclasses.dataclass(frozen=True)
class Face:
    shape_3d: np.ndarray  # float64, as are the eyes' shapes
    landmarks: np.ndarray
    parameters: Parameters
    intrinsics: tuple[float, ...]
    eye_shapes: list[np.ndarray]
    eye_landmarks: list[np.ndarray]
    eye_parameters: list[Parameters]
    golden: dict[str, np.ndarray]

    @property
    def camera(self) -> Camera:
        return Camera(*map(jnp.float32, self.intrinsics))

    @property
    def eyes(self) -> tuple[PartFit, PartFit]:
        left, right = (
            PartFit(as_module(parameters), jnp.asarray(landmarks))
            for parameters, landmarks in zip(self.eye_parameters, self.eye_landmarks, strict=True)
        )
        return left, right


def as_module(parameters: Parameters) -> PDMParameters:
    return PDMParameters(
        scale=jnp.asarray(parameters.scale),
        rotation=jnp.asarray(parameters.rotation),
        translation=jnp.asarray(parameters.translation),
        local=jnp.asarray(parameters.local),
    )


@functools.cache
def _pdms(model_dir: Path):
    clnf = read_model(model_dir).clnf
    eyes = {part.name: part.model.pdm for part in clnf.parts}
    return make_pdm(clnf.main.pdm), [make_pdm(eyes[name]) for name in EYES]


@functools.cache
def read_face(golden_dir: Path, model_dir: Path, name: str) -> Face:
    stage = Stage(golden_dir, name)
    (prefix,) = stage.keys("pose")
    main, eyes = _pdms(model_dir)
    fit = _chosen_fit(stage, prefix)
    parameters = stage.parameters(f"{prefix}chosen_")
    eye_parameters = [stage.parameters(f"{fit}part_{eye}_final_") for eye in EYES]

    def shape(pdm, parameters: Parameters) -> np.ndarray:
        return pdm.mean_shape + np.tensordot(parameters.local, pdm.components, axes=1)

    names = ("pose", "gaze0", "gaze1", "gaze_angle", "eye_landmarks_2d", "eye_landmarks_3d")
    return Face(
        shape_3d=shape(main, parameters),
        landmarks=stage.points(f"{prefix}chosen_landmarks"),
        parameters=parameters,
        intrinsics=tuple(float(v) for v in stage.arrays[f"{prefix}intrinsics"].ravel()),
        eye_shapes=[shape(*pair) for pair in zip(eyes, eye_parameters, strict=True)],
        eye_landmarks=[stage.points(f"{fit}part_{eye}_final_landmarks") for eye in EYES],
        eye_parameters=eye_parameters,
        golden={
            "shape3d_camera": stage.arrays[f"{prefix}shape3d_camera"].T,
            **{key: stage.arrays[f"{prefix}{key}"].squeeze() for key in names},
        },
    )


def _chosen_fit(stage: Stage, prefix: str) -> str:
    """Prefix of the hypothesis that OpenFace reports: the one with the eyes that it reports."""
    reported = stage.arrays[f"{prefix}eye_landmarks_2d"][:28]
    key = f"part_{EYES[0]}_final_landmarks"
    for fit in stage.keys(key):
        if np.array_equal(stage.points(fit + key), reported):
            return fit
    raise AssertionError(f"{stage.name}: no fit has the reported eyes")
