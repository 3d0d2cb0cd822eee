"""That the typed run sees what it is for: errors planted in a copy of the package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT, TYPED
from .counted import arguments, check, store

_PLANTED = """
import subprocess
import sys

import jax
import jax.numpy as jnp

from jaxface.ops import to_gray
from jaxface.types import PDMParameters

_CALL = "import jax.numpy; from jaxface.ops import to_gray; to_gray(jax.numpy.zeros((2, 2, 3)))"


def test_of_a_traced_function():
    assert jax.jit(to_gray)(jnp.zeros((2, 2, 3))).shape == (2, 2)


def test_of_a_record():
    PDMParameters(jnp.ones(()), jnp.zeros(4), jnp.zeros(2), jnp.zeros(5))


def test_in_a_process():
    subprocess.run([sys.executable, "-c", _CALL], check=True)


def test_types_are_not_promoted():
    jnp.zeros(3) + jnp.zeros(3, jnp.int32)


def test_ranks_are_not_promoted():
    jnp.zeros((2, 3)) + jnp.zeros(3)
"""
_TESTS = 5


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    """A copy of the package in which `to_gray` promises another shape than it gives."""
    folder = tmp_path_factory.mktemp("planted")
    shutil.copytree(ROOT / "jaxface", folder / "jaxface", ignore=shutil.ignore_patterns("*.pyc"))
    source = folder / "jaxface" / "ops" / "_color.py"
    right = '-> Num[Array, "*n h w"] | FlatGray:'
    wrong = right.replace('"*n h w"', '"*n h w 3"')
    assert source.read_text().count(right) == 1
    source.write_text(source.read_text().replace(right, wrong))
    tests = folder / "tests"
    shutil.copytree(ROOT / "tests" / "typed_startup", tests / "typed_startup")
    shutil.copy(ROOT / "tests" / "conftest.py", tests)
    (tests / "__init__.py").touch()
    (tests / "test_planted.py").write_text(_PLANTED)
    return folder


@pytest.mark.parametrize("typed", [False, True])
def test_planted_errors_fail_in_the_typed_run_alone(planted: Path, typed: bool):
    unset = ("JAXFACE_TYPED", "JAX_NUMPY_DTYPE_PROMOTION", "JAX_NUMPY_RANK_PROMOTION")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"PYTHONPATH": str(planted)} | ({"JAXFACE_TYPED": "1"} if typed else {})
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, cwd=planted, env=environment, capture_output=True, text=True)
    if typed:
        assert f"\n{_TESTS} failed" in done.stdout, done.stdout
        for error in ("jaxtyping.TypeCheckError", "TypePromotionError", "rank_promotion='raise'"):
            assert error in done.stdout
    else:
        assert f"\n{_TESTS} passed" in done.stdout, done.stdout


@pytest.mark.skipif(not TYPED, reason="the plain run")
def test_this_run_traces_everything():
    """JAX's cache is asked for a program once it is traced; what jaxface keeps is not traced."""
    folder = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    assert folder == Path(os.environ["JAXFACE_TESTS_PROGRAMS"])  # which this run made
    for _ in range(2):  # two processes
        function, traced = store()
        check(function(*arguments(), "double"), 2)
        assert traced.count == 1
    assert not (folder / "jaxface-programs").exists()


@pytest.mark.untyped
def test_untyped_tests_run_without_the_hook():
    assert not TYPED
