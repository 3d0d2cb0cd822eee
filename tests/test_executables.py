"""Compiled programs on disk: called as they were compiled, read ahead of use, never another's."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jaxface import _files as files
from jaxface.run import StoredFunction
from tests.counted import arguments, cached_in, check, executables, named, programs, store

pytestmark = pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="other devices leave it to JAX's cache"
)

_MODULE = importlib.import_module("jaxface._files._executables")
_WAIT = 60  # s


@pytest.fixture
def cache(tmp_path: Path):
    with cached_in(tmp_path):
        yield tmp_path


@pytest.fixture
def lowered(monkeypatch) -> list[object]:
    """Grows whenever stored code is read to be lowered and compiled."""
    seen: list[object] = []
    stored = importlib.import_module("jaxface.run._stored")
    original = stored.export.deserialize

    def counted(code):
        seen.append(len(code))
        return original(code)

    monkeypatch.setattr(stored.export, "deserialize", counted)
    return seen


def test_one_code_is_kept_once(cache: Path, lowered):
    """Sources that were edited, but are traced to the same code, have it already."""
    image = jnp.full((2, 2, 3), 100, jnp.float32)
    ops = importlib.import_module("jaxface.ops")
    for kind in (dict, lambda: {}):  # two names
        StoredFunction(ops.to_gray, kind)(image)
    assert len(executables(cache)) == 1
    (path,) = programs(cache)
    for name in named(cache):
        name.unlink()
    (executable,) = executables(cache)
    written = executable.stat().st_mtime_ns
    assert StoredFunction(ops.to_gray, dict)(image).tolist() == [[100, 100], [100, 100]]
    assert len(named(cache)) == 1 and executable.stat().st_mtime_ns == written
    assert path.exists() and len(lowered) == 2


def test_what_jaxs_cache_gives_is_not_kept(cache: Path):
    """It has lost its machine code; kept, it would fail when it is run."""
    names = (
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    before = [getattr(jax.config, name) for name in names]
    try:
        for name, value in zip(names, (0, -1), strict=True):
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        check(store()[0](*arguments(), "double"), 2)
        assert [path for path in cache.iterdir() if path.name.endswith("-cache")]
        (executable,) = executables(cache)
        executable.unlink()
        for _ in range(2):
            check(store()[0](*arguments(), "double"), 2)
            assert executables(cache) == []
    finally:
        for name, value in zip(names, before, strict=True):
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def test_a_compiled_program_is_only_read(cache: Path, lowered):
    first, _ = store()
    check(first(*arguments(), "double"), 2)
    assert len(executables(cache)) == len(lowered) == 1
    second, traced = store()
    for _ in range(3):
        check(second(*arguments(), "double"), 2)
    assert traced.count == 0 and len(lowered) == 1


def test_results_keep_every_bit(cache: Path):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(64, 64)), jnp.float32)
    module = importlib.import_module("jaxface.ops")

    def run() -> np.ndarray:
        return np.asarray(StoredFunction(module.to_gray, dict)(jnp.stack([x, 2 * x, 3 * x], -1)))

    compiled, read = run(), run()
    assert len(executables(cache)) == 1
    np.testing.assert_array_equal(compiled, read)


def test_donated_arguments_are_given_up_by_a_read_program(cache: Path, lowered):
    for _ in range(2):
        function, _ = store(donated=(0,))
        parameters, camera = arguments()
        check(function(parameters, camera, "double"), 2)
        assert isinstance(camera.fx, jax.Array)
        assert parameters.local.is_deleted() and not camera.fx.is_deleted()
    assert len(lowered) == 1
    function, _ = store()
    parameters, camera = arguments()
    check(function(parameters, camera, "double"), 2)
    assert not parameters.local.is_deleted()


def test_another_machine_is_another_executable(cache: Path, tmp_path: Path, monkeypatch):
    """One with other instructions: the code of this one is never run there."""
    check(store()[0](*arguments(), "double"), 2)
    (tmp_path / "cpu").write_text("flags\t\t: sse2\n")
    monkeypatch.setattr(_MODULE, "_CPU_INFO", tmp_path / "cpu")
    files.machine.cache_clear()
    try:
        check(store()[0](*arguments(), "double"), 2)
    finally:
        files.machine.cache_clear()
    assert len(executables(cache)) == 2 and len(programs(cache)) == 1


@pytest.mark.skipif(
    "compiler_options" not in inspect.signature(jax.jit).parameters, reason="this JAX has none"
)
def test_other_options_are_another_executable(cache: Path):
    double = importlib.import_module("jaxface.ops").to_gray
    image = jnp.full((2, 2, 3), 100, jnp.float32)
    for fast in (None, False):
        options: dict[str, str | bool] = {} if fast is None else {"xla_cpu_enable_fast_math": fast}
        function = StoredFunction(double, lambda options=options: options)
        assert function(image).tolist() == [[100, 100], [100, 100]]
    assert len(executables(cache)) == 2 and len(programs(cache)) == 1


def test_programs_are_read_ahead_of_use(cache: Path, monkeypatch, lowered):
    store()[0](*arguments(), "double")
    (path,), (executable,) = named(cache), executables(cache)
    monkeypatch.setattr(_MODULE, "_used", {})
    files.ahead_of_use([path, path.with_name("function-gone")])
    _MODULE._coming[path].result(_WAIT)
    executable.unlink()  # it has been read
    function, traced = store()
    check(function(*arguments(), "double"), 2)
    assert traced.count == 0 and len(lowered) == 1
    assert files.executables_used() == [path]
    files.ahead_of_use([path])  # it is there already
    assert path not in _MODULE._coming


def test_a_wrong_guess_is_let_go(cache: Path, monkeypatch):
    """What was read ahead for another size of pictures would only take memory."""
    store()[0](*arguments(), "double")
    store()[0](*arguments(7), "double")
    one, other = named(cache)
    monkeypatch.setattr(_MODULE, "_used", {})
    files.ahead_of_use([one])
    found = files.load_executable(other)
    assert found is not None and one not in _MODULE._coming
    assert files.executables_used() == [other]


def test_used_ones_are_listed_in_order(cache: Path, monkeypatch):
    monkeypatch.setattr(_MODULE, "_used", {})
    for count in (3, 5):
        store()[0](*arguments(count), "double")
    listed = files.executables_used()
    assert sorted(listed) == named(cache) and len(listed) == 2


_EARLY = """
import sys
import jax
from jaxface._files import ahead_of_use, machine
from pathlib import Path

machine()
ahead_of_use(Path(sys.argv[1]).glob("to_gray-*"))
assert "equinox" not in sys.modules and "jaxface.run" not in sys.modules
import threading
for thread in threading.enumerate():
    if thread is not threading.current_thread() and "jaxface" in thread.name:
        thread.join(60)
from jaxface._files._executables import _coming
((path, found),) = _coming.items()
(result,) = found.result().run(*[jax.numpy.full((2, 2, 3), 100.0)])
assert result.tolist() == [[100, 100], [100, 100]]
"""


def test_reading_needs_none_of_the_package(cache: Path):
    """So that it can begin while the rest of it is imported."""
    gray = importlib.import_module("jaxface.ops").to_gray
    StoredFunction(gray, dict)(jnp.full((2, 2, 3), 100, jnp.float32))
    folder = cache / "jaxface-executables"
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", _EARLY, str(folder)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=_WAIT)
    assert done.returncode == 0, done.stderr
