"""CLNF landmark fitting: PDM, patch experts, NU-RLMS, search, validation."""

import importlib
import warnings

from ._areas import align_to_reference as align_to_reference
from ._areas import areas_of_interest as areas_of_interest
from ._areas import finite_luma as finite_luma
from ._areas import nearest_view as nearest_view
from ._clnf import border_luma as border_luma
from ._clnf import cut_fits as cut_fits
from ._clnf import empty_fit as empty_fit
from ._clnf import follow_lanes as follow_lanes
from ._clnf import judge_fits as judge_fits
from ._clnf import refine_bordered as refine_bordered
from ._clnf import refine_fit as refine_fit
from ._clnf import refine_lanes as refine_lanes
from ._config import FitConfig as FitConfig
from ._config import Phase as Phase
from ._config import scale_config as scale_config
from ._fit import fit_landmarks as fit_landmarks
from ._fit import fit_many as fit_many
from ._model import CLNF as CLNF
from ._model import AnyCLNF as AnyCLNF
from ._model import LandmarkModel as LandmarkModel
from ._model import Part as Part
from ._model import PartConfig as PartConfig
from ._model import PreparedCLNF as PreparedCLNF
from ._model import settings_of as settings_of
from ._origin import Origin as Origin
from ._pdm import PDM as PDM
from ._pdm import bounding_box as bounding_box
from ._pdm import clamp_local as clamp_local
from ._pdm import full_jacobian as full_jacobian
from ._pdm import parameters_from_box as parameters_from_box
from ._pdm import project as project
from ._pdm import rigid_jacobian as rigid_jacobian
from ._pdm import shape_2d as shape_2d
from ._pdm import shape_3d as shape_3d
from ._pdm import update_parameters as update_parameters
from ._prepare import prepare_clnf as prepare_clnf
from ._prepare import strip_clnf as strip_clnf
from ._presets import OPENFACE_FIT as OPENFACE_FIT
from ._presets import OPENFACE_WILD_FIT as OPENFACE_WILD_FIT
from ._presets import base_settings as base_settings
from ._presets import ceclm_settings as ceclm_settings
from ._presets import fit_config as fit_config
from ._refit import fit_pdm_to_landmarks as fit_pdm_to_landmarks
from ._reported import fitted_points as fitted_points
from ._reported import report_fit as report_fit
from ._reported import reported_pdm as reported_pdm
from ._scales import align_lanes as align_lanes
from ._scales import lane_frames as lane_frames
from ._scales import plan_scales as plan_scales
from ._scales import response_frame as response_frame
from ._scales import run_lanes as run_lanes
from ._uncertainty import Uncertainty as Uncertainty
from ._uncertainty import fit_covariance as fit_covariance
from ._uncertainty import landmark_uncertainty as landmark_uncertainty
from ._uncertainty import propagate_covariance as propagate_covariance
from ._validator import AnyValidator as AnyValidator
from ._validator import CutFaces as CutFaces
from ._validator import FaceWarp as FaceWarp
from ._validator import PreparedValidator as PreparedValidator
from ._validator import Validator as Validator
from ._validator import normalise_face as normalise_face
from ._validator import run_validator as run_validator
from ._validator import validate_landmarks as validate_landmarks
from ._validator import warp_to_mean_shape as warp_to_mean_shape
from .experts import AbstractPatchExperts as AbstractPatchExperts
from .experts import CCNFExperts as CCNFExperts
from .experts import CENExperts as CENExperts
from .experts import PreparedCCNFExperts as PreparedCCNFExperts
from .experts import SVRExperts as SVRExperts
from .experts import response_maps as response_maps
from .experts import sigma_components as sigma_components
from .search import POSE_OUTPUTS as POSE_OUTPUTS
from .search import REGRESSOR_SIDE as REGRESSOR_SIDE
from .search import AbstractSearch as AbstractSearch
from .search import Guided as Guided
from .search import OneRound as OneRound
from .search import SearchStart as SearchStart
from .search import SearchState as SearchState
from .search import ShapeRegressor as ShapeRegressor
from .search import TwoRounds as TwoRounds
from .search import cut_square as cut_square
from .search import parameters_from_outputs as parameters_from_outputs
from .search import regress_parameters as regress_parameters
from .search import rotation_from_rows as rotation_from_rows
from .search import square_around as square_around
from .solvers import BFGS as BFGS
from .solvers import Adam as Adam
from .solvers import GaussNewton as GaussNewton
from .solvers import Implicit as Implicit
from .solvers import LevenbergMarquardt as LevenbergMarquardt
from .solvers import ResponseFrame as ResponseFrame
from .solvers import ScaleConfig as ScaleConfig
from .solvers import Solution as Solution
from .solvers import Solver as Solver
from .solvers import fit_objective as fit_objective
from .solvers import fit_residuals as fit_residuals
from .solvers import flatten_parameters as flatten_parameters
from .solvers import log_likelihoods as log_likelihoods
from .solvers import map_positions as map_positions
from .solvers import mean_log_likelihood as mean_log_likelihood
from .solvers import nu_rlms as nu_rlms
from .solvers import parameter_units as parameter_units
from .solvers import unflatten_parameters as unflatten_parameters

# Names that stood here up to version 0.1.
_MOVED_TO_TRACK = (
    "Progress",
    "SegmentConfig",
    "TrackState",
    "Tracked",
    "attempts",
    "begin_attempt",
    "end_attempt",
    "finish_frame",
    "follow_segments",
    "in_order",
    "mean_distance",
    "open_search",
    "scout_segments",
    "start_frame",
    "start_track",
    "track_box",
    "track_landmarks",
)


def __getattr__(name: str) -> object:
    if name not in _MOVED_TO_TRACK:
        raise AttributeError(f"module 'jaxface.fit' has no attribute {name!r}")
    warnings.warn(
        f"jaxface.fit.{name} is now jaxface.track.{name}", DeprecationWarning, stacklevel=2
    )
    return getattr(importlib.import_module("jaxface.track"), name)
