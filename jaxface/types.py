"""Axis names, coordinate frames, units and result records shared by every stage.

Image frame: x right, y down, pixel centres on integers. Camera frame: x right, y down,
z away from the camera, mm. Rotations are Euler angles (pitch, yaw, roll), rad, applied as
Rx @ Ry @ Rz. Images are RGB, 0 to 255. Left and right are those of the image unless a name says
otherwise.
"""

import dataclasses
from collections.abc import Iterator

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt8

Image = Float[Array, "h w 3"]  # RGB, 0 to 255
Gray = Float[Array, "h w"] | UInt8[Array, "h w"]  # luma, 0 to 255, integral values
# Corners x0 y0 x1 y1, px; a detector adds the width and the height behind them. The difference of
# two rounded corners may miss the true width by a last bit, and a fit that starts from another last
# bit ends some hundredths of a pixel away.
Box = Float[Array, "4"] | Float[Array, "6"]
Landmarks = Float[Array, "n 2"]  # px
Intrinsic = Float[Array, ""] | Float[np.ndarray, ""]  # of a camera, px; NumPy's on the host
FivePoints = Float[Array, "5 2"]  # middles of the eyes, tip of the nose, corners of the mouth, px


# A side of a flat picture is at most this times the root of its array's length: what bounds how far
# a program has to look along a row.
FLAT_STRETCH = 2.25


class FlatImage(eqx.Module):
    """A picture row after row, in an array that may be longer: one program serves all sizes.

    Pixels outside the picture count as 0 wherever it is sampled, whatever the array holds there.
    """

    pixels: Float[Array, "l 3"] | UInt8[Array, "l 3"]  # RGB, 0 to 255
    size: Int[Array, "2"]  # height and width of the picture, px
    pitch: Int[Array, ""]  # pixels from the start of one row to that of the next


class FlatFrames(eqx.Module):
    """Frames of one size, each laid out as a `FlatImage`."""

    pixels: Float[Array, "t l 3"] | UInt8[Array, "t l 3"]  # RGB, 0 to 255
    size: Int[Array, "2"]  # height and width of the pictures, px
    pitch: Int[Array, ""]  # pixels from the start of one row to that of the next

    def __len__(self) -> int:
        return len(self.pixels)


def _at_start() -> Int[Array, ""]:
    return jnp.zeros((), jnp.int32)


class FlatGray(eqx.Module):
    """Luma of a picture laid out as in a `FlatImage`, which `to_gray` makes it of."""

    pixels: Float[Array, " l"] | UInt8[Array, " l"]  # 0 to 255, integral values
    size: Int[Array, "2"]  # height and width of the picture, px
    pitch: Int[Array, ""]  # pixels from the start of one row to that of the next
    start: Int[Array, ""] = eqx.field(default_factory=_at_start)  # place of the first pixel


class FlatLanes(eqx.Module):
    """Flat luma of several faces' pictures, all in one array."""

    pixels: Float[Array, " l"] | UInt8[Array, " l"]
    sizes: Int[Array, "b 2"]
    pitches: Int[Array, " b"]
    starts: Int[Array, " b"]


# What areas are sampled from: luma with a border, see `ops.pad_border`, or flat luma.
Bordered = Shaped[Array, "h2 w2"] | FlatGray
# One of each face; a single flat one is that of all.
BorderedLanes = Shaped[Array, "b h2 w2"] | FlatGray | FlatLanes


class Detections(eqx.Module):
    """Faces found in one image, by descending score, in arrays of fixed size.

    Entries where `valid` is false hold zeros.
    """

    boxes: Float[Array, "f 4"]  # x0 y0 x1 y1, px; tight around the landmarks
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
    """Pinhole intrinsics, px. Iterating gives the four in the order of the fields."""

    fx: Intrinsic
    fy: Intrinsic
    cx: Intrinsic
    cy: Intrinsic

    def __iter__(self) -> Iterator[Intrinsic]:
        return iter((self.fx, self.fy, self.cx, self.cy))


@dataclasses.dataclass(frozen=True, kw_only=True)
class EyeParts:
    """Which landmarks and which parts of a model gaze is computed from, left eye first."""

    corners: tuple[tuple[int, int], tuple[int, int]]  # landmarks at the two corners of each eye
    parts: tuple[str, str]  # names of the parts whose first points are the iris
    points: int  # landmarks of one part


@dataclasses.dataclass(frozen=True, kw_only=True)
class LandmarkScheme:
    """What the landmarks of a model are: the one place that knows their numbers.

    A landmark is named by its index from 0. The indices of a field may be empty where a model has
    no such points; then what needs them is left out: no gaze without `eyes`, no search from
    the detector's points without `five_points`.
    """

    name: str  # e.g. multi-pie-68
    regions: tuple[tuple[str, tuple[int, ...]], ...]  # name and landmarks; each landmark once
    mirror: tuple[int, ...]  # which landmark each becomes in a mirror
    rigid_points: tuple[int, ...]  # that expressions hardly move: a face is aligned by them
    raised_points: tuple[int, ...] = ()  # whose line the mask of an aligned face leaves room above
    five_points: tuple[tuple[int, ...], ...] = ()  # the detector's points are their means
    eyes: EyeParts | None = None
    triangles: tuple[tuple[int, int, int], ...] = ()  # the surface of the face

    def __post_init__(self) -> None:
        numbered = sorted(i for _, region in self.regions for i in region)
        if not numbered or numbered != list(range(len(numbered))):
            raise ValueError(
                f"regions: expected each landmark from 0 on in one region, got {numbered}"
            )
        if sorted(self.mirror) != numbered:
            raise ValueError(
                f"mirror: expected each of {len(numbered)} landmarks once, got {self.mirror}"
            )
        if self.five_points and len(self.five_points) != 5:
            raise ValueError(f"five_points: expected 5 entries or none, got {self.five_points}")

    @property
    def count(self) -> int:
        """Number of landmarks."""
        return len(self.mirror)

    @property
    def names(self) -> tuple[str, ...]:
        """Region and place in it of each landmark, e.g. `jaw_0`."""
        named = {
            index: f"{region}_{place}"
            for region, indices in self.regions
            for place, index in enumerate(indices)
        }
        return tuple(named[i] for i in range(self.count))

    @property
    def eye_count(self) -> int:
        """Number of eye landmarks, of both eyes."""
        return 0 if self.eyes is None else 2 * self.eyes.points


# The 68 points of Multi-PIE and 300-W, with OpenFace's models of the two eyes.
MULTI_PIE_68 = LandmarkScheme(
    name="multi-pie-68",
    regions=(
        ("jaw", tuple(range(17))),
        ("left_brow", tuple(range(17, 22))),
        ("right_brow", tuple(range(22, 27))),
        ("nose", tuple(range(27, 36))),
        ("left_eye", tuple(range(36, 42))),
        ("right_eye", tuple(range(42, 48))),
        ("mouth", tuple(range(48, 68))),
    ),
    mirror=(
        *(*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31),
        *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
        *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65),
    ),
    rigid_points=(
        *(1, 2, 3, 4, 12, 13, 14, 15, 27, 28, 29, 31),
        *(32, 33, 34, 35, 36, 39, 40, 41, 42, 45, 46, 47),
    ),
    raised_points=(0, 16, *range(17, 27)),
    five_points=(tuple(range(36, 42)), tuple(range(42, 48)), (30,), (48,), (54,)),
    eyes=EyeParts(corners=((36, 39), (42, 45)), parts=("left_eye_28", "right_eye_28"), points=28),
)
