"""Import of OpenFace's models, the store and `load_model`."""

import dataclasses
import json
import os
import shutil
import struct
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxface.detect import MTCNN, OPENFACE_FRAME
from jaxface.fit import strip_clnf
from jaxface.models import (
    Model,
    ModelFileError,
    installed_models,
    load_model,
    save_model,
    shipped_dir,
)
from jaxface.models.openface import KINDS, import_models, read_model

LANDMARK = "lib/local/LandmarkDetector/model"
DATA = Path(__file__).resolve().parent / "data"
AU = "lib/local/FaceAnalyser/AU_predictors"


@pytest.fixture(scope="module")
def cen_dir(openface_dir: Path) -> Path:
    return openface_dir / "cen-from-ccnf"


@pytest.fixture(scope="module")
def installed(model_dir: Path, cen_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache folder with all three models."""
    cache = tmp_path_factory.mktemp("cache")
    import_models(model_dir, cen_dir=cen_dir, dest=cache / "models")
    return cache


@pytest.fixture
def cache(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that a test may damage, named by JAXFACE_CACHE_DIR."""
    shutil.copytree(installed / "models", tmp_path / "cache" / "models")
    monkeypatch.setenv("JAXFACE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def link_tree(source: Path, target: Path) -> Path:
    """A copy of a folder made of symbolic links, of which a test may replace some."""
    for folder, _, names in os.walk(source):
        here = target / Path(folder).relative_to(source)
        here.mkdir(parents=True, exist_ok=True)
        for name in names:
            (here / name).symlink_to(Path(folder) / name)
    return target


def leaves(model: Model) -> dict[str, jax.Array]:
    """The arrays of a model by path, without those computed at loading."""
    bare = dataclasses.replace(model, clnf=strip_clnf(model.clnf))
    return {jax.tree_util.keystr(p): x for p, x in jax.tree_util.tree_leaves_with_path(bare)}


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip_is_exact(kind: str, model_dir: Path, cen_dir: Path, installed: Path) -> None:
    loaded = load_model(installed / "models" / f"{kind}.safetensors")
    read = read_model(model_dir, kind, cen_dir=cen_dir)
    assert loaded.info == read.info
    wanted, found = leaves(read), leaves(loaded)
    assert wanted.keys() == found.keys()
    for path, leaf in wanted.items():
        stored = found[path]
        assert isinstance(stored, jax.Array) and stored.dtype == leaf.dtype, path
        assert np.array_equal(stored, leaf) and np.isfinite(stored).all(), path
        assert stored.dtype in (np.float32, np.int32, np.bool_), path


def test_load_by_name(cache: Path) -> None:
    assert load_model("openface").info.name == "openface"
    assert load_model("openface-clm").info.name == "openface-clm"
    assert load_model(str(cache / "openface-ceclm.json")).info.name == "openface-ceclm"


def test_list_says_what_is_installed(cache: Path, model_dir: Path, cen_dir: Path) -> None:
    models = {model.name: model for model in installed_models()}
    assert set(models) == {"base", *KINDS}
    for model in (models[kind] for kind in KINDS):
        assert model.path.parent == cache and model.path.is_file()
        assert str(model_dir) in model.source
        assert "noncommercial" in model.licence
        assert model.landmark_scheme == "multi-pie-68"
        assert len(model.action_units) == 18 and model.action_units[-2] == "AU28"
        assert model.modified == ()
    assert str(cen_dir) in models["openface-ceclm"].source


def test_nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAXFACE_CACHE_DIR", str(tmp_path))
    assert [model.name for model in installed_models()] == ["base"]
    with pytest.raises(ModelFileError, match=r"installed: base.*jaxface models import DIR"):
        load_model("openface")


def test_file_is_plain_safetensors(installed: Path) -> None:
    """Header and tensors fill the file: there is no room for code or pickled objects."""
    data = (installed / "models" / "openface.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    assert {entry["dtype"] for entry in header.values()} == {"F32", "I32", "BOOL"}
    assert max(entry["data_offsets"][1] for entry in header.values()) == len(data) - 8 - length


def test_manifest_records_the_source_files(installed: Path, cen_dir: Path) -> None:
    manifest = json.loads((installed / "models" / "openface-ceclm.json").read_text())
    files = manifest["files"]
    assert len(files) == 85
    assert all(len(digest) == 64 for digest in files.values())
    assert sum("cen_patches" in path for path in files) == 4


def test_unknown_name_lists_the_installed(cache: Path) -> None:
    with pytest.raises(ModelFileError, match="base, openface, openface-ceclm, openface-clm"):
        load_model("openfaces")


def test_path_that_is_no_model(cache: Path, model_dir: Path) -> None:
    with pytest.raises(ModelFileError, match="jaxface models import"):
        load_model(model_dir)
    with pytest.raises(ModelFileError, match=r"missing\.safetensors: expected"):
        load_model(cache / "missing.safetensors")


def test_damaged_tensors_are_refused(cache: Path) -> None:
    path = cache / "openface.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"openface\.safetensors: is damaged.*models import"):
        load_model("openface")
    path.write_bytes(data[:-100])
    with pytest.raises(ModelFileError, match="is damaged"):
        load_model("openface")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "expected format 3, found 99"),
        ({"sha256": "0"}, "is damaged"),
        ({"structure": {"class": "Popen", "fields": {}}}, "does not describe.*Popen"),
        ({"structure": {"class": "MaxPool", "fields": {"kernel": 2}}}, "does not describe"),
        ({"structure": {"tensor": "absent"}}, "does not describe.*absent"),
        ({"structure": {"class": "MaxPool", "fields": {"kernel": 2, "stride": 2}}}, "a Model"),
    ],
)
def test_damaged_manifest_is_refused(cache: Path, change: dict, message: str) -> None:
    path = cache / "openface.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelFileError, match=message):
        load_model("openface")


def old_base(folder: Path) -> tuple[Path, dict]:
    """`base` with a manifest of format 2, which is to be written."""
    shipped = shipped_dir() / "base.safetensors"
    today = json.loads(shipped.with_suffix(".json").read_text())
    old = json.loads((DATA / "base-format-2.json").read_text())
    assert old["format"] == 2 and "search" not in old["structure"]["fields"]["clnf"]["fields"]
    old["sha256"] = today["sha256"]  # of whatever is shipped
    shutil.copy(shipped, folder / "base.safetensors")
    return folder / "base.json", old


def test_files_of_format_2_are_read_as_those_of_today(tmp_path: Path) -> None:
    """Settings, search and scheme, which such files do not hold, are those of `base` now."""
    path, old = old_base(tmp_path)
    path.write_text(json.dumps(old))
    found, wanted = load_model(path), load_model("base")
    assert found.config == wanted.config and found.clnf.wild == wanted.clnf.wild
    assert found.clnf.scheme == wanted.clnf.scheme
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(one, other)


def test_files_without_a_landmark_frame_hold_openfaces_detector(tmp_path: Path) -> None:
    path, old = old_base(tmp_path)
    del old["structure"]["fields"]["detector"]["fields"]["landmark_frame"]
    path.write_text(json.dumps(old))
    detector = load_model(path).detector
    assert isinstance(detector, MTCNN) and detector.landmark_frame == OPENFACE_FRAME


def test_unreadable_manifest_is_refused(cache: Path) -> None:
    (cache / "openface.json").write_text("{")
    with pytest.raises(ModelFileError, match=r"openface\.json: the manifest is damaged"):
        load_model("openface")
    (cache / "openface.json").write_text('{"format": 2}')
    with pytest.raises(ModelFileError, match="the manifest lacks.*sha256"):
        installed_models()
    (cache / "openface.json").unlink()
    with pytest.raises(ModelFileError, match="the manifest is missing"):
        load_model("openface")


def test_saving_replaces_and_leaves_no_temporary_files(cache: Path) -> None:
    model = load_model("openface")
    record = save_model(model, cache)
    assert record.path == cache / "openface.safetensors"
    assert not list(cache.glob("*.tmp"))
    assert jax.tree.structure(load_model("openface")) == jax.tree.structure(model)
    assert not any("banks" in name for name in safetensors.numpy.load_file(record.path))


@pytest.mark.parametrize("layout", ["repository", "cache", "models", "bin", "model"])
def test_layouts(layout: str, model_dir: Path, tmp_path: Path) -> None:
    """The same files in a checkout, in the shared cache and in an installation."""
    roots = {
        "repository": tmp_path,
        "cache": tmp_path / "OpenFaceModels/2.2.0/originals",
        "models": tmp_path / "2.2.0/originals",
    }
    if layout in roots:
        roots[layout].mkdir(parents=True, exist_ok=True)
        (roots[layout] / "lib").symlink_to(model_dir / "lib")
    else:
        (tmp_path / "model").symlink_to(model_dir / LANDMARK)
        (tmp_path / "AU_predictors").symlink_to(model_dir / AU)
    directory = tmp_path / "model" if layout == "model" else tmp_path
    assert read_model(directory).clnf.main.pdm.mean_shape.shape == (68, 3)


def test_import_from_the_shared_cache(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENFACE_MODELS_DIR", str(model_dir.parent.parent))
    # Without CEN files there is no CE-CLM model.
    assert [model.name for model in import_models(dest=tmp_path)] == ["openface", "openface-clm"]


def test_no_shared_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENFACE_MODELS_DIR", str(tmp_path / "absent"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ModelFileError, match="no shared cache at .*absent or .*OpenFaceModels"):
        import_models(dest=tmp_path)


def test_cen_files_beside_the_others(model_dir: Path, cen_dir: Path, tmp_path: Path) -> None:
    tree = link_tree(model_dir, tmp_path / "tree")
    for path in cen_dir.glob("*.dat"):
        (tree / LANDMARK / "patch_experts" / path.name).symlink_to(path)
    names = [model.name for model in import_models(tree, dest=tmp_path / "models")]
    assert names == list(KINDS)
    (tree / LANDMARK / "patch_experts/cen_patches_1.00_of.dat").unlink()
    with pytest.raises(ModelFileError, match=r"(?s)1 of the files.*cen_patches_1\.00.*--cen"):
        import_models(tree, dest=tmp_path / "models")


def test_partial_folder_lists_what_is_missing(model_dir: Path, tmp_path: Path) -> None:
    tree = link_tree(model_dir, tmp_path / "tree")
    for name in ("PNet", "RNet", "ONet"):
        (tree / LANDMARK / f"mtcnn_detector/{name}.dat").unlink()
    with pytest.raises(ModelFileError, match=r"(?s)3 of the files.*PNet.*RNet.*ONet.*github"):
        import_models(tree, dest=tmp_path / "models")
    assert not (tmp_path / "models").exists()
    with pytest.raises(ModelFileError, match=r"(?s)4 of the files.*cen_patches_0\.25.*--cen"):
        read_model(model_dir, "openface-ceclm")
    shutil.rmtree(tree / AU)
    with pytest.raises(ModelFileError, match=r"(?s)AU_all_best.*and \d+ more"):
        read_model(tree)


def test_folder_without_models(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="holds no OpenFace models"):
        import_models(tmp_path)
    with pytest.raises(ModelFileError, match="absent: not a directory"):
        import_models(tmp_path / "absent")


def test_unknown_kind(model_dir: Path) -> None:
    with pytest.raises(ValueError, match="kind: expected one of .*openface-clm.*got 'clnf'"):
        read_model(model_dir, "clnf")


def test_modified_file_needs_permission(model_dir: Path, tmp_path: Path) -> None:
    tree = link_tree(model_dir, tmp_path / "tree")
    path = tree / LANDMARK / "patch_experts/svr_patches_0.25_general.txt"
    text = path.read_text().replace("\n0.250000\n", "\n0.300000\n")
    path.unlink()
    path.write_text(text)
    with pytest.raises(ModelFileError, match=r"svr_patches_0\.25.*sha256.*--allow-modified"):
        import_models(tree, dest=tmp_path / "models")
    models = import_models(tree, dest=tmp_path / "models", allow_modified=True)
    modified = {model.name: model.modified for model in models}
    assert modified["openface"] == ()
    assert modified["openface-clm"] == (f"{LANDMARK}/patch_experts/{path.name}",)
    assert "modified" in models[-1].source


def test_windows_line_ends_are_no_modification(model_dir: Path, tmp_path: Path) -> None:
    tree = link_tree(model_dir, tmp_path / "tree")
    for name in (f"{LANDMARK}/main_clnf_general.txt", f"{AU}/AU_all_best.txt"):
        data = (model_dir / name).read_bytes()
        (tree / name).unlink()
        (tree / name).write_bytes(data.replace(b"\n", b"\r\n"))
    assert read_model(tree).clnf.parts[0].name == "inner"
