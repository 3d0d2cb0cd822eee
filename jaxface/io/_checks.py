"""What kind of input a path is, and whether it can be opened at all."""

import enum
import os
import re
import stat
from pathlib import Path

from ..errors import InputError
from ._signatures import HEAD, Content, Signature, sniff

# What a file that is empty or damaged was meant to be: for the words of the error.
PICTURE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
        *(".gif", ".jp2", ".j2k", ".pgm", ".ppm", ".pnm", ".pbm", ".heic", ".heif", ".hif"),
        *(".avif", ".apng"),
    }
)
# Two slashes become one in a `Path`.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|(?:https?|rtsps?|rtmps?|ftp|srt|udp|tcp|rtp):/")
_UNREAD = "cameras, streams and pipes are not read"
_SAVE = "save the video to a file first"


class InputKind(enum.Enum):
    """What a path holds."""

    VIDEO = "video"
    IMAGE = "image"
    FOLDER = "folder"


def classify_input(path: str | Path) -> InputKind:
    """Tells a video file, an image file and a folder apart.

    Args:
        path: what to look at. Its contents tell, not its name; where the contents are of no known
            kind, a picture's suffix does, and every other file is taken for a video.
    Returns:
        The kind.
    Raises:
        InputError: nothing is there, it cannot be looked at, or it is an address, a camera, a
            pipe or another thing that is neither a file nor a folder.
    """
    found = _look_at(path, "a file or folder")
    path = Path(path)
    if stat.S_ISDIR(found.st_mode):
        return InputKind.FOLDER
    signature = file_signature(path)
    if signature is None or signature.content is Content.OTHER:
        named = path.suffix.lower() in PICTURE_SUFFIXES
        return InputKind.IMAGE if named else InputKind.VIDEO
    return InputKind.IMAGE if signature.content is Content.PICTURE else InputKind.VIDEO


def file_signature(path: Path) -> Signature | None:
    """What a file's first bytes say; None where they say nothing, or cannot be read."""
    try:
        with path.open("rb") as file:
            return sniff(file.read(HEAD))
    except OSError:
        return None


def check_file(path: str | Path, expected: str) -> None:
    """Refuses what cannot be a readable, non-empty file. Nothing is opened that could wait.

    Args:
        path: the file.
        expected: what it should hold, for the message.
    Raises:
        InputError: missing, a folder, empty, unreadable, or an address, a camera or a pipe.
    """
    found = _look_at(path, expected)
    if stat.S_ISDIR(found.st_mode):
        raise InputError(path, expected, "a folder", "name a file")
    try:
        with Path(path).open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            path, expected, f"no access ({reason})", "check its permissions"
        ) from error
    if empty:
        raise InputError(path, expected, "an empty file (0 bytes)", "copy or record it again")


def _look_at(path: str | Path, expected: str) -> os.stat_result:
    """The state of a regular file or a folder, or an error that says what else it is."""
    try:
        found = os.stat(path)
    except FileNotFoundError as error:
        raise _missing(path, expected) from error
    except (OSError, ValueError) as error:  # a closed folder above it; a name too long, or with \0
        if _is_address(path):
            raise _missing(path, expected) from error
        got = getattr(error, "strerror", None) or str(error)
        raise InputError(path, expected, got, "check the path") from error
    if stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode):
        return found
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    kind = kinds.get(stat.S_IFMT(found.st_mode), "a device")
    raise InputError(path, expected, f"{kind}, no regular file: {_UNREAD}", _SAVE)


def _is_address(path: str | Path) -> bool:
    return _ADDRESS.match(str(path)) is not None


def _missing(path: str | Path, expected: str) -> InputError:
    text = str(path)
    if text.startswith("file://"):
        got = "an address: streams and addresses are not read"
        return InputError(path, expected, got, "give the path without file://")
    if _is_address(path):
        got = "an address: streams and addresses are not read"
        return InputError(path, expected, got, f"{_SAVE} (ffmpeg -i ADDRESS -c copy out.mkv)")
    if text == "-":
        return InputError(path, expected, f"standard input: {_UNREAD}", _SAVE)
    if text.isdecimal():
        got = f"nothing there, as if it were a camera's number: {_UNREAD}"
        return InputError(path, expected, got, _SAVE)
    if text.startswith("/dev/"):
        return InputError(path, expected, f"no such device: {_UNREAD}", _SAVE)
    return InputError(path, expected, "nothing there", "check the spelling of the path")
