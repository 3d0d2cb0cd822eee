"""`jaxface validate`: results against those of a reference, within limits."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..output import write_file
from ..output.validation import (
    Miss,
    Study,
    check_bound,
    check_limits,
    make_study,
    pair_files,
    read_cohorts,
    read_limits,
    report,
    run_study,
    study_values,
    to_html,
    to_markdown,
)
from ._jobs import Job, plan_jobs
from ._report import print_line
from ._validate_options import LIMIT_NAMES
from ._warnings import warnings_to


class UsageError(ValueError):
    """Arguments that make no sense; the exit status is 2."""


def run_validate(arguments: argparse.Namespace) -> int:
    """Runs the command.

    Args:
        arguments: of the command "validate".
    Returns:
        Exit status: 0 if everything was compared and all limits hold, 1 if not.
    Raises:
        UsageError: paths do not make pairs, or a file of limits or cohorts cannot be used.
        OutputError: a report cannot be written.
    """
    try:
        bounds = _bounds(arguments)
        cohorts = None if arguments.cohorts is None else read_cohorts(arguments.cohorts)
        if arguments.clips is None and arguments.out is not None:
            raise ValueError("--out keeps the results of --clips, which are not given")
        jobs = None if arguments.clips is None else _plan(arguments)
        pairs, problems = pair_files(arguments.paths) if jobs is None else ([], [])
    except ValueError as error:  # an InputError, too
        raise UsageError(str(error)) from error
    if jobs is not None:
        study = _analyze_clips(arguments, jobs, cohorts)
    else:
        study = run_study(pairs, problems, cohorts=cohorts, positions=arguments.positions)
    misses = check_limits(study, bounds)
    _write(arguments, study, bounds, misses)
    for message in (*study.problems, *misses):
        print_line(f"jaxface: error: {message}", sys.stderr)
    return 1 if study.problems or misses else 0


def _plan(arguments: argparse.Namespace) -> list[Job]:
    """The clips that are analysed in two ways."""
    if len(arguments.paths) != 2:
        got = len(arguments.paths)
        raise ValueError(f"--clips: expected two configurations, A and B, before it, got {got}")
    return plan_jobs(arguments.clips, "video")


def _analyze_clips(
    arguments: argparse.Namespace, jobs: Sequence[Job], cohorts: Mapping[str, str] | None
) -> Study:
    """The study of clips that are analysed in two ways."""
    from ._cache import enable_compile_cache
    from ._memory import keep_small

    keep_small()  # before JAX starts its threads
    enable_compile_cache()
    from ._report import Reporter
    from ._validate_run import analyze_both, read_configuration

    reporter = Reporter(debug=arguments.debug)
    configurations = [read_configuration(given) for given in arguments.paths]
    with warnings_to(reporter.warn):
        found = analyze_both(
            configurations,
            jobs,
            positions=arguments.positions,
            out=None if arguments.out is None else Path(arguments.out),
            reporter=reporter,
        )
    if cohorts is not None:  # clips may be named as their files
        names = {job.path.name: job.name for job in jobs}
        cohorts = {names.get(name, name): cohort for name, cohort in cohorts.items()}
    return make_study(
        found.clips,
        found.problems,
        cohorts=cohorts,
        positions=arguments.positions,
        measured=found.said,
    )


def _bounds(arguments: argparse.Namespace) -> dict[str, float]:
    """Limits by name, in the order of the options."""
    wanted: dict[str, Any] = {}
    if arguments.limits is not None:
        wanted = read_limits(arguments.limits)
        for name, bound in wanted.items():
            try:
                check_bound(name, bound)
            except ValueError as error:
                raise InputError(
                    arguments.limits, "limits", str(error), "change the line"
                ) from error
    for name in LIMIT_NAMES:
        bound = getattr(arguments, name.replace("-", "_"))
        if bound is not None:
            wanted[name] = bound
    return {name: check_bound(name, wanted[name]) for name in LIMIT_NAMES if name in wanted}


def _write(
    arguments: argparse.Namespace, study: Study, bounds: dict[str, float], misses: Sequence[Miss]
) -> None:
    """Writes the reports that are wanted."""
    sections = report(study, bounds, misses)
    markdown = to_markdown(sections)
    if arguments.markdown is None:
        print_line(markdown.rstrip("\n"), sys.stdout)
    else:
        write_file(Path(arguments.markdown), markdown.encode())
    if arguments.html is not None:
        write_file(Path(arguments.html), to_html(sections).encode())
    if arguments.json is not None:
        values = study_values(study, bounds, misses)
        text = json.dumps(values, indent=1, allow_nan=False)
        write_file(Path(arguments.json), text.encode() + b"\n")
