"""Options of `jaxface live`. Imports nothing heavy, as the parser needs it."""

import argparse

_EPILOG = """\
exit status: 0 at the end of a file, or once it was stopped (Ctrl-C, or the window closed), 1 if the
camera or file cannot be read, 2 for a usage error.
"""


def add_live(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command.

    Args:
        commands: of the whole program.
    """
    live = commands.add_parser(
        "live",
        help="analyse a camera, and show it",
        description="Follows one face in a camera's pictures and shows landmarks, head pose, gaze "
        "and action units as they come: in a window, or where there is no display on a page for "
        "this computer's browser.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = live.add_argument
    add(
        "source",
        nargs="?",
        default="0",
        metavar="SOURCE",
        help="number of a camera, or a video or folder of images that is played as if it were one "
        "(default: 0)",
    )
    add(
        "--serve",
        nargs="?",
        type=_port,
        const=0,
        metavar="PORT",
        help="show a page at 127.0.0.1, not a window; by default at a port that is free",
    )
    add("--loop", action="store_true", help="begin a file again at its end")
    add(
        "--size",
        type=_size,
        default=(480, 640),
        metavar="WxH",
        help="pictures that a camera is asked for, px (default: 640x480)",
    )
    add("--csv", metavar="FILE", help="write a row for each frame that is shown")
    add("--model", default="base", metavar="NAME|PATH", help="default: %(default)s")
    add("--static", action="store_true", help="action units without adapting to the person")
    add("--wild", action="store_true", help="larger search, for difficult pictures")
    for name, what in (("f", "focal length"), ("c", "optical centre")):
        for axis in "xy":
            add(f"--{name}{axis}", type=float, metavar="PX", help=f"{what} in {axis}, px")
    add("--no-compile-cache", action="store_true", help="do not keep compiled programs on disk")
    add("--debug", action="store_true", help="show tracebacks")


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = -1
    if not 0 <= port < 65536:
        raise argparse.ArgumentTypeError(
            f"expected a port, 0 to 65535, got {text!r}; SOURCE stands before it"
        )
    return port


def _size(text: str) -> tuple[int, int]:
    """Height and width of WxH."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"expected a size such as 640x480, got {text!r}")
    return int(height), int(width)
