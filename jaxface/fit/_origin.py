"""What a prepared model was made from, carried along without being one of its arrays."""

import dataclasses
import hashlib
from typing import Any, ClassVar, Generic, TypeVar

import jax
import numpy as np

Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Origin(Generic[Tree]):
    """A pytree as static data: no program depends on it, and no edit can reach it.

    Two are equal if they hold the same structure and values, so that models loaded twice share
    their programs.
    """

    tree: Tree
    in_no_program: ClassVar[bool] = True  # programs are found without looking at it

    def __repr__(self) -> str:
        return "Origin()"

    def __hash__(self) -> int:
        return 0  # of what programs are chosen by, only models differ in it

    def __eq__(self, other: object) -> Any:
        if self is other:
            return True
        if not isinstance(other, Origin):
            return NotImplemented
        return self._digest() == other._digest()

    def _digest(self) -> bytes:
        known: bytes | None = self.__dict__.get("_known")
        if known is None:
            leaves, structure = jax.tree.flatten(self.tree)
            digest = hashlib.sha256(str(structure).encode())
            for leaf in leaves:
                array = np.ascontiguousarray(leaf)
                digest.update(f"{array.dtype} {array.shape}".encode())
                digest.update(array.tobytes())
            known = digest.digest()
            object.__setattr__(self, "_known", known)
        return known
