"""Results as CSV, Parquet and NPZ: written, read back to the bit, and refused when damaged."""

import dataclasses
import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxface
from jaxface import Analysis, InputError, OutputError
from jaxface.output import (
    FIELDS,
    ColumnChoice,
    HogWriter,
    Record,
    TableSpool,
    UnitNames,
    choose_columns,
    column_names,
    join_tables,
)

from .test_results import _analysis

_FEW = UnitNames(("AU06", "AU12"), ("AU12", "AU28", "AU45"))
_SMALL = {"landmarks": 5, "eyes": 4, "modes": 2, "units": _FEW}
_WRITERS: dict[str, Callable[[Path, Analysis], Path]] = {
    "parquet": jaxface.write_parquet,
    "npz": jaxface.write_npz,
}
both = pytest.mark.parametrize("format", _WRITERS)


def _assert_same_bits(found: Analysis, expected: Analysis) -> None:
    for field in dataclasses.fields(Analysis):
        ours, theirs = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(theirs, np.ndarray):
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), field.name
            assert ours.tobytes() == theirs.tobytes(), field.name
        else:
            assert ours == theirs, field.name


# Round trips


@st.composite
def analyses(draw: st.DrawFn) -> Analysis:
    """Any kind, number of rows and groups of columns; floats of any bits, NaN and -0.0 too."""
    kind = draw(st.sampled_from(("video", "multi_face", "image")))
    numbers = draw(st.sampled_from(({}, _SMALL, {**_SMALL, "eyes": 0, "modes": 0})))
    whole = _analysis(kind, draw(st.integers(0, 4)), **numbers)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, precise = len(whole), draw(st.booleans())
    changed: dict[str, np.ndarray] = {}
    for name in FIELDS:
        values = getattr(whole, name)
        if values.dtype.kind == "f":
            floats = np.dtype(np.float64 if precise or name == "timestamp" else np.float32)
            bits = rng.bytes(values.size * floats.itemsize)
            changed[name] = np.frombuffer(bits, floats).reshape(values.shape)
    changed["success"] = rng.integers(0, 2, rows).astype(bool)
    changed["frame"] = rng.integers(0, 2**62, rows)
    changed["face_id"] = whole.face_id.astype(draw(st.sampled_from((np.int64, np.int8))))
    whole = dataclasses.replace(whole, **changed)
    choice = ColumnChoice(*draw(st.tuples(*[st.booleans()] * 6)))
    extras: dict[str, np.ndarray] = {}
    if draw(st.booleans()):
        extras["fhog"] = rng.normal(size=(rows, 4464)).astype(np.float32)
    if draw(st.booleans()):
        extras["aligned"] = rng.integers(0, 256, (rows, 3, 3, 3), np.uint8)
    record = draw(st.sampled_from((Record(), Record({"model": {"name": "m\u00e4x"}, "fps": 0.1}))))
    lanes = draw(st.integers(1, 9))
    return dataclasses.replace(choose_columns(whole, choice), **extras, record=record, lanes=lanes)


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(analyses())
def test_what_is_read_is_what_was_written(tmp_path, whole):
    for format, write in _WRITERS.items():
        found = jaxface.read_results(write(tmp_path / f"a.{format}", whole))
        assert len(found) == len(whole)
        if not found.columns.parameters:  # `scale` is not known then, and NaN
            assert np.isnan(found.scale).all()
            nothing = np.full_like(whole.scale, np.nan)
            found, whole = (dataclasses.replace(a, scale=nothing) for a in (found, whole))
        _assert_same_bits(found, whole)


@both
def test_what_is_read_can_be_changed(tmp_path, format):
    whole = _analysis("video", **_SMALL)
    extras = {"fhog": np.zeros((3, 4464)), "aligned": np.zeros((3, 2, 2, 3), np.uint8)}
    whole = dataclasses.replace(whole, **extras)
    found = jaxface.read_results(_WRITERS[format](tmp_path / "a", whole))
    arrays = [getattr(found, name) for name in (*FIELDS, *extras)]
    assert all(array.flags.writeable for array in arrays)


@both
def test_equal_results_are_equal_files(tmp_path, format):
    whole = _analysis("video", **_SMALL)
    files = [_WRITERS[format](tmp_path / name, whole).read_bytes() for name in "ab"]
    assert files[0] == files[1]


def test_openfaces_csvs_in_every_format(golden_dir: Path, tmp_path):
    """One table, to the digits of the CSV; where an image's CSV has no column, as that is read."""
    paths = sorted(golden_dir.glob("*/*.csv"))
    assert len(paths) == 25
    for path in paths:
        first = jaxface.read_results(path)
        assert eqx.tree_equal(first, jaxface.read_csv(path))
        assert first.columns == ColumnChoice() and first.landmarks.shape == (len(first), 68, 2)
        assert first.au_intensity.shape[1] == 17 and first.eye_landmarks.shape[1] == 56
        for format, write in _WRITERS.items():
            again = jaxface.read_results(write(tmp_path / f"a.{format}", first))
            _assert_same_bits(again, first)
            assert jaxface.write_csv(tmp_path / "a.csv", again).read_bytes() == path.read_bytes()


def test_full_precision_and_printed_digits_are_one_table(tmp_path):
    whole = _analysis("multi_face", 6)
    printed = jaxface.read_results(jaxface.write_csv(tmp_path / "a", whole))
    for format, write in _WRITERS.items():
        exact = jaxface.read_results(write(tmp_path / format, whole))
        for name in FIELDS:  # half of the last decimal of the coarsest columns, and rounding
            ours, theirs = getattr(exact, name), getattr(printed, name)
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.0501, err_msg=name)
        assert (
            jaxface.write_csv(tmp_path / "b", exact).read_bytes() == (tmp_path / "a").read_bytes()
        )


def test_the_bytes_tell_the_format(tmp_path):
    whole = _analysis("video", **_SMALL)
    for write in (jaxface.write_csv, *_WRITERS.values()):
        for suffix in ("csv", "npz", "parquet", "txt"):
            found = jaxface.read_results(write(tmp_path / f"a.{suffix}", whole))
            assert found.kind == "video" and len(found) == len(whole)


def test_other_programs_read_them(tmp_path):
    whole = _analysis("video")
    table = pd.read_parquet(jaxface.write_parquet(tmp_path / "a.parquet", whole))
    assert list(table.columns) == column_names("video")
    kinds = {name: str(table[name].dtype) for name in ("frame", "timestamp", "success", "x_0")}
    assert [*kinds.values()] == ["int64", "float64", "bool", "float32"]
    np.testing.assert_array_equal(table["eye_lmk_Y_3"], whole.eye_landmarks_3d[:, 3, 1])
    with np.load(jaxface.write_npz(tmp_path / "a.npz", whole), allow_pickle=False) as arrays:
        assert {*FIELDS, "intensity_names", "presence_names", "about"} == set(arrays)
        np.testing.assert_array_equal(arrays["landmarks"], whole.landmarks)
        assert tuple(arrays["presence_names"]) == whole.units.presence
        assert json.loads(str(arrays["about"]))["kind"] == "video"
    np.savez_compressed(tmp_path / "b.npz", **dict(np.load(tmp_path / "a.npz")))
    _assert_same_bits(jaxface.read_results(tmp_path / "b.npz"), whole)


def test_parquet_of_images_has_what_their_csv_leaves_out(tmp_path):
    whole = dataclasses.replace(_analysis("image"), success=np.array([True, False, True]))
    names = pq.read_schema(jaxface.write_parquet(tmp_path / "a", whole)).names
    assert names[:5] == ["frame", "face", "timestamp", "confidence", "success"]
    assert names[5:] == column_names("image")[2:]
    assert jaxface.read_results(tmp_path / "a").success.tolist() == [True, False, True]


def test_parquet_that_others_made_of_a_csv(golden_dir: Path, tmp_path):
    """No metadata, other types, blanks in the names: what pandas makes of OpenFace's CSV."""
    for folder in ("default", "img_sample1", "multi_face_VidMulti"):
        (path,) = (golden_dir / folder).glob("*.csv")
        table = pd.read_csv(path)
        faces = {name: "uint8" for name in table.columns if "face" in name}
        table.astype(faces).to_parquet(tmp_path / "a", index=False)
        found, expected = jaxface.read_results(tmp_path / "a"), jaxface.read_results(path)
        assert (found.kind, found.units) == (expected.kind, expected.units)
        for name in FIELDS:
            ours, theirs = getattr(found, name), getattr(expected, name)
            assert ours.dtype.kind == theirs.dtype.kind
            np.testing.assert_allclose(ours, theirs, rtol=1e-7, err_msg=name)  # float32's


# What a file does not have


def test_groups_that_are_there(golden_dir: Path, tmp_path):
    whole = jaxface.read_results(golden_dir / "default" / "default.csv")
    for i, name in enumerate(ColumnChoice._fields):
        choice = ColumnChoice(**{name: False})
        some = choose_columns(whole, choice)
        for write in (jaxface.write_csv, *_WRITERS.values()):
            found = jaxface.read_results(write(tmp_path / "a", some))
            assert found.columns == choice and not found.columns[i]
    only = choose_columns(whole, ColumnChoice(*[False] * 6))
    found = jaxface.read_results(jaxface.write_csv(tmp_path / "a", only))
    assert not any(found.columns) and found.landmarks.shape == (288, 0, 2)


@pytest.mark.parametrize("joint", (", ", ","))
def test_csvs_of_old_versions(tmp_path, joint):
    """Up to 2.0 there was no `face_id`, and before that no angles of gaze and no eyes."""
    names = column_names("video")
    eyes = [name for name in names if name.startswith(("eye_lmk", "gaze_angle"))]
    for left_out in (["face_id"], ["face_id", *eyes]):
        kept = [name for name in names if name not in left_out]
        line = [str(i % 2) for i in range(len(kept))]
        line[0] = "4"
        header = joint.join(kept).replace("gaze_1_z", "gaze_2_z")  # until September 2016
        (tmp_path / "a").write_text(f"{header}\n{joint.join(line)}\n")
        found = jaxface.read_results(tmp_path / "a")
        assert (found.kind, found.frame.tolist(), found.face_id.tolist()) == ("video", [4], [0])
        assert found.gaze_angle.shape[1] == (0 if len(left_out) > 1 else 2)
        assert found.gaze[0, 1, 2] == kept.index("gaze_1_z") % 2
        assert found.columns.gaze and found.local.shape == (1, 34)
        again = jaxface.read_results(jaxface.write_csv(tmp_path / "b", found))
        _assert_same_bits(again, found)


# Damage


@both
def test_cut_files_are_refused(tmp_path, format):
    path = _WRITERS[format](tmp_path / "a", _analysis("video", **_SMALL))
    whole = path.read_bytes()
    for length in (4, 11, 100, len(whole) // 2, len(whole) - 200, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="a: expected a whole .*, got a damaged one .*again"):
            jaxface.read_results(path)


@both
def test_changed_numbers_are_noticed(tmp_path, format):
    """Both formats hold sums of their data: one bit that flips makes no other result."""
    whole = _analysis("video", **_SMALL)
    path = _WRITERS[format](tmp_path / "a", whole)
    data = path.read_bytes()
    end = len(data)
    if format == "parquet":  # whose metadata, at the end, have no sums
        group = pq.read_metadata(path).row_group(0)
        last = group.column(group.num_columns - 1)
        end = last.data_page_offset + last.total_compressed_size
    noticed = 0
    for at in np.random.default_rng(0).integers(4, end, 60):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        try:
            found = jaxface.read_results(path)
        except InputError:
            noticed += 1
            continue
        _assert_same_bits(found, whole)  # what it hit says nothing, as the time of an entry
    assert noticed > 15  # of 60; statistics in the heads of pages, which are not read, are more


def _zip(path: Path, entries: dict[str, bytes], packed: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name, data in entries.items():
            archive.writestr(f"{name}.npy", data)
    return path


def _entries(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}


def _npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, values)
    return stream.getvalue()


def _claims(shape: str, kind: str = "<f4") -> bytes:
    """An array that claims a shape and holds 4 bytes."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(4)


class _Bad:
    """Runs a function if anybody unpickles it."""

    def __reduce__(self):
        return pytest.fail, ("the pickle was run",)


def test_wrong_npz_files_are_refused(tmp_path):
    good = _entries(jaxface.write_npz(tmp_path / "a", _analysis("video", **_SMALL)))
    about = json.loads(str(np.load(tmp_path / "a")["about"]))

    def said(**changes: object) -> dict[str, bytes]:
        return {"about": _npy(np.array(json.dumps({**about, **changes})))}

    wrong: dict[str, dict[str, bytes]] = {
        "got a pickle, which could run any program": {
            "local": _claims("(1,)", "|O")[:-4] + pickle.dumps(_Bad())
        },
        "got a header that claims 400000000000000000000": {"local": _claims(f"({10**18}, 100)")},
        "4 bytes in entry 'local.npy', got a header that claims 4000000000": {
            "local": _claims("(1000000000,)")
        },
        "an array in entry 'local.npy', got something else": {"local": b"what is this?"},
        r"'local' of shape \(n, k\), n = 3, got \(2, 2\)": {"local": _npy(np.zeros((2, 2)))},
        r"'landmarks' of shape \(n, k, 2\), n = 3": {"landmarks": _npy(np.zeros((3, 5, 3)))},
        r"'head_pose' of shape \(3, 6\), got \(3, 5\)": {"head_pose": _npy(np.zeros((3, 5)))},
        "floats in 'local', got values of int64": {"local": _npy(np.zeros((3, 2), int))},
        "true or false in 'success', got values of float64": {"success": _npy(np.zeros(3))},
        "integers in 'frame', got values of": {"frame": _npy(np.zeros(3, "M8[s]"))},
        "2 and 3 action units, got units": {"au_presence": _npy(np.zeros((3, 9)))},
        "floats in 'fhog', 3 by 4464": {"fhog": _npy(np.zeros((3, 9)))},
        "3 square RGB pictures in 'aligned'": {"aligned": _npy(np.zeros((3, 2, 3, 3), np.uint8))},
        "version 1 of jaxface's results, got version 2; update jaxface": said(format=2),
        "what jaxface's results say of themselves, got '.\"format": said(kind="film"),
        "say of themselves": said(lanes="two"),
        "results say": {"about": _npy(np.array("[" * 5000))},
        "a text in 'about', got int64": {"about": _npy(np.zeros(1, int))},
    }
    for message, entries in wrong.items():
        _zip(tmp_path / "b", {**good, **entries})
        with pytest.raises(InputError, match=f"b: .*{message}"):
            jaxface.read_results(tmp_path / "b")
    del good["local"]
    with pytest.raises(InputError, match="an array 'local', got none"):
        jaxface.read_results(_zip(tmp_path / "b", good))
    others = {"x": _npy(np.zeros(3))}
    with pytest.raises(InputError, match="an NPZ file of jaxface.write_npz, .* got one with x"):
        jaxface.read_results(_zip(tmp_path / "b", others))
    with pytest.raises(InputError, match="got one with nothing"):
        jaxface.read_results(_zip(tmp_path / "b", {}))
    with pytest.raises(InputError, match="as NumPy packs it, got method 12"):
        jaxface.read_results(_zip(tmp_path / "b", {**good, **said()}, zipfile.ZIP_BZIP2))


def test_files_that_would_fill_the_memory_are_refused(tmp_path, monkeypatch):
    """40 MB of zeros are 40 kB as ZIP, and less as Parquet; the limit is lowered to 16 MiB."""
    monkeypatch.setattr("jaxface.output._arrays._MOST", 2**24)
    path = jaxface.write_npz(tmp_path / "a", _analysis("video", **_SMALL))
    assert len(jaxface.read_results(path)) == 3
    entries = _entries(path)
    entries["local"] = _claims("(10000000,)")[:-4] + bytes(40_000_000)
    _zip(path, entries, zipfile.ZIP_DEFLATED)
    message = "a file of at most 0.016 GiB, got one that unpacks to 0.037 GiB"
    with pytest.raises(InputError, match=message):
        jaxface.read_results(path)
    names = column_names("video", landmarks=5, eye_landmarks=0, modes=2, units=_FEW)
    pq.write_table(pa.table({name: np.zeros(100_000, np.int64) for name in names}), path)
    with pytest.raises(InputError, match="at most 0.016 GiB, got one that unpacks to 0.04"):
        jaxface.read_results(path)


def test_wrong_parquet_files_are_refused(tmp_path):
    whole = _analysis("video", **_SMALL)
    good = pq.read_table(jaxface.write_parquet(tmp_path / "a", whole))
    at = good.schema.names.index("p_1")

    def put(values: pa.Array) -> pa.Table:
        return good.set_column(at, "p_1", values)

    wrong = {
        "'frame' as column 1 of the table, got 'weight'": pa.table({"weight": [1.0]}),
        "'success' as column 5 of the table, got 'gaze_0_x'": good.drop_columns(["success"]),
        "the table to end after column .*, got 'mood'": good.append_column("mood", good["x_0"]),
        "numbers in column 'p_1', got string": put(pa.array(["a", "b", "c"])),
        "a value in every row, got none in column 'p_1'": put(pa.array([1.0, None, 2.0])),
        "lists of numbers in column 'fhog', got float": good.append_column("fhog", good["x_0"]),
        "4464 floats in column 'fhog', got 2 values": good.append_column(
            "fhog", pa.array([[0.0, 1.0]] * 3, pa.list_(pa.float32(), 2))
        ),
        "square RGB pictures in column 'aligned'": good.append_column(
            "aligned", pa.array([[0, 1]] * 3, pa.list_(pa.uint8(), 2))
        ),
        "values of bool in 'success', got values of int64": good.set_column(
            4, "success", pa.array([0, 1, 2])
        ),
        "integers in 'frame', got values of float64": good.set_column(
            0, "frame", pa.array([0.5, 1.0, 2.0])
        ),
        "results say of themselves": good.replace_schema_metadata({"jaxface": "{}"}),
        "types of fields without columns": good.replace_schema_metadata({"jaxface.empty": "["}),
    }
    for message, table in wrong.items():
        pq.write_table(table, tmp_path / "b")
        with pytest.raises(InputError, match=f"b: expected .*{message}"):
            jaxface.read_results(tmp_path / "b")


def test_other_files_are_refused(tmp_path):
    contents = {
        "a CSV file with a header, got an empty file": b"",
        "'frame' as column 1 of the header": b'{"format": 1}\n',
        "a CSV file, got byte": b"\x89PNG\r\n\x1a\n" + bytes(20),
        "a whole line 1, got the end of the file": b"PA",
    }
    for message, content in contents.items():
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(InputError, match=message):
            jaxface.read_results(tmp_path / "a")
    for other, message in (("gone", "got nothing there"), ("", "got Is a directory")):
        with pytest.raises(InputError, match=message):
            jaxface.read_results(tmp_path / other)
    with HogWriter(tmp_path / "a.hog") as writer:
        writer.write(np.zeros(4464, np.float32), True)
        writer.finish()
    with pytest.raises(InputError, match="got OpenFace's HOG descriptors; call read_hog"):
        jaxface.read_results(tmp_path / "a.hog")


# Writing


@both
def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch, format):
    write, whole = _WRITERS[format], _analysis("video", **_SMALL)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="folder: cannot be written"):
        write(tmp_path / "folder", whole)
    path = tmp_path / "a"
    path.write_text("older")

    def full(name: str, mode: str) -> io.FileIO:
        open(name, mode).close()
        return io.FileIO("/dev/full", "w")

    if Path("/dev/full").exists():
        monkeypatch.setattr("jaxface._files._atomic.open", full, raising=False)
        with pytest.raises(OutputError, match="a: cannot be written .No space left on device"):
            write(path, whole)
    assert path.read_text() == "older"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "folder"]


def test_without_pyarrow(tmp_path, monkeypatch):
    whole = _analysis("video", **_SMALL)
    path = jaxface.write_parquet(tmp_path / "a", whole)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxface\[parquet\]'"):
        jaxface.write_parquet(path, whole)
    with pytest.raises(InputError, match=r"none installed; pip install 'jaxface\[parquet\]'"):
        jaxface.read_results(path)
    assert len(jaxface.read_results(jaxface.write_npz(path, whole))) == 3


def test_pyarrow_is_loaded_for_parquet_alone(tmp_path):
    jaxface.write_npz(tmp_path / "a", _analysis("video", **_SMALL))
    code = "import sys, jaxface; jaxface.read_results(sys.argv[1]); print('pyarrow' in sys.modules)"
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_records_are_plain_values():
    record = Record({"fps": 25.0, "lanes": [1, 2]})
    assert dict(record) == {"fps": 25.0, "lanes": [1, 2]} and len(record) == 2
    assert record == Record({"fps": 25.0, "lanes": (1, 2)}) != Record()
    assert len({record, Record(dict(record)), Record()}) == 2
    for wrong in ({"a": object()}, {"a": float("nan")}):
        with pytest.raises(ValueError, match="record: expected values that JSON can hold"):
            Record(wrong)


def test_rows_on_disk(tmp_path):
    whole = _analysis("multi_face", 150, **_SMALL).table()
    with TableSpool(tmp_path / "deep" / "a") as spool:
        assert spool.table() is None and not (tmp_path / "deep").exists()
        for row in whole:
            spool.write(row)
        found = spool.table()
        assert found is not None and eqx.tree_equal(join_tables([found]), whole)
        assert list((tmp_path / "deep").iterdir()) == []
        spool.write(dataclasses.replace(whole[0], frame=np.array([1], np.int32)))
        with pytest.raises(ValueError, match="frame: expected int64, got int32"):
            spool.table()


# Many files


def test_results_of_a_folder(tmp_path):
    few, more = _analysis("video", 2, **_SMALL), _analysis("video", 5, **_SMALL)
    (tmp_path / "p2").mkdir()
    jaxface.write_csv(tmp_path / "b.csv", few)
    jaxface.write_npz(tmp_path / "b.npz", few)
    jaxface.write_csv(tmp_path / "p2" / "a.csv", more)
    jaxface.write_parquet(tmp_path / ".hidden.parquet", few)
    (tmp_path / "b.run.json").write_text("{}")
    table = jaxface.results_table(tmp_path)
    assert list(table.columns) == ["file", *few.to_dataframe().columns]
    assert table["file"].tolist() == ["b.npz"] * 2 + ["p2/a.csv"] * 5
    assert table["p_0"][1] == few.local[1, 0] and table["frame"].dtype == np.int64
    files = [tmp_path / "p2" / "a.csv", str(tmp_path / "b.csv")]
    listed = jaxface.results_table(files)
    assert listed["file"].unique().tolist() == [str(path) for path in files]
    path = jaxface.write_npz(tmp_path / "wide", _analysis("video", 4))
    assert jaxface.results_table([path]).shape == (4, 715)
    jaxface.write_csv(tmp_path / "c.csv", choose_columns(few, ColumnChoice(head_pose=False)))
    message = "c.csv: expected the columns of b.npz, got 6 fewer, as 'pose_Tx'; read"
    with pytest.raises(InputError, match=message):
        jaxface.results_table(tmp_path)
    jaxface.write_csv(tmp_path / "c.csv", _analysis("image", **_SMALL))
    with pytest.raises(InputError, match="4 fewer, as 'frame', 1 more, as 'face'"):
        jaxface.results_table(tmp_path)


def test_folders_without_results(tmp_path):
    with pytest.raises(InputError, match="expected files of results .*, got none"):
        jaxface.results_table(tmp_path)
    with pytest.raises(InputError, match="gone: expected a folder or a list of files, got nothing"):
        jaxface.results_table(tmp_path / "gone")
    path = jaxface.write_npz(tmp_path / "a", _analysis("video", **_SMALL))
    with pytest.raises(InputError, match="got a file; call read_results for one"):
        jaxface.results_table(path)
