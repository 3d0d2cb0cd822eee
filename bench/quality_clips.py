"""Clips and images: OpenFace's samples beside what OpenFace made of them, and the talking head."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

import jaxface
from jaxface import Analysis
from jaxface.output import INTENSITY_NAMES, Table
from jaxface.reference.comparison import talking_head
from jaxface.reference.comparison.clips import find_data, golden_run, open_clip
from jaxface.reference.comparison.figures import Figure, Subject, angles, pick
from jaxface.training.landmarks import REGIONS, outer_eye_distance

from .quality import Context, draw_points, save_sheet

_CLIPS = ("default.wmv", "2015-10-15-15-14.avi", "image_sequence")
_UNITS = ("AU01", "AU02", "AU04", "AU06", "AU12", "AU25", "AU26", "AU45")
_QUICK = 100  # frames
_STILL = 25  # percentile of movement up to which a frame counts as still
_VARIES = 0.05  # intensity; standard deviation from which a unit has a correlation
_SAME = 0.4  # overlap from which two faces are one


def clip_measures(context: Context) -> Iterator[Figure]:
    """Clips with one face, tracked."""
    data = find_data()
    for clip in _CLIPS[:1] if context.quick else _CLIPS:
        reader = open_clip(data, clip)
        frames = list(islice(iter(reader), _QUICK if context.quick else None))
        found = jaxface.analyze_video(context.model, frames, fps=reader.fps)
        golden = golden_run(data, clip.rsplit(".", 1)[0])
        golden = pick(golden, slice(len(frames)))
        about = context.subject(clip)
        both = (golden.success == 1) & found.success
        agreed = 100 * np.mean((golden.success == 1) == found.success)
        yield about.at_least("frames with success as OpenFace, %", 98, agreed)
        yield from _landmarks(about, found, golden, both)
        yield from _movement(about, found, golden)
        yield from _directions(about, found, golden, both)
        if "." in clip:
            yield from _units(about, found, golden)
        if context.overlays:
            errors = _offset_free(found.landmarks, golden.landmarks, both).mean(1)
            order = np.flatnonzero(both)[np.argsort(errors[both])]
            shown = [*order[:3], *order[len(order) // 2 :][:3], *order[-6:]]
            tiles = [draw_points(frames[i], found.landmarks[i], golden.landmarks[i]) for i in shown]
            save_sheet(context.overlays / f"{context.name}-{clip}.png", tiles)


def _landmarks(
    about: Subject, found: Analysis, golden: Table, both: np.ndarray
) -> Iterator[Figure]:
    distance = outer_eye_distance(golden.landmarks)[both][:, None]
    raw = np.linalg.norm((found.landmarks - golden.landmarks)[both], axis=-1) / distance * 100
    free = _offset_free(found.landmarks, golden.landmarks, both)[both]
    yield about.at_most("landmarks, mean offsets removed, % of the eye distance", 3, free.mean())
    yield about.plain("landmarks, raw, %", raw.mean())
    for name, points in REGIONS.items():
        yield about.plain(f"landmarks, {name}: offsets removed, %", free[:, points].mean())
        yield about.plain(f"landmarks, {name}: raw, %", raw[:, points].mean())


def _offset_free(found: np.ndarray, golden: np.ndarray, both: np.ndarray) -> np.ndarray:
    """Distances (f, 68), % of the eye distance, each landmark's own mean offset removed."""
    apart = (found - golden) / outer_eye_distance(golden)[:, None, None] * 100
    return np.linalg.norm(apart - apart[both].mean(0), axis=-1)


def _movement(about: Subject, found: Analysis, golden: Table) -> Iterator[Figure]:
    """Jumps of the track, and jitter where the face is still."""
    distance = outer_eye_distance(golden.landmarks)
    steps = [
        np.linalg.norm(np.diff(points, axis=0), axis=-1).mean(1) / distance[1:] * 100
        for points in (found.landmarks, golden.landmarks)
    ]
    # A jump: the face moves by a tenth of the eye distance more than OpenFace saw it move.
    yield about.at_most("jumps of the track", 0, np.sum(steps[0] > steps[1] + 10))
    still = steps[1][1:] <= np.percentile(steps[1], _STILL)
    ours, theirs = (
        (_wobble(points) / distance[1:-1])[still].mean()
        for points in (found.landmarks, golden.landmarks)
    )
    yield about.at_most("jitter of still frames, of OpenFace's", 1.5, ours / theirs)


def _wobble(points: np.ndarray) -> np.ndarray:
    """Mean second difference over time (n - 2,) of landmarks (n, 68, 2), px."""
    return np.linalg.norm(points[2:] - 2 * points[1:-1] + points[:-2], axis=-1).mean(axis=1)


def _directions(
    about: Subject, found: Analysis, golden: Table, both: np.ndarray
) -> Iterator[Figure]:
    turn = np.degrees(np.abs(found.head_pose - golden.head_pose)[both][:, 3:])
    for axis, name in enumerate(("pitch", "yaw", "roll")):
        yield about.at_most(f"head pose, {name}, median, degrees", 4, np.median(turn[:, axis]))
    gaze = angles(found.gaze, golden.gaze)[both]
    yield about.at_most("gaze, median, degrees", 8, np.median(gaze))


def _units(about: Subject, found: Analysis, golden: Table) -> Iterator[Figure]:
    """Correlation with OpenFace's intensities, of the units that both know and the clip shows."""
    assert golden.au_intensity is not None
    for name in _UNITS:
        theirs = golden.au_intensity[:, INTENSITY_NAMES.index(name)]
        if name not in found.units.intensity or theirs.std() < _VARIES:
            continue
        ours = found.au_intensity[:, found.units.intensity.index(name)]
        r = np.corrcoef(ours, theirs)[0, 1] if ours.std() > 0 else 0.0
        yield about.at_least(f"{name}, r with OpenFace's intensity", 0.6, r)


def several_measures(context: Context) -> Iterator[Figure]:
    """A clip with several faces: which of OpenFace's faces are tracked, and what else is."""
    data = find_data()
    reader = open_clip(data, "multi_face.avi")
    count = _QUICK if context.quick else 300
    found = jaxface.analyze_video(
        context.model, islice(iter(reader), count), fps=reader.fps, faces="all"
    )
    golden = golden_run(data, "multi_face_VidMulti")
    golden = pick(golden, golden.frame <= count)
    about = context.subject("multi_face.avi")
    hits, errors, faces, others = 0, [], 0, 0
    for frame in range(1, count + 1):
        ours = found.landmarks[(found.frame == frame) & found.success]
        theirs = golden.landmarks[(golden.frame == frame) & (golden.success == 1)]
        pairs = match(ours, theirs)
        hits, faces = hits + len(pairs), faces + len(theirs)
        others += len(ours) - len(pairs)
        for mine, other in pairs:
            missed = np.linalg.norm(ours[mine] - theirs[other], axis=1).mean()
            errors.append(100 * missed / outer_eye_distance(theirs[other][None])[0])
    yield about.plain("OpenFace's faces tracked too, %", 100 * hits / max(faces, 1))
    yield about.plain("other faces per frame", others / count)
    yield about.plain("landmarks, raw, % of the eye distance", np.mean(errors) if errors else 0)


def match(ours: np.ndarray, theirs: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of faces (f, 68, 2) whose boxes overlap, each face in one pair at most."""
    pairs: list[tuple[int, int]] = []
    for other, points in enumerate(theirs):
        shared = [_overlap(mine, points) for mine in ours]
        for mine, _ in pairs:
            shared[mine] = 0
        if shared and max(shared) >= _SAME:
            pairs.append((int(np.argmax(shared)), other))
    return pairs


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    low = np.maximum(first.min(0), second.min(0))
    high = np.minimum(first.max(0), second.max(0))
    shared = np.prod(np.maximum(high - low, 0))
    areas = [np.prod(np.ptp(points, axis=0)) for points in (first, second)]
    return float(shared / (sum(areas) - shared))


def image_measures(context: Context) -> Iterator[Figure]:
    """Still images."""
    data = find_data()
    config = jaxface.default_config(context.model, static_action_units=True)
    faces = hits = others = 0
    errors, turns, gazes, tiles = [], [], [], []
    for path in sorted(data.samples.glob("sample*")):
        # From one rotation OpenFace is itself 10 degrees and more off on three of the faces.
        runs = (f"img_{path.stem}_multi_view", f"img_{path.stem}")
        run = next((name for name in runs if (data.golden / name).is_dir()), None)
        if run is None:
            continue
        golden = golden_run(data, run)
        golden = pick(golden, golden.confidence > 0.5)
        found = jaxface.analyze_image(context.model, path, config=config)
        pairs = match(found.landmarks, golden.landmarks)
        faces, hits = faces + len(golden.landmarks), hits + len(pairs)
        others += len(found.landmarks) - len(pairs)
        for mine, other in pairs:
            apart = np.linalg.norm(found.landmarks[mine] - golden.landmarks[other], axis=1).mean()
            errors.append(100 * apart / outer_eye_distance(golden.landmarks[other][None])[0])
            turns.append(np.abs(found.head_pose[mine] - golden.head_pose[other])[3:].max())
            gazes.extend(angles(found.gaze[mine], golden.gaze[other]))
            image = jaxface.read_image(path)
            tiles.append(draw_points(image, found.landmarks[mine], golden.landmarks[other]))
    about = context.subject("sample images")
    yield about.at_least("OpenFace's faces found, %", 98, 100 * hits / faces)
    yield about.plain("other faces", others)
    yield about.plain("landmarks, raw, mean, % of the eye distance", np.mean(errors))
    yield about.at_most("head pose, worst angle, median, degrees", 4, np.degrees(np.median(turns)))
    yield about.at_most("gaze, median, degrees", 8, np.median(gazes))
    if context.overlays:
        save_sheet(context.overlays / f"{context.name}-images.png", tiles)


def talking_measures(context: Context) -> Iterator[Figure]:
    """The clip that the repository draws itself, against its truth."""
    reader = jaxface.read_video(talking_head.CLIP)
    found = jaxface.analyze_video(context.model, iter(reader), fps=reader.fps)
    table = found.to_dataframe()
    columns = {name: table[name].to_numpy() for name in table.columns}
    truth = talking_head.read_columns(talking_head.TRUTH)
    about = context.subject("talking head")
    for name, value in talking_head.errors(columns, truth).items():
        if name.startswith("AU"):
            yield about.at_least(name, 0.8, value)
        else:
            yield about.plain(name, value)
