"""The same clip gives the same bytes: twice, and as the seventh of one command."""

import tempfile
from pathlib import Path

from jaxface.reference.comparison.clips import Data
from jaxface.reference.comparison.figures import Figure, Subject
from jaxface.reference.comparison.repeat import csv_runs

from .stages import differing_bytes


def repeat_figures(data: Data) -> list[Figure]:
    """CSVs of the command line: of a clip alone, again, and as the seventh input."""
    with tempfile.TemporaryDirectory() as folder:
        alone, again, seventh = csv_runs(data, Path(folder))
        subject = Subject("determinism", "openface", "image_sequence")
        return [
            subject.at_most("second run, differing bytes", 0, differing_bytes(alone, again)),
            subject.at_most(
                "seventh of a batch, differing bytes", 0, differing_bytes(alone, seventh)
            ),
        ]
