"""What kind of input a path is, and whether it can be opened at all."""

import enum
from pathlib import Path

from ..errors import InputError

# Single files; the folder reader is stricter (see SEQUENCE_SUFFIXES).
_IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".jp2", ".pgm", ".ppm", ".pnm"}
)


class InputKind(enum.Enum):
    """What a path holds."""

    VIDEO = "video"
    IMAGE = "image"
    FOLDER = "folder"


def classify_input(path: str | Path) -> InputKind:
    """Tells a video file, an image file and a folder apart.

    Args:
        path: what to look at. Folders are told by the file system, images by their suffix
            (case ignored); every other file is taken for a video.
    Returns:
        The kind.
    Raises:
        InputError: nothing is there, or it cannot be looked at.
    """
    path = Path(path)
    try:
        folder, found = path.is_dir(), path.exists()
    except OSError as error:  # a closed folder above it, a name that is too long
        got = error.strerror or str(error)
        raise InputError(path, "a file or folder", got, "check the path") from error
    if folder:
        return InputKind.FOLDER
    if not found:
        raise _missing(path)
    return InputKind.IMAGE if path.suffix.lower() in _IMAGE_SUFFIXES else InputKind.VIDEO


def check_file(path: Path, expected: str) -> None:
    """Refuses what cannot be a readable, non-empty file.

    Args:
        path: the file.
        expected: what it should hold, for the message.
    Raises:
        InputError: missing, a folder, empty, unreadable or with a name that OpenCV cannot take.
    """
    if not path.exists():
        raise _missing(path)
    if path.is_dir():
        raise InputError(path, expected, "a folder", "name a file")
    try:
        str(path).encode()
    except UnicodeEncodeError as error:  # OpenCV would end the process
        raise InputError(path, expected, "a name that is not UTF-8", "rename it") from error
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            path, expected, f"no access ({reason})", "check its permissions"
        ) from error
    if empty:
        raise InputError(path, expected, "an empty file (0 bytes)", "copy or record it again")


def _missing(path: Path) -> InputError:
    return InputError(path, "a file or folder", "nothing there", "check the spelling of the path")
