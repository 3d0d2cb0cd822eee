"""The command `jaxface`."""

from ._bench import Row as Row
from ._bench import to_markdown as to_markdown
from ._main import main as main
from ._memory import keep_small as keep_small
from ._parser import build_parser as build_parser
from ._run import FaceRecord as FaceRecord
from ._run import Source as Source
