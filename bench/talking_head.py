"""Prints how far an analysis of bench/data/talking_head.mp4 is from the truth.

Usage: python bench/talking_head.py out/talking_head.csv [--truth FILE]

The truth was known before the clip was drawn, by render_talking_head.py.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxface.reference.comparison.talking_head import errors, read_columns

TRUTH = Path(__file__).resolve().parent / "data" / "talking_head.csv"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line per kind of error."""
    parser = argparse.ArgumentParser(description="Compares an analysis of the clip with its truth.")
    parser.add_argument("csv", type=Path, help="what `jaxface analyze` wrote")
    parser.add_argument("--truth", type=Path, default=TRUTH)
    arguments = parser.parse_args(argv)
    for name, value in errors(read_columns(arguments.csv), read_columns(arguments.truth)).items():
        print(f"{name:<52}{value:8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
