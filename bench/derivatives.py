"""Measures derivatives against motions of pictures and against finite differences.

Usage: python bench/derivatives.py [--quick] [--json FILE] [SECTION ...]

Pictures of the talking head lie in the checkout; OpenFace's model and samples are taken from
$JAXFACE_SHARED, or from ../shared, and left out where they are missing. Prints one Markdown table;
the exit status is 1 if a figure misses its bound.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

# NumPy's threads would take the cores from XLA's. Read when NumPy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import jaxface  # noqa: E402
from bench.derivatives_looks import measure_looks  # noqa: E402
from bench.parity import to_record  # noqa: E402
from jaxface.reference.comparison import clips, derivatives  # noqa: E402
from jaxface.reference.comparison.derivatives import (  # noqa: E402
    ACCURATE,
    CENTRAL,
    MOTIONS,
    start_at,
)
from jaxface.reference.comparison.figures import Figure, Subject  # noqa: E402
from jaxface.reference.comparison.golden_detections import DETECTIONS, corners  # noqa: E402
from jaxface.reference.comparison.talking_head import CLIP, TRUTH, read_columns  # noqa: E402

_HEADS, _SAMPLES = (10, 100), ("sample1", "sample3", "sample5")
_SIDE = 640  # px
_GAIN = {"faithful": 0.05, "smooth": 0.02}  # how far from 1 a motion's derivative may be
_BOXES = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [-1, -1, 1, 1], [-1, 1, 1, -1]], np.float32)


class Picture(NamedTuple):
    """A face to be fitted."""

    name: str
    gray: np.ndarray  # (640, 640), 0 to 255
    box: np.ndarray  # 4, px


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the sections asked for and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="the base model and one picture")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    arguments = parser.parse_args(argv)
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"unknown section {', '.join(sorted(unknown))}")
    figures: list[Figure] = []
    for name in arguments.sections or SECTIONS:
        start = time.perf_counter()
        figures.extend(SECTIONS[name](arguments.quick))
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    print(to_markdown(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps([to_record(f) for f in figures], indent=1) + "\n")
    return 0 if all(figure.passed in (True, None) for figure in figures) else 1


def to_markdown(figures: Sequence[Figure]) -> str:
    """One table with a row per figure."""
    lines = ["| stage | model | picture | figure | bound | measured | pass |", "|" + "---|" * 7]
    for f in figures:
        cells = (f.stage, f.model, f.clip, f.name, f.limit, f"{f.measured:.4f}", f.verdict)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _pictures(quick: bool) -> Iterator[Picture]:
    columns = read_columns(TRUTH)
    for number in _HEADS[-1:] if quick else _HEADS:
        image = next(islice(iter(jaxface.read_video(CLIP)), number, None))
        points = np.array([[columns[f"{a}_{i}"][number] for a in "xy"] for i in range(68)])
        box = np.concatenate([points.min(axis=0), points.max(axis=0)])
        yield _on_canvas(f"talking head, frame {number}", image, box)
    samples = clips.find_data().samples
    for name in () if quick or not samples.is_dir() else _SAMPLES:
        box = corners(np.array(DETECTIONS[f"{name}.jpg"], np.float32))[0].astype(np.float64)
        yield _on_canvas(name, jaxface.read_image(samples / f"{name}.jpg"), box)


def _on_canvas(name: str, image: np.ndarray, box: np.ndarray) -> Picture:
    gray = np.asarray(jaxface.to_gray(jnp.asarray(image)), np.float32)[:_SIDE, :_SIDE]
    fill = [(0, _SIDE - side) for side in gray.shape]
    return Picture(name, np.pad(gray, fill), box)


def _models(quick: bool) -> Iterator[tuple[str, jaxface.Model]]:
    yield "base", jaxface.load_model("base")
    data = clips.find_data()
    if not quick and data.models.is_dir():
        yield "openface", clips.load(data, "openface")


def _fit(quick: bool) -> Iterator[Figure]:
    """Landmarks of whole fits, with the settings of each model, from one start."""
    pictures = list(_pictures(quick))
    for kind, model in _models(quick):
        for mode in ("faithful", "smooth"):
            config = dataclasses.replace(model.clnf.config, smooth=mode == "smooth")
            fit = derivatives.fit_from(config)

            @jax.jit
            def along(gray, start, ways, fit=fit, clnf=model.clnf):
                return jax.jvp(lambda g, s: fit(clnf, g, s), (gray, start), ways)

            for picture in pictures:
                subject = Subject(f"landmarks, {mode}", kind, picture.name)
                yield from _motions(subject, along, picture, mode)
                yield from _differences(subject, along, picture)


def _to_floats(tree):
    return jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), tree)


def _motions(subject: Subject, along: Callable, picture: Picture, mode: str) -> Iterator[Figure]:
    middle = (picture.box[:2] + picture.box[2:]) / 2
    place = _to_floats((picture.gray, start_at(picture.box)))
    for motion in MOTIONS:
        for reach, name in ((CENTRAL, "central slopes"), (ACCURATE, "accurate slopes")):
            gray_dot = derivatives.moving_picture(picture.gray, motion, middle, reach)
            start_dot = derivatives.moving_start(motion, picture.box)
            ways = _to_floats((gray_dot, start_dot))
            points, moved = map(np.asarray, along(*place, ways))
            follows = derivatives.following(motion, points, moved, middle)
            title = f"{motion}, {name}"
            if (reach == CENTRAL) == (mode == "faithful"):
                missed = abs(follows.gain - 1)
                yield subject.at_most(f"{title}: gain away from 1", _GAIN[mode], missed)
            yield subject.plain(f"{title}: gain", follows.gain)
            yield subject.plain(f"{title}: spread", follows.spread)


def _differences(subject: Subject, along: Callable, picture: Picture) -> Iterator[Figure]:
    gray, start = _to_floats((picture.gray, start_at(picture.box)))
    still, rng = jax.tree.map(jnp.zeros_like, (gray, start)), np.random.default_rng(0)
    pixels = [8 * derivatives.smooth_direction(rng, gray.shape, 12.0) for _ in range(8)]
    ways = {
        "8 grey levels, waves of 12 px and more": [(_to_floats(p), still[1]) for p in pixels],
        "box by 1 px": [
            (still[0], still[1]._replace(box=jnp.asarray(b, jnp.float32))) for b in _BOXES
        ],
    }
    for name, group in ways.items():
        found, expected = [], []
        for way in group:
            found.append(np.asarray(along(gray, start, way)[1]))
            ends = []
            for sign in (1, -1):
                moved = jax.tree.map(lambda a, b, sign=sign: a + sign * b, (gray, start), way)
                ends.append(np.asarray(along(*moved, still)[0]))
            expected.append((ends[0] - ends[1]) / 2)
        alike = derivatives.cosine(np.array(found), np.array(expected))
        yield subject.plain(f"cosine with differences: {name}", alike)


def _looks(quick: bool) -> Iterator[Figure]:
    """Action units of a frame of the talking head, by its pixels and landmarks."""
    for kind, model in _models(quick):
        subject = Subject("action units", kind, "talking head, frame 100")
        for what, unit, value in measure_looks(model):
            yield subject.plain(f"{what}, {unit}", value)


SECTIONS: dict[str, Callable[[bool], Iterator[Figure]]] = {"fit": _fit, "looks": _looks}

if __name__ == "__main__":
    sys.exit(main())
