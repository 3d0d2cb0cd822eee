"""Clips in lanes against the same clips one by one, for `bench/parity.py`."""

from collections.abc import Iterator

import numpy as np

import jaxface
from jaxface import Analysis, Model
from jaxface.reference.comparison import clips
from jaxface.reference.comparison.clips import Data
from jaxface.reference.comparison.figures import Figure, Subject

_CLIPS = ("default.wmv", "2015-10-15-15-14.avi", "multi_face.avi")
_VARYING = 0.2  # standard deviation of an action unit whose correlation counts
_GAP, _BEFORE = 9, 60  # frames without a face, and before them: of the clip with losses


def lane_figures(data: Data, lanes: int, *, quick: bool) -> Iterator[Figure]:
    """Whole clips in lanes beside one another, and one in which faces vanish and return.

    Args:
        lanes: clips at a time.
        quick: one clip and the one with losses.
    """
    model = clips.load(data, "openface")
    names = _CLIPS[:1] if quick else _CLIPS
    videos = [list(clips.open_clip(data, name)) for name in names]
    other = videos[0] if quick else videos[1]
    videos.append(_with_losses(videos[0], other))
    one, several = (_analyze(model, videos, count) for count in (1, lanes))
    for name, alone, found in zip((*names, "with losses"), one, several, strict=True):
        yield from _compare(Subject(f"{lanes} lanes", "openface", name), found, alone)


def _analyze(model: Model, videos: list[list[np.ndarray]], lanes: int) -> list[Analysis]:
    results = jaxface.analyze_batch(model, videos, fps=30.0, lanes=lanes)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return [result for result in results if isinstance(result, Analysis)]


def _with_losses(frames: list[np.ndarray], other: list[np.ndarray]) -> list[np.ndarray]:
    """Faces of two people that vanish and return, and a cut from one to the other."""
    height, width = frames[0].shape[:2]
    black = [np.zeros_like(frames[0])] * _GAP
    second = [frame[:height, :width] for frame in other[:_BEFORE]]
    first, later = frames[:_BEFORE], frames[_BEFORE : 2 * _BEFORE]
    return [*black, *first, *black, *second, *later, *black, *second, *black]


def _compare(subject: Subject, found: Analysis, alone: Analysis) -> Iterator[Figure]:
    away = np.linalg.norm(found.landmarks - alone.landmarks, axis=-1)[alone.success]
    yield subject.at_most("landmarks, mean difference, px", 0.03, away.mean())
    near = np.mean(away.mean(axis=1) < 0.2)
    yield subject.at_least("landmarks, frames under 0.2 px", 0.99, near)
    yield subject.at_least("success equal", 1, np.mean(found.success == alone.success))
    ours, theirs = found.au_intensity, alone.au_intensity
    difference = np.abs(ours - theirs).mean()
    yield subject.at_most("action units, mean absolute difference", 0.012, difference)
    varying = np.flatnonzero(theirs.std(axis=0) > _VARYING)
    related = [np.corrcoef(ours[:, i], theirs[:, i])[0, 1] for i in varying]
    yield subject.at_least(f"lowest r of {len(varying)} AUs", 0.995, min(related, default=1.0))
