"""Where a search for a face starts."""

from ._five_points import are_apart as are_apart
from ._five_points import five_points as five_points
from ._five_points import parameters_from_points as parameters_from_points
from ._five_points import rotations_from_points as rotations_from_points
from ._guided import OWN_STARTS as OWN_STARTS
from ._guided import own_starts as own_starts
from ._regressor import POSE_OUTPUTS as POSE_OUTPUTS
from ._regressor import REGRESSOR_SIDE as REGRESSOR_SIDE
from ._regressor import ShapeRegressor as ShapeRegressor
from ._regressor import cut_square as cut_square
from ._regressor import parameters_from_outputs as parameters_from_outputs
from ._regressor import regress_parameters as regress_parameters
from ._regressor import rotation_from_rows as rotation_from_rows
from ._regressor import square_around as square_around
