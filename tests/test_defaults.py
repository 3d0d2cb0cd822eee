"""`config=None` is the model's own settings in every public function that takes settings."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxface
from jaxface import Analysis, Model
from jaxface.output import Table

from .head_clip import CLIP, camera, read_frames

_SIZE = (240, 320)  # px; what is only lowered, not run
_FEW = 3  # frames


@pytest.fixture(scope="module")
def model() -> Model:
    return jaxface.load_model()


def _arguments(name: str) -> dict[str, inspect.Parameter]:
    """Of a public function or of a class that is no record, by name; {} for the others."""
    thing = getattr(jaxface, name)
    made = inspect.isclass(thing) and not dataclasses.is_dataclass(thing)
    function = thing.__init__ if made else thing
    return dict(inspect.signature(function).parameters) if inspect.isfunction(function) else {}


# `prepare_model` prepares for given settings: it needs no default.
SETTABLE = [name for name in jaxface.__all__ if "config" in _arguments(name)]
SETTABLE.remove("prepare_model")


@pytest.mark.parametrize("name", SETTABLE)
def test_the_default_is_none(name):
    """Settings as a default would be the same for every model."""
    assert _arguments(name)["config"].default is None


# Pure functions: the same program, by its text


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


_IMAGE = jax.ShapeDtypeStruct((*_SIZE, 3), jnp.float32)
_GRAY = jax.ShapeDtypeStruct(_SIZE, jnp.float32)
_BOX = jax.ShapeDtypeStruct((4,), jnp.float32)


def _state(start: Callable, thing: Any) -> Any:
    return _shapes(eqx.filter_eval_shape(start, thing))


# Arguments as shapes, and the settings that None stands for.
_PURE: dict[str, Callable[[Model], tuple[tuple, Any]]] = {
    "detect_faces": lambda model: (
        (model.detector, _IMAGE),
        jaxface.default_config(model).detect,
    ),
    "fit_landmarks": lambda model: (
        (model.clnf, _GRAY, _BOX),
        jaxface.default_config(model).fit,
    ),
    "track_frame": lambda model: (
        (model, _state(jaxface.start_track, model.clnf), _IMAGE),
        jaxface.default_config(model),
    ),
    "clip_frame": lambda model: (
        (model, _state(jaxface.start_clip, model), _IMAGE, _shapes(camera())),
        jaxface.default_config(model),
    ),
    "analyze_frame": lambda model: (
        (model, _IMAGE, _state(jaxface.start_track, model.clnf).fit, _shapes(camera())),
        jaxface.default_config(model),
    ),
    "several_frame": lambda model: (
        (model, _state(jaxface.start_several, model), _IMAGE, _shapes(camera())),
        jaxface.default_config(model, static_action_units=True),
    ),
    "detect_many": lambda model: (
        (model.detector, _stacked(_IMAGE)),
        jaxface.default_config(model).detect,
    ),
    "fit_many": lambda model: (
        (model.clnf, _stacked(_GRAY), _stacked(_BOX)),
        jaxface.default_config(model).fit,
    ),
    "track_clip": lambda model: ((model, _stacked(_IMAGE)), jaxface.default_config(model)),
    "analyze_clip": lambda model: (
        (model, _stacked(_IMAGE), _shapes(camera())),
        jaxface.default_config(model),
    ),
    "track_lanes": lambda model: (
        (model, _stacked(_stacked(_IMAGE))),
        jaxface.default_config(model),
    ),
    "analyze_lanes": lambda model: (
        (model, _stacked(_stacked(_IMAGE)), jax.tree.map(_stacked, _shapes(camera()))),
        jaxface.default_config(model),
    ),
    "finish_clip": lambda model: (
        (model, *eqx.filter_eval_shape(jaxface.analyze_clip, *_PURE["analyze_clip"](model)[0])),
        jaxface.default_config(model),
    ),
    "landmark_uncertainty": lambda model: (
        (model.clnf, _GRAY, _state(jaxface.start_track, model.clnf).fit),
        jaxface.default_config(model).fit,
    ),
    "face_uncertainty": lambda model: (
        (model, _IMAGE, _state(jaxface.start_track, model.clnf).fit, _shapes(camera())),
        jaxface.default_config(model),
    ),
}


def _stacked(shape: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((_FEW, *shape.shape), shape.dtype)


def _text(name: str, arguments: tuple, config: Any) -> str:
    """The program of a public function with some settings, as XLA takes it."""
    function = functools.partial(getattr(jaxface, name), config=config)
    # The name of the program, not its content, tells the settings apart.
    return jax.jit(lambda *arguments: function(*arguments)).lower(*arguments).as_text()


@pytest.mark.parametrize("name", _PURE)
def test_pure_functions(model, name):
    arguments, config = _PURE[name](_shapes(model))
    assert _text(name, arguments, None) == _text(name, arguments, config)


def test_other_settings_are_another_program(model):
    """Else the comparisons above could not fail."""
    arguments, config = _PURE["detect_faces"](_shapes(model))
    other = dataclasses.replace(config, factor=0.5)
    assert _text("detect_faces", arguments, config) != _text("detect_faces", arguments, other)


# Functions of the host: the same values


def _results(model: Model, name: str, config: Any) -> list[Any]:
    """What a function makes of a few frames, with settings or without."""
    frames = read_frames(_FEW)
    if name == "ClipAnalysis":
        with pytest.warns(DeprecationWarning):
            clip = jaxface.ClipAnalysis(model, frames, config=config)
        return [clip.collect(list(clip))]
    if name in ("analyze_batch", "analyze_images"):
        inputs = [frames] if name == "analyze_batch" else [frames[0]]
        return getattr(jaxface, name)(model, inputs, config=config)
    return [getattr(jaxface, name)(model, frames[0] if "image" in name else frames, config=config)]


_HOST = ("ClipAnalysis", "analyze_batch", "analyze_image", "analyze_images", "analyze_video")


@pytest.mark.parametrize("name", _HOST)
def test_host_functions(model, name):
    config = jaxface.default_config(model, static_action_units="image" in name)
    ours, explicit = (_results(model, name, settings) for settings in (None, config))
    assert len(ours) == 1
    _assert_same(ours[0], explicit[0])


def test_several_faces(model):
    config = jaxface.default_config(model, static_action_units=True)
    ours, explicit = (
        jaxface.analyze_video(model, read_frames(_FEW), faces="all", config=settings)
        for settings in (None, config)
    )
    _assert_same(ours, explicit)


def _assert_same(ours: Analysis, explicit: Analysis) -> None:
    assert isinstance(ours, Analysis) and ours.success.any()
    for field in dataclasses.fields(Table):
        name = field.name
        np.testing.assert_array_equal(getattr(ours, name), getattr(explicit, name), name)


def test_every_function_is_checked():
    assert sorted([*_PURE, *_HOST]) == SETTABLE
    assert CLIP.is_file()
