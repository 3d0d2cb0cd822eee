"""The command `jaxface`."""

from ._main import main as main
