"""Landmark validator: a small network on the face warped to a mean shape gives `confidence`."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..ops import blend, cell_fraction, pad_border, sample_taps
from ..types import Bordered, BorderedLanes, FlatGray, Gray, Landmarks, PDMParameters
from ._areas import as_lane, map_lanes

_HIGHEST = lax.Precision.HIGHEST
_SIDE = 60  # px of the warped face
_MARGIN = 3.0  # px around the landmarks
_STRIP = 13  # columns of a map that one product gives; more waste arithmetic on zeros


class FaceWarp(eqx.Module):
    """Piece-wise affine warp of a face to a mean shape, for each view, and what is expected there.

    Pads triangles to the view with most of them.
    """

    centres: Float[Array, "v 3"]  # pitch yaw roll, rad
    mean: Float[Array, "v 60 60"]  # of standardised faces; zeros outside the mask
    std: Float[Array, "v 60 60"]  # ones outside the mask
    mask: Bool[Array, "v 60 60"]
    min_x: Float[Array, " v"]
    min_y: Float[Array, " v"]
    triangles: Int[Array, "v t 3"]  # landmark indices; zeros in padding
    triangle_id: Int[Array, "v 60 60"]  # -1 outside the mask
    alpha: Float[Array, "v t 3"]
    beta: Float[Array, "v t 3"]


class Validator(eqx.Module):
    """A warp and a network per view.

    `layers` names the network: "conv", "relu", "pool" (2x2, stride 2) or "fc"; `weights` and
    `biases` hold one entry per conv or fc layer, in that order. A conv weight is
    [view, out, in, row, col], an fc weight [view, out, in] over inputs flattened in
    [channel, col, row] order.
    """

    layers: tuple[str, ...] = eqx.field(static=True)
    warp: FaceWarp
    weights: tuple[Float[Array, "..."], ...]
    biases: tuple[Float[Array, "v _"], ...]

    def prepare(self) -> "PreparedValidator":
        """Lays the convolutions out as products of matrices. Runs on the host, once."""
        kernels = _kernels(self.layers, self.weights)
        return PreparedValidator(
            layers=self.layers,
            sides=tuple(w.shape[-1] for w in self.weights if w.ndim == 5),
            warp=self.warp,
            matrices=kernels,
            biases=self.biases,
        )

    def network(self, view: Int[Array, ""]) -> "_Network":
        """The network of one view, laid out in every call."""
        weights = tuple(weight[view][None] for weight in self.weights)
        matrices = tuple(kernel[0] for kernel in _kernels(self.layers, weights))
        sides = tuple(w.shape[-1] for w in self.weights if w.ndim == 5)
        return _Network(self.layers, sides, matrices, tuple(b[view] for b in self.biases))


class PreparedValidator(eqx.Module):
    """A `Validator` laid out for products. It holds no weights that could be edited in vain."""

    layers: tuple[str, ...] = eqx.field(static=True)
    sides: tuple[int, ...] = eqx.field(static=True)  # of the conv layers' kernels, px
    warp: FaceWarp
    matrices: tuple[Float[Array, "v _ _"], ...]  # of conv layers Toeplitz, of fc layers weights
    biases: tuple[Float[Array, "v _"], ...]

    def network(self, view: Int[Array, ""]) -> "_Network":
        """The network of one view."""
        matrices = tuple(matrix[view] for matrix in self.matrices)
        return _Network(self.layers, self.sides, matrices, tuple(b[view] for b in self.biases))


AnyValidator = Validator | PreparedValidator


class _Network(NamedTuple):
    """The network of one view, as `run_validator` takes it."""

    layers: tuple[str, ...]
    sides: tuple[int, ...]
    matrices: tuple[Float[Array, "_ _"], ...]
    biases: tuple[Float[Array, " _"], ...]


def warp_to_mean_shape(
    warp: FaceWarp,
    padded: Bordered,
    landmarks: Landmarks,
    view: Int[Array, ""],
    *,
    size: Int[Array, "2"],
) -> tuple[Float[Array, "60 60"], Bool[Array, ""]]:
    """Piece-wise affine warp of the face to the view's mean shape; zeros outside the mask.

    Args:
        padded: luma with a border, see `pad_border`, or flat.
        landmarks: px.
        size: height and width of the picture, px.
    Returns:
        The warped face, and whether the landmarks' box overlaps the picture.
    Reference:
        Specification 01, B.8, steps 2 and 3.
    """
    low = jnp.trunc(jnp.min(landmarks, axis=0) - _MARGIN)
    high = jnp.trunc(jnp.max(landmarks, axis=0) + _MARGIN)
    limit = (size[::-1] - 1).astype(landmarks.dtype)
    low, high = jnp.maximum(low, 0), jnp.minimum(high, limit)
    inside = jnp.all(high - low > 1)
    corners = (landmarks - low[None])[warp.triangles[view]]  # t 3 2
    alpha, beta = warp.alpha[view][..., None], warp.beta[view][..., None]
    first = corners[:, :1]
    edges = (corners[:, 1:2] - first) * alpha + (corners[:, 2:] - first) * beta
    affine = edges.at[:, 0].add(first[:, 0])  # t 3 2: constant, by x, by y
    local = affine[jnp.maximum(warp.triangle_id[view], 0)]
    steps = np.arange(_SIDE, dtype=warp.min_x.dtype)
    x = (steps + warp.min_x[view])[None, :, None]
    y = (steps + warp.min_y[view])[:, None, None]
    position = local[:, :, 0] + local[:, :, 1] * x + local[:, :, 2] * y
    cells = jnp.round(jnp.clip(32 * position, -(2.0**30), 2.0**30)).astype(jnp.int32)
    warped = _sample_region(padded, cells, low.astype(jnp.int32), high.astype(jnp.int32))
    warped = warped.astype(landmarks.dtype)  # of bytes it is exact in float32
    return jnp.where(warp.mask[view], warped, 0), inside


def _sample_region(
    padded: Bordered,
    cells: Int[Array, "60 60 2"],
    low: Int[Array, "2"],
    high: Int[Array, "2"],
) -> Float[Array, "60 60"]:
    """Samples of the region [low, high) alone: taps outside it count as 0."""
    pixel = (cells >> 5) + low[None, None]
    column, row = pixel[..., 0], pixel[..., 1]
    (in_left, in_right), (in_upper, in_lower) = (
        [(place + step >= low[axis]) & (place + step < high[axis]) for step in range(2)]
        for axis, place in enumerate((column, row))
    )
    (a, b), (c, d) = sample_taps(padded, column, row)
    top = jnp.where(in_upper & in_left, a, 0), jnp.where(in_upper & in_right, b, 0)
    bottom = jnp.where(in_lower & in_left, c, 0), jnp.where(in_lower & in_right, d, 0)
    fractions = cell_fraction(cells, a.dtype)
    return blend(top, bottom, fractions[..., 0], fractions[..., 1])


def normalise_face(
    warp: FaceWarp, warped: Float[Array, "60 60"], view: Int[Array, ""]
) -> Float[Array, "60 60"]:
    """Standardises the masked pixels, then subtracts the view's mean face and divides by its
    deviation (specification 01, B.8, steps 4 and 5)."""
    mask = warp.mask[view]
    count = jnp.sum(mask).astype(warped.dtype)
    centred = jnp.where(mask, warped - jnp.sum(warped) / count, 0)
    variance = jnp.sum(centred * centred) / count
    standard = centred * lax.rsqrt(jnp.where(variance > 0, variance, 1))
    return jnp.where(mask, (standard - warp.mean[view]) / warp.std[view], 0)


def _kernels(
    layers: tuple[str, ...], weights: tuple[Float[Array, "v ..."], ...]
) -> tuple[Float[Array, "v _ _"], ...]:
    """Matrices of all layers with weights; those of conv layers give a strip of columns of all
    maps at once."""
    kernels, side = [], _SIDE
    following = iter(weights)
    for layer in layers:
        if layer == "conv":
            weight = next(following)
            side -= weight.shape[-1] - 1
            kernels.append(_to_bands(weight, min(_STRIP, side)))
        elif layer == "pool":
            side = -(-side // 2)
        elif layer == "fc":
            kernels.append(next(following))
    return tuple(kernels)


def _to_bands(weight: Float[Array, "v o c s s"], step: int) -> Float[Array, "v k n"]:
    side = weight.shape[-1]
    toeplitz = np.zeros((side, step + side - 1, step), weight.dtype)
    for column in range(step):
        toeplitz[np.arange(side), column + np.arange(side), column] = 1
    bands = jnp.einsum("vocyd,dxq->vcyxoq", weight, toeplitz, precision=_HIGHEST)
    return bands.reshape(len(weight), -1, weight.shape[1] * step)


def _convolve(
    maps: Float[Array, "b c h w"], bands: Float[Array, "k n"], bias: Float[Array, " o"], side: int
) -> Float[Array, "b o p q"]:
    """Valid correlation, as products of strips of rows with Toeplitz matrices of the weights.

    Args:
        bands: those matrices, see `_kernels`.
        side: of the kernel, px.
    """
    faces, _, height, width = maps.shape
    rows, columns = height - side + 1, width - side + 1
    step = min(_STRIP, columns)
    starts = [*range(0, columns - step, step), columns - step]  # the last one may overlap
    strips = jnp.stack([maps[..., s : s + step + side - 1] for s in starts], axis=1)
    stacked = jnp.stack([strips[..., y : y + rows, :] for y in range(side)], axis=3)
    flat = stacked.transpose(0, 1, 4, 2, 3, 5).reshape(faces * len(starts) * rows, -1)
    product = jnp.dot(flat, bands, precision=_HIGHEST)
    product = product.reshape(faces, len(starts), rows, -1, step).transpose(0, 3, 2, 1, 4)
    last = columns - step * (len(starts) - 1)
    parts = [
        product[..., :-1, :].reshape(faces, len(bias), rows, -1),
        product[..., -1, -last:],
    ]
    return jnp.concatenate(parts, axis=-1) + bias[None, :, None, None]


def _pool(maps: Float[Array, "b c h w"]) -> Float[Array, "b c p q"]:
    """Maximum over 2x2 windows of stride 2; the last window is clipped (specification 01, A.3)."""
    odd = [(0, 0), (0, 0), *((0, side % 2) for side in maps.shape[2:])]
    even = jnp.pad(maps, odd, constant_values=-jnp.inf)
    return jnp.maximum(
        jnp.maximum(even[..., ::2, ::2], even[..., 1::2, ::2]),
        jnp.maximum(even[..., ::2, 1::2], even[..., 1::2, 1::2]),
    )


def run_validator(
    validator: AnyValidator, faces: Float[Array, "b 60 60"], view: Int[Array, ""]
) -> Float[Array, "b bins"]:
    """Logits of the alignment-error classes, best class first (specification 01, B.8, step 6)."""
    network, maps = validator.network(view), faces[:, None]
    sides = iter(network.sides)
    parameters = iter(zip(network.matrices, network.biases, strict=True))
    for layer in network.layers:
        if layer == "relu":
            maps = jax.nn.relu(maps)
        elif layer == "pool":
            maps = _pool(maps)
        elif layer == "conv":
            matrix, bias = next(parameters)
            maps = _convolve(maps, matrix, bias, next(sides))
        else:
            matrix, bias = next(parameters)
            flat = maps.swapaxes(-1, -2).reshape(maps.shape[0], -1) if maps.ndim == 4 else maps
            maps = jnp.dot(flat, matrix.T, precision=_HIGHEST) + bias[None]
    return maps


def validate_landmarks(
    validator: AnyValidator,
    gray: Gray | FlatGray,
    landmarks: Landmarks,
    parameters: PDMParameters,
    *,
    size: Int[Array, "2"],
) -> Float[Array, ""]:
    """How well landmarks sit on a face: 1 good, 0 bad, in steps of one network class.

    Args:
        gray: 0 to 255, possibly padded beyond `size`.
        landmarks: px.
        parameters: their rotation chooses the view.
        size: height and width of the picture, px.
    Returns:
        Certainty; 0 where the landmarks lie outside the picture.
    Reference:
        Specification 01, B.8.
    """
    *lanes, sizes = jax.tree.map(lambda leaf: leaf[None], (landmarks, parameters, size))
    return validate_lanes(validator, as_lane(pad_border(gray)), *lanes, sizes=sizes)[0]


def validate_lanes(
    validator: AnyValidator,
    padded: BorderedLanes,
    landmarks: Float[Array, "b n 2"],
    parameters: PDMParameters,
    *,
    sizes: Int[Array, "b 2"],
) -> Float[Array, " b"]:
    """`validate_landmarks` of several faces, each in an image of its own with a border."""
    return judge_faces(validator, cut_faces(validator, padded, landmarks, parameters, sizes=sizes))


class CutFaces(eqx.Module):
    """What the validator looks at, one row per face."""

    faces: Float[Array, "b 60 60"]  # warped to the mean shape, and normalised
    inside: Bool[Array, " b"]  # the landmarks' box overlaps the picture
    views: Int[Array, " b"]


def cut_faces(
    validator: AnyValidator,
    padded: BorderedLanes,
    landmarks: Float[Array, "b n 2"],
    parameters: PDMParameters,
    *,
    sizes: Int[Array, "b 2"],
) -> CutFaces:
    """The faces that `judge_faces` looks at, each from an image of its own with a border.

    Args:
        landmarks: px.
        parameters: their rotations choose the views.
        sizes: height and width of each picture, px.
    Reference:
        Specification 01, B.8, steps 1 to 5.
    """
    away = parameters.rotation[:, None] - validator.warp.centres[None]
    views = jnp.argmin(jnp.sum(away**2, axis=-1), axis=-1)

    def prepare(padded, landmarks, view, size):
        warped, inside = warp_to_mean_shape(validator.warp, padded, landmarks, view, size=size)
        return normalise_face(validator.warp, warped, view), inside

    faces, inside = map_lanes(prepare, padded, landmarks, views, sizes)
    return CutFaces(faces, inside, views)


def judge_faces(validator: AnyValidator, cut: CutFaces) -> Float[Array, " b"]:
    """Certainties of faces; each view's network runs once for all, and only if one needs it.

    Reference:
        Specification 01, B.8, step 6.
    """

    def judge(logits, view):
        here = cut.views == view

        def run(logits):
            return jnp.where(here[:, None], run_validator(validator, cut.faces, view), logits)

        return lax.cond(jnp.any(here), run, lambda x: x, logits), None

    bins = validator.biases[-1].shape[-1]
    dtype = cut.faces.dtype
    start = jnp.zeros((cut.faces.shape[0], bins), dtype)
    logits, _ = lax.scan(judge, start, jnp.arange(len(validator.warp.centres)))
    # Rounded once from float64, as class 5 of 20 must give exactly float32(0.725).
    certainties = np.asarray(1 - (np.arange(bins) + 0.5) / bins, np.float32).astype(dtype)
    return jnp.where(cut.inside, jnp.asarray(certainties)[jnp.argmax(logits, axis=-1)], 0)
