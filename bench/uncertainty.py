"""How often the truth lies in the ellipses of `landmark_uncertainty`.

Usage: python bench/uncertainty.py [--models NAME ...] [--heads N] [--people N] [--json FILE]

Four sets of pictures: N rendered heads that the experts' `calibration` is measured on, N others,
portraits of people that no model was trained with, turned and lit anew, and frames of the talking
head. The truth is in the convention of results. Fits start from the box of the truth and its five
points, as from a perfect detector; those that the validator accepts count, and of their landmarks
those that nothing hides. The last column is the calibration with which 90 % of a set's ellipses
would cover. Head pose and gaze are compared on the talking head alone, where their truth is known:
their ellipsoids have three and two dimensions. Needs the shared data ($JAXFACE_SHARED, or
../shared), and the extra `train`.
"""

import argparse
import dataclasses
import datetime
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

# NumPy's threads would take the cores from XLA's. Read when NumPy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax import lax  # noqa: E402

import jaxface  # noqa: E402
from jaxface import Model, fit_landmarks, landmark_uncertainty  # noqa: E402
from jaxface.reference.comparison.talking_head import read_columns  # noqa: E402
from jaxface.training import (  # noqa: E402
    Sample,
    SampleConfig,
    Sampler,
    load_sampler,
    load_tools,
    sample_head,
    sample_portrait,
)
from jaxface.training.data import euler_to_matrix, picture_offsets  # noqa: E402

MODELS = ("base", "openface", "openface-ceclm", "openface-clm")
LEVELS = (50, 68, 90, 95)  # percent
_CANVAS = (480, 640)  # px, of all pictures: one program for all
_FRAMES = 40
_HEADS = SampleConfig(size=320, degrade=0.0, occlude=0.0, yaw=30.0, pitch=15.0, roll=15.0)
_PORTRAITS = dataclasses.replace(_HEADS, own_pose=0.0)
_BEHIND = 2  # people whose photographs, without their faces, are what stands behind heads
_CALIBRATED, _OTHERS = 11, 12  # seeds
_REGIONS = {
    "jaw": range(17),
    "brows": range(17, 27),
    "nose": range(27, 36),
    "eyes": range(36, 48),
    "mouth": range(48, 68),
}


@dataclasses.dataclass
class Pictures:
    """Pictures of one face each, and where its landmarks are."""

    name: str
    gray: np.ndarray  # p h w
    truth: np.ndarray  # p 68 2, px, as results hold them
    seen: np.ndarray  # p 68, landmarks that nothing hides


@dataclasses.dataclass(frozen=True)
class Row:
    """What the ellipses of one model cover on one set."""

    model: str
    pictures: str
    faces: int  # accepted ones
    accepted: float  # percent
    error: float  # of their landmarks, percent of the eye distance, median
    deviation: float  # as it is given, percent of the eye distance, median
    covered: tuple[float, ...]  # percent, by level
    regions: tuple[float, ...]  # percent, of 90
    calibration: float  # with which 90 % would be covered


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Measures the coverage of uncertainties.")
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="NAME")
    parser.add_argument("--heads", type=int, default=160, metavar="N")
    parser.add_argument("--people", type=int, default=12, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    arguments = parser.parse_args(argv)
    sets = [*rendered(arguments.heads, arguments.people), talking_head()]
    rows = [row for name in arguments.models for row in measure(jaxface.load_model(name), sets)]
    if arguments.json:
        about = {"date": f"{datetime.date.today()}", "jax": jax.__version__}
        records = [dataclasses.asdict(row) for row in rows]
        arguments.json.write_text(json.dumps(about | {"rows": records}, indent=1) + "\n")
    print(to_markdown(rows))
    return 0


def measure(model: Model, sets: Sequence[Pictures]) -> Iterator[Row]:
    """One row for each set."""

    @jax.jit
    def run(clnf, gray, boxes, points):
        def one(face):
            image, box, five = face
            fit = fit_landmarks(clnf, image, box, points=five)
            found = landmark_uncertainty(clnf, image, fit, calibration=1.0)
            return fit.landmarks, found.landmarks, fit.success

        return lax.map(one, (gray, boxes, points))

    factor = model.clnf.main.experts[-1].calibration
    for pictures in sets:
        truth = pictures.truth
        boxes = np.concatenate([truth.min(1), truth.max(1)], axis=1).astype(np.float32)
        groups = model.clnf.scheme.five_points
        five = np.stack([truth[:, list(group)].mean(1) for group in groups], axis=1)
        chunks = [
            run(
                model.clnf, *(jnp.asarray(a[i : i + _FRAMES]) for a in (pictures.gray, boxes, five))
            )
            for i in range(0, len(truth), _FRAMES)
        ]
        found = [np.concatenate(parts) for parts in zip(*chunks, strict=True)]
        yield _row(model.info.name, pictures, factor, *found)


def _row(
    name: str,
    pictures: Pictures,
    factor: float,
    landmarks: np.ndarray,
    covariances: np.ndarray,
    success: np.ndarray,
) -> Row:
    truth, seen = pictures.truth[success], pictures.seen[success]
    eyes = np.linalg.norm(truth[:, 36] - truth[:, 45], axis=1)[:, None]
    away, spread = landmarks[success] - truth, covariances[success].astype(np.float64)
    square = np.einsum("fna,fna->fn", away, np.linalg.solve(spread, away[..., None])[..., 0])
    limits = -2 * np.log1p(-np.array(LEVELS) / 100)  # chi squared of two dimensions
    inside = square[..., None] <= factor * limits
    ninety = inside[..., LEVELS.index(90)]
    deviation = np.sqrt(factor * np.trace(spread, axis1=2, axis2=3) / 2)
    return Row(
        model=name,
        pictures=pictures.name,
        faces=int(success.sum()),
        accepted=100 * float(success.mean()),
        error=float(np.median((100 * np.linalg.norm(away, axis=-1) / eyes)[seen])),
        deviation=float(np.median((100 * deviation / eyes)[seen])),
        covered=tuple(100 * float(level[seen].mean()) for level in np.moveaxis(inside, -1, 0)),
        regions=tuple(
            100 * float(ninety[:, list(p)][seen[:, list(p)]].mean()) for p in _REGIONS.values()
        ),
        calibration=float(np.quantile(square[seen], 0.9) / limits[LEVELS.index(90)]),
    )


def rendered(heads: int, people: int) -> list[Pictures]:
    """Made-up heads of two seeds, and portraits seen anew."""
    data = shared() / "training"
    split = load_tools(data).portraits.split
    behind, held_out = split["train"][:_BEHIND], split["test"][:people]
    with tempfile.TemporaryDirectory() as folder:
        sampler = load_sampler(data, folder, people=[*behind.tolist(), *held_out.tolist()])
    sets = [
        heads_of(sampler, heads, seed, name)
        for seed, name in ((_CALIBRATED, "heads of the calibration"), (_OTHERS, "other heads"))
    ]
    if people:
        rng, chosen = np.random.default_rng(_OTHERS), np.tile(held_out, 5)
        samples = [sample_portrait(sampler, rng, person=int(p), config=_PORTRAITS) for p in chosen]
        sets.append(gather(sampler, samples, "portraits, held out"))
    return sets


def heads_of(sampler: Sampler, count: int, seed: int, name: str) -> Pictures:
    """Clean made-up heads, turned by up to 30 degrees."""
    rng = np.random.default_rng(seed)
    return gather(sampler, [sample_head(sampler, rng, config=_HEADS) for _ in range(count)], name)


def gather(sampler: Sampler, samples: Sequence[Sample], name: str) -> Pictures:
    """Pictures on the canvas, landmarks in the convention of results."""
    turns = euler_to_matrix(np.stack([s.rotation for s in samples]))
    scales = np.array([s.scale for s in samples])
    moved = picture_offsets(sampler.tools.head, turns, scales)
    truth = np.stack([s.landmarks for s in samples]) + moved
    gray = np.stack([_place(s.image) for s in samples])
    seen = np.stack([s.visible for s in samples])
    return Pictures(name, gray, truth.astype(np.float32), seen)


def talking_head() -> Pictures:
    """Frames of the clip that comes with the repository."""
    data = ROOT / "bench" / "data"
    columns = read_columns(data / "talking_head.csv")
    truth = np.stack([[columns[f"{a}_{i}"] for a in "xy"] for i in range(68)]).transpose(2, 0, 1)
    frames = list(jaxface.read_video(data / "talking_head.mp4"))
    chosen = np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int)
    gray = np.stack([_place(np.asarray(frames[i])) for i in chosen])
    truth = truth[chosen].astype(np.float32)
    return Pictures("talking head", gray, truth, np.ones(truth.shape[:2], bool))


def _place(image: np.ndarray) -> np.ndarray:
    """Luma at the top left of the canvas."""
    gray, canvas = np.asarray(jaxface.to_gray(jnp.asarray(image))), np.zeros(_CANVAS, np.float32)
    canvas[: gray.shape[0], : gray.shape[1]] = gray
    return canvas


def shared() -> Path:
    """Folder of the shared data."""
    return Path(os.environ.get("JAXFACE_SHARED", ROOT.parent / "shared"))


def to_markdown(rows: Sequence[Row]) -> str:
    """A table with one row for each model and set."""
    levels = " | ".join(f"{level} %" for level in LEVELS)
    head = "| model | pictures | accepted, % | error, % | deviation, % "
    head += f"| {levels} | {', '.join(_REGIONS)} at 90 % | calibration for 90 % |"
    lines = [head, "|---" * (7 + len(LEVELS)) + "|"]
    for row in rows:
        cells = [
            row.model,
            row.pictures,
            f"{row.accepted:.0f} (of {row.faces / row.accepted * 100:.0f})",
        ]
        cells += [f"{row.error:.1f}", f"{row.deviation:.1f}"]
        cells += [f"{value:.1f}" for value in row.covered]
        cells += [", ".join(f"{value:.0f}" for value in row.regions), f"{row.calibration:.3g}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
