"""Time to the first result, frames per second and peak memory, each in a process of its own."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TypedDict

from .figures import Figure, Subject
from .runs import ROOT, Data, load

_REPEATS = 3  # warm runs; a busy machine only ever slows a run down, so the best one counts


class Timing(TypedDict):
    """What one process reports."""

    first: float  # epoch, s
    rate: float  # frames per second of a whole clip, once everything is compiled
    peak: float  # MB


def speed_figures(data: Data, kind: str, clip: str, *, repeats: int = _REPEATS) -> list[Figure]:
    """A clip from the start of Python on, with an empty and with a filled compile cache."""
    from jaxface._params import save_model

    with tempfile.TemporaryDirectory() as folder:
        model = save_model(load(data, kind), Path(folder) / "models").path
        cache = Path(folder) / "xla"
        cold, cold_run = measure(model, data.samples / clip, cache)
        warm, warm_runs = zip(
            *(measure(model, data.samples / clip, cache) for _ in range(repeats)), strict=True
        )
    runs = (cold_run, *warm_runs)
    subject = Subject(f"speed, {len(os.sched_getaffinity(0))} cores", kind, clip)
    return [
        subject.at_least("frames per second, whole clip", 20, max(run["rate"] for run in runs)),
        subject.at_most("first result, cold, s", 60, cold),
        subject.at_most("first result, warm compile cache, s", 15, min(warm)),
        subject.at_most("peak memory, cold, MB", 1000, cold_run["peak"]),
        subject.at_most("peak memory, warm, MB", 1000, max(run["peak"] for run in warm_runs)),
    ]


def measure(model: Path, clip: Path, cache: Path) -> tuple[float, Timing]:
    """Seconds to the first result, and the process's own report."""
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    }
    start = time.time()
    output = subprocess.run(
        [sys.executable, "-m", "bench.speed", str(model), str(clip)],
        env=environment,
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    timing: Timing = json.loads(output)
    return timing["first"] - start, timing


def peak_memory() -> float:
    """Of this process since it began, MB.

    Linux's getrusage counts the parent's memory at the fork too, so its own record is read.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = (row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main(model: str, clip: str) -> None:
    """Analyses a clip, in a process set up as the command line does it, and prints a `Timing`."""
    from jaxface.cli._memory import keep_small

    keep_small()  # before JAX starts its threads
    import jaxface

    weights = jaxface.load_model(model)
    first = 0.0
    rows, begin = 0, 0.0
    for _ in range(2):  # all is compiled in the second
        reader = jaxface.read_video(clip)
        analysis = jaxface.ClipAnalysis(weights, reader, timestamp=reader.timestamp)
        begin, rows = time.time(), 0
        for batch in analysis:
            first = first or time.time()
            rows += len(batch.accepted)
        analysis.action_units()
    rate = rows / (time.time() - begin)
    print(json.dumps({"first": first, "rate": rate, "peak": peak_memory()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
