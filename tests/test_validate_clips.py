"""`jaxface validate A B --clips ...`, with a stand-in for the analysis.

`test_cli_engine.py` has the real one."""

import csv
import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from jaxface.cli import main

from .stand_in import StandIn, write_image, write_video

_STILL = 'mode = "image"\nfaces = "one"\n'


class _Engine:
    """Finds a face as far right as the picture is bright, and 3 px more in the model `other`."""

    seen: list[tuple[str, float]] = []  # model, level
    slow: dict[str, float] = {}  # s for a picture

    def __init__(self, options):
        self._model = options.model

    def __call__(self, source):
        (frame,) = source.frames
        level = float(frame[..., 0].mean().round())
        self.seen.append((self._model, level))
        time.sleep(self.slow.get(self._model, 0))
        return StandIn(source._replace(frames=iter([_brighter(frame, self._model)])))


def _brighter(frame: np.ndarray, model: str) -> np.ndarray:
    return frame + np.uint8(3 if model == "other" and frame.any() else 0)


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> type[_Engine]:
    monkeypatch.setattr("jaxface.cli._validate_run.Engine", _Engine)
    monkeypatch.setenv("JAXFACE_COMPILE_CACHE", "0")
    monkeypatch.setattr(_Engine, "seen", [])
    monkeypatch.setattr(_Engine, "slow", {})
    return _Engine


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    """Two ways to analyse: still pictures by one model and by another."""
    for name, model in (("one", "base"), ("two", "other")):
        (tmp_path / f"{name}.toml").write_text(f'{_STILL}model = "{model}"\n')
    return str(tmp_path / "one.toml"), str(tmp_path / "two.toml")


def _validate(*arguments: object) -> int:
    return main(["validate", *map(str, arguments)])


def test_ten_clips_in_two_cohorts_are_one_command(two, tmp_path, capsys):
    clips = [write_video(tmp_path / f"c{i}.avi", 4 + i) for i in range(10)]
    table = tmp_path / "cohorts.csv"
    with table.open("w") as file:
        writer = csv.writer(file)
        writer.writerow(("clip", "cohort"))
        # By the file or by the name of its results.
        writer.writerows(
            (f"c{i}{'.avi' * (i % 2)}", "young" if i < 5 else "old") for i in range(10)
        )
    found, out = tmp_path / "found.json", tmp_path / "out"
    arguments = (*two, "--clips", *clips, "--cohorts", table, "--json", found, "--out", out)
    assert _validate(*arguments, "--max-landmarks", 4.3) == 0
    values, printed = json.loads(found.read_text()), capsys.readouterr()
    assert printed.out.count("\n| clip c") == 10 and "| cohort young |" in printed.out
    assert [cohort["name"] for cohort in values["cohorts"]] == ["cohort old", "cohort young"]
    assert values["notes"] == []
    # Level 0 has no face: one frame of each clip.
    assert values["all"]["rows"]["paired"] == sum(range(3, 13))
    assert values["all"]["landmarks"]["all"]["mean"] == pytest.approx(3 * np.sqrt(2))
    # The results can be kept, and compared again as files.
    assert values["clips"][3]["a"] == str(out / "a" / "c3.npz")
    again = tmp_path / "again.json"
    assert _validate(out / "a", out / "b", "--json", again) == 0
    as_files = json.loads(again.read_text())
    assert as_files["all"]["landmarks"] == values["all"]["landmarks"]
    assert _validate(*arguments, "--max-landmarks", 4.2) == 1
    assert "of cohort old is 4.243 px, must be at most 4.2 px" in capsys.readouterr().err


def test_times_are_those_of_each_frame(two, engine, tmp_path, capsys):
    """As long as the analysis takes, and nothing that comes before the first frame."""
    clip = write_video(tmp_path / "c.avi", 6)
    engine.slow = {"base": 0.02, "other": 0.04}
    found = tmp_path / "found.json"
    assert _validate(*two, "--clips", clip, "--json", found) == 0
    times = json.loads(found.read_text())["all"]["ms_per_frame"]
    for side, least in (("a", 20), ("b", 40)):
        assert times[side]["size"] == 6
        assert least <= times[side]["min"] <= times[side]["median"] < least + 15
        # It sleeps, so the processor rests.
        assert 0 <= times[f"processor_{side}"]["mean"] < 20
    printed = capsys.readouterr()
    assert f"{clip}: " in printed.err and " ms per frame by A, " in printed.err
    assert "**Analysis, ms per frame, over frames**" in printed.out
    said = f"A is {two[0]} (model base, still pictures)".replace("_", r"\_")
    assert said in printed.out and "totals from the records" not in printed.out


def test_only_the_positions_of_still_pictures_are_analysed(two, engine, tmp_path, capsys):
    clip = write_video(tmp_path / "c.avi", 11)
    found = tmp_path / "found.json"
    engine.seen.clear()
    assert _validate(*two, "--clips", clip, "--positions", "20,50,100", "--json", found) == 0
    values = json.loads(found.read_text())
    assert values["all"]["rows"]["paired"] == 3 and values["positions"] == [20, 50, 100]
    # Frames 3, 6 and 11; before them those with which programs are loaded.
    levels = [round(level / 20) for model, level in engine.seen if model == "base"]
    assert levels == [*range(11), 2, 5, 10]
    assert "Of still pictures only those at the positions" in capsys.readouterr().out


def test_folders_pictures_and_what_cannot_be_read(two, tmp_path, capsys):
    for index in range(3):
        (tmp_path / "folder").mkdir(exist_ok=True)
        write_image(tmp_path / "folder" / f"{index}.png", 40 + index)
    picture = write_image(tmp_path / "p.png", 70)
    (tmp_path / "bad.avi").write_bytes(b"RIFF")
    found = tmp_path / "found.json"
    clips = (tmp_path / "folder", picture, tmp_path / "bad.avi", tmp_path / "gone.avi")
    assert _validate(*two, "--clips", *clips, "--json", found) == 1
    values = json.loads(found.read_text())
    assert [clip["clips"] for clip in values["clips"]] == [["folder"], ["p"]]
    assert [clip["rows"]["paired"] for clip in values["clips"]] == [3, 1]
    assert len(values["problems"]) == 2
    errors = capsys.readouterr().err
    assert "bad.avi: expected" in errors and "gone.avi: expected" in errors
    assert _validate(*two, "--clips", tmp_path / "gone.avi") == 1
    assert "no clip was compared" in capsys.readouterr().err


def test_clips_without_a_face_have_no_rows(two, tmp_path):
    black = tmp_path / "black.png"
    assert cv2.imwrite(str(black), np.zeros((48, 64, 3), np.uint8))
    found = tmp_path / "found.json"
    assert _validate(*two, "--clips", black, "--json", found) == 0
    assert json.loads(found.read_text())["all"]["rows"]["paired"] == 0


def test_wrong_usage(two, tmp_path, capsys):
    clip = write_video(tmp_path / "c.avi", 2)

    def error(*arguments: object) -> str:
        with pytest.raises(SystemExit) as stopped:
            _validate(*arguments)
        assert stopped.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert "expected two configurations, A and B, before it, got 1" in error(
        "base", "--clips", clip
    )
    assert "--out keeps the results of --clips" in error(clip, clip, "--out", tmp_path)
    assert "would both write" in error(*two, "--clips", clip, clip)
    wrong = tmp_path / "wrong.toml"
    for text, message in (
        ("hog = true", "hog does not decide the results: take some of model, mode, "),
        ('inputs = "a"', "inputs: leave them out, and name the clips after --clips"),
        ("at_once = true", "unknown key at_once: do you mean at-once?"),
        ("fx = 500", "--fx and --fy must be given together"),
        ('mode = "film"', "invalid choice"),
    ):
        wrong.write_text(text)
        assert message in error(wrong, two[0], "--clips", clip)
    assert "expected a TOML file" in error(tmp_path / "none.toml", two[0], "--clips", clip)


def test_an_output_folder_that_cannot_be_written(two, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    clip = write_video(tmp_path / "c.avi", 2)
    assert _validate(*two, "--clips", clip, "--out", tmp_path / "file" / "out") == 1
    assert "cannot be" in capsys.readouterr().err
