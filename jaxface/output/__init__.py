"""OpenFace's output files, pandas tables and overlays (host side, NumPy)."""

from ._aligned import aligned_name as aligned_name
from ._aligned import write_aligned as write_aligned
from ._atomic import make_folder as make_folder
from ._columns import CsvKind as CsvKind
from ._columns import column_names as column_names
from ._csv import CsvWriter as CsvWriter
from ._csv import csv_lines as csv_lines
from ._csv import write_csv as write_csv
from ._dataframe import to_dataframe as to_dataframe
from ._details import Details as Details
from ._details import details_text as details_text
from ._details import write_details as write_details
from ._draw import draw_box as draw_box
from ._draw import draw_landmarks as draw_landmarks
from ._hog import HogWriter as HogWriter
from ._hog import read_hog as read_hog
from ._rows import INTENSITY_NAMES as INTENSITY_NAMES
from ._rows import NO_UNITS as NO_UNITS
from ._rows import OPENFACE_UNITS as OPENFACE_UNITS
from ._rows import PRESENCE_NAMES as PRESENCE_NAMES
from ._rows import FaceRow as FaceRow
from ._rows import Table as Table
from ._rows import UnitNames as UnitNames
from ._rows import rows_of as rows_of
from ._rows import stack_rows as stack_rows
