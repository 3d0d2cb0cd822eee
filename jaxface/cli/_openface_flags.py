"""Flags of OpenFace's programs, as its command lines spell them. Imports nothing heavy.

Reference: specification 03, F.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

Command = Literal["FeatureExtraction", "FaceLandmarkImg", "FaceLandmarkVidMulti", "FaceLandmarkVid"]
COMMANDS: tuple[Command, ...] = (
    *("FeatureExtraction", "FaceLandmarkImg"),
    *("FaceLandmarkVidMulti", "FaceLandmarkVid"),
)

# Main files of OpenFace's landmark models, and the names that they are imported under.
MODELS = {
    "main_ceclm_general": "openface-ceclm",
    "main_clnf_general": "openface",
    "main_clm_general": "openface-clm",
}
_E, _I, _M, _L = COMMANDS
_VIDEOS = (_E, _M)
_WRITING = (_E, _I, _M)  # the other shows


class Flag(NamedTuple):
    """One flag that does something."""

    name: str
    metavar: str  # of its value; empty for a flag without one
    meaning: str
    commands: tuple[Command, ...] = COMMANDS


# Groups of output: all of them are written if the user names none.
_COLUMNS = {
    "-gaze": "gaze, and the landmarks of the eyes",
    "-aus": "action units",
    "-2Dfp": "landmarks, px",
    "-3Dfp": "landmarks, mm",
    "-pose": "head pose",
    "-pdmparams": "parameters of the shape model",
}
_FILES = {
    "-hogalign": "<name>.hog",
    "-simalign": "aligned faces, as <name>_aligned/*.bmp",
    "-tracked": "the input with what was found drawn over it: <name>.avi, or <name>.jpg of images",
}
_GROUPS = (*_COLUMNS, *_FILES)
_SETTINGS = ("-wild", "-multi_view", "-validate_detections", "-sigma", "-reg", "-w_reg", "-n_iter")

FLAGS = (
    Flag("-f", "FILE", "video, may be repeated", _VIDEOS),
    Flag("-fdir", "DIR", "folder of images, taken as a video; may be repeated", _VIDEOS),
    Flag("-f", "FILE", "image; may be repeated", (_I,)),
    Flag("-fdir", "DIR", "folder of images; ignored beside -f", (_I,)),
    Flag("-bboxdir", "DIR", "take the faces of -fdir from <name>.txt: x0 y0 x1 y1 a line", (_I,)),
    Flag("-device", "N", "camera; wins over -f and -fdir", (_L,)),
    Flag("-cam_width", "PX", "width that the camera is asked for (default: 640)", (_L,)),
    Flag("-cam_height", "PX", "height that the camera is asked for (default: 480)", (_L,)),
    Flag("-f", "FILE", "video, played as if it were a camera", (_L,)),
    Flag("-fdir", "DIR", "folder of images, played as if it were a camera", (_L,)),
    Flag("-root", "DIR", "put before -f, -fdir and -bboxdir"),
    Flag("-inroot", "DIR", "the same"),
    Flag("-out_dir", "DIR", "output folder (default: processed)", _WRITING),
    Flag("-of", "PATH", "output name, below -out_dir; the first is the first input's", _WRITING),
    *(Flag(f"-{n}", "PX", f"camera: {n}; by default a guess") for n in ("fx", "fy", "cx", "cy")),
    *(Flag(name, "", f"write {what}", _WRITING) for name, what in (_COLUMNS | _FILES).items()),
    Flag("-nobadaligned", "", "write no aligned face where the landmarks failed", _WRITING),
    Flag("-simsize", "N", "width and height of the aligned faces, px (default: 112)", _WRITING),
    Flag("-simscale", "S", "their scale, px per mm (default: 0.7, or N * 0.7 / 112)", _WRITING),
    Flag("-nomask", "", "show what is around the aligned faces", _WRITING),
    Flag("-g", "", "grey aligned faces", (_E,)),
    Flag("-au_static", "", "action units without adapting to the person", (_E,)),
    Flag("-mloc", "FILE", f"landmark model, by its file's name: {', '.join(MODELS)}"),
    Flag("-wild", "", "larger search, for difficult images"),
    Flag("-multi_view", "0|1", "start images from several head orientations (default: 0)"),
    Flag("-validate_detections", "0|1", "reject what is no face (default: 1)"),
    Flag("-sigma", "S", "width of the mean-shift kernel (default: 1.5)"),
    Flag("-reg", "R", "regularisation (default: 25)"),
    Flag("-w_reg", "W", "weight of the landmarks' reliability (default: 0)"),
    Flag("-n_iter", "N", "iterations (default: 5)"),
    Flag("-q", "", "say nothing of inputs that succeed"),
)

_NO_WINDOWS = "no window is shown: -tracked writes what it would show"
_FORMATS = "aligned faces are BMP files"
_CAMERA = (
    "cameras are shown by `jaxface FaceLandmarkVid`; `jaxface live --csv FILE` also writes what it "
    "shows"
)
_DRAWN = "videos are MPEG-4, pictures JPEG: `jaxface analyze --tracked` writes H.264 and PNG"
# What is not there: whether the flag has a value, and what to do instead.
_LACKING = {
    **{name: (False, _NO_WINDOWS) for name in ("-verbose", "-vis-track", "-vis-align")},
    **{name: (False, _NO_WINDOWS) for name in ("-vis-hog", "-vis-aus")},
    "-fdloc": (True, "the Haar detector is not part of jaxface: faces are found by MTCNN"),
    "-oc": (True, _DRAWN),
    "-format_aligned": (True, _FORMATS),
    "-format_vis_image": (True, _DRAWN),
    **{name: (True, _CAMERA) for name in ("-device", "-cam_width", "-cam_height")},
}


class FlagError(ValueError):
    """A flag that is not OpenFace's, or a value that is none; the message names it."""


class Given(NamedTuple):
    """One input as it was named."""

    path: str  # behind -root
    folder: bool  # named by -fdir


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What a command line asks for. Lengths in px."""

    command: Command
    inputs: tuple[Given, ...]
    names: tuple[str, ...] = ()  # each -of
    out_dir: str | None = None
    boxes: str | None = None  # folder
    camera: dict[str, float] = dataclasses.field(default_factory=dict)  # fx fy cx cy
    groups: frozenset[str]  # of the output, by flag
    bad_aligned: bool = True
    size: int = 112
    scale: float = 0.7
    mask: bool = True
    gray: bool = False
    static: bool = False
    model: str | None = None  # None: OpenFace's own choice
    # Of the fit, in the order given: -wild sets several at once.
    settings: tuple[tuple[str, float], ...] = ()
    quiet: bool = False
    device: int | None = None  # number of a camera; None: none
    camera_size: tuple[int, int] = (480, 640)  # height and width that it is asked for
    notes: tuple[str, ...] = ()  # flags without effect, and what to do

    def columns(self) -> tuple[bool, ...]:
        """Which groups of columns are wanted, in the order of `output.ColumnChoice`."""
        return tuple(name in self.groups for name in _COLUMNS)


def parse_flags(command: Command, tokens: Sequence[str]) -> Request:
    """Reads the arguments of one of OpenFace's programs.

    Args:
        command: which.
        tokens: the arguments.
    Raises:
        FlagError: a flag is unknown, has no value or a wrong one, or there is no input.
    Reference:
        Specification 03, F. Differs: OpenFace ignores unknown flags, and reads past the end of
        the list where a value is missing.
    """
    pairs, lacking = _split(command, tokens)
    last = dict(pairs)  # where a flag is repeated that cannot be, the last counts
    root = last.get("-inroot", last.get("-root", ""))
    inputs = tuple(
        Given(_below(root, value), flag == "-fdir")
        for flag, value in pairs
        if flag in ("-f", "-fdir")
    )
    if command == _I:  # files, or else the first folder
        inputs = tuple(i for i in inputs if not i.folder) or inputs[:1]
    boxes = last.get("-bboxdir")
    if command == _L:
        _check_shown(inputs, last)
    else:
        _check_inputs(inputs, boxes)
    size = int(last.get("-simsize", "112"))
    groups = frozenset(name for name, _ in (*pairs, *lacking) if name in _GROUPS)
    notes = [f"{name}: {what}" for name, what in dict(lacking).items()]
    return Request(
        command=command,
        inputs=inputs,
        names=tuple(value for flag, value in pairs if flag == "-of"),
        out_dir=last.get("-out_dir"),
        boxes=None if boxes is None else _below(root, boxes),
        camera=_camera(last),
        groups=groups or frozenset(_GROUPS),
        bad_aligned="-nobadaligned" not in last,
        size=size,
        scale=float(last["-simscale"]) if "-simscale" in last else size * 0.7 / 112,
        mask="-nomask" not in last,
        gray="-g" in last,
        static="-au_static" in last,
        model=_model(last.get("-mloc")),
        settings=tuple((flag[1:], float(value or 1)) for flag, value in pairs if flag in _SETTINGS),
        quiet="-q" in last,
        device=int(last["-device"]) if "-device" in last else None,
        camera_size=(int(last.get("-cam_height", "480")), int(last.get("-cam_width", "640"))),
        notes=tuple(notes),
    )


def _split(
    command: Command, tokens: Sequence[str]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Flags with their checked values, in order; and flags without effect, with the reason."""
    used = {flag.name: flag for flag in FLAGS if command in flag.commands}
    others = {flag.name: flag for flag in FLAGS if flag.name not in _LACKING} | used
    known = used.keys() | others.keys() | _LACKING.keys()
    pairs: list[tuple[str, str]] = []
    lacking: list[tuple[str, str]] = []
    rest = iter(enumerate(tokens, 1))
    for after, name in rest:
        if name not in known:
            what = "a value that no flag takes" if not name.startswith("-") else "an unknown flag"
            hint = f"`jaxface {command} --help` lists them"
            raise FlagError(f"{name}: {what}; expected one of OpenFace's flags: {hint}")
        valued = bool(others[name].metavar) if name in others else _LACKING[name][0]
        value = _value(name, tokens[after : after + 1], known, rest) if valued else ""
        if name not in others:
            lacking.append((name, _why_lacking(name, command)))
        elif name not in used:
            lacking.append((name, _elsewhere(others[name], command)))
        else:
            _check(name, value)
            pairs.append((name, value))
    return pairs, lacking


def _why_lacking(name: str, command: Command) -> str:
    """Why a flag of OpenFace's does nothing, and what to do instead."""
    why = _LACKING[name][1]
    return (
        "all that is found is shown in one window" if (command, why) == (_L, _NO_WINDOWS) else why
    )


def _elsewhere(flag: Flag, command: Command) -> str:
    """Why a flag of OpenFace's does nothing in this program of it."""
    if flag.name == "-au_static" and command != _L:
        return f"nothing to do, {command} never adapts action units to a person"
    return f"no effect in {command}, only in {' and '.join(flag.commands)}"


def _value(
    name: str, found: Sequence[str], known: set[str], rest: Iterator[tuple[int, str]]
) -> str:
    """Takes the value behind a flag off the list."""
    if not found or found[0] in known:
        got = "the end of the line" if not found else found[0]
        raise FlagError(f"{name}: expected a value behind it, got {got}")
    next(rest)
    return found[0]


_CHECKS = {
    **{f"-{axis}": ("a positive number of px", float, 0.0, False) for axis in ("fx", "fy")},
    **{f"-{axis}": ("a number of px", float, -math.inf, False) for axis in ("cx", "cy")},
    "-device": ("a whole number of at least 0", int, 0, True),
    **{f"-cam_{side}": ("a whole number of px", int, 1, True) for side in ("width", "height")},
    "-simsize": ("a whole number of px from 16", int, 16, True),
    "-simscale": ("a positive number", float, 0.0, False),
    "-multi_view": ("0 or 1", int, 0, True),
    "-validate_detections": ("0 or 1", int, 0, True),
    "-sigma": ("a positive number", float, 0.0, False),
    "-reg": ("a number of at least 0", float, 0.0, True),
    "-w_reg": ("a number of at least 0", float, 0.0, True),
    "-n_iter": ("a whole number of at least 1", int, 1, True),
}


def _check(name: str, value: str) -> None:
    """Refuses a value that a flag cannot have."""
    if name not in _CHECKS:
        if value == "" and any(flag.name == name and flag.metavar for flag in FLAGS):
            raise FlagError(f"{name}: expected a name behind it, got an empty one")
        return
    expected, kind, least, included = _CHECKS[name]
    try:
        number = kind(value)
    except ValueError:
        number = math.nan
    enough = number >= least if included else number > least
    if not (enough and math.isfinite(number)) or (expected == "0 or 1" and number > 1):
        raise FlagError(f"{name}: expected {expected}, got {value!r}")


def _check_inputs(inputs: tuple[Given, ...], boxes: str | None) -> None:
    if not inputs:
        raise FlagError("no input: give -f FILE or -fdir DIR")
    if boxes is not None and not inputs[0].folder:
        raise FlagError(
            "-bboxdir: expected -fdir with it, got -f, for which OpenFace finds no boxes and so "
            "no faces: leave out -bboxdir, or put the images into a folder"
        )


def _check_shown(inputs: tuple[Given, ...], last: dict[str, str]) -> None:
    if "-device" not in last and not inputs:
        raise FlagError("no input: give -device N, -f FILE or -fdir DIR")
    if "-device" not in last and len(inputs) > 1:
        raise FlagError(f"-f: expected one input, which is shown, got {len(inputs)}")


def _camera(last: dict[str, str]) -> dict[str, float]:
    """The intrinsics that were given. Differs: half a pair is an error."""
    for first, second in (("-fx", "-fy"), ("-cx", "-cy")):
        if (first in last) != (second in last):
            raise FlagError(f"{first}, {second}: expected both or neither, got one")
    return {n: float(last[f"-{n}"]) for n in ("fx", "fy", "cx", "cy") if f"-{n}" in last}


def _model(path: str | None) -> str | None:
    """Name that the model of a main file is imported under."""
    if path is None:
        return None
    stem = path.replace("\\", "/").rpartition("/")[2].removesuffix(".txt")
    if stem not in MODELS:
        raise FlagError(f"-mloc: expected a file named {', '.join(MODELS)} (.txt), got {path}")
    return MODELS[stem]


def _below(root: str, path: str) -> str:
    """A path behind -root, which OpenFace puts before it as it is."""
    if not root:
        return path
    return root + path if root[-1] in "/\\" or path[:1] in ("/", "\\") else f"{root}/{path}"
