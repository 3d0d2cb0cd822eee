"""`jaxface analyze --format`: the same table in several files, and what they say of the run."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import jaxface
from jaxface.cli import main
from jaxface.output import FIELDS

from .stand_in import StandIn, put_behind_command_line, write_image, write_video


@pytest.fixture
def analysed(monkeypatch) -> list[str]:
    return put_behind_command_line(monkeypatch)


def _files(out: Path) -> list[str]:
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())


@pytest.mark.parametrize("mode", ("clip", "faces", "still"))
def test_one_table_in_every_format(tmp_path, analysed, capsys, mode):
    made = write_image(tmp_path / "a.png") if mode == "still" else write_video(tmp_path / "a.avi")
    out = tmp_path / "out"
    command = ["analyze", made, "--out", str(out), "--format", "csv,parquet,npz"]
    assert main([*command, *(["--faces", "all"] if mode == "faces" else [])]) == 0
    paths = [out / f"a.{end}" for end in ("csv", "parquet", "npz")]
    line = capsys.readouterr().out.splitlines()[0]
    assert line.endswith(f" -> {', '.join(map(str, paths))}")
    printed, columns, arrays = map(jaxface.read_results, paths)
    kinds = {"clip": "video", "faces": "multi_face", "still": "image"}
    assert printed.kind == columns.kind == arrays.kind == kinds[mode]
    assert len(printed) == {"clip": 6, "faces": 10, "still": 2}[mode]
    for name in FIELDS:
        exact = getattr(columns, name)
        np.testing.assert_array_equal(getattr(arrays, name), exact, name)
        np.testing.assert_allclose(getattr(printed, name), exact, atol=0.0501, rtol=0)
    assert columns.landmarks.dtype == np.float32 and columns.record == arrays.record
    if mode == "clip":  # the last pass over the action units is in all of them
        assert printed.au_intensity[3, 0] == columns.au_intensity[3, 0] == 1.5
    text = (out / "a_of_details.txt").read_text()
    assert "Output csv:a.csv\n" in text


def test_what_a_file_says_of_the_run(tmp_path, analysed):
    clip, out = write_video(tmp_path / "a.avi"), tmp_path / "out"
    command = ["analyze", clip, "--out", str(out), "--format", "parquet", "--static"]
    assert main(command) == 0
    assert _files(out) == ["a.parquet", "a.run.json", "a_of_details.txt"]
    record = jaxface.read_results(out / "a.parquet").record
    beside = json.loads((out / "a.run.json").read_text())
    assert beside["settings"]["formats"] == ["parquet"] and set(beside["files"]) == {
        ".parquet",
        "_of_details.txt",
    }
    for key in ("jaxface", "model", "settings", "versions", "device", "notes"):
        assert record[key] == beside[key], key
    assert record["input"] == {"name": "a.avi", "sha256": beside["input"]["sha256"]}
    assert record["settings"]["static"] and record["settings"]["lanes"] == 1
    assert (record["frame_rate"], record["clock"]) == (10.0, "openface")
    assert "Output csv" not in (out / "a_of_details.txt").read_text()
    assert pd.read_parquet(out / "a.parquet")["frame"].tolist() == [1, 2, 3, 4, 5, 6]
    for arguments, rate, clock in (
        (["--fps", "5"], 5.0, "openface"),
        (["--clock", "container"], 10.0, "container"),
    ):
        assert main([*command, *arguments]) == 0
        record = jaxface.read_results(out / "a.parquet").record
        assert (record["frame_rate"], record["clock"]) == (rate, clock)


def test_lost_files_and_other_formats_are_made_again(tmp_path, analysed):
    clip, out = write_video(tmp_path / "a.avi"), tmp_path / "out"
    command = ["analyze", clip, "--out", str(out), "--resume", "--format"]
    assert main([*command, "csv,npz"]) == main([*command, "npz,csv"]) == 0 and len(analysed) == 1
    first = (out / "a.npz").read_bytes()
    (out / "a.npz").unlink()
    assert main([*command, "csv,npz"]) == 0 and len(analysed) == 2
    assert (out / "a.npz").read_bytes() == first
    (out / "a.npz").write_bytes(first[:-1])
    assert main([*command, "csv,npz"]) == 0 and len(analysed) == 3
    assert main([*command, "npz"]) == 0 and len(analysed) == 4
    (out / "a.csv").unlink()  # of the run before: no result of this one
    assert main([*command, "npz"]) == 0 and len(analysed) == 4


def test_equal_names_stay_apart_in_every_format(tmp_path, analysed):
    for name in ("p1", "p2"):
        (tmp_path / name).mkdir()
    clips = [write_video(tmp_path / name / "a.avi", 2) for name in ("p1", "p2")]
    out, summary = tmp_path / "out", tmp_path / "all.json"
    command = ["analyze", *clips, "--out", str(out), "--no-details", "--json", str(summary)]
    assert main([*command, "--format", "npz,parquet"]) == 0
    ends = ("npz", "parquet", "run.json")
    assert _files(out) == [f"{name}/a.{end}" for name in ("p1", "p2") for end in ends]
    rows = json.loads(summary.read_text())["inputs"]
    assert rows[1]["csv"] is None
    assert rows[1]["files"] == [str(out / "p2" / f"a.{end}") for end in ("parquet", "npz")]


def test_how_formats_are_named(tmp_path, analysed, capsys):
    clip, out = write_video(tmp_path / "a.avi", 2), tmp_path / "out"
    command = ["analyze", clip, "--out", str(out), "--no-details"]

    def written(*arguments: str) -> list[str]:
        assert main([*command, *arguments]) == 0
        found = [name for name in _files(out) if not name.endswith(".json")]
        for name in found:
            os.unlink(out / name)
        return found

    settings = tmp_path / "study.toml"
    settings.write_text('format = ["npz", "parquet"]\n')
    assert written() == ["a.csv"]
    assert written("--format", "npz", "--format", "CSV") == ["a.csv", "a.npz"]
    assert written("--config", str(settings)) == ["a.npz", "a.parquet"]
    assert written("--config", str(settings), "--format", "csv") == ["a.csv"]  # flags win
    settings.write_text('format = "npz"\n')
    assert written("--config", str(settings)) == ["a.npz"]
    for wrong in ("xml", "csv,", ""):
        with pytest.raises(SystemExit):
            main([*command, "--format", wrong])
        assert "--format: expected some of csv, parquet, npz, got" in capsys.readouterr().err


def test_without_a_face_no_file_is_written(tmp_path, analysed, capsys):
    black, out = write_image(tmp_path / "a.png", 0), tmp_path / "out"
    assert main(["analyze", black, "--out", str(out), "--format", "npz,parquet"]) == 0
    assert _files(out) == ["a.run.json", "a_of_details.txt"]
    said = capsys.readouterr().out.splitlines()[0]
    assert said == f"{black}: no face found, no Parquet or NPZ written"


def test_without_pyarrow_nothing_is_begun(tmp_path, analysed, capsys, monkeypatch):
    clip = write_video(tmp_path / "a.avi", 2)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "pyarrow" else find(name)
    )
    with pytest.raises(SystemExit) as caught:
        main(["analyze", clip, "--out", str(tmp_path / "out"), "--format", "csv,parquet"])
    assert caught.value.code == 2 and not analysed and not (tmp_path / "out").exists()
    assert "run pip install 'jaxface[parquet]'" in capsys.readouterr().err


def test_an_interrupted_analysis_leaves_no_files(tmp_path, monkeypatch, capsys):
    class Breaks(StandIn):
        def __iter__(self):
            yield from list(super().__iter__())[:70]
            raise RuntimeError("out of luck")

    monkeypatch.setattr("jaxface.cli._engine.load_process", lambda options: Breaks)
    clip, out = write_video(tmp_path / "a.avi", 80), tmp_path / "out"
    assert main(["analyze", clip, "--out", str(out), "--format", "csv,npz,parquet"]) == 1
    assert "out of luck" in capsys.readouterr().err and _files(out) == []
