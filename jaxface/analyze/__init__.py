"""What is computed from fitted landmarks: pose, gaze, aligned face, FHOG, action units."""

from ._action_units import ActionUnits as ActionUnits
from ._action_units import FaceAnalyser as FaceAnalyser
from ._action_units import LinearHeads as LinearHeads
from ._align import AlignConfig as AlignConfig
from ._align import AlignedFace as AlignedFace
from ._align import align_face as align_face
from ._align import alignment_matrix as alignment_matrix
from ._align import face_mask as face_mask
from ._align import warp_to_aligned as warp_to_aligned
from ._fhog import extract_fhog as extract_fhog
from ._fhog import geometry_descriptor as geometry_descriptor
from ._gaze import Gaze as Gaze
from ._gaze import estimate_gaze as estimate_gaze
from ._head_pose import estimate_head_pose as estimate_head_pose
from ._head_pose import head_pose_wrt_camera as head_pose_wrt_camera
from ._head_pose import landmarks_to_camera as landmarks_to_camera
