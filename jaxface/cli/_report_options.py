"""Options of `jaxface report`. Imports nothing heavy, as the parser needs it."""

import argparse

_EPILOG = """\
exit status: 0 if every result was read, 1 if one was not, 2 for a usage error.

The page needs no other file and no network. Of one result it shows the clip, too: the one that the
record of the run (.run.json, _of_details.txt) names, if it is still there, or --clip.
"""


def add_report(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command.

    Args:
        commands: of the whole program.
    """
    report = commands.add_parser(
        "report",
        help="show results as one page: clip, plots, events, cohorts",
        description="Writes one page of HTML. Of one result: the clip, which moves with plots of "
        "action units, head pose, gaze and confidence, blinks and smiles, left against right, what "
        "made it. Of several: figures of each, of all and of cohorts.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = report.add_argument
    add(
        "results",
        nargs="+",
        metavar="RESULT",
        help="CSV of OpenFace or jaxface, Parquet, NPZ, or a folder of them",
    )
    add(
        "--out",
        metavar="FILE",
        help="the page (default: <name>_report.html beside a single result, else report.html in "
        "the folder given or here)",
    )
    add("--clip", metavar="PATH", help="video, image or folder of images of a single result")
    add(
        "--cohorts",
        metavar="FILE",
        help="CSV with the columns clip and cohort, or TOML or JSON with clips as keys: gives the "
        "figures of each cohort",
    )
    add("--debug", action="store_true", help="show tracebacks")
