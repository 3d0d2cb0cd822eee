"""Face alignment: rigid similarity, OpenCV's 8-bit warp and the face mask (specification 03, A)."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, UInt8

from ..fit import PDM
from ..ops import (
    blend,
    cell_fraction,
    double,
    similarity_matrix,
    similarity_sums,
)
from ..types import MULTI_PIE_68, Image, Landmarks, LandmarkScheme, PDMParameters

_RAISE = 30 / 0.7  # mask points go up by this times the scale, px
_WORD = 28  # pixels of a row kept in one integer


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignConfig:
    """Settings of the aligned face."""

    size: int = 112  # px, width and height
    scale: float = 0.7  # px per mm of the mean shape
    mask: bool = True  # black outside the face


class AlignedFace(eqx.Module):
    """A face turned upright at a fixed scale."""

    image: Float[Array, "s s 3"]  # RGB, 0 to 255, integral values
    mask: Bool[Array, "s s"]  # pixels that were kept


def align_face(
    image: Image | UInt8[Array, "h w 3"],
    landmarks: Landmarks,
    parameters: PDMParameters,
    pdm: PDM,
    scheme: LandmarkScheme,
    *,
    config: AlignConfig = AlignConfig(),
) -> AlignedFace:
    """Warps a face onto the mean shape, seen from the front, and masks the background.

    Args:
        image: RGB, 0 to 255, integral values; may be padded with zeros right and below.
        landmarks: the detected points, px.
        parameters: refitted to `landmarks`; its translation goes to the centre of the output.
        pdm: gives the reference shape.
        scheme: says which landmarks are rigid, which are raised, and gives the triangulation.
        config: size, scale and masking of the output.

    Returns:
        The aligned face. Derivatives pass through the rounding to whole grey levels and
        1/32 px (straight-through); the mask is constant.

    Raises:
        ValueError: `image` is not `h w 3`, or `landmarks` are not those of the scheme.

    Reference:
        Specification 03, A.2 and A.3.
    """
    matrix = alignment_matrix(landmarks, parameters, pdm, scheme, config=config)
    warped = warp_to_aligned(image, matrix, config=config)
    if not config.mask or not scheme.triangles:
        return AlignedFace(warped, jnp.ones((config.size, config.size), bool))
    mask = face_mask(landmarks, matrix, scheme, config=config)
    return AlignedFace(jnp.where(mask[..., None], warped, 0), mask)


def alignment_matrix(
    landmarks: Landmarks,
    parameters: PDMParameters,
    pdm: PDM,
    scheme: LandmarkScheme = MULTI_PIE_68,
    *,
    config: AlignConfig = AlignConfig(),
) -> Float[Array, "2 3"]:
    """Computes the affine map from the frame to the aligned face.

    Args:
        landmarks: the detected points, px.
        parameters: refitted to `landmarks`; only the translation counts.
        pdm: gives the reference shape.
        scheme: says which landmarks are rigid.
        config: size and scale of the output.

    Returns:
        Rotation and scale that best map the rigid points onto the mean shape, and the offset
        that takes the translation to the centre. The identity's where all points coincide.

    Raises:
        ValueError: `landmarks` are not those of the scheme.

    Reference:
        Kabsch 1976; specification 03, A.2.
    """
    if landmarks.shape != (scheme.count, 2):
        raise ValueError(f"landmarks: expected shape ({scheme.count}, 2), got {landmarks.shape}")
    rigid = np.array(scheme.rigid_points)
    source = landmarks[rigid]
    target = config.scale * pdm.mean_shape[rigid, :2]
    source = source - jnp.mean(source, axis=0)[None]
    target = target - jnp.mean(target, axis=0)[None]
    cosine, sine, spread, target_spread = similarity_sums(source, target)
    length = cosine * cosine + sine * sine
    valid = (length > 0) & (spread > 0)
    ratio = jnp.sqrt(target_spread / jnp.where(valid, spread, 1))
    factor = jnp.where(valid, ratio / jnp.sqrt(jnp.where(valid, length, 1)), 0)
    a = jnp.where(valid, cosine * factor, 1)
    b = jnp.where(valid, sine * factor, 0)
    linear = similarity_matrix(a, b)
    moved = jnp.sum(linear * parameters.translation[None], axis=1)
    return jnp.concatenate([linear, (config.size // 2 - moved)[:, None]], axis=1)


def warp_to_aligned(
    image: Image | UInt8[Array, "h w 3"],
    matrix: Float[Array, "2 3"],
    *,
    config: AlignConfig = AlignConfig(),
) -> Float[Array, "s s 3"]:
    """Samples an image through an affine map as OpenCV's 8-bit warp does, bit for bit.

    Args:
        image: RGB, 0 to 255, integral values; zero outside.
        matrix: from image px to output px.
        config: only `size` counts.

    Returns:
        Integral values. Derivatives pass through the rounding (straight-through).

    Raises:
        ValueError: `image` is not `h w 3`.

    Reference:
        OpenCV 3.4 warpAffine, bilinear, constant border 0; specification 03, A.2, step 6.
    """
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"image: expected shape (h, w, 3), got {image.shape}")
    cells, positions = _source_positions(matrix, config.size)
    # Adding zero with a derivative leaves the value and passes the gradient.
    fx, fy = (
        cell_fraction(cell, matrix.dtype) + (position - lax.stop_gradient(position))
        for cell, position in zip(cells, positions, strict=True)
    )
    top, bottom = _fetch_color(image, cells[0] >> 5, cells[1] >> 5, matrix.dtype)
    smooth = blend(top, bottom, fx[..., None], fy[..., None])
    return jnp.floor(smooth + 0.5) + (smooth - lax.stop_gradient(smooth))


def _fetch_color(
    image: Image | UInt8[Array, "h w 3"],
    column: Int[Array, "s s"],
    row: Int[Array, "s s"],
    dtype: DTypeLike,
) -> list[tuple[Float[Array, "s s 3"], Float[Array, "s s 3"]]]:
    """The 2x2 pixels at and after (row, column), row by row; 0 outside the image.

    `ops.sample_taps` wants a border of zeros. That pays for areas around each landmark, but a
    border around a colour picture that is sampled once takes longer than the whole warp.
    """
    height, width, _ = image.shape
    pixels = image.reshape(height * width, 3)

    def fetch(right: int, down: int) -> Float[Array, "s s 3"]:
        x, y = column + right, row + down
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        found = pixels[jnp.where(inside, y * width + x, 0)].astype(dtype)
        return found * inside[..., None].astype(dtype)  # a select takes twice as long here

    return [(fetch(0, down), fetch(1, down)) for down in range(2)]


def face_mask(
    landmarks: Landmarks,
    matrix: Float[Array, "2 3"],
    scheme: LandmarkScheme,
    *,
    config: AlignConfig = AlignConfig(),
) -> Bool[Array, "s s"]:
    """Marks the aligned pixels that lie in a triangle of the face, brow line raised.

    Args:
        landmarks: the detected points, px.
        matrix: from frame px to aligned px.
        scheme: gives the triangles, and says which points are raised.
        config: size and scale of the output.

    Returns:
        True where the pixel centre is inside or, up to rounding, on an edge.

    Reference:
        Specification 03, A.3.
    """
    points = jnp.sum(landmarks[:, None, :] * matrix[None, :, :2], axis=-1) + matrix[None, :, 2]
    lifted = np.isin(np.arange(scheme.count), scheme.raised_points)
    raised = jnp.asarray(lifted[:, None] * np.array([0, _RAISE * config.scale]), points.dtype)
    corners = (points - raised)[np.array(scheme.triangles, np.int32)]
    rows = jnp.arange(config.size, dtype=points.dtype)[None]
    low, high = jnp.min(corners, axis=1), jnp.max(corners, axis=1)
    in_box = (rows >= low[:, 1:]) & (rows <= high[:, 1:])
    first = jnp.broadcast_to(low[:, :1], in_box.shape)
    last = jnp.where(in_box, high[:, :1], -jnp.inf)
    for k in range(3):
        vertex, start, end = (corners[:, (k + j) % 3] for j in range(3))
        along = end - start
        # A pixel is on the vertex's side where slope * (x - start_x) <= room: along one row
        # that is a bound on x. The bounding box alone decides on a triangle without area.
        sign = jnp.sign(_cross(along, vertex - start))[:, None]
        slope = sign * along[:, 1:]
        room = sign * along[:, :1] * (rows - start[:, 1:])
        bound = start[:, :1] + room / jnp.where(slope == 0, 1, slope)
        first = jnp.where(slope < 0, jnp.maximum(first, bound), first)
        last = jnp.where(slope > 0, jnp.minimum(last, bound), last)
        last = jnp.where((slope == 0) & (room < 0), -jnp.inf, last)
    return _union_of_intervals(first, last, config.size)


def _union_of_intervals(
    first: Float[Array, "t y"], last: Float[Array, "t y"], size: int
) -> Bool[Array, "y x"]:
    """Pixels of each row between `first` and `last` of any triangle, both included."""
    words = np.arange(-(-size // _WORD), dtype=first.dtype)[None, None] * _WORD
    # Whole intervals become bit masks, so that a triangle costs a few words a row.
    start = jnp.clip(jnp.ceil(first)[..., None] - words, 0, _WORD).astype(jnp.int32)
    stop = jnp.clip(jnp.floor(last)[..., None] + 1 - words, 0, _WORD).astype(jnp.int32)
    one = jnp.int32(1)
    bits = ((one << stop) - 1) & ~((one << start) - 1)
    row_bits = lax.reduce(bits, np.int32(0), lax.bitwise_or, (0,))
    pixels = (row_bits[..., None] >> np.arange(_WORD, dtype=np.int32)[None, None]) & 1
    return pixels.reshape(size, -1)[:, :size] == 1


def _cross(a: Float[Array, "t 2"], b: Float[Array, "t 2"]) -> Float[Array, " t"]:
    return a[:, 0] * b[:, 1] - b[:, 0] * a[:, 1]


def _source_positions(
    matrix: Float[Array, "2 3"], size: int
) -> tuple[tuple[Int[Array, "s s"], Int[Array, "s s"]], tuple[Array, Array]]:
    """Source x and y of each output pixel: in whole 1/32 px, and in px for derivatives."""
    (a, b, c), (d, e, f) = matrix
    # OpenCV inverts in double precision; a step of the grid is too small for float32.
    determinant = double.add(double.exact_product(a, e), double.exact_product(-b, d))
    adjugate = jnp.stack([jnp.stack([e, -b]), jnp.stack([-d, a])])
    linear = _scale(double.reciprocal(determinant), adjugate)
    by_x, by_y = ((linear[0][:, k], linear[1][:, k]) for k in range(2))
    offset = double.add(_scale(by_x, -c), _scale(by_y, -f))
    by_x, by_y, offset = ((v[0][:, None], v[1][:, None]) for v in (by_x, by_y, offset))
    grid = jnp.arange(size, dtype=matrix.dtype)[None]
    columns = _round_1024(_scale(by_x, grid))
    rows = _round_1024(double.add(_scale(by_y, grid), offset)) + 16
    across, down = by_x[0] * grid, by_y[0] * grid + offset[0]
    fixed = [(rows[k][:, None] + columns[k][None, :]) >> 5 for k in range(2)]
    real = [down[k][:, None] + across[k][None, :] for k in range(2)]
    return (fixed[0], fixed[1]), (real[0], real[1])


def _round_1024(value: double.Pair) -> Int[Array, "2 s"]:
    """Nearest whole number of 1/1024 px, half to even; clipped far outside any image."""
    high = jnp.clip(value[0] * 1024, -(2.0**29), 2.0**29)
    whole = jnp.round(high)
    rest = jnp.round((high - whole) + value[1] * 1024)
    return whole.astype(jnp.int32) + rest.astype(jnp.int32)


def _scale(a: double.Pair, factor: Float[Array, "..."]) -> double.Pair:
    return double.multiply(a, double.single(factor))
