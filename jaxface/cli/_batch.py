"""All inputs of a command: one after the other, or clips together in lanes."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from ._jobs import Job
from ._record import (
    Described,
    Times,
    describe_run,
    hash_input,
    is_finished,
    read_record,
    write_record,
)
from ._report import JobReport, Reporter
from ._run import Options, Outcome, Process, run_job

_NOTHING_KNOWN = Described(model={}, config={}, device="", lanes=1)  # of analyses of one's own


class _StoppedError(Exception):
    """The user has interrupted the command, or nobody reads its output any more."""


class How(NamedTuple):
    """How the inputs of a command are gone through."""

    resume: bool  # skip what is finished
    jobs: int  # stills at a time
    remember: Callable[[], None]  # called once the programs of inputs like the first are loaded
    records: bool = True  # write <name>.run.json beside each result


class _Command(NamedTuple):
    """What all inputs share."""

    process: Process | None
    options: Options
    reporter: Reporter
    described: Described
    stopped: threading.Event
    records: bool


def run_jobs(
    jobs: Sequence[Job],
    process: Process | None,
    options: Options,
    reporter: Reporter,
    how: How,
) -> None:
    """Analyses all inputs. Whatever goes wrong with one concerns it alone.

    Args:
        jobs: the inputs.
        process: analyses frames; None where no input can be read anyway.
        options: what the user asked for.
        reporter: prints what becomes of each.
        how: they are gone through.
    """
    if process is None:
        _run_all(jobs, process, options, reporter, how)
        return
    from ..run import watch_compiling  # loads JAX

    with watch_compiling(reporter.say):
        _run_all(jobs, process, options, reporter, how)


def _run_all(
    jobs: Sequence[Job],
    process: Process | None,
    options: Options,
    reporter: Reporter,
    how: How,
) -> None:
    clips = [job for job in jobs if _is_one_face(job, options)]
    described = _describe(process, clips, options, how.resume)
    stopped = threading.Event()
    command = _Command(process, options, reporter, described, stopped, how.records)
    if how.resume:
        finished = {id(job) for job in jobs if _was_finished(job, command)}
        for job in jobs:
            if id(job) in finished:
                reporter.skip(job)
        jobs = [job for job in jobs if id(job) not in finished]
        clips = [job for job in clips if id(job) not in finished]
    together = clips if described.lanes > 1 else []
    _run_together(together, command)
    in_lanes = {id(job) for job in together}
    alone = [job for job in jobs if id(job) not in in_lanes]
    stills = [job for job in alone if job.mode == "image"] if how.jobs > 1 else []
    _run_side_by_side(stills, command, how.jobs)
    if together or stills:
        how.remember()
    beside = {id(job) for job in stills}
    rest = [job for job in alone if id(job) not in beside]
    for job in rest:
        _run(job, command)
        if job is jobs[0]:  # what others need beyond it, other calls may not
            how.remember()


def _is_one_face(job: Job, options: Options) -> bool:
    return job.problem is None and job.mode == "video" and options.faces != "all"


def _describe(
    process: Process | None, clips: Sequence[Job], options: Options, resume: bool
) -> Described:
    """What analyses, and in how many lanes: as before in a batch that is gone on with."""
    if process is None:
        return _NOTHING_KNOWN
    from ._engine import Engine  # loads JAX

    if not isinstance(process, Engine):
        return _NOTHING_KNOWN
    records = (read_record(job, options) for job in clips if resume)
    known = {r.get("settings", {}).get("lanes") for r in records if r is not None}
    same = next(iter(known)) if len(known) == 1 and options.lanes is None else None
    lanes = same if isinstance(same, int) and same > 0 else process.count_lanes(len(clips))
    return process.describe(lanes)


def _was_finished(job: Job, command: _Command) -> bool:
    return job.problem is None and is_finished(job, command.options, command.described)


def _run_together(jobs: Sequence[Job], command: _Command) -> None:
    """Clips of one face in lanes, each in a thread of its own."""
    if not jobs:
        return
    from ._engine import Engine

    assert isinstance(command.process, Engine)  # no other says how many lanes it takes
    lanes = command.described.lanes
    with command.process.share(lanes) as tracker:
        _run_in_threads(jobs, command, lanes, tracker.seat)


def _run_side_by_side(jobs: Sequence[Job], command: _Command, count: int) -> None:
    if jobs:
        _run_in_threads(jobs, command, count, nullcontext)


def _run_in_threads(
    jobs: Iterable[Job],
    command: _Command,
    count: int,
    seat: Callable[[], AbstractContextManager[None]],
) -> None:
    with ThreadPoolExecutor(count) as pool:

        def run(job: Job) -> None:
            with seat():
                _run(job, command)

        running = [pool.submit(run, job) for job in jobs]
        try:
            for job in running:
                job.result()
        except BaseException:  # KeyboardInterrupt: the threads do not get it
            command.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


def _run(job: Job, command: _Command) -> None:
    """Runs one job."""
    report, reporter = JobReport(job), command.reporter

    def advance() -> None:
        report.advance()
        if command.stopped.is_set():
            raise _StoppedError

    try:
        if command.process is None or job.problem is not None:
            raise job.problem or RuntimeError("no analysis was loaded")
        digest = hash_input(job) if command.records else ""
        record = describe_run(job, command.options, command.described, digest)
        calls = report.frames, advance
        outcome = run_job(job, command.process, command.options, *calls, record)
        _keep(job, command, outcome, report, digest)
    except BrokenPipeError:
        raise
    except _StoppedError:
        pass  # nothing is left of the input's files, as after an interruption
    except Exception as error:
        report.close()
        reporter.fail(error, job.given)
        reporter.note(job, "failed", {"error": str(error)})
    finally:
        report.close()


def _keep(job: Job, command: _Command, outcome: Outcome, report: JobReport, digest: str) -> None:
    """Writes the record of a finished input, if it is to have one, and reports it."""
    took = report.stop()
    if command.records:
        times = Times(report.began, took.seconds, took.compiling)
        write_record(job, command.options, command.described, outcome, digest=digest, times=times)
    report.finish(outcome, took)
    found = {
        "csv": next((str(path) for path in outcome.files if path.suffix == ".csv"), None),
        "files": [str(path) for path in outcome.files],
        "frames": outcome.frames,
        "rows": outcome.rows,
        "faces": outcome.faces,
        "seconds": round(took.seconds, 3),
        "compile_seconds": round(took.compiling, 3),
        "notes": list(outcome.notes),
    }
    command.reporter.note(job, "incomplete" if outcome.lost else "analysed", found)
    if outcome.lost:
        command.reporter.fall_short()
