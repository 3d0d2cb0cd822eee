"""Solvers: what moves a PDM up the response maps of one scale. `Solver` states the contract."""

from ._base import ResponseFrame as ResponseFrame
from ._base import ScaleConfig as ScaleConfig
from ._base import Solution as Solution
from ._base import Solver as Solver
from ._base import landmark_likelihoods as landmark_likelihoods
from ._base import map_positions as map_positions
from ._base import mean_log_likelihood as mean_log_likelihood
from ._base import solve_scale as solve_scale
from ._named import NU_RLMS as NU_RLMS
from ._named import find_solver as find_solver
from ._normal_equations import full_step as full_step
from ._normal_equations import lay_out_modes as lay_out_modes
from ._normal_equations import project_rows as project_rows
from ._rlms import mean_shift as mean_shift
from ._rlms import nu_rlms as nu_rlms
from ._rlms import run_passes as run_passes
from ._rlms import solve_nu_rlms as solve_nu_rlms
