"""Every public function and every compiled program, lowered for GPUs without having them.

`jax.export` lowers for any platform by name. "METAL" is the name under which jax-metal registers.
"""

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import jaxface
from jaxface import Camera, Extras, Model
from jaxface.pipeline import start_person
from jaxface.reference.comparison.clips import Data, load
from jaxface.run import StoredFunction, _programs
from jaxface.track import SegmentConfig
from jaxface.types import FlatFrames, FlatImage

from .precision import double_precision

PLATFORMS = ("cuda", "METAL")  # CPUs run all other tests
# How JAX 0.4.34 exports `lax.top_k`, which jax-metal 0.1.1 has; newer JAX exports an operation.
ALLOWED_CALLS = {"mhlo.topk"}
# Of XLA's library on NVIDIA GPUs, behind `solve_spd`. JAX promises that it stays what it is.
LIBRARY_CALLS = {"cusolver_potrf_ffi"}
# What jax-metal 0.1.1 does not compile.
LACKING = ("cholesky", "triangular_solve", "fft", "complex")
COUNT, LANES, HEIGHT, WIDTH = 4, 2, 240, 320


def _shape(*shape: int, dtype: Any = jnp.float32) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


FLAG, NUMBER, SIZE = _shape(dtype=bool), _shape(dtype=jnp.int32), _shape(2, dtype=jnp.int32)
IMAGE, BOX = _shape(HEIGHT, WIDTH, 3), _shape(4)
POINTS = _shape(5, 2)
CLIP, VALID = _shape(COUNT, HEIGHT, WIDTH, 3, dtype=jnp.uint8), _shape(COUNT, dtype=bool)
CAMERA = jax.eval_shape(Camera, *[_shape()] * 4)
SEGMENTS, EXTRAS = SegmentConfig(count=2, longest=8), Extras(fhog=True, aligned=True)


def _closed(function: Callable, arguments: tuple) -> tuple[Callable, Any]:
    """A function of arrays alone, and their shapes; settings are closed over."""
    arrays, static = eqx.partition(arguments, lambda x: isinstance(x, jax.ShapeDtypeStruct))
    return lambda arrays: function(*eqx.combine(arrays, static)), arrays


def _result(function: Callable, *arguments: Any) -> Any:
    """Shapes of what a function returns."""
    closed, arrays = _closed(function, arguments)
    return eqx.filter_eval_shape(closed, arrays)


def _violations(function: Callable, *arguments: Any) -> list[str]:
    """What keeps an exported function from running on all platforms."""
    closed, arrays = _closed(function, arguments)
    jitted = jax.jit(closed)  # traced once
    found: set[str] = set()
    # JAX writes one program for several platforms: NVIDIA GPUs' branches would count as Metal's.
    for platform in PLATFORMS:
        exported = export.export(jitted, platforms=[platform])(arrays)
        found |= _lacks(exported, on_cuda=platform == "cuda")
    return sorted(found)


def _lacks(exported: export.Exported, *, on_cuda: bool) -> set[str]:
    text = exported.mlir_module()
    calls = set(re.findall(r"custom_call\s*@([\w.]+)", text))
    allowed = ALLOWED_CALLS | LIBRARY_CALLS if on_cuda else ALLOWED_CALLS
    found = {f"custom call {name}" for name in calls - allowed}
    if not on_cuda and re.search(r"[x<]f64\b", text):
        found.add("float64")
    lacking = () if on_cuda else LACKING
    found |= {word for word in lacking if re.search(rf"stablehlo\.{word}\b|\b{word}<", text)}
    return found | {str(e) for e in (*exported.ordered_effects, *exported.unordered_effects)}


@pytest.fixture(scope="module")
def models(openface_dir, model_dir) -> Callable[[str], Model]:
    """Models with shapes in place of arrays."""

    @functools.cache
    def abstract(kind: str) -> Model:
        model = load(Data(openface_dir, model_dir), kind)
        return jax.tree.map(lambda x: _shape(*x.shape, dtype=x.dtype), model)

    return abstract


# Public functions


def _fit_landmarks(model: Model) -> tuple[Callable, tuple]:
    def fit(clnf, image, box):
        return jaxface.fit_landmarks(clnf, jaxface.to_gray(image), box, config=config.fit)

    config = jaxface.default_config(model)
    return fit, (model.clnf, IMAGE, BOX)


def _track_frame(model: Model) -> tuple[Callable, tuple]:
    step = functools.partial(jaxface.track_frame, config=jaxface.default_config(model))
    return step, (model, _result(jaxface.start_track, model.clnf), IMAGE)


def _analyze_frame(model: Model) -> tuple[Callable, tuple]:
    track = _result(jaxface.start_track, model.clnf)
    return jaxface.analyze_frame, (model, IMAGE, track.fit, CAMERA)


def _clip_frame(model: Model) -> tuple[Callable, tuple]:
    config = dataclasses.replace(jaxface.default_config(model), online=True)
    step = functools.partial(jaxface.clip_frame, config=config)
    return step, (model, _result(jaxface.start_clip, model), IMAGE, CAMERA)


def _several_frame(model: Model) -> tuple[Callable, tuple]:
    config = jaxface.default_config(model, static_action_units=True)
    step = functools.partial(jaxface.several_frame, config=config)
    return step, (model, _result(jaxface.start_several, model), IMAGE, CAMERA)


FUNCTIONS: dict[str, Callable[[Model], tuple[Callable, tuple]]] = {
    "detect_faces": lambda model: (jaxface.detect_faces, (model.detector, IMAGE)),
    "fit_landmarks": _fit_landmarks,
    "track_frame": _track_frame,
    "analyze_frame": _analyze_frame,
    "clip_frame": _clip_frame,
    "several_frame": _several_frame,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_public_functions(models, name):
    function, arguments = FUNCTIONS[name](models("openface"))
    assert _violations(function, *arguments) == []


@pytest.mark.parametrize("name", ("detect_faces", "fit_landmarks", "clip_frame"))
def test_the_model_of_our_own(name):
    model = jax.tree.map(lambda x: _shape(*x.shape, dtype=x.dtype), jaxface.load_model())
    function, arguments = FUNCTIONS[name](model)
    assert _violations(function, *arguments) == []


@pytest.mark.parametrize("kind", ("openface-ceclm", "openface-clm"))
def test_other_kinds_of_patch_experts(models, kind):
    function, arguments = _fit_landmarks(models(kind))
    assert _violations(function, *arguments) == []


# Programs that `analyze_video` and `analyze_image` compile


def _plain(name: str) -> Callable:
    """A program without its compilation."""
    return getattr(_programs, name).__wrapped__


PROGRAMS = [name for name, thing in vars(_programs).items() if isinstance(thing, StoredFunction)]


def _arguments(name: str, model: Model) -> tuple:
    """What a program is called with."""
    config = jaxface.default_config(model)
    state = _result(_plain("first_track_state"), model)
    person = _result(start_person, model)
    rows = _shape(COUNT, LANES, dtype=jnp.int32)

    def several(tree: Any, count: int) -> Any:
        return jax.tree.map(lambda x: _shape(count, *x.shape, dtype=x.dtype), tree)

    def tracked() -> Any:
        return _result(_plain("track_chunk"), model, state, clip, VALID, SIZE, plan, config)[1]

    length = HEIGHT * WIDTH
    plan = model.detector.plan(HEIGHT, WIDTH, length, model.detector.config)
    plan = jax.tree.map(lambda x: _shape(*x.shape, dtype=x.dtype), plan)
    flat = jax.eval_shape(FlatImage, _shape(length, 3, dtype=jnp.uint8), SIZE, NUMBER)
    clip = jax.eval_shape(FlatFrames, _shape(COUNT, length, 3, dtype=jnp.uint8), SIZE, NUMBER)
    gray = _result(_plain("gray_program"), clip)
    return {
        "flat_detect_program": lambda: (model, flat, plan, config),
        "detect_program": lambda: (model, IMAGE, SIZE, config),
        "analyze_box": lambda: (
            *(model, flat, BOX, POINTS, CAMERA, SIZE),
            dataclasses.replace(config, static_action_units=True),
        ),
        "track_chunk": lambda: (model, state, clip, VALID, SIZE, plan, config),
        "gray_program": lambda: (clip,),
        "ahead_program": lambda: (
            *(model, several(state.fit, LANES), (gray, gray), rows),
            *(_shape(COUNT, LANES, dtype=jnp.bool_), _shape(LANES, 2, dtype=jnp.int32), config),
        ),
        "scout_program": lambda: (model, state.fit, gray, NUMBER, NUMBER, SIZE, config, SEGMENTS),
        "measure_chunk": lambda: (model, person, clip, VALID, tracked(), CAMERA, config, EXTRAS),
        "several_chunk": lambda: (
            *(model, _result(_plain("first_several_state"), model), clip, VALID, SIZE, plan),
            CAMERA,
            *(dataclasses.replace(config, static_action_units=True), EXTRAS),
        ),
        "first_track_state": lambda: (model,),
        "first_person": lambda: (model, np.dtype(np.uint16)),
        "first_several_state": lambda: (model,),
        "final_medians": lambda: (person,),
    }[name]()


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(models, name):
    model = models("openface")
    assert _violations(_plain(name), *_arguments(name, model)) == []


# What must not pass


@pytest.mark.parametrize("platforms", (("METAL",), PLATFORMS), ids=("METAL", "all"))
def test_what_metal_lacks_is_noticed(monkeypatch, platforms):
    monkeypatch.setattr(f"{__name__}.PLATFORMS", platforms)
    assert "cholesky" in _violations(jnp.linalg.cholesky, _shape(6, 6))
    assert "fft" in _violations(jnp.fft.rfft, _shape(6))


def test_a_library_call_is_noticed(monkeypatch):
    monkeypatch.setattr(f"{__name__}.PLATFORMS", ("cpu",))
    (found,) = _violations(jnp.linalg.eigh, _shape(6, 6))
    assert found.startswith("custom call lapack")


def test_a_callback_is_noticed(monkeypatch):
    monkeypatch.setattr(f"{__name__}.PLATFORMS", ("cpu",))

    def log(x):
        jax.debug.print("{}", x)
        return x

    with pytest.raises(NotImplementedError, match="debug_(callback|print)|callbacks"):
        _violations(log, _shape(3))


def test_double_precision_is_noticed():
    with double_precision():
        assert _violations(lambda x: x * 2, _shape(3, dtype=jnp.float64)) == ["float64"]
