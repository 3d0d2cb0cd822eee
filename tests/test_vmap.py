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
from jaxface import Camera, FitConfig, Model
from jaxface.fit import PDM
from jaxface.ops import call_in_turn

from .head_clip import read_frames
from .toy_face import SIZE, draw_face, toy_model, true_points

_SAME: Any = {"rtol": 1e-5, "atol": 1e-5}  # float32; the order of sums may differ
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
    return sum(eqn.primitive.name == "cond" for eqn in jaxpr.eqns) + sum(
        map(_count_branches, inner)
    )


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
    with jax.ensure_compile_time_eval():  # called where functions are traced, too
        return jaxface.load_model("base")


# One scale and two steps, which compile in a fifth of the time.
TOY = toy_model(
    FitConfig(windows_init=(0, 9), windows_track=(0, 9), iterations=2, validation_boundary=0.5)
)
IMAGES = jnp.zeros((2, *SIZE, 3), jnp.uint8)
BOXES = jnp.asarray([[40.0, 20, 120, 100]] * 2)
CAMERA = Camera(*map(jnp.float32, (200, 200, 80, 60)))


def _detect(image: jax.Array) -> Any:
    return jaxface.detect_faces(_model().detector, image)


def _fit(image: jax.Array, box: jax.Array) -> Any:
    return jaxface.fit_landmarks(_model().clnf, jaxface.to_gray(image), box)


def _track(image: jax.Array) -> Any:
    return jaxface.track_frame(TOY, jaxface.start_track(TOY.clnf), image)


def _follow(image: jax.Array) -> Any:
    return jaxface.clip_frame(TOY, jaxface.start_clip(TOY), image, CAMERA)


def _follow_several(image: jax.Array) -> Any:
    return jaxface.several_frame(TOY, jaxface.start_several(TOY), image, CAMERA)


def _analyze_clip(image: jax.Array) -> Any:
    return jaxface.analyze_clip(TOY, image[None], CAMERA)


def _analyze(image: jax.Array, box: jax.Array) -> Any:
    fit = jaxface.fit_landmarks(TOY.clnf, jaxface.to_gray(image), box)
    return jaxface.analyze_frame(TOY, image, fit, CAMERA)


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


# Values, derivatives, time and memory


def _faces() -> np.ndarray:
    return np.stack([draw_face(true_points(number)) for number in range(2)]).astype(np.float32)


def test_fits_under_vmap_are_those_of_a_loop():
    """Values, and derivatives by image, box and the model's shapes in all orders of mapping."""
    model = TOY
    pdm = model.clnf.main.pdm
    grays = jaxface.to_gray(jnp.asarray(_faces()))
    boxes = jnp.stack(
        [jaxface.detect_faces(model.detector, jnp.asarray(f)).boxes[0] for f in _faces()]
    )

    def loss(pdm: PDM, gray: jax.Array, box: jax.Array) -> tuple[jax.Array, Any]:
        clnf = eqx.tree_at(lambda c: c.main.pdm, model.clnf, pdm)
        fit = jaxface.fit_landmarks(clnf, gray, box)
        return jnp.sum(fit.landmarks**2) / 1e4, fit

    slope = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
    alone = jax.jit(slope)
    each = [alone(pdm, gray, box) for gray, box in zip(grays, boxes, strict=True)]
    (_, fits), expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    mapped = functools.partial(jax.vmap, in_axes=(None, 0, 0))

    def total(pdm: PDM, grays: jax.Array, boxes: jax.Array) -> tuple[jax.Array, Any]:
        losses, fits = mapped(loss)(pdm, grays, boxes)
        return jnp.sum(losses), fits

    def close(found: Any, expected: Any) -> None:
        # The same operations on each item, in another program.
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected
        )

    (_, found), slopes = jax.jit(mapped(slope))(pdm, grays, boxes)
    close(found, fits)
    close(slopes, expected)
    differentiate = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True))
    (_, found), slopes = differentiate(pdm, grays, boxes)
    close(found, fits)
    close(slopes, (jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), expected[0]), *expected[1:]))
    assert float(jnp.abs(expected[2]).max()) > 0.01  # there is something to compare


def test_many_faces_in_one_image():
    model = TOY
    image = jnp.asarray(_faces()[1])
    gray, box = jaxface.to_gray(image), jaxface.detect_faces(model.detector, image).boxes[0]
    boxes = jnp.stack([box, box + 3])
    found = jax.jit(jaxface.fit_many)(model.clnf, gray, boxes)
    assert found.landmarks.shape == (2, 5, 2)
    fit = jax.jit(jaxface.fit_landmarks)
    for number, box in enumerate(boxes):
        expected = fit(model.clnf, gray, box).landmarks
        np.testing.assert_allclose(found.landmarks[number], expected, rtol=0, atol=1e-4)


def _seconds(function: Callable[[], Any]) -> float:
    """Least CPU time of three calls, s: other work on the machine only adds to it."""
    times = []
    for _ in range(3):
        start = time.process_time()
        jax.block_until_ready(function())
        times.append(time.process_time() - start)
    return min(times)


@pytest.mark.untyped  # a speed
def test_detection_under_vmap_costs_what_a_loop_costs():
    detector, count = _model().detector, 16
    face = np.asarray(_portrait(), np.float32)
    images = jnp.stack([jnp.roll(jnp.asarray(face), number, axis=1) for number in range(count)])
    one = jax.jit(jaxface.detect_faces).lower(detector, images[0]).compile()
    many = jax.jit(jaxface.detect_many).lower(detector, images).compile()
    loop = [one(detector, image) for image in images]
    found = many(detector, images)
    assert found.valid.any(axis=1).sum() >= count / 2  # all three networks run
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *loop)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-3), found, expected)
    in_a_loop = _seconds(lambda: [one(detector, image) for image in images])
    assert _seconds(lambda: many(detector, images)) <= _NO_DEARER * in_a_loop
    spent = [program.memory_analysis() for program in (one, many)]
    if all(spent):  # some devices do not tell
        alone, together = (memory.temp_size_in_bytes for memory in spent if memory)
        assert together <= 2 * alone + images.nbytes


def _portrait() -> np.ndarray:
    """The talking head at a quarter of its size."""
    frame = read_frames(1)[0]
    return frame.reshape(120, 4, 160, 4, 3).mean(axis=(1, 3))


# What is refused


@pytest.mark.untyped  # the type check answers first
def test_wrong_stacks_are_refused():
    model = _model()
    gray, box = jnp.zeros((40, 40)), jnp.zeros(4)
    with pytest.raises(
        ValueError, match=r"^boxes: expected a stack .* got shape \(4,\): give a si"
    ):
        jaxface.fit_many(model.clnf, gray, box)
    with pytest.raises(ValueError, match=r"^grays: expected 2 entries, .* got shape \(3, 40, 40\)"):
        jaxface.fit_many(model.clnf, jnp.stack([gray] * 3), jnp.stack([box] * 2))
    with pytest.raises(ValueError, match=r"^size: expected 2 entries, .* got shape \(3, 2\)"):
        jaxface.fit_many(model.clnf, gray, jnp.stack([box] * 2), size=jnp.ones((3, 2), jnp.int32))
    with pytest.raises(ValueError, match=r"^images: expected RGB .* got shape \(40, 40, 3\): give"):
        jaxface.detect_many(model.detector, jnp.zeros((40, 40, 3)))
    with pytest.raises(ValueError, match=r"^size: expected 2 entries, .* got shape \(1, 2\)"):
        size = jnp.ones((1, 2), jnp.int32)
        jaxface.detect_many(model.detector, jnp.zeros((2, 40, 40, 3)), size=size)
    with pytest.raises(ValueError, match=r"^gray must be one image .* stacks to jaxface.fit_many"):
        jaxface.fit_landmarks(model.clnf, gray[None], box)
    with pytest.raises(ValueError, match=r"^image: .* give stacks to jaxface.detect_many"):
        jaxface.detect_faces(model.detector, jnp.zeros((2, 40, 40, 3)))
