"""The compiled programs: the only place that calls jit and scans over frames."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt8

from ..analyze import baseline_medians
from ..detect import Pyramid, detect_faces
from ..fit import fit_landmarks
from ..models import Model
from ..ops import select, to_gray
from ..pipeline import (
    ClipFace,
    Config,
    Person,
    SeveralFaces,
    SeveralState,
    analyze_frame,
    luma_of,
    measure_clip,
    pause_several,
    several_frame,
    single_image,
    start_person,
    start_several,
    track_clip,
)
from ..track import SegmentConfig, Tracked, TrackState, run_ahead, scout_segments, start_track
from ..types import (
    Box,
    Camera,
    Detections,
    Fit,
    FivePoints,
    FlatFrames,
    FlatImage,
    Image,
    PDMParameters,
)
from ._chunks import DeviceFrames
from ._stored import StoredFunction

Grays = UInt8[Array, "c h2 w2"] | UInt8[Array, "c l"]  # luma, see `pipeline.luma_of`


class Extras(NamedTuple):
    """Which large arrays are brought back from the device."""

    fhog: bool = False
    aligned: bool = False


@functools.cache
def compiler_options() -> dict[str, str | bool]:
    """The options that the package's own programs are compiled with, for `jax.jit`.

    XLA's newer code generator for CPUs takes 1.8 GB and 43 s of CPU to compile a tracked frame; the
    older one takes 0.9 GB and 25 s, for code of the same speed. Functions of your own give the
    package's results to the last bit only with the same options:
    `jax.jit(function, compiler_options=jaxface.compiler_options())`.

    Returns:
        Names and values; none where the device or this JAX has no such option.
    """
    options: dict[str, str | bool] = {"xla_cpu_use_fusion_emitters": False}
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x, compiler_options=options)(np.float32(0)).block_until_ready()
    except (TypeError, RuntimeError):  # this JAX has no such option: it has no newer generator
        return {}
    return options


def compiled(function: Callable, *, donated: tuple[int, ...] = ()) -> StoredFunction:
    """A program with our compiler options; see `StoredFunction`."""
    return StoredFunction(function, compiler_options, donated=donated)


@compiled
def detect_program(
    model: Model, image: Image | UInt8[Array, "h w 3"], size: Int[Array, "2"], config: Config
) -> Detections:
    return detect_faces(model.detector, image.astype(jnp.float32), size=size, config=config.detect)


@compiled
def flat_detect_program(
    model: Model, image: FlatImage, plan: Pyramid, config: Config
) -> Detections:
    return detect_faces(model.detector, image, plan=plan, config=config.detect)


@compiled
def analyze_box(
    model: Model,
    image: Image | UInt8[Array, "h w 3"] | FlatImage,
    box: Box,
    points: FivePoints,
    camera: Camera,
    size: Int[Array, "2"],
    config: Config,
) -> ClipFace:
    fit = fit_landmarks(
        model.clnf, to_gray(image), box, points=points, size=size, config=config.fit
    )
    succeeded = jnp.ones((), bool)  # OpenFace gives the gaze of every face in an image
    face = analyze_frame(model, image, fit, camera, success=succeeded, config=config)
    return single_image(eqx.tree_at(lambda f: f.success, face, fit.success), model)


def slim(face: ClipFace, extras: Extras) -> ClipFace:
    """Drops what the host does not need."""
    wanted = (
        face.face.aligned.astype(jnp.uint8) if extras.aligned else None,
        face.face.fhog.reshape(*face.face.fhog.shape[:-3], -1) if extras.fhog else None,
        None,
    )
    return eqx.tree_at(lambda f: (f.face.aligned, f.face.fhog, f.face.geometry), face, wanted)


@compiled
def track_chunk(
    model: Model,
    state: TrackState,
    frames: DeviceFrames,
    valid: Bool[Array, " c"],
    size: Int[Array, "2"],
    plan: Any,
    config: Config,
) -> tuple[TrackState, Tracked]:
    settings = {"size": size, "plan": plan, "config": config}
    return track_clip(model, frames, valid=valid, state=state, **settings)


@compiled
def gray_program(frames: DeviceFrames) -> Grays:
    """Luma of each frame, as `run_ahead` takes it."""
    return luma_of(frames)


@compiled
def ahead_program(
    model: Model,
    fits: Fit,
    grays: tuple[Grays, ...],
    rows: Int[Array, "t b"],
    valid: Bool[Array, "t b"],
    sizes: Int[Array, "b 2"],
    config: Config,
) -> Fit:
    """`run_ahead` through a pool that lies in several arrays, one behind the other."""
    (pool,) = grays if len(grays) == 1 else (jnp.concatenate(grays),)
    return run_ahead(model.clnf, fits, pool, rows, valid, sizes=sizes, config=config.fit)


@compiled
def scout_program(
    model: Model,
    fit: Fit,
    gray: Grays,
    start: Int[Array, ""],
    length: Int[Array, ""],
    size: Int[Array, "2"],
    config: Config,
    segments: SegmentConfig,
) -> PDMParameters:
    settings = {"size": size, "config": config.fit, "segments": segments}
    return scout_segments(model.clnf, fit.parameters, gray, start, length, **settings)


@functools.partial(compiled, donated=(1,))
def measure_chunk(
    model: Model,
    person: Person,
    frames: DeviceFrames,
    valid: Bool[Array, " c"],
    tracked: Tracked,
    camera: Camera,
    config: Config,
    extras: Extras,
) -> tuple[Person, ClipFace]:
    return measure_clip(
        *(model, person, frames, tracked, camera),
        valid=valid,
        keep=lambda face: slim(face, extras),
        config=config,
    )


@compiled
def several_chunk(
    model: Model,
    state: SeveralState,
    frames: DeviceFrames,
    valid: Bool[Array, " c"],
    size: Int[Array, "2"],
    plan: Any,
    camera: Camera,
    config: Config,
    extras: Extras,
) -> tuple[SeveralState, SeveralFaces]:
    flat = isinstance(frames, FlatFrames)

    def step(state, inputs):
        frame, live = inputs
        # The detector converts flat bytes one by one, as it reads them.
        image = FlatImage(frame, *place) if flat else frame.astype(jnp.float32)
        start = select(live, state, pause_several(model, state))
        settings = {"size": size, "plan": plan, "config": config}
        after, faces = several_frame(model, start, image, camera, **settings)
        faces = eqx.tree_at(lambda f: f.faces, faces, slim(faces.faces, extras))
        return select(live, after, state), faces

    pixels, *place = (frames.pixels, frames.size, frames.pitch) if flat else (frames,)
    return lax.scan(step, state, (pixels, valid))


@compiled
def first_track_state(model: Model) -> TrackState:
    return start_track(model.clnf)


@compiled
def first_person(model: Model, counts: np.dtype) -> Person:
    return start_person(model, counts=counts)


@compiled
def first_several_state(model: Model) -> SeveralState:
    return start_several(model)


@compiled
def final_medians(person: Person) -> Float[Array, " d"]:
    return baseline_medians(person.baseline)
