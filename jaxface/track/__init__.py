"""Tracking: the state machine of one face, of several together, and segments of a clip."""

from ._ahead import run_ahead as run_ahead
from ._ahead import take_frames as take_frames
from ._lanes import track_bordered_lanes as track_bordered_lanes
from ._segments import SegmentConfig as SegmentConfig
from ._segments import in_order as in_order
from ._segments import mean_distance as mean_distance
from ._segments import scout_segments as scout_segments
from ._tracker import Progress as Progress
from ._tracker import Tracked as Tracked
from ._tracker import TrackState as TrackState
from ._tracker import attempts as attempts
from ._tracker import begin_attempt as begin_attempt
from ._tracker import end_attempt as end_attempt
from ._tracker import finish_frame as finish_frame
from ._tracker import open_search as open_search
from ._tracker import start_frame as start_frame
from ._tracker import start_track as start_track
from ._tracker import track_bordered as track_bordered
from ._tracker import track_box as track_box
from ._tracker import track_landmarks as track_landmarks
