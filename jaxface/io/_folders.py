"""Folders: which of their files are the frames of a clip, and in which order."""

import re
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from ._checks import PICTURE_SUFFIXES, file_signature
from ._signatures import Content

_NUMBER = re.compile(r"([0-9]+)")
_SYSTEM = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})
_VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".wmv", ".asf", ".flv", ".mpg", ".mpeg"),
        *(".m2v", ".vob", ".ts", ".mts", ".m2ts", ".dv", ".3gp", ".3g2", ".ogv", ".mxf"),
    }
)
_FOLDER = "a folder of images"


class FolderContents(NamedTuple):
    """The files of a folder, each list in natural order."""

    images: tuple[Path, ...]  # also those that are empty or damaged, if their names say so
    videos: tuple[Path, ...]
    others: tuple[Path, ...]  # neither; hidden files and the system's own are not even here


def natural_key(path: Path) -> tuple[object, ...]:
    """What to sort names by, so that 2 stands before 10: numbers count as numbers.

    Capitals do not matter, and a suffix only where all else is equal.
    """
    return (_pieces(path.stem), _pieces(path.suffix), path.name)


def _pieces(text: str) -> tuple[object, ...]:
    pieces = _NUMBER.split(text.casefold())  # text and numbers take turns
    return tuple(int(piece) if number % 2 else piece for number, piece in enumerate(pieces))


def folder_contents(folder: str | Path) -> FolderContents:
    """Lists what a folder holds; folders in it are left out.

    A file is a picture or a video by its contents; one that is empty or damaged by its suffix.

    Args:
        folder: the folder.
    Raises:
        InputError: no folder, or no access.
    """
    folder = Path(folder)
    if not folder.is_dir():
        got = "a file" if folder.exists() else "nothing there"
        raise InputError(folder, _FOLDER, got, "check the spelling of the path")
    try:
        files = [path for path in folder.iterdir() if _counts(path)]
    except OSError as error:
        got = f"no access ({error.strerror})"
        raise InputError(folder, _FOLDER, got, "check its permissions") from error
    found: dict[str, list[Path]] = {"images": [], "videos": [], "others": []}
    for path in sorted(files, key=natural_key):
        found[_kind(path)].append(path)
    return FolderContents(**{name: tuple(paths) for name, paths in found.items()})


def list_images(folder: str | Path) -> list[Path]:
    """Lists the frames of an image folder, in natural order: 1, 2, ... 10.

    Args:
        folder: holds pictures of any kind that `read_image` reads. Hidden files, folders and what
            is no picture are passed over.
    Returns:
        Their paths. Never empty.
    Raises:
        InputError: no folder, no access, or no picture in it.
    Reference:
        Specification 01, C.1 and specification 03, E.1. Differs: OpenFace takes .jpg, .jpeg, .png
        and .bmp in lower case only, sorted as text.
    """
    contents = folder_contents(folder)
    if contents.images:
        return list(contents.images)
    if contents.videos:
        first = contents.videos[0].name
        got = f"a folder of videos ({len(contents.videos)}, the first is {first})"
        raise InputError(folder, _FOLDER, got, "name the videos in it")
    got = f"{len(contents.others)} files, no picture among them"
    raise InputError(folder, _FOLDER, got, "put the frames in it, as JPEG or PNG")


def _counts(path: Path) -> bool:
    return not (path.name.startswith(".") or path.name.lower() in _SYSTEM) and path.is_file()


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        return "images"  # a damaged one keeps its place
    signature = file_signature(path)
    if signature is not None:
        if signature.content is Content.PICTURE:
            return "images"
        return "videos" if signature.content is Content.FILM else "others"
    return "videos" if suffix in _VIDEO_SUFFIXES else "others"
