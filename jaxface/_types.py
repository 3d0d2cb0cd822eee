"""Axis names, coordinate frames, units and result records shared by every stage.

Image frame: x right, y down, pixel centres on integers. Camera frame: x right, y down,
z away from the camera, mm. Rotations are Euler angles (pitch, yaw, roll), rad, applied as
Rx @ Ry @ Rz. Images are RGB, 0 to 255.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

Image = Float[Array, "h w 3"]  # RGB, 0 to 255
Gray = Float[Array, "h w"] | UInt8[Array, "h w"]  # luma, 0 to 255, integral values
# x0 y0 x1 y1, px. The width and height may follow: from corners their last bit is lost, and fits
# follow it.
Box = Float[Array, "4"] | Float[Array, "6"]
Landmarks = Float[Array, "n 2"]  # px
FivePoints = Float[Array, "5 2"]  # middles of the eyes, tip of the nose, corners of the mouth, px


class Detections(eqx.Module):
    """Faces found in one image, by descending score, in arrays of fixed size.

    Entries where `valid` is false hold zeros.
    """

    boxes: Float[Array, "f 4"]  # x0 y0 x1 y1, px; tight around the 68 landmarks
    scores: Float[Array, " f"]  # 0 to 1
    points: Float[Array, "f 5 2"]  # eyes, nose, mouth corners, px
    valid: Bool[Array, " f"]
    sizes: Float[Array, "f 2"]  # width and height of the boxes to the last bit, px
    overflowed: Bool[Array, ""]  # more candidates than the fixed arrays hold

    @property
    def sized_boxes(self) -> Float[Array, "f 6"]:
        """The boxes with their sizes behind, as fits start from them."""
        return jnp.concatenate([self.boxes, self.sizes], axis=1)


class PDMParameters(eqx.Module):
    """Weak-perspective pose and shape coefficients of a PDM."""

    scale: Float[Array, ""]  # px per mm
    rotation: Float[Array, "3"]  # pitch yaw roll, rad
    translation: Float[Array, "2"]  # px
    local: Float[Array, " m"]  # shape coefficients, mm


class PartFit(eqx.Module):
    """Fit of one hierarchical part (inner face, left or right eye)."""

    parameters: PDMParameters
    landmarks: Float[Array, "p 2"]  # px


class Fit(eqx.Module):
    """Outcome of one CLNF fit."""

    parameters: PDMParameters
    landmarks: Float[Array, "n 2"]  # px
    likelihood: Float[Array, ""]  # ranks hypotheses only; not a probability
    confidence: Float[Array, ""]  # the validator's certainty, 0 to 1
    success: Bool[Array, ""]  # confidence over the boundary
    view: Int[Array, ""]  # patch-expert view of the last scale fitted
    parts: tuple[PartFit, ...]


class Camera(eqx.Module):
    """Pinhole intrinsics, px."""

    fx: Float[Array, ""]
    fy: Float[Array, ""]
    cx: Float[Array, ""]
    cy: Float[Array, ""]
