"""Patch experts: what scores the places around a landmark. `AbstractPatchExperts` states the
contract."""

from ._base import SUPPORT as SUPPORT
from ._base import AbstractPatchExperts as AbstractPatchExperts
from ._base import response_maps as response_maps
from ._ccnf import CCNFExperts as CCNFExperts
from ._ccnf import PreparedCCNFExperts as PreparedCCNFExperts
from ._ccnf_layout import sigma_components as sigma_components
from ._cen import CENExperts as CENExperts
from ._svr import SVRExperts as SVRExperts
