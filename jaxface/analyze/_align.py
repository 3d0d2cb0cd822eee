"""Face alignment by a rigid similarity (specification 03, A)."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from ..fit import PDM
from ..ops import similarity_matrix, similarity_sums
from ..types import MULTI_PIE_68, FlatImage, Image, Landmarks, LandmarkScheme, PDMParameters
from ._color_warp import warp_to_aligned
from ._config import AlignConfig
from ._mask import face_coverage, face_mask


class AlignedFace(eqx.Module):
    """A face turned upright at a fixed scale."""

    image: Float[Array, "s s 3"]  # RGB, 0 to 255; integral values, unless made smoothly
    mask: Bool[Array, "s s"]  # pixels that were kept; in part, at the edge of a smooth one


def align_face(
    image: Image | UInt8[Array, "h w 3"] | FlatImage,
    landmarks: Landmarks,
    parameters: PDMParameters,
    pdm: PDM,
    scheme: LandmarkScheme,
    *,
    config: AlignConfig = AlignConfig(),
) -> AlignedFace:
    """Warps a face onto the mean shape, seen from the front, and masks the background.

    Args:
        image: RGB, 0 to 255, integral values; may be padded with zeros right and below, or flat.
            Pixels that are not finite count as 0.
        landmarks: the detected points, px.
        parameters: refitted to `landmarks`; its translation goes to the centre of the output.
        pdm: gives the reference shape.
        scheme: says which landmarks are rigid, which are raised, and gives the triangulation.
        config: size, scale, masking and smoothness of the output.

    Returns:
        The aligned face. Its derivative by pixels and landmarks passes through the rounding to
        whole grey levels and 1/32 px, see `warp_to_aligned`; the mask has none, by design. With
        `config.smooth` nothing is rounded, the mask has a soft edge, see `face_coverage`, and the
        derivative is exact.

    Raises:
        ValueError: `image` is not `h w 3`, or `landmarks` are not those of the scheme.

    Reference:
        Specification 03, A.2 and A.3.
    """
    matrix = alignment_matrix(landmarks, parameters, pdm, scheme, config=config)
    warped = warp_to_aligned(image, matrix, config=config)
    if not config.mask or not scheme.triangles:
        return AlignedFace(warped, jnp.ones((config.size, config.size), bool))
    if config.smooth:
        coverage = face_coverage(landmarks, matrix, scheme, config=config)
        return AlignedFace(warped * coverage[..., None], coverage > 0)
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
        that takes the translation to the centre. The identity's where all points coincide. The
        derivative is exact, and 0 by landmarks there.

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
