"""Programs whose traced form is kept on disk: tracing one takes seconds, reading it none.

They lie beside what JAX's compilation cache keeps, and only where that cache is turned on.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jaxlib.version
import numpy as np
from jax import export
from jax.extend.mlir.passmanager import PassManager

from .._files import replace_file

_FOLDER = "jaxface-programs"
_ROOT = Path(__file__).resolve().parents[1]  # of the package
_PACKAGE = _ROOT.name
_NOT_TRACED = ("cli", "io", "output", "reference", "training")  # no program calls these
_LENGTH = 8  # bytes that tell how long the description of the results is


class _Program:
    """One function for arguments of certain shapes, arrays to arrays."""

    def __init__(self, run: Callable[..., list[Any]], results: Any = None):
        self.run = run
        self.results = results  # what the arrays stand for; of a new one, known after the first run

    def __call__(self, leaves: list[Any]) -> Any:
        arrays = self.run(*leaves)
        return _rebuild(self.results, arrays)


class StoredFunction:
    """A compiled function of Modules and arrays, like `eqx.filter_jit`'s, that is traced once.

    Without JAX's compilation cache it is traced once in each process.
    """

    def __init__(
        self,
        function: Callable,
        compiler_options: Callable[[], dict[str, str | bool]],
        *,
        donated: tuple[int, ...] = (),
    ):
        """Prepares the function.

        Args:
            function: pure; its results are arrays in Modules of this package, in tuples or None.
            compiler_options: asked late, as it may need a backend.
            donated: positions of arguments that the caller gives up, and whose memory the
                results may take.
        """
        self._function = function
        self._options = compiler_options
        self._donated = donated
        self._programs: dict[object, _Program] = {}
        self._lock = threading.Lock()
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any) -> Any:
        arrays, statics = eqx.partition(args, _is_array)
        leaves, tree = jax.tree.flatten(arrays)
        folder = None if any(map(_is_spread, leaves)) else _folder()
        shapes = tuple((leaf.shape, np.dtype(leaf.dtype)) for leaf in leaves)
        values, places = jax.tree.flatten(statics)
        key = (tree, shapes, tuple(values), places, folder, _settings())
        program = self._programs.get(key)
        if program is None:
            with self._lock:
                program = self._programs.get(key) or self._prepare(folder, arrays, statics)
                self._programs[key] = program
        return program(leaves)

    def _prepare(self, folder: Path | None, arrays: tuple, statics: tuple) -> _Program:
        """Reads the program, or traces it and writes it down."""
        counts = [len(jax.tree.leaves(array)) for array in arrays]
        starts = np.cumsum([0, *counts])
        donated = [i for a in self._donated for i in range(starts[a], starts[a + 1])]
        compile_as = self._compile_as(donated)
        leaves, tree = jax.tree.flatten(arrays)
        if folder is None:
            return self._new_program(tree, statics, compile_as)
        shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
        named = (self._function.__qualname__, str(tree), repr((statics, shapes, _settings())))
        path = folder / f"{self._function.__name__}-{_digest(*_versions(), *named)}"
        found = _read(path)
        if found is None:
            program = self._new_program(tree, statics, jax.jit)
            code = bytes(export.export(program.run)(*shapes).serialize())  # pyright: ignore[reportArgumentType]
            found = program.results, code
            _write(path, *found)
        results, code = found
        lowered: Any = compile_as(export.deserialize(bytearray(code)).call)
        lowered = lowered.lower(*shapes)
        _drop_names(lowered.compiler_ir("stablehlo"))
        return _Program(lowered.compile(), results)

    def _compile_as(self, donated: list[int]) -> Callable[[Callable], Callable]:
        options = self._options()
        arguments: dict[str, Any] = {"compiler_options": options} if options else {}
        return functools.partial(jax.jit, donate_argnums=donated, **arguments)

    def _new_program(self, tree: Any, statics: tuple, compile_as: Callable) -> _Program:
        """The function of flat arrays; tracing it tells what its results stand for."""

        def flat(*leaves: Any) -> list[Any]:
            args = eqx.combine(jax.tree.unflatten(tree, leaves), statics)
            arrays: list[Any] = []
            program.results = _describe(self._function(*args), arrays)
            return arrays

        flat.__name__ = self._function.__name__
        program = _Program(compile_as(flat))
        return program


def _drop_names(module: Any) -> None:
    """Where an operation comes from is a third of what is kept of a program, on disk and in memory.

    Only profiles need it: they are taken without the compilation cache.
    """
    with module.context:
        PassManager.parse("builtin.module(strip-debuginfo)").run(module.operation)


def _is_array(leaf: object) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _is_spread(leaf: object) -> bool:
    return isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1


def _folder() -> Path | None:
    folder = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    return Path(folder) / _FOLDER if folder and "://" not in folder else None


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _settings() -> tuple[object, ...]:
    """JAX's own settings that change what a function is traced to."""
    names = ("jax_enable_x64", "jax_default_matmul_precision", "jax_numpy_dtype_promotion")
    return tuple(getattr(jax.config, name) for name in names)


@functools.cache
def _versions() -> tuple[str, ...]:
    """All that a traced program depends on besides its arguments."""
    sources = hashlib.sha256()
    for path in sorted(_core_sources()):
        sources.update(path.read_bytes())
    versions = (jax.__version__, jaxlib.version.__version__, eqx.__version__)
    return (*versions, jax.default_backend(), sources.hexdigest())


def _core_sources() -> list[Path]:
    """The sources that programs are traced from, wherever this file lies among them."""
    files = _ROOT.rglob("*.py")
    return [path for path in files if path.relative_to(_ROOT).parts[0] not in _NOT_TRACED]


def _describe(tree: Any, arrays: list[Any]) -> Any:
    """What a result is made of, as JSON; its arrays are put in a list.

    Raises:
        TypeError: it holds something else than arrays, None, tuples and Modules of this package.
    """
    if tree is None:
        return None
    if isinstance(tree, jax.Array):
        arrays.append(tree)
        return len(arrays) - 1
    kind = type(tree)
    if kind is tuple:
        return [_describe(item, arrays) for item in tree]
    names = getattr(kind, "_fields", None)  # of a NamedTuple
    if names is None and isinstance(tree, eqx.Module):
        names = [field.name for field in dataclasses.fields(kind)]
    if names is None or not _is_ours(kind.__module__):
        raise TypeError(f"result: expected arrays in tuples and Modules of jaxface, got {kind}")
    fields = {name: _describe(getattr(tree, name), arrays) for name in names}
    return {"class": [kind.__module__, kind.__qualname__], "fields": fields}


def _rebuild(description: Any, arrays: list[Any]) -> Any:
    if description is None:
        return None
    if isinstance(description, int):
        return arrays[description]
    if isinstance(description, list):
        return tuple(_rebuild(item, arrays) for item in description)
    module, name = description["class"]
    if not _is_ours(module):
        raise ValueError(f"{module}: is no module of jaxface")
    fields = {key: _rebuild(value, arrays) for key, value in description["fields"].items()}
    return getattr(importlib.import_module(module), name)(**fields)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == _PACKAGE


def _read(path: Path) -> tuple[Any, bytes] | None:
    """Description and code; None where there is no such file, or a damaged one."""
    try:
        data = path.read_bytes()
        digest, body = data[:32], data[32:]
        if hashlib.sha256(body).digest() != digest:
            return None
        start = _LENGTH + int.from_bytes(body[:_LENGTH], "little")
        return json.loads(body[_LENGTH:start]), body[start:]
    except (OSError, ValueError):
        return None


def _write(path: Path, results: Any, code: bytes) -> None:
    """Keeps a program; one that cannot be written is traced again the next time."""
    description = json.dumps(results).encode()
    body = len(description).to_bytes(_LENGTH, "little") + description + code
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, hashlib.sha256(body).digest() + body)
