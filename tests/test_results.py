"""Tables of results: rows, texts, and CSVs read back."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest

import jaxface
from jaxface import Analysis, InputError
from jaxface.output import FIELDS, CsvKind, UnitNames, column_names
from jaxface.reference.comparison.golden_runs import csv_kind, read_highprec

_FEW = UnitNames(("AU06", "AU12"), ("AU12", "AU28", "AU45"))


def _analysis(
    kind: CsvKind,
    rows: int = 3,
    *,
    landmarks: int = 68,
    eyes: int = 56,
    modes: int = 34,
    units: UnitNames = UnitNames(),
) -> Analysis:
    """Random values, that no two columns share."""
    rng = np.random.default_rng(rows + landmarks)

    def random(*shape: int) -> np.ndarray:
        return rng.normal(0, 100, (rows, *shape)).astype(np.float32)

    number = np.arange(rows)
    return Analysis(
        kind=kind,
        units=units,
        frame={"video": number + 1, "multi_face": number // 2 + 1}.get(kind, np.ones(rows, int)),
        face_id={"video": 0 * number, "multi_face": number % 2}.get(kind, number),
        timestamp=0.04 * number,
        confidence=rng.uniform(0, 1, rows).astype(np.float32),
        success=np.ones(rows, bool) if kind == "image" else number % 2 == 0,
        gaze=random(2, 3),
        gaze_angle=random(2),
        eye_landmarks=random(eyes, 2),
        eye_landmarks_3d=random(eyes, 3),
        head_pose=random(6),
        landmarks=random(landmarks, 2),
        landmarks_3d=random(landmarks, 3),
        scale=random(),
        rotation=random(3),
        translation=random(2),
        local=random(modes),
        au_intensity=rng.uniform(0, 5, (rows, len(units.intensity))).astype(np.float32),
        au_presence=rng.integers(0, 2, (rows, len(units.presence))).astype(np.float32),
    )


# Rows and texts


def test_rows_keep_their_settings_and_large_arrays():
    whole = _analysis("multi_face", 7)
    whole = dataclasses.replace(whole, fhog=np.arange(7 * 4464.0).reshape(7, 4464))
    for rows in (slice(2, 5), whole.success, 3):
        some = whole[rows]
        assert isinstance(some, Analysis) and isinstance(some.fhog, np.ndarray)
        assert (some.kind, some.units, some.aligned) == ("multi_face", whole.units, None)
        chosen = np.atleast_1d(np.arange(7)[rows])
        np.testing.assert_array_equal(some.local, whole.local[chosen])
        np.testing.assert_array_equal(some.fhog[:, 0], 4464 * chosen)
    assert [int(row.face_id[0]) for row in whole] == [0, 1, 0, 1, 0, 1, 0]
    assert len(whole) == 7 and len(whole[:0]) == 0


def test_an_analysis_is_a_tree_of_arrays():
    whole = _analysis("video")
    twice = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf]), whole)
    assert isinstance(twice, Analysis) and len(twice) == 6
    assert eqx.tree_equal(twice[3:], whole)


def test_short_text():
    whole = _analysis("multi_face", units=_FEW)
    text = "clip of several faces, 3 rows, 2 with a face; 68 landmarks, 4 action units"
    assert repr(whole) == str(whole) == f"<Analysis: {text}>"
    fhog = dataclasses.replace(whole[0], fhog=np.zeros((1, 4464)))
    assert "1 row, 1 with" in repr(fhog) and repr(fhog).endswith("; with fhog>")
    table = whole._repr_html_()
    assert text in table and table.rpartition("<table>")[2].count("<tr>") == 1 + 3
    assert "and 4 more" in _analysis("video", 9)._repr_html_()
    strongest = whole.units.intensity[int(np.argmax(whole.au_intensity[0]))]
    assert f"{strongest} {whole.au_intensity[0].max():.1f}" in table
    names = dataclasses.replace(whole, units=UnitNames(("<b>", "AU12"), _FEW.presence))
    assert "<b> " not in names._repr_html_() and "&lt;b&gt; " in names._repr_html_()
    assert "<td" not in whole[:0]._repr_html_()


# CSVs read back


def test_openfaces_csvs_are_read_and_written_again(golden_dir: Path, tmp_path):
    """To the byte, and the values are those of the high-precision runs as far as printed."""
    paths = sorted(golden_dir.glob("*/*.csv"))
    assert len(paths) == 25
    for path in paths:
        found = jaxface.read_csv(path)
        assert found.kind == csv_kind(path.parent)
        written = jaxface.write_csv(tmp_path / "again.csv", found)
        assert written.read_bytes() == path.read_bytes(), path
        golden = read_highprec(path.parent)[0]
        for name in FIELDS:
            # Half of the last decimal of the coarsest columns, and float32's own rounding.
            bound = 0.0501 if "landmarks" in name or name == "head_pose" else 0.00501
            expected = getattr(golden, name).astype(float)
            given = getattr(found, name).astype(float)
            np.testing.assert_allclose(given, expected, rtol=0, atol=bound, err_msg=name)


@pytest.mark.parametrize("kind", ("video", "multi_face", "image"))
@pytest.mark.parametrize(
    "numbers",
    (
        {},
        {"landmarks": 5, "eyes": 0, "modes": 2, "units": _FEW},
        {"landmarks": 98, "eyes": 16, "modes": 0, "units": UnitNames((), ("AU12",))},
        {"units": UnitNames((), ())},
    ),
    ids=("openface", "five points", "98 points", "no units"),
)
def test_our_csvs_are_read_and_written_again(tmp_path, kind, numbers):
    whole = _analysis(kind, **numbers)
    path = jaxface.write_csv(tmp_path / "a.csv", whole)
    found = jaxface.read_csv(path)
    assert jaxface.write_csv(tmp_path / "b.csv", found).read_bytes() == path.read_bytes()
    assert (found.kind, found.units) == (kind, whole.units)
    for name in FIELDS:
        given, expected = getattr(found, name), getattr(whole, name)
        assert given.shape == expected.shape, name
        if not (kind == "image" and name == "timestamp"):  # it has no column
            np.testing.assert_allclose(given, expected, rtol=0, atol=0.0501, err_msg=name)
    assert found.frame.dtype.kind == found.face_id.dtype.kind == "i" and found.success.dtype == bool


def test_a_model_without_eyes_has_no_columns_of_them(tmp_path):
    whole = _analysis("video", landmarks=5, eyes=0, modes=2, units=_FEW)
    names = column_names("video", landmarks=5, eye_landmarks=0, modes=2, units=_FEW)
    assert list(whole.to_dataframe().columns) == names
    header = jaxface.write_csv(tmp_path / "a.csv", whole).read_text().splitlines()[0]
    assert header.split(", ") == names
    assert not [name for name in names if name.startswith("eye_lmk")]
    assert [name for name in names if name.startswith("gaze")][-1] == "gaze_angle_y"


def test_a_csv_without_rows(tmp_path):
    for kind in ("video", "image"):
        empty = _analysis(kind, landmarks=5, eyes=0)[:0]
        found = jaxface.read_csv(jaxface.write_csv(tmp_path / "a.csv", empty))
        assert len(found) == 0 and found.kind == kind and found.landmarks.shape == (0, 5, 2)


@pytest.fixture
def cells(golden_dir: Path) -> list[list[str]]:
    """The lines of a short CSV of OpenFace's."""
    lines = (golden_dir / "default" / "default.csv").read_text().splitlines()[:4]
    return [line.split(", ") for line in lines]


def _write(path: Path, cells: list[list[str]]) -> Path:
    path.write_text("".join(", ".join(line) + "\n" for line in cells))
    return path


_GROUPS: dict[str, Callable[[str], bool]] = {
    "gaze": lambda name: name.startswith(("gaze", "eye_lmk")),
    "pose": lambda name: name.startswith("pose"),
    "2D": lambda name: name.startswith(("x_", "y_")),
    "3D": lambda name: name.startswith(("X_", "Y_", "Z_")),
    "parameters": lambda name: name.startswith("p_"),
    "action units": lambda name: name.startswith("AU"),
}


@pytest.mark.parametrize("group", [*_GROUPS, "all"])
def test_groups_that_openface_leaves_out(tmp_path, cells, group):
    left_out = [_GROUPS[group]] if group in _GROUPS else list(_GROUPS.values())
    kept = [i for i, name in enumerate(cells[0]) if not any(out(name) for out in left_out)]
    assert len(kept) < len(cells[0])
    path = _write(tmp_path / "a.csv", [[line[i] for i in kept] for line in cells])
    found = jaxface.read_csv(path)
    assert jaxface.write_csv(tmp_path / "b.csv", found).read_bytes() == path.read_bytes()
    for name, field in {"gaze": "gaze", "pose": "head_pose", "2D": "landmarks"}.items():
        assert getattr(found, field).size == 0 if group in (name, "all") else len(found) == 3
    assert np.isnan(found.scale).all() == (group in ("parameters", "all"))
    assert (found.units == UnitNames((), ())) == (group in ("action units", "all"))
    assert list(found.to_dataframe().columns) == [cells[0][i] for i in kept]
    assert repr(found) and found._repr_html_()


@pytest.mark.parametrize(
    ("wrong", "message"),
    (
        (lambda name: name == "gaze_0_y", r"expected 'gaze_0_y' as column 7 .*, got 'gaze_0_z'"),
        (lambda name: name == "frame", "expected 'frame' as column 1 of the header"),
        (lambda name: name == "y_67", "expected 'y_67' as column .*, got 'X_0'"),
        (lambda name: name.startswith("eye_lmk_X"), "expected 'eye_lmk_X_0' as .*'eye_lmk_Y_0'"),
        (lambda name: name.startswith("gaze"), "expected 'gaze_0_x' as .*, got 'eye_lmk_x_0'"),
        (lambda name: name == "gaze_angle_y", "expected 'gaze_angle_y' as .*'eye_lmk_x_0'"),
        (lambda name: name.startswith("pose_R"), "expected 'pose_Rx' as column"),
        (lambda name: name in ("p_scale", "p_rx"), "expected 'p_scale' as column .*, got 'p_ry'"),
        (lambda name: name == "p_3", "expected 'p_3' as column .*, got 'p_4'"),
        (lambda name: name == "success", "expected 'success' as column 5 .*, got 'gaze_0_x'"),
    ),
)
def test_half_a_group_is_refused_by_name(tmp_path, cells, wrong, message):
    kept = [i for i, name in enumerate(cells[0]) if not wrong(name)]
    path = _write(tmp_path / "a.csv", [[line[i] for i in kept] for line in cells])
    with pytest.raises(InputError, match=f"a.csv: {message}"):
        jaxface.read_csv(path)


def _changed(cells: list[list[str]], row: int, column: int, cell: str) -> list[list[str]]:
    lines = [list(line) for line in cells]
    lines[row][column] = cell
    return lines


def test_damaged_files_are_refused_by_name(tmp_path, cells):
    path = tmp_path / "a.csv"
    damaged = {
        "a number in line 3, column 'gaze_0_x', got '0.2x'": _changed(cells, 2, 5, "0.2x"),
        "a number in line 2, column 'AU45_c', got ''": _changed(cells, 1, 713, ""),
        "an integer in line 4, column 'frame', got '1.5'": _changed(cells, 3, 0, "1.5"),
        "an integer in line 4, column 'face_id', got 'nan'": _changed(cells, 3, 1, "nan"),
        "0 or 1 in line 2, column 'success', got '2'": _changed(cells, 1, 4, "2"),
        "714 values in line 3, got 713": [*cells[:2], cells[2][:-1], cells[3]],
        "714 values in line 5, got 1": [*cells, [""]],
        "the header .line 1. to end after column 714, 'AU45_c', got 'mood'": [
            [*line, name] for line, name in zip(cells, ("mood", "1", "1", "1"), strict=True)
        ],
        "'frame' as column 1 of the header .line 1., got '1'": cells[1:],
    }
    for message, lines in damaged.items():
        with pytest.raises(InputError, match=f"a.csv: expected {message}; "):
            jaxface.read_csv(_write(path, lines))
    whole = _write(path, cells).read_bytes()
    contents = {
        "a CSV file with a header, got an empty file": b"",
        "a whole line 4, got the end of the file within the line": whole[:-3],
        "a CSV file, got byte 255 at 10, which is no text": whole[:10] + b"\xff" + whole[11:],
        "'frame' as column 1": b"\n\n",
    }
    for message, content in contents.items():
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"a.csv: expected {message}"):
            jaxface.read_csv(path)
    for other, message in (("gone.csv", "got nothing there"), ("", "got Is a directory")):
        with pytest.raises(InputError, match=message):
            jaxface.read_csv(tmp_path / other)


def test_line_ends_and_marks_of_other_systems_are_read(tmp_path, cells):
    """What a spreadsheet saves."""
    text = _write(tmp_path / "a.csv", cells).read_text()
    expected = jaxface.read_csv(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    (tmp_path / "c.csv").write_text(text.replace(", ", ","))
    for name in ("b.csv", "c.csv"):
        assert eqx.tree_equal(jaxface.read_csv(tmp_path / name), expected)
