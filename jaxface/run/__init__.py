"""The host side: compiled programs, clips, images, batches and their results."""

from ._clip import ClipAnalysis as ClipAnalysis
from ._clip import FaceBatch as FaceBatch
from ._clip import analyze_image as analyze_image
from ._clip import analyze_video as analyze_video
from ._clip import unit_names as unit_names
from ._devices import analyze_batch as analyze_batch
from ._images import analyze_images as analyze_images
from ._images import usable_cores as usable_cores
from ._programs import Extras as Extras
from ._programs import compiled as compiled
from ._programs import compiler_options as compiler_options
from ._programs import first_track_state as first_track_state
from ._programs import track_chunk as track_chunk
from ._results import Analysis as Analysis
from ._results import write_csv as write_csv
from ._stages import SCOPES as SCOPES
from ._stages import Stage as Stage
from ._stages import StageInputs as StageInputs
from ._stages import compile_stages as compile_stages
from ._stages import stage_inputs as stage_inputs
from ._stored import StoredFunction as StoredFunction
