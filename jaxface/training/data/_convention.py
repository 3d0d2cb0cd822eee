"""From the head model's landmarks to those of the 300-W convention, which users expect.

The head model's vertices are what experts learn to find. Measured on the portraits, they differ
from the convention in places: the contour of the chin is lower, the brows' points lie on the upper
half of the hair, the bridge of the nose begins between the eyes, the points of the inner lips are
evenly spaced. How far follows from the portraits' own 68 mesh points; where those are vague, along
the jaw and at the outer ends of the brows, they are not followed.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from ...fit import PDM
from ._head_model import HeadModel
from ._registration import Registered

# mm, positive downwards: medians over the portraits of the training set.
_CHIN = 7.9  # mean of points 6 to 10
_BROWS = -3.75  # mean of points 18 to 25
_BRIDGE = -6.5  # point 27
_INNER_LIPS = 6.4  # towards the middle, points 61, 63, 65 and 67
_BRIDGE_SLOPE = -0.4  # depth per height of the bridge where it begins
_LEFT_HALF, _RIGHT_HALF = slice(0, 9), slice(16, 7, -1)  # of the jaw, from the ear to the chin


def convention_offsets(head: HeadModel) -> np.ndarray:
    """Where the convention's landmarks lie from the head model's, (68, 3) mm, head frame."""
    marks = head.mean[head.landmarks].astype(np.float64)
    moved = marks.copy()
    for half in (_LEFT_HALF, _RIGHT_HALF):
        moved[half] = _lower_jaw(marks[half])
    moved[18:26, 1] += _BROWS
    moved[27] += (0, _BRIDGE, _BRIDGE * _BRIDGE_SLOPE)
    moved[27:31] = np.linspace(moved[27], moved[30], 4)
    moved[[61, 67], 0] += _INNER_LIPS * np.sign(marks[62, 0] - marks[[61, 67], 0])
    moved[[63, 65], 0] += _INNER_LIPS * np.sign(marks[62, 0] - marks[[63, 65], 0])
    return (moved - marks).astype(np.float32)


def _lower_jaw(contour: np.ndarray) -> np.ndarray:
    """Stretches a half of the jaw (9, 3) down to the chin; its points slide along it."""
    top, bottom = contour[0, 1], contour[-1, 1]
    height = contour[:, 1] + _CHIN
    place = top + (height - top) * (bottom - top) / (bottom + _CHIN - top)
    across, depth = (np.interp(place, contour[:, 1], contour[:, axis]) for axis in (0, 2))
    return np.stack([across, height, depth], axis=1)


def convention_pdm(pdm: PDM, head: HeadModel) -> PDM:
    """The convention's landmarks for the parameters of the head model's PDM."""
    moved = pdm.mean_shape + jnp.asarray(convention_offsets(head))
    return dataclasses.replace(pdm, mean_shape=moved)


def picture_offsets(head: HeadModel, rotation: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The same offsets (p, 68, 2) in pictures, px.

    Args:
        rotation: (p, 3, 3) from the head frame to the camera's axes.
        scale: (p,) px per mm.
    """
    turned = np.einsum("kj,pij->pki", convention_offsets(head), rotation)
    return scale[:, None, None] * turned[..., :2]


def as_reported(registered: Registered, head: HeadModel) -> np.ndarray:
    """The convention's landmarks (68, 2), px, of a registered portrait."""
    turn, scale = registered.rotation[None], np.array([registered.scale])
    return registered.landmarks + picture_offsets(head, turn, scale)[0]
