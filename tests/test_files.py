"""The atomic file under all writers of the package."""

import errno
import os
import re
from pathlib import Path

import numpy as np
import pytest

from jaxface._files import AtomicFile, replace_file

PACKAGE = Path(__file__).resolve().parents[1] / "jaxface"


def test_a_file_appears_whole_at_commit(tmp_path):
    path = tmp_path / "a.npz"
    path.write_text("older")
    with AtomicFile(path) as file:
        np.savez(file.stream, x=np.arange(3))
        assert path.read_text() == "older"
        assert file.commit() == path
    with np.load(path) as stored:
        np.testing.assert_array_equal(stored["x"], [0, 1, 2])
    assert os.listdir(tmp_path) == ["a.npz"]
    assert path.stat().st_mode & 0o777 == _usual_mode(tmp_path)


def _usual_mode(folder: Path) -> int:
    plain = folder / "plain"
    plain.touch()
    return plain.stat().st_mode & 0o777


def test_what_is_not_committed_leaves_nothing(tmp_path):
    path = tmp_path / "a"
    with AtomicFile(path) as file:
        file.stream.write(b"half of it")
    with pytest.raises(RuntimeError), AtomicFile(path) as file:
        file.stream.write(b"half of it")
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_a_failed_replacement_leaves_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / ("a" * 250)  # hardly any room for the suffix of the temporary file
    assert replace_file(path, b"older") == path

    def full(*names: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"newer")
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == [path.name]
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "gone" / "a", b"")


def test_no_other_module_renames_files():
    """Otherwise it would be a second atomic writer."""
    renames = re.compile(r"os\.(replace|rename)\(|\.rename\(|mkstemp|NamedTemporaryFile|\.tmp\b")
    found = [p for p in PACKAGE.rglob("*.py") if renames.search(p.read_text())]
    assert found == [PACKAGE / "_files" / "_atomic.py"]
