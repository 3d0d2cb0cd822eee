"""Geometry, image sampling, loops and small linear algebra shared by the stages."""

import warnings
from typing import Any

from . import double as double
from ._color import to_gray as to_gray
from ._float64 import as_without_float64 as as_without_float64
from ._float64 import in_float64 as in_float64
from ._float64 import narrow as narrow
from ._float64 import widen as widen
from ._geometry import axis_angle_to_matrix as axis_angle_to_matrix
from ._geometry import entries_to_euler as entries_to_euler
from ._geometry import euler_to_matrix as euler_to_matrix
from ._geometry import matrix_to_euler as matrix_to_euler
from ._geometry import project_pinhole as project_pinhole
from ._geometry import rotate as rotate
from ._geometry import similarity_matrix as similarity_matrix
from ._geometry import similarity_sums as similarity_sums
from ._geometry import small_product as small_product
from ._linalg import invert_spd as invert_spd
from ._linalg import solve_bordered as solve_bordered
from ._linalg import solve_spd as solve_spd
from ._patches import extract_patches as extract_patches
from ._patches import materialise as materialise
from ._platform import as_on_cuda as as_on_cuda
from ._platform import choose_by_platform as choose_by_platform
from ._platform import few_on_cuda as few_on_cuda
from ._select import select as select
from ._sums import interleaved_product as interleaved_product
from ._sums import sequential_product as sequential_product
from ._turns import call_in_turn as call_in_turn
from ._warp import affine_cells as affine_cells
from ._warp import affine_position as affine_position
from ._warp import blend as blend
from ._warp import cell_fraction as cell_fraction
from ._warp import fetch_flat as fetch_flat
from ._warp import pad_border as pad_border
from ._warp import sample_affine as sample_affine
from ._warp import sample_cells as sample_cells
from ._warp import sample_smooth as sample_smooth
from ._warp import sample_taps as sample_taps


def __getattr__(name: str) -> Any:
    if name != "lane_product":  # as it was called up to version 0.1
        raise AttributeError(f"module 'jaxface.ops' has no attribute {name!r}")
    warnings.warn(
        "jaxface.ops.lane_product is now jaxface.ops.interleaved_product",
        DeprecationWarning,
        stacklevel=2,
    )
    return interleaved_product
