"""Reading videos, images and folders of images (host side, NumPy)."""

import warnings

from . import _camera
from ._camera import as_camera as as_camera
from ._camera import check_camera as check_camera
from ._camera import default_camera as default_camera
from ._checks import InputKind as InputKind
from ._checks import classify_input as classify_input
from ._chunks import Chunk as Chunk
from ._chunks import canvas_size as canvas_size
from ._chunks import chunks as chunks
from ._chunks import clip_length as clip_length
from ._chunks import face_length as face_length
from ._chunks import flat_lengths as flat_lengths
from ._chunks import lay_in as lay_in
from ._chunks import pad_to_canvas as pad_to_canvas
from ._folders import FolderContents as FolderContents
from ._folders import folder_contents as folder_contents
from ._folders import list_images as list_images
from ._folders import natural_key as natural_key
from ._images import image_notes as image_notes
from ._images import read_image as read_image
from ._live import LiveFrame as LiveFrame
from ._live import LiveSource as LiveSource
from ._live import Playback as Playback
from ._live import Webcam as Webcam
from ._live import open_webcam as open_webcam
from ._live import play_live as play_live
from ._prefetch import prefetch as prefetch
from ._single import read_frames as read_frames
from ._video import SequenceReader as SequenceReader
from ._video import VideoReader as VideoReader
from ._video import open_frames as open_frames
from ._video import read_sequence as read_sequence
from ._video import read_video as read_video


def __getattr__(name: str) -> object:
    if name != "Intrinsics":
        raise AttributeError(f"module 'jaxface.io' has no attribute {name!r}")
    warnings.warn("jaxface.io.Intrinsics is now jaxface.Camera", DeprecationWarning, stacklevel=2)
    return _camera.Intrinsics
