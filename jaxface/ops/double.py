"""Sums and products of about 45 bits from float32, as unevaluated pairs.

A pair (high, low) stands for high + low, with high the float32 nearest to it. OpenFace computes
some intermediate values in float64 and rounds them once to float32; these give the same number
where float64 is not to be had. Products are split into exact ones, so that a compiler that fuses
a product with a sum changes nothing.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

_ROW = 32  # XLA cuts longer sums into windows, which is slow on CPUs

Single = Float[Array, "..."]
Pair = tuple[Single, Single]


def split(value: Single) -> Pair:
    """Head and tail of 12 significant bits each; products of such are exact."""
    info = jnp.finfo(value.dtype)
    bits = lax.bitcast_convert_type(value, jnp.dtype(f"int{info.bits}"))
    head = lax.bitcast_convert_type(bits & -(2 ** (info.nmant // 2 + 1)), value.dtype)
    return head, value - head


def single(value: Single) -> Pair:
    """The pair of one number."""
    return value, jnp.zeros_like(value)


def exact_sum(a: Single, b: Single) -> Pair:
    """a + b without error (Knuth's two-sum)."""
    high = a + b
    added = high - a  # what of b came in
    return high, (a - (high - added)) + (b - added)


def normalise(high: Single, low: Single) -> Pair:
    """The pair of high + low where high is the larger."""
    total = high + low
    return total, low - (total - high)


def exact_product(a: Single, b: Single) -> Pair:
    """a * b; `high` is the product rounded once, whatever happens to it afterwards."""
    a_head, a_tail = split(a)
    b_head, b_tail = split(b)
    middle, rest = exact_sum(a_head * b_tail, a_tail * b_head)
    high, low = exact_sum(a_head * b_head, middle)
    return normalise(high, low + (rest + a_tail * b_tail))


def rounded_product(a: Single, b: Single) -> Single:
    """a * b rounded to float32 before anything else happens to it.

    Compilers fuse a product with the sum that follows, which then rounds once and not twice.
    """
    return exact_product(a, b)[0]


def short_product(factor: float, value: Single) -> Single:
    """`rounded_product` by a number of at most 12 significant bits, in fewer operations.

    The product is a sum of two exact ones, so that fusion changes nothing.
    """
    head, tail = split(value)
    return factor * head + factor * tail


def fused_product(a: Single, b: Single, c: Single) -> Single:
    """a * b + c rounded once, as processors do that have the instruction."""
    return add(exact_product(a, b), single(c))[0]


def add(a: Pair, b: Pair) -> Pair:
    """a + b; relative to the larger of them where they cancel."""
    high, low = exact_sum(a[0], b[0])
    rest, lost = exact_sum(a[1], b[1])
    high, low = normalise(high, low + rest)
    return normalise(high, low + lost)


def negate(a: Pair) -> Pair:
    """-a."""
    return -a[0], -a[1]


def multiply(a: Pair, b: Pair) -> Pair:
    """a * b."""
    high, low = exact_product(a[0], b[0])
    return normalise(high, low + (a[0] * b[1] + a[1] * b[0]))


def reciprocal(a: Pair) -> Pair:
    """1 / a, by one of Newton's steps from float32's."""
    guess = 1 / a[0]
    product = multiply(a, single(guess))
    return normalise(guess, guess * ((1 - product[0]) - product[1]))


def quotient(a: Pair, count: Single | np.float32) -> Single:
    """a divided by integers below 4096, rounded to float32."""
    guess = a[0] / count
    head, tail = split(guess)
    return guess + (((a[0] - count * head) - count * tail) + a[1]) / count


def total(values: Pair, bound: float) -> Pair:
    """Sum over the first axis of at most 256 numbers.

    Each number is cut at two places, the same for all, so that the sums of the upper two pieces
    are exact.

    Args:
        bound: a power of 2 above all numbers; one far too large costs digits.
    """
    high, low = values
    upper = _cut(high, bound * 2.0**-16)
    rest = high - upper
    middle = _cut(rest, bound * 2.0**-32)
    first, second = exact_sum(_sum(upper), _sum(middle))
    return normalise(first, second + _sum(low + (rest - middle)))


def _cut(value: Single, unit: float) -> Single:
    """The nearest multiple of a power of 2."""
    return jnp.round(value * (1 / unit)) * unit


def _sum(values: Single) -> Single:
    """Sum over the first axis, by rows."""
    count = -len(values) % _ROW
    filled = jnp.pad(values, [(0, count)] + [(0, 0)] * (values.ndim - 1))
    rows = filled.reshape(-1, _ROW, *values.shape[1:])
    return jnp.sum(jnp.sum(rows, axis=1), axis=0)
