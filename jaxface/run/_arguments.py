"""Arguments of a stored function: what its program is chosen by, and the arrays that it takes.

A model has hundreds of arrays, and to look through them takes longer than to start a program. It
is looked through once: Modules are frozen, so an edited model is another object.
"""

import threading
import weakref
from collections.abc import Hashable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ._keys import is_array

_MANY = 50  # leaves; what has fewer is looked through as quickly as it is looked up
_MOST = 16  # models of one function that are remembered


class Argument:
    """One argument, looked through."""

    def __init__(self, value: Any):
        leaves, tree = jax.tree.flatten(value)
        self.arrays: list[Any] = [leaf for leaf in leaves if is_array(leaf)]
        self.devices: frozenset[Any] = frozenset().union(
            *(leaf.sharding.device_set for leaf in self.arrays if isinstance(leaf, jax.Array))
        )
        self.count = len(leaves)
        self.key = _Key((tree, tuple(map(_kind, leaves))))


class _Key:
    """A key whose hash is computed once, and that is compared only with those that are not it."""

    __slots__ = ("_hash", "_value")

    def __init__(self, value: Hashable):
        self._value = value
        self._hash = hash(value)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, _Key) and self._value == other._value


class Arguments:
    """Looks arguments through, and remembers those that have many arrays while they live."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], Argument]] = {}
        self._lock = threading.RLock()  # a collection of garbage may call `_forget` at any place

    def look(self, value: Any) -> Argument:
        """The argument, looked through now or before.

        Args:
            value: anything. A Module is remembered by identity.
        Raises:
            TypeError: a leaf that is no array cannot be hashed.
        """
        if not isinstance(value, eqx.Module):
            return Argument(value)
        found = self._known.get(id(value))
        if found is not None and found[0]() is value:
            return found[1]
        argument = Argument(value)
        if argument.count >= _MANY:
            self._remember(value, argument)
        return argument

    def _remember(self, value: eqx.Module, argument: Argument) -> None:
        name = id(value)
        reference = weakref.ref(value, lambda reference: self._forget(name, reference))
        with self._lock:
            self._known[name] = reference, argument
            while len(self._known) > _MOST:
                self._known.pop(next(iter(self._known)))

    def _forget(self, name: int, reference: weakref.ref[Any]) -> None:
        """Drops the arrays of a Module that is gone; its number may be another's by now."""
        with self._lock:
            found = self._known.get(name)
            if found is not None and found[0] is reference:
                del self._known[name]


def _kind(leaf: Any) -> Hashable:
    """What of a leaf a program depends on: shape and type of an array, all of anything else."""
    if is_array(leaf):
        return leaf.shape, np.dtype(leaf.dtype)
    return type(leaf), leaf
