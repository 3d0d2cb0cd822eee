"""Trains the parts of the landmark model one after the other and puts them together.

Every part leaves a safetensors file, its figures as JSON and its loss curves as PNG in the
output folder; pictures and checkpoints lie in its `cache`.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ...fit import (
    CLNF,
    OPENFACE_FIT,
    OPENFACE_WILD_FIT,
    PDM,
    CCNFExperts,
    Guided,
    LandmarkModel,
    Part,
    ShapeRegressor,
    Validator,
    base_settings,
)
from ...models import read_module, write_module
from ...types import MULTI_PIE_68
from ..data import convention_pdm
from ..landmarks import (
    PLANS,
    SCALES,
    TRAINED_VIEWS,
    VIEWS,
    PDMConfig,
    RegressorConfig,
    Source,
    TrainedView,
    TrainExpertsConfig,
    TrainEyesConfig,
    ValidatorConfig,
    blank_validator,
    face_triangles,
    fitted_starts,
    measure_regressor,
    train_experts,
    train_eye_pdm,
    train_eyes,
    train_pdm,
    train_regressor,
    train_validator,
    true_parameters,
    with_mirror_images,
)
from ..loop import draw_curves, draw_losses
from ..render import (
    REGISTRATION,
    SHARD,
    PictureConfig,
    Pictures,
    SampleConfig,
    Sampler,
    draw_pictures,
    join,
    load_sampler,
    sample_negative,
)

_SIZE, _FACE = 256, (0.25, 0.65)  # of the pictures, px, and of the face in them
_LARGE_FACE = (0.8, 1.3)  # for the eyes; more than the picture shows
_NEAR_FRONTAL, _PROFILE = 20.0, 90.0  # degrees of yaw
# For the regressor, which sees whole faces in few pixels; tilted as heads of a search may be.
_WHOLE = SampleConfig(size=128, face=(0.38, 0.6), roll=60.0)
_WHOLE_PROFILE, _WHOLE_SEED, _WHOLE_TESTED = 80.0, 11, 300
EYES = ("left_eye_28", "right_eye_28")
REPORTED = "reported_pdm"

Report = Callable[[str, int], None]  # name of a step, how much of it is done


@dataclasses.dataclass(frozen=True, kw_only=True)
class LandmarkConfig:
    """How much data the landmark model is trained on, and all settings of its parts."""

    portraits: int = 3000  # at any yaw within 60 degrees
    frontal: int = 3000  # portraits within 20 degrees
    heads: int = 2000
    eye_portraits: int = 600
    eye_heads: int = 600
    negatives: int = 400
    whole_portraits: int = 8000
    whole_heads: int = 4000
    seed: int = 0
    pdm: PDMConfig = PDMConfig()
    experts: TrainExpertsConfig = TrainExpertsConfig()
    validator: ValidatorConfig = ValidatorConfig()
    eyes: TrainEyesConfig = TrainEyesConfig()
    regressor: RegressorConfig = RegressorConfig()


def landmark_config(*, seed: int = 0, share: float = 1.0) -> LandmarkConfig:
    """The usual settings with another seed, or with a share of the pictures.

    Raises:
        ValueError: the share is not positive.
    """
    if not share > 0:
        raise ValueError(f"share: expected a positive number, got {share}")
    usual = LandmarkConfig()
    counts = ("portraits", "frontal", "heads", "eye_portraits", "eye_heads", "negatives")
    counts += ("whole_portraits", "whole_heads")
    fewer = {name: max(int(share * getattr(usual, name)), 1) for name in counts}
    examples = max(int(share * usual.experts.examples), usual.experts.program.batch)
    recipe = usual.regressor.recipe
    recipe = dataclasses.replace(recipe, steps=max(int(share * recipe.steps), 10))
    return dataclasses.replace(
        usual,
        **fewer,
        seed=seed,
        pdm=dataclasses.replace(usual.pdm, seed=seed),
        experts=dataclasses.replace(usual.experts, seed=seed, examples=examples),
        validator=dataclasses.replace(usual.validator, seed=seed),
        eyes=dataclasses.replace(usual.eyes, seed=seed),
        regressor=dataclasses.replace(usual.regressor, seed=seed, recipe=recipe),
    )


def planned_steps(part: str, config: LandmarkConfig) -> dict[str, int]:
    """How much each step of a part's training will report, for a progress bar."""

    def drawn(*counts: int) -> int:
        return sum(-(-count // SHARD) * SHARD for count in counts)

    faces = drawn(config.portraits, config.frontal, config.heads)
    eyes = drawn(config.eye_portraits, config.eye_heads)
    epochs = config.experts.program.epochs * len(PLANS) * TRAINED_VIEWS
    return {
        "detector": {},  # shows bars of its own
        "pdm": {"shapes": 1},
        "experts": {"pictures": faces, "experts": epochs},
        "validator": {"pictures": faces, "validator": config.validator.epochs},
        "eyes": {"pictures": eyes, "eyes": config.eyes.program.epochs * len(SCALES)},
        # Its steps have a bar of their own.
        "regressor": {"pictures": drawn(config.whole_portraits, config.whole_heads)},
    }[part]


@dataclasses.dataclass(frozen=True)
class Workplace:
    """Data and output of one training."""

    data: Path
    out: Path
    sampler: Sampler

    @property
    def checkpoints(self) -> Path:
        return self.out / "cache" / "checkpoints"

    def part(self, name: str) -> Path:
        """File of a trained part."""
        return self.out / "parts" / f"{name}.safetensors"


def open_workplace(data: Path | str, out: Path | str, *, people: int | None = None) -> Workplace:
    """Reads the data and registers the portraits, unless an earlier run has.

    Args:
        data: folder that holds `portraits/` and `ict-facekit/`.
        out: folder of parts, figures and cache; created if need be.
        people: only the first so many.
    """
    folder = Path(out)
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    chosen = None if people is None else range(people)
    sampler = load_sampler(data, folder / REGISTRATION, people=chosen)
    return Workplace(Path(data), folder, sampler)


def _face_pictures(place: Workplace, config: LandmarkConfig, report: Report) -> Source:
    """Pictures of the training part, with their mirror images, and their true parameters."""
    kinds = (
        (config.portraits, "portrait", SampleConfig(size=_SIZE, face=_FACE), 0),
        (config.frontal, "portrait", SampleConfig(size=_SIZE, face=_FACE, yaw=_NEAR_FRONTAL), 5),
        (config.heads, "head", SampleConfig(size=_SIZE, face=_FACE, yaw=_PROFILE), 0),
    )
    pictures = with_mirror_images(_draw(place, config, kinds, report))
    return Source(pictures, true_parameters(_pdm(place), pictures))


def _draw(
    place: Workplace,
    config: LandmarkConfig,
    kinds: tuple[tuple[int, str, SampleConfig, int], ...],
    report: Report,
) -> Pictures:
    return join(
        [
            draw_pictures(
                place.sampler,
                place.out / "cache" / "pictures",
                PictureConfig(kind=kind, count=count, sample=sample, seed=config.seed + seed),
                progress=lambda done: report("pictures", done),
            )
            for count, kind, sample, seed in kinds
            if count
        ]
    )


def _pdm(place: Workplace) -> PDM:
    return read_module(place.part("pdm"))


def _experts(place: Workplace) -> tuple[CCNFExperts, ...]:
    return tuple(read_module(place.part(f"experts-{index}")) for index in range(len(PLANS)))


def make_pdm(place: Workplace, config: LandmarkConfig, report: Report) -> Mapping[str, object]:
    """Trains and stores the PDM; returns its figures."""
    pdm, found = train_pdm(place.sampler, config.pdm)
    write_module(pdm, place.part("pdm"))
    write_module(convention_pdm(pdm, place.sampler.tools.head), place.part(REPORTED))
    report("shapes", 1)
    return _store_figures(place, "pdm", dataclasses.asdict(found))


def make_experts(place: Workplace, config: LandmarkConfig, report: Report) -> Mapping[str, object]:
    """Trains and stores the patch experts; needs the PDM. Returns their figures."""
    source = _face_pictures(place, config, report)
    experts, trained = train_experts(
        _pdm(place),
        source,
        place.checkpoints,
        config.experts,
        progress=lambda done: report("experts", done),
    )
    for index, part in enumerate(experts):
        write_module(part, place.part(f"experts-{index}"))
    _draw_expert_curves(place.out / "experts.png", trained)
    figures = {
        f"scale {plan.scale}, yaw {VIEWS[v]}": {
            "visible": int(view.visible.sum()),
            "misplaced, rms mm": round(_rms(view) / plan.scale, 3),
            "cross entropy": round(float(view.curve[-1, 0]), 4),
        }
        for plan, views in zip(PLANS, trained, strict=True)
        for v, view in enumerate(views)
    }
    return _store_figures(place, "experts", figures)


def _rms(view: TrainedView) -> float:
    return float(np.sqrt(view.misplaced[view.visible].mean()))


def _draw_expert_curves(path: Path, trained: list[list[TrainedView]]) -> None:
    panels = {
        f"scale {plan.scale}": {f"yaw {VIEWS[v]}": view.curve[:, 0] for v, view in enumerate(views)}
        for plan, views in zip(PLANS, trained, strict=True)
    }
    draw_curves(path, panels)


def make_validator(
    place: Workplace, config: LandmarkConfig, report: Report
) -> Mapping[str, object]:
    """Trains and stores the validator; needs PDM and experts. Returns its figures."""
    source, pdm = _face_pictures(place, config, report), _pdm(place)
    rng = np.random.default_rng([config.seed, 99])
    size = SampleConfig(size=_SIZE)
    found = [sample_negative(place.sampler, rng, config=size) for _ in range(config.negatives)]
    negatives = np.stack([np.rint(image @ _LUMA).astype(np.uint8) for image in found])
    triangles = face_triangles(pdm)
    blank = blank_validator(pdm, triangles, config.validator)
    rows = rng.permutation(len(source.pictures))[: config.validator.fits]
    fits = rows, fitted_starts(pdm, _experts(place), blank, source, rows, rng)
    validator, figures, curve = train_validator(
        pdm,
        triangles,
        source,
        negatives,
        place.checkpoints,
        config.validator,
        fits=fits,
        progress=lambda done: report("validator", done),
    )
    write_module(validator, place.part("validator"))
    draw_curves(place.out / "validator.png", {"validator": {"cross entropy": curve}})
    return _store_figures(place, "validator", figures)


_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def make_eyes(place: Workplace, config: LandmarkConfig, report: Report) -> Mapping[str, object]:
    """Trains and stores both eye models; returns their figures."""
    large = SampleConfig(size=_SIZE, face=_LARGE_FACE, yaw=35.0)
    kinds = ((config.eye_portraits, "portrait", large, 0), (config.eye_heads, "head", large, 0))
    pictures = with_mirror_images(_draw(place, config, kinds, report))
    pdm, kept = train_eye_pdm(place.sampler, seed=config.seed)
    parts, missed, curves = train_eyes(
        pdm,
        pictures,
        place.checkpoints,
        config.eyes,
        progress=lambda done: report("eyes", done),
    )
    for name, part in zip(EYES, parts, strict=True):
        write_module(part, place.part(name))
    panels = {f"scale {s}": {"eye": c[:, 0]} for s, c in zip(SCALES, curves, strict=True)}
    draw_curves(place.out / "eyes.png", panels)
    figures: dict[str, object] = {"variance kept": round(kept, 4)}
    for scale, row in zip(SCALES, missed, strict=True):
        groups = {"iris": row[:8].mean(), "lids": row[8:20].mean()}
        figures[f"scale {scale}, rms mm"] = {k: round(float(v), 3) for k, v in groups.items()}
    return _store_figures(place, "eyes", figures)


def make_regressor(
    place: Workplace, config: LandmarkConfig, report: Report
) -> Mapping[str, object]:
    """Trains and stores the network that guesses pose and shape; needs the PDM. Returns its
    figures."""
    profiles = dataclasses.replace(_WHOLE, yaw=_WHOLE_PROFILE)
    kinds = (
        (config.whole_portraits, "portrait", _WHOLE, _WHOLE_SEED),
        (config.whole_heads, "head", profiles, _WHOLE_SEED),
    )
    pictures, pdm = with_mirror_images(_draw(place, config, kinds, report)), _pdm(place)
    source = Source(pictures, true_parameters(pdm, pictures))
    trained = train_regressor(pdm, source, place.checkpoints, config.regressor)
    write_module(trained.model, place.part("regressor"))
    draw_losses(place.out / "regressor.png", "regressor", trained.losses)
    if not len(place.sampler.of_split("test")):
        return _store_figures(place, "regressor", {})
    drawn = PictureConfig(split="test", count=_WHOLE_TESTED, seed=config.seed, sample=_WHOLE)
    tested = draw_pictures(place.sampler, place.out / "cache" / "pictures", drawn)
    figures = measure_regressor(pdm, trained.model, tested)
    return _store_figures(place, "regressor", figures)


def _store_figures(
    place: Workplace, name: str, figures: Mapping[str, object]
) -> Mapping[str, object]:
    path = place.part(name).with_suffix(".json")
    path.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


MAKERS = {
    "pdm": make_pdm,
    "experts": make_experts,
    "validator": make_validator,
    "eyes": make_eyes,
    "regressor": make_regressor,
}


def assemble_clnf(folder: Path | str) -> CLNF:
    """Puts the trained parts of an output folder together; `prepare_clnf` comes next.

    Raises:
        ModelFileError: a part is missing.
    """
    parts = Path(folder) / "parts"

    def read(name: str) -> PDM | CCNFExperts | Validator | Part | ShapeRegressor:
        return read_module(parts / f"{name}.safetensors")

    pdm = read("pdm")
    assert isinstance(pdm, PDM)
    experts = tuple(read(f"experts-{index}") for index in range(len(PLANS)))
    triangles = tuple((int(a), int(b), int(c)) for a, b, c in face_triangles(pdm))
    return CLNF(
        main=LandmarkModel(pdm, experts),  # pyright: ignore[reportArgumentType]
        parts=tuple(read(name) for name in EYES),  # pyright: ignore[reportArgumentType]
        validator=read("validator"),  # pyright: ignore[reportArgumentType]
        search=Guided(
            five_points=MULTI_PIE_68.five_points,
            regressor=read("regressor"),  # pyright: ignore[reportArgumentType]
        ),
        scheme=dataclasses.replace(MULTI_PIE_68, triangles=triangles),
        config=base_settings(OPENFACE_FIT),
        wild=base_settings(OPENFACE_WILD_FIT),
    )
