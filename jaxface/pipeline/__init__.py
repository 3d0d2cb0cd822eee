"""Pure functions of a frame and of a clip."""

from ..models import Config as Config
from ..models import complete_config as complete_config
from ..models import default_config as default_config
from ..models import prepare_model as prepare_model
from ._clip import ClipState as ClipState
from ._clip import Person as Person
from ._clip import adapt_to_person as adapt_to_person
from ._clip import choose_person as choose_person
from ._clip import clip_frame as clip_frame
from ._clip import measure_tracked as measure_tracked
from ._clip import pause_track as pause_track
from ._clip import start_clip as start_clip
from ._clip import start_person as start_person
from ._clip import track_frame as track_frame
from ._frame import ClipFace as ClipFace
from ._frame import Face as Face
from ._frame import analyze_frame as analyze_frame
from ._frame import single_image as single_image
from ._several import SLOTS as SLOTS
from ._several import SeveralFaces as SeveralFaces
from ._several import SeveralState as SeveralState
from ._several import pause_several as pause_several
from ._several import several_frame as several_frame
from ._several import start_several as start_several
