"""Files of the package: written whole or not at all, found by what they were made from."""

from ._atomic import AtomicFile as AtomicFile
from ._atomic import replace_file as replace_file
from ._damaged import check_entries as check_entries
from ._damaged import damaged_files as damaged_files
from ._damaged import discard_damaged as discard_damaged
from ._damaged import read_cached as read_cached
from ._executables import EXECUTABLES as EXECUTABLES
from ._executables import Executable as Executable
from ._executables import ahead_of_use as ahead_of_use
from ._executables import executable_size as executable_size
from ._executables import executables_used as executables_used
from ._executables import load_executable as load_executable
from ._executables import machine as machine
from ._executables import name_executable as name_executable
from ._executables import store_executable as store_executable
from ._sources import NOT_TRACED as NOT_TRACED
from ._sources import SOURCE_DIGEST as SOURCE_DIGEST
from ._sources import cache_dir as cache_dir
