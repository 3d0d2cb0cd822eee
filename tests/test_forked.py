"""Processes that are forked: those from before JAX was used compute, the others say what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_WAIT = 120  # s; without the check, the child waits forever

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no such thing on this system")

_BEGIN = """
import multiprocessing
import os
import signal
import sys
import warnings

import numpy as np

import jaxface

warnings.simplefilter("ignore", RuntimeWarning)  # JAX's own, at each fork

def in_child(work):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.alarm(60)
    try:
        print(work(), flush=True)
        os._exit(0)
    except RuntimeError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        os._exit(3)

def compute():
    from jaxface.run import compiled
    image = np.full((1, 1, 3), 100, np.float32)
    return int(compiled(jaxface.to_gray)(image).item())
"""

_BEFORE = """
import jax, jaxface.run  # loaded, but not used
assert in_child(compute) == 0
print(compute())
"""

_AFTER = """
import jax
jax.numpy.zeros(3).block_until_ready()
frame = np.zeros((8, 8, 3), np.uint8)
calls = {
    "load_model": lambda: jaxface.load_model(),
    "analyze_image": lambda: jaxface.analyze_image(None, frame),
    "analyze_images": lambda: jaxface.analyze_images(None, [frame]),
    "analyze_video": lambda: jaxface.analyze_video(None, [frame]),
    "analyze_batch": lambda: jaxface.analyze_batch(None, [[frame]]),
    "to_gray": compute,
    "grandchild": lambda: in_child(compute),
}
for call in calls.values():
    in_child(call)
with multiprocessing.get_context("fork").Pool(1) as pool:
    try:
        pool.apply_async(jaxface.load_model).get(60)
    except RuntimeError as error:
        print("in a pool:", error)
print(compute())
"""


def _run(program: str) -> list[str]:
    command = [sys.executable, "-c", _BEGIN + program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_WAIT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_child_from_before_the_first_use_computes():
    assert _run(_BEFORE) == ["100", "100"]


@pytest.mark.untyped  # None stands for a model, as nothing gets that far
def test_a_child_from_after_it_says_what_to_do():
    lines = _run(_AFTER)
    names = ["load_model", "analyze_image", "analyze_images", "analyze_video", "analyze_batch"]
    names += ["to_gray", "to_gray"]
    for name, line in zip(names, lines):
        assert line.startswith(f"ForkError: {name}: this process was forked after JAX had been")
        assert "multiprocessing.get_context('spawn')" in line
    assert lines[len(names)] == "3"  # how the grandchild ended
    assert lines[-2].startswith("in a pool: load_model: ") and lines[-1] == "100"
    assert len(lines) == len(names) + 3
