"""Landmarks as they are reported, where experts look for other points than users expect.

A model may have a second PDM, `CLNF.reported`, for the same parameters: the fit follows the points
of `main.pdm`, which pictures show well, and results hold those of a landmark convention.
"""

import equinox as eqx

from ..types import Fit
from ._model import AnyCLNF
from ._pdm import PDM, shape_2d


def reported_pdm(clnf: AnyCLNF) -> PDM:
    """The PDM of the landmarks that results hold."""
    return clnf.main.pdm if clnf.reported is None else clnf.reported


def report_fit(clnf: AnyCLNF, fit: Fit) -> Fit:
    """A fit with the landmarks that results hold; itself for a model that tells no difference."""
    return fit if clnf.reported is None else _with_landmarks(fit, clnf.reported)


def fitted_points(clnf: AnyCLNF, fit: Fit) -> Fit:
    """The inverse of `report_fit`: a fit with the landmarks that its experts found."""
    return fit if clnf.reported is None else _with_landmarks(fit, clnf.main.pdm)


def _with_landmarks(fit: Fit, pdm: PDM) -> Fit:
    return eqx.tree_at(lambda f: f.landmarks, fit, shape_2d(pdm, fit.parameters))
