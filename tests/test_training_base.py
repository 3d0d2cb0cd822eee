"""Training of the whole default model: what is kept, what is trained again, what is stored."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxface
from jaxface.cli import build_parser
from jaxface.fit import Guided, strip_clnf
from jaxface.models import shipped_dir, write_module
from jaxface.training import (
    assemble_base,
    assemble_clnf,
    base_config,
    in_half_precision,
    train_parts,
    trainers,
)
from jaxface.training.base import PARTS, Workplace, files_of, is_current, stamp_of
from jaxface.training.loop import digest

pytestmark = pytest.mark.untyped  # the workplace has a stand-in for its sampler

_FILES = {
    "experts": ("experts-0", "experts-1", "experts-2"),
    "eyes": ("left_eye_28", "right_eye_28"),
}


@dataclasses.dataclass
class _Sampler:
    """Stands in for the portraits: all that stamps ask for."""

    people: range = range(40)
    fingerprint: int = 1

    @property
    def tools(self):
        return types.SimpleNamespace(fingerprint=self.fingerprint)

    def of_split(self, split: str) -> np.ndarray:
        return np.array([p for p in self.people if (p % 4 == 0) == (split == "test")])


@pytest.fixture
def place(tmp_path) -> Workplace:
    (tmp_path / "parts").mkdir()
    return Workplace(tmp_path, tmp_path, _Sampler())  # pyright: ignore[reportArgumentType]


def _trainers(log: list[str]) -> dict:
    """Write files that name the run that made them."""

    def train(part: str):
        def run(place, report):
            log.append(part)
            for name in _FILES.get(part, (part,)):
                place.part(name).write_bytes(f"{part} {len(log)}".encode())

        return run

    return {part: train(part) for part in PARTS}


def _train(place: Workplace, config) -> list[str]:
    log: list[str] = []
    found = train_parts(place, config, _trainers(log), start=lambda part: lambda step, done: None)
    assert found == log
    return log


def test_all_parts_in_order_and_only_once(place):
    config = base_config()
    assert _train(place, config) == list(PARTS) == list(trainers(config))
    assert _train(place, config) == []
    assert [path.stem for path in files_of(place, "experts")] == list(_FILES["experts"])


def test_an_interrupted_run_goes_on(place):
    config, log = base_config(), []
    broken = _trainers(log)

    def stop(place, report):
        raise KeyboardInterrupt

    broken["validator"] = stop
    with pytest.raises(KeyboardInterrupt):
        train_parts(place, config, broken, start=lambda part: lambda step, done: None)
    rest = PARTS[PARTS.index("validator") :]
    assert _train(place, config) == list(rest)


def test_other_settings_train_what_depends_on_them(place):
    _train(place, base_config())
    assert _train(place, base_config(share=0.5)) == [p for p in PARTS if p != "pdm"]
    other = base_config(share=0.5)
    recipe = dataclasses.replace(other.detector, steps=(1, 1, 1))
    assert "detector" in _train(place, dataclasses.replace(other, detector=recipe))


def test_another_validator_keeps_experts_and_eyes(place):
    config = base_config()
    _train(place, config)
    validator = dataclasses.replace(config.landmarks.validator, fits=10)
    landmarks = dataclasses.replace(config.landmarks, validator=validator)
    log = _train(place, dataclasses.replace(config, landmarks=landmarks))
    assert "validator" in log and not {"detector", "pdm", "experts", "eyes"} & set(log)


def test_a_replaced_shape_model_trains_what_needs_it(place):
    config = base_config()
    _train(place, config)
    place.part("pdm").write_bytes(b"another")
    log = _train(place, config)
    assert {"pdm", "experts", "validator"} <= set(log)
    assert not {"detector", "eyes"} & set(log)


@pytest.mark.parametrize("change", ({"people": range(30)}, {"fingerprint": 2}))
def test_other_data_train_everything(place, change):
    config = base_config()
    _train(place, config)
    other = dataclasses.replace(place, sampler=_Sampler(**change))
    assert _train(other, config) == list(PARTS)


def test_a_part_without_stamp_or_with_other_files_is_not_current(place):
    config = base_config()
    _train(place, config)
    stamp = stamp_of("eyes", config, place)
    assert is_current(place, "eyes", stamp)
    assert not is_current(place, "eyes", stamp + "0")
    files_of(place, "eyes")[0].write_bytes(b"damaged")
    assert not is_current(place, "eyes", stamp)
    place.part("detector").with_suffix(".stamp").unlink()
    assert not is_current(place, "detector", stamp_of("detector", config, place))


def test_parts_are_put_together_as_base_is_used(place):
    """Action units learn from fits with the settings of the model that they will belong to."""
    base = jaxface.load_model("base")
    clnf = strip_clnf(base.clnf)
    assert isinstance(clnf.search, Guided)
    modules = {"detector": base.detector, "pdm": clnf.main.pdm, "reported_pdm": clnf.reported}
    modules |= {f"experts-{i}": experts for i, experts in enumerate(clnf.main.experts)}
    modules |= {part.name: part for part in clnf.parts}
    modules |= {"validator": clnf.validator, "regressor": clnf.search.regressor}
    modules |= {"action_units": base.analyser}
    for name, module in modules.items():
        write_module(module, place.part(name))
    learnt_with = assemble_clnf(place.out)
    assert learnt_with.config == jaxface.default_config(base).fit
    found = assemble_base(place.out)
    assert found.config == base.config
    assert jax.tree.structure(found.clnf) == jax.tree.structure(clnf)
    for one, other in zip(jax.tree.leaves(found.clnf), jax.tree.leaves(clnf), strict=True):
        np.testing.assert_array_equal(one, other)


def test_share_must_be_positive():
    with pytest.raises(ValueError, match="share: expected a positive number, got 0"):
        base_config(share=0)


def test_digest_notices_data_and_shape():
    array = np.arange(6.0)
    assert digest([array]) == digest([array.copy()])
    others = [array.reshape(2, 3), array.astype(np.float32), array + 1e-9]
    assert len({digest([a]) for a in (array, *others)}) == 4


def test_half_precision_is_for_what_is_large():
    """What is stored in half precision is what was trained, to a thousandth."""
    model = jaxface.strip_model(jaxface.load_model())
    halved = in_half_precision(model)
    kept = halved.clnf.main.pdm
    assert kept.components.dtype == kept.mean_shape.dtype == jnp.float32
    assert halved.clnf.validator.warp.alpha.dtype == jnp.float32
    for before, after in zip(jax.tree.leaves(model), jax.tree.leaves(halved), strict=True):
        # The shipped weights are in half precision already, so nothing is lost.
        assert np.array_equal(before, after.astype(before.dtype))


def test_the_command_takes_its_options():
    arguments = build_parser().parse_args(
        ["train", "base", "--data", "d", "--out", "params", "--share", "0.1", "--work", "w"]
    )
    assert (arguments.train_command, arguments.share, arguments.work) == ("base", 0.1, "w")


def test_the_shipped_model_has_its_report():
    report = (shipped_dir() / "base-training.md").read_text()
    assert "held-out" in report and "## Detector" in report
    for line in report.splitlines():
        if line.startswith("!["):
            assert (shipped_dir() / line.split("(")[1].rstrip(")")).is_file()
