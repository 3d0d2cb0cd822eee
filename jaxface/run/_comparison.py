"""Two results side by side."""

import math
from collections.abc import Sequence
from pathlib import Path

from ..output import About, Stored, read_file
from ..output.validation import Comparison, compare_stored
from ._results import Analysis


def compare_results(
    a: str | Path | Analysis,
    b: str | Path | Analysis,
    *,
    positions: Sequence[float] | None = None,
) -> Comparison:
    """Compares two results of the same clip or image, as `jaxface validate` does.

    Rows are paired by frame. Where there may be several faces in one, those go together whose boxes
    around the landmarks overlap most; faces that do not overlap are different ones.

    Args:
        a: the reference: what `read_results` reads, or an analysis.
        b: the other.
        positions: compares only the frames at these % of the clip, 0 to 100; None: all.
    Returns:
        Differences of each row; `summary()` gives the figures of all.
    Raises:
        InputError: a file is missing, damaged, or holds no results.
        ValueError: a position is outside of 0 to 100.
    """
    for position in positions or ():
        if not (math.isfinite(position) and 0 <= position <= 100):
            raise ValueError(f"positions: expected numbers from 0 to 100 (%), got {position!r}")
    return compare_stored(_stored(a), _stored(b), positions=positions)


def _stored(result: str | Path | Analysis) -> Stored:
    if isinstance(result, Analysis):
        return Stored(result, About(result.kind, result.units))
    return read_file(result)
