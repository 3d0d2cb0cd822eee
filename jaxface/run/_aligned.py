"""Aligned faces of another size, scale or background than the one that action units come from."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from ..analyze import AlignConfig, align_face, is_tracked
from ..fit import fit_pdm_to_landmarks
from ..io import pad_to_canvas
from ..models import Model
from ..types import Landmarks
from ._programs import compiled


def draw_aligned(
    model: Model,
    image: UInt8[np.ndarray, "h w 3"],
    landmarks: Float[np.ndarray, "n 2"],
    scale: float,
    config: AlignConfig,
) -> UInt8[np.ndarray, "s s 3"]:
    """Aligns a face once more, from its landmarks.

    Args:
        model: gives the reference shape.
        image: RGB, 0 to 255.
        landmarks: of the face, as they are reported, px.
        scale: of its fit, px per mm.
        config: of the picture.
    Returns:
        RGB; black where the face was never tracked.
    Reference:
        Specification 03, A.4: the output image.
    """
    canvas, _ = pad_to_canvas(image)
    found = np.asarray(landmarks, np.float32), np.asarray(scale, np.float32)
    return np.asarray(_draw(model, canvas, *found, config))


@compiled
def _draw(
    model: Model,
    image: UInt8[Array, "h w 3"],
    landmarks: Landmarks,
    scale: Float[Array, ""],
    config: AlignConfig,
) -> UInt8[Array, "s s 3"]:
    pdm = model.analyser.pdm
    refitted = fit_pdm_to_landmarks(pdm, landmarks, converge=config.smooth)
    face = align_face(image, landmarks, refitted, pdm, model.clnf.scheme, config=config)
    drawn = is_tracked(landmarks, scale)
    return jnp.where(drawn, face.image, 0).astype(jnp.uint8)
