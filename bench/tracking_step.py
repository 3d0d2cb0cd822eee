"""The step that is counted: several faces, the lanes, followed from one frame into the next.

The one place that knows which function of the package that is.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxface
from jaxface.fit import border_luma, empty_fit, follow_lanes, parameters_from_box, shape_2d

CLIP = Path(__file__).resolve().parent / "data" / "talking_head.mp4"
_BOX = (225.9, 202.4, 427.8, 397.8)  # of the face in the first frame, as MTCNN gives it, px
_FRAMES = 4
_WARM_UP = 3  # steps from the mean shape in the box to a face that is followed


class Step(NamedTuple):
    """A function and what it is called with."""

    function: Callable
    arguments: tuple[Any, ...]

    def lower(self) -> Any:
        """Lowered for the device at hand."""
        return jax.jit(self.function).lower(*self.arguments)

    def compile(self) -> Any:
        """Compiled for the device at hand, as the package compiles."""
        return self.lower().compile(compiler_options=jaxface.compiler_options())

    def settle(self, program: Any) -> "Step":
        """The step of faces that were followed for some frames, by the compiled step."""
        model, luma, fits = self.arguments
        for _ in range(_WARM_UP):
            fits = program(model, luma, fits)
        return Step(self.function, (model, jnp.roll(luma, 1, axis=0), fits))


def tracking_step(model: jaxface.Model, lanes: int, clip: str | Path = CLIP) -> Step:
    """Without detector, search and validator, which are programs or products of their own.

    Lanes see the first frames of the clip, one after the other.

    Args:
        model: prepared.
    """
    frames = list(itertools.islice(iter(jaxface.read_video(clip)), _FRAMES))
    luma = border_luma(jnp.stack([jaxface.to_gray(jnp.asarray(frame)) for frame in frames]))
    pdm, box = model.clnf.main.pdm, jnp.asarray(np.array(_BOX, np.float32))
    parameters = parameters_from_box(pdm, box, jnp.zeros(3))
    first = empty_fit(model.clnf)
    first = jax.tree.map(jnp.asarray, first)
    start = jaxface.Fit(
        parameters=parameters,
        landmarks=shape_2d(pdm, parameters),
        likelihood=first.likelihood,
        confidence=first.confidence,
        success=jnp.ones((), bool),
        view=first.view,
        parts=first.parts,
    )
    fits = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (lanes, *leaf.shape)), start)

    def step(model: jaxface.Model, luma: jax.Array, fits: jaxface.Fit) -> jaxface.Fit:
        return follow_lanes(model.clnf, luma, fits)[0]

    return Step(step, (model, luma[np.arange(lanes) % len(frames)], fits))
