"""How well a landmark model fits faces whose landmarks are known."""

import dataclasses

import cv2
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...fit import AnyCLNF, fit_landmarks
from ...types import Fit
from ..data import HeadModel, as_reported, euler_to_matrix, matrix_to_euler, picture_offsets
from ..render import Pictures, Sampler

REGIONS = {
    "jaw": slice(0, 17),
    "brows": slice(17, 27),
    "nose": slice(27, 36),
    "eyes": slice(36, 48),
    "mouth": slice(48, 68),
}
OUTER_EYES = (36, 45)


@dataclasses.dataclass(frozen=True)
class FaceSet:
    """Faces in grey pictures of one size."""

    gray: np.ndarray  # (f, h, w) uint8, padded with zeros
    size: np.ndarray  # (f, 2) height and width, px
    landmarks: np.ndarray  # (f, 68, 2) px
    visible: np.ndarray  # (f, 68) bool
    eye_distance: np.ndarray  # (f,) px between the outer corners, as if seen from the front
    yaw: np.ndarray  # (f,) degrees


def photograph_faces(sampler: Sampler, people: np.ndarray, *, mesh_labels: bool = False) -> FaceSet:
    """The unchanged photographs of registered people.

    Args:
        mesh_labels: take the data's own 68 mesh points for the truth, instead of the registered
            head's, in the convention of results.
    """
    portraits, registered = sampler.tools.portraits, sampler.registered
    grays = [cv2.cvtColor(portraits.image(int(p)), cv2.COLOR_RGB2GRAY) for p in people]
    size = np.array([gray.shape for gray in grays])
    height, width = size.max(axis=0)
    padded = np.zeros((len(grays), height, width), np.uint8)
    for row, gray in zip(padded, grays, strict=True):
        row[: gray.shape[0], : gray.shape[1]] = gray
    if mesh_labels:
        landmarks = portraits.mesh[people][:, portraits.mesh_to_68, :2]
    else:
        head = sampler.tools.head
        landmarks = np.stack([as_reported(registered[int(p)], head) for p in people])
    yaw = [matrix_to_euler(registered[int(p)].rotation)[1] for p in people]
    visible = np.ones(landmarks.shape[:2], bool)
    distance = outer_eye_distance(landmarks)
    return FaceSet(padded, size, landmarks, visible, distance, np.degrees(yaw))


def picture_faces(pictures: Pictures, head: HeadModel) -> FaceSet:
    """Faces of drawn pictures, landmarks in the convention of results."""
    turns = np.stack([euler_to_matrix(rotation) for rotation in pictures.rotation])
    landmarks = pictures.landmarks + picture_offsets(head, turns, pictures.scale)
    size = np.tile([pictures.gray.shape[1:]], (len(pictures), 1))
    distance = outer_eye_distance(pictures.landmarks_3d) * pictures.scale
    yaw = np.degrees(pictures.rotation[:, 1])
    return FaceSet(pictures.gray, size, landmarks, pictures.visible, distance, yaw)


@dataclasses.dataclass(frozen=True)
class Errors:
    """Distances from the truth, percent of the distance of the outer corners of the eyes."""

    each: np.ndarray  # (f, 68); NaN where a landmark is hidden
    confidence: np.ndarray  # (f,)
    success: np.ndarray  # (f,)

    def mean(self) -> np.ndarray:
        """Mean over the landmarks of each face (f,)."""
        return np.nanmean(self.each, axis=1)

    def summary(self) -> dict[str, float]:
        """Mean, percentiles, and means by region."""
        mean = self.mean()
        figures = {
            "mean": float(mean.mean()),
            "median": float(np.median(mean)),
            "p95": float(np.percentile(mean, 95)),
            "under 5 %": float((mean < 5).mean() * 100),
        }
        regions = {name: float(np.nanmean(self.each[:, part])) for name, part in REGIONS.items()}
        return {**figures, **regions}


def jittered_boxes(
    landmarks: np.ndarray, rng: np.random.Generator, *, shift: float = 0.04, stretch: float = 0.06
) -> np.ndarray:
    """Boxes (f, 4) tight around landmarks (f, 68, 2), moved and stretched by normal noise.

    Args:
        shift, stretch: standard deviations, of the box's size.
    """
    low, high = landmarks.min(axis=1), landmarks.max(axis=1)
    size, middle = high - low, (low + high) / 2
    middle = middle + shift * size * rng.normal(size=middle.shape)
    half = size * np.exp(stretch * rng.normal(size=size.shape)) / 2
    return np.concatenate([middle - half, middle + half], axis=1).astype(np.float32)


@eqx.filter_jit
def _fit(clnf: AnyCLNF, gray: Float[Array, "h w"], box: Array, size: Array) -> Fit:
    return fit_landmarks(clnf, gray, box, size=size)


def fit_faces(clnf: AnyCLNF, faces: FaceSet, boxes: np.ndarray) -> Fit:
    """Fits all faces, one by one, with the model's own settings.

    Args:
        clnf: prepared, or it takes long.
        boxes: (f, 4) px.
    Returns:
        Leaves are NumPy arrays with a leading axis.
    """
    fits = [
        jax.tree.map(
            np.asarray,
            _fit(clnf, jnp.asarray(gray, jnp.float32), jnp.asarray(box), jnp.asarray(size)),
        )
        for gray, box, size in zip(faces.gray, boxes, faces.size, strict=True)
    ]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *fits)


def landmark_errors(fits: Fit, faces: FaceSet) -> Errors:
    """Errors of fits against the labels of visible landmarks."""
    missed = np.linalg.norm(np.asarray(fits.landmarks) - faces.landmarks, axis=-1)
    percent = 100 * missed / faces.eye_distance[:, None]
    each = np.where(faces.visible, percent, np.nan)
    return Errors(each, np.asarray(fits.confidence), np.asarray(fits.success))


def outer_eye_distance(landmarks: np.ndarray) -> np.ndarray:
    """Distance (f,) between the outer corners of the eyes of landmarks (f, 68, 2 or 3)."""
    first, second = OUTER_EYES
    return np.linalg.norm(landmarks[:, first] - landmarks[:, second], axis=-1)
