"""Arguments of the command line. Imports nothing heavy, so that --help answers at once."""

import argparse
import importlib.util
import math

from .. import __version__
from ._formats import FORMATS
from ._live_options import add_live
from ._openface_flags import COMMANDS, FLAGS
from ._report_options import add_report
from ._validate_options import add_validate

_EPILOG = """\
exit status: 0 if every input was analysed, 1 if one was not, 2 for a usage error.

Compiled programs are kept in the user's cache folder, so that the next run starts sooner;
--no-compile-cache or JAXFACE_COMPILE_CACHE=0 turns that off.
"""

_OPENFACE_GROUPS = (
    "Where none of -gaze -aus -2Dfp -3Dfp -pose -pdmparams -hogalign -simalign is given, all are "
    "on. "
)


def build_parser() -> argparse.ArgumentParser:
    """Builds the parser.

    Returns:
        A parser whose result has `command`, and `models_command` or `train_command` if that is
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
    add_live(commands)
    _add_models(commands)
    _add_train(commands)
    _add_bench(commands)
    add_validate(commands)
    add_report(commands)
    _add_openface(commands)
    return parser


def check_arguments(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Ends the program with status 2 if arguments contradict each other.

    Args:
        parser: prints the usage.
        arguments: of the command "analyze".
    """
    if not arguments.inputs:
        parser.error("expected at least one INPUT")
    if arguments.fps is not None and arguments.clock is not None:
        parser.error("--fps and --clock cannot be given together: leave one out")
    if arguments.at_once and arguments.lanes is not None:
        parser.error("--at-once and --lanes cannot be given together: leave one out")
    if "parquet" in (arguments.format or ()) and importlib.util.find_spec("pyarrow") is None:
        parser.error("--format parquet needs pyarrow: run pip install 'jaxface[parquet]'")
    check_lens(parser, arguments)


def check_lens(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Ends the program with status 2 if intrinsics make no sense.

    Args:
        parser: prints the usage.
        arguments: with fx, fy, cx and cy.
    """
    for first, second in (("fx", "fy"), ("cx", "cy")):
        if (getattr(arguments, first) is None) != (getattr(arguments, second) is None):
            parser.error(f"--{first} and --{second} must be given together")
    for name in ("fx", "fy", "cx", "cy"):
        value = getattr(arguments, name)
        if value is not None and not math.isfinite(value):
            parser.error(f"--{name} must be a finite number, got {value:g}")
        if value is not None and name.startswith("f") and value <= 0:
            parser.error(f"--{name} must be positive, got {value:g}")


def find_command(parser: argparse.ArgumentParser, name: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return commands.choices[name]


def _add_analyze(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    analyze = commands.add_parser(
        "analyze",
        help="analyse videos, images and folders of frames",
        description="Writes OpenFace's CSV for every input, DIR/<name>.csv, or the same table in "
        "other formats.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_inputs(analyze)
    add = analyze.add_argument
    add("--out", required=True, metavar="DIR", help="output folder; created if need be")
    add("--model", default="base", metavar="NAME|PATH", help="default: %(default)s")
    add(
        "--mode",
        choices=("video", "image"),
        help="track a clip, or take every image by itself (default: image for image files, "
        "video for videos and folders)",
    )
    add("--faces", choices=("one", "all"), help="default: all in images, one in videos")
    add("--static", action="store_true", help="action units without adapting to the person")
    add("--at-once", action="store_true", help="track many frames of a clip at once: faster")
    add(
        "--lanes",
        type=_positive,
        metavar="N",
        help="clips of one face that are followed together (default: as many as suit the machine, "
        "1 for a single clip)",
    )
    add("--wild", action="store_true", help="larger search, for difficult images")
    add("--multi-view", type=int, choices=(0, 1), help="start from several head orientations")
    for name, what in (("f", "focal length"), ("c", "optical centre")):
        for axis in "xy":
            add(f"--{name}{axis}", type=float, metavar="PX", help=f"{what} in {axis}, px")
    _add_outputs(analyze)
    add("--no-compile-cache", action="store_true", help="do not keep compiled programs on disk")
    add("--profile", metavar="DIR", help="write a trace of JAX's profiler to DIR")
    add("--debug", action="store_true", help="show tracebacks")


def _add_outputs(analyze: argparse.ArgumentParser) -> None:
    """Which files are written."""
    add = analyze.add_argument
    add(
        "--format",
        action="extend",
        type=_formats,
        metavar="FORMATS",
        help="of the results: csv, parquet, npz, or several of them as in csv,npz (default: csv); "
        "the last two keep every digit, and what made them",
    )
    add("--hog", action="store_true", help="also write DIR/<name>.hog")
    add("--aligned", action="store_true", help="also write aligned faces to DIR/<name>_aligned")
    add(
        "--overlay",
        nargs="?",
        type=_frame_numbers,
        const=(),
        metavar="FRAMES",
        help="also write DIR/<name>_overlay.png of images and DIR/<name>_overlay_<frame>.png of "
        "clips: of some frames, or of those numbered here, e.g. 1,50,100",
    )
    add(
        "--tracked",
        action="store_true",
        help="also write DIR/<name>_tracked.mp4 of clips: the video with all that was found drawn "
        "over it; of images DIR/<name>_overlay.png",
    )
    add("--no-details", action="store_true", help="leave out DIR/<name>_of_details.txt")


def _add_inputs(analyze: argparse.ArgumentParser) -> None:
    """What is analysed, and how a batch is gone through."""
    add = analyze.add_argument
    add(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="video file, image file, folder, pattern such as 'clips/*.mp4', or @FILE with an "
        "input in each line; a folder of pictures alone is one clip, of one with videos every "
        "file is an input",
    )
    add("--recursive", action="store_true", help="look into the folders of a folder, too")
    add(
        "--resume",
        action="store_true",
        help="skip what is finished: the same contents, model and settings, and the files still "
        "there as they were written",
    )
    add("--jobs", type=_positive, default=1, metavar="N", help="stills at a time (default: 1)")
    add("--json", metavar="FILE", help="write what became of each input; - for standard output")
    add("--config", metavar="FILE", help="TOML file with long options as keys, and `inputs`")
    add("--fps", type=_rate, metavar="RATE", help="frames per second; default: the file's")
    add(
        "--clock",
        choices=("container", "openface"),
        help="times from the file's own clock, or counted at its frame rate (default: counted "
        "where both agree to half a frame throughout)",
    )


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
    train = commands.add_parser("train", help="make training data and train a model")
    actions = train.add_subparsers(dest="train_command", metavar="ACTION", required=True)
    base = actions.add_parser(
        "base",
        help="train the whole model `base`",
        description="Trains whatever is not up to date and writes OUT/base.safetensors, "
        "its manifest OUT/base.json, the report OUT/base-training.md and loss curves. Goes on "
        "where an interrupted run stopped.",
    )
    base.add_argument(
        "--work",
        metavar="DIR",
        help="for intermediate results and checkpoints (default: OUT/../build/train)",
    )
    data = actions.add_parser(
        "data",
        help="register the portraits and show samples",
        description="Registers the morphable head to all portraits (OUT/registration, which later "
        "runs reuse) and writes sheets of samples: OUT/*.png.",
    )
    for name, what in _TRAINED:
        files = f"OUT/parts/{name.replace('-', '_')}*.safetensors"
        one = actions.add_parser(
            name,
            help=f"train {what}",
            description=f"Trains {what}: {files}, with figures as JSON and loss "
            "curves as OUT/*.png. Goes on where an interrupted run stopped.",
        )
        _add_share(one)
        _add_training_options(one)
    detector = actions.add_parser(
        "detector",
        help="train the face detector",
        description="Trains the face detector: OUT/parts/detector.safetensors, its figures as "
        "OUT/detector.md and loss curves as OUT/detector-*.png. Goes on where an interrupted run "
        "stopped; OUT/cache (4 GB) may be deleted afterwards.",
    )
    _add_training_options(detector)
    _add_training_options(data)
    _add_share(base)
    _add_training_options(base)


def _add_share(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the usual number of pictures (default: 1)"
    )


def _add_bench(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    bench = commands.add_parser(
        "bench",
        help="show where the time goes",
        description="Times each stage of the analysis of a clip with one face, and counts its "
        "operations and bytes.",
    )
    add = bench.add_argument
    add("input", nargs="?", metavar="INPUT", help="video or folder; default: generated frames")
    add("--model", default="openface", metavar="NAME|PATH", help="default: %(default)s")
    add("--frames", type=_positive, default=96, metavar="N", help="at most (default: %(default)s)")
    add("--no-compile-cache", action="store_true", help="do not keep compiled programs on disk")
    add("--debug", action="store_true", help="show tracebacks")


def _add_openface(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describes OpenFace's programs, whose flags `_openface_flags` parses in their own way."""
    for command in COMMANDS:
        shows = command == "FaceLandmarkVid"
        parser = commands.add_parser(
            command,
            help="OpenFace's program, with its own flags and files",
            description=f"Runs an imported OpenFace model as OpenFace's {command}: same flags, "
            f"{'shown as by `jaxface live`' if shows else 'same files'}.",
            epilog=f"{'' if shows else _OPENFACE_GROUPS}The exit status is that of "
            f"`jaxface {'live' if shows else 'analyze'}`.",
        )
        for flag in FLAGS:
            if command in flag.commands and flag.metavar:
                parser.add_argument(flag.name, metavar=flag.metavar, help=flag.meaning)
            elif command in flag.commands:
                parser.add_argument(flag.name, action="store_true", help=flag.meaning)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be positive, got {value}")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"must be positive, got {text}")
    return value


def _formats(text: str) -> tuple[str, ...]:
    wanted = [name.strip() for name in text.lower().split(",")]
    unknown = [name for name in wanted if name not in FORMATS]
    if unknown:
        known = ", ".join(FORMATS)
        raise argparse.ArgumentTypeError(f"expected some of {known}, got {unknown[0]!r}")
    return tuple(wanted)


def _frame_numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(number) for number in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(
            f"expected frame numbers from 1 on, such as 1,50,100, got {text!r}; "
            "inputs stand before it"
        )
    return numbers


_TRAINED = (
    ("pdm", "the shape model"),
    ("experts", "the patch experts (after pdm)"),
    ("validator", "the validator of landmarks (after experts)"),
    ("eyes", "the eye models"),
    ("regressor", "the first guess of pose and shape (after pdm)"),
    ("action-units", "the heads of the action units (after all of the above)"),
)


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", required=True, metavar="DIR", help="folder of portraits/ and ict-facekit/"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="created if need be")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random (default: 0)")
    parser.add_argument("--people", type=int, metavar="N", help="only the first N people")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
