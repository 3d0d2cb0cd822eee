"""Image sampling, grey conversion, small solves and selection against exact NumPy."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxface.ops import (
    affine_cells,
    blend,
    double,
    interleaved_product,
    pad_border,
    sample_cells,
    select,
    sequential_product,
    similarity_matrix,
    similarity_sums,
    solve_spd,
    to_gray,
)
from jaxface.reference import pdm as reference
from jaxface.reference import response_maps
from jaxface.run import compiler_options

from .precision import METAL_JAX, double_precision

_SOLVE_TOL = 2e-5  # of the largest entry; float32, condition number up to 100
_SCALED_TOL = 1e-4  # relative per entry, after the scaling is undone; condition number 1e10
_DERIVATIVE_TOL = 1e-6  # of the largest entry; float64, central differences of step 1e-6
_SUM_TOL = 3e-7  # times the number of terms; float32, partial sums of some 5
_SAME = 0.9  # of sums; whether products are fused is the compiler's choice
_PAIR_TOL = 1e-13  # relative; 45 of the 48 bits
_SAMPLE_TOL = 5e-5  # grey levels of 255; float32 sums of four exact taps

_solve = jax.jit(solve_spd)
_cells = jax.jit(affine_cells, static_argnums=(2, 3))
_sample = jax.jit(lambda image, x, y: sample_cells(pad_border(image), x, y))
_seeds = st.integers(0, 2**32 - 1)


def _spd(rng: np.random.Generator, size: int) -> np.ndarray:
    """Symmetric with eigenvalues from 1 to 100."""
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    return basis * np.geomspace(1, 100, size) @ basis.T


@pytest.mark.parametrize("size", [6, 40])
@settings(max_examples=20, deadline=None)
@given(seed=_seeds)
def test_solve_spd_matches_float64(size, seed):
    rng = np.random.default_rng(seed)
    a, b = _spd(rng, size).astype(np.float32), rng.normal(size=size).astype(np.float32)
    expected = np.linalg.solve(a.astype(np.float64), b.astype(np.float64))
    np.testing.assert_allclose(reference.solve_spd(a.astype(float), b.astype(float)), expected)
    found = np.asarray(_solve(a, b))
    assert np.abs(found - expected).max() <= _SOLVE_TOL * np.abs(expected).max()


@settings(max_examples=20, deadline=None)
@given(seed=_seeds)
def test_solve_spd_of_badly_scaled_matrices(seed):
    """Pixels, radians and millimetres: rows and columns that differ by five decades."""
    rng = np.random.default_rng(seed)
    scaling = rng.permutation(np.geomspace(0.01, 1000, 40))
    a = (_spd(rng, 40) * scaling * scaling[:, None]).astype(np.float32)
    b = (scaling * rng.normal(size=40)).astype(np.float32)
    expected = np.linalg.solve(a.astype(np.float64), b.astype(np.float64)) * scaling
    found = np.asarray(_solve(a, b)) * scaling
    assert np.abs(found - expected).max() <= _SCALED_TOL * np.abs(expected).max()


@pytest.mark.parametrize("eigenvalue", [0.0, -1e-3, -5.0])
def test_solve_spd_gives_zeros_where_the_matrix_is_not_positive_definite(eigenvalue):
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    for position in range(6):
        # A diagonal matrix holds the eigenvalue 0 exactly; a full one only about.
        values = np.ones(6)
        values[position] = eigenvalue
        matrices = (
            [np.diag(values)] if eigenvalue == 0 else [np.diag(values), basis * values @ basis.T]
        )
        for a in matrices:
            assert not reference.solve_spd(a, np.ones(6)).any()
            assert not np.any(_solve(a.astype(np.float32), np.ones(6, np.float32)))


def test_solve_spd_of_values_that_are_not_finite_is_not_silently_wrong():
    a = np.eye(6, dtype=np.float32)
    a[2, 2] = np.nan
    found = np.asarray(_solve(a, np.ones(6, np.float32)))
    assert not found.any() or np.isnan(found).any()


def test_solve_spd_derivatives_match_differences():
    rng = np.random.default_rng(1)
    a, da = _spd(rng, 6), rng.normal(size=(6, 6))
    da = da + da.T
    b, db, weight = rng.normal(size=(3, 6))
    step = 1e-6

    def exact(t):
        return np.linalg.solve(a + t * da, b + t * db)

    expected = (exact(step) - exact(-step)) / (2 * step)
    with double_precision():
        x, moved = jax.jvp(solve_spd, (jnp.asarray(a), jnp.asarray(b)), (da, db))
        _, pull = jax.vjp(solve_spd, jnp.asarray(a), jnp.asarray(b))
        by_a, by_b = pull(jnp.asarray(weight))
        assert x.dtype == np.float64
    assert np.abs(np.asarray(moved) - expected).max() < _DERIVATIVE_TOL * np.abs(expected).max()
    reverse = np.sum(np.asarray(by_a) * da) + np.asarray(by_b) @ db
    np.testing.assert_allclose(reverse, weight @ expected, rtol=_DERIVATIVE_TOL)


def _sample_exactly(image, matrix, side):
    found = _sample(image, *_cells(matrix[:, :2], matrix[:, 2], side, side))
    return np.asarray(found)


def _exact_cells(matrix, side):
    """The integers of OpenCV's warpAffine, products in float64: specification 02, C.3."""
    m, steps = matrix.astype(np.float64), np.arange(side)
    cells = []
    for axis in range(2):
        along = np.rint(m[axis, 0] * steps * 1024).astype(np.int64)
        down = np.rint((m[axis, 1] * steps + m[axis, 2]) * 1024).astype(np.int64) + 16
        cells.append((down[:, None] + along[None]) >> 5)
    return cells


_entries = st.floats(-8, 8, width=32)
_offsets = st.floats(-2000, 4000, width=32)


@settings(max_examples=100, deadline=None)
@given(
    linear=st.tuples(*[_entries] * 4),
    offset=st.tuples(_offsets, _offsets),
    side=st.sampled_from([13, 21]),
)
def test_affine_cells_are_opencvs(linear, offset, side):
    matrix = np.column_stack([np.reshape(linear, (2, 2)), offset]).astype(np.float32)
    found = _cells(matrix[:, :2], matrix[:, 2], side, side)
    for axis, expected in enumerate(_exact_cells(matrix, side)):
        np.testing.assert_array_equal(np.asarray(found[axis]), expected)


@settings(max_examples=100, deadline=None)
@given(seed=_seeds, denominator=st.sampled_from([8, 64, 2048, 4096]))
def test_affine_cells_round_ties_to_even(seed, denominator):
    """Multiples of 1/2048 fall on ties in offset * 1024, most often at large offsets."""
    rng = np.random.default_rng(seed)
    matrix = np.column_stack(
        [
            rng.integers(-4096, 4096, (2, 2)) / 1024,
            rng.integers(-4_000_000, 4_000_000, 2) / denominator,
        ]
    ).astype(np.float32)
    found = _cells(matrix[:, :2], matrix[:, 2], 21, 21)
    for axis, expected in enumerate(_exact_cells(matrix, 21)):
        np.testing.assert_array_equal(np.asarray(found[axis]), expected)


@settings(max_examples=30, deadline=None)
@given(
    seed=_seeds,
    angle=st.floats(-3.2, 3.2),
    scale=st.floats(0.25, 6),
    centre=st.tuples(st.floats(-60, 120), st.floats(-60, 100)),
)
def test_samples_are_the_references(seed, angle, scale, centre):
    """Areas inside, across and beyond each border of the image."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (40, 60)).astype(np.float32)
    a, b = scale * np.cos(angle), scale * np.sin(angle)
    to_image = np.array([[a, -b], [b, a]], np.float32)
    matrix = response_maps.area_matrix(np.array(centre, np.float32), to_image, 21)
    expected = response_maps.sample(image, matrix, 21)
    assert np.abs(_sample_exactly(image, matrix, 21) - expected).max() <= _SAMPLE_TOL


def test_samples_of_bytes_are_those_of_floats():
    rng = np.random.default_rng(7)
    image = rng.integers(0, 256, (40, 60), np.uint8)
    x, y = rng.integers(-200, 2100, (2, 500), dtype=np.int32)
    found, expected = _sample(image, x, y), _sample(image.astype(np.float32), x, y)
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_blend_is_bilinear_in_value_and_slope():
    """On a + b x + c y + d x y, which bilinear interpolation gives back; eighths are exact."""
    a, b, c, d = (np.float32(value) for value in (7, 3, -5, 2))
    steps = np.arange(9, dtype=np.float32) / 8
    x, y = (jnp.asarray(axis) for axis in np.meshgrid(steps, steps))

    def at(x, y):
        return a + b * x + c * y + d * x * y

    def between(x, y):
        zero, one = jnp.zeros_like(x), jnp.ones_like(x)
        return blend((at(zero, zero), at(one, zero)), (at(zero, one), at(one, one)), x, y)

    np.testing.assert_array_equal(between(x, y), at(x, y))
    slopes = jax.grad(lambda x, y: jnp.sum(between(x, y)), argnums=(0, 1))(x, y)
    np.testing.assert_array_equal(slopes[0], b + d * y)
    np.testing.assert_array_equal(slopes[1], c + d * x)


@settings(max_examples=30, deadline=None)
@given(seed=_seeds, turn=st.floats(-3.1, 3.1), zoom=st.floats(0.1, 10), mirror=st.booleans())
def test_similarity_sums_give_the_best_rotation_and_scales(seed, turn, zoom, mirror):
    """As the singular value decomposition does (Kabsch), mirrored targets included."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(20, 2))
    turned = points @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    target = zoom * turned * [-1 if mirror else 1, 1] + rng.normal(size=(20, 2)) * 0.1
    points, target = (x - x.mean(axis=0) for x in (points, target))
    left, weights, right = np.linalg.svd(target.T @ points)
    flip = np.sign(np.linalg.det(left @ right))
    rotation = left @ np.diag([1, flip]) @ right
    singles = points.astype(np.float32), target.astype(np.float32)
    cosine, sine, spread, target_spread = jax.jit(similarity_sums)(*singles)
    norm = np.hypot(cosine, sine)
    # Float32 rounds each sum by some 1e-7 of the spreads; a mirrored set has a shorter norm.
    error = 1e-6 * np.sqrt(spread * target_spread)
    np.testing.assert_allclose(norm, weights[0] + flip * weights[1], rtol=0, atol=error)
    matrix = np.asarray(similarity_matrix(cosine / norm, sine / norm))
    np.testing.assert_allclose(matrix, rotation, rtol=0, atol=1e-6 + error / norm)
    radii = np.sqrt(np.sum(target**2) / np.sum(points**2))
    np.testing.assert_allclose(np.sqrt(target_spread / spread), radii, rtol=1e-6)


def test_sampling_survives_coordinates_that_are_not_finite():
    image = np.full((8, 8), 7, np.float32)
    for value in (np.nan, np.inf, -np.inf, 1e30):
        matrix = np.array([[1, 0, value], [0, 1, 0]], np.float32)
        assert np.isfinite(_sample_exactly(image, matrix, 13)).all()


@pytest.mark.parametrize("half", [6, 8, 9, 12, 12.5])
def test_products_are_rounded_before_a_sum(half):
    """In a compiled sum, where XLA fuses products, in full vectors and in their tail alike."""
    rng = np.random.default_rng(3)
    values, x = rng.uniform(-9, 9, (2, 68)).astype(np.float32)

    def short(value):
        return double.short_product(half, value)

    def rounded(value):
        return double.rounded_product(jnp.asarray(half, jnp.float32), value)

    for product in (short, rounded):
        found = jax.jit(lambda v, x, product=product: x - product(v))(values, x)
        np.testing.assert_array_equal(np.asarray(found), x - np.float32(half) * values)
        assert jax.grad(product)(np.float32(0.7)) == half


def _spread(seed: int, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) * 10.0 ** rng.uniform(-3, 3, shape)).astype(np.float32)


def _wide(pair) -> np.ndarray:
    high, low = (np.asarray(part, np.float64) for part in pair)
    np.testing.assert_array_equal((high + low).astype(np.float32), high)
    return high + low


def test_pairs_of_float32_keep_twice_the_digits():
    """Compiled, so that XLA may fuse and reorder what it likes."""
    a, b, c = (values.astype(np.float64) for values in _spread(4, 3, 500))
    singles = [values.astype(np.float32) for values in (a, b, c)]
    product = jax.jit(double.exact_product)(*singles[:2])
    np.testing.assert_allclose(_wide(product), a * b, rtol=_PAIR_TOL, atol=0)
    np.testing.assert_array_equal(product[0], np.float32(a * b))
    fused = jax.jit(double.fused_product)(*singles)
    np.testing.assert_array_equal(fused, np.float32(a * b + c))
    square = jax.jit(lambda x: double.multiply(double.exact_product(x, x), (x, 0 * x)))(singles[0])
    np.testing.assert_allclose(_wide(square), a**3, rtol=_PAIR_TOL, atol=0)
    inverse = jax.jit(lambda *x: double.reciprocal(double.exact_product(*x)))(*singles[:2])
    np.testing.assert_allclose(_wide(inverse), 1 / (a * b), rtol=_PAIR_TOL, atol=0)
    np.testing.assert_array_equal(inverse[0], np.float32(1 / (a * b)))
    scaled = jax.jit(lambda x, y, z: double.multiply(double.exact_product(x, y), double.single(z)))
    np.testing.assert_allclose(_wide(scaled(*singles)), a * b * c, rtol=_PAIR_TOL, atol=0)
    mean = jax.jit(lambda *x: double.quotient(double.exact_product(*x), np.float32(51)))
    np.testing.assert_array_equal(mean(*singles[:2]), np.float32(a * b / 51))


@pytest.mark.parametrize("terms", [5, 100, 600])
def test_products_in_openblas_order_are_products(terms):
    rng = np.random.default_rng(terms)
    a, b = rng.normal(size=(9, terms)), rng.normal(size=(terms, 70))
    singles = a.astype(np.float32), b.astype(np.float32)
    expected = singles[0].astype(np.float64) @ singles[1].astype(np.float64)
    for found in (
        jax.jit(sequential_product)(*singles),
        jax.jit(jax.vmap(interleaved_product, (0, None)))(*singles),
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=_SUM_TOL * terms)


@pytest.mark.skipif(METAL_JAX, reason="JAX 0.5 and older round otherwise, by a last bit")
def test_interleaved_product_adds_in_openblas_order():
    """Sixteen sums in sequence, then in pairs; each product is fused with its sum."""
    rng = np.random.default_rng(6)
    weights, terms = (rng.normal(size=s).astype(np.float32) for s in ((72 * 16,), (72 * 16, 40)))
    lanes = np.zeros((16, 40), np.float32)
    for row in range(72):
        part = slice(16 * row, 16 * row + 16)
        exact = weights[part, None].astype(np.float64) * terms[part] + lanes
        lanes = exact.astype(np.float32)
    while len(lanes) > 1:
        lanes = lanes[::2] + lanes[1::2]
    for options in ({}, compiler_options()):
        found = jax.jit(interleaved_product, compiler_options=options)(weights, terms)
        assert np.mean(found == lanes[0]) > _SAME


@pytest.mark.parametrize("count", [1, 28, 68, 200])
def test_totals_are_rounded_once(count):
    values = _spread(5, count, 40)
    pairs = values, np.zeros_like(values)
    found = _wide(jax.jit(double.total, static_argnums=1)(pairs, 2.0**13))
    expected = values.sum(axis=0, dtype=np.float64)
    np.testing.assert_allclose(found, expected, rtol=0, atol=_PAIR_TOL * np.abs(values).max())


def test_to_gray_is_opencvs():
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (300, 400, 3), np.uint8)
    image[0, :8] = [[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)]
    expected = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    found = jax.jit(to_gray)(image.astype(np.float32))
    np.testing.assert_array_equal(np.asarray(found), expected)


def test_select_takes_whole_trees():
    first = {"a": jnp.ones(3), "b": (jnp.zeros((), jnp.int32), jnp.ones((), bool))}
    second = {"a": jnp.full(3, np.nan), "b": (jnp.ones((), jnp.int32), jnp.zeros((), bool))}
    for condition, expected in ((True, first), (False, second)):
        found = jax.jit(select)(jnp.asarray(condition), first, second)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        jax.tree.map(lambda x, y: np.testing.assert_equal(x.dtype, y.dtype), found, expected)
    slope = jax.grad(lambda x: select(x > 0, x, jnp.log(x) * 0))(1.0)
    assert slope == 1
