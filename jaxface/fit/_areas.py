"""Views, the similarity to the reference frame, and the image areas around landmarks."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, overload

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from ..ops import (
    affine_position,
    double,
    pad_border,
    sample_affine,
    sample_smooth,
    similarity_matrix,
)
from ..types import (
    Bordered,
    BorderedLanes,
    FlatGray,
    FlatLanes,
    Gray,
    Landmarks,
    PDMParameters,
)
from ._pdm import PDM, shape_2d
from ._similarity import closed_similarity, similarity, similarity_of_fit
from .experts import SUPPORT, AbstractPatchExperts

T = TypeVar("T")


@overload
def finite_luma(gray: FlatGray) -> FlatGray: ...
@overload
def finite_luma(gray: Shaped[Array, "*n"]) -> Shaped[Array, "*n"]: ...
def finite_luma(gray: Shaped[Array, "*n"] | FlatGray) -> Shaped[Array, "*n"] | FlatGray:
    """Luma in which what is no number counts as 0: a damaged frame is a failed one, not NaN."""
    if isinstance(gray, FlatGray):
        return eqx.tree_at(lambda g: g.pixels, gray, finite_luma(gray.pixels))
    if jnp.issubdtype(gray.dtype, jnp.floating):
        return jnp.where(jnp.isfinite(gray), gray, 0)
    return gray


def as_lane(padded: Bordered) -> BorderedLanes:
    """One image as that of a single face on a leading axis; a flat one is that of all faces."""
    return padded if isinstance(padded, FlatGray) else padded[None]


def map_lanes(function: Callable[..., T], padded: BorderedLanes, *lanes: Any) -> T:
    """`jax.vmap` over faces, each with its own image.

    Pixels of flat images stay in one array: were it mapped too, a sample would cost ten times as
    much.

    Args:
        function: of the image of a face, with its border or flat, and of its rows of `lanes`.
        padded: of the faces.
        lanes: pytrees with one row per face.
    """
    if isinstance(padded, FlatGray):
        return jax.vmap(functools.partial(function, padded))(*lanes)
    if not isinstance(padded, FlatLanes):
        return jax.vmap(function)(padded, *lanes)

    def of_lane(place: tuple[Array, Array, Array], *lane: Any) -> T:
        return function(FlatGray(padded.pixels, *place), *lane)

    return jax.vmap(of_lane)((padded.sizes, padded.pitches, padded.starts), *lanes)


def nearest_view(experts: AbstractPatchExperts, rotation: Float[Array, "3"]) -> Int[Array, ""]:
    """View whose centre is nearest to the head's Euler angles (specification 02, C.1).

    It is chosen, so that derivatives by it are zero.
    """
    return jnp.argmin(jnp.sum((experts.centres - rotation[None]) ** 2, axis=-1))


def align_to_reference(
    pdm: PDM,
    parameters: PDMParameters,
    landmarks: Landmarks,
    scale: float,
    *,
    smooth: bool = False,
    fitted: bool = False,
) -> tuple[Float[Array, "2 2"], Float[Array, "2 2"]]:
    """Similarity between the image and the frontal, unrotated shape at `scale`.

    Its scale is the ratio of RMS radii, not the least-squares one.

    Args:
        landmarks: current landmarks, px.
        scale: px per mm of the reference frame.
        smooth: in closed form, without OpenFace's roundings; derivatives are the same.
        fitted: the shape is a fit, not a mean shape in a box: see `similarity_of_fit`.
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
    find = closed_similarity if smooth else similarity_of_fit if fitted else similarity
    return find(landmarks, shape_2d(pdm, frontal))


def areas_of_interest(
    gray: Gray | FlatGray,
    landmarks: Landmarks,
    reference_to_image: Float[Array, "2 2"],
    window: int,
    *,
    smooth: bool = False,
) -> Float[Array, "n side side"]:
    """Image around each landmark, seen in the reference frame.

    Args:
        gray: 0 to 255, integral values.
        landmarks: centres, px.
        window: side of the response map; the area's side is window + 10.
        smooth: samples without rounding, under a kernel with derivatives (`ops.sample_smooth`).
    Returns:
        Grey levels at 1/32-px cells. Derivatives by `landmarks` and `reference_to_image` are the
        image's central differences, sampled alike (`ops.sample_affine`); with `smooth` they are
        exact.
    Reference:
        Specification 02, C.3.
    """
    return sample_areas(pad_border(gray), landmarks, reference_to_image, window, smooth=smooth)


def sample_areas(
    padded: Bordered,
    landmarks: Landmarks,
    reference_to_image: Float[Array, "2 2"],
    window: int,
    *,
    smooth: bool = False,
) -> Float[Array, "n side side"]:
    """`areas_of_interest` of an image with its border, or of a flat one."""
    side = window + SUPPORT - 1
    a, b = reference_to_image[0, 0], -reference_to_image[0, 1]
    # OpenFace rounds each product; a fused one moves areas across 1/32-px cells.
    half = (side - 1) / 2
    across, down = double.short_product(half, a), double.short_product(half, b)
    x = landmarks[:, 0] - across + down
    y = landmarks[:, 1] - across - down
    linear = jnp.broadcast_to(similarity_matrix(a, b), (landmarks.shape[0], 2, 2))
    offset = jnp.stack([x, y], axis=-1)
    if smooth:
        places = (affine_position(linear, offset, axis, side, side) for axis in range(2))
        return sample_smooth(padded, *places).astype(landmarks.dtype)
    return sample_affine(padded, linear, offset, side, side).astype(landmarks.dtype)
