"""Fixtures shared by all tests, and the typed run.

Where $JAXFACE_TYPED is set, jaxface's annotations are checked at each call, and JAX promotes
neither types nor ranks. Both are checked while a function is traced: so nothing is taken from
what jaxface keeps of programs on disk, which are not traced again. JAX's own cache only spares
their compilation, and each run has one.
"""

import atexit
import os
import runpy
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TYPED = os.environ.get("JAXFACE_TYPED", "0") != "0"
if TYPED:
    if "jaxface" in sys.modules:
        raise RuntimeError("jaxface: imported before its annotations can be checked")
    _startup = Path(__file__).parent / "typed_startup"
    runpy.run_path(str(_startup / "sitecustomize.py"))
    # Read when JAX is loaded, also by the processes that tests start.
    os.environ |= {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(_startup), os.environ.get("PYTHONPATH")])),
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "JAX_NUMPY_RANK_PROMOTION": "raise",
    }

# JAX's cache of this run, which is empty at first: most of the time of these tests is that of
# compiling the same few large programs. The processes that tests start share it, as do
# pytest-xdist's.
_PROGRAMS = "JAXFACE_TESTS_PROGRAMS"
if _PROGRAMS not in os.environ and (TYPED or not os.environ.get("JAX_COMPILATION_CACHE_DIR")):
    _folder = tempfile.mkdtemp(prefix="jaxface-tests-")
    atexit.register(shutil.rmtree, _folder, ignore_errors=True)
    os.environ |= {
        _PROGRAMS: _folder,
        "JAX_COMPILATION_CACHE_DIR": _folder,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
        "JAXFACE_COMPILE_CACHE": "0",  # what jaxface keeps beside it
    }

# NumPy inverts thousands of small matrices; threads that wait for each other make that 40 times
# slower on a busy machine. Read when NumPy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import pytest  # noqa: E402

from jaxface.fit import CLNF, fit_config, prepare_clnf  # noqa: E402
from jaxface.models.openface import read_model  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]

_MAPS = Path("/proc/self/maps")  # of Linux
# XLA keeps some ten areas of memory for each compiled program, and aborts at the 65530 that Linux
# grants a process.
_MOST_MAPS = 30000


# Files that compile for minutes: they come first, so that pytest-xdist's workers end together.
_LONGEST = (
    *("end_to_end", "cli_engine", "openface_commands", "base_model", "lanes", "whole_clips"),
    *("derivatives_fit", "derivatives_looks", "float64", "uncertainty", "api", "solvers"),
    *("frames", "training_action_units", "vmap", "flat", "segments", "tracker", "fit", "export"),
    *("training_landmarks", "stages", "devices", "batches", "detect", "base_stages", "adapt"),
)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config.option, "loadscopereorder"):  # else it puts files with the most tests first
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = [f"test_{name}.py" for name in _LONGEST]
    rank = {name: number - len(names) for number, name in enumerate(names)}
    items.sort(key=lambda item: rank.get(item.path.name, 0))
    for item in items if TYPED else ():
        if item.get_closest_marker("untyped"):
            item.add_marker(pytest.mark.skip(reason="untyped: part of the plain run, -m untyped"))


@pytest.fixture(autouse=True, scope="session")
def open_cache() -> None:
    """JAX opens its cache once, where its settings are at the first program that it compiles."""
    jax.jit(lambda x: x)(0)


@pytest.fixture(autouse=True, scope="module")
def forget_programs() -> Iterator[None]:
    """Drops what the tests so far have compiled, once it is much."""
    yield
    if _MAPS.is_file() and _MAPS.read_bytes().count(b"\n") > _MOST_MAPS:
        jax.clear_caches()


_BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A headless Chromium: `browser.new_page()` gives a page; skips where there is none.

    Of a module only: while it runs, asyncio takes its thread for one of a running loop.
    """
    path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium on the PATH: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with playwright.sync_playwright() as driver:
        # Chromium keeps no sandbox as root, and little shared memory is in a container.
        flags = ["--no-sandbox", "--disable-dev-shm-usage"]
        with driver.chromium.launch(executable_path=path, args=flags) as launched:
            yield launched


def shared_dir() -> Path:
    """Folder with OpenFace's models, samples and golden results."""
    return Path(os.environ.get("JAXFACE_SHARED", ROOT.parent / "shared"))


def _shared(part: str) -> Path:
    """A part of the shared data; skips where it is absent, but not where $CI is set."""
    path = shared_dir() / part
    if not path.is_dir():
        stop = pytest.fail if os.environ.get("CI") else pytest.skip
        stop(f"{path} is missing: set JAXFACE_SHARED to the folder that holds {part}/")
    return path


@pytest.fixture(scope="session")
def openface_dir() -> Path:
    """OpenFace's models, samples and golden results."""
    return _shared("openface")


@pytest.fixture(scope="session")
def training_dir() -> Path:
    """Portraits, studio pictures and head models."""
    return _shared("training")


@pytest.fixture(scope="session")
def cases_dir() -> Path:
    """Inputs as laboratories have them, with what is right for each."""
    return _shared("cases")


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


def _read_clnf(model_dir: Path, kind: str, cen_dir: Path | None = None) -> CLNF:
    model = read_model(model_dir, kind, cen_dir=cen_dir, allow_modified=cen_dir is not None).clnf
    return jax.tree.map(jnp.asarray, prepare_clnf(model, fit_config(model)))


@pytest.fixture(scope="session")
def openface_model(model_dir: Path) -> CLNF:
    """CLNF with everything that `fit_config(clnf)` needs."""
    return _read_clnf(model_dir, "openface")


@pytest.fixture(scope="session")
def openface_ceclm(model_dir: Path, openface_dir: Path) -> CLNF:
    """CE-CLM; the experts were made from CCNF, as OpenFace's own are a separate download."""
    return _read_clnf(model_dir, "openface-ceclm", openface_dir / "cen-from-ccnf")


@pytest.fixture(scope="session")
def openface_clm(model_dir: Path) -> CLNF:
    """CLM with SVR experts."""
    return _read_clnf(model_dir, "openface-clm")
