"""Figures with their bounds, and who may import the comparison with OpenFace."""

import ast
from pathlib import Path

import numpy as np
import pytest

from jaxface.reference.comparison.figures import Figure, Subject, angles

ROOT = Path(__file__).resolve().parents[1]
SUBJECT = Subject("pose", "openface", "a.avi")


@pytest.mark.parametrize(
    ("figure", "passed", "limit", "verdict"),
    (
        (SUBJECT.at_most("error", 0.5, 0.5), True, "≤ 0.5", "yes"),
        (SUBJECT.at_most("error", 0.5, 0.6), False, "≤ 0.5", "**NO**"),
        (SUBJECT.at_most("error", 0.5, np.nan), False, "≤ 0.5", "**NO**"),
        (SUBJECT.at_least("share", 98, 99), True, "≥ 98", "yes"),
        (SUBJECT.at_least("share", 98, 97), False, "≥ 98", "**NO**"),
        (SUBJECT.plain("error", 0.6), None, "", ""),
    ),
)
def test_a_figure_against_its_bound(figure: Figure, passed: bool | None, limit: str, verdict: str):
    assert (figure.passed, figure.limit, figure.verdict) == (passed, limit, verdict)
    assert (figure.stage, figure.model, figure.clip) == ("pose", "openface", "a.avi")


def test_angles_of_directions():
    turn = np.radians([0.0, 1e-4, 30.0, 180.0])
    found = np.stack([np.sin(turn), 0 * turn, np.cos(turn)], axis=-1)
    wanted = np.array([0.0, 0.0, 1.0]) * np.ones((4, 1))
    # float64 holds sine and cosine to 1e-16; 1e-9 of a degree is far below any bound.
    np.testing.assert_allclose(angles(found, wanted), np.degrees(turn), rtol=0, atol=1e-9)


def _imports(path: Path) -> set[str]:
    """Modules that a file imports by their whole names, from anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize(("folder", "other"), (("bench", "tests"), ("tests", "bench")))
def test_bench_and_tests_stand_apart(folder: str, other: str):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert len(files) > 10
    first = {path: {name.split(".")[0] for name in _imports(path)} for path in files}
    assert [path.name for path, names in first.items() if other in names] == []


def test_the_package_does_without_the_comparison():
    """Whoever analyses a clip loads none of it."""
    files = [p for p in (ROOT / "jaxface").rglob("*.py") if p.parent.name != "comparison"]
    assert len(files) > 50
    assert [
        p.name for p in files if any("comparison" in name.split(".") for name in _imports(p))
    ] == []
