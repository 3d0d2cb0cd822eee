"""Fixtures shared by all tests: the OpenFace data that is not in this repository."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def shared_dir() -> Path:
    """Folder with OpenFace's models, samples and golden results."""
    return Path(os.environ.get("JAXFACE_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def openface_dir() -> Path:
    """`openface/` of the shared data; skips where it is absent."""
    path = shared_dir() / "openface"
    if not path.is_dir():
        pytest.skip(f"{path} is missing: set JAXFACE_SHARED to the folder that holds openface/")
    return path


@pytest.fixture(scope="session")
def model_dir(openface_dir: Path) -> Path:
    """Root of OpenFace's original model files, laid out as in its repository."""
    return openface_dir / "models" / "2.2.0" / "originals"


@pytest.fixture(scope="session")
def golden_dir(openface_dir: Path) -> Path:
    return openface_dir / "golden"


@pytest.fixture(scope="session")
def samples_dir(openface_dir: Path) -> Path:
    return openface_dir / "samples"
