"""Runs the whole program on the devices that JAX finds: speed by lanes, what binds, memory, parity.

Usage: python bench/accelerator.py [--frames N] [--lanes N ...] [--sections SECTION ...]
       python bench/accelerator.py --paper [--model NAME|PATH] [--lanes N ...]

Prints Markdown, dated and with the devices' name, for `bench/README.md`. Runs on CPUs too. Finds
OpenFace's data in $JAXFACE_SHARED, or in ../shared. With --paper it needs neither data nor GPU, and
prints what a tracking step would cost one: see `bench/paper.py`.
"""

import argparse
import datetime
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax  # noqa: E402
import numpy as np  # noqa: E402

import jaxface  # noqa: E402
from bench import paper, parity  # noqa: E402
from bench.speed_worker import peak_memory  # noqa: E402
from jaxface import Model  # noqa: E402
from jaxface.reference.comparison.clips import find_data, load  # noqa: E402

_CLIP = "default.wmv"
_SECTIONS = ("detector", "fit", "analysis", "images", "clips")  # of `bench/parity.py`


class Rate(NamedTuple):
    """Of one batch."""

    lanes: int
    frames: float  # per second
    memory: str  # peak of a device so far, MB


class Time(NamedTuple):
    """Where the time of one batch goes, s."""

    wall: float
    kernels: float  # that some kernel ran on the device
    launched: int  # kernels and copies on it


def main(argv: Sequence[str] | None = None) -> int:
    """Prints all tables. The exit status is 1 if a figure of parity misses its bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=96, metavar="N", help="of each clip")
    parser.add_argument("--lanes", type=int, nargs="*", default=paper.LANES, metavar="N")
    parser.add_argument("--paper", action="store_true", help="costs of a step, without a GPU")
    parser.add_argument("--model", default="base", metavar="NAME|PATH", help="for --paper")
    parser.add_argument(
        "--sections", nargs="*", default=_SECTIONS, choices=list(parity.SECTIONS), metavar="SECTION"
    )
    arguments = parser.parse_args(argv)
    print(f"{datetime.datetime.now(datetime.UTC).date()}, ", end="")
    if arguments.paper:
        paper.print_paper(jaxface.load_model(arguments.model), arguments.lanes)
        return 0
    data = find_data()
    model = load(data, "openface")
    reader = jaxface.read_video(data.samples / _CLIP)
    frames = list(itertools.islice(reader, arguments.frames))
    devices = jax.devices()
    print(f"jax {jax.__version__}: {len(devices)} x {devices[0].device_kind}\n")
    print("| lanes | frames/s | peak memory of a device, MB |\n|---|---|---|")
    for rate in lane_rates(model, frames, arguments.lanes):
        print(f"| {rate.lanes} | {rate.frames:.1f} | {rate.memory} |", flush=True)
    print("\n| lanes | wall, s | kernels, s | launched | us between launches | what binds |")
    print("|---|---|---|---|---|---|")
    for lanes in arguments.lanes:
        print(binding_row(lanes, profile_batch(model, frames, lanes)), flush=True)
    figures = [
        figure for name in arguments.sections for figure in parity.SECTIONS[name](data, True)
    ]
    print("\n" + parity.to_markdown(figures))
    return 0 if all(figure.passed for figure in figures) else 1


def lane_rates(model: Model, frames: list[np.ndarray], counts: Sequence[int]) -> Iterator[Rate]:
    """As many clips as lanes at once; what is compiled is compiled before."""
    for lanes in counts:
        run_batch(model, frames, lanes)
        start = time.perf_counter()
        run_batch(model, frames, lanes)
        yield Rate(lanes, lanes * len(frames) / (time.perf_counter() - start), _memory())


def run_batch(model: Model, frames: list[np.ndarray], lanes: int) -> None:
    """Analyses the same clip in every lane.

    Raises:
        Exception: what a clip failed with.
    """
    for result in jaxface.analyze_batch(model, [frames] * lanes, lanes=lanes):
        if isinstance(result, Exception):
            raise result


def profile_batch(model: Model, frames: list[np.ndarray], lanes: int) -> Time:
    """One batch under the profiler, which slows the host down a little."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with jax.profiler.trace(folder):
            run_batch(model, frames, lanes)
            wall = time.perf_counter() - start
        path = next(Path(folder).rglob("*.xplane.pb"))
        profile = jax.profiler.ProfileData.from_file(str(path))
        spans = [
            (event.start_ns, event.start_ns + event.duration_ns)
            for plane in profile.planes
            if plane.name.startswith("/device:")
            for line in plane.lines
            if line.name.startswith("Stream")
            for event in line.events
        ]
    return Time(wall, covered(spans) / 1e9, len(spans))


def covered(spans: Sequence[tuple[float, float]]) -> float:
    """Length of the union of spans: kernels of several streams run at the same time."""
    total, reached = 0.0, -np.inf
    for start, end in sorted(spans):
        total += max(end - max(start, reached), 0)
        reached = max(reached, end)
    return total


def binding_row(lanes: int, spent: Time) -> str:
    """One line of the table of what binds."""
    if not spent.launched:
        return f"| {lanes} | {spent.wall:.2f} | - | - | - | the profile names no device |"
    gap = (spent.wall - spent.kernels) / spent.launched
    busy = spent.kernels / spent.wall
    what = "kernels" if busy > 0.7 else "launches and the host" if busy < 0.4 else "both"
    share = f"{what} (device busy {busy:.0%})"
    return (
        f"| {lanes} | {spent.wall:.2f} | {spent.kernels:.2f} | {spent.launched} "
        f"| {gap * 1e6:.1f} | {share} |"
    )


def _memory() -> str:
    """Peak so far; of the process where the device does not tell."""
    used = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return f"{peak_memory():.0f} (process)" if used is None else f"{used / 2**20:.0f}"


if __name__ == "__main__":
    sys.exit(main())
