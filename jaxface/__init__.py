"""OpenFace 2's facial-behaviour pipeline as pure JAX functions over Equinox modules."""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ._batch import ClipAnalysis as ClipAnalysis
    from ._batch import analyze_image as analyze_image
    from ._batch import analyze_video as analyze_video
    from ._devices import analyze_batch as analyze_batch
    from ._images import analyze_images as analyze_images
    from ._model import Model as Model
    from ._params import ModelFileError as ModelFileError
    from ._params import installed_models as installed_models
    from ._params import load_model as load_model
    from ._pipeline import ClipFace as ClipFace
    from ._pipeline import ClipState as ClipState
    from ._pipeline import Config as Config
    from ._pipeline import Face as Face
    from ._pipeline import analyze_frame as analyze_frame
    from ._pipeline import clip_frame as clip_frame
    from ._pipeline import default_config as default_config
    from ._pipeline import prepare_model as prepare_model
    from ._pipeline import start_clip as start_clip
    from ._pipeline import track_frame as track_frame
    from ._programs import Extras as Extras
    from ._results import Analysis as Analysis
    from ._results import write_csv as write_csv
    from ._several import SeveralFaces as SeveralFaces
    from ._several import SeveralState as SeveralState
    from ._several import several_frame as several_frame
    from ._several import start_several as start_several
    from ._types import Camera as Camera
    from ._types import Detections as Detections
    from ._types import Fit as Fit
    from ._types import PDMParameters as PDMParameters
    from .detect import detect_faces as detect_faces
    from .errors import InputError as InputError
    from .errors import InputWarning as InputWarning
    from .errors import OutputError as OutputError
    from .fit import FitConfig as FitConfig
    from .fit import fit_landmarks as fit_landmarks
    from .fit import start_track as start_track
    from .io import default_camera as default_camera
    from .io import read_image as read_image
    from .io import read_video as read_video
    from .ops import to_gray as to_gray

# Where each public name lives. Loaded on first use, so that `jaxface --help` needs no JAX.
_HOMES = {
    "_batch": ("ClipAnalysis", "analyze_image", "analyze_video"),
    "_devices": ("analyze_batch",),
    "_images": ("analyze_images",),
    "_model": ("Model",),
    "_params": ("ModelFileError", "installed_models", "load_model"),
    "_pipeline": (
        *("ClipFace", "ClipState", "Config", "Face", "analyze_frame", "clip_frame"),
        *("default_config", "prepare_model", "start_clip", "track_frame"),
    ),
    "_programs": ("Extras",),
    "_results": ("Analysis", "write_csv"),
    "_several": ("SeveralFaces", "SeveralState", "several_frame", "start_several"),
    "_types": ("Camera", "Detections", "Fit", "PDMParameters"),
    "detect": ("detect_faces",),
    "errors": ("InputError", "InputWarning", "OutputError"),
    "fit": ("FitConfig", "fit_landmarks", "start_track"),
    "io": ("default_camera", "read_image", "read_video"),
    "ops": ("to_gray",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'jaxface' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
