"""What a program on disk is found by: all that its trace depended on, written out as text.

Only what this package's own sources define can be named so that another process finds the same
program, and no other. A class or function of the user's has a name too, but what it does may have
been edited since; a program that holds one is never kept.
"""

import contextlib
import dataclasses
import enum
import functools
import hashlib
import importlib.metadata
import sys
import types
from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
import jaxlib.version
import numpy as np
from jax.sharding import Mesh

from .._files import NOT_TRACED, SOURCE_DIGEST

_PACKAGE = __name__.partition(".")[0]
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
# The core calls these at trace time; NumPy makes the constants that go into a program.
_VERSIONS = {
    "jax": jax.__version__,
    "jaxlib": jaxlib.version.__version__,
    "equinox": eqx.__version__,
    "numpy": np.__version__,
}
# Solvers call these where they are installed (the extra `solvers`).
_OPTIONAL = ("lineax", "optax", "optimistix")
# The core imports these too, but no trace depends on them: annotations, model files, bars.
_UNTRACED = ("jaxtyping", "lazy_loader", "platformdirs", "safetensors", "tqdm")
_KNOWN = {_PACKAGE, *_VERSIONS, *_UNTRACED, "builtins", *sys.stdlib_module_names}


class _Foreign(Exception):
    """Something that is not the package's own."""


def is_array(leaf: object) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def settings() -> tuple[object, ...]:
    """JAX's own settings that change what a function is traced to."""
    names = ("jax_enable_x64", "jax_default_matmul_precision", "jax_numpy_dtype_promotion")
    return tuple(getattr(jax.config, name) for name in names)


def program_key(function: object, args: tuple[object, ...]) -> str | None:
    """A digest of what a program is traced from; None where something of the user's is in it.

    Args:
        function: that is traced.
        args: its arguments. Arrays count by shape and type; Modules, settings and functions by
            name and content.
    """
    try:
        arrays: list[Any] = []
        called = _name(function, []), _name(args, arrays)
    except _Foreign:
        return None
    # An array that is no leaf of the pytree is a constant of the program.
    if len(arrays) != sum(map(is_array, jax.tree.leaves(args))) or _is_patched():
        return None
    shapes = [(array.shape, np.dtype(array.dtype).name) for array in arrays]
    found = *_VERSIONS.items(), *_optional_versions()
    named = (*found, jax.default_backend(), SOURCE_DIGEST, *called, shapes, settings())
    return hashlib.sha256("\n".join(map(repr, named)).encode()).hexdigest()[:32]


@functools.cache
def _optional_versions() -> tuple[tuple[str, str], ...]:
    """Versions of the optional packages, without loading them."""
    versions = []
    for name in _OPTIONAL:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append((name, importlib.metadata.version(name)))
    return tuple(versions)


def _name(value: Any, arrays: list[Any]) -> str:
    """Writes a value out; its arrays are put in a list.

    Raises:
        _Foreign: it is, or holds, something that is not the package's own. A subclass, a lambda,
            a bound method, a partial function are not, whatever they are made from.
    """
    kind = type(value)
    if is_array(value):
        arrays.append(value)
        return "array"
    if kind in _PLAIN:
        return repr(value)
    if kind in (tuple, list):
        return f"{kind.__name__}({_names(value, arrays)})"
    if kind is frozenset:
        return f"frozenset({sorted(_name(item, arrays) for item in value)})"
    if kind is dict:
        return f"dict({_names((member for item in value.items() for member in item), arrays)})"
    if isinstance(value, np.dtype):
        return f"dtype({value!r})"
    if kind is Mesh:
        return f"mesh({value!r} {[device.id for device in value.devices.flat]})"
    if kind is type and issubclass(value, np.generic) and np.dtype(value).type is value:
        return f"dtype({value.__name__})"
    if is_own(value):
        return f"{value.__module__}:{value.__qualname__}"
    if not is_own(kind):
        raise _Foreign
    if getattr(kind, "in_no_program", False):
        return kind.__qualname__
    members = (getattr(value, field) for field in _fields(value))
    return f"{kind.__module__}:{kind.__qualname__}({_names(members, arrays)})"


def _names(values: Iterable[object], arrays: list[Any]) -> str:
    return ", ".join(_name(value, arrays) for value in values)


def _fields(value: Any) -> Iterable[str]:
    """Names of what an object of one of our classes is made of."""
    if isinstance(value, enum.Enum):
        return ("_value_",)
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    if isinstance(value, tuple):
        return value._fields  # pyright: ignore[reportAttributeAccessIssue]
    raise _Foreign  # an object whose state is not known


def is_own(thing: Any) -> bool:
    """Whether a class or function is one that the package's core defines under its own name."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or not is_core(module):
        return False
    found: Any = sys.modules.get(module)
    for step in name.split("."):
        found = getattr(found, step, None)  # of a local one, "<locals>" is not found
    return found is thing or getattr(found, "__wrapped__", None) is thing


def is_core(module: str) -> bool:
    """Whether a module, by name, is one that programs are traced from."""
    package, *rest = module.split(".")
    return package == _PACKAGE and rest[:1] not in [[name] for name in NOT_TRACED]


def _is_patched() -> bool:
    """Whether someone has put a class or function of theirs in place of one of the core's."""
    modules = [module for name, module in list(sys.modules.items()) if is_core(name)]
    return any(_is_replaced(thing) for module in modules for thing in list(vars(module).values()))


def _is_replaced(thing: Any) -> bool:
    if not _is_known(thing):
        return True
    if not isinstance(thing, type) or not is_core(thing.__module__):
        return False
    return not all(map(_is_known, map(_function_of, list(vars(thing).values()))))


def _function_of(attribute: Any) -> Any:
    """The function behind a class's attribute; Equinox keeps methods in `method`."""
    for name in ("__func__", "fget", "func", "method"):
        attribute = getattr(attribute, name, attribute)
    return attribute


def _is_known(thing: Any) -> bool:
    """Whether it comes from here or from what the core imports; data does."""
    if isinstance(thing, types.FunctionType):  # one that wraps another has the other's __module__
        module = thing.__globals__.get("__name__")
    else:
        module = getattr(thing, "__module__", None)
    if not isinstance(module, str) or module.startswith("namedtuple_"):  # of its `__new__`
        return True
    return module.partition(".")[0] in _KNOWN
