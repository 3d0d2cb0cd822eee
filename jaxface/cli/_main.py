"""Entry point of the command line."""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ._formats import FORMATS
from ._openface import command_of, run_openface
from ._parser import build_parser, check_arguments, check_lens, find_command
from ._settings_file import expand_settings_files
from ._warnings import warnings_to

if TYPE_CHECKING:  # NumPy and OpenCV would slow down --help
    from ._jobs import Job
    from ._run import Options, Process
    from ._startup import Startup

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command `jaxface`.

    Args:
        argv: arguments without the program name; None takes the process's own.
    Returns:
        Exit status: 0 if all inputs were processed, 1 if not, 2 if inputs clash, 130 if
        interrupted.
    Raises:
        SystemExit: usage errors (2), --help and --version (0).
    """
    _open_streams()
    given = list(sys.argv[1:] if argv is None else argv)
    program = command_of(given)
    try:
        if program is not None:
            return run_openface(program, given[1:])
        parser = build_parser()
        expanded, listed = expand_settings_files(parser, find_command(parser, "analyze"), given)
        arguments = parser.parse_args(expanded)
        if arguments.command == "models":
            return _models(arguments)
        if arguments.command == "train":
            return _train(arguments)
        if arguments.command == "bench":
            return _bench(arguments)
        if arguments.command == "validate":
            return _validate(parser, arguments)
        if arguments.command == "report":
            return _report(parser, arguments)
        if arguments.command == "live":
            return _live(parser, arguments)
        arguments.inputs = [*listed, *arguments.inputs]
        check_arguments(parser, arguments)
        return _analyze(arguments)
    except KeyboardInterrupt:
        print("jaxface: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, less) has left; Python would complain once more on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _open_streams() -> None:
    """Opens what the caller has closed: else a result would become standard output, or error."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the least number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))


def _models(arguments: argparse.Namespace) -> int:
    from ._models import run_models
    from ._report import Reporter

    try:
        return run_models(arguments)
    except BrokenPipeError:
        raise
    except Exception as error:
        Reporter(debug=arguments.debug).fail(error)
        return 1


def _train(arguments: argparse.Namespace) -> int:
    from ._report import Reporter
    from ._train import run_train

    try:
        return run_train(arguments)
    except BrokenPipeError:
        raise
    except Exception as error:
        Reporter(debug=arguments.debug).fail(error)
        return 1


def _bench(arguments: argparse.Namespace) -> int:
    from ._report import Reporter

    reporter = Reporter(debug=arguments.debug)
    with warnings_to(reporter.warn):
        try:
            from ._cache import enable_compile_cache
            from ._memory import keep_small

            keep_small()  # before JAX starts its threads
            if not arguments.no_compile_cache:
                enable_compile_cache()
            from ._bench import run_bench

            return run_bench(arguments)
        except BrokenPipeError:
            raise
        except Exception as error:
            reporter.fail(error)
            return 1


def _validate(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    from ._report import Reporter
    from ._validate import UsageError, run_validate

    try:
        return run_validate(arguments)
    except UsageError as error:
        find_command(parser, "validate").error(str(error))
    except BrokenPipeError:
        raise
    except Exception as error:
        Reporter(debug=arguments.debug).fail(error)
        return 1


def _report(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    from ._report import Reporter

    several = len(arguments.results) > 1 or os.path.isdir(arguments.results[0])
    if arguments.clip is not None and (several or arguments.cohorts is not None):
        command = find_command(parser, "report")
        command.error("--clip goes with a single RESULT, that is no folder, without --cohorts")
    reporter = Reporter(debug=arguments.debug)
    with warnings_to(reporter.warn):
        try:
            from ._report_page import run_report

            return run_report(arguments)
        except BrokenPipeError:
            raise
        except Exception as error:
            reporter.fail(error)
            return 1


def _live(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    check_lens(find_command(parser, "live"), arguments)
    from ._startup import Startup

    purpose = "live", arguments.model, arguments.static, arguments.wild, arguments.size
    startup = Startup(purpose, cache=not arguments.no_compile_cache)
    from ._live import LiveOptions, run_live
    from ._report import Reporter

    reporter = Reporter(debug=arguments.debug)
    with warnings_to(reporter.warn):
        try:
            startup.finish()
            given = Path(arguments.source)
            camera = arguments.source.isdecimal() and not given.exists()
            options = LiveOptions(
                source=int(arguments.source) if camera else given,
                serve=arguments.serve,
                loop=arguments.loop,
                size=arguments.size,
                csv=None if arguments.csv is None else Path(arguments.csv),
                model=arguments.model,
                static=arguments.static,
                wild=arguments.wild,
                lens={name: getattr(arguments, name) for name in ("fx", "fy", "cx", "cy")},
            )
            return run_live(options, reporter, remember=startup.remember)
        except BrokenPipeError:
            raise
        except Exception as error:
            reporter.fail(error)
            return 1


def _analyze(arguments: argparse.Namespace) -> int:
    # Programs from the cache have lost the names that a profile shows.
    cache = not (arguments.no_compile_cache or arguments.profile)
    startup = _start(arguments, cache=cache)
    from ._batch import How, run_jobs
    from ._jobs import NameClashError, plan_jobs
    from ._report import Reporter
    from ._run import check_output_folder

    options = _options(arguments)
    reporter = Reporter(debug=arguments.debug)
    with warnings_to(reporter.warn):
        try:
            jobs = plan_jobs(arguments.inputs, arguments.mode, recursive=arguments.recursive)
            check_output_folder(options.out)
            if arguments.profile is not None:
                check_output_folder(Path(arguments.profile))
            process = _process(jobs, options)
        except NameClashError as error:
            reporter.fail(error)
            return 2
        except Exception as error:
            reporter.fail(error)
            return 1
        finally:
            startup.finish()
        with _profiled(arguments.profile if process else None):
            how = How(arguments.resume, arguments.jobs, startup.remember)
            run_jobs(jobs, process, options, reporter, how)
        reporter.sum_up(jobs, arguments.json)
        return 1 if reporter.failures else 0


def _start(arguments: argparse.Namespace, *, cache: bool) -> "Startup":
    """Reads the programs ahead that the last call of this kind used."""
    from ._startup import Startup

    kind = None
    with contextlib.suppress(OSError):  # of a name that no file can have
        first = Path(arguments.inputs[0])
        kind = first.suffix.lower() if first.is_file() else "folder" if first.is_dir() else None
    names = (
        "model",
        "mode",
        "faces",
        "static",
        "at_once",
        "lanes",
        "wild",
        "multi_view",
        "hog",
        "aligned",
    )
    several = len(arguments.inputs) > 1
    purpose = ("analyze", kind, several, *(getattr(arguments, name) for name in names))
    return Startup(purpose if cache and kind is not None else None, cache=cache)


def _process(jobs: "list[Job]", options: "Options") -> "Process | None":
    """Loads the analysis, unless no input can be read anyway."""
    if all(job.problem is not None for job in jobs):
        return None
    from ._engine import load_process

    return load_process(options)


def _profiled(folder: str | None) -> AbstractContextManager[object]:
    """Writes a trace of what happens inside to a folder, if there is one."""
    if folder is None:
        return nullcontext()
    import jax

    return jax.profiler.trace(folder)


def _options(arguments: argparse.Namespace) -> "Options":
    from ._run import Options

    return Options(
        out=Path(arguments.out),
        model=arguments.model,
        faces=arguments.faces,
        static=arguments.static,
        at_once=arguments.at_once,
        lanes=arguments.lanes,
        wild=arguments.wild,
        multi_view=None if arguments.multi_view is None else bool(arguments.multi_view),
        fx=arguments.fx,
        fy=arguments.fy,
        cx=arguments.cx,
        cy=arguments.cy,
        formats=tuple(name for name in FORMATS if name in (arguments.format or ("csv",))),
        hog=arguments.hog,
        aligned=arguments.aligned,
        overlay=arguments.overlay,
        tracked="browser" if arguments.tracked else None,
        fps=arguments.fps,
        clock=arguments.clock,
        details=not arguments.no_details,
    )
