"""Operations are counted as often as they run."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import jaxface
from bench.costs import program_cost
from bench.operations import count_operations, count_runs, count_step
from bench.paper import lowered_operations
from bench.tracking_step import tracking_step

_ROUNDS = 7
_MOST = 2900  # of base's step of 4 lanes as on CUDA; with OpenFace's model 3,500 is the aim


@pytest.fixture(scope="module")
def model() -> jaxface.Model:
    return jaxface.load_model("base")


@pytest.mark.skipif(not hasattr(jax.profiler, "ProfileData"), reason="JAX of before 2025")
def test_rounds_of_loops_and_branches_that_are_taken_count():
    def step(number, x):
        with jax.named_scope("parts"):
            return jnp.cumsum(x * x) + number

    def loop(x, wanted):
        looped = lax.fori_loop(0, _ROUNDS, step, x)
        return lax.cond(wanted, jnp.sort, lambda y: y, looped)

    x = jnp.arange(64.0)
    program = jax.jit(loop).lower(x, True).compile()
    taken, left = (count_operations(program, x, wanted) for wanted in (True, False))
    assert taken["parts"] == left["parts"] and taken["parts"] % _ROUNDS == 0 and taken["parts"] > 0
    assert taken.total() > left.total()


@pytest.mark.skipif(not hasattr(jax.profiler, "ProfileData"), reason="JAX of before 2025")
def test_costs_of_a_loop_of_products():
    def loop(x):
        return lax.fori_loop(0, _ROUNDS, lambda _, y: jnp.dot(x, y), x)

    x = jnp.ones((32, 32))
    program = jax.jit(loop).lower(x).compile()
    cost = program_cost(program.as_text() or "", count_runs(program, x))
    products = _ROUNDS * 2 * 32**3
    assert products <= cost.flops < 1.05 * products  # and the loop's counter
    assert cost.operations >= _ROUNDS
    assert cost.bytes >= _ROUNDS * 3 * x.nbytes  # both factors and the product


@pytest.mark.skipif(not hasattr(jax.profiler, "ProfileData"), reason="JAX of before 2025")
def test_a_tracking_step_is_few_operations(model):
    cost, stages = count_step(tracking_step(model, 4), cuda=True)
    assert 1000 < cost.operations <= _MOST
    assert stages.total() == cost.operations
    assert not {"detect", "validate"} & stages.keys()


def test_lanes_add_no_operations_to_what_is_lowered_for_cuda(model):
    one, many = (lowered_operations(tracking_step(model, lanes), "cuda") for lanes in (2, 16))
    assert one == many and "custom_call" in one
