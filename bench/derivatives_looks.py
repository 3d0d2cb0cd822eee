"""How right the derivatives of action units are: faithful and smooth, against differences.

`python -m bench.derivatives_looks [MODEL] [IMAGE]` prints a table, for a frame of the talking head
or for the first face of an image. `bench/derivatives.py` has the same rows.
"""

import functools
import itertools
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxface
from jaxface.analyze import AlignConfig, FaceAnalyser
from jaxface.reference.comparison.derivatives import raw_intensities
from jaxface.types import LandmarkScheme

_CLIP, _FRAME = Path(__file__).parent / "data" / "talking_head.mp4", 100
_MARGIN = 0.45  # of the face's longer side
_WAYS = 40  # soft directions of the pixels
_GRID = 6  # px between the values that such a direction is interpolated from
_STEPS = {"landmarks": (1.0, 0.1, 1e-4), "pixels": (8.0, 1.0, 1e-3)}  # px, grey levels
_REPEATS = 30

Row = tuple[str, str, float]  # what, unit or step, value


def measure_looks(model: jaxface.Model, path: Path | None = None) -> list[Row]:
    """Cosines of derivatives with differences, distance of the two modes, and times.

    Args:
        model: whose action units are measured.
        path: an image; the talking head's frame by default.
    """
    scheme = model.clnf.scheme
    if path is None:
        frame = next(itertools.islice(iter(jaxface.read_video(_CLIP)), _FRAME, None))
    else:
        frame = jaxface.read_image(path)
    landmarks = np.asarray(jaxface.analyze_image(model, frame).landmarks).reshape(-1, 68, 2)[0]
    image, landmarks = _crop(frame, landmarks)
    rows = _times(model.analyser, scheme, image, landmarks)
    with _double_precision():
        analyser = jax.tree.map(_as_float64, model.analyser)
        values = {}
        for smooth in (False, True):
            look = functools.partial(raw_intensities, analyser, scheme, AlignConfig(smooth=smooth))
            values[smooth] = np.asarray(jax.jit(look)(image, landmarks))
            rows += _cosines(look, image, landmarks, "smooth" if smooth else "faithful")
    apart = np.abs(values[True] - values[False])
    return [
        *rows,
        ("smooth less faithful intensity, mean", "AU", float(apart.mean())),
        ("smooth less faithful intensity, most", "AU", float(apart.max())),
    ]


def _double_precision() -> AbstractContextManager:
    """Context in which JAX keeps float64; JAX moved it between 0.4 and 0.8."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # pyright: ignore[reportAttributeAccessIssue]

    return enable_x64()


def _as_float64(leaf: jax.Array) -> jax.Array:
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    return jnp.asarray(leaf, jnp.float64) if floating else leaf


def _crop(frame: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The face's surroundings, and the landmarks in them."""
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    margin = _MARGIN * (high - low).max()
    x0, y0 = np.maximum(low - margin, 0).astype(int)
    x1, y1 = (high + margin).astype(int)
    image = frame[y0:y1, x0:x1].astype(float)
    return image, landmarks.astype(float) - [x0, y0]


def _cosines(look: Callable, image: np.ndarray, landmarks: np.ndarray, mode: str) -> list[Row]:
    """Of derivatives and central differences, over all directions and action units."""
    value = jax.jit(look)
    slope = jax.jit(lambda way: jax.jvp(look, (image, landmarks), way)[1])
    coarse = np.random.default_rng(0).normal(
        size=(_WAYS, *(side // _GRID + 2 for side in image.shape[:2]), 3)
    )
    soft = [jax.image.resize(way, image.shape, "cubic") for way in coarse]
    ways = {
        "landmarks": [(0 * image, way) for way in np.eye(136).reshape(-1, 68, 2)],
        "pixels": [(np.asarray(way / jnp.abs(way).max()), 0 * landmarks) for way in soft],
    }
    rows = []
    for kind, directions in ways.items():
        found = np.stack([np.asarray(slope(way)) for way in directions])
        # Shorter steps find nothing but jumps, or none, in values that are rounded.
        for step in _STEPS[kind] if mode == "smooth" else _STEPS[kind][:1]:
            ahead, behind = (
                np.stack([value(image + s * p, landmarks + s * q) for p, q in directions])
                for s in (step, -step)
            )
            expected = (ahead - behind) / (2 * step)
            unit = "px" if kind == "landmarks" else "grey levels"
            what = f"{mode}: cosine with differences by {kind}"
            rows.append((what, f"+-{step:g} {unit}", _cosine(found, expected)))
    return rows


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b)))


def _times(
    analyser: FaceAnalyser, scheme: LandmarkScheme, image: np.ndarray, landmarks: np.ndarray
) -> list[Row]:
    """Best times in float32 of the intensities, and of the gradient of their sum."""
    inputs = jnp.asarray(image, jnp.float32), jnp.asarray(landmarks, jnp.float32)
    rows = []
    for smooth in (False, True):
        config, mode = AlignConfig(smooth=smooth), "smooth" if smooth else "faithful"
        look = functools.partial(raw_intensities, analyser, scheme, config)
        gradient = jax.grad(functools.partial(_total, look), argnums=(0, 1))
        for what, function in (("intensities", look), ("their gradient", gradient)):
            rows.append((f"{mode}: {what}", "ms", _best(jax.jit(function), inputs)))
    return rows


def _total(look: Callable, image: jax.Array, landmarks: jax.Array) -> jax.Array:
    return jnp.sum(look(image, landmarks))


def _best(function: Callable, inputs: tuple[Any, ...]) -> float:
    jax.block_until_ready(function(*inputs))
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(function(*inputs))
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def main() -> None:
    name, *paths = sys.argv[1:] or ["base"]
    print("| what | step or unit | value |\n|---|---|---|")
    for what, unit, value in measure_looks(
        jaxface.load_model(name), Path(paths[0]) if paths else None
    ):
        print(f"| {what} | {unit} | {value:.4g} |")


if __name__ == "__main__":
    main()
