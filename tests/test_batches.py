"""Batches of the command line: what is an input, what is skipped, what is kept of a run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxface.cli import NameClashError, main, plan_jobs
from jaxface.io import InputKind
from jaxface.reference.comparison.clips import ROOT

from .stand_in import put_behind_command_line, read_cells, write_image, write_video


@pytest.fixture
def analysed(monkeypatch) -> list[str]:
    return put_behind_command_line(monkeypatch)


def _names(inputs: list[str], **more) -> list[str]:
    return [job.name for job in plan_jobs(inputs, None, **more)]


def _results(out: Path) -> list[str]:
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*.csv"))


@pytest.fixture
def tree(tmp_path) -> Path:
    """A folder as labs have them: videos, pictures, a folder of frames, and what is neither."""
    top = tmp_path / "study"
    for folder in ("p1", "p2/deep", "frames", ".hidden"):
        (top / folder).mkdir(parents=True)
    for name in ("a.avi", "p1/a.AVI", "p2/deep/a.avi", ".hidden/b.avi"):
        write_video(top / name.lower(), 2)
    (top / "p1/a.avi").rename(top / "p1/a.AVI")
    write_image(top / "still.png")
    (top / "notes.txt").write_text("read me")
    for number in (1, 2, 10):
        write_image(top / "frames" / f"{number}.png", 10 * number)
    return top


def test_a_folder_with_videos_is_its_files(tree):
    with pytest.warns(UserWarning, match="notes.txt: neither a picture nor a video, left out"):
        jobs = plan_jobs([str(tree)], None)
    assert [(job.name, job.mode) for job in jobs] == [("a", "video"), ("still", "image")]
    (frames,) = plan_jobs([str(tree / "frames")], None)
    assert frames.kind is InputKind.FOLDER and frames.name == "frames"
    stills = plan_jobs([str(tree / "frames")], "image")
    assert [job.name for job in stills] == ["1", "2", "10"]


@pytest.mark.filterwarnings("ignore:.*left out")
def test_folders_below_a_folder(tree):
    names = _names([str(tree)], recursive=True)
    assert names == ["a", "still", "frames", "p1/a", "p2/deep/a"]
    (job,) = plan_jobs([str(tree / "p2")], None)
    assert job.problem is not None and "--recursive looks into them" in str(job.problem)


def test_patterns_and_lists(tree, tmp_path):
    assert _names([str(tree / "frames" / "*.png")]) == ["1", "2", "10"]
    (none,) = plan_jobs([str(tree / "*.mov")], None)
    assert "expected a pattern that fits files, got none" in str(none.problem)
    listed = tmp_path / "list.txt"
    listed.write_text(f"# a comment\n\n{tree / 'a.avi'}\n{tree / 'frames' / '1*.png'}\n@other\n")
    jobs = plan_jobs([f"@{listed}"], None)
    assert [job.name for job in jobs[:3]] == ["a", "1", "10"]
    assert "a list within a list" in str(jobs[3].problem)
    missing, empty = tmp_path / "gone.txt", tmp_path / "empty.txt"
    empty.write_bytes(b"\xff\xfe\n")
    for path, message in ((missing, "No such file"), (empty, "no UTF-8 text")):
        (job,) = plan_jobs([f"@{path}"], None)
        assert message in str(job.problem)


def test_equal_names_keep_what_tells_them_apart(tree, tmp_path):
    given = [str(tree / "a.avi"), str(tree / "p1/a.AVI"), str(tree / "p2/deep/a.avi")]
    assert _names(given) == ["a", "p1/a", "p2/deep/a"]
    same = [write_image(tmp_path / "b.png"), write_image(tmp_path / "b.bmp")]
    assert _names(same) == ["b.png", "b.bmp"]
    with pytest.raises(NameClashError, match="name each input once"):
        _names([same[0], same[0]])


@pytest.mark.filterwarnings("ignore:.*left out")
def test_results_and_records_of_a_tree(tree, tmp_path, analysed, capsys):
    out, summary = tmp_path / "out", tmp_path / "all.json"
    arguments = [str(tree), "--recursive", "--out", str(out), "--json", str(summary), "--hog"]
    assert main(["analyze", *arguments]) == 0
    assert _results(out) == ["a.csv", "frames.csv", "p1/a.csv", "p2/deep/a.csv", "still.csv"]
    assert (out / "p1/a.hog").is_file() and (out / "p1/a_of_details.txt").is_file()
    assert "Output csv:a.csv" in (out / "p1/a_of_details.txt").read_text()
    record = json.loads((out / "p1/a.run.json").read_text())
    assert (
        record["input"]["path"] == str(tree / "p1/a.AVI") and len(record["input"]["sha256"]) == 64
    )
    assert record["frames"] == 2 and record["settings"]["hog"] is True
    assert set(record["files"]) == {".csv", ".hog", "_of_details.txt"}
    assert {"python", "jax", "numpy"} <= set(record["versions"])
    told = json.loads(summary.read_text())
    assert told["analysed"] == 5 and [row["status"] for row in told["inputs"]] == ["analysed"] * 5
    assert capsys.readouterr().out.splitlines()[-1] == "5 of 5 inputs analysed"


def test_what_is_finished_is_skipped(tmp_path, analysed, capsys):
    clips = [write_video(tmp_path / f"{name}.avi", 3) for name in "abc"]
    command = ["analyze", *clips, "--out", str(tmp_path / "out"), "--resume"]
    assert main(command) == 0 and len(analysed) == 3
    capsys.readouterr()
    assert main(command) == 0 and len(analysed) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        *(f"{clip}: finished before, skipped" for clip in clips),
        "3 of 3 inputs analysed",
    ]
    write_video(Path(clips[0]), 4)  # other contents
    (tmp_path / "out" / "b.csv").write_text("spoiled")
    assert main(command) == 0 and len(analysed) == 5
    assert capsys.readouterr().out.splitlines()[-1].endswith("2 now, 1 finished before")
    assert len(read_cells(tmp_path / "out" / "a.csv", "frame")) == 4
    assert main([*command, "--fps", "5"]) == 0 and len(analysed) == 8  # other settings
    (tmp_path / "out" / "c.run.json").write_text("{")
    assert main([*command, "--fps", "5"]) == 0 and len(analysed) == 9


def test_lost_aligned_faces_and_overlays_are_made_again(tmp_path, analysed):
    still, out = write_image(tmp_path / "a.png"), tmp_path / "out"
    command = ["analyze", still, "--out", str(out), "--resume", "--aligned", "--overlay"]
    for lost in (None, "a_overlay.png", "a_aligned/face_det_000001.bmp"):
        if lost is not None:
            (out / lost).unlink()
        before = len(analysed)
        assert main(command) == 0 and len(analysed) == before + 1
        assert main(command) == 0 and len(analysed) == before + 1
    assert (out / "a_overlay.png").is_file() and len(list((out / "a_aligned").iterdir())) == 2


def test_rates_and_settings_files(tmp_path, analysed, capsys):
    clip = write_video(tmp_path / "a.avi", 3)
    out, settings = tmp_path / "out", tmp_path / "study.toml"
    settings.write_text(f'inputs = ["{clip}"]\nout = "{out}"\nfps = 5\nno-details = true\n')
    assert main(["analyze", "--config", str(settings)]) == 0
    assert read_cells(out / "a.csv", "timestamp") == ["0.000", "0.200", "0.400"]
    assert not (out / "a_of_details.txt").exists()
    assert main(["analyze", f"--config={settings}", "--fps", "4"]) == 0  # flags win
    assert read_cells(out / "a.csv", "timestamp") == ["0.000", "0.250", "0.500"]
    for text, message in (
        ("statik = true", "unknown key statik: do you mean static?"),
        ("static = 1", "static: expected true or false, got 1"),
        ("fps = [", "expected a TOML file, got one that cannot be read"),
        ("fps = -1", "--fps: must be positive"),
    ):
        settings.write_text(text)
        with pytest.raises(SystemExit):
            main(["analyze", clip, "--out", str(out), "--config", str(settings)])
        assert message in capsys.readouterr().err
    for arguments, message in (
        (["--out", "x"], "expected at least one INPUT"),
        ([clip, "--out", "x", "--fps", "2", "--clock", "container"], "cannot be given together"),
        ([clip, "--out", "x", "--at-once", "--lanes", "2"], "cannot be given together"),
    ):
        with pytest.raises(SystemExit):
            main(["analyze", *arguments])
        assert message in capsys.readouterr().err


def test_stills_side_by_side(tmp_path, analysed):
    stills = [write_image(tmp_path / f"{i}.png", 10 + i) for i in range(12)]
    assert main(["analyze", *stills, "--out", str(tmp_path / "out"), "--jobs", "4"]) == 0
    for i in range(12):
        assert read_cells(tmp_path / "out" / f"{i}.csv", "x_0")[0] == f"{10 + i}.0"


_SLOW = """
import sys, time
from jaxface.cli import _engine, main
from tests.stand_in import StandIn

def process(source):
    def slowly(frames):
        for frame in frames:
            time.sleep(0.01)
            yield frame
    return StandIn(source._replace(frames=slowly(source.frames)))

_engine.load_process = lambda options: process
sys.exit(main(sys.argv[1:]))
"""


def test_a_killed_batch_is_gone_on_with(tmp_path):
    """Sixty clips, six of them broken, killed in the middle: nothing is done twice or differs."""
    folder = tmp_path / "clips"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(60):
        path = folder / f"clip_{number}.avi"
        write_video(path, 3 + number % 7)
        if number % 10 == 5:
            path.write_bytes(rng.bytes(200))
    environment = {**os.environ, "JAXFACE_COMPILE_CACHE": "0"}

    def command(out: str) -> list[str]:
        arguments = ["analyze", str(folder), "--out", str(tmp_path / out), "--resume"]
        return [sys.executable, "-c", _SLOW, *arguments]

    def run(out: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            command(out), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
        )

    whole = run("whole")
    assert whole.returncode == 1 and whole.stdout.splitlines()[-1] == (
        "54 of 60 inputs analysed: 54 now, 6 failed"
    )
    assert whole.stderr.count("jaxface: error: ") == 6
    killed = subprocess.Popen(command("killed"), cwd=ROOT, env=environment, stdout=-3, stderr=-3)
    records = tmp_path / "killed"
    end = time.monotonic() + 120
    while len(list(records.glob("*.run.json"))) < 10 and time.monotonic() < end:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before = {path.name: path.stat().st_mtime_ns for path in records.glob("*.csv")}
    kept = {path.name.partition(".")[0] for path in records.glob("*.run.json")}
    assert 10 <= len(kept) < 54
    resumed = run("killed")
    assert resumed.returncode == 1
    assert resumed.stdout.count("finished before, skipped") == len(kept)
    for path in (tmp_path / "whole").glob("*.csv"):
        ours = records / path.name
        assert ours.read_bytes() == path.read_bytes()
        if path.stem in kept:
            assert ours.stat().st_mtime_ns == before[path.name]
    assert sorted(os.listdir(records)) == sorted(os.listdir(tmp_path / "whole"))
