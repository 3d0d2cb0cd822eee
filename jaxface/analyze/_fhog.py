"""FHOG appearance descriptor and PDM geometry descriptor (specification 03, B and C.1)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt8

from ..fit import PDM
from ..types import Image, PDMParameters

_CELL = 8
# 10000 times dlib's direction constants: with integral gradients every product is then exact.
_DIRECTIONS = (
    (10000, 0),
    (9397, 3420),
    (7660, 6428),
    (5000, 8660),
    (1736, 9848),
    (-1736, 9848),
    (-5000, 8660),
    (-7660, 6428),
    (-9397, 3420),
)
_TEXTURE = 2 * 0.2357
_SHARPNESS = 2  # power of the squared lengths that weighs channels in the smooth histogram

Plane = Float[Array, "y x"]
Histogram = Float[Array, "18 r c"]


def extract_fhog(
    aligned: Image | UInt8[Array, "h w 3"], *, smooth: bool = False
) -> Float[Array, "r c 31"]:
    """Computes the 31-channel histogram of oriented gradients of an aligned face.

    A pixel votes for the direction nearest to the gradient of its strongest channel. The choice of
    the direction is a step, which has no derivative: the one given is that of a histogram beside
    it in which the gradient is shared between the two nearest directions. It is piecewise by the
    choice of the channel, and by clipping, which takes away a feature's derivative by its own
    histogram; a pixel without any gradient has none. With `smooth` the values are shared between
    directions too, channels of almost the same strength count together, and the derivative is
    exact.

    Args:
        aligned: masked face, 0 to 255, integral values unless `smooth`; 112 px give 12 by 12
            cells. Values that are not finite count as 0.
        smooth: no hard choices, for exact derivatives; the features are then not OpenFace's.

    Returns:
        18 contrast-sensitive, 9 contrast-insensitive and 4 texture features of each cell of
        8 px, without the outermost cells.

    Raises:
        ValueError: `aligned` is not `h w 3`.

    Reference:
        Felzenszwalb et al. 2010, "Object detection with discriminatively trained part-based
        models", as in dlib's extract_fhog_features; specification 03, B. There, as in the smooth
        one here, gradients are shared between cells; Dalal and Triggs 2005, "Histograms of
        oriented gradients for human detection", share them between directions too.
    """
    if aligned.ndim != 3 or aligned.shape[-1] != 3:
        raise ValueError(f"aligned: expected shape (h, w, 3), got {aligned.shape}")
    if aligned.dtype == jnp.uint8:
        aligned = aligned.astype(jnp.float32)
    # The loop makes XLA store the image: fused into its differences, the warp that produced it
    # would run again for each of them.
    planes = lax.map(
        lambda plane: jnp.where(jnp.isfinite(plane), plane, 0), jnp.moveaxis(aligned, -1, 0)
    )
    return _normalise(_smooth_histogram(planes) if smooth else _histogram(planes))


def geometry_descriptor(pdm: PDM, parameters: PDMParameters) -> Float[Array, " g"]:
    """Computes the shape offsets and coefficients that the action-unit models take.

    Args:
        pdm: the analyser's own shape model.
        parameters: refitted to the landmarks (`fit.fit_pdm_to_landmarks`); only `local` counts.

    Returns:
        Offsets from the mean shape, mm (all x, all y, all z), then the coefficients: 238 values.
        Linear in the coefficients, so its derivative is exact.

    Reference:
        Specification 03, C.1.
    """
    offsets = jnp.einsum(
        "m,mnk->kn", parameters.local, pdm.components, precision=lax.Precision.HIGHEST
    )
    return jnp.concatenate([offsets.reshape(-1), parameters.local])


def _extent(length: int) -> tuple[int, int]:
    """Number of cells along one side, and the end of the pixels that vote (from 1)."""
    cells = int(length / _CELL + 0.5)
    return cells, min(cells * _CELL, length) - 1


@jax.custom_jvp
def _histogram(planes: Float[Array, "3 h w"]) -> Histogram:
    """Each pixel's gradient, in its strongest channel, added to one direction."""
    return _vote(*_strongest_gradient(planes))


@_histogram.defjvp
def _histogram_jvp(primals: Any, tangents: Any) -> tuple[Histogram, Histogram]:
    """The derivative of the histogram that shares each gradient between two directions.

    The channel stays the one that was chosen: measured against differences of 8 grey levels,
    sharing between channels as well takes a tenth off the cosine.
    """

    def shared(planes: Float[Array, "3 h w"]) -> Histogram:
        return _share(*_strongest_gradient(planes))

    return _histogram(*primals), jax.jvp(shared, primals, tangents)[1]


def _smooth_histogram(planes: Float[Array, "3 h w"]) -> Histogram:
    """Each pixel's gradient, shared between channels and the two nearest directions."""
    return _share(*_blended_gradient(planes))


def _gradients(planes: Float[Array, "3 h w"]) -> list[tuple[Plane, Plane, Plane]]:
    """Central differences and their squared length, without the image's border, by channel."""
    end_y, end_x = (_extent(side)[1] for side in planes.shape[1:])
    channels = []
    for plane in (planes[0], planes[1], planes[2]):
        gx = plane[1:end_y, 2 : end_x + 1] - plane[1:end_y, : end_x - 1]
        gy = plane[2 : end_y + 1, 1:end_x] - plane[: end_y - 1, 1:end_x]
        channels.append((gx, gy, gx * gx + gy * gy))
    return channels


def _strongest_gradient(planes: Float[Array, "3 h w"]) -> tuple[Plane, Plane]:
    """Central differences of the channel where they are longest."""
    red, green, blue = _gradients(planes)
    end_x = _extent(planes.shape[2])[1]
    # dlib's vector code takes blocks of 8 columns and breaks ties the other way round.
    blocks = max(-(-(end_x - 8) // 8), 0)
    in_block = np.arange(1, end_x)[None] < 1 + 8 * blocks
    take_red = jnp.where(in_block, red[2] > green[2], red[2] >= green[2])
    first = tuple(jnp.where(take_red, r, g) for r, g in zip(red, green, strict=True))
    keep = jnp.where(in_block, first[2] > blue[2], first[2] >= blue[2])
    return jnp.where(keep, first[0], blue[0]), jnp.where(keep, first[1], blue[1])


def _blended_gradient(planes: Float[Array, "3 h w"]) -> tuple[Plane, Plane]:
    """Mean of the channels' central differences; in effect of those almost as long as any."""
    channels = _gradients(planes)
    longest = jnp.maximum(jnp.maximum(channels[0][2], channels[1][2]), channels[2][2])
    # Only ratios count, so the divisor is a constant; it keeps the powers in range.
    unit = lax.stop_gradient(jnp.where(longest > 0, longest, 1))
    weights = [(square / unit) ** _SHARPNESS for _, _, square in channels]
    total = weights[0] + weights[1] + weights[2]
    total = jnp.where(longest > 0, total, 1)
    gx, gy = (
        sum(w * channel[axis] for w, channel in zip(weights, channels, strict=True)) / total
        for axis in range(2)
    )
    return gx, gy


def _orientation(gx: Float[Array, "y x"], gy: Float[Array, "y x"]) -> Float[Array, "y x"]:
    """Signed direction, 0 to 17, as a whole number; the first of equals wins."""
    best, found = jnp.zeros_like(gx), jnp.zeros_like(gx)
    for o, (ux, uy) in enumerate(_DIRECTIONS):
        along = gx * ux + gy * uy
        for sign, direction in ((along, o), (-along, o + 9)):
            better = sign > best
            best = jnp.where(better, sign, best)
            found = jnp.where(better, jnp.asarray(direction, gx.dtype), found)
    return found


def _bilinear_weights(length: int) -> np.ndarray:
    """Weights (cells + 2, pixels) of each voting pixel along one side."""
    cells, end = _extent(length)
    weights = np.zeros((cells + 2, end - 1), np.float32)
    for i, pixel in enumerate(range(1, end)):
        position = (pixel + 0.5) / _CELL - 0.5
        low = int(np.floor(position))
        weights[low + 1, i] += 1 - (position - low)
        weights[low + 2, i] += position - low
    return weights


def _vote(gx: Plane, gy: Plane) -> Histogram:
    """Gradient lengths added to the nearest direction of the nearest cells."""
    square = gx * gx + gy * gy
    length = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)

    def votes(bins: Plane, length: Plane) -> Float[Array, "18 r x"]:
        directions = np.arange(18, dtype=length.dtype)[:, None, None]
        return jnp.where(bins[None] == directions, length[None], 0)

    return _pool(votes, _orientation(gx, gy), length)


def _share(gx: Plane, gy: Plane) -> Histogram:
    """Gradient lengths shared between the two nearest directions of the nearest cells."""
    square = gx * gx + gy * gy
    some = square > 0
    # The inner `where` keeps derivatives finite where there is no gradient.
    gx, gy = jnp.where(some, gx, 1), jnp.where(some, gy, 0)
    length = jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), 0)
    position = jnp.arctan2(gy, gx) * (9 / np.pi)

    def votes(position: Plane, length: Plane) -> Float[Array, "18 r x"]:
        directions = np.arange(18, dtype=length.dtype)[:, None, None]
        away = jnp.abs(jnp.mod(position[None] - directions + 9, 18) - 9)
        return jnp.maximum(1 - away, 0) * length[None]

    return _pool(votes, position, length)


def _pool(
    votes: Callable[[Plane, Plane], Float[Array, "18 r x"]], direction: Plane, length: Plane
) -> Histogram:
    """Adds the pixels' votes to the four nearest cells, by their distance from the centres."""
    height, width = length.shape
    rows = _extent(height + 2)[0]
    # The 8 pixel rows between two cell centres vote for the same two cells.
    above = _CELL // 2 + 1
    below = (rows + 1) * _CELL - above - height
    blocks = (rows + 1, _CELL, width)
    direction = jnp.pad(direction, ((above, below), (0, 0))).reshape(blocks)
    length = jnp.pad(length, ((above, below), (0, 0))).reshape(blocks)
    upper = lower = jnp.zeros((18, rows + 1, width), length.dtype)
    for k in range(_CELL):
        vote = votes(direction[:, k], length[:, k])
        upper = upper + vote * (1 - (k + 0.5) / _CELL)
        lower = lower + vote * ((k + 0.5) / _CELL)
    by_row = jnp.pad(upper, ((0, 0), (0, 1), (0, 0))) + jnp.pad(lower, ((0, 0), (1, 0), (0, 0)))
    columns = jnp.asarray(_bilinear_weights(width + 2), length.dtype)
    return jnp.einsum("orx,cx->orc", by_row, columns, precision=lax.Precision.HIGHEST)


def _normalise(histogram: Float[Array, "18 r c"]) -> Float[Array, "r-4 c-4 31"]:
    """Four clipped normalisations of each inner cell, by the 2x2 blocks that contain it."""
    cells = histogram[:, 1:-1, 1:-1]
    unsigned = cells[:9] + cells[9:]
    energy = jnp.sum(unsigned * unsigned, axis=0)
    pairs = energy[:, :-1] + energy[:, 1:]
    blocks = pairs[:-1] + pairs[1:]  # blocks[i, j] covers cells i, i+1 by j, j+1
    signed, unsigned = cells[:, 1:-1, 1:-1], unsigned[:, 1:-1, 1:-1]
    sensitive, insensitive, texture = 0, 0, []
    for block in (blocks[1:, 1:], blocks[:-1, 1:], blocks[1:, :-1], blocks[:-1, :-1]):
        limit = 0.2 * jnp.sqrt(block + 1e-4)[None]
        clipped = jnp.minimum(signed, limit) * (0.1 / limit)
        sensitive = sensitive + clipped
        insensitive = insensitive + jnp.minimum(unsigned, limit) * (0.1 / limit)
        texture.append(_TEXTURE * jnp.sum(clipped, axis=0))
    features = jnp.concatenate([sensitive, insensitive, jnp.stack(texture)])
    return jnp.moveaxis(features, 0, -1)
