"""Measures jaxface against OpenFace on its sample clips and images, stage by stage and in all.

Usage: python bench/parity.py [--quick] [--json FILE] [--model-dir DIR] [SECTION ...]

Finds OpenFace's data in $JAXFACE_SHARED, or in ../shared. Prints one Markdown table; the exit
status is 1 if a figure misses its bound.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

# NumPy's threads would take the cores from XLA's. Read when NumPy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import lanes, repeat, speed, stages  # noqa: E402
from jaxface import default_config  # noqa: E402
from jaxface.reference.comparison import clips  # noqa: E402
from jaxface.reference.comparison.clips import CLIPS, MODES, PREFIX, Data  # noqa: E402
from jaxface.reference.comparison.figures import (  # noqa: E402
    Figure,
    clip_figures,
    image_figures,
    pick,
    several_figures,
    unit_figures,
)
from jaxface.reference.comparison.repeat import vmap_figures  # noqa: E402

_MODELS = {"openface": "CLNF", "openface-ceclm": "CE-CLM", "openface-clm": "CLM", "all": "all"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the sections asked for and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="CLNF, one clip, fewer stage files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--model-dir", type=Path, metavar="DIR", help="OpenFace's model files")
    arguments = parser.parse_args(argv)
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"unknown section {', '.join(sorted(unknown))}")
    data = clips.find_data(arguments.model_dir)
    figures: list[Figure] = []
    for name in arguments.sections or SECTIONS:
        start = time.perf_counter()
        figures.extend(SECTIONS[name](data, arguments.quick))
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    print(to_markdown(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps([to_record(f) for f in figures], indent=1) + "\n")
    return 0 if all(figure.passed for figure in figures) else 1


def to_record(figure: Figure) -> dict:
    """A figure as plain values."""
    return {**dataclasses.asdict(figure), "passed": figure.passed}


def to_markdown(figures: Sequence[Figure]) -> str:
    """One table with a row per figure."""
    lines = [
        "| stage | model | clip | figure | bound | measured | pass |",
        "|---|---|---|---|---|---|---|",
    ]
    for f in figures:
        cells = (f.stage, _MODELS[f.model], f.clip, f.name, f.limit)
        lines.append(f"| {' | '.join(cells)} | {f.measured:.6g} | {f.verdict} |")
    return "\n".join(lines)


def _kinds(quick: bool) -> tuple[str, ...]:
    return clips.KINDS[:1] if quick else clips.KINDS


def _detector(data: Data, quick: bool) -> Iterator[Figure]:
    yield from stages.detector_figures(data)


def _fit(data: Data, quick: bool) -> Iterator[Figure]:
    for kind in _kinds(quick)[:2]:
        yield from stages.fit_figures(data, kind, quick=quick)


def _analysis(data: Data, quick: bool) -> Iterator[Figure]:
    yield from stages.appearance_figures(data)
    for clip in ("default.wmv",) if quick else ("default.wmv", "2015-10-15-15-14.avi"):
        yield from stages.golden_unit_figures(data, clip)
    yield from stages.csv_figures(data)


def _images(data: Data, quick: bool) -> Iterator[Figure]:
    for kind in _kinds(quick):
        for mode in ("",) if quick or kind == "openface-clm" else MODES:
            found = list(clips.run_images(data, kind, mode))
            clip = f"{len(found)} images{mode.replace('_', ' -', 1)}"
            yield from image_figures(kind, clip, [(ours, golden) for _, ours, golden in found])


def _clips(data: Data, quick: bool) -> Iterator[Figure]:
    for kind in _kinds(quick):
        for clip in CLIPS[kind][:1] if quick else CLIPS[kind]:
            found = clips.run_clip(data, kind, clip)
            golden = clips.golden_run(data, PREFIX[kind] + Path(clip).stem)
            yield from clip_figures(kind, clip, found, golden)
            if "." in clip:  # the sequence is too short for adapting to the person
                units = found.au_intensity, found.au_presence
                yield from unit_figures(kind, clip, *units, golden)


def _static(data: Data, quick: bool) -> Iterator[Figure]:
    config = default_config(clips.load(data, "openface"), static_action_units=True)
    for clip in ("default.wmv",) if quick else ("default.wmv", "2015-10-15-15-14.avi"):
        found = clips.run_clip(data, "openface", clip, config=config)
        golden = clips.golden_run(data, f"{Path(clip).stem}_au_static")
        units = found.au_intensity, found.au_presence
        yield from unit_figures("openface", f"{clip} -au_static", *units, golden)


def _several(data: Data, quick: bool) -> Iterator[Figure]:
    clip = "multi_face.avi"
    frames = 100 if quick else None
    for run, faces in (("multi_face", "one"), ("multi_face_VidMulti", "all")):
        found = clips.run_clip(data, "openface", clip, faces=faces, frames=frames)
        golden = clips.golden_run(data, run)
        golden = pick(golden, golden.frame <= found.frame.max())
        yield from several_figures("openface", f"{clip}, faces: {faces}", found, golden)


def _lanes(data: Data, quick: bool) -> Iterator[Figure]:
    for count in (8,) if quick else (2, 4, 8, 64):
        yield from lanes.lane_figures(data, count, quick=quick)


def _repeat(data: Data, quick: bool) -> Iterator[Figure]:
    yield from repeat.repeat_figures(data)
    yield from vmap_figures(data)


def _speed(data: Data, quick: bool) -> Iterator[Figure]:
    yield from speed.speed_figures(data, "openface", "default.wmv", repeats=1 if quick else 3)


SECTIONS: dict[str, Callable[[Data, bool], Iterator[Figure]]] = {
    "detector": _detector,
    "fit": _fit,
    "analysis": _analysis,
    "images": _images,
    "clips": _clips,
    "static": _static,
    "several": _several,
    "lanes": _lanes,
    "repeat": _repeat,
    "speed": _speed,
}

if __name__ == "__main__":
    sys.exit(main())
