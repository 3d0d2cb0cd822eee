"""Compares result files: figures of one pair or of a whole study, limits, and reports."""

from ._comparison import Comparison as Comparison
from ._comparison import compare_stored as compare_stored
from ._figures import Spread as Spread
from ._figures import Summary as Summary
from ._figures import UnitFigures as UnitFigures
from ._figures import summarize as summarize
from ._files import FilePair as FilePair
from ._files import pair_files as pair_files
from ._files import read_cohorts as read_cohorts
from ._files import read_limits as read_limits
from ._limits import LIMITS as LIMITS
from ._limits import Miss as Miss
from ._limits import check_bound as check_bound
from ._limits import check_limits as check_limits
from ._pairs import frames_at as frames_at
from ._render import to_html as to_html
from ._render import to_markdown as to_markdown
from ._report import report as report
from ._study import Clip as Clip
from ._study import Study as Study
from ._study import Timing as Timing
from ._study import make_study as make_study
from ._study import run_study as run_study
from ._values import study_values as study_values
