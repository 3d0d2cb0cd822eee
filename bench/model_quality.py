"""Measures a model on held-out people, rendered heads and OpenFace's samples, in one table.

Usage: python bench/model_quality.py [--models NAME|PATH ...] [--quick] [--json FILE]
       [--overlays DIR] [--work DIR] [SECTION ...]

Every model goes through the same code: `base`, and `openface` where it is installed, by default.
Needs the shared data ($JAXFACE_SHARED, or ../shared) and the extra `train`. `--work` names the
folder of `jaxface train`, whose registrations of the portraits are used; they are made there if
need be. The exit status is 1 if the first model misses a bound.
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
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import jaxface  # noqa: E402
from bench import quality_clips, quality_people, quality_speed  # noqa: E402
from bench.quality import Context  # noqa: E402
from jaxface.reference.comparison.figures import Figure  # noqa: E402

SECTIONS: dict[str, Callable[[Context], Iterator[Figure]]] = {
    "photographs": quality_people.photograph_measures,
    "rendered": quality_people.rendered_measures,
    "spoilt": quality_people.spoilt_measures,
    "clips": quality_clips.clip_measures,
    "several": quality_clips.several_measures,
    "images": quality_clips.image_measures,
    "talking": quality_clips.talking_measures,
    "speed": quality_speed.speed_measures,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the sections asked for and prints the table."""
    parser = argparse.ArgumentParser(description="Measures the quality of models.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--models", nargs="+", metavar="NAME|PATH", default=None)
    parser.add_argument("--quick", action="store_true", help="some pictures of every set")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--overlays", type=Path, metavar="DIR", help="draw good and bad cases")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "train", metavar="DIR")
    arguments = parser.parse_args(argv)
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"unknown section {', '.join(sorted(unknown))}")
    names = arguments.models or default_models()
    table: dict[tuple[str, str], dict[str, Figure]] = {}
    for name in names:
        context = Context(
            name=Path(name).stem,
            model=jaxface.load_model(name),
            work=arguments.work,
            quick=arguments.quick,
            overlays=arguments.overlays,
        )
        for section in arguments.sections or SECTIONS:
            start = time.perf_counter()
            for figure in SECTIONS[section](dataclasses.replace(context, section=section)):
                table.setdefault((figure.clip, figure.name), {})[name] = figure
            print(f"{name}, {section}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
            if arguments.json:  # after every section: some take long
                _store(arguments.json, table)
    print(to_markdown(table, names))
    first = [row[names[0]] for row in table.values() if names[0] in row]
    return 1 if any(figure.passed is False for figure in first) else 0


def _store(path: Path, table: dict[tuple[str, str], dict[str, Figure]]) -> None:
    records = [
        {**dataclasses.asdict(figure), "passed": figure.passed}
        for row in table.values()
        for figure in row.values()
    ]
    path.write_text(json.dumps(records, indent=1) + "\n")


def default_models() -> list[str]:
    """The model that comes with jaxface, and OpenFace's where it is installed."""
    installed = {model.name for model in jaxface.installed_models()}
    return ["base", *({"openface"} & installed)]


def to_markdown(table: dict[tuple[str, str], dict[str, Figure]], names: Sequence[str]) -> str:
    """One table with a row per figure and a column per model; the first one is judged."""
    lines = [
        f"| where | figure | bound | {' | '.join(names)} | pass |",
        "|---" * (len(names) + 4) + "|",
    ]
    for (clip, figure), row in table.items():
        limit = next(iter(row.values())).limit
        cells = [f"{row[name].measured:.3g}" if name in row else "" for name in names]
        verdict = row[names[0]].verdict if names[0] in row else ""
        lines.append(f"| {clip} | {figure} | {limit} | {' | '.join(cells)} | {verdict} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
