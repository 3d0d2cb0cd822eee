"""The stages of an analysis: their names in profiles, and the table of `jaxface bench`."""

import re
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxface
from jaxface import Camera, Model
from jaxface.cli import Row, main, to_markdown
from jaxface.models import save_model
from jaxface.reference.comparison.clips import Data, load
from jaxface.run import SCOPES


@pytest.fixture(scope="module")
def model(openface_dir, model_dir) -> Model:
    return load(Data(openface_dir, model_dir), "openface")


def _scopes(jaxpr) -> set[str]:
    """Names of all scopes in a program, those of branches and loops too."""
    found = set()
    for equation in jaxpr.eqns:
        found |= set(str(equation.source_info.name_stack).split("/"))
        for inner in jax.tree.leaves(list(equation.params.values())):
            inner = getattr(inner, "jaxpr", inner)
            found |= _scopes(inner) if hasattr(inner, "eqns") else set()
    return found


def _shape(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@pytest.mark.parametrize("several", (False, True), ids=("one face", "several faces"))
def test_every_stage_has_its_scope(model, several):
    start = jaxface.start_several if several else jaxface.start_clip
    step = jaxface.several_frame if several else jaxface.clip_frame
    inputs = start(model), _shape(120, 160, 3), jax.eval_shape(Camera, *[_shape()] * 4)
    program = jax.make_jaxpr(lambda *inputs: step(model, *inputs))(*inputs)
    expected = {name for names in SCOPES.values() for name in names}
    assert expected <= _scopes(program.jaxpr)


def test_table_of_stages():
    lines = to_markdown([Row("fit", 0.003, 2e6, 5e5), Row("writing", 0.001)]).splitlines()
    assert lines[2:] == [
        "| fit | 3.000 | 75.0% | 2 | 0.5 |",
        "| writing | 1.000 | 25.0% |  |  |",
        "| sum | 4.000 | 100.0% |  |  |",
    ]


def test_bench_times_each_stage(model, tmp_path, capsys):
    path = save_model(model, tmp_path).path
    assert main(["bench", "--model", str(path), "--frames", "8"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("generated frames without a face: 8 frames of 640x480; jax ")
    rows = dict(re.findall(r"^\| ([a-zA-Z ]+) \| (.*) \|$", printed, re.MULTILINE))
    assert list(rows) == ["stage", "decoding", *SCOPES, "writing", "sum"]
    for name in SCOPES:
        milliseconds, _, operations, moved = map(_number, rows[name].split(" | "))
        if name == "detection":  # not asked for where a face is tracked
            assert (milliseconds, operations, moved) == (0, 0, 0)
        else:
            assert min(milliseconds, operations, moved) > 0
    fit, validator = (float(rows[name].split(" | ")[2]) for name in ("fit", "validator"))
    assert fit > validator  # XLA dropped the validator from the fit, and nothing else
    sums = sum(_number(rows[name].split(" | ")[0]) for name in ("decoding", *SCOPES, "writing"))
    assert _number(rows["sum"].split(" | ")[0]) == pytest.approx(sums, abs=0.01)


def _number(text: str) -> float:
    return float(text.rstrip("%"))


def test_bench_needs_a_chunk_of_frames(tmp_path, capsys):
    image = tmp_path / "still.png"
    assert cv2.imwrite(str(image), np.zeros((48, 64, 3), np.uint8))
    assert main(["bench", str(image), "--no-compile-cache"]) == 1
    assert "still.png: expected at least 8 frames, got 1" in capsys.readouterr().err


def test_bench_without_its_input(capsys):
    assert main(["bench", "gone.wmv", "--no-compile-cache"]) == 1
    assert "gone.wmv" in capsys.readouterr().err
