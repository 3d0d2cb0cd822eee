"""Derivatives of appearance, action units, head pose and gaze: differences, symmetries, damage."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxface import Camera, Config, Model, PDMParameters, analyze_frame, load_model
from jaxface.analyze import (
    AlignConfig,
    FaceAnalyser,
    align_face,
    estimate_gaze,
    estimate_head_pose,
    head_pose_wrt_camera,
    landmarks_to_camera,
)
from jaxface.fit import shape_2d, shape_3d
from jaxface.reference.comparison.derivatives import raw_intensities
from jaxface.types import MULTI_PIE_68, Fit, PartFit

from . import head_clip
from .precision import double_precision
from .test_float64 import as_float64

_FRAME = 100
_BLUR = 1.5  # px; what band-limits the picture that moves
_SMOOTH, _FAITHFUL = AlignConfig(smooth=True), AlignConfig()
_KINDS = ("shift", "turn", "scale")


class Picture(NamedTuple):
    """A face at half size, blurred, with the exact slopes of the blurred picture."""

    image: np.ndarray  # h w 3
    across: np.ndarray
    down: np.ndarray
    landmarks: np.ndarray  # 68 2


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("base")


@pytest.fixture(scope="module")
def picture() -> Picture:
    frame = head_clip.halve(head_clip.read_frames(1, _FRAME)[0]).astype(float)
    landmarks = (head_clip.read_truth().landmarks[_FRAME] - 0.5) / 2
    reach = np.arange(-8, 9)
    bell = np.exp(-(reach**2) / (2 * _BLUR**2))
    bell /= bell.sum()
    slope = -reach * bell
    slope /= -(slope * reach).sum()

    def blur(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        reach, picture = len(bell) // 2, frame
        for axis, weights in enumerate((y, x)):
            moved = [np.roll(picture, k, axis) for k in range(-reach, reach + 1)]
            picture = np.tensordot(weights, np.stack(moved), axes=1)
        return picture

    return Picture(blur(bell, bell), blur(slope, bell), blur(bell, slope), landmarks)


@pytest.fixture
def float64() -> Iterator[None]:
    with double_precision():
        yield


def action_units(
    analyser: FaceAnalyser, config: AlignConfig, image: jax.Array, landmarks: jax.Array
) -> jax.Array:
    return raw_intensities(analyser, MULTI_PIE_68, config, image, landmarks)


_value = jax.jit(action_units, static_argnums=1)


@functools.partial(jax.jit, static_argnums=1)
def _slope(analyser, config, image, landmarks, image_dot, landmarks_dot):
    look = functools.partial(action_units, analyser, config)
    return jax.jvp(look, (image, landmarks), (image_dot, landmarks_dot))[1]


@functools.partial(jax.jit, static_argnums=1)
def _gradient(analyser, config, image, landmarks, weights):
    def loss(image, landmarks):
        return jnp.sum(weights * action_units(analyser, config, image, landmarks))

    return jax.value_and_grad(loss, argnums=(0, 1))(image, landmarks)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b)))


def differences(function: Callable, places: tuple, ways: tuple, step: float) -> np.ndarray:
    """Central differences of `function` along `ways`."""
    ahead, behind = (
        np.asarray(function(*(p + s * step * w for p, w in zip(places, ways, strict=True))))
        for s in (1, -1)
    )
    return (ahead - behind) / (2 * step)


def analyser_of(name: str, request: pytest.FixtureRequest, model: Model) -> FaceAnalyser:
    if name == "base":
        return model.analyser
    from jaxface.models.openface import read_model

    return jax.tree.map(jnp.asarray, read_model(request.getfixturevalue("model_dir"))).analyser


# Cosine with differences in float64. The issue asks for 0.98; steps so short that few of some
# 12000 pixels reach a kink, measured 0.9999.
_EXACT = 0.999
_PIXEL_STEP, _POINT_STEP = 1e-3, 1e-4  # grey levels, px


@pytest.mark.parametrize("name", ["base", "openface"])
def test_smooth_action_units_have_an_exact_derivative(
    name: str, request: pytest.FixtureRequest, model: Model, picture: Picture, float64: None
):
    """By pixels, in soft directions, and by landmarks, one coordinate at a time."""
    analyser = as_float64(analyser_of(name, request, model))
    rng = np.random.default_rng(0)
    image, landmarks = picture.image, picture.landmarks
    still, held = np.zeros_like(image), np.zeros_like(landmarks)
    value = functools.partial(_value, analyser, _SMOOTH)
    slope = functools.partial(_slope, analyser, _SMOOTH, image, landmarks)
    wide = rng.normal(size=(12, image.shape[0] // 8, image.shape[1] // 8, 3))
    pixels = [np.kron(way, np.ones((8, 8, 1))) for way in wide]
    points = np.eye(136)[rng.permutation(136)[:24]].reshape(-1, 68, 2)
    for ways, step in (
        ([(way, held) for way in pixels], _PIXEL_STEP),
        ([(still, way) for way in points], _POINT_STEP),
    ):
        found = np.stack([np.asarray(slope(*way)) for way in ways])
        expected = np.stack([differences(value, (image, landmarks), way, step) for way in ways])
        assert cosine(found, expected) > _EXACT
        np.testing.assert_allclose(np.linalg.norm(found), np.linalg.norm(expected), rtol=0.02)


def motion(picture: Picture, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Derivative of picture and landmarks by a motion of the whole, px per px or per radius."""
    height, width, _ = picture.image.shape
    centre = np.mean(picture.landmarks, axis=0)
    radius = np.sqrt(np.mean(np.sum((picture.landmarks - centre) ** 2, axis=1)))

    def velocity(points: np.ndarray) -> np.ndarray:
        away = (points - centre) / radius
        if kind == "shift":
            return np.broadcast_to(np.array([0.6, 0.8]), points.shape)
        return away if kind == "scale" else np.stack([-away[..., 1], away[..., 0]], axis=-1)

    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(float)
    field = velocity(grid)[..., None]
    moved = -(picture.across * field[:, :, 0] + picture.down * field[:, :, 1])
    return moved, np.array(velocity(picture.landmarks))


# What remains of the derivative, in parts of what the picture gives on its own. Smooth: samples of
# a moved picture are not the moved samples, measured 0.033 and 0.026; and scaling shifts the
# balance between landmarks and prior in the refit, 0.052. Faithful: central differences fall short
# of the blurred picture's slopes by a seventh, measured 0.16 to 0.17.
_LEFT = {True: {"shift": 0.05, "turn": 0.05, "scale": 0.08}, False: dict.fromkeys(_KINDS, 0.25)}


@pytest.mark.parametrize("config", [_SMOOTH, _FAITHFUL], ids=["smooth", "faithful"])
def test_moving_picture_and_landmarks_together_changes_nothing(
    config: AlignConfig, model: Model, picture: Picture, float64: None
):
    analyser = as_float64(model.analyser)
    slope = functools.partial(_slope, analyser, config, picture.image, picture.landmarks)
    for kind in _KINDS:
        moved, led = motion(picture, kind)
        by_pixels = np.asarray(slope(moved, np.zeros_like(led)))
        by_points = np.asarray(slope(np.zeros_like(moved), led))
        left = np.linalg.norm(by_pixels + by_points) / np.linalg.norm(by_pixels)
        assert left < _LEFT[config.smooth][kind], kind


def test_a_move_by_whole_pixels_changes_no_value(model: Model, picture: Picture, float64: None):
    """The truth that the derivatives of the motions are compared with."""
    analyser = as_float64(model.analyser)
    before = _value(analyser, _SMOOTH, picture.image, picture.landmarks)
    moved = np.roll(picture.image, (2, -3), axis=(0, 1))
    after = _value(analyser, _SMOOTH, moved, picture.landmarks + np.array([-3, 2]))
    # The refit ends where OpenFace's does, some 1e-4 of a mode before its minimum.
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-3)


_MIRRORED = 0.02  # of the norm; float64 but for the faithful cells, which ties make lopsided


@pytest.mark.parametrize("config", [_SMOOTH, _FAITHFUL], ids=["smooth", "faithful"])
def test_derivative_of_the_aligned_face_mirrors(
    config: AlignConfig, model: Model, picture: Picture, float64: None
):
    """For a symmetric mean shape: levels of the aligned face by landmarks."""
    mirror = np.array(MULTI_PIE_68.mirror)
    flip = np.array([-1.0, 1, 1])
    mean = np.asarray(model.analyser.pdm.mean_shape, np.float64)
    pdm = as_float64(model.analyser.pdm)
    pdm = eqx.tree_at(lambda p: p.mean_shape, pdm, jnp.asarray((mean + mean[mirror] * flip) / 2))
    side, width = config.size, picture.image.shape[1]
    weights = np.random.default_rng(0).normal(size=(side, side, 3))
    weights[:, 0] = 0  # column 0 has no counterpart: the centre is pixel 56 of 0 to 111

    @jax.jit
    def gradient(image, landmarks, weights):
        def level(landmarks):
            centre = jnp.mean(landmarks, axis=0)
            parameters = PDMParameters(jnp.ones(()), jnp.zeros(3), centre, jnp.zeros(1))
            face = align_face(image, landmarks, parameters, pdm, MULTI_PIE_68, config=config)
            return jnp.sum(face.image * weights)

        return jax.grad(level)(landmarks)

    found = gradient(picture.image, picture.landmarks, weights)
    flipped = np.array([width - 1, 0]) + picture.landmarks[mirror] * flip[:2]
    turned = np.roll(weights[:, ::-1], 1, axis=1)
    other = gradient(picture.image[:, ::-1], flipped, turned)
    apart = np.asarray(other)[mirror] * flip[:2] - np.asarray(found)
    assert np.linalg.norm(apart) < _MIRRORED * np.linalg.norm(found)


def damaged(kind: str, picture: Picture) -> tuple[np.ndarray, np.ndarray]:
    image, landmarks = picture.image.astype(np.float32), picture.landmarks.astype(np.float32)
    if kind in ("black", "flat"):
        return np.full_like(image, 0 if kind == "black" else 90), landmarks
    if kind == "nothing":
        return image, np.zeros_like(landmarks)
    if kind == "one point":
        return image, np.full_like(landmarks, 50)
    if kind == "not numbers":
        return np.full_like(image, np.nan), landmarks
    away = {"at the border": 100, "beyond the border": 10000}[kind]
    return image, landmarks - np.array([away, 0], np.float32)


@pytest.mark.parametrize("config", [_SMOOTH, _FAITHFUL], ids=["smooth", "faithful"])
def test_damaged_input_has_finite_derivatives(config: AlignConfig, model: Model, picture: Picture):
    weights = np.ones(model.analyser.video.intensity.bias.shape, np.float32)
    gradient = functools.partial(_gradient, model.analyser, config)
    for kind in (
        *("black", "flat", "nothing", "one point", "not numbers"),
        *("at the border", "beyond the border"),
    ):
        value, slopes = gradient(*damaged(kind, picture), weights)
        assert np.isfinite(value), kind
        assert all(np.isfinite(slope).all() for slope in slopes), kind


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("config", [_SMOOTH, _FAITHFUL], ids=["smooth", "faithful"])
def test_a_bad_pixel_counts_as_black(
    config: AlignConfig, bad: float, model: Model, picture: Picture
):
    """Also for the derivatives of all others; it has none itself."""
    weights = np.ones(model.analyser.video.intensity.bias.shape, np.float32)
    image, landmarks = picture.image.astype(np.float32), picture.landmarks.astype(np.float32)
    column, row = landmarks[30].astype(int)  # tip of the nose
    image[row, column, 1] = 0
    expected, (by_pixel, by_point) = _gradient(model.analyser, config, image, landmarks, weights)
    image[row, column, 1] = bad
    value, (found, points) = _gradient(model.analyser, config, image, landmarks, weights)
    assert value == expected and found[row, column, 1] == 0
    np.testing.assert_array_equal(points, by_point)
    by_pixel = np.array(by_pixel)
    by_pixel[row, column, 1] = 0
    np.testing.assert_array_equal(found, by_pixel)


def test_lanes_without_a_face_spoil_no_derivative(model: Model, picture: Picture):
    """Under `vmap` the branch of a tracked face runs for all lanes."""
    camera = Camera(*map(jnp.float32, (500, 500, 160, 120)))
    landmarks = jnp.asarray(picture.landmarks, jnp.float32)
    parts = tuple(
        PartFit(_zeros_like(part.model.pdm), jnp.zeros((part.model.pdm.mean_shape.shape[0], 2)))
        for part in model.clnf.parts
    )
    parameters = dataclasses.replace(
        _zeros_like(model.clnf.main.pdm), scale=jnp.float32(0.7), translation=landmarks.mean(0)
    )
    found = jnp.ones((), bool)
    good = Fit(parameters, landmarks, jnp.zeros(()), jnp.ones(()), found, jnp.int32(0), parts)
    never = eqx.tree_at(
        lambda f: (f.landmarks, f.parameters.scale), good, (landmarks * 0, jnp.zeros(()))
    )
    broken = jax.tree.map(
        lambda x: jnp.full_like(x, np.nan) if jnp.issubdtype(x.dtype, jnp.floating) else x, good
    )
    image = jnp.asarray(picture.image, jnp.float32)

    def loss(image, fit):
        face = analyze_frame(model, image, fit, camera, config=Config(align=_SMOOTH))
        parts = (face.scores.intensity, face.head_pose, face.gaze.gaze, face.landmarks_3d)
        return sum(jnp.sum(part) for part in parts)

    fits = jax.tree.map(lambda *x: jnp.stack(x), good, never, broken)
    gradient = jax.jit(jax.vmap(jax.grad(loss, argnums=0), in_axes=(None, 0)))(image, fits)
    assert np.isfinite(gradient).all()
    assert np.any(gradient[0]) and not np.any(gradient[1:])


def _zeros_like(pdm) -> PDMParameters:
    modes = pdm.eigenvalues.shape[0]
    return PDMParameters(jnp.ones(()), jnp.zeros(3), jnp.zeros(2), jnp.zeros(modes))


# Relative; the bound. In float64, where 12 steps have converged, measured 3e-7.
_POSE = 1e-5
_STEP = 1e-5  # px, mm and rad


@pytest.mark.parametrize("rotation", [(0.1, -0.3, 0.05), (0.3, 0.6, -0.4), (0.0, 0.0, 0.0)])
def test_derivatives_of_pose_and_gaze(rotation: tuple, model: Model, float64: None):
    """By rotation, translation, scale and modes of a fit, by landmarks, camera and iris."""
    rng = np.random.default_rng(0)
    pdm = as_float64(model.analyser.pdm)
    deviations = np.sqrt(np.asarray(pdm.eigenvalues))
    inputs = (
        np.array(rotation),
        np.array([350.0, 200.0]),
        np.array(1.7),
        rng.normal(size=deviations.shape) * deviations / 2,
        rng.normal(size=(68, 2)) * 1.5,
        np.array([700.0, 650, 320, 240]),
        rng.normal(size=(2, 2)),
    )
    look = functools.partial(_pose_and_gaze, pdm)
    derivative = jax.jit(lambda at, way: jax.jvp(look, at, way)[1])
    for k, value in enumerate(inputs):
        way = tuple(np.zeros_like(x) for x in inputs)
        way = (*way[:k], rng.normal(size=value.shape), *way[k + 1 :])
        found = np.asarray(derivative(inputs, way))
        expected = differences(jax.jit(look), inputs, way, _STEP)
        for part in (slice(0, 12), slice(12, 20)):  # poses, gaze: unlike in size
            if np.any(expected[part]):
                error = np.linalg.norm(found[part] - expected[part])
                assert error < _POSE * np.linalg.norm(expected[part]), k


def _pose_and_gaze(pdm, rotation, translation, scale, local, noise, lens, irises) -> jax.Array:
    """Both poses (12), both gazes and the angles (8) of a fit whose eyes look `irises` px aside."""
    camera = Camera(*lens)
    parameters = PDMParameters(scale, rotation, translation, local)
    shape = shape_3d(pdm, local)
    landmarks = shape_2d(pdm, parameters) + noise
    pose = estimate_head_pose(shape, landmarks, parameters, camera)
    landmarks_3d = landmarks_to_camera(shape, landmarks, parameters, camera)
    ring = np.arange(8) * np.pi / 4
    circle = 6 * np.stack([np.cos(ring), np.sin(ring), 0 * ring], axis=-1)  # mm
    eyes = []
    for k, (a, b) in enumerate(((36, 39), (42, 45))):
        middle = ((landmarks[a] + landmarks[b]) / 2 + irises[k])[None]
        eyes.append(PartFit(parameters, middle + scale * circle[:, :2]))
    shapes = jnp.asarray(circle), jnp.asarray(circle)
    gaze = estimate_gaze((eyes[0], eyes[1]), shapes, landmarks_3d, pose, camera)
    parts = (pose, head_pose_wrt_camera(pose), gaze.gaze.reshape(-1), gaze.gaze_angle)
    return jnp.concatenate(parts)
