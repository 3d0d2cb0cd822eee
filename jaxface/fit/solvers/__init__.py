"""Optimisers that move a PDM up response maps."""

from ._normal_equations import full_step as full_step
from ._normal_equations import lay_out_modes as lay_out_modes
from ._normal_equations import project_rows as project_rows
from ._rlms import ResponseFrame as ResponseFrame
from ._rlms import mean_shift as mean_shift
from ._rlms import nu_rlms as nu_rlms
from ._rlms import run_passes as run_passes
