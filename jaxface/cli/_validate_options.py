"""Options of `jaxface validate`. Imports nothing heavy, as the parser needs it."""

import argparse
import math

# Names as in `jaxface.output.validation.LIMITS`.
_LIMITS = (
    ("max-landmarks", "PX", "mean distance of landmarks, px, is at most this"),
    ("max-landmarks-p99", "PX", "99th percentile of landmarks' distances, px, is at most this"),
    ("max-au", "MAE", "mean absolute difference of action units, over units, is at most this"),
    ("min-au-r", "R", "mean correlation of action units, where it is defined, is at least this"),
    (
        "min-iou",
        "SHARE",
        "mean overlap (IoU) of boxes around landmarks, 0 to 1, is at least this",
    ),
    (
        "min-agreement",
        "SHARE",
        "share where both or neither have a face, 0 to 1, is at least this",
    ),
    ("max-pose-deg", "DEG", "mean rotation between the heads, degrees, is at most this"),
    ("max-gaze-deg", "DEG", "mean angle between the vectors of gaze, degrees, is at most this"),
)
LIMIT_NAMES = tuple(name for name, _, _ in _LIMITS)
_EPILOG = """\
exit status: 0 if everything was compared and all limits hold, 1 if not, 2 for a usage error.

A limit holds for all clips together and for each cohort. What is undefined misses every limit.
"""


def add_validate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command.

    Args:
        commands: of the whole program.
    """
    validate = commands.add_parser(
        "validate",
        help="compare results with those of a reference, within limits",
        description="Compares results B with results A, the reference, and says by its exit status "
        "whether limits hold. With --clips, A and B are two ways to analyse these clips.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = validate.add_argument
    add(
        "paths",
        nargs="+",
        metavar="A B",
        help="two result files (CSV of OpenFace or jaxface, Parquet, NPZ), or two folders whose "
        "files go together by name; more pairs may follow. Before --clips: two models, by name or "
        "path, or TOML files with options of jaxface analyze as keys, such as model and mode",
    )
    add(
        "--clips",
        nargs="+",
        metavar="CLIP",
        help="analyse these clips (as of jaxface analyze) in both ways, each by itself, and "
        "compare the results and the time per frame",
    )
    add("--out", metavar="DIR", help="keep the results of --clips: DIR/a/<clip>.npz, DIR/b/...")
    add(
        "--positions",
        type=_positions,
        metavar="PERCENT",
        help="compare only the frames at these %% of each clip, e.g. 20,50,80; of --clips in mode "
        "image no others are analysed",
    )
    add(
        "--cohorts",
        metavar="FILE",
        help="CSV with the columns clip and cohort, or TOML or JSON with clips as keys: gives the "
        "figures of each cohort, too",
    )
    add("--json", metavar="FILE", help="write all figures as JSON")
    add("--html", metavar="FILE", help="write the report as one page that needs no other file")
    add("--markdown", metavar="FILE", help="write the report here, not to standard output")
    for name, metavar, what in _LIMITS:
        add(f"--{name}", type=float, metavar=metavar, help=what)
    add("--limits", metavar="FILE", help="TOML file with limits by these names; flags override it")
    add("--debug", action="store_true", help="show tracebacks")


def _positions(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = (math.nan,)
    if not all(0 <= value <= 100 for value in values):
        raise argparse.ArgumentTypeError(f"expected numbers from 0 to 100, got {text!r}")
    return values
