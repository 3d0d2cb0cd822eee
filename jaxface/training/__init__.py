"""Training of the default model: data synthesis from portraits and a morphable head."""

from ._detector_report import evaluate_detector as evaluate_detector
from ._detector_train import DetectorRecipe as DetectorRecipe
from ._detector_train import train_detector as train_detector
from ._head_model import HeadModel as HeadModel
from ._head_model import load_head_model as load_head_model
from ._portraits import Portraits as Portraits
from ._portraits import load_portraits as load_portraits
from ._portraits import split_of as split_of
from ._registration import Registered as Registered
from ._registration import Tools as Tools
from ._registration import load_tools as load_tools
from ._registration import register_all as register_all
