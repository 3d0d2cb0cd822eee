"""Pictures laid out row after row: the values of an array of rows, by one program for all sizes.

Where a flat array holds no pixel of the picture it holds what shows wherever it is read: 255 in
bytes, NaN in floats. A row is followed by the next one at once, so that a pixel beside the picture
that were read at all would be one of the row above or below.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxface
from jaxface.analyze import AlignConfig, warp_to_aligned
from jaxface.fit import (
    FitConfig,
    Phase,
    areas_of_interest,
    cut_square,
    empty_fit,
    parameters_from_box,
    refine_fit,
    shape_2d,
    validate_landmarks,
    warp_to_mean_shape,
)
from jaxface.fit.experts import SUPPORT, AbstractPatchExperts
from jaxface.io import face_length, flat_lengths, lay_in
from jaxface.ops import fetch_flat, pad_border, sample_cells, sample_smooth, to_gray
from jaxface.run import _programs
from jaxface.types import FlatGray, FlatImage, PDMParameters

from .head_clip import compile_alike
from .toy_face import DOTS, draw_face, toy_model

_LENGTH = 640 * 480  # px
_SIZES = (301, 457), (480, 640), (96, 131)
_ROUNDED = 2e-6  # relative: sums of the same terms in another order, in float32
_GREY = 1e-4  # the same, of pictures of deviation 1 about a mean of several; measured 3e-5
_KINDS = (np.uint8, np.float32)


def _flat(image: np.ndarray, length: int = _LENGTH, gap: int = 0) -> Any:
    """Lays a picture out, with a gap behind each row."""
    height, width = image.shape[:2]
    junk = 255 if image.dtype == np.uint8 else np.nan
    pixels = np.full((length, *image.shape[2:]), junk, image.dtype)
    rows = np.full((height, width + gap, *image.shape[2:]), junk, image.dtype)
    rows[:, :width] = image
    pixels[: height * (width + gap)] = rows.reshape(-1, *image.shape[2:])
    kind = FlatGray if image.ndim == 2 else FlatImage
    return kind(jnp.asarray(pixels), jnp.array([height, width]), jnp.int32(width + gap))


def _noise(size: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
    values = np.asarray(jax.random.randint(jax.random.key(sum(size)), size, 1, 256))
    return values.astype(dtype)


def _same(found: Any, expected: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, found, expected)


# Samples


@jax.jit
def _samples(padded: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    return sample_cells(padded, x, y), sample_smooth(
        padded, *(v.astype(jnp.float32) / 32 for v in (x, y))
    )


@pytest.mark.parametrize("dtype", _KINDS)
@pytest.mark.parametrize("gap", [0, 3])
def test_samples_around_all_borders(dtype: type, gap: int):
    """Every cell from five pixels outside to five inside, and some far away."""
    size = (17, 23)
    image = _noise(size, dtype)
    ends = [np.r_[np.arange(-5 * 32, (side + 5) * 32, 7), 10**6, -(10**6)] for side in size]
    y, x = (jnp.asarray(grid, jnp.int32) for grid in np.meshgrid(*ends, indexing="ij"))
    expected = _samples(pad_border(jnp.asarray(image)), x, y)
    assert (np.asarray(expected[0]) > 0).mean() > 0.3
    found = _samples(_flat(image, 600, gap), x, y)
    _same(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=255 * _ROUNDED)


def test_no_pixel_outside_is_read():
    """A picture of bright rows: the column left of it is black, not the end of the row above."""
    flat = _flat(np.full((4, 5), 200, np.uint8), 64)
    rows, columns = np.arange(-2, 7)[:, None], np.arange(-2, 8)[None]
    found = fetch_flat(flat, jnp.asarray(columns), jnp.asarray(rows))
    inside = (rows >= 0) & (rows < 4) & (columns >= 0) & (columns < 5)
    np.testing.assert_array_equal(found, np.where(inside, 200, 0))


def test_luma():
    image = _noise((31, 40, 3))
    found = to_gray(_flat(image))
    assert isinstance(found, FlatGray)
    np.testing.assert_array_equal(found.pixels[: 31 * 40], to_gray(jnp.asarray(image)).reshape(-1))


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("dtype", _KINDS)
def test_a_warp_that_leaves_the_picture(dtype: type, smooth: bool):
    image = _noise((90, 70, 3), dtype)
    warp = jax.jit(functools.partial(warp_to_aligned, config=AlignConfig(smooth=smooth)))
    flat = _flat(image)
    for x, y in ((10, 15), (-30, -5), (80, 70), (20, 100), (-10, -60)):
        matrix = jnp.asarray([[1.3, 0.2, x], [-0.2, 1.3, y]], jnp.float32)
        expected = warp(jnp.asarray(image), matrix)
        assert np.asarray(expected).max() > 100 and np.asarray(expected).min() <= 0
        # Whole grey levels are the same; real ones may be summed in another order.
        rounded = 255 * _ROUNDED if smooth else 0
        np.testing.assert_allclose(warp(flat, matrix), expected, rtol=0, atol=rounded)


@pytest.mark.parametrize("dtype", _KINDS)
def test_squares_of_all_sizes_in_a_picture(dtype: type):
    """The search's network sees the same in every window, and where a square leaves the picture."""
    cut, sizes = jax.jit(cut_square), ((480, 640), (1200, 250))
    for size, middle, half in (
        *((sizes[0], (200, 200), half) for half in (0.5, 40, 118, 150, 400)),
        *((sizes[0], middle, 90) for middle in ((0, 100), (639, 300), (300, 0), (300, 479))),
        (sizes[0], (-900, 100), 90),
        (sizes[1], (120, 600), 700),
    ):
        image = _noise(size, dtype)
        arguments = jnp.asarray(middle, jnp.float32), jnp.float32(half), jnp.array(size)
        expected = cut(jnp.asarray(image), *arguments)
        assert bool(np.abs(expected).max() > 0) == (middle[0] > -900)
        found = cut(_flat(image), *arguments)
        np.testing.assert_allclose(found, expected, rtol=0, atol=_GREY)


# Derivatives


def _assert_same_derivatives(
    of: Callable, image: np.ndarray, *places: Any, rounded: float, forward: bool = True
) -> None:
    """By the pixels and by the places, in one mode or both; 0 by what is no pixel."""
    whole, flat = jnp.asarray(image), _flat(image, image.size // (1 if image.ndim == 2 else 3) + 9)
    places = tuple(jnp.asarray(place, jnp.float32) for place in places)
    weights = jax.random.normal(jax.random.key(1), jax.eval_shape(of, whole, *places).shape)

    @compile_alike
    def derivatives(image: Any, *places: jax.Array) -> Any:
        def value(image: Any, *places: jax.Array) -> jax.Array:
            return jnp.sum(of(image, *places) * weights)

        def along(step: jax.Array) -> jax.Array:
            return of(image, *(place + step for place in places))

        gradient = eqx.filter_grad(lambda inputs: value(*inputs))((image, *places))
        pushed = jax.jvp(along, (jnp.zeros(()),), (jnp.ones(()),))[1] if forward else None
        return *gradient, pushed

    def close(found: Any, expected: Any) -> None:
        scale = np.abs(expected).max()
        assert scale > 0
        np.testing.assert_allclose(found, expected, rtol=0, atol=rounded * scale)

    expected, found = derivatives(whole, *places), derivatives(flat, *places)
    count = image.shape[0] * image.shape[1]
    pixels = np.asarray(found[0].pixels)
    assert not pixels[count:].any()
    close(pixels[:count].reshape(image.shape), expected[0])
    jax.tree.map(close, found[1:], expected[1:])


@pytest.mark.parametrize("smooth", [False, True])
def test_derivatives_of_areas(smooth: bool):
    """Scattered in another order, so that sums may round otherwise."""
    image = _noise((40, 50), np.float32)
    # No sample lies on a whole pixel, where two computations of it may round to either side.
    places = [[10.31, 20.17], [0.23, 0.41], [48.97, 39.53], [-3.11, 20.07]]
    linear = [[0.8931, -0.1077], [0.1077, 0.8931]]

    def areas(gray: Any, places: jax.Array, linear: jax.Array) -> jax.Array:
        return areas_of_interest(gray, places, linear, 5, smooth=smooth)

    _assert_same_derivatives(areas, image, places, linear, rounded=_ROUNDED)


@pytest.mark.parametrize("smooth", [False, True])
def test_derivatives_of_the_aligned_face(smooth: bool):
    warp = functools.partial(warp_to_aligned, config=AlignConfig(size=48, smooth=smooth))
    matrix = [[1.3, 0.2, -9], [-0.2, 1.3, -4]]
    _assert_same_derivatives(warp, _noise((35, 41, 3), np.float32), matrix, rounded=_ROUNDED)


def test_derivatives_of_the_square():
    image = _noise((70, 60), np.float32)

    def square(gray: Any, middle: jax.Array, half: jax.Array) -> jax.Array:
        return cut_square(gray, middle, half, jnp.array([70, 60]))

    # By places they are differences of weights, which cancel: measured 2e-5.
    _assert_same_derivatives(square, image, [20, 50], 30.0, rounded=1e-4)


# Faces


class DarkPixels(AbstractPatchExperts):
    """Scores a place by how dark it is: cheap to compile."""

    scale: float = eqx.field(static=True)
    centres: jax.Array
    visible: jax.Array

    def prepare(self, windows: frozenset[int]) -> "DarkPixels":
        return self

    def laid_out(self) -> None:
        return None

    def responses(self, areas: jax.Array, views: jax.Array) -> jax.Array:
        edge = SUPPORT // 2
        return 1 - areas[..., edge:-edge, edge:-edge] / 255

    def confidences(self, view: jax.Array) -> jax.Array:
        return self.visible[view].astype(self.centres.dtype)


@pytest.fixture(scope="module")
def model() -> jaxface.Model:
    """With one scale alone."""
    model = toy_model(FitConfig(windows_init=(11,), windows_track=(11,), iterations=3))
    experts = DarkPixels(1.0, jnp.zeros((1, 3)), jnp.ones((1, 5), bool))
    return eqx.tree_at(lambda m: m.clnf.main.experts, model, (experts,))


@pytest.fixture(scope="module")
def base_model() -> jaxface.Model:
    return jaxface.load_model()


def _pictures() -> list[tuple[np.ndarray, np.ndarray]]:
    """Faces in the middle, and with dots on each border and beyond, with their boxes."""
    found = []
    for size, middle in (
        *((size, (size[1] / 2, size[0] / 2)) for size in _SIZES),
        *(((96, 131), place) for place in ((24, 50), (105, 50), (65, 20), (65, 78))),
    ):
        points = DOTS[:, :2] + np.asarray(middle, np.float32)
        image = draw_face(points, size)
        image[..., 1] //= 2  # so that the colours are told apart
        found.append((image, np.concatenate([points.min(axis=0), points.max(axis=0)]) + 1.5))
    return found


_fit, _fit_many = compile_alike(jaxface.fit_landmarks), compile_alike(jaxface.fit_many)


def test_fits_in_pictures_of_all_sizes_share_a_program(model: jaxface.Model):
    expected, flat = [], []
    for image, box in _pictures():
        gray, box = np.asarray(to_gray(jnp.asarray(image))), jnp.asarray(box, jnp.float32)
        height, width = gray.shape
        canvas = np.zeros((480, 640), np.uint8)
        canvas[:height, :width] = gray
        size = jnp.array([height, width])
        expected.append(_fit(model.clnf, jnp.asarray(canvas), box, size=size))
        flat.append((to_gray(_flat(image)), box))
    before = _fit._cache_size()  # pyright: ignore[reportFunctionMemberAccess]
    found = [_fit(model.clnf, gray, box) for gray, box in flat]
    assert _fit._cache_size() == before + 1  # pyright: ignore[reportFunctionMemberAccess]
    _same(found, expected)
    assert all(fit.success for fit in found)


def test_many_faces_of_a_flat_picture(model: jaxface.Model):
    image, box = _pictures()[0]
    gray, boxes = to_gray(_flat(image)), jnp.asarray(np.stack([box, box + 2]), jnp.float32)
    found = _fit_many(model.clnf, gray, boxes)
    for row in range(2):
        expected = _fit(model.clnf, gray, boxes[row])
        _same(jax.tree.map(lambda leaf, row=row: leaf[row], found), expected)


def test_derivatives_of_a_fit(model: jaxface.Model):
    """Of one attempt: what searches add is the same for both."""
    image, box = _pictures()[3]  # at the left border
    gray = np.array(to_gray(jnp.asarray(image, jnp.float32)))
    clnf, size = model.clnf, jnp.array(gray.shape)

    def landmarks(gray: Any, box: jax.Array) -> jax.Array:
        parameters = parameters_from_box(clnf.main.pdm, box, jnp.zeros(3))
        start = eqx.tree_at(lambda f: f.parameters, empty_fit(clnf), parameters)
        return refine_fit(
            clnf, gray, start, size=size, phase=int(Phase.INIT), phases=(Phase.INIT,)
        ).landmarks

    _assert_same_derivatives(landmarks, gray, box, rounded=10 * _ROUNDED, forward=False)


@pytest.mark.parametrize("dtype", _KINDS)
def test_the_validator_at_the_borders(base_model: jaxface.Model, dtype: type):
    """A face of which a part lies beyond each border in turn, and one beside the picture."""
    clnf, size = base_model.clnf, (150, 170)
    judge, warp = jax.jit(validate_landmarks), jax.jit(_warped)
    gray, jnp_size = _noise(size, dtype), jnp.array(size)
    flat = _flat(gray)
    places = (80, 70), (9, 70), (165, 70), (80, 4), (80, 149), (-90, 70)
    for place in places:
        inside = place != places[-1]
        parameters = PDMParameters(
            scale=jnp.float32(0.6),
            rotation=jnp.asarray([0.1, 0.2, 0.05]),
            translation=jnp.asarray(place, jnp.float32),
            local=jnp.zeros_like(clnf.main.pdm.eigenvalues),
        )
        expected = warp(clnf, jnp.asarray(gray), parameters, jnp_size)
        assert bool(expected[2]) == inside
        _same(warp(clnf, flat, parameters, jnp_size), expected)
        landmarks = expected[0]
        for picture in (jnp.asarray(gray), flat):
            verdict = judge(clnf.validator, picture, landmarks, parameters, size=jnp_size)
            assert bool(verdict > 0) == inside


def _warped(clnf: Any, gray: Any, parameters: PDMParameters, size: jax.Array) -> Any:
    landmarks = shape_2d(clnf.main.pdm, parameters)
    view = jnp.asarray(0)
    warp = clnf.validator.warp
    return landmarks, *warp_to_mean_shape(warp, pad_border(gray), landmarks, view, size=size)


# Programs


def test_everything_of_a_face(model: jaxface.Model):
    """What `analyze_image` computes from a box, down to the aligned face and its histograms."""
    analyze = jax.jit(getattr(_programs.analyze_box, "__wrapped__"), static_argnames="config")
    config = jaxface.default_config(model, static_action_units=True)
    camera = jaxface.default_camera(height=300, width=400)
    camera = jax.tree.map(jnp.float32, camera)
    points = jnp.zeros((5, 2))
    for image, box in _pictures()[2:]:
        size, box = jnp.array(image.shape[:2]), jnp.asarray(box, jnp.float32)
        whole, flat = jnp.asarray(image, jnp.float32), _flat(image.astype(np.float32))
        expected = analyze(model, whole, box, points, camera, size, config)
        assert np.asarray(expected.face.aligned).max() > 100
        _same(analyze(model, flat, box, points, camera, size, config), expected)


def test_pictures_of_all_sizes_share_programs(model: jaxface.Model, base_model: jaxface.Model):
    """13 sizes by one of detection and one of analysis; what is larger, by one more at most."""
    model = dataclasses.replace(model, detector=base_model.detector)
    programs = _programs.flat_detect_program, _programs.analyze_box, _programs.detect_program
    before = [len(program._programs) for program in programs]
    sizes = [(480 - 17 * i, 40 + 45 * i) for i in range(13)]
    for size in (*sizes, (530, 600), (1500, 1500)):
        image = np.full((*size, 3), 99, np.uint8)
        assert size not in sizes or len(jaxface.analyze_image(model, image)) == 0
        assert len(jaxface.analyze_image(model, image, boxes=[[3, 4, 30, 35]])) == 1
    assert [len(p._programs) - n for p, n in zip(programs, before, strict=True)] == [1, 2, 0]


def test_a_length_for_every_picture():
    lengths = [face_length(*size) for size in ((90, 90), (1080, 1920), (1081, 1920), (5000, 4000))]
    assert lengths == [1920 * 1080, 1920 * 1080, 4096 * 4096, None]
    assert flat_lengths(480, 640) == [640 * 480, 1920 * 1080, 4096 * 4096]
    assert flat_lengths(900, 1500) == [1920 * 1080, 4096 * 4096]
    assert flat_lengths(4096, 4096) == [4096 * 4096]
    assert flat_lengths(4096, 4097) == flat_lengths(100, 10000) == []
    assert flat_lengths(200, 1300) == [1920 * 1080, 4096 * 4096]


@pytest.mark.parametrize("size", [(3, 5), (480, 640)])
def test_pictures_are_laid_in(size: tuple[int, int]):
    image = _noise((*size, 3))
    for picture in (image, image[:, ::-1], np.asfortranarray(image)):
        flat = lay_in(picture, _LENGTH)
        assert flat.shape == (_LENGTH, 3) and flat.ctypes.data % 64 == 0
        count = size[0] * size[1]
        np.testing.assert_array_equal(flat[:count].reshape(picture.shape), picture)
        assert not flat[count:].any()
