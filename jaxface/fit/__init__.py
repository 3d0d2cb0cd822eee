"""CLNF landmark fitting: PDM, patch experts, NU-RLMS, hypotheses, validation, tracking."""

from ._experts import CCNFExperts as CCNFExperts
from ._experts import CENExperts as CENExperts
from ._experts import PatchExperts as PatchExperts
from ._experts import SVRExperts as SVRExperts
from ._model import CLNF as CLNF
from ._model import EarlyTermination as EarlyTermination
from ._model import LandmarkModel as LandmarkModel
from ._model import Part as Part
from ._model import PartConfig as PartConfig
from ._pdm import PDM as PDM
from ._validator import Validator as Validator
