"""A function that counts how often it is traced, posing as one of the package's own.

Only programs of the package's own functions are kept on disk.
"""

import contextlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxface.run import StoredFunction
from jaxface.types import Camera, PDMParameters

_MODULE = "jaxface.counted"
_LONG = 1000.0  # s
_SOURCE = """
import threading

import equinox as eqx
import jax.numpy as jnp

count = 0
started, release = threading.Event(), threading.Event()

def function(parameters, camera, name, extra=None):
    global count
    count += 1
    if name == "slow":
        started.set()
        assert release.wait(60)
    factor = {"double": 2, "triple": 3, "slow": 2}[name]
    local = factor * parameters.local
    local = extra(local) if callable(extra) else local
    grown = eqx.tree_at(lambda p: p.local, parameters, local)
    return grown, (camera.fx + jnp.sum(grown.local), None)

def odd(x):
    return {"x": x}

def twice(x):
    return 2 * x
"""


@contextlib.contextmanager
def cached_in(folder: Path | None) -> Iterator[None]:
    """Turns on what lies beside JAX's compilation cache, or both off.

    JAX opens its own but once, and keeps none of these small programs, even if they take long.
    """
    settings = {
        "jax_compilation_cache_dir": None if folder is None else str(folder),
        "jax_persistent_cache_min_compile_time_secs": _LONG,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    try:
        with pytest.MonkeyPatch.context() as patch:
            if folder is not None:
                patch.delenv("JAXFACE_COMPILE_CACHE", raising=False)
            yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        sys.modules.pop(_MODULE, None)


def load_counted() -> Any:
    """The module as a new process would import it: nothing in it has been traced."""
    module = types.ModuleType(_MODULE)
    exec(compile(_SOURCE, _MODULE, "exec"), vars(module))
    sys.modules[_MODULE] = module
    return module


def store(**settings: Any) -> tuple[StoredFunction, Any]:
    """The stored function of a new process, and the module that counts."""
    module = load_counted()
    return StoredFunction(module.function, dict, **settings), module


def arguments(count: int = 5) -> tuple[PDMParameters, Camera]:
    numbers = jnp.arange(count, dtype=jnp.float32)
    parameters = PDMParameters(numbers[0], numbers[:3], numbers[:2], numbers)
    return parameters, Camera(*(jnp.float32(i) for i in range(4)))


def check(result: Any, factor: int, count: int = 5) -> None:
    """Compares a result of `function` with what it is by hand."""
    grown, (total, nothing) = result
    assert isinstance(grown, PDMParameters) and nothing is None
    np.testing.assert_array_equal(grown.local, factor * np.arange(count))
    np.testing.assert_array_equal(grown.rotation, np.arange(3))
    assert total == factor * sum(range(count))


def programs(cache: Path) -> list[Path]:
    return sorted((cache / "jaxface-programs").glob("*"))


def executables(cache: Path) -> list[Path]:
    """Compiled programs, each under the digest of its code."""
    files = (cache / "jaxface-executables").glob("*")
    return sorted(path for path in files if path.name.count("-") == 1)


def named(cache: Path) -> list[Path]:
    """Names of compiled programs, after their functions."""
    files = (cache / "jaxface-executables").glob("*")
    return sorted(path for path in files if path.name.count("-") == 2)
