"""The command `jaxface`."""

import importlib
from typing import TYPE_CHECKING

from ._main import main as main
from ._openface import choose_model as choose_model
from ._openface import fit_settings as fit_settings
from ._openface import run_openface as run_openface
from ._openface_flags import COMMANDS as COMMANDS
from ._openface_flags import FLAGS as FLAGS
from ._openface_flags import FlagError as FlagError
from ._openface_flags import Request as Request
from ._openface_flags import parse_flags as parse_flags
from ._openface_inputs import plan_outputs as plan_outputs
from ._openface_inputs import read_boxes as read_boxes
from ._parser import build_parser as build_parser

if TYPE_CHECKING:
    from ._bench import Row as Row
    from ._bench import to_markdown as to_markdown
    from ._jobs import NameClashError as NameClashError
    from ._jobs import plan_jobs as plan_jobs
    from ._memory import keep_small as keep_small
    from ._run import FaceRecord as FaceRecord
    from ._run import Source as Source
    from ._startup import Startup as Startup

# Loaded on first use: `jaxface --help` needs neither JAX nor OpenCV.
_HOMES = {
    "FaceRecord": "_run",
    "NameClashError": "_jobs",
    "Row": "_bench",
    "Source": "_run",
    "Startup": "_startup",
    "keep_small": "_memory",
    "plan_jobs": "_jobs",
    "to_markdown": "_bench",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxface.cli' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
