"""Patch experts: what scores the places of a landmark."""

from ._base import SUPPORT as SUPPORT
from ._base import CCNFExperts as CCNFExperts
from ._base import CENExperts as CENExperts
from ._base import PatchExperts as PatchExperts
from ._base import SVRExperts as SVRExperts
from ._ccnf import build_banks as build_banks
from ._ccnf import sigma_components as sigma_components
from ._responses import lane_responses as lane_responses
from ._responses import patch_confidences as patch_confidences
from ._responses import response_maps as response_maps
