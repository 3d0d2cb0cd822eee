"""OpenFace's programs, by their own command lines: the same files from the imported models."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ._openface_flags import COMMANDS, MODELS, Command, FlagError, Request, parse_flags
from ._openface_inputs import Planned, plan_outputs
from ._warnings import warnings_to

if TYPE_CHECKING:  # JAX, which waits until the programs of the last run are being read
    from ..fit import FitConfig
    from ._report import Reporter
    from ._run import Options, Process
    from ._startup import Startup

_WIKI = "https://github.com/TadasBaltrusaitis/OpenFace/wiki/Command-line-arguments"


def command_of(arguments: Sequence[str]) -> Command | None:
    """The program of OpenFace's that a command line names; none where it only asks for help."""
    asks = any(token in ("-h", "--help") for token in arguments[1:2])
    return next((c for c in COMMANDS if arguments[:1] == [c] and not asks), None)


def run_openface(
    command: Command, tokens: Sequence[str], *, load: "Callable[[Options], Process] | None" = None
) -> int:
    """Runs one of OpenFace's programs.

    Args:
        command: which.
        tokens: its arguments.
        load: prepares what analyses the frames; by default loads the model.
    Returns:
        Exit status: 0 if all inputs were processed, 1 if not, 2 for flags that are wrong.
    """
    if not tokens:  # as OpenFace
        print(f"`jaxface {command} --help` lists the flags, which are OpenFace's: {_WIKI}")
        return 0
    try:
        request = parse_flags(command, tokens)
    except FlagError as error:
        print(f"jaxface {command}: error: {error}", file=sys.stderr)
        return 2
    startup = _start(request)
    from ._report import Reporter

    reporter = Reporter(quiet=request.quiet)
    for note in request.notes:
        reporter.warn(note)
    try:
        if command == "FaceLandmarkVid":
            return _show(request, reporter, startup)
        return _run(request, reporter, startup, load)
    except BrokenPipeError:
        raise
    except Exception as error:
        reporter.fail(error)
        return 1


def _start(request: Request) -> "Startup":
    """Reads the programs ahead that the last call of this kind used."""
    from ._startup import Startup

    kind = {Path(given.path).suffix.lower() for given in request.inputs}
    files = sorted(request.groups & {"-hogalign", "-simalign"})
    pictures = request.size, request.scale, request.mask
    flags = (request.model, request.settings, request.static, files, pictures, request.boxes)
    flags = (*flags, request.device is not None, request.camera_size)
    return Startup((request.command, sorted(kind), *flags), cache=True)


def _run(
    request: Request,
    reporter: "Reporter",
    startup: "Startup",
    load: "Callable[[Options], Process] | None",
) -> int:
    from ._jobs import NameClashError

    with warnings_to(reporter.warn):
        try:
            model = choose_model(request.model)
            if not request.quiet or model.note:
                print(f"jaxface: model {model.name}{model.note}", file=sys.stderr)
            planned = plan_outputs(request)
            options = _options(request, model.name)
            process = None
            if not all(job.problem is not None for job, _ in planned):
                process = (load or _load)(options)
        except (FlagError, NameClashError) as error:
            reporter.fail(error)
            return 2
        finally:
            startup.finish()
        _process(request, planned, process, options, reporter, startup)
    return 1 if reporter.failures else 0


def _show(request: Request, reporter: "Reporter", startup: "Startup") -> int:
    """FaceLandmarkVid, whose only result is what it shows."""
    from ._live import LiveOptions, run_live

    with warnings_to(reporter.warn):
        try:
            model = choose_model(request.model)
        finally:
            startup.finish()
        if not request.quiet or model.note:
            print(f"jaxface: model {model.name}{model.note}", file=sys.stderr)
        options = LiveOptions(
            source=request.device if request.device is not None else Path(request.inputs[0].path),
            size=request.camera_size,
            model=model.name,
            fit=fit_settings(request.settings, model.name),
            lens=request.camera,
        )
        return run_live(options, reporter, remember=startup.remember)


def _process(
    request: Request,
    planned: list[Planned],
    process: "Process | None",
    options: "Options",
    reporter: "Reporter",
    startup: "Startup",
) -> None:
    """One input after the other, as OpenFace: none depends on which others there are."""
    from ._batch import How, run_jobs
    from ._run import check_output_folder

    with _silence(request.quiet):
        for i, (job, folder) in enumerate(planned):
            remember: Callable[[], None] = startup.remember if i == 0 else _nothing
            try:
                check_output_folder(folder)
            except Exception as error:
                reporter.fail(error, job.given)
                continue
            settings = dataclasses.replace(options, out=folder)
            run_jobs([job], process, settings, reporter, How(False, 1, remember, records=False))
        reporter.sum_up([job for job, _ in planned], None)


def _nothing() -> None:
    """What is remembered after the first input."""


@contextlib.contextmanager
def _silence(quiet: bool) -> Iterator[None]:
    """Drops what is printed about inputs that succeed."""
    if not quiet:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _load(options: "Options") -> "Process":
    from ._engine import load_process

    return load_process(options)


# What is computed


@dataclasses.dataclass(frozen=True)
class Choice:
    """The model that runs."""

    name: str
    note: str = ""  # why it is not the one that OpenFace would run


def choose_model(wanted: str | None) -> Choice:
    """Chooses among the imported models.

    Args:
        wanted: by -mloc; None takes OpenFace's default, CE-CLM, or else what there is.
    Raises:
        ModelFileError: it is not imported, or none is.
    """
    from ..models import ModelFileError, installed_models

    there = {model.name for model in installed_models()}
    names = tuple(MODELS.values()) if wanted is None else (wanted,)
    found = next((name for name in names if name in there), None)
    if found is None:
        what = f"the model {wanted} is" if wanted else "OpenFace's models are"
        # CE-CLM's experts are a download of their own, which OpenFace's scripts put beside others.
        raise ModelFileError(
            f"{what} not imported: run `jaxface models import DIR`, DIR being the folder of an "
            "OpenFace copy (--cen DIR names the folder of CE-CLM's cen_patches_*.dat); "
            "`jaxface analyze` runs jaxface's own model"
        )
    if found != names[0]:
        return Choice(found, f", as OpenFace's default, {names[0]}, is not imported")
    return Choice(found)


def fit_settings(settings: Sequence[tuple[str, float]], model: str) -> "FitConfig":
    """The settings that flags ask for, from left to right; those of CE-CLM are scaled at the end.

    Args:
        settings: names without the dash, and values.
        model: name of the model.
    Reference:
        Specification 01, B.2.
    """
    from ..fit import OPENFACE_FIT, OPENFACE_WILD_FIT, ceclm_settings

    config = OPENFACE_FIT
    for name, value in settings:
        if name == "wild":
            config = dataclasses.replace(OPENFACE_WILD_FIT, validate=config.validate)
        elif name == "multi_view":
            config = dataclasses.replace(config, multi_view=bool(value))
        elif name == "validate_detections":
            config = dataclasses.replace(config, validate=bool(value))
        elif name == "sigma":
            config = dataclasses.replace(config, sigma=value)
        elif name == "reg":
            config = dataclasses.replace(config, regularisation=value)
        elif name == "w_reg":
            config = dataclasses.replace(config, weight_factor=value)
        else:
            config = dataclasses.replace(config, iterations=int(value))
    return ceclm_settings(config) if model == "openface-ceclm" else config


def _options(request: Request, model: str) -> "Options":
    """Options of all inputs."""
    from ..analyze import AlignConfig
    from ..output import ColumnChoice
    from ._aligned import AlignedFiles
    from ._run import Options

    usual = AlignConfig()
    picture = AlignConfig(size=request.size, scale=request.scale, mask=request.mask)
    files = AlignedFiles(
        config=None if picture == usual else picture,
        gray=request.gray,
        failed=request.bad_aligned,
    )
    return Options(
        out=Path(),  # each input has its own
        model=model,
        faces="one" if request.command == "FeatureExtraction" else "all",
        static=request.static,
        lanes=1,
        fit=fit_settings(request.settings, model),
        hog="-hogalign" in request.groups,
        aligned="-simalign" in request.groups,
        aligned_files=files,
        columns=ColumnChoice(*request.columns()),
        tracked="openface" if "-tracked" in request.groups else None,
        fx=request.camera.get("fx"),
        fy=request.camera.get("fy"),
        cx=request.camera.get("cx"),
        cy=request.camera.get("cy"),
    )
