"""Trains all parts of the model `base` in order, keeps those that are up to date, and stores it.

A part is kept where its stamp names the settings, the data and the other parts that it would be
trained with now; whatever else lies in the folder is trained again.
"""

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ...analyze import FaceAnalyser, no_action_units
from ...fit import CLNF, CCNFExperts, Guided
from ...models import InstalledModel, Model, ModelInfo, read_module, save_model, strip_model
from ..action_units import PART as ACTION_UNITS
from ..action_units import ActionUnitConfig, action_unit_config, planned_series, train_action_units
from ..detector import DetectorRecipe, evaluate_detector, train_detector
from ..loop import fingerprint
from ._landmarks import (
    MAKERS,
    REPORTED,
    LandmarkConfig,
    Workplace,
    assemble_clnf,
    landmark_config,
    planned_steps,
)

NAME = "base"
LICENCE = "Apache-2.0"
SOURCE = "trained by `jaxface train base` on public-domain portraits and ICT-FaceKit (MIT)"
PARTS = ("detector", *MAKERS, ACTION_UNITS)  # in the order of training
_NEEDED = {
    "experts": ("pdm",),
    "validator": ("pdm", "experts"),
    "regressor": ("pdm",),
    # Fits for action units start near the truth, not from the regressor's guess.
    ACTION_UNITS: ("pdm", "experts", "validator", "eyes"),
}
_FILES = {"pdm": "*pdm", "experts": "experts-*", "eyes": "*_eye_28"}

Report = Callable[[str, int], None]
# Trains a part: leaves its files in `parts` and returns its figures.
Train = Callable[[Workplace, Report], object]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """All settings of the model."""

    detector: DetectorRecipe = DetectorRecipe()
    landmarks: LandmarkConfig = LandmarkConfig()
    action_units: ActionUnitConfig = ActionUnitConfig()
    seed: int = 0


def base_config(*, seed: int = 0, share: float = 1.0, people: int | None = None) -> BaseConfig:
    """The usual settings with another seed, fewer people, or a share of the pictures and steps.

    Raises:
        ValueError: the share is not positive.
    """
    landmarks = landmark_config(seed=seed, share=share)
    usual = DetectorRecipe()
    recipe = dataclasses.replace(
        usual,
        people=usual.people if people is None else min(people, usual.people),
        scenes=max(int(share * usual.scenes), 20),
        head_scenes=max(int(share * usual.head_scenes), 4),
        validation_scenes=max(int(share * usual.validation_scenes), 20),
        steps=tuple(max(int(share * steps), 10) for steps in usual.steps),
        polish=dataclasses.replace(
            usual.polish,
            scenes=max(int(share * usual.polish.scenes), 40),
            validation_scenes=max(int(share * usual.polish.validation_scenes), 20),
            steps=max(int(share * usual.polish.steps), 10),
        ),
    )
    units = action_unit_config(seed=seed, share=share)
    return BaseConfig(detector=recipe, landmarks=landmarks, action_units=units, seed=seed)


def settings_of(part: str, config: BaseConfig) -> object:
    """Everything in the settings that a part's training depends on."""
    if part == "detector":
        return config.detector, config.seed
    if part == ACTION_UNITS:
        return config.action_units
    if part in ("pdm", "eyes"):
        own = getattr(config.landmarks, part)
        counts = config.landmarks.eye_portraits, config.landmarks.eye_heads
        return own if part == "pdm" else (own, counts, config.seed)
    if part == "regressor":
        counts = config.landmarks.whole_portraits, config.landmarks.whole_heads
        return counts, config.landmarks.regressor, config.seed
    shown = config.landmarks.portraits, config.landmarks.frontal, config.landmarks.heads
    if part == "experts":
        return shown, config.landmarks.experts, config.seed
    return shown, config.landmarks.negatives, config.landmarks.validator, config.seed


def stamp_of(part: str, config: BaseConfig, place: Workplace) -> str:
    """Names what a part would be trained with now; empty where a part that it needs is missing."""
    sampler = place.sampler
    people = [sampler.of_split(split).tolist() for split in ("train", "validation", "test")]
    needed = [_digest(path) for name in _NEEDED.get(part, ()) for path in files_of(place, name)]
    return fingerprint(settings_of(part, config), sampler.tools.fingerprint, people, needed)


def files_of(place: Workplace, part: str) -> list[Path]:
    """The files of a trained part that are there."""
    return sorted((place.out / "parts").glob(f"{_FILES.get(part, part)}.safetensors"))


def is_current(place: Workplace, part: str, stamp: str) -> bool:
    """Whether the part's files are those that a run with this stamp has left."""
    path = _stamp_file(place, part)
    if not path.is_file() or not files_of(place, part):
        return False
    known = json.loads(path.read_text())
    return known["stamp"] == stamp and known["files"] == _digests(place, part)


def write_stamp(place: Workplace, part: str, stamp: str, seconds: float | None = None) -> None:
    """Notes what a part was trained with, and how long that took."""
    known = {"stamp": stamp, "files": _digests(place, part), "seconds": seconds}
    _stamp_file(place, part).write_text(json.dumps(known, indent=1) + "\n")


def seconds_of(place: Workplace, part: str) -> float | None:
    """How long a part's last run took, s."""
    return json.loads(_stamp_file(place, part).read_text())["seconds"]


def _stamp_file(place: Workplace, part: str) -> Path:
    return place.part(part).with_suffix(".stamp")


def _digests(place: Workplace, part: str) -> dict[str, str]:
    return {path.name: _digest(path) for path in files_of(place, part)}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def trainers(config: BaseConfig) -> dict[str, Train]:
    """How each part is trained, in order."""

    def detector(place: Workplace, report: Report) -> object:
        path = train_detector(place.data, place.out, recipe=config.detector, seed=config.seed)
        table = evaluate_detector(path, place.data, place.out)
        (place.out / "parts" / "detector.md").write_text(table)
        return table

    def maker(part: str) -> Train:
        return lambda place, report: MAKERS[part](place, config.landmarks, report)

    def action_units(place: Workplace, report: Report) -> object:
        clnf = assemble_clnf(place.out)
        return train_action_units(place.sampler, clnf, place.out, config.action_units, report)

    makers = {part: maker(part) for part in MAKERS}
    return {"detector": detector, **makers, ACTION_UNITS: action_units}


def planned_work(part: str, config: BaseConfig) -> int:
    """How much a part's training will report in all, for a progress bar."""
    if part == ACTION_UNITS:
        return planned_series(config.action_units)
    return sum(planned_steps(part, config.landmarks).values())


def train_parts(
    place: Workplace,
    config: BaseConfig,
    train: Mapping[str, Train],
    *,
    start: Callable[[str], Report],
    kept: Callable[[str], None] = lambda part: None,
) -> list[str]:
    """Trains the parts that are not up to date.

    Args:
        train: how, by part, in order; see `trainers`.
        start: called with the name of a part before its training; what it returns is called
            with each step's name and how much of it is done.
        kept: called with the name of each part that is left as it is.

    Returns:
        The parts that were trained.
    """
    done = []
    for part, run in train.items():
        stamp = stamp_of(part, config, place)
        if is_current(place, part, stamp):
            kept(part)
            continue
        began = time.time()
        run(place, start(part))
        write_stamp(place, part, stamp, round(time.time() - began))
        done.append(part)
    return done


def assemble_base(folder: Path | str) -> Model:
    """The whole model from the parts of an output folder, as it is stored.

    Without trained heads the model knows no action units. `prepare_model` comes next.

    Raises:
        ModelFileError: a part is missing.
    """
    parts = Path(folder) / "parts"
    clnf = dataclasses.replace(
        assemble_clnf(folder), reported=read_module(parts / f"{REPORTED}.safetensors")
    )
    heads = parts / f"{ACTION_UNITS}.safetensors"
    analyser = read_module(heads) if heads.is_file() else no_action_units(clnf.main.pdm)
    assert isinstance(analyser, FaceAnalyser)
    return Model(
        info=ModelInfo(name=NAME, source=SOURCE, licence=LICENCE, landmark_scheme="multi-pie-68"),
        detector=read_module(parts / "detector.safetensors"),
        clnf=clnf,
        analyser=analyser,
    )


def in_half_precision(model: Model) -> Model:
    """The model with float16 weights, for storage; shapes, angles and statistics stay as they are.

    What is large and forgiving: the networks, the experts' kernels and the heads' weights.
    """

    def large(model: Model) -> list:
        clnf = model.clnf
        assert isinstance(clnf, CLNF)  # stripped
        experts = [*clnf.main.experts, *(e for part in clnf.parts for e in part.model.experts)]
        heads = [
            head
            for units in (model.analyser.video, model.analyser.image)
            for head in (units.intensity, units.presence)
        ]
        validator, search = clnf.validator, clnf.search
        return [
            model.detector,
            *((search.regressor,) if isinstance(search, Guided) else ()),
            *(expert.weights for expert in experts if isinstance(expert, CCNFExperts)),
            *validator.weights,
            *(validator.warp.mean, validator.warp.std),
            *(head.weights for head in heads),
        ]

    def half(part: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float16), part)

    return eqx.tree_at(large, strip_model(model), replace_fn=half)


def store_base(place: Workplace, out: Path, report: str) -> InstalledModel:
    """Writes model, manifest, training report and loss curves.

    Args:
        out: folder of `base.safetensors`, `base.json`, `base-training.md` and
            `base-training/*.png`.
        report: text of the training report.
    """
    files = {path.name: _digest(path) for part in PARTS for path in files_of(place, part)}
    stored = save_model(in_half_precision(assemble_base(place.out)), out, files=files)
    (out / f"{NAME}-training.md").write_text(report)
    curves = out / f"{NAME}-training"
    curves.mkdir(exist_ok=True)
    for path in curve_files(place):
        shutil.copyfile(path, curves / path.name)
    return stored


def curve_files(place: Workplace) -> list[Path]:
    """Pictures of the loss curves of all parts."""
    return sorted(path for part in PARTS for path in place.out.glob(f"{part}*.png"))
