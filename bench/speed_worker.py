"""One process of the speed bench: `python -m bench.speed_worker MODEL CLIP VARIANT`.

Prints a `Timing` as JSON. VARIANT is "offline", "at_once", "streaming", "batch-N" (so many copies
of the clip in as many lanes), "images-N" (pictures in a call), "sizes-N" (pictures of so many
sizes).
"""

import dataclasses
import functools
import itertools
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

_STILLS = 16  # frames, in batches smaller than that
_PICTURES = 13  # of as many sizes, or of one
_SIZES = (  # px, height and width: cuts of a frame, and larger ones in which it is repeated
    *((480, 640), (470, 634), (452, 620), (440, 602), (431, 633), (425, 590), (464, 576)),
    *((600, 800), (720, 1280), (768, 1024), (901, 1203), (1080, 1920), (960, 720)),
)


_latencies: list[float] = []  # s, of each result of a stream


class Timing(TypedDict):
    """What one process reports."""

    first: float  # result, epoch, s
    done: float  # with the clip for the first time, epoch, s
    rate: float  # frames (of images: faces) per second, once everything is compiled
    peak: float  # memory, MB
    rows: int
    slow: float  # s that 99 % of the results stay below; 0 where they do not come one by one


def main(model: str, clip: str, variant: str = "offline") -> None:
    """Runs a variant twice, in a process set up as the command line does it."""
    from jaxface.cli import Startup

    startup = Startup(("speed", variant, Path(clip).name), cache=True)
    import jaxface

    weights = jaxface.load_model(model)
    startup.finish()
    kind, _, size = variant.partition("-")
    run: dict[str, Callable[[], tuple[int, float]]] = {
        "offline": lambda: _analyze(weights, clip, at_once=False),
        "at_once": lambda: _analyze(weights, clip, at_once=True),
        "streaming": lambda: _stream(weights, clip),
        "images": lambda: _images(weights, clip, int(size)),
        "batch": lambda: _batch(weights, clip, int(size)),
        "sizes": lambda: _sizes(weights, clip, int(size)),
    }
    _, first = run[kind]()
    done = time.time()
    startup.remember()
    _latencies.clear()
    begin = time.time()
    rows, _ = run[kind]()  # all is compiled by now
    rate = rows / (time.time() - begin)
    slow = float(np.quantile(_latencies, 0.99)) if _latencies else 0.0
    timing = Timing(first=first, done=done, rate=rate, peak=peak_memory(), rows=rows, slow=slow)
    print(json.dumps(timing))


def _analyze(model: Any, clip: str, *, at_once: bool) -> tuple[int, float]:
    """All of an offline analysis with its CSV. Returns rows and when the first came."""
    import jaxface
    from jaxface.output import CsvWriter
    from jaxface.run import analyze_chunks, open_clip, second_pass

    reader = jaxface.read_video(clip)
    opened = open_clip(model, reader, timestamp=reader.timestamp, at_once=at_once)
    first, histories = 0.0, []
    with tempfile.TemporaryDirectory() as folder:
        with CsvWriter(Path(folder) / "clip.csv", units=opened.units) as writer:
            for batch in analyze_chunks(opened):
                first = first or time.time()
                histories.append(batch.history)
                writer.write_table(batch.table)
            units = second_pass(opened, histories)
            writer.finish(None if units is None else zip(*units, strict=True))
            return writer.rows, first


@functools.cache
def _stream_program() -> Callable:
    import jaxface
    from jaxface.run import compiled

    def step(model, state, frame, camera, config):
        return jaxface.clip_frame(model, state, frame, camera, config=config)

    return compiled(step)


def _stream(model: Any, clip: str) -> tuple[int, float]:
    """Frame by frame, as a live video; each result is waited for."""
    import jax
    import jax.numpy as jnp

    import jaxface

    config = dataclasses.replace(jaxface.default_config(model), online=True)
    reader = jaxface.read_video(clip)
    camera = jaxface.default_camera(height=reader.height, width=reader.width)
    state, rows, first = jaxface.start_clip(model), 0, 0.0
    for frame in reader:
        begin = time.perf_counter()
        state, face = _stream_program()(model, state, jnp.asarray(frame), camera, config)
        jax.block_until_ready(face)
        _latencies.append(time.perf_counter() - begin)
        rows, first = rows + 1, first or time.time()
    return rows, first


def _images(model: Any, clip: str, batch: int) -> tuple[int, float]:
    """All faces of some frames, detected and fitted anew. Returns how many."""
    import jaxface

    frames = list(itertools.islice(jaxface.read_video(clip), max(batch, _STILLS)))
    first, faces = 0.0, 0
    for start in range(0, len(frames) - batch + 1, batch):
        group = frames[start : start + batch]
        for found in jaxface.analyze_images(model, group):
            if isinstance(found, Exception):
                raise found
            faces += len(found.frame)
        first = first or time.time()
    return faces, first


def _batch(model: Any, clip: str, lanes: int) -> tuple[int, float]:
    """As many copies of a clip as there are lanes. Returns their rows."""
    import jaxface

    rows = 0
    for found in jaxface.analyze_batch(model, [clip] * lanes, lanes=lanes):
        if isinstance(found, Exception):
            raise found
        rows += len(found)
    return rows, time.time()


def _sizes(model: Any, clip: str, count: int) -> tuple[int, float]:
    """Thirteen pictures, one after the other, of so many sizes. Returns how many."""
    import jaxface

    frame = next(iter(jaxface.read_video(clip)))
    first = 0.0
    for number in range(_PICTURES):
        height, width = _SIZES[number % count]
        tiles = -(-height // frame.shape[0]), -(-width // frame.shape[1]), 1
        jaxface.analyze_image(model, np.tile(frame, tiles)[:height, :width])
        first = first or time.time()
    return _PICTURES, first


def peak_memory() -> float:
    """Of this process since it began, MB.

    Linux's getrusage counts the parent's memory at the fork too, so its own record is read.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = (row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main(*sys.argv[1:])
