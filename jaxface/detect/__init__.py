"""MTCNN face detection."""

from ._nets import MTCNN as MTCNN
from ._nets import Conv as Conv
from ._nets import Dense as Dense
from ._nets import MaxPool as MaxPool
from ._nets import Net as Net
from ._nets import PReLU as PReLU
