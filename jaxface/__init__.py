"""OpenFace 2's facial-behaviour pipeline as pure JAX functions over Equinox modules."""

import importlib
import warnings
from typing import TYPE_CHECKING

import lazy_loader

from . import errors as errors  # notes it when a process forks

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .detect import detect_faces as detect_faces
    from .detect import detect_many as detect_many
    from .errors import InputError as InputError
    from .errors import InputWarning as InputWarning
    from .errors import OutputError as OutputError
    from .fit import FitConfig as FitConfig
    from .fit import fit_landmarks as fit_landmarks
    from .fit import fit_many as fit_many
    from .fit import landmark_uncertainty as landmark_uncertainty
    from .fit import propagate_covariance as propagate_covariance
    from .io import default_camera as default_camera
    from .io import read_image as read_image
    from .io import read_video as read_video
    from .models import Config as Config
    from .models import Model as Model
    from .models import ModelFileError as ModelFileError
    from .models import default_config as default_config
    from .models import installed_models as installed_models
    from .models import load_model as load_model
    from .models import prepare_model as prepare_model
    from .models import save_model as save_model
    from .models import strip_model as strip_model
    from .ops import to_gray as to_gray
    from .output import Comparison as Comparison
    from .output import draw_face as draw_face
    from .output import draw_landmarks as draw_landmarks
    from .pipeline import ClipFace as ClipFace
    from .pipeline import ClipState as ClipState
    from .pipeline import Face as Face
    from .pipeline import FaceUncertainty as FaceUncertainty
    from .pipeline import SeveralFaces as SeveralFaces
    from .pipeline import SeveralState as SeveralState
    from .pipeline import analyze_clip as analyze_clip
    from .pipeline import analyze_frame as analyze_frame
    from .pipeline import analyze_lanes as analyze_lanes
    from .pipeline import clip_frame as clip_frame
    from .pipeline import face_uncertainty as face_uncertainty
    from .pipeline import finish_clip as finish_clip
    from .pipeline import several_frame as several_frame
    from .pipeline import start_clip as start_clip
    from .pipeline import start_several as start_several
    from .pipeline import track_clip as track_clip
    from .pipeline import track_frame as track_frame
    from .pipeline import track_lanes as track_lanes
    from .run import Analysis as Analysis
    from .run import ClipAnalysis as ClipAnalysis
    from .run import Extras as Extras
    from .run import analyze_batch as analyze_batch
    from .run import analyze_image as analyze_image
    from .run import analyze_images as analyze_images
    from .run import analyze_video as analyze_video
    from .run import compare_results as compare_results
    from .run import compiler_options as compiler_options
    from .run import read_csv as read_csv
    from .run import read_results as read_results
    from .run import results_table as results_table
    from .run import write_csv as write_csv
    from .run import write_npz as write_npz
    from .run import write_parquet as write_parquet
    from .run import write_report as write_report
    from .run import write_tracked as write_tracked
    from .track import start_track as start_track
    from .types import Camera as Camera
    from .types import Detections as Detections
    from .types import Fit as Fit
    from .types import LandmarkScheme as LandmarkScheme
    from .types import PDMParameters as PDMParameters

# Where each public name lives. Loaded on first use, so that `jaxface --help` needs no JAX.
_HOMES = {
    "detect": ("detect_faces", "detect_many"),
    "errors": ("InputError", "InputWarning", "OutputError"),
    "fit": (
        "FitConfig",
        "fit_landmarks",
        "fit_many",
        "landmark_uncertainty",
        "propagate_covariance",
    ),
    "io": ("default_camera", "read_image", "read_video"),
    "models": (
        "Config",
        "Model",
        "ModelFileError",
        "default_config",
        "installed_models",
        "load_model",
        "prepare_model",
        "save_model",
        "strip_model",
    ),
    "ops": ("to_gray",),
    "output": ("Comparison", "draw_face", "draw_landmarks"),
    "pipeline": (
        "ClipFace",
        "ClipState",
        "Face",
        "FaceUncertainty",
        "SeveralFaces",
        "SeveralState",
        "analyze_clip",
        "analyze_frame",
        "analyze_lanes",
        "clip_frame",
        "face_uncertainty",
        "finish_clip",
        "several_frame",
        "start_clip",
        "start_several",
        "track_clip",
        "track_frame",
        "track_lanes",
    ),
    "run": (
        "Analysis",
        "ClipAnalysis",
        "Extras",
        "analyze_batch",
        "analyze_image",
        "analyze_images",
        "analyze_video",
        "compare_results",
        "compiler_options",
        "read_csv",
        "read_results",
        "results_table",
        "write_csv",
        "write_npz",
        "write_parquet",
        "write_report",
        "write_tracked",
    ),
    "track": ("start_track",),
    "types": ("Camera", "Detections", "Fit", "LandmarkScheme", "PDMParameters"),
}
_load, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_HOMES)


def __getattr__(name: str) -> object:
    if name == "openface":
        warnings.warn(
            "jaxface.openface is now jaxface.models.openface", DeprecationWarning, stacklevel=2
        )
        return importlib.import_module(".models.openface", __name__)
    if name not in __all__:
        raise AttributeError(f"module 'jaxface' has no attribute {name!r}")
    return _load(name)
