"""Searches: how a face is found in a box. `AbstractSearch` states the contract."""

from ._base import AbstractSearch as AbstractSearch
from ._base import SearchStart as SearchStart
from ._base import SearchState as SearchState
from ._base import no_search as no_search
from ._base import start_search as start_search
from ._five_points import PointGroups as PointGroups
from ._five_points import are_apart as are_apart
from ._five_points import five_points as five_points
from ._five_points import parameters_from_points as parameters_from_points
from ._five_points import rotations_from_points as rotations_from_points
from ._guided import POSE_STARTS as POSE_STARTS
from ._guided import Guided as Guided
from ._guided import guided_starts as guided_starts
from ._regressor import POSE_OUTPUTS as POSE_OUTPUTS
from ._regressor import REGRESSOR_SIDE as REGRESSOR_SIDE
from ._regressor import ShapeRegressor as ShapeRegressor
from ._regressor import cut_square as cut_square
from ._regressor import parameters_from_outputs as parameters_from_outputs
from ._regressor import regress_parameters as regress_parameters
from ._regressor import rotation_from_rows as rotation_from_rows
from ._regressor import square_around as square_around
from ._rotations import OneRound as OneRound
from ._rotations import TwoRounds as TwoRounds
from ._rotations import start_rotations as start_rotations
