"""What is learnt about a person from many frames at once, against one frame after the other."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxface
from jaxface import Model
from jaxface.analyze import STORED
from jaxface.pipeline import (
    ClipFace,
    Config,
    Face,
    Person,
    adapt_to_person,
    adapt_to_person_at_once,
    analyze_frame,
    choose_person,
    start_person,
)
from jaxface.run._clip import with_room

from .head_clip import camera
from .test_action_units import make_units
from .toy_face import toy_model

# AU units; a sum of 4470 products of up to 1 may be taken in another order
_TOL: dict[str, Any] = dict(rtol=0, atol=2e-5)
_FRAMES = 8
_SHORT = np.dtype(np.uint16)


@pytest.fixture(scope="module")
def model() -> Model:
    toy = toy_model()
    pdm = toy.analyser.pdm
    features = 4464 + pdm.mean_shape.size + pdm.eigenvalues.size
    units = make_units(np.random.default_rng(0), features)
    return eqx.tree_at(lambda m: m.analyser.video, toy, units)


@pytest.fixture(scope="module")
def faces(model) -> Face:
    """Faces with random descriptors."""
    rng = np.random.default_rng(1)

    def measure(image: jax.Array) -> Face:
        fit = jaxface.start_track(model.clnf).fit
        return analyze_frame(model, image, fit, camera(), config=jaxface.default_config(model))

    shapes = jax.eval_shape(jax.vmap(measure), jnp.zeros((_FRAMES, 112, 112, 3)))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def draw(like: Any) -> jax.Array:
        return jnp.asarray(rng.uniform(0, 0.4, like.shape), jnp.float32)

    measured = (draw(zeros.fhog), draw(zeros.geometry), jax.tree.map(draw, zeros.scores))
    return eqx.tree_at(lambda f: (f.fhog, f.geometry, f.scores), zeros, measured)


@eqx.filter_jit
def _at_once(
    model: Model, person: Person, faces: Face, valid: jax.Array, config: Config
) -> tuple[Person, ClipFace]:
    return adapt_to_person_at_once(model, person, faces, valid, config=config)


@eqx.filter_jit
def _next(
    model: Model, person: Person, face: Face, live: jax.Array, config: Config
) -> tuple[Person, ClipFace]:
    after, result = adapt_to_person(model, person, face, config=config)
    return choose_person(live, after, person), result


@pytest.mark.parametrize("online", [False, True], ids=["offline", "online"])
@pytest.mark.parametrize(
    "before",
    [0, STORED - 3, STORED + 7],
    ids=["a clip's start", "over the limit within the chunk", "beyond the limit"],
)
def test_frames_at_once_are_frames_one_after_the_other(model, faces, before, online):
    config = dataclasses.replace(jaxface.default_config(model), online=online)
    accepted = jnp.array([True, True, False, True, True, True, False, True])
    valid = jnp.array([True, True, True, True, False, True, True, False])
    faces = eqx.tree_at(lambda f: f.accepted, faces, accepted)
    person = start_person(model)
    for face in (jax.tree.map(lambda x, k=k: x[k], faces) for k in range(5)):
        person, _ = _next(model, person, face, jnp.asarray(True), config)
    person = eqx.tree_at(lambda p: p.accepted, person, jnp.asarray(before, jnp.int32))
    found, result = _at_once(model, person, faces, valid, config)
    for k in range(_FRAMES):
        face = jax.tree.map(lambda x, k=k: x[k], faces)
        person, expected = _next(model, person, face, valid[k], config)
        if valid[k]:
            np.testing.assert_array_equal(result.presence[k], expected.presence)
            np.testing.assert_allclose(result.intensity[k], expected.intensity, **_TOL)
    jax.tree.map(np.testing.assert_array_equal, found, person)
    late = np.asarray(
        result.intensity[valid & accepted] != faces.scores.intensity[valid & accepted]
    )
    assert late.any() == (online or before > 0)  # the medians came off, or not


def test_derivative_in_reverse_mode(model, faces):
    """Through a state that is differentiated too: learnt values are constants, scores are not."""
    config, valid = jaxface.default_config(model), jnp.ones(_FRAMES, bool)
    accepted = jnp.array([True, True, False, True, True, True, False, True])
    faces = eqx.tree_at(lambda f: f.accepted, faces, accepted)
    start = eqx.tree_at(lambda p: p.accepted, start_person(model), jnp.asarray(STORED, jnp.int32))

    @jax.jit
    def slopes(latest: jax.Array, measured: tuple) -> Any:
        def total(latest: jax.Array, measured: tuple) -> jax.Array:
            person = eqx.tree_at(lambda p: p.baseline.latest, start, latest)
            mine = eqx.tree_at(lambda f: (f.fhog, f.scores.intensity), faces, measured)
            _, result = adapt_to_person_at_once(model, person, mine, valid, config=config)
            return jnp.sum(result.intensity)

        return jax.grad(total, (0, 1))(latest, measured)

    latest = jnp.ones_like(start.baseline.latest)
    by_latest, (by_fhog, by_score) = slopes(latest, (faces.fhog, faces.scores.intensity))
    np.testing.assert_array_equal(by_latest, 0)
    np.testing.assert_array_equal(by_fhog, 0)
    np.testing.assert_array_equal(by_score, np.repeat(accepted[:, None], by_score.shape[1], 1))


def test_histograms_are_widened_before_they_overflow(model):
    person = start_person(model, counts=_SHORT)
    counted = jnp.asarray(65535 - _FRAMES, jnp.int32)
    full = eqx.tree_at(lambda p: p.baseline.counted, person, counted)
    assert with_room(person, _FRAMES) is person
    assert with_room(full, _FRAMES) is full
    wide = with_room(full, _FRAMES + 1)
    assert wide.baseline.fhog.fine.dtype == wide.baseline.geometry.fine.dtype == np.int32
    assert with_room(wide, _FRAMES + 1) is wide
