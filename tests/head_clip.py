"""The talking head of the repository: its frames, and the truth that they were drawn from."""

import csv
import functools
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxface
from jaxface import Camera, Model
from jaxface.io import default_camera
from jaxface.run import compiler_options

_DATA = Path(__file__).resolve().parents[1] / "bench" / "data"
CLIP, TRUTH = _DATA / "talking_head.mp4", _DATA / "talking_head.csv"
SIZE = (480, 640)  # px


class Truth(NamedTuple):
    """What was drawn, one row a frame."""

    landmarks: np.ndarray  # n 68 2, px
    rotation: np.ndarray  # n 3, rad, as a head pose's
    gaze: np.ndarray  # n 2 3, unit vectors
    blink: np.ndarray  # n, intensity of AU45


@functools.cache
def read_frames(count: int, first: int = 0) -> tuple[np.ndarray, ...]:
    """Frames (480, 640, 3) of the clip, RGB."""
    reader = iter(jaxface.read_video(CLIP))
    return tuple(itertools.islice(reader, first, first + count))


def camera() -> Camera:
    """The camera that `analyze_video` takes for the clip."""
    height, width = SIZE
    return Camera(*(jnp.float32(value) for value in default_camera(height=height, width=width)))


@functools.cache
def read_truth() -> Truth:
    with open(TRUTH, newline="") as file:
        names, *rows = csv.reader(file)
    columns = dict(zip(names, np.array(rows, np.float64).T, strict=True))

    def stack(*names: str) -> np.ndarray:
        return np.stack([columns[name] for name in names], axis=-1)

    return Truth(
        landmarks=np.stack([stack(*(f"{a}_{i}" for i in range(68))) for a in "xy"], axis=-1),
        rotation=stack("pose_Rx", "pose_Ry", "pose_Rz"),
        gaze=np.stack([stack(*(f"gaze_{eye}_{a}" for a in "xyz")) for eye in (0, 1)], axis=1),
        blink=columns["AU45_r"],
    )


def halve(frame: np.ndarray) -> np.ndarray:
    """A picture of half the size, of means of four pixels."""
    height, width = (side // 2 for side in frame.shape[:2])
    return frame.reshape(height, 2, width, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)


def place_faces(frame: np.ndarray, *, left: bool, right: bool) -> np.ndarray:
    """A frame of half the size at the left, at the right or at both, on black of the full size."""
    half, canvas = halve(frame), np.zeros_like(frame)
    height, width = half.shape[:2]
    for wanted, start in ((left, 0), (right, width)):
        if wanted:
            canvas[:height, start : start + width] = half
    return canvas


def outer_eyes(landmarks: np.ndarray) -> float:
    """Distance of the outer corners of the eyes, px, that errors are given in."""
    return float(np.linalg.norm(landmarks[36] - landmarks[45]))


def compile_alike(function: Callable) -> Callable:
    """Compiles a function of arrays as the package compiles its own programs."""
    options = compiler_options()
    arguments: dict[str, Any] = {"compiler_options": options} if options else {}
    return jax.jit(function, **arguments)


def in_a_loop(
    step: Callable, model: Model, state: Any, frames: Iterable[np.ndarray], *others: Any
) -> tuple[Any, list[Any]]:
    """Calls `step(model, state, frame, *others)` on each frame, with the state of the last one."""
    results = []
    for frame in frames:
        state, result = step(model, state, jnp.asarray(frame), *others)
        results.append(result)
    return state, results
