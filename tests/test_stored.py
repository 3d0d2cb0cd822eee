"""Programs kept on disk: the same results, traced once, whatever lies there, and never stale."""

import dataclasses
import enum
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import jaxface
from jaxface.detect import MTCNN, DetectConfig, Net, detect_faces
from jaxface.fit import Phase
from jaxface.io import read_video
from jaxface.ops import to_gray
from jaxface.run import StoredFunction
from jaxface.types import PDMParameters
from tests.counted import arguments, cached_in, check, load_counted, programs, store

ROOT = Path(__file__).resolve().parents[1]
CLIP = ROOT / "bench" / "data" / "talking_head.mp4"


@pytest.fixture
def cache(tmp_path: Path):
    with cached_in(tmp_path):
        yield tmp_path


@pytest.fixture(params=["with a cache", "without"])
def maybe_cached(request, tmp_path: Path):
    with cached_in(tmp_path if request.param == "with a cache" else None):
        yield tmp_path


def test_traces_once_without_a_cache():
    with cached_in(None):
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


def test_runs_where_nothing_can_be_written(cache: Path):
    for name in ("jaxface-programs", "jaxface-executables"):
        (cache / name).write_text("a file where the folder should be")
    function, traced = store()
    check(function(*arguments(), "double"), 2)
    assert traced.count == 1


def test_other_precision_is_another_program(cache: Path):
    function, traced = store()
    check(function(*arguments(), "double"), 2)
    with jax.default_matmul_precision("highest"):
        check(function(*arguments(), "double"), 2)
    assert traced.count == len(programs(cache)) == 2


def test_donated_arguments_are_given_up(maybe_cached: Path):
    function, _ = store(donated=(0,))
    parameters, camera = arguments()
    check(function(parameters, camera, "double"), 2)
    assert isinstance(camera.fx, jax.Array)
    assert parameters.local.is_deleted() and not camera.fx.is_deleted()


def test_numpy_arguments_are_arrays(cache: Path):
    function, traced = store()
    parameters, camera = jax.tree.map(np.asarray, arguments())
    check(function(parameters, camera, "double"), 2)
    check(function(*arguments(), "double"), 2)
    assert traced.count == 1


def test_foreign_results_of_our_own_functions_are_refused(cache: Path):
    with pytest.raises(
        TypeError, match="expected arrays in tuples and Modules of jaxface, got.*dict"
    ):
        StoredFunction(load_counted().odd, dict)(jnp.zeros(3))


# What is the user's


class Mine(eqx.Module):
    numbers: jax.Array
    rule: Callable = eqx.field(static=True)


class MyParameters(PDMParameters):
    """A subclass of ours."""


@dataclasses.dataclass(frozen=True)
class MySettings:
    sigma: float = 1.0


class Colour(enum.Enum):
    RED = 1


class MyFloat(float):
    """What it does in an expression is the user's."""


def double(x: Any) -> Any:
    return 2 * x


@functools.wraps(to_gray)
def in_disguise(image: Any) -> Any:
    return 2 * image


_OURS = {
    "settings": DetectConfig(),
    "function": detect_faces,
    "class": DetectConfig,
    "enumeration": Phase.TRACK,
    "types": (np.float32, np.dtype("int8")),
    "containers": {"a": [1, 2.5, None, b"x"], "b": frozenset({"x", "y", "z"})},
    "array": np.zeros(3),
    "mesh": Mesh(np.array(jax.devices()[:1]), ("clips",)),
}
_FOREIGN = {
    "module": Mine(jnp.zeros(2), detect_faces),
    "subclass": MyParameters(*jax.tree.leaves(arguments()[0])),
    "settings": MySettings(),
    "inside settings": DetectConfig(thresholds=(0.6, 0.7, MyFloat(0.7))),
    "function": double,
    "lambda": lambda x: x,
    "wraps": in_disguise,
    "partial": functools.partial(detect_faces),
    "method": DetectConfig().__post_init__,
    "jax's function": jax.nn.relu,
    "class": MySettings,
    "enumeration": Colour.RED,
    "number": MyFloat(1.0),
    "object": object(),
    "nested": {"a": [(1, double)]},
    "static array": DetectConfig(min_face_size=np.float64(60)),
}


@pytest.mark.parametrize("extra", _OURS.values(), ids=_OURS)
def test_what_is_ours_is_stored(cache: Path, extra: object):
    wrapped = (extra,)  # so that the function does not call it
    for count in (1, 0):
        function, traced = store()
        check(function(*arguments(), "double", wrapped), 2)
        assert traced.count == count and len(programs(cache)) == 1


@pytest.mark.parametrize("extra", _FOREIGN.values(), ids=_FOREIGN)
def test_what_is_the_users_is_never_stored(cache: Path, extra: object):
    for _ in range(2):
        function, traced = store()
        for _ in range(2):
            check(function(*arguments(), "double", (extra,)), 2)
        assert traced.count == 1 and programs(cache) == []


def test_a_function_of_the_users_is_never_stored(cache: Path):
    assert StoredFunction(double, dict)(jnp.ones(())) == 2 and programs(cache) == []


def test_models_and_settings_as_shipped_are_stored(cache: Path):
    """Else each process would trace for seconds what it could read."""
    model = jaxface.load_model("base")
    given = model, jaxface.default_config(model), jaxface.Extras()
    for count in (1, 0):
        function, traced = store()
        check(function(*arguments(), "double", given), 2)
        assert traced.count == count and len(programs(cache)) == 1


def scaled_by(factor: int) -> Callable:
    def rule(x: Any) -> Any:
        return factor * x

    return rule


def test_an_edited_function_counts(maybe_cached: Path):
    function, traced = store()
    for factor in (1, 2, 3):
        check(function(*arguments(), "double", scaled_by(factor)), 2 * factor)
    assert traced.count == 3 and programs(maybe_cached) == []


def test_a_redefined_class_counts(maybe_cached: Path):
    def define(factor: int) -> Callable:
        class Rule(eqx.Module):
            def __call__(self, x: Any) -> Any:
                return factor * x

        return Rule

    function, traced = store()
    for factor in (1, 2, 3):
        check(function(*arguments(), "double", define(factor)()), 2 * factor)
    assert traced.count == 3 and programs(maybe_cached) == []


def test_results_may_be_the_users(maybe_cached: Path):
    def step(state: Mine) -> Any:
        return Mine(state.rule(state.numbers), state.rule), [state.numbers, 7, "x"], {"a": None}

    function = StoredFunction(step, dict)
    for _ in range(2):
        state, (before, *rest), empty = function(Mine(jnp.arange(3), double))
        assert isinstance(state, Mine) and state.rule is double
        np.testing.assert_array_equal(state.numbers, [0, 2, 4])
        np.testing.assert_array_equal(before, [0, 1, 2])
        assert rest == [7, "x"] and empty == {"a": None}
    assert programs(maybe_cached) == []


@pytest.mark.parametrize("replacement", [double, in_disguise])
def test_nothing_is_stored_while_a_function_is_replaced(cache: Path, monkeypatch, replacement):
    monkeypatch.setattr(sys.modules[to_gray.__module__], "to_gray", replacement)
    check(store()[0](*arguments(), "double"), 2)
    assert programs(cache) == []
    monkeypatch.undo()
    check(store()[0](*arguments(), "double"), 2)
    assert len(programs(cache)) == 1


def test_nothing_is_stored_while_a_method_is_replaced(cache: Path, monkeypatch):
    monkeypatch.setattr(Net, "__call__", lambda self, maps: maps)
    check(store()[0](*arguments(), "double"), 2)
    assert programs(cache) == []


# As a user meets it


def define_net(accepts: bool) -> Callable[[Net], eqx.Module]:
    class Refiner(eqx.Module):
        """R-Net, or one that lets nothing pass."""

        net: Net

        def __call__(self, maps: jax.Array) -> jax.Array:
            logits = self.net(maps)
            return logits if accepts else logits.at[..., :2].set(jnp.float32([9, -9]))

    return Refiner


@pytest.mark.untyped  # such a network is no Net
def test_a_redefined_network_finds_the_face(cache: Path):
    model = jaxface.load_model("base")
    frame = next(iter(read_video(CLIP)))
    for accepts in (False, True):
        assert isinstance(model.detector, MTCNN)
        refiner = define_net(accepts)(model.detector.rnet)
        changed = eqx.tree_at(lambda m: m.detector.rnet, model, refiner)
        assert len(jaxface.analyze_image(changed, frame).confidence) == accepts
    assert not [path for path in programs(cache) if "detect" in path.name]


_EDITED = """
import jax.numpy as jnp
from jaxface.ops import to_gray
from jaxface.run import compiled

print(compiled(to_gray)(jnp.full((1, 1, 3), 100, jnp.float32)).item())
"""


def run_python(program: str, package: Path, cache: Path, **more: str) -> str:
    """What a program prints that imports the copy of jaxface in the folder `package`."""
    added = {
        "PYTHONPATH": str(package),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAXFACE_COMPILE_CACHE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-c", program]
    environment = {**os.environ, **added, **more}
    done = subprocess.run(command, env=environment, capture_output=True, cwd=package, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_edited_sources_count(tmp_path: Path):
    """Those that programs are traced from, and no others."""
    copy, cache = tmp_path / "jaxface", tmp_path / "cache"
    shutil.copytree(ROOT / "jaxface", copy, ignore=shutil.ignore_patterns("__pycache__"))

    def run() -> float:
        return float(run_python(_EDITED, tmp_path, cache))

    def edit(name: str, old: str, new: str) -> None:
        text = (copy / name).read_text()
        assert text.count(old) == 1
        (copy / name).write_text(text.replace(old, new))

    assert run() == 100
    (first,) = programs(cache)
    written = first.stat().st_mtime_ns
    edit("cli/_main.py", "import argparse", "import argparse as argparse")
    assert run() == 100
    assert programs(cache) == [first] and first.stat().st_mtime_ns == written
    edit("ops/_color.py", "/ 32768)", "/ 16384)")
    assert run() == 201  # (100 * 32768 + 16384) / 16384, rounded down
    assert len(programs(cache)) == 2


_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jaxface.ops import to_gray
from jaxface.run import compiled

first, second = jax.devices()
function = compiled(to_gray)
image = np.full((1, 1, 3), 100, np.float32)
on_first = function(image)
on_second = function(jax.device_put(image, second))
with jax.default_device(second):
    by_default = function(image)
assert on_first.item() == on_second.item() == by_default.item() == 100
assert on_first.devices() == {first}
assert on_second.devices() == by_default.devices() == {second}
"""


def test_arrays_on_another_device_stay_there(tmp_path: Path):
    """A stored program is compiled for the first device, and refuses what lies on another."""
    two = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    for _ in range(2):
        run_python(_DEVICES, ROOT, tmp_path, **two)
        assert len(programs(tmp_path)) == 1
