"""The model that comes with jaxface: that it is there, whole, small, free, and good on its clip."""

import dataclasses
import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hatchling.builders.wheel import WheelBuilder

import jaxface
from jaxface.analyze import no_action_units
from jaxface.cli import main
from jaxface.models import save_model, shipped_dir
from jaxface.reference.comparison import talking_head

ROOT = Path(__file__).resolve().parents[1]
_MOST_BYTES = 25e6  # of all files of the model

# Bounds on the clip that the repository draws; measured figures are in params/README.md.
_FOUND, _LANDMARKS, _LANDMARKS_95 = 99.0, 4.5, 8.0  # %, of the eye distance
# Degrees. This head's pitch is 3 degrees off, which its shape makes up for: 4.0 in all.
_POSE, _GAZE = 5.0, 8.0
# %, of the eye distance: rolled faces, and how much worse than upright ones all but one of them may
# be. Measured 8.1, of the turned head at -60 degrees, and 0.2; from the box alone, without a guess,
# faces on their side are 49 to 81 off.
_ROLLED, _WORSE = 9.0, 1.0
_REJECTED = 7.0  # %: a fit that is off by more may be rejected; that one is
_STILLS = (20, 80)  # frames: facing the camera, and with the head turned
_FRAMES = 100  # of the 250: with the head turned to the left, and speech


@pytest.fixture(scope="module")
def model() -> jaxface.Model:
    return jaxface.load_model()


def test_is_the_default_and_free(model):
    assert model.info.name == "base"
    assert model.info.licence == "Apache-2.0"
    leaves = jax.tree.leaves(model)
    assert all(leaf.dtype in (jnp.float32, jnp.int32, jnp.bool_) for leaf in leaves)
    assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_is_small_and_beside_its_model_card():
    files = [path for path in shipped_dir().rglob("*") if path.is_file()]
    assert {"base.safetensors", "base.json", "README.md"} <= {path.name for path in files}
    assert sum(path.stat().st_size for path in files) < _MOST_BYTES


def test_is_listed_as_shipped(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAXFACE_CACHE_DIR", str(tmp_path))
    (found,) = jaxface.installed_models()
    assert found.shipped and found.licence == "Apache-2.0" and found.name == "base"
    assert main(["models", "list"]) == 0
    assert capsys.readouterr().out.startswith("base (comes with jaxface): ")


def test_what_is_installed_does_not_hide_it(tmp_path, monkeypatch, model):
    monkeypatch.setenv("JAXFACE_CACHE_DIR", str(tmp_path))
    other = dataclasses.replace(model.info, licence="another")
    save_model(dataclasses.replace(model, info=other))
    assert jaxface.load_model().info.licence == "Apache-2.0"
    path = tmp_path / "models" / "base.safetensors"
    assert jaxface.load_model(path).info.licence == "another"


def test_damage_is_noticed(tmp_path):
    for name in ("base.safetensors", "base.json"):
        shutil.copy(shipped_dir() / name, tmp_path)
    path = tmp_path / "base.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(jaxface.ModelFileError, match=r"is damaged: the manifest gives sha256"):
        jaxface.load_model(path)


def test_the_manifest_names_the_parts():
    manifest = json.loads((shipped_dir() / "base.json").read_text())
    assert len(manifest["sha256"]) == 64
    assert {"detector.safetensors", "pdm.safetensors", "validator.safetensors"} <= set(
        manifest["files"]
    )


def test_the_wheel_holds_it(tmp_path):
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = zipfile.ZipFile(wheel).namelist()
    forced = tomllib.loads((ROOT / "pyproject.toml").read_text())
    forced = forced["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert "jaxface/params/base.safetensors" in names
    assert set(forced.values()) <= set(names)


def test_the_wheel_finds_it(tmp_path):
    """An installed package has no repository around it."""
    shutil.copytree(ROOT / "jaxface", tmp_path / "jaxface", ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copytree(ROOT / "params", tmp_path / "jaxface" / "params")
    code = "import jaxface; (m,) = jaxface.installed_models(); print(m.shipped, m.path)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "JAXFACE_CACHE_DIR": str(tmp_path / "cache"), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    inside = tmp_path.resolve() / "jaxface" / "params" / "base.safetensors"
    assert done.stdout.strip() == f"True {inside}"


@pytest.fixture(scope="module")
def clip(model) -> jaxface.Analysis:
    reader = jaxface.read_video(talking_head.CLIP)
    frames = [frame for _, frame in zip(range(_FRAMES), reader, strict=False)]
    return jaxface.analyze_video(model, frames, fps=reader.fps)


def test_the_talking_head_within_bounds(clip):
    table = clip.to_dataframe()
    truth = talking_head.read_columns(talking_head.TRUTH)
    found = {name: table[name].to_numpy() for name in table.columns}
    errors = talking_head.errors(found, {name: c[:_FRAMES] for name, c in truth.items()})
    assert errors["frames with a face, %"] >= _FOUND
    assert errors["landmarks, mean, % of the outer eyes' distance"] <= _LANDMARKS
    assert errors["landmarks, 95 % of the frames under, %"] <= _LANDMARKS_95
    assert errors["head pose, mean, degrees"] <= _POSE
    assert errors["gaze of an open eye, median, degrees"] <= _GAZE


def _rolled(frame: np.ndarray, landmarks: np.ndarray, roll: float) -> tuple[np.ndarray, np.ndarray]:
    """A frame and its landmarks, turned about the face's middle by degrees."""
    middle = (landmarks.min(axis=0) + landmarks.max(axis=0)) / 2
    turn = cv2.getRotationMatrix2D(middle.tolist(), roll, 1.0)
    size = frame.shape[1], frame.shape[0]
    return cv2.warpAffine(frame, turn, size), landmarks @ turn[:, :2].T + turn[:, 2]


@pytest.mark.parametrize("still", _STILLS)
def test_rolled_faces_are_fitted_as_upright_ones(model, still):
    """From the box alone: the detector finds no face that lies on its side."""
    reader = jaxface.read_video(talking_head.CLIP)
    frame = next(frame for index, frame in enumerate(reader) if index == still)
    truth = talking_head.read_columns(talking_head.TRUTH)
    points = np.array([[truth[f"{axis}_{i}"][still] for axis in "xy"] for i in range(68)])
    distance = np.linalg.norm(points[36] - points[45]) / np.cos(truth["pose_Ry"][still])
    errors = {}
    for roll in (0, 30, -30, 60, -60):
        image, wanted = _rolled(frame, points, roll)
        box = np.concatenate([wanted.min(axis=0), wanted.max(axis=0)])[None]
        found = jaxface.analyze_image(model, image, boxes=box)
        errors[roll] = 100 * np.linalg.norm(found.landmarks[0] - wanted, axis=1).mean() / distance
        assert found.success.all() or errors[roll] > _REJECTED, (roll, errors)
    worst = sorted(errors.values())
    assert worst[-1] < _ROLLED and worst[-2] < errors[0] + _WORSE, errors


def test_points_of_the_detector_find_a_tilted_face(model):
    """Detected, and started from its points."""
    reader = jaxface.read_video(talking_head.CLIP)
    frame = next(iter(reader))
    truth = talking_head.read_columns(talking_head.TRUTH)
    points = np.array([[truth[f"{axis}_{i}"][0] for axis in "xy"] for i in range(68)])
    image, wanted = _rolled(frame, points, 25)
    found = jaxface.analyze_image(model, image).landmarks
    assert len(found)
    apart = np.linalg.norm(found - wanted, axis=2).mean(axis=1).min()
    assert 100 * apart / np.linalg.norm(points[36] - points[45]) < _ROLLED


def test_columns_are_those_of_its_units(clip, model):
    table = clip.to_dataframe()
    units = model.analyser.video
    for names, ending in ((units.intensity.names, "_r"), (units.presence.names, "_c")):
        assert [c for c in table.columns if c.endswith(ending)] == [n + ending for n in names]
    modes = len(model.clnf.main.pdm.eigenvalues)
    assert [c for c in table.columns if c.startswith("p_") and c[2:].isdigit()] == [
        f"p_{i}" for i in range(modes)
    ]


def test_a_model_without_units_has_no_columns_of_them(model, tmp_path):
    bare = dataclasses.replace(model, analyser=no_action_units(model.clnf.main.pdm))
    reader = jaxface.read_video(talking_head.CLIP)
    frames = [frame for _, frame in zip(range(3), reader, strict=False)]
    found = jaxface.analyze_video(bare, frames)
    assert found.au_intensity.shape == (3, 0) and found.success.all()
    jaxface.write_csv(tmp_path / "a.csv", found)
    header = (tmp_path / "a.csv").read_text().splitlines()[0]
    assert "AU" not in header and header.endswith(f"p_{found.local.shape[1] - 1}")
