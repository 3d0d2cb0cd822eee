"""Training of the whole model `base`, and its report."""

from ._base import PARTS as PARTS
from ._base import BaseConfig as BaseConfig
from ._base import assemble_base as assemble_base
from ._base import base_config as base_config
from ._base import files_of as files_of
from ._base import in_half_precision as in_half_precision
from ._base import is_current as is_current
from ._base import planned_work as planned_work
from ._base import stamp_of as stamp_of
from ._base import store_base as store_base
from ._base import train_parts as train_parts
from ._base import trainers as trainers
from ._landmarks import MAKERS as MAKERS
from ._landmarks import LandmarkConfig as LandmarkConfig
from ._landmarks import Workplace as Workplace
from ._landmarks import assemble_clnf as assemble_clnf
from ._landmarks import landmark_config as landmark_config
from ._landmarks import open_workplace as open_workplace
from ._landmarks import planned_steps as planned_steps
from ._report import training_report as training_report
