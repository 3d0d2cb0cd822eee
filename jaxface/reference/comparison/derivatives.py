"""What derivatives of the fit are held against: pictures that move, and smooth directions.

A picture that is moved, scaled or turned, together with what the fit starts from, moves the
landmarks by a known amount, whatever it shows. So does its derivative.
"""

from collections.abc import Callable
from math import comb
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from jaxface import PDMParameters

from ...analyze import (
    AlignConfig,
    FaceAnalyser,
    align_face,
    extract_fhog,
    geometry_descriptor,
    score_action_units,
)
from ...fit import (
    AnyCLNF,
    FitConfig,
    Phase,
    PreparedCLNF,
    empty_fit,
    fit_pdm_to_landmarks,
    parameters_from_box,
    refine_fit,
)
from ...ops import euler_to_matrix, matrix_to_euler
from ...types import LandmarkScheme

MOTIONS = ("right", "down", "scale", "turn")  # by 1 px; by 1 of the distance; by 1 rad
CENTRAL = 1  # pixels to either side that plain central differences take
ACCURATE = 8  # those that differences take which are right to 1 % for waves of 3 px and longer


class Start(NamedTuple):
    """What a fit starts from, besides the picture."""

    box: Float[Array, "4"]  # px
    turn: Float[Array, ""]  # rad; of the mean shape, about the middle of the box
    growth: Float[Array, ""]  # logarithm of the pixels' size, that the prior on shapes is told of


def start_at(box: Num[np.ndarray, "4"]) -> Start:
    """The upright mean shape in a box."""
    return Start(*(jnp.asarray(value, jnp.float32) for value in (box, 0, 0)))


def fit_from(config: FitConfig) -> Callable[[AnyCLNF, Array, Start], Float[Array, "n 2"]]:
    """Landmarks, px, of one fit as a function of all that a motion changes: (clnf, gray, start).

    The weight of the prior beside the landmarks depends on the size of a pixel, so a picture that
    is scaled gives the same fit only if the eigenvalues are told of it.
    """

    def fit(clnf: AnyCLNF, gray: Array, start: Start) -> Float[Array, "n 2"]:
        clnf = _with_prior(clnf, start.growth)
        pdm, box = clnf.main.pdm, start.box
        upright = parameters_from_box(pdm, box, jnp.zeros_like(box[:3]))
        middle = (box[:2] + box[2:]) / 2
        first = turn_about(upright, start.turn, jnp.where(jnp.isfinite(middle), middle, 0))
        found = refine_fit(
            clnf,
            gray,
            eqx.tree_at(lambda f: f.parameters, empty_fit(clnf), first),
            size=jnp.asarray(gray.shape, jnp.int32),
            phase=Phase.INIT,
            phases=(Phase.INIT,),
            config=config,
        )
        return found.landmarks

    return fit


def _with_prior(clnf: AnyCLNF, growth: Float[Array, ""]) -> AnyCLNF:
    def eigenvalues(c: AnyCLNF) -> list:  # of whatever `tree_at` puts in their place
        parts = c.groups if isinstance(c, PreparedCLNF) else c.parts
        return [c.main.pdm.eigenvalues, *(part.model.pdm.eigenvalues for part in parts)]

    factor = jnp.exp(-2 * growth)
    return eqx.tree_at(eigenvalues, clnf, [values * factor for values in eigenvalues(clnf)])


def raw_intensities(
    analyser: FaceAnalyser,
    scheme: LandmarkScheme,
    config: AlignConfig,
    image: Float[Array, "h w 3"],
    landmarks: Float[Array, "n 2"],
) -> Float[Array, " u"]:
    """Intensities of a video's action units before the medians, by pixels and landmarks."""
    parameters = fit_pdm_to_landmarks(analyser.pdm, landmarks, converge=config.smooth)
    face = align_face(image, landmarks, parameters, analyser.pdm, scheme, config=config)
    fhog = extract_fhog(face.image, smooth=config.smooth)
    geometry = geometry_descriptor(analyser.pdm, parameters)
    return score_action_units(analyser.video, fhog, geometry).intensity


def turn_about(
    parameters: PDMParameters, angle: Float[Array, ""], centre: Float[Array, "2"]
) -> PDMParameters:
    """A face turned in the plane of the picture, from x to y, about a point."""
    zeros = jnp.zeros_like(parameters.rotation[:2])
    turn = euler_to_matrix(jnp.concatenate([zeros, angle[None]]))
    turned = jnp.sum(turn[:, :, None] * euler_to_matrix(parameters.rotation)[None], axis=1)
    away = parameters.translation - centre
    return PDMParameters(
        scale=parameters.scale,
        rotation=matrix_to_euler(turned),
        translation=centre + jnp.sum(turn[:2, :2] * away[None], axis=1),
        local=parameters.local,
    )


def velocity(
    motion: str, points: Num[np.ndarray, "*n 2"], centre: Num[np.ndarray, "2"]
) -> Num[np.ndarray, "*n 2"]:
    """How fast points move in one of `MOTIONS`; the last two are about `centre`."""
    away = points - centre
    return {
        "right": np.broadcast_to([1.0, 0.0], away.shape),
        "down": np.broadcast_to([0.0, 1.0], away.shape),
        "scale": away,
        "turn": np.stack([-away[..., 1], away[..., 0]], axis=-1),
    }[motion]


def slopes(gray: Num[np.ndarray, "h w"], reach: int) -> Num[np.ndarray, "h w 2"]:
    """Slopes along x and y from pixels on both sides, with 0 outside the picture.

    Args:
        reach: pixels to either side. One gives central differences, which are too small where a
            picture is fine: by 16 % for waves of 6 px, and by 36 % for waves of 4 px.
    """
    around = np.pad(gray.astype(np.float64), reach)
    total = np.zeros((*gray.shape, 2))
    for far in range(1, reach + 1):
        share = comb(2 * reach, reach - far) / comb(2 * reach, reach)
        weight = (-1) ** (far + 1) * share / far
        for axis, image_axis in ((0, 1), (1, 0)):
            difference = np.roll(around, -far, image_axis) - np.roll(around, far, image_axis)
            total[..., axis] += weight * difference[reach:-reach, reach:-reach]
    return total


def moving_picture(
    gray: Num[np.ndarray, "h w"], motion: str, centre: Num[np.ndarray, "2"], reach: int
) -> Num[np.ndarray, "h w"]:
    """How fast the pixels of a picture change that moves in one of `MOTIONS`."""
    rows, columns = np.indices(gray.shape)
    places = np.stack([columns, rows], axis=-1).astype(np.float64)
    return -np.sum(velocity(motion, places, centre) * slopes(gray, reach), axis=-1)


def moving_start(motion: str, box: Num[np.ndarray, "4"]) -> Start:
    """How fast a start changes that moves along, about the middle of its box."""
    corners = box.reshape(2, 2)
    moved = velocity(motion, corners, corners.mean(axis=0)).reshape(4)
    if motion == "turn":  # a box stays upright
        moved = np.zeros_like(box)
    rates = moved, float(motion == "turn"), float(motion == "scale")
    return Start(*(jnp.asarray(rate, jnp.float32) for rate in rates))


class Following(NamedTuple):
    """How landmarks follow a motion; each is 1, 0 and 0 where they follow it exactly."""

    gain: float  # of their motion along the true one
    spread: float  # root mean square of what they miss, of the true motion's
    largest: float  # the largest miss of a landmark, of the same


def following(
    motion: str,
    landmarks: Num[np.ndarray, "n 2"],
    moved: Num[np.ndarray, "n 2"],
    centre: Num[np.ndarray, "2"],
) -> Following:
    """Compares the derivative of landmarks in a motion with the motion itself."""
    true = velocity(motion, np.asarray(landmarks, np.float64), centre)
    missed = np.linalg.norm(moved - true, axis=1)
    size = np.sqrt(np.mean(np.sum(true**2, axis=1)))
    gain = np.sum(moved * true) / np.sum(true**2)
    return Following(gain, np.sqrt(np.mean(missed**2)) / size, missed.max() / size)


def smooth_direction(
    rng: np.random.Generator, shape: tuple[int, ...], wave: float
) -> Num[np.ndarray, "h w"]:
    """A random picture of waves of at least `wave` px, its largest value 1."""
    noise = np.fft.fft2(rng.normal(size=shape))
    frequency = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij"))
    picture = np.fft.ifft2(np.where(frequency <= 1 / wave, noise, 0)).real
    return picture / np.abs(picture).max()


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Of the angle between two arrays as vectors."""
    one, other = np.ravel(one).astype(np.float64), np.ravel(other).astype(np.float64)
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
