"""Series of pictures on disk in shards, and their descriptors.

A shard depends on the seed, its number and the settings alone: an interrupted run goes on where
it stopped, and the same command gives the same pictures.
"""

import dataclasses
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..._files import AtomicFile
from ...fit import PDM
from ..data import SPLITS
from ..landmarks import face_triangles
from ..render import Sampler
from ._features import measure_pictures
from ._follow import Follower
from ._labels import SHAPES
from ._series import Series, head_series, portrait_series

SHARD = 5  # series
_FORMAT = 2  # of the pictures; to be raised when what is drawn changes
_JPEG = 97  # quality in the shards: they would be four times larger without loss
_KINDS = ("portrait", "head")
_LEAST_ACCEPTED = 0.5  # of a series' fits, so that their medians tell what rest looks like


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeriesConfig:
    """Which series are drawn."""

    split: str = "train"
    portraits: int = 560  # series; people take turns
    heads: int = 240  # series
    pictures: int = 12  # of a series
    seed: int = 0

    @property
    def total(self) -> int:
        """Series in whole shards."""
        return sum(-(-count // SHARD) * SHARD for count in (self.portraits, self.heads))


@dataclasses.dataclass(frozen=True)
class Faces:
    """One row per picture."""

    features: np.ndarray  # (n, d) float32: FHOG, then geometry
    intensity: np.ndarray  # (n, units) 0 to 5, in the order of `UNITS`
    rest: np.ndarray  # (n, units) of the same face at rest
    series: np.ndarray  # (n,) pictures of one face have one number
    person: np.ndarray  # (n,) -1 for a made-up head


def draw_series(
    sampler: Sampler,
    folder: Path | str,
    config: SeriesConfig,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Path]:
    """Draws series, unless an earlier run has, and returns the files of the shards.

    Args:
        folder: for the shards; created if need be.
        progress: called with the number of series after each shard.

    Raises:
        ValueError: nobody of the split is registered.
    """
    people = sampler.of_split(config.split)
    if config.portraits and not len(people):
        raise ValueError(f"split {config.split}: expected registered people, got none")
    place, key = Path(folder), _key(config, people)
    place.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind, count in zip(_KINDS, (config.portraits, config.heads), strict=True):
        for number in range(-(-count // SHARD)):
            path = place / f"{kind}-{config.split}-{key:08x}-{number:04d}.npz"
            if not path.is_file():
                _save([*_draw_shard(sampler, config, people, kind, number)], path)
            paths.append(path)
            progress(SHARD)
    return paths


def _key(config: SeriesConfig, people: np.ndarray) -> int:
    """Changes with everything that a shard depends on, except the number of shards."""
    kept = dataclasses.replace(config, portraits=0, heads=0)
    return zlib.crc32(repr((_FORMAT, kept, people.tolist(), SHAPES)).encode())


def _draw_shard(
    sampler: Sampler, config: SeriesConfig, people: np.ndarray, kind: str, number: int
) -> list[tuple[Series, int]]:
    """Series of one shard, and whose they are."""
    found = []
    for index in range(number * SHARD, (number + 1) * SHARD):
        seeds = (config.seed, SPLITS.index(config.split), _KINDS.index(kind), index)
        rng = np.random.default_rng(seeds)
        if kind == "head":
            found.append((head_series(sampler, rng, count=config.pictures), -1))
        else:
            person = int(people[index % len(people)])
            series = portrait_series(sampler, rng, person, count=config.pictures)
            found.append((series, person))
    return found


def _save(drawn: list[tuple[Series, int]], path: Path) -> None:
    """Writes whole files only, so that an interrupted run leaves none that is cut short."""
    images = [image for series, _ in drawn for image in series.images]
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG]
    files = [cv2.imencode(".jpg", image[..., ::-1], quality)[1].ravel() for image in images]
    arrays: dict[str, Any] = {}
    for name in ("landmarks", "intensity", "rest", "rotation", "scale"):
        arrays[name] = np.stack([getattr(series, name) for series, _ in drawn])
    with AtomicFile(path) as file:
        np.savez(
            file.stream,
            jpeg=np.concatenate(files),
            ends=np.cumsum([len(f) for f in files]),
            person=np.array([person for _, person in drawn]),
            **arrays,
        )
        file.commit()


def _load(path: Path) -> list[tuple[Series, int]]:
    with np.load(path) as file:
        stored = {name: file[name] for name in file.files}
    people, pictures = stored["person"], stored["scale"].shape[1]
    parts = np.split(stored["jpeg"], stored["ends"][:-1])
    images = np.stack([np.asarray(cv2.imdecode(p, cv2.IMREAD_COLOR))[..., ::-1] for p in parts])
    images = images.reshape(len(people), pictures, *images.shape[1:])
    names = ("landmarks", "intensity", "rest", "rotation", "scale")
    return [
        (Series(images=images[i], **{name: stored[name][i] for name in names}), int(person))
        for i, person in enumerate(people)
    ]


def measure_series(
    paths: list[Path],
    pdm: PDM,
    follower: Follower,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> Faces:
    """Descriptors and labels of the pictures of some shards whose fits are accepted.

    Args:
        paths: result of `draw_series`.
        follower: finds the landmarks; its randomness follows from the names of the files.
        progress: called with the number of series after each shard.
    """
    triangles = face_triangles(pdm)
    rows: list[tuple[np.ndarray, ...]] = []
    for path in paths:
        rng = np.random.default_rng(zlib.crc32(path.name.encode()))
        for series, person in _load(path):
            found, accepted = follower.follow(rng, series.images, series.landmarks)
            kept = np.flatnonzero(accepted)
            if len(kept) < _LEAST_ACCEPTED * len(accepted):
                continue
            features = measure_pictures(pdm, triangles, series.images[kept], found[kept])
            numbers = np.full(len(kept), len(rows)), np.full(len(kept), person)
            rest = np.repeat(series.rest[None], len(kept), axis=0)
            rows.append((features, series.intensity[kept], rest, *numbers))
        progress(SHARD)
    return Faces(*(np.concatenate(column) for column in zip(*rows, strict=True)))
