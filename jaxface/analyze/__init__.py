"""What is computed from fitted landmarks: pose, gaze, aligned face, FHOG, action units."""

from ._action_units import ActionUnits as ActionUnits
from ._action_units import FaceAnalyser as FaceAnalyser
from ._action_units import LinearHeads as LinearHeads
