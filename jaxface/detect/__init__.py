"""MTCNN face detection."""

from ._base import AbstractDetector as AbstractDetector
from ._base import detect_faces as detect_faces
from ._base import detect_many as detect_many
from ._base import largest_face as largest_face
from ._base import no_faces as no_faces
from ._boxes import Boxes as Boxes
from ._boxes import correct as correct
from ._boxes import landmark_box as landmark_box
from ._boxes import select as select
from ._config import DetectConfig as DetectConfig
from ._mtcnn import MTCNN as MTCNN
from ._mtcnn import corrected_squares as corrected_squares
from ._mtcnn import crop as crop
from ._mtcnn import propose_boxes as propose_boxes
from ._mtcnn import refine_boxes as refine_boxes
from ._nets import OPENFACE_FRAME as OPENFACE_FRAME
from ._nets import BoxFrame as BoxFrame
from ._nets import Conv as Conv
from ._nets import Dense as Dense
from ._nets import MaxPool as MaxPool
from ._nets import Net as Net
from ._nets import PReLU as PReLU
from ._pyramid import plan_pyramid as plan_pyramid
