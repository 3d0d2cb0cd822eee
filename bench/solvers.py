"""How near each solver comes to the truth, from starts that are moved, scaled and turned.

Usage: python bench/solvers.py [--model NAME|PATH] [--starts N] [--solvers NAME ...]
       [--rounds N ...] [--json FILE]

Three sets of pictures: OpenFace's samples, the talking head, and rendered heads. Each start is the
mean shape in the pose of the fixed point, moved, scaled and turned by 3, 6 and 10 %: of the face's
width, of its scale, and of a radian about each axis. There are N starts of each size on each set.

The truth of the rendered heads and of the talking head is what was drawn. The samples have none;
there it is the fixed point: where ten rounds of Levenberg-Marquardt end that start from OpenFace's
own landmarks. The objective is `fit_objective` at the finest scale, with the response maps around
the result itself. Needs the shared data ($JAXFACE_SHARED, or ../shared), and the extras `train` and
`solvers`.
"""

import argparse
import dataclasses
import datetime
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

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

SOLVERS = ("nu_rlms", "gauss_newton", "levenberg_marquardt", "bfgs", "adam")
_SIZES = (3, 6, 10)  # percent
_NEAR = 2.0  # percent of the distance of the outer eye corners
_CANVAS = (480, 640)  # px, of all pictures: one program for all
_HEADS, _FRAMES = 10, 10
_BEHIND = 2  # people whose photographs, without their faces, are what stands behind heads
_TIMED, _REPEATS = 20, 5  # starts, and how often; the fastest counts
_SEED = 5


@dataclasses.dataclass
class Pictures:
    """Pictures of one face each, and where its landmarks are."""

    name: str
    gray: np.ndarray  # p h w
    truth: np.ndarray  # p 68 2, px, as results hold them
    known: bool  # whether the truth was known before the picture was there


@dataclasses.dataclass(frozen=True)
class Row:
    """What one solver reached on one set from starts of one size."""

    pictures: str
    size: int  # of the start's error, percent
    solver: str
    rounds: int
    objective: float  # px^2, mean
    fixed_point: float  # distance of the landmarks to it, px, mean
    truth: float  # distance to it, percent of the eye distance, mean
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
    rows = list(measure(model, arguments.starts, arguments.solvers, arguments.rounds))
    if arguments.json:
        about = {"model": model.info.name, "starts": arguments.starts}
        about |= {"date": f"{datetime.date.today()}", "jax": jax.__version__}
        about |= {"device": jax.devices()[0].device_kind}
        records = [dataclasses.asdict(row) for row in rows]
        arguments.json.write_text(json.dumps(about | {"rows": records}, indent=1) + "\n")
    print(to_markdown(rows))
    return 0


def measure(
    model: Model, count: int, solvers: Sequence[str], rounds: Sequence[int]
) -> Iterator[Row]:
    """One row for each set, size of start, solver and number of rounds."""
    sets = [samples(), talking_head(), rendered_heads()]
    ready = []
    for pictures in sets:
        near = jax.vmap(lambda t: fit_pdm_to_landmarks(model.clnf.main.pdm, t))(pictures.truth)
        places = np.arange(len(pictures.gray), dtype=np.int32)
        fixed = _run(model, "levenberg_marquardt", 10)(pictures.gray, places, near)
        if not pictures.known:
            pictures.truth = np.asarray(fixed[0])
        ready.append((pictures, fixed, {s: starts(model, fixed[1], s, count) for s in _SIZES}))
    for solver in solvers:
        for number in rounds:
            run = _run(model, solver, number)
            begun = time.perf_counter()
            for pictures, fixed, all_starts in ready:
                for size, (places, first) in all_starts.items():
                    found = run(pictures.gray, places, first)
                    ms = _time(run, pictures.gray, places, first)
                    yield _row(pictures, fixed, places, found, solver, number, size, ms)
            spent = time.perf_counter() - begun
            print(f"{solver}, {number}: {spent:.0f} s", file=sys.stderr, flush=True)


def _run(model: Model, solver: str, rounds: int):
    """A program that fits many starts: landmarks, parameters and objective of each."""
    clnf, size = model.clnf, jnp.asarray(_CANVAS, jnp.int32)
    config = dataclasses.replace(clnf.config, solver=solver, rounds=rounds, refine_parts=False)
    plan = plan_scales(clnf.main, config, Phase.INIT)
    finest = max(i for i, settings in enumerate(plan) if settings is not None)
    settings = plan[finest]
    assert settings is not None

    @jax.jit
    def run(clnf, gray, places, parameters):
        def one(start):
            place, first = start
            image = gray[place].astype(jnp.float32)
            fit = dataclasses.replace(empty_fit(clnf), parameters=first)
            how = {"phase": Phase.INIT, "phases": (Phase.INIT,), "config": config}
            found = refine_fit(clnf, image, fit, size=size, **how)
            where = {"scale": finest, "window": settings.window}
            frame, _ = response_frame(clnf.main, image, found.parameters, **where)
            pdm, reached = clnf.main.pdm, found.parameters
            value = fit_objective(pdm, frame, reached, config=settings)
            return report_fit(clnf, found).landmarks, reached, value

        return lax.map(one, (places, parameters))

    return lambda gray, places, parameters: jax.block_until_ready(
        run(clnf, jnp.asarray(gray), places, parameters)
    )


def _time(run, gray, places, first) -> float:
    """Milliseconds of one fit; the objective that is computed with it costs a scale's maps."""
    few = jax.tree.map(lambda leaf: leaf[:_TIMED], (places, first))
    best = np.inf
    for _ in range(_REPEATS + 1):  # the first one compiles
        begun = time.perf_counter()
        run(gray, *few)
        best = min(best, time.perf_counter() - begun)
    return 1e3 * best / len(few[0])


def starts(
    model: Model, fixed: PDMParameters, size: int, count: int
) -> tuple[np.ndarray, PDMParameters]:
    """Pictures by number, and parameters on each that are `size` percent off."""
    rng = np.random.default_rng([_SEED, size])
    share = size / 100
    places = np.arange(count, dtype=np.int32) % len(fixed.scale)
    points = jax.vmap(lambda p: shape_2d(model.clnf.main.pdm, p))(fixed)
    width = np.ptp(np.asarray(points)[..., 0], axis=1)[places]
    angle = rng.uniform(0, 2 * np.pi, count)
    move = share * width[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    turn = share * rng.choice([-1, 1], (count, 3))
    grow = 1 + share * rng.choice([-1, 1], count)
    chosen = jax.tree.map(lambda leaf: np.asarray(leaf)[places], fixed)
    first = PDMParameters(
        scale=chosen.scale * grow,
        rotation=chosen.rotation + turn,
        translation=chosen.translation + move,
        local=np.zeros_like(chosen.local),
    )
    return places, jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), first)


def _row(pictures, fixed, places, found, solver, rounds, size, ms) -> Row:
    truth, ends = pictures.truth[places], np.asarray(found[0])
    eyes = np.linalg.norm(truth[:, 36] - truth[:, 45], axis=1)
    away = np.linalg.norm(ends - truth, axis=-1).mean(axis=1)
    missed = np.linalg.norm(ends - np.asarray(fixed[0])[places], axis=-1).mean(axis=1)
    near = 100 * float(np.mean(100 * away / eyes < _NEAR))
    return Row(
        pictures=pictures.name,
        size=size,
        solver=solver,
        rounds=rounds,
        objective=float(np.mean(found[2])),
        fixed_point=float(missed.mean()),
        truth=float(np.mean(100 * away / eyes)),
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
    """Made-up heads, clean, turned by up to 30 degrees."""
    config = SampleConfig(size=320, degrade=0.0, occlude=0.0, yaw=30.0, pitch=15.0, roll=15.0)
    data = _shared() / "training"
    behind = load_tools(data).portraits.split["train"][:_BEHIND].tolist()
    with tempfile.TemporaryDirectory() as folder:
        sampler = load_sampler(data, folder, people=behind)
    rng = np.random.default_rng(_SEED)
    heads = [sample_head(sampler, rng, config=config) for _ in range(_HEADS)]
    return _gather("rendered heads", [(h.image, h.landmarks) for h in heads], known=True)


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
            return " / ".join("" if v is None else f"{v:.{digits}f}" for v in values)

        truth = side("truth", 2) if same[0].near_truth is not None else ""
        near = side("near_truth", 0) if same[0].near_truth is not None else ""
        cells = [*map(str, key), side("objective", 0), side("fixed_point", 2), truth]
        cells += [side("near", 0), near, f"{min(row.ms for row in same):.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
