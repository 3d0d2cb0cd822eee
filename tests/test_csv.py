"""CSV files: OpenFace's bytes, streaming, and what happens when they cannot be written."""

import dataclasses
import errno
import io
import os
import stat
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from jaxface.errors import OutputError
from jaxface.output import (
    FIELDS,
    INTENSITY_NAMES,
    OPENFACE_UNITS,
    PRESENCE_NAMES,
    CsvWriter,
    Table,
    column_groups,
    column_names,
    csv_lines,
    join_tables,
    to_dataframe,
    write_csv,
)
from jaxface.reference.comparison.golden_runs import csv_kind, read_highprec

_MAX_SECONDS = 0.5  # for 288 rows; about 0.09 s here, the rest is room for a busy machine
_MAX_GROWTH = 200_000  # bytes; 4000 rows are 20 MB as text, buffers and the like are far less


@pytest.fixture(scope="module")
def default(golden_dir: Path) -> Table:
    return read_highprec(golden_dir / "default")[0]


def _row(frame: int = 1, *, units: bool = True, value: float = 0.25, face_id: int = 0) -> Table:
    def full(*shape: int) -> np.ndarray:
        return np.full((1, *shape), value, np.float32)

    points = (full(2, 3), full(2), full(56, 2), full(56, 3), full(6), full(68, 2), full(68, 3))
    pose = (full(), full(3), full(2), full(34))
    key = np.array([frame]), np.array([face_id]), np.array([0.1 * (frame - 1)]), np.array([0.98])
    row = Table(*key, np.array([True]), *points, *pose, full(17), np.ones((1, 18)))
    return row if units else _without_units(row)


def _without_units(table: Table) -> Table:
    nothing = np.zeros((len(table), 0))
    return dataclasses.replace(table, au_intensity=nothing, au_presence=nothing)


# OpenFace's bytes


def test_columns():
    assert len(column_names("video")) == len(column_names("multi_face")) == 714
    assert len(column_names("image")) == 711
    assert len(column_names("image", units=None)) == 711 - 35
    assert column_names("video")[:5] == "frame face_id timestamp confidence success".split()
    assert column_names("image")[:3] == ["face", "confidence", "gaze_0_x"]
    assert column_names("video")[-36:-34] == ["p_33", "AU01_r"]
    assert column_names("video")[-19:-17] == ["AU45_r", "AU01_c"]
    assert (len(INTENSITY_NAMES), len(PRESENCE_NAMES)) == (17, 18)
    assert list(PRESENCE_NAMES) == sorted({*INTENSITY_NAMES, "AU28"})
    assert [group.field for group in column_groups("image")] == list(FIELDS)
    without_eyes = column_names("video", landmarks=5, eye_landmarks=0, modes=2, units=None)
    assert without_eyes[11:15] == ["gaze_angle_x", "gaze_angle_y", "pose_Tx", "pose_Ty"]
    assert without_eyes[19:21] == ["x_0", "x_1"] and without_eyes[-2:] == ["p_0", "p_1"]
    assert len(without_eyes) == 5 + 8 + 6 + 5 * 5 + 6 + 2


@pytest.mark.untyped
def test_unknown_kind():
    with pytest.raises(ValueError, match="kind: expected one of video, multi_face, image, got 'x'"):
        column_names("x")  # pyright: ignore[reportArgumentType]


def test_stock_csvs_byte_for_byte(golden_dir, tmp_path):
    folders = [path.parent for path in golden_dir.glob("*/highprec.csv.gz")]
    folders = [folder for folder in folders if list(folder.glob("*.csv"))]
    assert len(folders) >= 25
    identical = 0
    for folder in folders:
        (stock,) = folder.glob("*.csv")
        table, cells = read_highprec(folder)
        path = write_csv(tmp_path / "found.csv", table, kind=csv_kind(folder))
        if path.read_bytes() == stock.read_bytes():
            identical += 1
            continue
        found = [line.split(", ") for line in path.read_text().splitlines()]
        expected = [line.split(", ") for line in stock.read_text().splitlines()]
        pairs = zip(found[1:], expected[1:], cells, strict=True)
        wrong = [c for row in pairs for c in zip(*row, strict=True) if c[0] != c[1]]
        # Only where 9 decimals, cut from the float32, do not tell which way it rounds.
        assert found[0] == expected[0] and len(wrong) == 1, folder.name
        assert wrong == [("-0.004508", "-0.004507", "-0.004507500")], folder.name
    assert identical == len(folders) - 2  # both runs of 2015-10-15-15-14, the same cell


def test_numbers_round_as_in_c():
    row = dataclasses.replace(
        _row(),
        gaze_angle=np.array([[-0.0, 0.0005]], np.float32),  # the float32 lies above the tie
        head_pose=np.array([[0.25, -0.04, 0.35, 1e6, np.nan, -np.inf]], np.float32),
        scale=np.array([0.0005]),  # becomes a float32 first
        timestamp=np.array([0.0005]),  # stays a float64, which lies above the tie
        confidence=np.array([0.725]),  # as a float32 it lies above 0.725
        success=np.array([False]),
    )
    (line,) = csv_lines(row)
    cells = dict(zip(column_names("video"), line.decode().rstrip("\n").split(", "), strict=True))
    assert [cells[f"gaze_angle_{axis}"] for axis in "xy"] == ["-0.000", "0.001"]
    assert [cells[f"pose_T{axis}"] for axis in "xyz"] == ["0.2", "-0.0", "0.3"]
    assert [cells[f"pose_R{axis}"] for axis in "xyz"] == ["1000000.000", "nan", "-inf"]
    assert (cells["p_scale"], cells["timestamp"], cells["confidence"]) == ("0.001", "0.001", "0.73")
    assert (cells["success"], cells["frame"], cells["AU01_r"]) == ("0", "1", "0.25")
    assert cells["AU01_c"] == "1.00"
    (line,) = csv_lines(row, "multi_face")
    assert line.endswith(b", 1.0\n")


def test_288_rows_are_quick(default):
    start = time.perf_counter()
    lines = list(csv_lines(default))
    assert time.perf_counter() - start < _MAX_SECONDS
    assert len(lines) == 288


# Tables


def test_rows_and_tables_convert_into_each_other(default):
    again = join_tables(default)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(again, name), getattr(default, name), name)
    assert join_tables(_without_units(default)).au_intensity.shape == (288, 0)
    with pytest.raises(ValueError, match="tables: expected at least one, got none"):
        join_tables([])
    with pytest.raises(ValueError, match=r"au_intensity: expected one shape .*\(0,\), \(17,\)"):
        join_tables([_row(), _row(units=False)])


def test_rows_of_a_table(default):
    """Against the rows of its arrays."""
    mask = default.timestamp > 3
    for rows in (slice(3, 10), slice(None, None, -2), mask, [5, 1, 1], np.array([], int)):
        some = default[rows]
        assert type(some) is Table
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(some, name), getattr(default, name)[rows], name)
    for number in (0, 7, 287, -1, -288, np.int32(4)):
        row = default[number]
        assert len(row) == 1 and row.landmarks.shape == (1, 68, 2)
        np.testing.assert_array_equal(row.landmarks[0], default.landmarks[number])
    assert len(default) == 288 and len(default[[]]) == 0


@pytest.mark.untyped
def test_rows_that_a_table_does_not_have(default):
    for wrong in (288, -289):
        with pytest.raises(IndexError, match=f"row {wrong}: expected one of 288 rows"):
            default[wrong]
    with pytest.raises(IndexError, match="rows: expected a mask of 288 entries, got 3"):
        default[np.ones(3, bool)]
    for wrong in ("landmarks", 1.0, [[1]], (1, 2, "x")):
        with pytest.raises(TypeError, match="rows: expected a number, a slice, numbers or a mask"):
            default[wrong]


def test_dataframe(default, golden_dir):
    frame = to_dataframe(default)
    text = io.StringIO((golden_dir / "default" / "default.csv").read_text())
    stock = np.genfromtxt(text, delimiter=",", skip_header=1)
    assert list(frame.columns) == column_names("video")
    assert [frame[name].dtype.kind for name in ("frame", "success", "x_0")] == ["i", "i", "f"]
    # Half a unit of the last printed decimal: one decimal at the coarsest.
    np.testing.assert_allclose(frame.to_numpy(float), stock, rtol=0, atol=0.050001)
    assert frame["x_3"][7] == default.landmarks[7, 3, 0]
    assert to_dataframe(_without_units(default)).shape == (288, 714 - 35)
    assert list(to_dataframe(default, kind="image").columns[:2]) == ["face", "confidence"]


# Streaming


def test_action_units_filled_in_at_the_end(default, golden_dir, tmp_path):
    path = tmp_path / "deep" / "default.csv"
    with CsvWriter(path) as writer:
        for row in _without_units(default):
            writer.write(row)
            assert not path.exists()
        units = zip(default.au_intensity, default.au_presence, strict=True)
        assert writer.finish(units) == path
    assert path.read_bytes() == (golden_dir / "default" / "default.csv").read_bytes()
    assert os.listdir(path.parent) == ["default.csv"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o044  # not private to the user


@pytest.mark.parametrize("units", [True, False])
def test_rows_as_they_are(tmp_path, units):
    with CsvWriter(tmp_path / "a.csv", kind="image") as writer:
        writer.write(_row(units=units))
        writer.write_table(join_tables([_row(units=units, face_id=1)] * 2))
        writer.finish()
    assert writer.rows == 3
    header, *lines = (tmp_path / "a.csv").read_text().splitlines()
    assert header.split(", ") == column_names("image", units=OPENFACE_UNITS if units else None)
    assert [line.split(", ")[0] for line in lines] == ["0", "1", "1"]
    assert {line.count(",") for line in (header, *lines)} == {711 - 1 - (0 if units else 35)}


def test_no_rows_no_file(tmp_path):
    (tmp_path / "a.csv").write_text("older")
    with CsvWriter(tmp_path / "a.csv", kind="image") as writer:
        assert writer.finish() is None
    assert (tmp_path / "a.csv").read_text() == "older"


def test_memory_does_not_grow_with_the_clip(tmp_path):
    table = join_tables([_row(units=False)] * 100)
    unit = (np.zeros(17), np.zeros(18))
    with CsvWriter(tmp_path / "a.csv") as writer:
        writer.write_table(table)  # allocates what is allocated once
        tracemalloc.start()
        try:
            start = tracemalloc.get_traced_memory()[0]
            for _ in range(39):
                writer.write_table(table)
            written = tracemalloc.get_traced_memory()[0]
            writer.finish(unit for _ in range(4000))
            finished = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    assert max(written - start, finished - start) < _MAX_GROWTH
    assert (tmp_path / "a.csv").stat().st_size > 10_000_000


def test_misuse(tmp_path):
    unit = (np.zeros(17), np.zeros(18))
    with CsvWriter(tmp_path / "a.csv") as writer:
        writer.write(_row())
        with pytest.raises(ValueError, match="expected action units in all of them or in none"):
            writer.write(_row(units=False))
        with pytest.raises(ValueError, match="action_units: expected None, the rows have them"):
            writer.finish([unit])
    for count in (1, 3):
        with CsvWriter(tmp_path / "a.csv") as writer:
            writer.write_table(join_tables([_row(units=False)] * 2))
            with pytest.raises(ValueError, match="expected one entry for each of 2 rows"):
                writer.finish([unit] * count)
    assert os.listdir(tmp_path) == []


# Failures


def _full_disk(monkeypatch, after: int) -> None:
    """Makes every file that is opened for writing fail once it holds `after` bytes."""
    real_open = open

    class Full(io.RawIOBase):
        def __init__(self, name):
            self.inner = real_open(name, "xb")

        def writable(self):
            return True

        def write(self, data):
            if self.inner.tell() + len(data) > after:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.inner.write(data)

        def close(self):
            self.inner.close()
            super().close()

    def fake_open(name, mode="r"):
        return Full(name) if mode == "xb" else real_open(name, mode)

    monkeypatch.setattr("jaxface._files._atomic.open", fake_open, raising=False)


def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch, default):
    path = tmp_path / "a.csv"
    path.write_text("older")
    _full_disk(monkeypatch, after=100_000)
    message = "a.csv: cannot be written .No space left on device.; choose another output folder"
    with pytest.raises(OutputError, match=message) as caught:
        write_csv(path, default)
    assert caught.value.path == path
    with CsvWriter(path) as writer:
        writer.write_table(default)
        with pytest.raises(OutputError, match=message):
            writer.finish()
    assert path.read_text() == "older"
    assert os.listdir(tmp_path) == ["a.csv"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_full_disk_while_streaming(tmp_path, monkeypatch, default):
    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: open("/dev/full", "r+b", buffering=0))
    with CsvWriter(tmp_path / "a.csv") as writer:
        with pytest.raises(OutputError, match="a.csv: cannot be written .No space left on device"):
            writer.write_table(default)
    assert os.listdir(tmp_path) == []


def test_file_in_place_of_the_folder(tmp_path, default):
    (tmp_path / "out").write_text("a file")
    for write in (
        lambda path: write_csv(path, default),
        lambda path: CsvWriter(path).write_table(default),
    ):
        with pytest.raises(OutputError, match="out: cannot be written"):
            write(tmp_path / "out" / "a.csv")
    assert (tmp_path / "out").read_text() == "a file"


def test_folder_in_place_of_the_file(tmp_path, default):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(OutputError, match="a.csv: cannot be written"):
        write_csv(tmp_path / "a.csv", default)
    assert os.listdir(tmp_path) == ["a.csv"]


def test_interruption_leaves_nothing_behind(tmp_path, default):
    (tmp_path / "a.csv").write_text("older")

    def units():
        yield np.zeros(17), np.zeros(18)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with CsvWriter(tmp_path / "a.csv") as writer:
            writer.write_table(_without_units(default))
            writer.finish(units())
    assert os.listdir(tmp_path) == ["a.csv"]
    assert (tmp_path / "a.csv").read_text() == "older"
