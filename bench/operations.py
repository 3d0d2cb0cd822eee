"""How many operations a tracked frame executes, by stage.

Usage: python bench/operations.py [--model NAME|PATH] [--chunks N] [CLIP]

An operation is what XLA starts by itself on a CPU: a fusion, a product, a copy. Each costs some
microseconds of overhead whatever it computes, and would be a kernel on a GPU. They are counted in a
profile of the program that runs, and so include rounds of loops and the branches that were taken.
Loops and branches themselves are none. The step of a tracker of several lanes is counted too, as
CPUs and as NVIDIA GPUs compute it (both in the fusions of CPUs, see `ops.as_on_cuda`).
Prints Markdown. The clip is the talking head by default, which comes with the repository.
"""

import argparse
import collections
import contextlib
import itertools
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import jaxface  # noqa: E402
from bench.costs import Cost, is_operation, program_cost, read_program  # noqa: E402
from bench.tracking_step import CLIP, Step, tracking_step  # noqa: E402
from jaxface.ops import as_on_cuda  # noqa: E402
from jaxface.pipeline import measure_clip, start_person  # noqa: E402
from jaxface.track import start_track  # noqa: E402

_CHUNK = 8  # frames in a call, as in `analyze_video`
# Named scopes of the package: the first that an operation lies in counts.
_STAGES = (
    *("detect", "parts", "validate", "responses", "optimise"),
    *("action_units", "pose_gaze", "align", "fhog"),
)
_LANES = (1, 8)
_EVENT_LEVEL = 3  # of the host's tracer: single operations


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Counts executed operations.")
    parser.add_argument("clip", nargs="?", default=CLIP)
    parser.add_argument("--model", default="base", metavar="NAME|PATH")
    parser.add_argument("--chunks", type=int, default=2, metavar="N", help="before what is counted")
    arguments = parser.parse_args(argv)
    model = jaxface.load_model(arguments.model)
    model = jaxface.prepare_model(model, jaxface.default_config(model))
    wanted = (arguments.chunks + 1) * _CHUNK
    frames = list(itertools.islice(iter(jaxface.read_video(arguments.clip)), wanted))
    if len(frames) < wanted:
        parser.error(f"{arguments.clip}: expected at least {wanted} frames, got {len(frames)}")
    print(f"{model.info.name}, jax {jax.__version__}, executed operations a frame\n")
    print("| program | stage | operations |\n|---|---|---|")
    for program, counts in count_chunk(model, np.stack(frames)).items():
        for stage, count in counts.most_common():
            print(f"| {program} | {stage} | {count / _CHUNK:.0f} |")
        print(f"| {program} | all | {counts.total() / _CHUNK:.0f} |")
    for cuda in (False, True):
        for lanes in _LANES:
            counts = count_step(tracking_step(model, lanes), cuda=cuda)[1]
            name = f"step of {lanes} lanes, {'as on CUDA' if cuda else 'CPU'}"
            for stage, count in counts.most_common():
                print(f"| {name} | {stage} | {count} |")
            print(f"| {name} | all | {counts.total()} |")
    return 0


def count_chunk(model: jaxface.Model, frames: np.ndarray) -> dict[str, collections.Counter[str]]:
    """Operations by program and stage in the last chunk of some frames."""
    height, width = frames.shape[1:3]
    camera = jaxface.default_camera(height=height, width=width)
    camera = jaxface.Camera(*(jnp.float32(value) for value in camera))
    state, person = start_track(model.clnf), start_person(model)
    track = compile_program(jaxface.track_clip, model, frames[:_CHUNK], state=state)
    *earlier, chunk = np.split(frames, len(frames) // _CHUNK)
    for frames_before in earlier:
        state, _ = track(model, frames_before, state=state)
    _, tracked = track(model, chunk, state=state)
    measure = compile_program(measure_clip, model, person, chunk, tracked, camera)
    return {
        "track_clip": count_operations(track, model, chunk, state=state),
        "measure_clip": count_operations(measure, model, person, chunk, tracked, camera),
    }


def count_step(step: Step, *, cuda: bool) -> tuple[Cost, collections.Counter[str]]:
    """Costs of a step, and its operations by stage, of faces that were followed for some frames.

    Args:
        cuda: computed as on NVIDIA GPUs, but in the fusions of CPUs.
    """
    with as_on_cuda() if cuda else contextlib.nullcontext():
        program = step.compile()
    arguments = step.settle(program).arguments
    runs = count_runs(program, *arguments)
    text = program.as_text()
    return program_cost(text, runs), by_stage(text, runs)


def compile_program(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """As `analyze_video` compiles it."""
    lowered = jax.jit(function).lower(*args, **kwargs)
    return lowered.compile(compiler_options=jaxface.compiler_options())


def count_operations(program: Any, *args: Any, **kwargs: Any) -> collections.Counter[str]:
    """Operations that one call of a compiled program executes, by stage."""
    return by_stage(program.as_text(), count_runs(program, *args, **kwargs))


def count_runs(program: Any, *args: Any, **kwargs: Any) -> collections.Counter[str]:
    """How often each instruction runs in one call of a compiled program, by name."""
    names = {name for inside in read_program(program.as_text()).values() for name in inside}
    jax.block_until_ready(program(*args, **kwargs))
    options = jax.profiler.ProfileOptions()
    options.host_tracer_level, options.python_tracer_level = _EVENT_LEVEL, 0
    runs: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            jax.block_until_ready(program(*args, **kwargs))
        path = next(Path(folder).rglob("*.xplane.pb"))
        profile = jax.profiler.ProfileData.from_file(str(path))
        for plane in profile.planes:
            for line in plane.lines:
                runs.update(event.name for event in line.events if event.name in names)
    return runs


def by_stage(text: str, runs: Mapping[str, int]) -> collections.Counter[str]:
    """Operations that ran, by the stage that they lie in.

    Args:
        text: of the compiled program.
        runs: see `count_runs`.
    """
    counts: collections.Counter[str] = collections.Counter()
    for instructions in read_program(text).values():
        for name, instruction in instructions.items():
            if (count := runs.get(name, 0)) and is_operation(instruction):
                scope = re.search(r'op_name="([^"]*)"', instruction.text)
                parts = scope[1].split("/") if scope else []
                counts[next((stage for stage in _STAGES if stage in parts), "other")] += count
    return counts


if __name__ == "__main__":
    sys.exit(main())
