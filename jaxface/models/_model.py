"""The whole model: detector, landmark model and analyser."""

import dataclasses

import equinox as eqx

from ..analyze import FaceAnalyser
from ..detect import MTCNN
from ..fit import CLNF


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Where a model comes from and how it may be used."""

    name: str  # base, openface, openface-ceclm, openface-clm
    source: str
    licence: str
    landmark_scheme: str  # e.g. "multi-pie-68"


class Model(eqx.Module):
    """Everything that `jaxface.load_model` returns. Weights only: no settings, no history."""

    info: ModelInfo = eqx.field(static=True)
    detector: MTCNN
    clnf: CLNF
    analyser: FaceAnalyser
