"""Arguments of the command line. Imports nothing heavy, so that --help answers at once."""

import argparse

from .. import __version__

_EPILOG = """\
exit status: 0 if every input was processed, 1 if one was not, 2 for a usage error.

Compiled programs are kept in the user's cache folder, so that the next run starts sooner;
--no-compile-cache or JAXFACE_COMPILE_CACHE=0 turns that off.
"""


def build_parser() -> argparse.ArgumentParser:
    """Builds the parser.

    Returns:
        A parser whose result has `command`, and `models_command` or `part` if that is
        "models" or "train".
    """
    parser = argparse.ArgumentParser(
        prog="jaxface",
        description="Facial behaviour analysis: landmarks, head pose, gaze and action units.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"jaxface {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_analyze(commands)
    _add_models(commands)
    _add_train(commands)
    return parser


def check_arguments(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Ends the program with status 2 if arguments contradict each other.

    Args:
        parser: prints the usage.
        arguments: of the command "analyze".
    """
    for first, second in (("fx", "fy"), ("cx", "cy")):
        if (getattr(arguments, first) is None) != (getattr(arguments, second) is None):
            parser.error(f"--{first} and --{second} must be given together")
    for name in ("fx", "fy"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            parser.error(f"--{name} must be positive, got {value:g}")


def _add_analyze(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    analyze = commands.add_parser(
        "analyze",
        help="analyse videos, images and folders of frames",
        description="Writes OpenFace's CSV for every input: DIR/<name>.csv.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = analyze.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="video file, image file or folder of frames")
    add("--out", required=True, metavar="DIR", help="output folder; created if need be")
    add("--model", default="openface", metavar="NAME|PATH", help="default: %(default)s")
    add(
        "--mode",
        choices=("video", "image"),
        help="track a clip, or take every image by itself (default: image for image files, "
        "video for videos and folders)",
    )
    add("--faces", choices=("one", "all"), help="default: all in images, one in videos")
    add("--static", action="store_true", help="action units without adapting to the person")
    add("--wild", action="store_true", help="larger search, for difficult images")
    add("--multi-view", type=int, choices=(0, 1), help="start from several head orientations")
    for name, what in (("f", "focal length"), ("c", "optical centre")):
        for axis in "xy":
            add(f"--{name}{axis}", type=float, metavar="PX", help=f"{what} in {axis}, px")
    add("--hog", action="store_true", help="also write DIR/<name>.hog")
    add("--aligned", action="store_true", help="also write aligned faces to DIR/<name>_aligned")
    add("--no-details", action="store_true", help="leave out DIR/<name>_of_details.txt")
    add("--no-compile-cache", action="store_true", help="do not keep compiled programs on disk")
    add("--debug", action="store_true", help="show tracebacks")


def _add_models(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    models = commands.add_parser("models", help="import and list models")
    actions = models.add_subparsers(dest="models_command", metavar="ACTION", required=True)
    install = actions.add_parser("import", help="import the model files of an OpenFace copy")
    install.add_argument(
        "directory",
        nargs="?",
        metavar="DIR",
        help="OpenFace folder (default: the cache that pyclnf and its relatives share)",
    )
    install.add_argument("--cen", metavar="DIR", help="folder of the cen_patches_*.dat files")
    install.add_argument(
        "--allow-modified", action="store_true", help="accept files that are not OpenFace 2.2.0's"
    )
    listing = actions.add_parser("list", help="list the installed models")
    for action in (install, listing):
        action.add_argument("--debug", action="store_true", help="show tracebacks")


def _add_train(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    train = commands.add_parser("train", help="train the default model")
    parts = train.add_subparsers(dest="part", metavar="PART", required=True)
    data = parts.add_parser(
        "data",
        help="register the portraits and show samples",
        description="Registers the morphable head to all portraits (OUT/registration, which later "
        "runs reuse) and writes sheets of samples: OUT/*.png.",
    )
    data.add_argument("--people", type=int, metavar="N", help="only the first N people")
    detector = parts.add_parser(
        "detector",
        help="train the face detector",
        description="Writes OUT/base-detector.safetensors, a report and loss curves. An "
        "interrupted run goes on where it stopped; OUT/cache (4 GB) may be deleted afterwards.",
    )
    for part in (data, detector):
        add = part.add_argument
        add("--data", required=True, metavar="DIR", help="folder of portraits/ and ict-facekit/")
        add("--out", required=True, metavar="DIR", help="created if need be")
        add("--seed", type=int, default=0, help="default: %(default)s")
        add("--debug", action="store_true", help="show tracebacks")
