"""All inputs of a command: one after the other, or clips together in lanes."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ._jobs import Job
from ._report import JobReport, Reporter
from ._run import Options, Process, run_job


class _StoppedError(Exception):
    """The user has interrupted the command, or nobody reads its output any more."""


def run_jobs(
    jobs: Sequence[Job],
    process: Process | None,
    options: Options,
    reporter: Reporter,
    remember: Callable[[], None],
) -> None:
    """Analyses all inputs. Whatever goes wrong with one concerns it alone.

    Args:
        jobs: the inputs.
        process: analyses frames; None where no input can be read anyway.
        options: what the user asked for.
        reporter: prints what becomes of each.
        remember: called once the programs of inputs like the first are loaded.
    """
    clips = [job for job in jobs if _is_one_face(job, options)]
    lanes = 1
    if process is not None and (len(clips) > 1 or (clips and options.lanes)):
        lanes = _run_together(clips, process, options, reporter)
    if lanes > 1:
        remember()
    for job in jobs:
        if lanes > 1 and job in clips:
            continue
        _run(job, process, options, reporter)
        if job is jobs[0]:  # what others need beyond it, other calls may not
            remember()


def _is_one_face(job: Job, options: Options) -> bool:
    return job.problem is None and job.mode == "video" and options.faces != "all"


def _run_together(
    jobs: Sequence[Job], process: Process, options: Options, reporter: Reporter
) -> int:
    """Each clip in a thread of its own, so many at a time.

    Returns:
        How many; nothing is done where it is 1.
    """
    from ._engine import Engine  # loads JAX

    lanes = process.count_lanes(len(jobs)) if isinstance(process, Engine) else 1
    if lanes == 1 or not isinstance(process, Engine):
        return 1
    stopped = threading.Event()
    with process.share(lanes) as tracker, ThreadPoolExecutor(lanes) as pool:

        def run(job: Job) -> None:
            with tracker.seat():
                _run(job, process, options, reporter, stopped)

        running = [pool.submit(run, job) for job in jobs]
        try:
            for job in running:
                job.result()
        except BaseException:  # KeyboardInterrupt: the threads do not get it
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    return lanes


def _run(
    job: Job,
    process: Process | None,
    options: Options,
    reporter: Reporter,
    stopped: threading.Event | None = None,
) -> None:
    """Runs one job."""
    report = JobReport(job)

    def advance() -> None:
        report.advance()
        if stopped is not None and stopped.is_set():
            raise _StoppedError

    try:
        if process is None or job.problem is not None:
            raise job.problem or RuntimeError("no analysis was loaded")
        outcome = run_job(job, process, options, report.frames, advance)
        report.finish(outcome)
        if outcome.lost:
            reporter.fall_short()
    except BrokenPipeError:
        raise
    except _StoppedError:
        pass  # nothing is left of the input's files, as after an interruption
    except Exception as error:
        report.close()
        reporter.fail(error, job.given)
    finally:
        report.close()
