"""Import of OpenFace's original model files."""

from ._import import KINDS as KINDS
from ._import import import_models as import_models
from ._import import read_model as read_model
