"""The similarity between two point sets, to the last bit of OpenFace's float32.

The areas around the landmarks are sampled in cells of 1/32 px, and a face of the mean shape puts
many of their corners on the edges of cells: one unit in the last place of this similarity decides
for them all. Hence every step is rounded where OpenFace rounds it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..ops import (
    double,
    few_on_cuda,
    in_float64,
    materialise,
    narrow,
    similarity_matrix,
    similarity_sums,
    widen,
)

Points = Float[Array, "n 2"]
Matrix = Float[Array, "2 2"]

_NEGLIGIBLE = 2.0**-22  # cosine between two columns that counts as orthogonal
_ROTATIONS = 2  # of the golden matrices none needs a third


@jax.custom_jvp
def similarity(points: Points, target: Points) -> tuple[Matrix, Matrix]:
    """Turn and scale that map centred `points` to `target`, and their inverse.

    The scale is the ratio of RMS radii, not the least-squares one. OpenFace finds the turn by a
    float32 singular value decomposition (one-sided Jacobi), with sums in float64.

    Reference:
        Specification 02, C.2.
    """
    return in_float64(_in_float64, _in_pairs, points, target)


@similarity.defjvp
def _similarity_jvp(primals, tangents):
    """The derivative of the closed form, which the rounding does not change."""
    tangent = jax.jvp(closed_similarity, primals, tangents)[1]
    return similarity(*primals), tangent


def similarity_of_fit(points: Points, target: Points) -> tuple[Matrix, Matrix]:
    """`similarity` of a shape that was fitted, of which few corners lie on the edges of cells.

    On NVIDIA GPUs in closed form, in a fifth of the operations.
    """
    return few_on_cuda(closed_similarity, similarity, points, target)


def closed_similarity(points: Points, target: Points) -> tuple[Matrix, Matrix]:
    a = points - jnp.mean(points, axis=0, keepdims=True)
    b = target - jnp.mean(target, axis=0, keepdims=True)
    cosine, sine, spread, target_spread = similarity_sums(a, b)
    square = cosine**2 + sine**2
    # Points that all lie in one place have no similarity; the derivative must be finite there too.
    norm = jnp.sqrt(jnp.where(square > 0, square, 1))
    ratio = jnp.sqrt(target_spread / jnp.where(spread > 0, spread, 1))
    turn = similarity_matrix(cosine / norm, sine / norm)
    return ratio * turn, turn.T / ratio


def _in_float64(points: Points, target: Points) -> tuple[Matrix, Matrix]:
    unit, radius = _wide_unit(jnp.stack([points, target], axis=-1))
    turn = _wide_rotation(narrow(_wide_products(unit[:, :, None, 0], unit[:, None, :, 1])))
    forward = narrow(widen(radius[1] / radius[0]) * widen(turn))
    (a, b), (c, d) = forward
    # As OpenFace's compiler fuses it.
    determinant = narrow(widen(a) * widen(d) - widen(narrow(widen(b) * widen(c))))
    adjugate = jnp.stack([d, -b, -c, a]).reshape(2, 2)
    return forward, narrow(widen(adjugate) * widen(1 / determinant))


def _wide_products(a: Float[Array, "n ..."], b: Float[Array, "n ..."]) -> Float[Array, "..."]:
    return jnp.sum(widen(a) * widen(b), axis=0)


def _wide_unit(points: Float[Array, "n 2 k"]) -> tuple[Float[Array, "n 2 k"], Float[Array, " k"]]:
    """`_unit` in float64."""
    count = points.shape[0]
    centred = _stored(points - narrow(jnp.sum(widen(points), axis=0) / count)[None])
    squares = _stored(narrow(widen(centred) * widen(centred)))
    radius = narrow(jnp.sqrt(jnp.sum(widen(squares), axis=(0, 1)) / count))
    return _stored(narrow(widen(centred) * widen(1 / radius)[None, None])), radius


def _wide_rotation(covariance: Matrix) -> Matrix:
    """`_nearest_rotation` in float64."""
    rows = jnp.concatenate([covariance.T, jnp.eye(2, dtype=covariance.dtype)], axis=1)
    for _ in range(_ROTATIONS):
        rows = _wide_jacobi(rows)
    left, right = rows[:, :2], rows[:, 2:]
    square = _wide_products(left.T, left.T)
    length = jnp.sqrt(jnp.where(square > 0, square, 1))
    left = narrow(widen(left) * widen(narrow(1 / length))[:, None])
    first, second = widen(right[:, :, None]) * widen(left[:, None, :])
    turn, mirrored = narrow(first + second), narrow(first - second)
    reflected = turn[0, 0] * turn[1, 1] < turn[0, 1] * turn[1, 0]
    flip = jnp.where(square[1] <= square[0], 1, -1).astype(turn.dtype)
    return jnp.where(reflected, flip * mirrored, turn)


def _wide_jacobi(rows: Float[Array, "2 4"]) -> Float[Array, "2 4"]:
    """`_jacobi_rotation` in float64; the larger of cosine and sine is rounded first."""
    left = rows[:, :2]
    cross, first, second = _wide_products(left[np.array([0, 0, 1])].T, left[np.array([1, 0, 1])].T)
    difference = first - second
    swapped, difference = difference < 0, jnp.abs(difference)
    length = jnp.sqrt(4 * cross * cross + difference * difference)
    some = length > 0
    length = jnp.where(some, length, 1)
    larger = narrow(jnp.sqrt((length + jnp.where(some, difference, 1)) / (2 * length)))
    smaller = narrow(cross / (length * widen(larger)))
    both = jnp.stack([larger, smaller])
    # Rounded by hand: compilers see that float32 would do, and fuse it with the sum.
    turned = double.rounded_product(jnp.where(swapped, both[::-1], both)[:, None, None], rows[None])
    turned = jnp.stack([turned[0, 0] + turned[1, 1], turned[0, 1] - turned[1, 0]])
    orthogonal = jnp.abs(cross) <= _NEGLIGIBLE * jnp.sqrt(first) * jnp.sqrt(second)
    return jnp.where(orthogonal, rows, turned)


def _in_pairs(points: Points, target: Points) -> tuple[Matrix, Matrix]:
    unit, radius = _unit(jnp.stack([points, target], axis=-1))
    unit = _stored(unit)
    products = double.exact_product(unit[:, :, None, 0], unit[:, None, :, 1])
    turn = _nearest_rotation(double.total(products, 2.0**6)[0])
    forward = double.rounded_product(radius[1] / radius[0], turn)
    return forward, _inverse(forward)


def _stored(values: Float[Array, "n 2 k"]) -> Float[Array, "n 2 k"]:
    return materialise(values.reshape(values.shape[0], -1)).reshape(values.shape)


def _unit(points: Float[Array, "n 2 k"]) -> tuple[Float[Array, "n 2 k"], Float[Array, " k"]]:
    """Points around their mean, divided by their RMS radius, and the radius; k sets of them."""
    count = jnp.asarray(points.shape[0], points.dtype)
    mean = double.quotient(double.total(double.single(points), 2.0**13), count)
    centred = _stored(points - mean[None])
    squares = _stored(double.rounded_product(centred, centred))
    squares = double.total(double.single(squares), 2.0**24)
    square = double.add((squares[0][0], squares[1][0]), (squares[0][1], squares[1][1]))
    guess = jnp.sqrt(square[0] / count)
    power = double.multiply(
        double.single(guess), double.exact_product(guess, jnp.full_like(guess, count))
    )
    rest = (square[0] - power[0]) + (square[1] - power[1])
    radius = guess + rest / (2 * count * guess)
    return double.rounded_product(centred, (1 / radius)[None, None]), radius


def _nearest_rotation(covariance: Matrix) -> Matrix:
    """V U^T of the decomposition U W V^T, the weaker pair reversed if that reflects."""
    rows = jnp.concatenate([covariance.T, jnp.eye(2, dtype=covariance.dtype)], axis=1)
    rows = lax.fori_loop(0, _ROTATIONS, lambda _, r: _jacobi_rotation(r), rows)
    left, right = rows[:, :2], rows[:, 2:]
    square = _dot(left, left)
    guess = lax.rsqrt(jnp.where(square[0] > 0, square[0], 1))
    unity = double.multiply(square, double.exact_product(guess, guess))
    inverse = guess + guess * (((1 - unity[0]) - unity[1]) / 2)
    left = double.rounded_product(left, inverse[:, None])
    high, low = double.exact_product(right[:, :, None], left[:, None, :])
    first, second = (high[0], low[0]), (high[1], low[1])
    turn = double.add(first, second)[0]
    reflected = turn[0, 0] * turn[1, 1] < turn[0, 1] * turn[1, 0]
    flip = jnp.where(square[0][1] <= square[0][0], 1, -1).astype(turn.dtype)
    mirrored = flip * double.add(first, double.negate(second))[0]
    return jnp.where(reflected, mirrored, turn)


def _dot(a: Float[Array, "*n 2"], b: Float[Array, "*n 2"]) -> double.Pair:
    high, low = double.exact_product(a, b)
    return double.add((high[..., 0], low[..., 0]), (high[..., 1], low[..., 1]))


def _jacobi_rotation(rows: Float[Array, "2 4"]) -> Float[Array, "2 4"]:
    """Turns the two rows until their first two columns are orthogonal.

    Cosine and sine are float32 numbers improved by one step: the angle by how far they miss
    cross (c^2 - s^2) = difference c s, both by how far they miss unit length.
    """
    left = rows[:, :2]
    high, low = _dot(left[np.array([0, 0, 1])], left[np.array([1, 0, 1])])
    difference = double.add((high[1], low[1]), (-high[2], -low[2]))
    sign = jnp.where(difference[0] < 0, -1, 1).astype(high.dtype)
    sides = jnp.stack([2 * high[0], sign * difference[0]])
    rests = jnp.stack([2 * low[0], sign * difference[1]])
    length = jnp.sqrt(sides[0] * sides[0] + sides[1] * sides[1])
    some = length > 0
    length = jnp.where(some, length, 1)
    larger = jnp.sqrt((length + jnp.where(some, sides[1], 1)) / (2 * length))
    smaller = sides[0] / (2 * length * larger)
    larger, smaller = _improve(larger, smaller, (sides, rests), length)
    turn = jnp.where(sign < 0, jnp.stack([smaller, larger]), jnp.stack([larger, smaller]))
    turned = double.rounded_product(turn[:, None, None], rows[None])
    turned = jnp.stack([turned[0, 0] + turned[1, 1], turned[0, 1] - turned[1, 0]])
    orthogonal = jnp.abs(high[0]) <= _NEGLIGIBLE * jnp.sqrt(high[1]) * jnp.sqrt(high[2])
    return jnp.where(orthogonal, rows, turned)


def _improve(
    c: Float[Array, ""], s: Float[Array, ""], sides: double.Pair, length: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The larger of the two rounded to float32, and the other made to fit its rounded value."""
    high, low = double.exact_product(jnp.stack([c, s, c]), jnp.stack([c, s, s]))
    signs = np.array([1, -1], c.dtype)
    both = double.add((high[0], low[0]), (high[1] * signs, low[1] * signs))
    excess = (both[0][0] - 1) + both[1][0]
    doubled = jnp.stack([both[0][1], 2 * high[2]]), jnp.stack([both[1][1], 2 * low[2]])
    products = double.multiply(doubled, sides)
    miss = (products[0][0] - products[0][1]) + (products[1][0] - products[1][1])
    angle, shrink = miss / (2 * length), excess / 2
    change = -(angle * s + shrink * c)
    larger = c + change
    lost = (c - larger) + change
    return larger, s + (angle * c - shrink * s + s * lost / larger)


def _inverse(matrix: Matrix) -> Matrix:
    """Adjugate times the reciprocal of the determinant, as OpenFace's compiler fuses it."""
    (a, b), (c, d) = matrix
    determinant = double.fused_product(a, d, -double.rounded_product(b, c))
    adjugate = jnp.stack([d, -b, -c, a]).reshape(2, 2)
    return double.rounded_product(adjugate, 1 / determinant)
