"""How near each solver comes to the truth, from starts that are moved, scaled and turned.

Usage: python bench/solvers.py [--model NAME|PATH] [--starts N] [--solvers NAME ...]
       [--rounds N ...] [--json FILE]

Three sets of pictures: OpenFace's samples, the talking head, and rendered heads. Each start is the
mean shape in the pose of the fixed point, moved, scaled and turned by 3, 6 and 10 %: of the face's
width, of its scale, and of a radian about each axis. There are N starts on each set, a third of
each size.

The truth of the rendered heads and of the talking head is what was drawn, in the convention of
results. The samples have none; there it is the fixed point: where ten rounds of Levenberg-Marquardt
end that start from OpenFace's own landmarks. Distances are medians over the starts, as some faces
are lost from anywhere. The objective is `fit_objective` at the finest scale,
with the response maps around the result itself. Needs the shared data ($JAXFACE_SHARED, or
../shared), and the extras `train` and `solvers`.
"""

import argparse
import dataclasses
import datetime
import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

# NumPy's threads would take the cores from XLA's. Read when NumPy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax import lax  # noqa: E402

import jaxface  # noqa: E402
from jaxface import Model, PDMParameters  # noqa: E402
from jaxface.fit import (  # noqa: E402
    Phase,
    ScaleConfig,
    empty_fit,
    fit_objective,
    fit_pdm_to_landmarks,
    plan_scales,
    refine_fit,
    report_fit,
    response_frame,
    shape_2d,
)
from jaxface.reference.comparison.talking_head import read_columns  # noqa: E402
from jaxface.training import SampleConfig, load_sampler, load_tools, sample_head  # noqa: E402
from jaxface.training.data import euler_to_matrix, picture_offsets  # noqa: E402

SOLVERS = ("nu_rlms", "gauss_newton", "levenberg_marquardt", "bfgs", "adam")
_SIZES = (3, 6, 10)  # percent
_NEAR = 2.0  # percent of the distance of the outer eye corners
_CANVAS = (480, 640)  # px, of all pictures: one program for all
_HEADS, _FRAMES = 30, 10
_BEHIND = 2  # people whose photographs, without their faces, are what stands behind heads
_BATCH = 25  # starts in one call; the fastest call counts
_MANY = 10  # rounds after which a fit stands still
_SEED = 5


@dataclasses.dataclass
class Pictures:
    """Pictures of one face each, and where its landmarks are."""

    name: str
    gray: np.ndarray  # p h w
    truth: np.ndarray  # p 68 2, px, as results hold them
    known: bool  # whether the truth was known before the picture was there


class Starts(NamedTuple):
    """Where fits start, one row each."""

    places: np.ndarray  # number of the picture
    parameters: PDMParameters


class Found(NamedTuple):
    """Where fits end, one row each."""

    landmarks: np.ndarray  # px, as results hold them
    parameters: PDMParameters
    objective: np.ndarray

    def take(self, rows: slice) -> "Found":
        return jax.tree.map(lambda leaf: leaf[rows], self)


@dataclasses.dataclass(frozen=True)
class Row:
    """What one solver reached on one set from starts of one size."""

    pictures: str
    size: int  # of the start's error, percent
    solver: str
    rounds: int
    objective: float  # px^2, mean
    fixed_point: float  # distance of the landmarks to it, px, median of the starts
    truth: float | None  # distance to it, percent of the eye distance, median; None: not known
    near: float  # percent of the starts that end within 2 % of the fixed point
    near_truth: float | None  # and of the truth
    ms: float  # of one fit without parts


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Compares solvers.")
    parser.add_argument("--model", default="base", metavar="NAME|PATH")
    parser.add_argument("--starts", type=int, default=200, metavar="N")
    parser.add_argument("--solvers", nargs="+", default=SOLVERS, metavar="NAME")
    parser.add_argument("--rounds", nargs="+", type=int, default=(1, 2, 3), metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    arguments = parser.parse_args(argv)
    model = jaxface.load_model(arguments.model)
    rows: list[Row] = []
    for row in measure(model, arguments.starts, arguments.solvers, arguments.rounds):
        rows.append(row)
        if arguments.json:  # all that is known so far
            _store(arguments.json, model.info.name, arguments.starts, rows)
    print(to_markdown(rows))
    return 0


def _store(path: Path, model: str, count: int, rows: Sequence[Row]) -> None:
    about = {"model": model, "starts": count, "date": f"{datetime.date.today()}"}
    about |= {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
    records = [dataclasses.asdict(row) for row in rows]
    path.write_text(json.dumps(about | {"rows": records}, indent=1) + "\n")


def measure(
    model: Model, count: int, solvers: Sequence[str], rounds: Sequence[int]
) -> Iterator[Row]:
    """One row for each set, size of start, solver and number of rounds."""
    sets = [samples(), talking_head(), rendered_heads()]
    gray = jnp.concatenate([jnp.asarray(pictures.gray) for pictures in sets])
    truth = np.concatenate([pictures.truth for pictures in sets])
    near = jax.vmap(lambda points: fit_pdm_to_landmarks(model.clnf.main.pdm, points))(truth)
    everywhere = Starts(np.arange(len(truth), dtype=np.int32), near)
    fixed, _ = _fit(model, gray, everywhere, "levenberg_marquardt", _MANY)
    for pictures, rows in zip(sets, _rows_of(sets), strict=True):
        truth[rows] = truth[rows] if pictures.known else fixed.landmarks[rows]
    groups = [
        (pictures, size, starts(model, fixed, rows, size, count // len(_SIZES)))
        for pictures, rows in zip(sets, _rows_of(sets), strict=True)
        for size in _SIZES
    ]
    together = Starts(
        np.concatenate([group[2].places for group in groups]),
        jax.tree.map(lambda *leaves: np.concatenate(leaves), *(g[2].parameters for g in groups)),
    )
    for solver in solvers:
        for number in rounds:
            begun = time.perf_counter()
            found, ms = _fit(model, gray, together, solver, number)
            for i, (pictures, size, group) in enumerate(groups):
                some = found.take(slice(i * len(group.places), (i + 1) * len(group.places)))
                at = truth[group.places], fixed.landmarks[group.places]
                yield _row(pictures, size, *at, some, solver, number, ms)
            spent = time.perf_counter() - begun
            print(f"{solver}, {number}: {ms:.1f} ms, {spent:.0f} s", file=sys.stderr, flush=True)


def _rows_of(sets: Sequence[Pictures]) -> list[np.ndarray]:
    """Which of all pictures are those of each set."""
    ends = np.cumsum([len(pictures.gray) for pictures in sets])
    return np.split(np.arange(ends[-1]), ends[:-1])


def _fit(
    model: Model, gray: jax.Array, starts: Starts, solver: str, rounds: int
) -> tuple[Found, float]:
    """Fits in batches of a fixed size; also the milliseconds of one fit in the fastest batch."""
    clnf, size = model.clnf, jnp.asarray(_CANVAS, jnp.int32)
    config = dataclasses.replace(clnf.config, solver=solver, rounds=rounds, refine_parts=False)

    @jax.jit
    def run(clnf, gray, places, parameters):
        def one(start):
            place, first = start
            fit = dataclasses.replace(empty_fit(clnf), parameters=first)
            how = {"phase": Phase.INIT, "phases": (Phase.INIT,), "config": config}
            found = refine_fit(clnf, gray[place].astype(jnp.float32), fit, size=size, **how)
            return report_fit(clnf, found).landmarks, found.parameters

        return lax.map(one, (places, parameters))

    found, seconds = [], []
    for rows in _batches(len(starts.places)):
        some = starts.places[rows], jax.tree.map(lambda leaf, r=rows: leaf[r], starts.parameters)
        begun = time.perf_counter()
        ends = jax.block_until_ready(run(clnf, gray, *some))
        seconds.append(time.perf_counter() - begun)
        value = _objectives(clnf, gray, some[0], ends[1], _finest(model))
        found.append((*ends, value))
    rows = np.unique(np.concatenate(_batches(len(starts.places))), return_index=True)[1]
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves)[rows], *found)
    return Found(*joined), 1e3 * min(seconds) / _BATCH


def _batches(count: int) -> list[np.ndarray]:
    """Numbers of the starts of each batch; the last one ends with the last start."""
    firsts = [*range(0, max(count - _BATCH, 0), _BATCH), count - _BATCH]
    return [np.arange(first, first + _BATCH) % count for first in firsts]


def _finest(model: Model) -> tuple[int, ScaleConfig]:
    """The last scale of a fit, and its settings."""
    plan = plan_scales(model.clnf.main, model.clnf.config, Phase.INIT)
    return [(i, settings) for i, settings in enumerate(plan) if settings is not None][-1]


@functools.partial(jax.jit, static_argnums=4)
def _objectives(clnf, gray, places, parameters, finest):
    """The objective with response maps around the parameters themselves."""
    index, settings = finest

    def one(result):
        place, reached = result
        image, pdm = gray[place].astype(jnp.float32), clnf.main.pdm
        where = {"scale": index, "window": settings.window}
        frame, _ = response_frame(clnf.main, image, reached, **where)
        return fit_objective(pdm, frame, reached, config=settings)

    return lax.map(one, (places, parameters))


def starts(model: Model, fixed: Found, rows: np.ndarray, size: int, count: int) -> Starts:
    """Parameters on some pictures that are `size` percent off."""
    rng = np.random.default_rng([_SEED, size])
    share, places = size / 100, rows[np.arange(count) % len(rows)].astype(np.int32)
    chosen = jax.tree.map(lambda leaf: leaf[places], fixed.parameters)
    points = np.asarray(jax.vmap(lambda p: shape_2d(model.clnf.main.pdm, p))(chosen))
    angle = rng.uniform(0, 2 * np.pi, count)
    away = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    first = PDMParameters(
        scale=chosen.scale * (1 + share * rng.choice([-1, 1], count)),
        rotation=chosen.rotation + share * rng.choice([-1, 1], (count, 3)),
        translation=chosen.translation + share * np.ptp(points[..., 0], axis=1)[:, None] * away,
        local=np.zeros_like(chosen.local),
    )
    return Starts(places, jax.tree.map(lambda leaf: leaf.astype(np.float32), first))


def _row(pictures, size, truth, fixed, found: Found, solver, rounds, ms) -> Row:
    eyes = np.linalg.norm(truth[:, 36] - truth[:, 45], axis=1)
    away = np.linalg.norm(found.landmarks - truth, axis=-1).mean(axis=1)
    missed = np.linalg.norm(found.landmarks - fixed, axis=-1).mean(axis=1)
    near = 100 * float(np.mean(100 * away / eyes < _NEAR))
    return Row(
        pictures=pictures.name,
        size=size,
        solver=solver,
        rounds=rounds,
        objective=float(np.mean(found.objective)),
        fixed_point=float(np.median(missed)),
        truth=float(np.median(100 * away / eyes)) if pictures.known else None,
        near=100 * float(np.mean(100 * missed / eyes < _NEAR)),
        near_truth=near if pictures.known else None,
        ms=ms,
    )


def _place(image: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Luma on the canvas, made smaller if need be, and the points in it."""
    shrink = min(1, *(side / size for side, size in zip(_CANVAS, image.shape[:2], strict=True)))
    if shrink < 1:
        image = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    canvas = np.zeros(_CANVAS, np.uint8)
    gray = np.asarray(jaxface.to_gray(jnp.asarray(image)))[: _CANVAS[0], : _CANVAS[1]]
    canvas[: gray.shape[0], : gray.shape[1]] = gray
    return canvas, (points + 0.5) * shrink - 0.5


def _gather(name: str, pairs: list[tuple[np.ndarray, np.ndarray]], known: bool) -> Pictures:
    gray, truth = zip(*(_place(*pair) for pair in pairs), strict=True)
    return Pictures(name, np.stack(gray), np.stack(truth).astype(np.float32), known)


def samples() -> Pictures:
    """OpenFace's images of one face, with OpenFace's landmarks."""
    folder, pairs = _shared() / "openface", []
    for name in (f"sample{i}" for i in (1, 2, 3, 4, 5)):
        stored = jaxface.read_csv(folder / "golden" / f"img_{name}" / f"{name}.csv")
        widest = np.argmax(np.ptp(stored.landmarks[..., 0], axis=1))
        image = cv2.imread(str(folder / "samples" / f"{name}.jpg"))
        assert image is not None
        pairs.append((image[..., ::-1].copy(), stored.landmarks[widest]))
    return _gather("samples", pairs, known=False)


def talking_head() -> Pictures:
    """Frames of the clip that comes with the repository."""
    data = ROOT / "bench" / "data"
    columns = read_columns(data / "talking_head.csv")
    truth = np.stack([[columns[f"{a}_{i}"] for a in "xy"] for i in range(68)]).transpose(2, 0, 1)
    frames = list(jaxface.read_video(data / "talking_head.mp4"))
    chosen = np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int)
    return _gather("talking head", [(np.asarray(frames[i]), truth[i]) for i in chosen], known=True)


def rendered_heads() -> Pictures:
    """Made-up heads, clean, turned by up to 30 degrees; landmarks in the convention of results."""
    config = SampleConfig(size=320, degrade=0.0, occlude=0.0, yaw=30.0, pitch=15.0, roll=15.0)
    data = _shared() / "training"
    behind = load_tools(data).portraits.split["train"][:_BEHIND].tolist()
    with tempfile.TemporaryDirectory() as folder:
        sampler = load_sampler(data, folder, people=behind)
    rng = np.random.default_rng(_SEED)
    heads = [sample_head(sampler, rng, config=config) for _ in range(_HEADS)]
    turns = euler_to_matrix(np.stack([head.rotation for head in heads]))
    moved = picture_offsets(sampler.tools.head, turns, np.array([head.scale for head in heads]))
    pairs = [(head.image, head.landmarks + away) for head, away in zip(heads, moved, strict=True)]
    return _gather("rendered heads", pairs, known=True)


def _shared() -> Path:
    return Path(os.environ.get("JAXFACE_SHARED", ROOT.parent / "shared"))


def to_markdown(rows: Sequence[Row]) -> str:
    """One row for each set, solver and number of rounds; sizes of starts side by side."""
    head = "| pictures | solver | rounds | objective, px² | to the fixed point, px "
    head += "| to the truth, % | within 2 % of the fixed point, % | of the truth, % | ms |"
    lines = [head, "|---" * 9 + "|"]
    for key in dict.fromkeys((row.pictures, row.solver, row.rounds) for row in rows):
        same = [row for row in rows if (row.pictures, row.solver, row.rounds) == key]

        def side(name: str, digits: int, same: list[Row] = same) -> str:
            values = [getattr(row, name) for row in same]
            return " / ".join(f"{value:.{digits}f}" for value in values)

        known = same[0].truth is not None
        truth, near = (side("truth", 2), side("near_truth", 0)) if known else ("", "")
        cells = [*map(str, key), side("objective", 0), side("fixed_point", 2), truth]
        cells += [side("near", 0), near, f"{same[0].ms:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
