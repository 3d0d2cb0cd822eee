"""Arguments that a program has met: looked through once, never mistaken, never kept alive."""

import gc
import importlib
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxface.run import StoredFunction
from tests.counted import cached_in

_LEAVES = 80  # more than what is looked through each time
_WAIT = 60  # s
_LOOKS = importlib.import_module("jaxface.run._arguments")


class Weights(eqx.Module):
    arrays: tuple[jax.Array | np.ndarray, ...]
    factor: int = eqx.field(static=True, default=1)


def weights(value: float, factor: int = 1) -> Weights:
    return Weights(tuple(jnp.full(3, value) for _ in range(_LEAVES)), factor)


@pytest.fixture
def looks(monkeypatch) -> list[object]:
    """The arguments that were looked through."""
    seen: list[object] = []
    original = _LOOKS.Argument.__init__

    def counted(self, value):
        seen.append(type(value))
        original(self, value)

    monkeypatch.setattr(_LOOKS.Argument, "__init__", counted)
    return seen


@pytest.fixture
def total():
    def total(model: Weights, x: jax.Array) -> jax.Array:
        return model.factor * sum(a[0] for a in model.arrays) + x

    with cached_in(None):
        yield StoredFunction(total, dict)


def test_a_model_is_looked_through_once(total, looks):
    model = weights(1.0)
    for _ in range(3):
        assert total(model, jnp.zeros(())) == _LEAVES
    assert looks.count(Weights) == 1


def test_an_edited_model_counts(total):
    """Arrays, shapes and settings; the one before still gives what it gave."""
    model = weights(1.0)
    assert total(model, jnp.zeros(())) == _LEAVES
    edited = eqx.tree_at(lambda m: m.arrays[7], model, jnp.full(3, 5.0))
    longer = eqx.tree_at(lambda m: m.arrays[7], model, jnp.full(4, 3.0))
    assert total(edited, jnp.zeros(())) == _LEAVES + 4
    assert total(longer, jnp.zeros(())) == _LEAVES + 2
    assert total(Weights(model.arrays, 2), jnp.zeros(())) == 2 * _LEAVES
    assert total(model, jnp.zeros(())) == _LEAVES


def test_numpy_arrays_edited_in_place_count(total):
    model = Weights(tuple(np.ones(3, np.float32) for _ in range(_LEAVES)))
    assert total(model, jnp.zeros(())) == _LEAVES
    model.arrays[0][0] = 3
    assert total(model, jnp.zeros(())) == _LEAVES + 2


def test_a_model_is_not_kept_alive(total):
    model = weights(1.0)
    total(model, jnp.zeros(()))
    gone = [weakref.ref(model), *map(weakref.ref, model.arrays)]
    del model
    gc.collect()
    assert [reference() for reference in gone] == [None] * len(gone)
    assert not total._arguments._known


def test_models_at_one_address_are_told_apart(total):
    """What is made where another has been freed often has its number."""
    numbers = set()
    for value in range(20):
        model = weights(float(value))
        numbers.add(id(model))
        assert total(model, jnp.zeros(())) == _LEAVES * value
        del model
    assert len(numbers) < 20  # else nothing was tested


def test_few_are_remembered(total):
    models = [weights(float(value)) for value in range(40)]
    for value, model in enumerate(models):
        assert total(model, jnp.zeros(())) == _LEAVES * value
    assert len(total._arguments._known) < len(models)
    assert total(models[0], jnp.zeros(())) == 0


def test_threads_that_make_and_drop_models(total):
    total(weights(0.0), jnp.zeros(()))  # compiled

    def work(thread: int) -> None:
        for turn in range(20):
            value = float(100 * thread + turn)
            assert total(weights(value), jnp.zeros(())) == _LEAVES * value

    with ThreadPoolExecutor(4) as pool:
        for job in [pool.submit(work, i) for i in range(4)]:
            job.result(_WAIT)
    gc.collect()
    assert not total._arguments._known


def test_equal_numbers_of_other_types_are_other_programs():
    def scaled(x: jax.Array, factor: float) -> jax.Array:
        return x * (10 if factor is True else factor)

    with cached_in(None):
        function = StoredFunction(scaled, dict)
        assert function(jnp.ones(()), 1) == 1
        assert function(jnp.ones(()), True) == 10
        assert function(jnp.ones(()), 1.0) == 1


def test_a_call_with_a_known_model_costs_little(total):
    """0.05 ms on an idle core; to look 80 arrays through takes 0.3."""
    model, x = weights(1.0), jnp.zeros(())
    total(model, x)

    def seconds(call) -> float:
        start = time.thread_time()
        for _ in range(100):
            call()
        return time.thread_time() - start

    known = min(seconds(lambda: total._arguments.look(model)) for _ in range(5))
    anew = min(seconds(lambda: _LOOKS.Argument(model)) for _ in range(5))
    assert known < anew / 5
