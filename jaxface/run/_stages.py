"""The stages of a tracked clip as programs of their own, so that each can be measured.

The names of the scopes that they carry in a profile are in `SCOPES`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt8

from ..analyze import score_action_units
from ..detect import detect_faces
from ..fit import Phase, refine_fit, validate_landmarks
from ..models import Model
from ..ops import to_gray
from ..pipeline import Config, Face, Person, adapt_to_person_at_once, analyze_frame, start_person
from ..track import Tracked
from ..types import Camera, Fit, Gray
from ._programs import compiled, compiler_options

# Stage of the table and the `jax.named_scope`s that a profile shows for it.
SCOPES = {
    "detection": ("detect",),
    "fit": ("fit",),
    "validator": ("validate",),
    "pose and gaze": ("pose_gaze",),
    "alignment and FHOG": ("align", "fhog"),
    "action units": ("action_units",),
}


class StageInputs(eqx.Module):
    """What the stages take, for each frame of a chunk."""

    images: UInt8[Array, "c h w 3"]
    gray: Float[Array, "c h w"]
    before: Fit  # where the fit of each frame starts
    tracked: Tracked
    faces: Face


class _Settings(NamedTuple):
    """What all frames share."""

    model: Model
    size: Int[Array, "2"]
    camera: Camera
    config: Config


_Step = Callable[[_Settings, StageInputs], Any]  # of one frame
_Chunk = Callable[[_Settings, Person, StageInputs], tuple[Person, Any]]


def _detection(settings: _Settings, frame: StageInputs) -> Any:
    image, config = frame.images.astype(jnp.float32), settings.config.detect
    return detect_faces(settings.model.detector, image, size=settings.size, config=config)


def _fit(settings: _Settings, frame: StageInputs) -> Any:
    fit = refine_fit(
        settings.model.clnf,
        to_gray(frame.images.astype(jnp.float32)),
        frame.before,
        size=settings.size,
        config=settings.config.fit,
        phase=Phase.TRACK,
        phases=(Phase.TRACK,),
    )
    return fit.parameters, fit.landmarks, fit.parts  # XLA drops the validator


def _validator(settings: _Settings, frame: StageInputs) -> Any:
    fit, validator = frame.tracked.fit, settings.model.clnf.validator
    inputs = frame.gray, fit.landmarks, fit.parameters
    return validate_landmarks(validator, *inputs, size=settings.size)


def _measure(settings: _Settings, image: UInt8[Array, "h w 3"], tracked: Tracked) -> Face:
    return analyze_frame(
        settings.model,
        image,
        tracked.fit,
        settings.camera,
        success=tracked.success,
        skip_rejected=True,
        config=settings.config,
    )


def _pose_and_gaze(settings: _Settings, frame: StageInputs) -> Any:
    face = _measure(settings, frame.images, frame.tracked)
    return face.landmarks_3d, face.head_pose, face.gaze  # XLA drops the rest


def _appearance(settings: _Settings, frame: StageInputs) -> Any:
    face = _measure(settings, frame.images, frame.tracked)
    return face.aligned.astype(jnp.uint8), face.fhog, face.geometry


def _each(step: _Step) -> _Chunk:
    """A stage of frames that have nothing to do with each other."""

    def run(settings: _Settings, person: Person, chunk: StageInputs) -> tuple[Person, Any]:
        return person, lax.map(lambda frame: step(settings, frame), chunk)

    return run


def _action_units(
    settings: _Settings, person: Person, chunk: StageInputs
) -> tuple[Person, tuple[Float[Array, "c u"], Bool[Array, "c p"]]]:
    model, faces = settings.model, chunk.faces
    static = settings.config.static_action_units
    units = model.analyser.image if static else model.analyser.video
    scores = lax.map(
        lambda inputs: score_action_units(units, *inputs), (faces.fhog, faces.geometry)
    )
    faces = eqx.tree_at(lambda f: f.scores, faces, scores)
    valid = jnp.ones(len(faces.fhog), bool)
    person, faces = adapt_to_person_at_once(model, person, faces, valid, config=settings.config)
    return person, (faces.intensity, faces.presence)


_CHUNKS: dict[str, _Chunk] = dict(
    zip(
        SCOPES,
        (*map(_each, (_detection, _fit, _validator, _pose_and_gaze, _appearance)), _action_units),
        strict=True,
    )
)


class Stage(NamedTuple):
    """A compiled stage."""

    run: Callable[[StageInputs], object]  # all frames of a chunk; waits for the result
    flops: float  # of one frame by XLA's cost analysis, which counts the body of a loop once
    bytes_accessed: float


@compiled
def measure_faces(
    model: Model,
    images: UInt8[Array, "c h w 3"],
    tracked: Tracked,
    size: Int[Array, "2"],
    camera: Camera,
    config: Config,
) -> tuple[Float[Array, "c h w"], Face]:
    """Luma and faces of tracked frames, as the stages take them."""

    def measure(inputs: tuple[UInt8[Array, "h w 3"], Tracked]) -> tuple[Gray, Face]:
        image, tracked = inputs
        return to_gray(image.astype(jnp.float32)), _measure(settings, image, tracked)

    settings = _Settings(model, size, camera, config)
    return lax.map(measure, (images, tracked))


def stage_inputs(
    model: Model,
    images: UInt8[Array, "c h w 3"],
    before: Fit,
    tracked: Tracked,
    size: Int[Array, "2"],
    camera: Camera,
    config: Config,
) -> StageInputs:
    """Puts together what the stages take.

    Args:
        images: frames, on a canvas.
        before: fit of the frame before the first.
        tracked: result of `track_frame` on each frame.
        size: height and width of the pictures, px.
    """
    gray, faces = measure_faces(model, images, tracked, size, camera, config)
    starts = jax.tree.map(
        lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), before, tracked.fit
    )
    return StageInputs(images=images, gray=gray, before=starts, tracked=tracked, faces=faces)


def compile_stages(
    model: Model, inputs: StageInputs, size: Int[Array, "2"], camera: Camera, config: Config
) -> dict[str, Stage]:
    """Compiles each stage for chunks like `inputs`.

    Args:
        model: see `load_model`.
        inputs: any; only shapes count.
        size: height and width of the pictures, px.
        camera: intrinsics.
        config: settings.
    Returns:
        A stage per name in `SCOPES`.
    """
    settings = _Settings(jax.tree.map(jnp.asarray, model), size, camera, config)
    return {name: _compile(chunk, settings, inputs) for name, chunk in _CHUNKS.items()}


def _compile(chunk: _Chunk, settings: _Settings, inputs: StageInputs) -> Stage:
    shared, static = eqx.partition(settings, eqx.is_array)

    def whole(shared: _Settings, person: Person, inputs: StageInputs) -> tuple[Person, Any]:
        return chunk(eqx.combine(shared, static), person, inputs)

    # As in an analysis: what is known about the person stays where it is from chunk to chunk.
    person = start_person(settings.model, counts=np.dtype(np.uint16))
    program = jax.jit(whole, donate_argnums=1).lower(shared, person, inputs)
    program = program.compile(compiler_options())

    def run(inputs: StageInputs) -> Any:
        nonlocal person
        person, result = program(shared, person, inputs)
        return jax.block_until_ready(result)

    found = program.cost_analysis() or {}
    costs = found[0] if isinstance(found, list) else found  # a list up to JAX 0.4
    flops, moved = (float(costs.get(name, np.nan)) for name in ("flops", "bytes accessed"))
    return Stage(run, flops, moved)
