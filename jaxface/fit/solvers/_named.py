"""The package's own solvers by name, as settings and model files hold them."""

from ._base import Solver
from ._borrowed import BFGS, Adam
from ._gauss_newton import GaussNewton, LevenbergMarquardt
from ._rlms import solve_nu_rlms

NU_RLMS = "nu_rlms"
_SOLVERS: dict[str, Solver] = {
    NU_RLMS: solve_nu_rlms,
    "gauss_newton": GaussNewton(),
    "levenberg_marquardt": LevenbergMarquardt(),
    "bfgs": BFGS(),
    "adam": Adam(),
}


def find_solver(solver: str | Solver) -> Solver:
    """The solver of a name; a function is its own.

    Raises:
        ValueError: there is no solver of this name.
        TypeError: it is neither a name nor a function, or cannot be hashed.
    """
    if isinstance(solver, str):
        if solver not in _SOLVERS:
            known = ", ".join(sorted(_SOLVERS))
            raise ValueError(
                f"solver: expected one of {known}, or a function (pdm, frame, parameters, "
                f"settings) -> parameters, got {solver!r}"
            )
        return _SOLVERS[solver]
    if not callable(solver):
        raise TypeError(
            f"solver: expected a name or a function (pdm, frame, parameters, settings) -> "
            f"parameters, got {type(solver).__name__}"
        )
    try:
        hash(solver)
    except TypeError as error:
        raise TypeError(
            f"solver: expected a hashable function, got {solver!r}: settings are static, so make "
            "it a plain function or a frozen dataclass"
        ) from error
    return solver
