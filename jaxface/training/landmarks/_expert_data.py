"""Examples for patch experts: areas cut out around noisy starts, exactly as a fit cuts them."""

import dataclasses
from collections.abc import Iterator
from functools import cached_property

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...fit import PDM, align_to_reference, areas_of_interest, shape_2d
from ...types import PDMParameters
from ..loop import digest
from ..render import MIRRORED, MIRRORED_IRIS, MIRRORED_LIDS, Pictures, join
from ._expert_program import Examples
from ._starts import NoiseConfig, Starts, random_starts

_CHUNK = 64  # pictures cut at a time


@dataclasses.dataclass(frozen=True)
class Source:
    """Pictures and the parameters of the true shapes in them."""

    pictures: Pictures
    truth: Starts

    @cached_property
    def digest(self) -> str:
        """Changes with the pictures, their labels and the shape model behind `truth`."""
        return digest([vars(self.pictures), vars(self.truth)])


def with_mirror_images(pictures: Pictures) -> Pictures:
    """The pictures, then what a mirror makes of them."""
    width = pictures.gray.shape[2]
    flip = np.array([-1, 1, 1], np.float32)

    def turned(points: np.ndarray) -> np.ndarray:
        return np.stack([width - 1 - points[..., 0], points[..., 1]], axis=-1)

    other = dataclasses.replace(
        pictures,
        gray=pictures.gray[:, :, ::-1],
        landmarks=turned(pictures.landmarks)[:, MIRRORED],
        landmarks_3d=(pictures.landmarks_3d * flip)[:, MIRRORED],
        visible=pictures.visible[:, MIRRORED],
        rotation=pictures.rotation * np.array([1, -1, -1], np.float32),
        irises=turned(pictures.irises)[:, ::-1, MIRRORED_IRIS],
        lids=turned(pictures.lids)[:, ::-1, MIRRORED_LIDS],
        gaze=(pictures.gaze * flip)[:, ::-1],
    )
    return join([pictures, other])


def starts_in_view(
    pdm: PDM,
    source: Source,
    centre: float,
    reach: float,
    count: int,
    rng: np.random.Generator,
    noise: NoiseConfig,
) -> tuple[np.ndarray, Starts]:
    """Random starts whose yaw lies in a view.

    Args:
        centre, reach: of the view's yaw, rad.
        count: wanted.

    Returns:
        The picture of each start, and the starts.

    Raises:
        ValueError: no picture shows a face at such a yaw.
    """
    rows, found, total = [], [], 0
    landmarks = source.pictures.landmarks
    boxes = np.concatenate([landmarks.min(axis=1), landmarks.max(axis=1)], axis=1)
    for _ in range(50):
        starts = random_starts(pdm, source.truth, boxes, rng, noise)
        kept = np.flatnonzero(np.abs(starts.rotation[:, 1] - centre) <= reach)
        kept = rng.permutation(kept)
        rows.append(kept)
        found.append(starts.take(kept))
        total += len(kept)
        if total >= count:
            break
    if not total:
        raise ValueError(f"no picture shows a yaw of {np.degrees(centre):.0f} degrees")
    fields = [f.name for f in dataclasses.fields(Starts)]
    joined = Starts(**{f: np.concatenate([getattr(s, f) for s in found])[:count] for f in fields})
    return np.concatenate(rows)[:count], joined


@eqx.filter_jit
def _cut(
    pdm: PDM,
    gray: Float[Array, "c h w"],
    starts: PDMParameters,
    landmarks: Float[Array, "c n 2"],
    scale: float,
    window: int,
) -> tuple[Float[Array, "c n s s"], Float[Array, "c n 2"]]:
    def one(gray, parameters, landmarks):
        current = shape_2d(pdm, parameters)
        forth, back = align_to_reference(pdm, parameters, current, scale)
        areas = areas_of_interest(gray, current, back, window)
        return areas, (landmarks - current) @ forth.T + (window - 1) / 2

    return jax.vmap(one)(gray, starts, landmarks)


def cut_examples(
    pdm: PDM,
    gray: np.ndarray,
    landmarks: np.ndarray,
    shown: np.ndarray,
    rows: np.ndarray,
    starts: Starts,
    *,
    scale: float,
    window: int,
) -> Examples:
    """Areas around the landmarks of starts, and where the labels lie in the response maps.

    Args:
        gray: (p, h, w) uint8 pictures.
        landmarks: (p, n, 2) labels, px.
        shown: (p, n) bool.
        rows: picture of each start.
        scale: of the patch experts, px per mm.
        window: side of the response maps.
    """
    count, points = len(rows), pdm.mean_shape.shape[0]
    side = window + 10
    areas = np.zeros((points, count, side, side), np.uint8)
    places = np.zeros((points, count, 2), np.float32)
    for chunk in _chunks(count):
        picture = rows[chunk % count]
        parameters = starts.take(chunk % count).parameters()
        image = jnp.asarray(gray[picture], jnp.float32)
        labels = jnp.asarray(landmarks[picture])
        cut, where = _cut(pdm, image, parameters, labels, scale, window)
        used = chunk < count
        areas[:, chunk[used]] = np.rint(cut).astype(np.uint8)[used].transpose(1, 0, 2, 3)
        places[:, chunk[used]] = np.asarray(where)[used].transpose(1, 0, 2)
    present = shown[rows].T.astype(np.float32)
    return Examples(areas, places, present)


def _chunks(count: int) -> Iterator[np.ndarray]:
    """Numbers in runs of one length, so that one program serves all; the last run may pass the
    end."""
    for start in range(0, count, _CHUNK):
        yield np.arange(start, start + _CHUNK)
