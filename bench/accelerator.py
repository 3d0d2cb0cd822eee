"""Runs the whole program on the devices that JAX finds: speed by batch, memory, parity.

Usage: python bench/accelerator.py [--frames N] [--most N] [--sections SECTION ...]

Prints Markdown, dated and with the devices' name, for `bench/README.md`. Runs on CPUs too. Finds
OpenFace's data in $JAXFACE_SHARED, or in ../shared.
"""

import argparse
import datetime
import itertools
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax  # noqa: E402
import numpy as np  # noqa: E402

import jaxface  # noqa: E402
from bench import parity  # noqa: E402
from bench.speed_worker import peak_memory  # noqa: E402
from jaxface import Model  # noqa: E402
from jaxface.reference.comparison.clips import find_data, load  # noqa: E402

_CLIP = "default.wmv"
_SECTIONS = ("detector", "fit", "analysis", "images", "clips")  # of `bench/parity.py`


def main(argv: Sequence[str] | None = None) -> int:
    """Prints all tables. The exit status is 1 if a figure of parity misses its bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=96, metavar="N", help="of each clip")
    parser.add_argument("--most", type=int, default=64, metavar="N", help="clips in a batch")
    parser.add_argument(
        "--sections", nargs="*", default=_SECTIONS, choices=list(parity.SECTIONS), metavar="SECTION"
    )
    arguments = parser.parse_args(argv)
    data = find_data()
    model = load(data, "openface")
    reader = jaxface.read_video(data.samples / _CLIP)
    frames = list(itertools.islice(reader, arguments.frames))
    devices = jax.devices()
    date = datetime.datetime.now(datetime.UTC).date()
    print(f"{date}, jax {jax.__version__}: {len(devices)} x {devices[0].device_kind}\n")
    print("| what | clips | frames/s | memory of a device, MB |\n|---|---|---|---|")
    rate = _at_once(model, frames)
    print(f"| `analyze_video(..., at_once=True)` | 1 | {rate:.1f} | {_memory()} |", flush=True)
    for count, rate in batch_rates(model, frames, arguments.most):
        print(f"| `analyze_batch` | {count} | {rate:.1f} | {_memory()} |", flush=True)
    figures = [
        figure for name in arguments.sections for figure in parity.SECTIONS[name](data, True)
    ]
    print("\n" + parity.to_markdown(figures))
    return 0 if all(figure.passed for figure in figures) else 1


def batch_rates(model: Model, frames: list[np.ndarray], most: int) -> Iterator[tuple[int, float]]:
    """Batches of 1, 2, 4 and so on clips, and their frames per second; all is compiled before."""
    _check(jaxface.analyze_batch(model, [frames[:1]]))
    count = 1
    while count <= most:
        start = time.perf_counter()
        _check(jaxface.analyze_batch(model, [frames] * count))
        yield count, count * len(frames) / (time.perf_counter() - start)
        count *= 2


def _check(results: list[jaxface.Analysis | Exception]) -> None:
    for result in results:
        if isinstance(result, Exception):
            raise result


def _at_once(model: Model, frames: list[np.ndarray]) -> float:
    """Frames per second."""
    jaxface.analyze_video(model, frames, at_once=True)
    start = time.perf_counter()
    jaxface.analyze_video(model, frames, at_once=True)
    return len(frames) / (time.perf_counter() - start)


def _memory() -> str:
    """Peak so far; of the process where the device does not tell."""
    used = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return f"{peak_memory():.0f} (process)" if used is None else f"{used / 2**20:.0f}"


if __name__ == "__main__":
    sys.exit(main())
