"""Derivatives of the fit: against motions of pictures, and against finite differences.

A picture that moves, scales or turns, with the box and the prior that belong to it, takes the
landmarks along: their derivative is known whatever the picture shows. What a symmetry cannot tell,
as the derivative by single pixels or by the model's weights, is compared with differences.
"""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxface
from jaxface import to_gray
from jaxface.fit import (
    CLNF,
    AnyCLNF,
    CCNFExperts,
    FitConfig,
    areas_of_interest,
    fit_config,
    fit_pdm_to_landmarks,
    prepare_clnf,
    shape_2d,
    strip_clnf,
)
from jaxface.fit.solvers import mean_shift
from jaxface.reference.comparison.derivatives import (
    ACCURATE,
    CENTRAL,
    MOTIONS,
    Start,
    cosine,
    fit_from,
    following,
    moving_picture,
    moving_start,
    smooth_direction,
)
from jaxface.reference.comparison.golden_detections import DETECTIONS, corners

from .head_clip import halve, read_frames, read_truth
from .precision import double_precision

_GAIN = 0.02  # of the motion, of all landmarks together; measured 0.006
# Of single landmarks, root mean square. Scaling changes how far a kernel blurs, and coefficients
# that are clamped follow their bounds: measured 0.07, in other motions 0.016.
_STRAIGHT, _SPREAD = 0.03, 0.12
_ROUNDED = 1e-4  # what float32 leaves where slopes cancel exactly
_ALIKE = 0.9  # cosine with differences of what jumps; measured 0.96 by the box
_EXACT = 1e-3  # relative; measured 1e-7 in float64
_SHORT = {"windows_init": (11,), "iterations": 3, "refine_parts": False, "multi_view": False}
_CANVAS = 352  # px; one size, so that each program is compiled once
_KINDS = ("base", "openface")
_PICTURES = {
    "base": ("head10", "head100"),
    "openface": ("sample1", "sample3", "sample5", "head100"),
}
_MODES = ("faithful", "smooth")


def _picture(name: str, request) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of luma (352, 352) with a face in the middle, and its box, px."""
    if name.startswith("head"):
        number = int(name.removeprefix("head"))
        image, truth = read_frames(1, number)[0], read_truth().landmarks[number]
        box = np.concatenate([truth.min(axis=0), truth.max(axis=0)])
    else:
        samples = request.getfixturevalue("samples_dir")
        image = jaxface.read_image(samples / f"{name}.jpg")
        box = corners(np.array(DETECTIONS[f"{name}.jpg"], np.float32))[0].astype(np.float64)
    if box[2] - box[0] > 250:  # the areas around its landmarks would not fit
        even = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
        image, box = halve(even), (box - 0.5) / 2
    first = np.round((box[:2] + box[2:]) / 2).astype(int) - _CANVAS // 2
    rows, columns = image.shape[:2]
    around = np.pad(np.asarray(to_gray(jnp.asarray(image))), _CANVAS)
    x, y = np.clip(first, -_CANVAS, [columns, rows]) + _CANVAS
    return around[y : y + _CANVAS, x : x + _CANVAS], box - np.tile(first, 2)


def _frontal(clnf: AnyCLNF) -> CLNF:
    """The model with the experts of its frontal view alone, which compile sooner."""

    def keep(experts):
        assert isinstance(experts, CCNFExperts)
        view = int(np.argmin(np.sum(np.asarray(experts.centres) ** 2, axis=1)))
        return jax.tree.map(lambda leaf: leaf[view : view + 1], experts)

    bare = strip_clnf(clnf)
    experts = tuple(keep(e) for e in bare.main.experts)
    return dataclasses.replace(bare, main=dataclasses.replace(bare.main, experts=experts))


@functools.cache
def _base() -> CLNF:
    return _frontal(jaxface.load_model("base").clnf)


def _model(kind: str, request) -> CLNF:
    if kind == "base":
        return _base()
    return _frontal(request.getfixturevalue("openface_model"))


def _config(clnf: AnyCLNF, mode: str, **settings) -> FitConfig:
    return dataclasses.replace(fit_config(clnf), smooth=mode == "smooth", **settings)


def _start(box: np.ndarray, dtype: str = "float32") -> Start:
    return Start(*(jnp.asarray(value, dtype) for value in (box, 0, 0)))


@functools.cache
def _programs() -> dict:
    return {}


def _program(kind: str, mode: str, request):
    """The landmarks of a short fit and their derivative along a direction, compiled once."""
    key = kind, mode
    if key not in _programs():
        bare = _model(kind, request)
        config = _config(bare, mode, **_SHORT)
        clnf, fit = prepare_clnf(bare, config), fit_from(config)

        @jax.jit
        def along(gray, start, gray_dot, start_dot):
            return jax.jvp(lambda g, s: fit(clnf, g, s), (gray, start), (gray_dot, start_dot))

        _programs()[key] = along
    return _programs()[key]


def _float(array) -> jax.Array:
    return jnp.asarray(array, jnp.float32)


# A motion of everything


@pytest.mark.parametrize("mode", _MODES)
@pytest.mark.parametrize(
    "kind, name", [(kind, name) for kind in _KINDS for name in _PICTURES[kind]]
)
def test_landmarks_follow_what_moves(request, kind, name, mode):
    along, (gray, box) = _program(kind, mode, request), _picture(name, request)
    middle = (box[:2] + box[2:]) / 2
    reach = ACCURATE if mode == "smooth" else CENTRAL
    for motion in MOTIONS:
        moving = _float(moving_picture(gray, motion, middle, reach))
        start_dot = jax.tree.map(_float, moving_start(motion, box))
        found = along(_float(gray), _start(box), moving, start_dot)
        follows = following(motion, np.asarray(found[0]), np.asarray(found[1]), middle)
        assert abs(follows.gain - 1) < _GAIN, (motion, follows)
        assert follows.spread < (_SPREAD if motion == "scale" else _STRAIGHT), (motion, follows)
        if mode == "faithful" and motion in ("right", "down"):
            assert follows.largest < _ROUNDED, (motion, follows)


@pytest.mark.parametrize("name", ["head10", "head100"])
def test_derivatives_agree_with_wide_differences(request, name):
    """The faithful fit, whose values jump: at 8 grey levels and at 1 px."""
    along, (gray, box) = _program("base", "faithful", request), _picture(name, request)
    gray, start, rng = _float(gray), _start(box), np.random.default_rng(0)
    still = jnp.zeros_like(gray), jax.tree.map(jnp.zeros_like, start)

    def at(gray, start):
        return np.asarray(along(gray, start, *still)[0])

    found, expected = [], []
    for _ in range(6):
        way = _float(8 * smooth_direction(rng, gray.shape, 12.0))
        found.append(along(gray, start, way, still[1])[1])
        expected.append((at(gray + way, start) - at(gray - way, start)) / 2)
    assert cosine(np.array(found), np.array(expected)) > _ALIKE

    found, expected = [], []
    for way in np.array([[1, 0, 1, 0], [0, 1, 0, 1], [-1, -1, 1, 1], [-1, 1, 1, -1.0]]):
        there = jax.tree.map(jnp.zeros_like, start)._replace(box=_float(way))
        ends = (start._replace(box=start.box + sign * there.box) for sign in (1, -1))
        found.append(along(gray, start, still[0], there)[1])
        expected.append(np.subtract(*(at(gray, end) for end in ends)) / 2)
    assert cosine(np.array(found), np.array(expected)) > _ALIKE


# Every input of the smooth fit, in float64

_INPUTS = {
    "gray": None,
    "box": None,
    "mean_shape": lambda c: c.main.pdm.mean_shape,
    "components": lambda c: c.main.pdm.components,
    "eigenvalues": lambda c: c.main.pdm.eigenvalues,
    "weights": lambda c: c.main.experts[0].weights,
    "bias": lambda c: c.main.experts[0].bias,
    "alpha": lambda c: c.main.experts[0].alpha,
    "beta": lambda c: c.main.experts[0].beta,
}


def _coupled(clnf: CLNF, window: int, rng: np.random.Generator) -> CLNF:
    """The model with maps at its first scale whose places are coupled, as OpenFace's are."""
    first, *others = clnf.main.experts
    assert isinstance(first, CCNFExperts)
    beta = _float(rng.uniform(0.1, 0.5, (*first.visible.shape, 3)))
    first = dataclasses.replace(first, component_windows=(window,), beta=beta)
    main = dataclasses.replace(clnf.main, experts=(first, *others))
    return dataclasses.replace(clnf, main=main)


def test_the_smooth_derivative_is_exact(request):
    """By pixels, box, PDM and raw weights, for a random mean of all landmarks."""
    (gray, box), rng = _picture("head100", request), np.random.default_rng(1)
    with double_precision():
        clnf = jax.tree.map(
            lambda x: jnp.asarray(x, "float64") if jnp.issubdtype(x.dtype, jnp.floating) else x,
            _coupled(_base(), 7, rng),
        )
        config = _config(clnf, "smooth", **_SHORT | {"windows_init": (7,)})
        fit, weigh = fit_from(config), jnp.asarray(rng.normal(size=(68, 2)))
        values = {name: get(clnf) for name, get in _INPUTS.items() if get is not None}
        values |= {"gray": jnp.asarray(gray, "float64"), "box": jnp.asarray(box)}

        def mean(values):
            edited = clnf
            for name, get in _INPUTS.items():
                if get is not None:
                    edited = eqx.tree_at(get, edited, values[name])
            start = _start(box, "float64")._replace(box=values["box"])
            return jnp.sum(weigh * fit(edited, values["gray"], start))

        plain, slopes = jax.jit(mean), jax.jit(jax.grad(mean))(values)
        for name, value in values.items():
            way = rng.normal(size=value.shape)
            step = 1e-6 * (1 if name == "box" else np.abs(value).mean())
            if name == "gray":  # tenths of a grey level, in waves
                way, step = smooth_direction(rng, value.shape, 8.0), 1e-3
            ends = [float(plain(values | {name: value + s * way})) for s in (step, -step)]
            difference = (ends[0] - ends[1]) / (2 * step)
            assert abs(difference) > 1e-3, name
            slope = float(jnp.sum(slopes[name] * way))
            np.testing.assert_allclose(slope, difference, rtol=_EXACT, err_msg=name)


# Bad input


def _bad_pictures(gray: np.ndarray) -> dict[str, np.ndarray]:
    holes, hole = gray.copy(), gray.copy()
    holes[::7, ::5], holes[3] = np.nan, np.inf
    hole[170, 180] = np.nan
    return {
        "black": 0 * gray,
        "white": 0 * gray + 255,
        "flat": 0 * gray + np.float32(100.3),
        "ramp": np.indices(gray.shape)[1].astype(np.float32) / 2,
        "holes": holes,
        "hole": hole,
        "nothing": gray * np.nan,
    }


_BAD_BOXES = {
    "at the border": [0, 60, 150, 210],
    "beyond": [-200, 60, -50, 210],
    "far away": [5000, 5000, 5200, 5200],
    "empty": [170, 170, 170, 170],
    "inside out": [250, 250, 100, 100],
    "tiny": [170, 170, 171, 171],
    "huge": [-5000, -5000, 5000, 5000],
    "not a number": [np.nan, np.nan, np.nan, np.nan],
    "infinite": [0, 0, np.inf, 10],
}


@pytest.mark.parametrize("mode", _MODES)
def test_bad_input_has_finite_derivatives(request, mode):
    """By the picture and by what the fit starts from; of a fit of one scale and the eyes."""
    bytes_of, box = _picture("head100", request)
    gray, rng = bytes_of.astype(np.float32), np.random.default_rng(2)
    config = _config(
        _base(), mode, **_SHORT | {"iterations": 2, "refine_parts": mode == "faithful"}
    )
    clnf, fit = prepare_clnf(_base(), config), fit_from(config)
    weigh = _float(rng.normal(size=(68, 2)))

    def mean(gray, start):
        return jnp.sum(weigh * fit(clnf, gray, start))

    slopes = jax.jit(jax.value_and_grad(mean, argnums=(0, 1)))
    cases = {name: (picture, box) for name, picture in _bad_pictures(gray).items()}
    cases |= {name: (gray, np.asarray(bad, float)) for name, bad in _BAD_BOXES.items()}
    for name, (picture, place) in cases.items():
        found = slopes(_float(picture), _start(place))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found)), name
    _, (by_picture, by_start) = slopes(_float(gray), _start(box))
    assert np.abs(by_picture).max() > 1e-4 and np.abs(by_start.box).max() > 1e-2

    if mode == "faithful":  # bytes have no derivative, but the box has the same
        of_bytes = jax.jit(jax.grad(mean, argnums=1))(jnp.asarray(bytes_of), _start(box))
        np.testing.assert_allclose(of_bytes.box, by_start.box, rtol=1e-3, atol=1e-4)


# Pieces


def test_the_slope_of_an_area_is_its_difference_at_one_pixel():
    """Samples of a cell move by whole pixels without being rounded otherwise."""
    rng = np.random.default_rng(3)
    gray, points = _float(rng.uniform(0, 255, (60, 70))), _float(rng.uniform(25, 35, (4, 2)))
    linear = _float([[1.3, -0.4], [0.4, 1.3]])
    look = jax.jit(lambda points: areas_of_interest(gray, points, linear, 5))
    for way in ([1.0, 0.0], [0.0, 1.0]):
        step = jnp.broadcast_to(_float(way), points.shape)
        _, found = jax.jvp(look, (points,), (step,))
        expected = (look(points + step) - look(points - step)) / 2
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)  # grey levels, of 100


def test_luma_and_kernel_have_the_derivative_of_what_they_round():
    rng = np.random.default_rng(4)
    image, way = _float(rng.uniform(0, 255, (5, 6, 3))), _float(rng.normal(size=(5, 6, 3)))
    _, found = jax.jvp(to_gray, (image,), (way,))
    weights = np.array([9798, 19235, 3735]) / 32768
    np.testing.assert_allclose(found, np.asarray(way) @ weights, rtol=0, atol=1e-5)
    assert to_gray(jnp.asarray(image, jnp.int32)).dtype == jnp.float32

    maps, places = _float(rng.uniform(size=(3, 9, 9))), _float(rng.uniform(2, 6, (3, 2)))
    on_grid = jnp.round(places * 10) / 10  # where both modes have their kernels
    modes = (lambda p: mean_shift(maps, p, 1.5), lambda p: mean_shift(maps, p, 1.5, smooth=True))
    step = _float(rng.normal(size=(3, 2)))
    rounded, smooth = (jax.jvp(shift, (on_grid,), (step,)) for shift in modes)
    np.testing.assert_allclose(rounded, smooth, rtol=0, atol=1e-5)


def test_a_converged_refit_gives_back_its_own_points():
    """Without the prior the points of a shape of the PDM are fitted to rounding."""
    pdm = _base().main.pdm
    free = dataclasses.replace(pdm, eigenvalues=pdm.eigenvalues * 1e6)
    points = shape_2d(pdm, fit_pdm_to_landmarks(pdm, _float(read_truth().landmarks[100])))
    early, late = (fit_pdm_to_landmarks(free, points, converge=c) for c in (False, True))
    missed = [np.abs(shape_2d(free, p) - points).max() for p in (early, late)]
    assert missed[1] < 2e-3 and missed[1] <= missed[0]  # px, float32 of some 300 px
