"""Appearance and geometry of pictures, from the very functions that analysis uses."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt8

from ...analyze import align_face, extract_fhog, geometry_descriptor
from ...fit import PDM, fit_pdm_to_landmarks
from ...types import MULTI_PIE_68, LandmarkScheme

CELLS, CELL, CHANNELS = 12, 8, 31  # of FHOG: along each side, px, and in each cell
FHOG = CELLS * CELLS * CHANNELS
SIDE, SCALE = 112, 0.7  # px, and px per mm, of the aligned face
_BATCH = 16  # pictures in one call


@eqx.filter_jit
def _measure(
    pdm: PDM,
    scheme: LandmarkScheme,
    images: UInt8[Array, "b h w 3"],
    landmarks: Float[Array, "b 68 2"],
) -> Float[Array, "b d"]:
    def one(inputs: tuple[Array, Array]) -> Float[Array, " d"]:
        image, points = inputs
        parameters = fit_pdm_to_landmarks(pdm, points)
        face = align_face(image.astype(jnp.float32), points, parameters, pdm, scheme)
        appearance = extract_fhog(face.image).reshape(-1)
        return jnp.concatenate([appearance, geometry_descriptor(pdm, parameters)])

    return lax.map(one, (images, landmarks))


def measure_pictures(
    pdm: PDM, triangles: np.ndarray, images: np.ndarray, landmarks: np.ndarray
) -> np.ndarray:
    """Descriptors (n, d), float32: FHOG, then geometry.

    Args:
        triangles: (t, 3) of the face mask.
        images: (n, h, w, 3) uint8 RGB.
        landmarks: (n, 68, 2) px.
    """
    rows = tuple((int(a), int(b), int(c)) for a, b, c in triangles)
    scheme = dataclasses.replace(MULTI_PIE_68, triangles=rows)
    found = []
    for start in range(0, len(images), _BATCH):
        rows = np.minimum(np.arange(start, start + _BATCH), len(images) - 1)
        some = jnp.asarray(images[rows]), jnp.asarray(landmarks[rows])
        found.append(np.asarray(_measure(pdm, scheme, *some)))
    return np.concatenate(found)[: len(images)]
