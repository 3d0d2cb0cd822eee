"""`jaxface report`: results as one page."""

import argparse
import sys
from pathlib import Path

from ..errors import InputError
from ..run import write_report
from ._report import print_line


def run_report(arguments: argparse.Namespace) -> int:
    """Runs the command.

    Args:
        arguments: of the command "report".
    Returns:
        Exit status: 0 if every result was read, 1 if not.
    Raises:
        InputError: there is no result, or a single one, the clip or the cohorts cannot be read.
        OutputError: the page cannot be written.
        ModuleNotFoundError: bokeh is missing.
    """
    given = [Path(path) for path in arguments.results]
    refused: list[InputError] = []

    def refuse(error: InputError) -> None:
        print_line(f"jaxface: error: {error}", sys.stderr)
        refused.append(error)

    path = write_report(
        _page_of(given, arguments.out),
        given[0] if len(given) == 1 else given,
        video=arguments.clip,
        cohorts=arguments.cohorts,
        skip=refuse,
    )
    print_line(f"{path} ({path.stat().st_size / 1e6:.1f} MB)", sys.stdout)
    return 1 if refused else 0


def _page_of(given: list[Path], out: str | None) -> Path:
    """Where the page goes."""
    if out is not None:
        return Path(out)
    if len(given) > 1:
        return Path("report.html")
    alone = given[0]
    return alone / "report.html" if alone.is_dir() else alone.with_name(f"{alone.stem}_report.html")
