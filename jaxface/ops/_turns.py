"""Functions that `jax.vmap` maps over a batch one item after the other.

A `lax.cond` whose predicate is batched becomes a select: both branches are computed for every item.
Where branches are there to save work, as in detection and fitting, `vmap` then costs tens of times
what a loop costs. `call_in_turn` runs a function so that `vmap` of it is a loop instead, in which
each item takes its own branches; derivatives of any kind and order pass through it.

Two things make that up. A primitive holds the function as a jaxpr, and its batching rule is a
`lax.map`. And `jax.custom_jvp` gives it derivatives: the value is computed together with what its
linearisation needs, and the linear function that is left is the same primitive again, now with a
transposition. Only tangents or cotangents batched, as in `jax.jacfwd` and `jax.jacrev`, share their
branches, which depend on the value alone: there plain `vmap` serves, and is fast.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import ShapedArray
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

Result = TypeVar("Result")

# Takes arguments, of which the function is linear in the last `linear`.
_call_p = Primitive("in_turn")
_call_p.multiple_results = True


def call_in_turn(function: Callable[..., Result], *args: Any) -> Result:
    """Calls a function so that `jax.vmap` computes one item of a batch after the other.

    Without `vmap` nothing changes, neither values nor derivatives. Under `vmap` an item costs what
    it costs by itself, also in reverse mode, whose memory is that of one item times their number.

    Args:
        function: pure; what it closes over may be traced too.
        args: pytrees. Arrays in them are mapped and differentiated, everything else is static.
    Returns:
        What `function` gives, a pytree of arrays.
    """
    arrays, static = eqx.partition(args, _is_array)
    leaves, tree = jax.tree.flatten(arrays)

    def flat(*leaves: Any) -> Result:
        return function(*eqx.combine(jax.tree.unflatten(tree, leaves), static))

    closed, shapes = jax.make_jaxpr(flat, return_shape=True)(*leaves)
    # What the function closes over may be traced, and so is an argument.
    outs = _call(_hoist(closed), *closed.consts, *leaves)
    # A result that depends on no argument is a Python number in a jaxpr.
    expected, structure = jax.tree.flatten(shapes)
    results = [jnp.asarray(out, leaf.dtype) for out, leaf in zip(outs, expected, strict=True)]
    return jax.tree.unflatten(structure, results)


def _hoist(closed: ClosedJaxpr) -> ClosedJaxpr:
    """The same function with its constants as its first arguments."""
    count = len(closed.consts)
    if not count:
        return closed

    def call(*args: Any) -> list[Any]:
        return jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, args[:count]))(*args[count:])

    return jax.make_jaxpr(call)(*_shapes(closed.consts), *_shapes(closed.in_avals))


def _shapes(arrays: Iterable[Any]) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays]


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


# Values and derivatives


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _call(jaxpr: ClosedJaxpr, *args: Any) -> list[Any]:
    return _call_p.bind(*args, jaxpr=jaxpr, linear=0)


@functools.partial(_call.defjvp, symbolic_zeros=True)
def _call_jvp(
    jaxpr: ClosedJaxpr, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[list[Any], list[Any]]:
    moving = tuple(i for i, dot in enumerate(tangents) if not _is_zero(dot))
    if not moving:
        outs = _call(jaxpr, *primals)
        return outs, list(map(SymbolicZero.from_primal_value, outs))
    parts = _linearise(jaxpr, moving)
    found, count = _call(parts.value, *primals), len(jaxpr.out_avals)
    outs, residuals = found[:count], found[count:]
    dots = [tangents[i] for i in moving]
    pushed = iter(_call_p.bind(*residuals, *dots, jaxpr=parts.push, linear=len(dots)))
    zero = SymbolicZero.from_primal_value
    return outs, [next(pushed) if _is_float(out) else zero(out) for out in outs]


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, SymbolicZero | ad.Zero) or tangent.dtype == jax.dtypes.float0


def _is_float(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jnp.inexact)


class _Linearised(NamedTuple):
    """A function cut into its value and its derivative."""

    value: ClosedJaxpr  # args -> outs and residuals
    push: ClosedJaxpr  # residuals and tangents of the moving args -> tangents of the inexact outs


@functools.lru_cache(maxsize=8)
def _linearise(jaxpr: ClosedJaxpr, moving: tuple[int, ...]) -> _Linearised:
    """Cuts a function into its value and its derivative by some of its arguments."""
    pushes: list[ClosedJaxpr] = []

    def value(*args: Any) -> list[Any]:
        def along(*moved: Any) -> list[Any]:
            return jaxpr_as_fun(jaxpr)(*_put(args, moving, moved))

        start = [args[i] for i in moving]
        outs, push = jax.linearize(along, *start)
        traced = jax.make_jaxpr(lambda *dots: [d for d in push(*dots) if _is_float(d)])(*start)
        pushes.append(_hoist(traced))
        return [*outs, *traced.consts]

    closed = jax.make_jaxpr(value)(*_shapes(jaxpr.in_avals))
    return _Linearised(closed, pushes[-1])


# Rules of the primitive


class _Level(NamedTuple):
    """One `vmap` around a linear function: a loop over the first axis."""

    length: int
    mapped: tuple[bool, ...]  # arguments with that axis; the others are the same for all items
    summed: tuple[bool, ...]  # results that are added up; the others are stacked


def _apply(
    *args: Any,
    jaxpr: ClosedJaxpr,
    linear: int,
    levels: tuple[_Level, ...] = (),
    call: Callable[..., list[Any]] | None = None,
) -> list[Any]:
    """Runs the loops, the outermost first; `call` is what runs in them, by default the jaxpr."""
    if not levels:
        return jaxpr_as_fun(jaxpr)(*args) if call is None else call(jaxpr, *args)
    level, inner = levels[0], levels[1:]

    def step(sums: list[Any], items: list[Any]) -> tuple[list[Any], list[Any]]:
        left = iter(items)
        full = [next(left) if m else arg for m, arg in zip(level.mapped, args, strict=True)]
        outs = _apply(*full, jaxpr=jaxpr, linear=linear, levels=inner, call=call)
        added, stacked = _divide(level.summed, outs)
        return [a + b for a, b in zip(sums, added, strict=True)], stacked

    shapes, _ = _divide(level.summed, _out_shapes(jaxpr, inner))
    zeros = [jnp.zeros(shape.shape, shape.dtype) for shape in shapes]
    items, _ = _divide(level.mapped, args)
    sums, stacks = (iter(outs) for outs in lax.scan(step, zeros, items, length=level.length))
    return [next(sums) if is_sum else next(stacks) for is_sum in level.summed]


def _divide(chosen: Iterable[bool], values: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """Values that are chosen, and the others."""
    pairs = list(zip(chosen, values, strict=True))
    return [v for c, v in pairs if c], [v for c, v in pairs if not c]


def _out_shapes(jaxpr: ClosedJaxpr, levels: tuple[_Level, ...]) -> list[jax.ShapeDtypeStruct]:
    shapes = _shapes(jaxpr.out_avals)
    for level in reversed(levels):
        shapes = [
            s if is_sum else jax.ShapeDtypeStruct((level.length, *s.shape), s.dtype)
            for s, is_sum in zip(shapes, level.summed, strict=True)
        ]
    return shapes


def _abstract(
    *args: Any, jaxpr: ClosedJaxpr, linear: int, levels: tuple[_Level, ...] = ()
) -> list[ShapedArray]:
    return [ShapedArray(shape.shape, shape.dtype) for shape in _out_shapes(jaxpr, levels)]


def _batch(
    args: tuple[Any, ...],
    dims: tuple[Any, ...],
    *,
    jaxpr: ClosedJaxpr,
    linear: int,
    levels: tuple[_Level, ...] = (),
) -> tuple[list[Any], list[int]]:
    """One item after the other; all at once where they share the point of linearisation."""
    mapped = tuple(dim is not None for dim in dims)
    fixed = len(args) - linear
    if linear and not any(mapped[:fixed]):
        return _batch_tangents(args, dims, jaxpr=jaxpr, linear=linear, levels=levels)
    full = [
        jnp.moveaxis(arg, dim, 0) if m else arg
        for arg, dim, m in zip(args, dims, mapped, strict=True)
    ]
    length = next(arg.shape[0] for arg, m in zip(full, mapped, strict=True) if m)
    level = _Level(length, mapped, (False,) * len(jaxpr.out_avals))
    if linear:
        outs = _call_p.bind(*full, jaxpr=jaxpr, linear=linear, levels=(level, *levels))
    else:
        outs = _apply(*full, jaxpr=jaxpr, linear=0, levels=(level,), call=_call)
    return outs, [0] * len(outs)


def _batch_tangents(
    args: tuple[Any, ...],
    dims: tuple[Any, ...],
    *,
    jaxpr: ClosedJaxpr,
    linear: int,
    levels: tuple[_Level, ...],
) -> tuple[list[Any], list[int]]:
    """All tangents at once. The axis lies behind those of the loops."""
    depths = [sum(flags) for flags in zip(*(level.mapped for level in levels), strict=True)]
    depths = depths or [0] * len(args)
    moved = [
        arg if dim is None else jnp.moveaxis(arg, dim, depth)
        for arg, dim, depth in zip(args, dims, depths, strict=True)
    ]
    axes = tuple(None if dim is None else 0 for dim in dims)
    inner = [
        jax.ShapeDtypeStruct(arg.shape[depth:], arg.dtype)
        for arg, depth in zip(moved, depths, strict=True)
    ]
    # Again a primitive: an outer `vmap` may map the point of linearisation.
    together = jax.make_jaxpr(jax.vmap(jaxpr_as_fun(jaxpr), in_axes=axes))(*inner)
    outs = _call_p.bind(*moved, jaxpr=together, linear=linear, levels=levels)
    stacked = [[not is_sum for is_sum in level.summed] for level in levels]
    return outs, [sum(flags) for flags in zip(*stacked, strict=True)] or [0] * len(outs)


def _push_forward(
    primals: tuple[Any, ...],
    tangents: tuple[Any, ...],
    *,
    jaxpr: ClosedJaxpr,
    linear: int,
    levels: tuple[_Level, ...] = (),
) -> tuple[list[Any], list[Any]]:
    """Derivative of a linear function, also by its point of linearisation."""
    fixed = len(primals) - linear
    settings = {"jaxpr": jaxpr, "linear": linear, "levels": levels}
    if all(map(_is_zero, tangents[:fixed])):
        dots = map(ad.instantiate_zeros, tangents[fixed:])
        outs = _call_p.bind(*primals, **settings)
        return outs, _call_p.bind(*primals[:fixed], *dots, **settings)
    moving = [i for i, dot in enumerate(tangents) if not _is_zero(dot)]

    def along(*moved: Any) -> list[Any]:
        return _apply(*_put(primals, moving, moved), **settings, call=_call)

    return jax.jvp(along, [primals[i] for i in moving], [tangents[i] for i in moving])


def _put(values: Iterable[Any], places: Iterable[int], others: Iterable[Any]) -> list[Any]:
    """Values with others at some places."""
    full = list(values)
    for place, other in zip(places, others, strict=True):
        full[place] = other
    return full


def _pull_back(
    cotangents: list[Any],
    *args: Any,
    jaxpr: ClosedJaxpr,
    linear: int,
    levels: tuple[_Level, ...] = (),
) -> list[Any]:
    """Transposition: the linear function of the cotangents, by the same primitive."""
    fixed = len(args) - linear
    residuals, dots = args[:fixed], args[fixed:]
    if any(map(ad.is_undefined_primal, residuals)):
        raise NotImplementedError("in_turn: it is linear in its last arguments only")
    wanted = tuple(i for i, dot in enumerate(dots) if ad.is_undefined_primal(dot))
    if all(isinstance(ct, ad.Zero) for ct in cotangents):
        return [ad.Zero(arg.aval) if ad.is_undefined_primal(arg) else None for arg in args]
    arrays = [ad.instantiate_zeros(ct) for ct in cotangents]

    def turn(level: _Level) -> _Level:
        # What all items share gets the sum of what each gives back.
        stacked = tuple(not is_sum for is_sum in level.summed)
        shared = tuple(not level.mapped[fixed + i] for i in wanted)
        return _Level(level.length, (*level.mapped[:fixed], *stacked), shared)

    settings = {"jaxpr": _transpose(jaxpr, linear, wanted), "levels": tuple(map(turn, levels))}
    found = iter(_call_p.bind(*residuals, *arrays, linear=len(arrays), **settings))
    return [*[None] * fixed, *(next(found) if i in wanted else None for i in range(linear))]


@functools.lru_cache(maxsize=8)
def _transpose(jaxpr: ClosedJaxpr, linear: int, wanted: tuple[int, ...]) -> ClosedJaxpr:
    """Residuals and cotangents of a linear function -> cotangents of some linear arguments."""
    shapes = _shapes(jaxpr.in_avals)
    fixed = len(shapes) - linear

    def pull(*args: Any) -> tuple[Any, ...]:
        residuals, cotangents = args[:fixed], args[fixed:]

        def push(*dots: Any) -> list[Any]:
            still = [jnp.zeros(shape.shape, shape.dtype) for shape in shapes[fixed:]]
            return jaxpr_as_fun(jaxpr)(*residuals, *_put(still, wanted, dots))

        transposed = jax.linear_transpose(push, *(shapes[fixed + i] for i in wanted))
        return transposed(list(cotangents))

    return jax.make_jaxpr(pull)(*shapes[:fixed], *_shapes(jaxpr.out_avals))


_call_p.def_impl(_apply)
_call_p.def_abstract_eval(_abstract)
mlir.register_lowering(_call_p, mlir.lower_fun(_apply, multiple_results=True))
ad.primitive_jvps[_call_p] = _push_forward
ad.primitive_transposes[_call_p] = _pull_back
batching.primitive_batchers[_call_p] = _batch
