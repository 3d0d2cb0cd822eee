"""Labelled grey pictures on disk, in shards, so that every part of a model trains on the same ones.

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
from ._sample import Sample
from ._sampler import SampleConfig, Sampler, sample_head, sample_portrait

_FIELDS = ("landmarks", "landmarks_3d", "visible", "rotation", "irises", "lids", "gaze")
SHARD = 50  # pictures
_EACH = 5  # pictures of one portrait in a shard


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureConfig:
    """How many pictures of a split, and what they show."""

    split: str = "train"
    kind: str = "portrait"  # or "head"
    count: int = 2500
    seed: int = 0
    sample: SampleConfig = SampleConfig(size=256, face=(0.25, 0.65))


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures of one face each and their labels; layouts and units are those of `Sample`."""

    gray: np.ndarray  # (p, h, w) uint8
    landmarks: np.ndarray  # (p, 68, 2) px
    landmarks_3d: np.ndarray  # (p, 68, 3) mm, camera axes
    visible: np.ndarray  # (p, 68) bool
    rotation: np.ndarray  # (p, 3) rad
    scale: np.ndarray  # (p,) px per mm
    irises: np.ndarray  # (p, 2, 9, 2) px
    lids: np.ndarray  # (p, 2, 12, 2) px
    gaze: np.ndarray  # (p, 2, 3)
    person: np.ndarray  # (p,) -1 for a made-up head

    def __len__(self) -> int:
        return len(self.gray)

    def take(self, rows: np.ndarray) -> "Pictures":
        """Some of the pictures."""
        fields = dataclasses.fields(self)
        return Pictures(**{f.name: getattr(self, f.name)[rows] for f in fields})


def join(parts: list[Pictures]) -> Pictures:
    """All pictures of several sets of one size."""
    fields = [f.name for f in dataclasses.fields(Pictures)]
    return Pictures(**{f: np.concatenate([getattr(p, f) for p in parts]) for f in fields})


def draw_pictures(
    sampler: Sampler,
    folder: Path | str,
    config: PictureConfig,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> Pictures:
    """Draws pictures, or reads those that an earlier run has left.

    Args:
        folder: for the shards; created if need be.
        progress: called with the number of pictures after each shard.

    Raises:
        ValueError: nobody of the split is registered.
    """
    people = sampler.of_split(config.split)
    if config.kind == "portrait" and not len(people):
        raise ValueError(f"split {config.split}: expected registered people, got none")
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    parts, name = [], f"{config.kind}-{config.split}-{_key(config, people, sampler):08x}"
    for number in range(-(-config.count // SHARD)):
        path = place / f"{name}-{number:04d}.npz"
        if not path.is_file():
            _save(_draw_shard(sampler, config, people, number), path)
        with np.load(path) as file:
            parts.append(Pictures(**{name: file[name] for name in file.files}))
        progress(SHARD)
    return join(parts).take(np.arange(config.count))


def _key(config: PictureConfig, people: np.ndarray, sampler: Sampler) -> int:
    """Changes with everything that a shard depends on, except the number of shards."""
    kept = repr((dataclasses.replace(config, count=0), sampler.tools.fingerprint))
    if config.kind == "portrait":
        kept += repr(people.tolist())
    return zlib.crc32(kept.encode())


def _draw_shard(
    sampler: Sampler, config: PictureConfig, people: np.ndarray, number: int
) -> list[Sample]:
    """Draws one shard; few people in each, since a portrait takes a while to prepare."""
    rng = np.random.default_rng([config.seed, number])
    if config.kind == "head":
        return [sample_head(sampler, rng, config=config.sample) for _ in range(SHARD)]
    size = min(SHARD // _EACH, len(people))
    some = people[(number * size + np.arange(size)) % len(people)]
    return [
        sample_portrait(sampler, rng, person=int(some[i % size]), config=config.sample)
        for i in range(SHARD)
    ]


def _save(samples: list[Sample], path: Path) -> None:
    """Writes whole files only, so that an interrupted run leaves none that is cut short."""
    grays = [cv2.cvtColor(sample.image, cv2.COLOR_RGB2GRAY) for sample in samples]
    arrays: dict[str, Any] = {}
    for name in _FIELDS:
        arrays[name] = np.stack([getattr(sample, name) for sample in samples])
    arrays["scale"] = np.array([s.scale for s in samples], np.float32)
    arrays["person"] = np.array([s.person for s in samples])
    with AtomicFile(path) as file:
        np.savez(file.stream, gray=np.stack(grays), **arrays)
        file.commit()
