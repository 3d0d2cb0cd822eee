"""Views, the similarity to the reference frame, and the image areas around landmarks."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from ..ops import affine_cells, double, pad_border, sample_cells, similarity_matrix
from ..types import Gray, Landmarks, PDMParameters
from ._pdm import PDM, shape_2d
from ._similarity import similarity
from .experts import SUPPORT, AbstractPatchExperts


def nearest_view(experts: AbstractPatchExperts, rotation: Float[Array, "3"]) -> Int[Array, ""]:
    """View whose centre is nearest to the head's Euler angles (specification 02, C.1)."""
    return jnp.argmin(jnp.sum((experts.centres - rotation[None]) ** 2, axis=-1))


def align_to_reference(
    pdm: PDM, parameters: PDMParameters, landmarks: Landmarks, scale: float
) -> tuple[Float[Array, "2 2"], Float[Array, "2 2"]]:
    """Similarity between the image and the frontal, unrotated shape at `scale`.

    Its scale is the ratio of RMS radii, not the least-squares one.

    Args:
        landmarks: current landmarks, px.
        scale: px per mm of the reference frame.
    Returns:
        Linear maps from image to reference frame and back.
    Reference:
        Specification 02, C.2.
    """
    frontal = PDMParameters(
        scale=jnp.asarray(scale, landmarks.dtype),
        rotation=jnp.zeros_like(parameters.rotation),
        translation=jnp.zeros_like(parameters.translation),
        local=parameters.local,
    )
    return similarity(landmarks, shape_2d(pdm, frontal))


def areas_of_interest(
    gray: Gray,
    landmarks: Landmarks,
    reference_to_image: Float[Array, "2 2"],
    window: int,
) -> Float[Array, "n side side"]:
    """Image around each landmark, seen in the reference frame.

    Args:
        gray: 0 to 255, integral values.
        landmarks: centres, px.
        window: side of the response map; the area's side is window + 10.
    Reference:
        Specification 02, C.3.
    """
    return sample_areas(pad_border(gray), landmarks, reference_to_image, window)


def sample_areas(
    padded: Shaped[Array, "h2 w2"],
    landmarks: Landmarks,
    reference_to_image: Float[Array, "2 2"],
    window: int,
) -> Float[Array, "n side side"]:
    """`areas_of_interest` of an image with its border."""
    side = window + SUPPORT - 1
    a, b = reference_to_image[0, 0], -reference_to_image[0, 1]
    # OpenFace rounds each product; a fused one moves areas across 1/32-px cells.
    half = (side - 1) / 2
    across, down = double.short_product(half, a), double.short_product(half, b)
    x = landmarks[:, 0] - across + down
    y = landmarks[:, 1] - across - down
    linear = jnp.broadcast_to(similarity_matrix(a, b), (landmarks.shape[0], 2, 2))
    cells = affine_cells(linear, jnp.stack([x, y], axis=-1), side, side)
    return sample_cells(padded, *cells).astype(landmarks.dtype)
