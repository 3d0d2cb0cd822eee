"""One face live: threads that capture, analyse and draw, and the page or window that shows it."""

from ._analysis import LiveAnalysis as LiveAnalysis
from ._figures import Figures as Figures
from ._paint import paint_page as paint_page
from ._paint import paint_window as paint_window
from ._server import LiveServer as LiveServer
from ._session import Analyse as Analyse
from ._session import Session as Session
from ._session import Shown as Shown
from ._slots import Latest as Latest
from ._window import show_window as show_window
from ._window import why_no_window as why_no_window
