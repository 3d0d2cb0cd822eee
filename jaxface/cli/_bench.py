"""The command `jaxface bench`: where the time of a clip's analysis goes."""

import argparse
import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from ..errors import InputError
from ..fit import empty_fit, parameters_from_box, shape_2d
from ..io import (
    Chunk,
    InputKind,
    chunks,
    classify_input,
    default_camera,
    pad_to_canvas,
    read_sequence,
    read_video,
)
from ..models import Model, load_model
from ..output import CsvWriter
from ..pipeline import Config, default_config, prepare_model
from ..run import (
    Clip,
    FaceBatch,
    Stage,
    StageInputs,
    analyze_chunks,
    compile_stages,
    first_track_state,
    open_clip,
    second_pass,
    stage_inputs,
    track_chunk,
    usable_cores,
)
from ..track import Tracked
from ..types import Camera, Fit

_CHUNK = 8  # frames, as in an analysis
_REPEATS = 3  # of each stage and chunk; the median counts
_GENERATED = (640, 480)  # px


class Row(NamedTuple):
    """A line of the table, per frame."""

    name: str
    seconds: float
    flops: float = np.nan
    bytes_accessed: float = np.nan


def run_bench(arguments: argparse.Namespace) -> int:
    """Prints the table of stages.

    Args:
        arguments: of the command "bench".
    Returns:
        Exit status.
    Raises:
        InputError: the input cannot be read or is too short.
        ModelFileError: the model is not installed or damaged.
    """
    clip = _Clip(arguments.input, arguments.frames)
    model = load_model(arguments.model)
    config = default_config(model)
    model = prepare_model(model, config)
    share, stages = _time_stages(model, config, clip)
    whole, writing = _time_whole(model, config, clip)
    rows = [Row("decoding", _time_decoding(clip)), *stages, Row("writing", writing)]
    machine = f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {usable_cores()} cores"
    print(f"{clip.name}: {clip.count} frames of {clip.width}x{clip.height}; {machine}\n")
    print(to_markdown(rows))
    print(
        f"\nThe detector runs in {share:.3g} of the frames, and counts so. The whole analysis, its "
        f"stages\nbeside each other: {1e3 * whole:.2f} ms per frame, {1 / whole:.1f} frames/s. "
        "Operations and bytes are\nXLA's own count, which takes the body of a loop once."
    )
    return 0


def to_markdown(rows: list[Row]) -> str:
    """A table with a row per stage, and their sum."""
    total = sum(row.seconds for row in rows)
    lines = ["| stage | ms per frame | share | MFLOP | MB |", "|---|---|---|---|---|"]
    for row in [*rows, Row("sum", total)]:
        costs = ("" if np.isnan(c) else f"{c / 1e6:.3g}" for c in (row.flops, row.bytes_accessed))
        time_cells = f"{1e3 * row.seconds:.3f} | {row.seconds / total:.1%}"
        lines.append(f"| {row.name} | {time_cells} | {' | '.join(costs)} |")
    return "\n".join(lines)


class _Clip:
    """Frames that can be read again and again: the first of a clip, or generated ones."""

    def __init__(self, path: str | None, most: int):
        self._most = most
        self.name, self._reader = path or "generated frames without a face", None
        self.width, self.height = _GENERATED
        if path is not None:
            video = classify_input(Path(path)) is InputKind.VIDEO
            self._reader = read_video(path) if video else read_sequence(path)
            self.width, self.height = self._reader.width, self._reader.height
        self.generated = self._reader is None
        self.count = sum(1 for _ in self.frames())
        if self.count < _CHUNK:
            got = f"{self.count} of one size"
            raise InputError(self.name, f"at least {_CHUNK} frames", got, "give a longer clip")

    def frames(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """The frames, decoded anew."""
        if self._reader is None:
            rng, shape = np.random.default_rng(0), (self.height, self.width, 3)
            yield from (rng.integers(0, 256, shape, np.uint8) for _ in range(self._most))
            return
        frames: Any = iter(self._reader)
        with contextlib.closing(frames):
            whole = (f for f in frames if f.shape[:2] == (self.height, self.width))
            yield from itertools.islice(whole, self._most)

    def chunks(self) -> Iterator[Chunk]:
        """Whole chunks of frames."""
        return (chunk for chunk in chunks(self.frames(), _CHUNK) if chunk.valid.all())


def _time_stages(model: Model, config: Config, clip: _Clip) -> tuple[float, list[Row]]:
    """Share of frames that ask for the detector, and a row per stage."""
    camera = Camera(*map(jnp.float32, default_camera(height=clip.height, width=clip.width)))
    shared = jnp.array([clip.height, clip.width], jnp.int32), camera, config
    state = first_track_state(model)
    stages: dict[str, Stage] = {}
    seconds: dict[str, list[float]] = {}
    detected: list[float] = []
    for chunk in clip.chunks():
        images = jnp.asarray(pad_to_canvas(chunk.frames)[0])
        before = state.fit
        if clip.generated:
            before, tracked = _placed(model, clip)
        else:
            valid = jnp.asarray(chunk.valid)
            state, tracked = track_chunk(model, state, images, valid, shared[0], None, config)
        inputs = stage_inputs(model, images, before, tracked, *shared)
        stages = stages or compile_stages(model, inputs, *shared)
        detected.append(float(jnp.mean(tracked.detected)))
        for name, stage in stages.items():
            seconds.setdefault(name, []).append(_time(stage, inputs))
    share, rows = statistics.fmean(detected), []
    for name, stage in stages.items():
        often = share if name == "detection" else 1
        costs = statistics.fmean(seconds[name]), stage.flops, stage.bytes_accessed
        rows.append(Row(name, *(often * cost for cost in costs)))
    return share, rows


def _placed(model: Model, clip: _Clip) -> tuple[Fit, Tracked]:
    """The mean face in the middle of generated frames, as if it had been tracked there."""
    pdm = model.clnf.main.pdm
    middle, half = np.array([clip.width, clip.height]) / 2, clip.height / 5
    box = jnp.asarray(np.concatenate([middle - half, middle + half]), jnp.float32)
    parameters = parameters_from_box(pdm, box, jnp.zeros(3))
    fit = eqx.tree_at(
        lambda f: (f.parameters, f.landmarks, f.success),
        empty_fit(model.clnf),
        (parameters, shape_2d(pdm, parameters), jnp.ones((), bool)),
    )
    fits = jax.tree.map(lambda leaf: jnp.stack([leaf] * _CHUNK), fit)
    nowhere = jnp.zeros(_CHUNK, bool)
    return fit, jax.vmap(Tracked)(fits, fits.success, nowhere)


def _time(stage: Stage, inputs: StageInputs) -> float:
    """Seconds per frame."""
    stage.run(inputs)
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        stage.run(inputs)
        times.append(time.perf_counter() - start)
    return statistics.median(times) / _CHUNK


def _time_decoding(clip: _Clip) -> float:
    """Seconds per frame."""
    start = time.perf_counter()
    for _ in clip.frames():
        pass
    return (time.perf_counter() - start) / clip.count


def _time_whole(model: Model, config: Config, clip: _Clip) -> tuple[float, float]:
    """Seconds per frame of a whole analysis with its CSV, and of writing the CSV alone."""
    list(analyze_chunks(open_clip(model, itertools.islice(clip.frames(), _CHUNK), config=config)))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()  # all is compiled by now
        opened = open_clip(model, clip.frames(), config=config)
        batches = _write(opened, analyze_chunks(opened), Path(folder) / "whole.csv")
        whole = time.perf_counter() - start
        start = time.perf_counter()
        _write(opened, batches, Path(folder) / "again.csv")
        again = time.perf_counter() - start
    return whole / clip.count, again / clip.count


def _write(clip: Clip, batches: Iterable[FaceBatch], path: Path) -> list[FaceBatch]:
    """Writes rows as they come. Returns them."""
    seen = []
    with CsvWriter(path, units=clip.units) as writer:
        for batch in batches:
            writer.write_table(batch.table)
            seen.append(batch)
        units = second_pass(clip, [batch.history for batch in seen])
        writer.finish(None if units is None else zip(*units, strict=True))
    return seen
