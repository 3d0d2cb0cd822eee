"""`jax.vmap` of the public functions is a loop: its cost, its values, and derivatives through it.

A `lax.cond` on batched data would become a select, which computes both branches for every item.
"""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr

import jaxface
from jaxface import Camera, Model
from jaxface.ops import call_in_turn

from .toy_face import SIZE, draw_face, toy_model, true_points

_SAME = dict(rtol=1e-5, atol=1e-5)  # float32; the order of sums may differ
_NO_DEARER = 2.0  # times a loop's; measured 1.0. With selects it was 33

K, X, Y = (jax.random.normal(key, (3, 4)) for key in jax.random.split(jax.random.key(0), 3))
NUMBERS = jnp.asarray([0, 1, 2])
WEIGHTS = {"w": 1.3 + K[0] / 9, "none": None}


def branching(weights: dict, x: jax.Array, y: jax.Array, number: jax.Array) -> dict[str, Any]:
    """Loops and branches on its data, with results of several types."""

    def step(x: jax.Array, _) -> tuple[jax.Array, None]:
        wave = lambda x: jnp.sin(x) * weights["w"]  # noqa: E731
        return lax.cond(jnp.sum(x) > 0, wave, lambda x: x**2 + y, x), None

    x = lax.scan(step, x, None, length=3)[0]
    x = jnp.where(number > 1, x, 2 * x)
    return {"x": x, "best": jnp.argmax(x), "high": jnp.sum(x) > 0, "sum": jnp.sum(x)}


def in_turn(*args: Any) -> dict[str, Any]:
    return call_in_turn(branching, *args)


def _over_batch(function: Callable) -> Callable:
    return jax.vmap(function, in_axes=(None, 0, 0, 0))


def _loss(function: Callable) -> Callable:
    def loss(*args: Any) -> jax.Array:
        found = function(*args)
        return found["sum"] ** 2 + jnp.sum(found["x"] ** 3)

    return loss


def _by_x(function: Callable) -> Callable:
    return lambda x: function(WEIGHTS, x, Y[0], NUMBERS[0])["x"]


def _pairs(function: Callable) -> Callable:
    """Every x with every y: a `vmap` in a `vmap`."""

    def all_y(x: jax.Array) -> jax.Array:
        return jax.vmap(lambda y: function(WEIGHTS, x, y, NUMBERS[0])["x"])(Y)

    return jax.vmap(all_y)


def _grad(function: Callable) -> Callable:
    return jax.grad(_loss(function), argnums=(0, 1, 2))


def _in_a_scan(function: Callable) -> Callable:
    def run(x: jax.Array) -> jax.Array:
        follow = lambda x, y: (function(WEIGHTS, x, y, NUMBERS[0])["x"], None)  # noqa: E731
        return jnp.sum(lax.scan(follow, x, Y)[0])

    return run


BATCH, ITEM = (WEIGHTS, X, Y, NUMBERS), (WEIGHTS, X[0], Y[0], NUMBERS[0])
TRANSFORMED: dict[str, tuple[Callable[[Callable], Callable], tuple]] = {
    "call": (lambda f: f, ITEM),
    "vmap": (_over_batch, BATCH),
    "grad": (_grad, ITEM),
    "vmap of grad": (lambda f: _over_batch(_grad(f)), BATCH),
    "grad of vmap": (
        # By the weights too, which all items share: their derivatives are added up.
        lambda f: jax.grad(lambda *args: jnp.sum(_over_batch(_loss(f))(*args)), (0, 1, 2)),
        BATCH,
    ),
    "jvp": (lambda f: lambda x, dot: jax.jvp(_by_x(f), (x,), (dot,)), (X[0], Y[1])),
    "vmap of jvp": (
        lambda f: jax.vmap(lambda x, dot: jax.jvp(_by_x(f), (x,), (dot,))),
        (X, Y),
    ),
    "vmap of jacfwd": (lambda f: jax.vmap(jax.jacfwd(_by_x(f))), (X,)),
    "vmap of jacrev": (lambda f: jax.vmap(jax.jacrev(_by_x(f))), (X,)),
    "jacrev of vmap": (lambda f: jax.jacrev(jax.vmap(_by_x(f))), (X,)),
    "hessian": (lambda f: jax.hessian(_by_x(f)), (X[0],)),
    "vmap of hessian": (lambda f: jax.vmap(jax.hessian(_by_x(f))), (X,)),
    "vmap of jacrev of jacrev": (lambda f: jax.vmap(jax.jacrev(jax.jacrev(_by_x(f)))), (X,)),
    "vmap of vmap": (_pairs, (X,)),
    "grad of vmap of vmap": (lambda f: jax.grad(lambda x: jnp.sum(_pairs(f)(x) ** 2)), (X,)),
    "vmap of grad of vmap": (
        lambda f: jax.vmap(jax.grad(lambda x: jnp.sum(_pairs(f)(x[None]) ** 2))),
        (X,),
    ),
    "vmap of grad of scan": (lambda f: jax.vmap(jax.grad(_in_a_scan(f))), (X,)),
    "vmap of grad of checkpoint": (
        lambda f: jax.vmap(jax.grad(jax.checkpoint(_in_a_scan(f)))),
        (X,),
    ),
    "vmap of grad of jit": (
        lambda f: jax.vmap(jax.grad(lambda x: jnp.sum(jax.jit(_by_x(f))(x)))),
        (X,),
    ),
    "another axis": (lambda f: jax.vmap(_by_x(f), in_axes=1, out_axes=1), (X.T,)),
    "nothing to differentiate": (
        lambda f: jax.grad(lambda x: jnp.sum(x) * f(WEIGHTS, X[0], Y[0], NUMBERS[0])["sum"]),
        (X,),
    ),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_transformations_of_a_function_called_in_turn(name):
    """Against plain `vmap`, whose selects give the same values."""
    transform, args = TRANSFORMED[name]
    found = jax.jit(transform(in_turn))(*args)
    expected = jax.jit(transform(branching))(*args)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, err_msg=name, **_SAME)


def test_without_jit():
    found = _over_batch(_grad(in_turn))(*BATCH)
    expected = jax.jit(_over_batch(_grad(branching)))(*BATCH)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **_SAME), found, expected)


def test_what_is_closed_over_may_be_differentiated_and_mapped():
    def of_y(y: jax.Array) -> jax.Array:
        return call_in_turn(lambda x: branching(WEIGHTS, x, y, NUMBERS[0])["sum"], X[0])

    def plain(y: jax.Array) -> jax.Array:
        return branching(WEIGHTS, X[0], y, NUMBERS[0])["sum"]

    found, expected = (jax.jit(jax.vmap(jax.grad(f)))(Y) for f in (of_y, plain))
    np.testing.assert_allclose(found, expected, **_SAME)


# Public functions: no branch is lost, which needs no compilation to be seen


def _count_branches(jaxpr: Jaxpr) -> int:
    """The conds in a program, those of its loops and functions included."""
    inner = (part for eqn in jaxpr.eqns for part in _programs(list(eqn.params.values())))
    return sum(eqn.primitive.name == "cond" for eqn in jaxpr.eqns) + sum(map(_count_branches, inner))


def _programs(value: Any) -> Iterator[Jaxpr]:
    if isinstance(value, ClosedJaxpr):
        yield value.jaxpr
    elif isinstance(value, Jaxpr):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _programs(item)


def _branches(function: Callable, *args: Any) -> int:
    return _count_branches(jax.make_jaxpr(function)(*args).jaxpr)


@functools.cache
def _model() -> Model:
    return jaxface.load_model("base")


IMAGES = jnp.zeros((2, *SIZE, 3), jnp.uint8)
BOXES = jnp.asarray([[40.0, 20, 120, 100]] * 2)
CAMERA = Camera(*map(jnp.float32, (200, 200, 80, 60)))


def _detect(image: jax.Array) -> Any:
    return jaxface.detect_faces(_model().detector, image)


def _fit(image: jax.Array, box: jax.Array) -> Any:
    return jaxface.fit_landmarks(_model().clnf, jaxface.to_gray(image), box)


def _track(image: jax.Array) -> Any:
    model = _model()
    return jaxface.track_frame(model, jaxface.start_track(model.clnf), image)


def _follow(image: jax.Array) -> Any:
    return jaxface.clip_frame(_model(), jaxface.start_clip(_model()), image, CAMERA)


def _follow_several(image: jax.Array) -> Any:
    return jaxface.several_frame(_model(), jaxface.start_several(_model()), image, CAMERA)


def _analyze(image: jax.Array, box: jax.Array) -> Any:
    return jaxface.analyze_frame(_model(), image, _fit(image, box), CAMERA)


def _analyze_clip(image: jax.Array) -> Any:
    return jaxface.analyze_clip(_model(), image[None], CAMERA)


def _slope(image: jax.Array, box: jax.Array) -> Any:
    floats = image.astype(jnp.float32)
    return jax.grad(lambda image: jnp.sum(_fit(image, box).landmarks))(floats)


ONE_IMAGE = (_detect, _track, _follow, _follow_several, _analyze_clip)


@pytest.mark.parametrize("function", ONE_IMAGE, ids=lambda f: f.__name__)
def test_vmap_over_images_keeps_every_branch(function):
    alone = _branches(function, IMAGES[0])
    assert alone > 0
    assert _branches(jax.vmap(function), IMAGES) == alone


@pytest.mark.parametrize("function", (_fit, _analyze, _slope), ids=lambda f: f.__name__)
def test_vmap_over_faces_keeps_every_branch(function):
    alone = _branches(function, IMAGES[0], BOXES[0])
    assert alone > 0
    assert _branches(jax.vmap(function), IMAGES, BOXES) == alone


def test_branches_are_counted():
    """Plain `vmap` loses them: else the tests above would pass because they count nothing."""
    assert _branches(branching, *ITEM) == 1
    assert _branches(_over_batch(branching), *BATCH) == 0
    assert _branches(_over_batch(in_turn), *BATCH) == 1
