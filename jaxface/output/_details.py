"""The `_of_details.txt` file that accompanies OpenFace's results."""

from pathlib import Path
from typing import NamedTuple

from ..types import Camera
from ._atomic import write_file
from ._choice import ColumnChoice

# Of `ColumnChoice`, in its order.
_GROUPS = ("Gaze", "AUs", "Landmarks 2D", "Landmarks 3D", "Pose", "Shape parameters")


class Details(NamedTuple):
    """What was analysed and which files were written, by name relative to the output folder."""

    source: str  # as given by the user
    full_path: str
    camera: Camera
    hog: str | None = None
    video: str | None = None  # with landmarks drawn
    image: str | None = None  # with landmarks drawn
    aligned: str | None = None  # folder
    csv: str | None = None  # None where no face was found
    action_units: bool = True
    columns: ColumnChoice = ColumnChoice()  # of the CSV


def details_text(details: Details) -> str:
    """Formats the details.

    Args:
        details: what was analysed and written.
    Returns:
        The file's text, with C++'s default number formatting.
    Reference:
        Specification 03, E.3.
    """
    lines = [
        f"Input:{details.source}",
        f"Input full path:{details.full_path}",
        "Camera parameters:{:g},{:g},{:g},{:g}".format(*map(float, details.camera)),
    ]
    named = (
        ("Output HOG", details.hog),
        ("Output video", details.video),
        ("Output image", details.image),
        ("Output aligned directory", details.aligned),
        ("Output csv", details.csv),
    )
    lines += [f"{label}:{name}" for label, name in named if name is not None]
    if details.csv is not None:
        columns = details.columns
        columns = columns._replace(action_units=columns.action_units and details.action_units)
        lines += [f"{group}: {int(some)}" for group, some in zip(_GROUPS, columns, strict=True)]
    return "\n".join(lines) + "\n"


def write_details(path: str | Path, details: Details) -> Path:
    """Writes the details.

    Args:
        path: the file.
        details: what was analysed and written.
    Returns:
        The path.
    Raises:
        OutputError: it cannot be written; what was there before is untouched.
    """
    return write_file(Path(path), details_text(details).encode("utf-8", "surrogateescape"))
