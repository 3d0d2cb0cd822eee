"""Figures with their bounds, and how far an analysis is from a golden run of OpenFace."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxface import Analysis

from ...output import INTENSITY_NAMES, Table

_VARIES = 0.05  # AU units; standard deviation above which a series has a correlation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured value, and what it must not exceed, or with `at_least` fall below.

    Without a bound it is only reported.
    """

    stage: str
    model: str
    clip: str
    name: str
    bound: float | None
    measured: float
    at_least: bool = False

    @property
    def passed(self) -> bool | None:
        """Whether the bound is kept; None without one."""
        if self.bound is None:
            return None
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    @property
    def limit(self) -> str:
        """The bound in words of a table; empty without one."""
        return "" if self.bound is None else f"{'≥' if self.at_least else '≤'} {self.bound:g}"

    @property
    def verdict(self) -> str:
        """`passed` in words of a table."""
        return {True: "yes", False: "**NO**", None: ""}[self.passed]


@dataclasses.dataclass(frozen=True)
class Subject:
    """What figures are about."""

    stage: str
    model: str
    clip: str  # or another set of pictures

    def plain(self, name: str, measured: float | np.floating) -> Figure:
        """A figure that is only reported."""
        own = dataclasses.asdict(self)
        return Figure(**own, name=name, bound=None, measured=float(measured))

    def at_most(self, name: str, bound: float, measured: float | np.floating) -> Figure:
        return dataclasses.replace(self.plain(name, measured), bound=bound)

    def at_least(self, name: str, bound: float, measured: float | np.floating) -> Figure:
        return dataclasses.replace(self.at_most(name, bound, measured), at_least=True)

    def of(self, stage: str) -> "Subject":
        return dataclasses.replace(self, stage=stage)


def pick(golden: Table, rows: slice | Int[np.ndarray, " n"] | Bool[np.ndarray, " m"]) -> Table:
    """Some rows of a run."""
    return golden[rows]


def landmark_errors(found: Analysis, golden: Table) -> Float[np.ndarray, "n 68"]:
    """Distances, px."""
    difference = found.landmarks.astype(np.float64) - golden.landmarks
    return np.linalg.norm(difference, axis=-1)


def clip_figures(model: str, clip: str, found: Analysis, golden: Table) -> list[Figure]:
    """Landmarks, success, pose and gaze of a tracked clip. Rows correspond."""
    errors = landmark_errors(found, golden).mean(axis=1)
    subject = Subject("landmarks", model, clip)
    agreed = found.success == golden.success
    return [
        subject.at_most("mean error, px", 0.06, errors.mean()),
        subject.at_least("frames under 0.3 px", 0.99, np.mean(errors < 0.3)),
        subject.at_least("success equal", 0.999, np.mean(agreed)),
        *direction_figures(model, clip, found, golden),
    ]


def direction_figures(model: str, clip: str, found: Analysis, golden: Table) -> list[Figure]:
    """Head pose, by each row's worst component, and gaze, by eye: medians."""
    kept = golden.success.astype(bool)
    pose = np.abs(found.head_pose.astype(np.float64) - golden.head_pose)[kept]
    gaze = angles(found.gaze[kept], golden.gaze[kept])
    angle = np.degrees(np.abs(found.gaze_angle - golden.gaze_angle)[kept]).max(axis=1)
    subject = Subject("pose", model, clip)
    return [
        subject.at_most("median translation error, mm", 0.5, np.median(pose[:, :3].max(axis=1))),
        subject.at_most("median rotation error, rad", 0.002, np.median(pose[:, 3:].max(axis=1))),
        subject.of("gaze").at_most("median error of a vector, degree", 0.1, np.median(gaze)),
        subject.of("gaze").at_most("median gaze_angle error, degree", 0.1, np.median(angle)),
    ]


def angles(found: np.ndarray, golden: np.ndarray) -> np.ndarray:
    """Degrees between directions (..., 3).

    They come from the cross product, since the cosine of a small angle is flat.
    """
    found, golden = found.astype(np.float64), golden.astype(np.float64)
    sine = np.linalg.norm(np.cross(found, golden), axis=-1)
    return np.degrees(np.arctan2(sine, np.sum(found * golden, axis=-1)))


def unit_figures(
    model: str,
    clip: str,
    intensity: Float[np.ndarray, "n 17"],
    presence: Float[np.ndarray, "n 18"],
    golden: Table,
) -> list[Figure]:
    """Action units of a whole clip."""
    assert golden.au_intensity is not None and golden.au_presence is not None
    varying = np.flatnonzero(golden.au_intensity.std(axis=0) > _VARIES)
    correlations = {
        INTENSITY_NAMES[u]: np.corrcoef(intensity[:, u], golden.au_intensity[:, u])[0, 1]
        for u in varying
    }
    worst = min(correlations, key=lambda name: correlations[name])
    values = list(correlations.values())
    error = np.abs(intensity - golden.au_intensity).mean()
    subject = Subject("action units", model, clip)
    return [
        subject.at_least(f"lowest r of {len(values)} AUs ({worst})", 0.99, correlations[worst]),
        subject.at_least("mean r", 0.997, np.mean(values)),
        subject.at_most("mean absolute error", 0.02, error),
        subject.at_least("presence equal", 0.99, np.mean(presence == golden.au_presence)),
    ]


def image_figures(model: str, clip: str, pairs: Iterable[tuple[Analysis, Table]]) -> list[Figure]:
    """Landmarks, pose and gaze of still images, whose faces come in OpenFace's order."""
    errors, differing, directions = [], 0, []
    for found, golden in pairs:
        if len(found.landmarks) != len(golden.landmarks):
            differing += 1
            continue
        errors.append(landmark_errors(found, golden))
        directions.append((found, golden))
    subject = Subject("landmarks", model, clip)
    together = np.concatenate(errors)
    return [
        subject.at_most("images with another number of faces", 0, differing),
        subject.at_most("mean error, px", 0.03, together.mean()),
        subject.at_most("largest error, px", 0.3, together.max()),
        *_pooled_directions(model, clip, directions),
    ]


def _pooled_directions(model: str, clip: str, pairs: list[tuple[Analysis, Table]]) -> list[Figure]:
    """As `direction_figures`, over all faces of several images."""

    def pool(name: str) -> tuple[np.ndarray, np.ndarray]:
        columns = [(getattr(found, name), getattr(golden, name)) for found, golden in pairs]
        found, golden = (np.concatenate(side) for side in zip(*columns, strict=True))
        return found.astype(np.float64), golden

    pose = np.abs(np.subtract(*pool("head_pose")))
    gaze = angles(*pool("gaze"))
    subject = Subject("pose", model, clip)
    return [
        subject.at_most("median translation error, mm", 0.5, np.median(pose[:, :3].max(axis=1))),
        subject.at_most("median rotation error, rad", 0.002, np.median(pose[:, 3:].max(axis=1))),
        subject.of("gaze").at_most("median error of a vector, degree", 0.1, np.median(gaze)),
    ]


def several_figures(model: str, clip: str, found: Analysis, golden: Table) -> list[Figure]:
    """Faces of a clip, matched by frame and slot."""
    keys = [list(zip(t.frame.tolist(), t.face_id.tolist(), strict=True)) for t in (found, golden)]
    common = sorted(set(keys[0]) & set(keys[1]))
    either = set(keys[0]) | set(keys[1])
    places = [{key: row for row, key in enumerate(k)} for k in keys]
    rows = [np.array([place[key] for key in common]) for place in places]
    ours, theirs = take(found, rows[0]), pick(golden, rows[1])
    subject = Subject("landmarks", model, clip)
    return [
        subject.at_least("rows that both have", 0.999, len(common) / len(either)),
        *clip_figures(model, clip, ours, theirs),
    ]


def take(analysis: Analysis, rows: Int[np.ndarray, " n"]) -> Analysis:
    """Some rows of an analysis."""
    columns = {f.name: getattr(analysis, f.name) for f in dataclasses.fields(analysis)}
    arrays = {name: column for name, column in columns.items() if isinstance(column, np.ndarray)}
    return dataclasses.replace(analysis, **{name: a[rows] for name, a in arrays.items()})
