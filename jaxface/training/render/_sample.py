"""One training picture of a face with its exact labels."""

import dataclasses

import numpy as np

from ..data import LID_POINTS, RING_POINTS, View

# Which landmark, lid point and iris point each becomes in a mirror.
MIRRORED = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)
MIRRORED_LIDS = (LID_POINTS // 2 - np.arange(LID_POINTS)) % LID_POINTS
MIRRORED_IRIS = np.array([0, *(1 + (RING_POINTS // 2 - np.arange(RING_POINTS)) % RING_POINTS)])


@dataclasses.dataclass(frozen=True)
class Sample:
    """A picture of one face.

    The rotation takes the head frame to the camera's axes. Coordinates in px have pixel centres on
    integers. Left and right are the person's; the left eye comes first.
    """

    image: np.ndarray  # (h, w, 3) uint8 RGB
    landmarks: np.ndarray  # (68, 2) px; the jaw at the visible contour
    landmarks_3d: np.ndarray  # (68, 3) mm, camera axes, origin in the head; the same points
    visible: np.ndarray  # (68,) bool: neither the head nor anything else hides it, nor the border
    rotation: np.ndarray  # (3,) pitch, yaw, roll, rad
    scale: float  # px per mm at the origin of `landmarks_3d`
    box: np.ndarray  # (4,) x0 y0 x1 y1, px, tight around the 68 landmarks
    expression: np.ndarray  # (57,) weights of the head model's shapes, 0 to 1
    exact_expression: bool  # whether the weights were set, rather than fitted to a photograph
    irises: np.ndarray  # (2, 9, 2) px: centre and ring
    lids: np.ndarray  # (2, 12, 2) px: corner, five upper, corner, five lower points
    gaze: np.ndarray  # (2, 3) unit vectors, camera axes
    person: int  # number of the portrait, -1 for a made-up head
    kind: str  # "portrait" or "head"


def mirrored(sample: Sample, mirrored_expression: np.ndarray) -> Sample:
    """The sample in a mirror: what was left is right.

    Args:
        mirrored_expression: (57,) of the head model.
    """
    width = sample.image.shape[1]

    def flip(points: np.ndarray) -> np.ndarray:
        return np.stack([width - 1 - points[..., 0], points[..., 1]], axis=-1)

    landmarks = flip(sample.landmarks)[MIRRORED]
    return dataclasses.replace(
        sample,
        image=np.ascontiguousarray(sample.image[:, ::-1]),
        landmarks=landmarks,
        landmarks_3d=(sample.landmarks_3d * np.array([-1, 1, 1], np.float32))[MIRRORED],
        visible=sample.visible[MIRRORED],
        rotation=sample.rotation * np.array([1, -1, -1], np.float32),
        box=tight_box(landmarks),
        expression=sample.expression[mirrored_expression],
        irises=flip(sample.irises)[::-1, MIRRORED_IRIS],
        lids=flip(sample.lids)[::-1, MIRRORED_LIDS],
        gaze=(sample.gaze * np.array([-1, 1, 1], np.float32))[::-1],
    )


def tight_box(landmarks: np.ndarray) -> np.ndarray:
    """Box (4,) x0 y0 x1 y1 around landmarks (68, 2)."""
    return np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)]).astype(np.float32)


def label(
    view: View, landmarks: np.ndarray, irises: np.ndarray, lids: np.ndarray
) -> dict[str, np.ndarray]:
    """Labels of a head that is seen through a view, by field of `Sample`.

    Args:
        landmarks: (68, 3) mm, head frame; so are
        irises: (2, 9, 3) and
        lids: (2, 12, 3).
    """
    projected = view.project(landmarks)[:, :2].astype(np.float32)
    return {
        "landmarks": projected,
        "landmarks_3d": view.turn(landmarks).astype(np.float32),
        "box": tight_box(projected),
        "rotation": view.euler,
        "irises": view.project(irises.reshape(-1, 3))[:, :2].reshape(2, -1, 2).astype(np.float32),
        "lids": view.project(lids.reshape(-1, 3))[:, :2].reshape(2, -1, 2).astype(np.float32),
    }
