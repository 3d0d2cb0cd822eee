"""Measures speed and memory, each run in a process of its own.

Usage: python bench/speed.py [--repeats N] [--clips CLIP ...] [--variants VARIANT ...]
                             [--openface PATH] [--peers [DIR]] [--json FILE]

Prints a Markdown table. Every figure is also given in products: the time of one 1024x1024x1024
float32 product of NumPy on the same threads in the same run, so that machines compare. Variants
take turns, and medians count. Finds OpenFace's data in $JAXFACE_SHARED, or in ../shared.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402

from bench import peers  # noqa: E402
from bench.speed_worker import Timing  # noqa: E402
from jaxface.reference.comparison.clips import ROOT, Data, find_data, load  # noqa: E402
from jaxface.reference.comparison.figures import Figure, Subject  # noqa: E402

CLIPS = ("default.wmv", "2015-10-15-15-14.avi", "multi_face.avi")
VARIANTS = (
    *("offline", "at_once", "batch-2", "batch-4", "batch-8", "streaming"),
    *("images-1", "images-8", "images-64", "sizes-1", "sizes-13"),
)
_PARITY_REPEATS = 3  # warm runs; a busy machine only ever slows a run down, so the best one counts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Speed:
    """Medians of a variant on a clip."""

    clip: str
    variant: str
    runs: int
    whole: float  # frames per second, from the start of the process to the written CSV
    steady: float  # frames per second, once everything is compiled
    products: float  # steady: what one frame takes, in products
    cold: float  # s from the start to the first result, with an empty compile cache; one run
    warm: float  # s, with a filled one
    peak: float  # memory, MB
    slow: float  # s that 99 % of a stream's results stay below; 0 for what is no stream


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the variants asked for and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument("--clips", nargs="+", choices=CLIPS, default=CLIPS)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument(
        "--peers", nargs="?", const="", metavar="DIR", help="other packages too; installed in DIR"
    )
    parser.add_argument(
        "--openface", type=Path, metavar="PATH", help="OpenFace's FeatureExtraction, beside ours"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    arguments = parser.parse_args(argv)
    data = find_data()
    product = time_product(arguments.repeats)
    speeds = [
        speed
        for clip in arguments.clips
        for speed in measure_clip(data, clip, arguments.variants, arguments.repeats, product)
    ]
    threads = len(os.sched_getaffinity(0))
    print(f"{threads} threads; one product of NumPy: {1e3 * product:.1f} ms\n")
    print(to_markdown(speeds))
    if arguments.openface:
        print("\n| clip | C++ OpenFace: frames/s, whole process | runs |\n|---|---|---|")
        for clip in arguments.clips:
            rate = time_openface(arguments.openface, data.samples / clip, arguments.repeats)
            print(f"| {clip} | {rate:.1f} | {arguments.repeats} |")
    found: list[peers.PeerSpeed] = []
    if arguments.peers is not None:
        folder = Path(arguments.peers) if arguments.peers else None
        found = peers.measure_peers(data, arguments.clips[0], arguments.repeats, folder)
        print("\n" + peers.to_markdown(found, product))
    if arguments.json:
        record = {"threads": threads, "product": product}
        record |= {"speeds": [*map(dataclasses.asdict, speeds)]}
        record |= {"peers": [*map(dataclasses.asdict, found)]}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def time_product(repeats: int) -> float:
    """Median seconds of a 1024x1024x1024 float32 product of NumPy on all threads."""
    a, b = np.random.default_rng(0).normal(size=(2, 1024, 1024)).astype(np.float32)
    times = []
    for _ in range(repeats + 1):  # the first starts the threads
        start = time.perf_counter()
        np.matmul(a, b)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def measure_clip(
    data: Data, clip: str, variants: Sequence[str], repeats: int, product: float
) -> Iterator[Speed]:
    """Each variant on a clip: once with an empty cache, then in turns."""
    from jaxface.models import save_model

    with tempfile.TemporaryDirectory() as folder:
        model = save_model(load(data, "openface"), Path(folder) / "models").path
        caches = {variant: Path(folder) / variant for variant in variants}
        path = data.samples / clip
        colds = {v: run_worker(model, path, v, caches[v])[1] for v in variants}
        runs: dict[str, list[tuple[float, float, Timing]]] = {v: [] for v in variants}
        for _ in range(repeats):
            for variant in variants:
                runs[variant].append(run_worker(model, path, variant, caches[variant]))
                print(f"{clip} {variant}: {runs[variant][-1]}", file=sys.stderr, flush=True)
        for variant in variants:
            yield medians(clip, variant, colds[variant], runs[variant], product)


def medians(
    clip: str,
    variant: str,
    cold: float,
    runs: Sequence[tuple[float, float, Timing]],
    product: float,
) -> Speed:
    steady = statistics.median(timing["rate"] for *_, timing in runs)
    return Speed(
        clip=clip,
        variant=variant,
        runs=len(runs),
        whole=statistics.median(timing["rows"] / whole for whole, _, timing in runs),
        steady=steady,
        products=1 / steady / product,
        cold=cold,
        warm=statistics.median(first for _, first, _ in runs),
        peak=max(timing["peak"] for *_, timing in runs),
        slow=statistics.median(timing["slow"] for *_, timing in runs),
    )


def time_openface(binary: Path, clip: Path, repeats: int) -> float:
    """Median frames per second of OpenFace's own program, from its start to the written CSV."""
    rates = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            command = [binary, "-f", clip, "-out_dir", folder]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=binary.parent)
            seconds = time.perf_counter() - start
            rows = (Path(folder) / clip.with_suffix(".csv").name).read_text().splitlines()
        rates.append((len(rows) - 1) / seconds)
    return statistics.median(rates)


def to_markdown(speeds: Sequence[Speed]) -> str:
    """A row per variant and clip."""
    names = ("frames/s, whole process", "frames/s, steady", "products per frame")
    names += ("first result cold, s", "warm, s", "p99, ms", "peak, MB", "runs")
    lines = [f"| clip | variant | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for s in speeds:
        cells = f"{s.whole:.1f} | {s.steady:.1f} | {s.products:.3g}"
        slow = f"{1e3 * s.slow:.1f}" if s.slow else ""
        cells += f" | {s.cold:.1f} | {s.warm:.1f} | {slow} | {s.peak:.0f} | {s.runs}"
        lines.append(f"| {s.clip} | {s.variant} | {cells} |")
    return "\n".join(lines)


def run_worker(model: Path, clip: Path, variant: str, cache: Path) -> tuple[float, float, Timing]:
    """Seconds to the end of the first pass and to the first result, and the process's report."""
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    }
    start = time.time()
    output = subprocess.run(
        [sys.executable, "-m", "bench.speed_worker", str(model), str(clip), variant],
        env=environment,
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    timing: Timing = json.loads(output)
    return timing["done"] - start, timing["first"] - start, timing


def speed_figures(
    data: Data, kind: str, clip: str, *, repeats: int = _PARITY_REPEATS
) -> list[Figure]:
    """A clip from the start of Python on, with an empty and with a filled compile cache."""
    from jaxface.models import save_model

    with tempfile.TemporaryDirectory() as folder:
        model = save_model(load(data, kind), Path(folder) / "models").path
        inputs = model, data.samples / clip, "offline", Path(folder) / "xla"
        _, cold, cold_run = run_worker(*inputs)
        _, warm, warm_runs = zip(*(run_worker(*inputs) for _ in range(repeats)), strict=True)
    runs = (cold_run, *warm_runs)
    subject = Subject(f"speed, {len(os.sched_getaffinity(0))} cores", kind, clip)
    return [
        subject.at_least("frames per second, whole clip", 20, max(run["rate"] for run in runs)),
        subject.at_most("first result, cold, s", 60, cold),
        subject.at_most("first result, warm compile cache, s", 15, min(warm)),
        subject.at_most("peak memory, cold, MB", 1000, cold_run["peak"]),
        subject.at_most("peak memory, warm, MB", 1000, max(run["peak"] for run in warm_runs)),
    ]


if __name__ == "__main__":
    sys.exit(main())
