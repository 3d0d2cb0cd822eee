"""Prepared models in the user's cache: the same bits, mapped, checked, and never stale."""

import json
import os
import shutil
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest

import jaxface
from jaxface.fit import PreparedCLNF
from jaxface.models import DamagedFileError, read_tree, shipped_dir, write_tree

_NAME = "base"


@pytest.fixture(scope="module")
def anew() -> jaxface.Model:
    """The model as it is prepared, without a cache."""
    bare = jaxface.strip_model(jaxface.load_model(_NAME))
    return jaxface.prepare_model(bare)


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Path:
    """A cache with the prepared model."""
    cache = tmp_path_factory.mktemp("filled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXFACE_CACHE_DIR", str(cache))
        jaxface.load_model(_NAME)
    return cache


@pytest.fixture
def cache(filled: Path, tmp_path: Path, monkeypatch) -> Path:
    """A copy of it that a test may damage."""
    shutil.copytree(filled, tmp_path / "cache")
    monkeypatch.setenv("JAXFACE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def preparations(monkeypatch) -> list[int]:
    """Grows by one each time a model is prepared; none of that goes into a file."""
    done: list[int] = []
    original = jaxface.models._store.prepare_model

    def counted(*args):
        done.append(1)
        return original(*args)

    monkeypatch.setattr(jaxface.models._store, "prepare_model", counted)
    return done


def prepared(cache: Path) -> Path:
    (path,) = (cache / "prepared").iterdir()
    return path


def check_equal(found: jaxface.Model, wanted: jaxface.Model) -> None:
    """Bit by bit, with all that is static, the weights that it was prepared from included."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert isinstance(one, jax.Array) and one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_read_is_as_prepared(cache: Path, anew, preparations):
    found = jaxface.load_model(_NAME)
    assert not preparations
    check_equal(found, anew)
    assert isinstance(found.clnf, PreparedCLNF) and isinstance(anew.clnf, PreparedCLNF)
    assert found.clnf.origin == anew.clnf.origin
    check_equal(jaxface.strip_model(found), jaxface.strip_model(anew))


def test_what_was_just_written_is_as_prepared(tmp_path: Path, anew, monkeypatch, preparations):
    monkeypatch.setenv("JAXFACE_CACHE_DIR", str(tmp_path))
    check_equal(jaxface.load_model(_NAME), anew)
    assert preparations and prepared(tmp_path).stat().st_size % 64 == 4


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux tells what is mapped")
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="arrays lie on the device")
def test_arrays_lie_in_the_file(cache: Path):
    """Nothing was copied: neither what is computed with nor what it was prepared from."""
    model = jaxface.load_model(_NAME)
    lines = Path("/proc/self/maps").read_text().splitlines()
    spans = [line.split()[0].split("-") for line in lines if line.endswith(str(prepared(cache)))]
    (first, last), *more = [[int(end, 16) for end in span] for span in spans]
    assert not more
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(model)]
    assert isinstance(model.clnf, PreparedCLNF)
    raw = jax.tree.leaves(model.clnf.origin.tree)
    pointers += [leaf.ctypes.data for leaf in raw]
    assert all(first <= pointer < last and pointer % 64 == 0 for pointer in pointers)
    assert not any(leaf.flags.writeable for leaf in raw)


def test_damaged_files_are_replaced(cache: Path, anew, preparations):
    """Other kinds of damage: tests/test_damaged_cache.py."""
    path = prepared(cache)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    check_equal(jaxface.load_model(_NAME), anew)
    assert len(preparations) == 1
    check_equal(jaxface.load_model(_NAME), anew)
    assert len(preparations) == 1 and prepared(cache) == path


def test_a_replaced_file_stays_readable(cache: Path, anew):
    """Another process may replace or delete it while this one computes."""
    model, path = jaxface.load_model(_NAME), prepared(cache)
    path.with_name("other").write_bytes(bytes(path.stat().st_size))
    os.replace(path.with_name("other"), path)
    check_equal(model, anew)
    path.unlink()
    check_equal(model, anew)


def test_runs_where_nothing_can_be_written(tmp_path: Path, anew, monkeypatch):
    (tmp_path / "prepared").write_text("a file where the folder should be")
    monkeypatch.setenv("JAXFACE_CACHE_DIR", str(tmp_path))
    check_equal(jaxface.load_model(_NAME), anew)


def test_edits_count(cache: Path, preparations):
    """An edited model is prepared anew, and the file stays that of the model file."""
    model = jaxface.load_model(_NAME)
    bare = jaxface.strip_model(model)
    edited = eqx.tree_at(
        lambda m: m.clnf.main.experts[0].weights, bare, replace_fn=lambda weights: 2 * weights
    )

    def bank(m):
        return m.clnf.main.experts[0].banks[11][0].strips

    again = jaxface.prepare_model(edited)
    assert np.abs(bank(again) - 2 * bank(model)).max() < 1e-6  # weights below 0.3, rounded once
    np.testing.assert_array_equal(bank(jaxface.load_model(_NAME)), bank(model))
    assert not preparations


def test_another_model_of_the_name_is_prepared(cache: Path, tmp_path: Path, preparations):
    """Of weights edited and saved, and of settings edited in the manifest by hand."""
    model = jaxface.load_model(_NAME)
    edited = eqx.tree_at(lambda m: m.clnf.main.pdm.mean_shape, model, replace_fn=lambda x: x + 1)
    path = jaxface.save_model(edited, tmp_path / "mine").path
    found = jaxface.load_model(path)
    assert len(preparations) == 1
    shape = edited.clnf.main.pdm.mean_shape
    np.testing.assert_array_equal(found.clnf.main.pdm.mean_shape, shape)
    manifest = json.loads(path.with_suffix(".json").read_text())
    config = manifest["structure"]["fields"]["clnf"]["fields"]["config"]["fields"]
    config["windows_init"][0] = 13
    path.with_suffix(".json").write_text(json.dumps(manifest))
    laid_out = jaxface.load_model(path).clnf.main.experts[0].laid_out()
    assert laid_out is not None and 13 in laid_out and len(preparations) == 2


def test_settings_for_stills_are_kept_too(cache: Path, preparations):
    usual = jaxface.load_model(_NAME)
    wanted = jaxface.prepare_model(usual, jaxface.default_config(usual, wild=True))
    for count in (2, 2):  # once in all: for its own settings, then for these
        found = jaxface.load_model(_NAME, wild=True)
        check_equal(found, wanted)
        assert len(preparations) == count
    assert jaxface.prepare_model(found, jaxface.default_config(found, wild=True)) is found


def test_arrays_that_are_given_up_leave_the_file_alone(cache: Path):
    """The mapping cannot be written; a donated array's memory must not be taken for a result."""
    model, path = jaxface.load_model(_NAME), prepared(cache)
    before = path.read_bytes()
    leaf = model.clnf.main.pdm.components
    wanted = np.asarray(leaf) + 1
    np.testing.assert_array_equal(jax.jit(lambda x: x + 1, donate_argnums=0)(leaf), wanted)
    assert path.read_bytes() == before


class Mine(eqx.Module):
    x: jax.Array


def test_what_is_the_users_is_not_written(tmp_path: Path):
    with pytest.raises(TypeError, match="cannot keep a .*Mine"):
        write_tree(tmp_path / "tree", (Mine(jax.numpy.zeros(2)), 1))
    assert not list(tmp_path.iterdir())


def test_plain_values_come_back(tmp_path: Path):
    arrays = (np.float32(2).reshape(()), np.zeros((0, 3), np.int32), np.array([True, False]))
    tree = {1: (None, True, 2, 2.5, "x", float("inf")), "a": tuple(map(jax.numpy.asarray, arrays))}
    write_tree(tmp_path / "tree", tree)
    found = read_tree(tmp_path / "tree")
    assert found[1] == tree[1] and [*map(type, found[1])] == [*map(type, tree[1])]
    for one, other in zip(found["a"], arrays, strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    (tmp_path / "tree").write_bytes(b"jaxface\x01 and more")
    with pytest.raises(DamagedFileError, match="damaged|part of one"):
        read_tree(tmp_path / "tree")


def test_few_files_are_kept(tmp_path: Path):
    for age, name in enumerate(("a-3", "a-1", "a-2", "b-1")):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (age, age))
    jaxface.models._mapped.drop_oldest(tmp_path, "a-*", 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-1", "a-2", "b-1"]


def test_the_shipped_model_is_kept_in_the_users_cache(cache: Path):
    assert prepared(cache).name.startswith(f"{_NAME}-")
    assert not (shipped_dir() / "prepared").exists()
