"""How many operations a tracked frame executes, by stage.

Usage: python bench/operations.py [--model NAME|PATH] [--chunks N] [CLIP]

An operation is what XLA starts by itself on a CPU: a fusion, a product, a copy. Each costs some
microseconds of overhead whatever it computes, and would be a kernel on a GPU. They are counted in a
profile of the program that runs, and so include rounds of loops and the branches that were taken.
Prints Markdown. The clip is the talking head by default, which comes with the repository.
"""

import argparse
import collections
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
from jaxface.pipeline import measure_clip, start_person  # noqa: E402
from jaxface.track import start_track  # noqa: E402

_CHUNK = 8  # frames in a call, as in `analyze_video`
# Named scopes of the package: the first that an operation lies in counts.
_STAGES = (
    *("detect", "parts", "validate", "responses", "optimise"),
    *("action_units", "pose_gaze", "align", "fhog"),
)
_EVENT_LEVEL = 3  # of the host's tracer: single operations


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Counts executed operations.")
    parser.add_argument("clip", nargs="?", default=ROOT / "bench" / "data" / "talking_head.mp4")
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


def compile_program(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """As `analyze_video` compiles it."""
    lowered = jax.jit(function).lower(*args, **kwargs)
    return lowered.compile(compiler_options=jaxface.compiler_options())


def count_operations(program: Any, *args: Any, **kwargs: Any) -> collections.Counter[str]:
    """Operations that one call of a compiled program executes, by stage."""
    stages = stages_of(program.as_text())
    jax.block_until_ready(program(*args, **kwargs))
    options = jax.profiler.ProfileOptions()
    options.host_tracer_level, options.python_tracer_level = _EVENT_LEVEL, 0
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            jax.block_until_ready(program(*args, **kwargs))
        path = next(Path(folder).rglob("*.xplane.pb"))
        profile = jax.profiler.ProfileData.from_file(str(path))
        for plane in profile.planes:
            for line in plane.lines:
                names = (event.name for event in line.events)
                counts.update(stages[name] for name in names if name in stages)
    return counts


def stages_of(text: str) -> Mapping[str, str]:
    """The stage of each operation, by name, of a compiled program."""
    found = {}
    for line in text.splitlines():
        if match := re.match(r"\s*(?:ROOT )?%?([\w.-]+) = ", line):
            scope = re.search(r'op_name="([^"]*)"', line)
            parts = scope[1].split("/") if scope else []
            found[match[1]] = next((stage for stage in _STAGES if stage in parts), "other")
    return found


if __name__ == "__main__":
    sys.exit(main())
