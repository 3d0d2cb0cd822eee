"""Import of OpenFace's original model files."""

from ._import import KINDS as KINDS
from ._import import read_model as read_model
