"""Compiled programs in files, with what it takes to call them: nothing is traced or lowered.

JAX's compilation cache, beside which they lie, finds a program by its code, which must be read and
lowered first; these are found by name, and so can be read while Python still loads its modules.
They hold machine code and pickled records of JAX: like that cache, they belong in a folder that
nobody else can write.
"""

import contextlib
import functools
import hashlib
import inspect
import json
import os
import platform
import threading
import time
import zlib
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from ._atomic import replace_file
from ._damaged import DamagedError, discard_damaged, read_cached

EXECUTABLES = "jaxface-executables"  # folder in that of JAX's compilation cache
_OBJECTS = (b"\x7fELF", b"\xcf\xfa\xed\xfe")  # how machine code begins: of Linux, of macOS
_LEVEL = 1  # of compression, which takes a third of the space and adds 2 % to the time
_CPU_INFO = Path("/proc/cpuinfo")
_EVENT = "/jaxface/load_executable"

_lock = threading.Lock()
_coming: dict[Path, "Future[Executable | None]"] = {}
_used: dict[Path, None] = {}  # in order


class Executable(NamedTuple):
    """A program that can be called."""

    description: Any  # what was stored with it, of JSON
    run: Any  # jax.stages.Compiled: arrays to arrays


@functools.cache
def machine() -> str:
    """A digest of what machine code depends on besides its program: device, JAX, flags."""
    import jax
    import jaxlib.version

    client = jax.local_devices()[0].client
    known = (
        *(jax.__version__, jaxlib.version.__version__, platform.python_version()),
        *(client.platform, client.platform_version, platform.machine(), _instructions()),
        *(os.environ.get("XLA_FLAGS"), getattr(jax.config, "jax_disable_most_optimizations", None)),
    )
    return hashlib.sha256(repr(known).encode()).hexdigest()[:16]


def _instructions() -> str:
    """Names of the processor's instructions, where the system tells them."""
    with contextlib.suppress(OSError, StopIteration):
        lines = _CPU_INFO.read_text().splitlines()
        return next(line for line in lines if line.lower().startswith(("flags", "features")))
    return platform.processor()


def name_executable(path: Path, code: str, description: Any, inputs: int, outputs: int) -> None:
    """Makes a name for a compiled program, so that it is found without its code.

    Programs of one code share what `store_executable` kept, under whatever names.

    Args:
        path: the name; its folder is made if it is missing.
        code: digest of what was compiled, on this machine and with the same options.
        description: of JSON, handed back with the program.
        inputs: number of arrays that it takes.
        outputs: number of arrays that it gives, in a list.
    """
    named = json.dumps([code, description, inputs, outputs]).encode()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, hashlib.sha256(named).digest() + named)
    with _lock:
        _used[path] = None


def store_executable(folder: Path, code: str, compiled: Any) -> None:
    """Keeps a compiled program; where that cannot be done, nothing is kept.

    Args:
        folder: is made if it is missing.
        code: digest of what was compiled, on this machine and with the same options.
        compiled: `jax.stages.Compiled` of a function of arrays. One that JAX took from its own
            cache has lost its machine code, and is not kept.
    """
    from jax.experimental import serialize_executable

    try:
        payload, _, _ = serialize_executable.serialize(compiled)
        if not any(magic in payload for magic in _OBJECTS):
            return
        body = zlib.compress(payload, _LEVEL)
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / code, hashlib.sha256(body).digest() + body)
    except Exception:  # of JAX, which cannot do it with every program and device, or of the disk
        return


def load_executable(path: Path) -> Executable | None:
    """Reads the program of a name, or takes it where it was read ahead of use.

    Args:
        path: as given to `name_executable`.
    Returns:
        None where there is none, or it is damaged.
    """
    with _lock:
        found = _coming.pop(path, None)
        if found is None:  # what was read ahead in its place was guessed wrong
            kind = path.name.partition("-")[0]
            for other in [p for p in _coming if p.name.partition("-")[0] == kind]:
                _coming.pop(other).cancel()
    executable = _read(path) if found is None else found.result()
    if executable is not None:
        with _lock:
            _used[path] = None
    return executable


def ahead_of_use(paths: Iterable[Path]) -> None:
    """Starts to read programs in a thread of its own, in this order.

    To load one takes twice the memory that it needs afterwards; so no two are loaded at once.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="jaxface-programs")
    with _lock:
        for path in paths:
            if path not in _coming and path not in _used:
                _coming[path] = pool.submit(_read, path)
    pool.shutdown(wait=False)


def executable_size(path: Path) -> int:
    """Bytes of the program of a name; 0 where there is none."""
    try:
        return path.with_name(_parse_name(path.read_bytes())[0]).stat().st_size
    except (OSError, DamagedError):
        return 0


def executables_used() -> list[Path]:
    """Names of the programs that this process has loaded or compiled, in that order."""
    with _lock:
        return list(_used)


def _read(path: Path) -> Executable | None:
    """What is damaged is removed: in its place would not be written, or it would be read again."""
    named = read_cached(path)
    if named is None:
        return None
    try:
        code, description, inputs, outputs = _parse_name(named)
    except DamagedError:
        discard_damaged(path)
        return None
    file = path.with_name(code)
    data = read_cached(file)
    if data is None:
        return None
    digest, body = data[:32], data[32:]
    if hashlib.sha256(body).digest() != digest:
        discard_damaged(file)
        return None
    try:
        return Executable(description, _revive(zlib.decompress(body), inputs, outputs))
    except Exception:  # of JAX, which wrote the same bytes: the program is then compiled
        return None


def _parse_name(data: bytes) -> tuple[str, Any, int, int]:
    """What `name_executable` wrote.

    Raises:
        DamagedError: it is something else.
    """
    try:
        digest, named = data[:32], data[32:]
        code, description, inputs, outputs = json.loads(named)
    except (ValueError, TypeError) as error:
        raise DamagedError("no name of a program") from error
    if hashlib.sha256(named).digest() != digest:
        raise DamagedError("a damaged name of a program")
    return code, description, inputs, outputs


def _revive(payload: bytes, inputs: int, outputs: int) -> Any:
    import jax
    from jax import monitoring
    from jax.experimental import serialize_executable

    load = serialize_executable.deserialize_and_load
    arguments = jax.tree.structure((tuple(range(inputs)), {}))
    results = jax.tree.structure([0] * outputs)
    device = jax.local_devices()[0]
    # JAX before 0.5 takes the device from the program.
    several = "execution_devices" in inspect.signature(load).parameters
    more: dict[str, Any] = {"execution_devices": [device]} if several else {}
    begin = time.monotonic()
    compiled = load(payload, arguments, results, backend=device.client, **more)
    monitoring.record_event_duration_secs(_EVENT, time.monotonic() - begin)
    return compiled
