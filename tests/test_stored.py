"""Programs kept on disk: the same results, traced once, whatever lies there."""

from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxface.run import StoredFunction
from jaxface.types import Camera, PDMParameters


@pytest.fixture
def cache(tmp_path: Path):
    before = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


class Traced:
    """A function that counts how often it is traced."""

    def __init__(self):
        self.count = 0

    def __call__(self, parameters: PDMParameters, camera: Camera, name: str) -> Any:
        self.count += 1
        factor = {"double": 2, "triple": 3}[name]
        grown = eqx.tree_at(lambda p: p.local, parameters, factor * parameters.local)
        return grown, (camera.fx + jnp.sum(grown.local), None)


def store(**settings) -> tuple[StoredFunction, Traced]:
    traced = Traced()

    def function(*args):
        return traced(*args)

    return StoredFunction(function, dict, **settings), traced


def arguments(count: int = 5) -> tuple[PDMParameters, Camera]:
    numbers = jnp.arange(count, dtype=jnp.float32)
    parameters = PDMParameters(numbers[0], numbers[:3], numbers[:2], numbers)
    return parameters, Camera(*(jnp.float32(i) for i in range(4)))


def check(result: Any, factor: int, count: int = 5) -> None:
    grown, (total, nothing) = result
    assert isinstance(grown, PDMParameters) and nothing is None
    np.testing.assert_array_equal(grown.local, factor * np.arange(count))
    np.testing.assert_array_equal(grown.rotation, np.arange(3))
    assert total == factor * sum(range(count))


def programs(cache: Path) -> list[Path]:
    return sorted((cache / "jaxface-programs").glob("function-*"))


def test_traces_once_without_a_cache():
    function, traced = store()
    for _ in range(3):
        check(function(*arguments(), "double"), 2)
    assert traced.count == 1


def test_reads_what_another_process_traced(cache: Path):
    first, traced = store()
    check(first(*arguments(), "double"), 2)
    assert traced.count == 1 and len(programs(cache)) == 1
    second, traced = store()
    for _ in range(3):
        check(second(*arguments(), "double"), 2)
    assert traced.count == 0


def test_other_settings_and_shapes_are_other_programs(cache: Path):
    function, traced = store()
    check(function(*arguments(), "double"), 2)
    check(function(*arguments(), "triple"), 3)
    check(function(*arguments(7), "double"), 2, 7)
    assert traced.count == len(programs(cache)) == 3


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-9], lambda b: b"", lambda b: b[:60] + b"x" + b[61:]]
)
def test_damaged_programs_are_traced_again(cache: Path, damage):
    store()[0](*arguments(), "double")
    (path,) = programs(cache)
    path.write_bytes(damage(path.read_bytes()))
    for count in (1, 0):
        function, traced = store()
        check(function(*arguments(), "double"), 2)
        assert traced.count == count


def test_runs_where_nothing_can_be_written(cache: Path):
    (cache / "jaxface-programs").write_text("a file where the folder should be")
    function, traced = store()
    check(function(*arguments(), "double"), 2)
    assert traced.count == 1


def test_other_precision_is_another_program(cache: Path):
    function, traced = store()
    check(function(*arguments(), "double"), 2)
    with jax.default_matmul_precision("highest"):
        check(function(*arguments(), "double"), 2)
    assert traced.count == len(programs(cache)) == 2


@pytest.mark.parametrize("cached", [False, True])
def test_donated_arguments_are_given_up(cached: bool, request):
    if cached:
        request.getfixturevalue("cache")
    function, _ = store(donated=(0,))
    parameters, camera = arguments()
    check(function(parameters, camera, "double"), 2)
    assert parameters.local.is_deleted() and not camera.fx.is_deleted()


def test_numpy_arguments_are_arrays(cache: Path):
    function, traced = store()
    parameters, camera = jax.tree.map(np.asarray, arguments())
    check(function(parameters, camera, "double"), 2)
    check(function(*arguments(), "double"), 2)
    assert traced.count == 1


class Foreign(NamedTuple):
    value: Any


def test_foreign_results_are_refused(cache: Path):
    with pytest.raises(
        TypeError, match="expected arrays in tuples and Modules of jaxface, got.*Fo"
    ):
        StoredFunction(lambda x: Foreign(x), dict)(jnp.zeros(3))
