"""Programs whose traced form is kept on disk: tracing one takes seconds, reading it none.

They lie beside what JAX's compilation cache keeps, and only where that cache is turned on. For
CPUs the compiled form lies there too, so that nothing need be lowered to find it.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import io
import json
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax import export
from jax.extend.mlir.passmanager import PassManager

from .._files import (
    EXECUTABLES,
    check_entries,
    discard_damaged,
    load_executable,
    machine,
    name_executable,
    read_cached,
    replace_file,
    store_executable,
)
from ..errors import refuse_fork
from ._arguments import Argument, Arguments
from ._compiling import Notice
from ._keys import is_array, is_core, is_own, program_key, settings

_FOLDER = "jaxface-programs"
# Of the command line's cache; where it is 0, JAX's own cache, if it is on, is on by itself.
_SWITCH = "JAXFACE_COMPILE_CACHE"
_ENTRIES = "jit_call-*-cache"  # in JAX's cache: all our programs are calls of exported functions
_LENGTH = 8  # bytes that tell how long the description of the results is


class _Program:
    """One function for arguments of certain shapes, arrays to arrays."""

    def __init__(self, run: Callable[..., list[Any]], rebuild: Callable[[list[Any]], Any]):
        self._run = run
        self._rebuild = rebuild

    def __call__(self, leaves: list[Any]) -> Any:
        return self._rebuild(self._run(*leaves))


class StoredFunction:
    """A compiled function of Modules and arrays, like `eqx.filter_jit`'s, that is traced once.

    It is traced once in each process, and where JAX's compilation cache is on, once for all: then
    a program of nothing but this package's own classes and functions is kept on disk. One that
    holds a class or function of the user's, be it a Module, a solver or a subclass of ours, stays
    in memory. As with `jax.jit`, a new class or function is another program, even under the same
    name, and one that is changed in place is not noticed. Nor is a dict or list that is changed
    in place inside a Module; an edited Module, as `equinox.tree_at` gives it, is.
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
            function: pure. Of one that this package defines, the results are arrays in Modules of
                the package, in tuples or None, except for what comes from the arguments.
            compiler_options: asked late, as it may need a backend.
            donated: positions of arguments that the caller gives up, and whose memory the
                results may take.
        """
        self._function = function
        self._options = compiler_options
        self._donated = donated
        self._arguments = Arguments()
        self._programs: dict[object, _Program] = {}
        self._turns: dict[object, threading.Lock] = {}
        self._lock = threading.Lock()  # of `_turns`
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any) -> Any:
        refuse_fork(self._function.__name__)
        key, leaves, folder = self._look(args)
        program = self._programs.get(key)
        if program is not None:
            return program(leaves)
        with self._lock:
            turn = self._turns.setdefault(key, threading.Lock())
        with turn:  # calls of other programs go on
            program = self._programs.get(key)
            if program is not None:
                return program(leaves)
            notice = Notice(self._function.__name__, leaves)
            try:
                program = self._prepare(folder, args, notice)
                result = program(leaves)  # the first run of one that is not stored traces it
            finally:
                notice.stop()
            self._programs[key] = program
            return result

    def knows(self, *args: Any) -> bool:
        """Whether a program for such arguments is there, so that a call does not wait for one."""
        return self._look(args)[0] in self._programs

    def _look(self, args: tuple) -> tuple[object, list[Any], str | None]:
        """What a program is chosen by, its arrays, and the folder that it may be kept in."""
        looked = [self._arguments.look(arg) for arg in args]
        leaves = [array for argument in looked for array in argument.arrays]
        folder = _folder() if _is_at_home(looked) else None
        return (tuple(argument.key for argument in looked), folder, settings()), leaves, folder

    def _prepare(self, folder: str | None, args: tuple, notice: Notice) -> _Program:
        """Reads the program or makes a new one, which is stored if it may be."""
        arrays, statics = eqx.partition(args, is_array)
        key = None if folder is None else program_key(self._function, args)
        if folder is None or key is None:
            notice.start()
            return self._in_memory(arrays, statics, self._compile_as(arrays))
        name = f"{self._function.__name__}-{key}"
        kind = self._kind()
        file = Path(folder) / EXECUTABLES / f"{name}-{kind}"
        ready = None if kind is None else load_executable(file)
        if ready is not None:
            return _Program(ready.run, functools.partial(_rebuild, ready.description))
        leaves = jax.tree.leaves(arrays)
        shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
        path = Path(folder) / _FOLDER / name
        found = _read(path)
        since = 0.0 if found is None else _time(path)
        if found is None:
            notice.start()
            found = self._export(arrays, statics, shapes)
            _write(path, *found)
        results, code = found
        exported = export.deserialize(bytearray(code))
        jitted: Any = self._compile_as(arrays)(exported.call)
        lowered = jitted.lower(*shapes)
        digest = _drop_names(lowered.compiler_ir("stablehlo"))
        if kind is None:
            run = self._compile(lowered, path, since, notice)
            return _Program(run, functools.partial(_rebuild, results))
        # Other sources may have been traced to the same code.
        code = f"{digest}-{kind}"
        name_executable(file, code, results, len(leaves), len(exported.out_avals))
        ready = load_executable(file)
        run = self._compile(lowered, path, since, notice) if ready is None else ready.run
        if ready is None:
            store_executable(file.parent, code, run)
        return _Program(run, functools.partial(_rebuild, results))

    def _compile(self, lowered: Any, path: Path, since: float, notice: Notice) -> Any:
        """Compiles, or takes a program from JAX's cache, whose damaged entries are replaced.

        Args:
            path: of the traced program, whose time tells when entries were checked last.
            since: that time, s.
            notice: tells that it is compiled.
        """
        notice.start()
        check_entries(path.parents[1], _ENTRIES, since)
        run = lowered.compile()
        with contextlib.suppress(OSError):
            os.utime(path)
        return run

    def _kind(self) -> str | None:
        """What compiled programs depend on besides their code.

        None on other devices than CPUs, where JAX's cache alone keeps them.
        """
        if jax.default_backend() != "cpu":
            return None
        # Our own options follow from device and JAX; to ask for them, a program is compiled.
        options = self._options
        given = options.__name__ if is_own(options) else sorted(options().items())
        return hashlib.sha256(repr((machine(), given, self._donated)).encode()).hexdigest()[:16]

    def _compile_as(self, arrays: tuple) -> Callable[[Callable], Callable]:
        counts = [len(jax.tree.leaves(array)) for array in arrays]
        starts = np.cumsum([0, *counts])
        donated = [i for a in self._donated for i in range(starts[a], starts[a + 1])]
        options = self._options()
        arguments: dict[str, Any] = {"compiler_options": options} if options else {}
        return functools.partial(jax.jit, donate_argnums=donated, **arguments)

    def _in_memory(self, arrays: tuple, statics: tuple, compile_as: Callable) -> _Program:
        """A program whose results may be anything; tracing it tells what they are made of."""
        made_of: list[Any] = []

        def take_apart(result: Any) -> list[Any]:
            leaves, tree = jax.tree.flatten(result)
            places = [i for i, leaf in enumerate(leaves) if is_array(leaf)]
            made_of[:] = tree, places, [None if is_array(leaf) else leaf for leaf in leaves]
            return [leaves[i] for i in places]

        def rebuild(arrays: list[Any]) -> Any:
            tree, places, others = made_of
            leaves = list(others)
            for i, array in zip(places, arrays, strict=True):
                leaves[i] = array
            return jax.tree.unflatten(tree, leaves)

        return _Program(compile_as(self._flat(arrays, statics, take_apart)), rebuild)

    def _export(self, arrays: tuple, statics: tuple, shapes: list[Any]) -> tuple[Any, bytes]:
        """Traces the function; gives what its results are made of, and its code."""
        results: Any = None

        def take_apart(result: Any) -> list[Any]:
            nonlocal results
            leaves: list[Any] = []
            results = _describe(result, leaves)
            return leaves

        flat = jax.jit(self._flat(arrays, statics, take_apart))
        code = bytes(export.export(flat)(*shapes).serialize())  # pyright: ignore[reportArgumentType]
        return results, code

    def _flat(self, arrays: tuple, statics: tuple, take_apart: Callable) -> Callable:
        """The function from a list of arrays to another."""
        tree = jax.tree.structure(arrays)

        def flat(*leaves: Any) -> list[Any]:
            args = eqx.combine(jax.tree.unflatten(tree, leaves), statics)
            return take_apart(self._function(*args))

        flat.__name__ = self._function.__name__
        return flat


def _drop_names(module: Any) -> str:
    """Where an operation comes from is a third of what is kept of a program, on disk and in memory.

    Only profiles need it: they are taken without the compilation cache.

    Returns:
        A digest of the rest.
    """
    rest = io.BytesIO()
    with module.context:
        PassManager.parse("builtin.module(strip-debuginfo)").run(module.operation)
        module.operation.write_bytecode(file=rest)
    return hashlib.sha256(rest.getbuffer()).hexdigest()[:32]


def _is_at_home(arguments: Iterable[Argument]) -> bool:
    """Whether all lies on the first device, for which stored programs are compiled."""
    home = jax.local_devices()[0]
    if jax.config.jax_default_device not in (None, home):  # pyright: ignore[reportAttributeAccessIssue]
        return False
    return all(argument.devices <= {home} for argument in arguments)


def _folder() -> str | None:
    """Of JAX's compilation cache, where it is on and one of files, and ours is not turned off."""
    if os.environ.get(_SWITCH) == "0":
        return None
    folder = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    return folder if folder and "://" not in folder else None


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
    if names is None or not is_core(kind.__module__):
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
    if not is_core(module):
        raise ValueError(f"{module}: is no module of jaxface")
    fields = {key: _rebuild(value, arrays) for key, value in description["fields"].items()}
    return getattr(importlib.import_module(module), name)(**fields)


def _read(path: Path) -> tuple[Any, bytes] | None:
    """Description and code; None where there is no such file, or a damaged one, which goes."""
    data = read_cached(path)
    if data is None:
        return None
    digest, body = data[:32], data[32:]
    if hashlib.sha256(body).digest() != digest:
        discard_damaged(path)
        return None
    start = _LENGTH + int.from_bytes(body[:_LENGTH], "little")
    return json.loads(body[_LENGTH:start]), body[start:]


def _time(path: Path) -> float:
    """When a file was changed, s; 0 where that cannot be told."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _write(path: Path, results: Any, code: bytes) -> None:
    """Keeps a program; one that cannot be written is traced again the next time."""
    description = json.dumps(results).encode()
    body = len(description).to_bytes(_LENGTH, "little") + description + code
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, hashlib.sha256(body).digest() + body)
