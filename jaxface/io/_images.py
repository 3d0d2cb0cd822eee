"""Still images and folders of frames, decoded as OpenFace does."""

import contextlib
import warnings
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from ..errors import InputError, InputWarning
from ._checks import check_file
from ._quiet import quiet_opencv, quiet_stderr

SEQUENCE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")  # case-sensitive, as in OpenFace

# First bytes of a format, and the last bytes of a complete file.
_ENDINGS = ((b"\xff\xd8", b"\xff\xd9"), (b"\x89PNG", b"IEND\xaeB`\x82"))
_TAIL = 64  # bytes searched for the ending, as some cameras append padding


def read_image(path: str | Path) -> UInt8[np.ndarray, "h w 3"]:
    """Reads one image as 8-bit RGB.

    The EXIF orientation is applied, an alpha channel dropped, grey replicated, and 16-bit
    samples are reduced to their high byte.

    Args:
        path: the image file.
    Returns:
        RGB, 0 to 255.
    Raises:
        InputError: the file is missing, empty, unreadable or no image.
    Warns:
        InputWarning: the file ends early; what is missing is grey.
    Reference:
        Specification 01, C.1.
    """
    path = Path(path)
    check_file(path, "an image")
    whole = _is_whole(path)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(quiet_opencv() if whole else quiet_stderr())
            image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(path, "an image", reason, "convert it to PNG or JPEG") from error
    if image is None:
        size = path.stat().st_size
        raise InputError(
            path, "an image", f"{size} bytes that cannot be decoded", "convert it to PNG or JPEG"
        )
    if not whole:
        message = f"{path}: the file ends early; what is missing of the image is grey"
        warnings.warn(message, InputWarning, stacklevel=2)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def list_images(folder: str | Path) -> list[Path]:
    """Lists the frames of an image folder in OpenFace's order.

    Args:
        folder: holds files ending in .jpg, .jpeg, .png or .bmp (lower case).
    Returns:
        Their paths, sorted as strings. Never empty.
    Raises:
        InputError: no folder, no access, or no such file in it.
    Reference:
        Specification 01, C.1 and specification 03, E.1.
    """
    folder = Path(folder)
    if not folder.is_dir():
        got = "a file" if folder.exists() else "nothing there"
        raise InputError(folder, "a folder of images", got, "check the spelling of the path")
    try:
        files = [path for path in folder.iterdir() if path.is_file()]
    except OSError as error:
        got = f"no access ({error.strerror})"
        raise InputError(folder, "a folder of images", got, "check its permissions") from error
    images = sorted((path for path in files if path.suffix in SEQUENCE_SUFFIXES), key=str)
    if not images:
        raise InputError(
            folder,
            "a folder of images",
            f"{len(files)} files, none ending in {' '.join(SEQUENCE_SUFFIXES)}",
            "rename or convert them (endings in capitals are not read)",
        )
    return images


def _is_whole(path: Path) -> bool:
    """False for a JPEG or PNG without its ending, whose decoder would write to the terminal."""
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(0, 2)
        file.seek(max(file.tell() - _TAIL, 0))
        tail = file.read()
    return all(end in tail for start, end in _ENDINGS if head.startswith(start))
