"""`jaxface validate`: pairs of files, limits and their exit status, cohorts and reports."""

import csv
import dataclasses
import html.parser
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

import jaxface
from jaxface import Analysis
from jaxface.cli import main
from jaxface.output import ColumnChoice, UnitNames, choose_columns
from jaxface.output.validation import LIMITS, check_bound

from .test_results import _analysis

_FEW = UnitNames(("AU06", "AU12"), ("AU12",))


def _clip(rows: int = 10, seed: int = 0) -> Analysis:
    rng = np.random.default_rng(seed)
    whole = _analysis("video", rows, units=_FEW)
    return dataclasses.replace(
        whole,
        success=np.ones(rows, bool),
        landmarks=rng.integers(0, 400, (rows, 68, 2)).astype(np.float32),
        au_intensity=rng.uniform(0, 4, (rows, 2)).astype(np.float32),
        au_presence=np.arange(rows, dtype=np.float32)[:, None] % 2,
    )


def _changed(clip: Analysis) -> Analysis:
    """Landmarks 3 and 4 px away, units 0.5 higher, heads turned, and one face in ten lost."""
    shift = np.array([3, 4], np.float32)
    pose = clip.head_pose.copy()
    pose[:, 3] += np.array(0.1, np.float32)
    return dataclasses.replace(
        clip,
        success=np.arange(len(clip)) % 10 != 3,
        landmarks=clip.landmarks + shift,
        head_pose=pose,
        gaze=clip.gaze[:, ::-1],
        au_intensity=clip.au_intensity + np.array([0.5, 0.5], np.float32),
    )


def _write(folder: Path, clips: dict[str, Analysis]) -> Path:
    for name, clip in clips.items():
        jaxface.write_npz(folder / f"{name}.npz", clip)
    return folder


def _validate(*arguments: object) -> int:
    return main(["validate", *map(str, arguments)])


def _usage_error(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as stopped:
        _validate(*arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """A file and one that differs from it."""
    clip = _clip()
    a, b = (_write(tmp_path / name, {}) for name in "ab")
    return (
        jaxface.write_npz(a / "clip.npz", clip),
        jaxface.write_npz(b / "clip.npz", _changed(clip)),
    )


# OpenFace's own results


def test_golden_dynamic_against_static(golden_dir, tmp_path, capsys):
    """One command; landmarks are the same, action units are not, by as much as their text says."""
    clips = ("default", "2015-10-15-15-14")
    pairs = [
        golden_dir / f"{clip}{kind}" / f"{clip}.csv"
        for clip in clips
        for kind in ("", "_au_static")
    ]
    found = tmp_path / "found.json"
    limits = ("--max-au", 0.01, "--max-landmarks", 0.5)
    assert _validate(*pairs, *limits, "--json", found) == 1
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and "--max-au: mean absolute difference" in printed.err
    values = json.loads(found.read_text())
    errors, paired = _written_out(pairs)
    assert values["all"]["rows"]["success_both"] == paired
    assert values["all"]["landmarks"]["all"]["max"] == 0
    units = {unit["name"]: unit["mean_absolute"] for unit in values["all"]["units"]}
    assert len(errors) == 17 and units.pop("AU28") is None
    assert units == pytest.approx(errors, abs=1e-9)
    mean = values["all"]["unit_mean"]["mean_absolute"]
    assert mean == pytest.approx(sum(errors.values()) / 17, abs=1e-9)
    assert values["missed"][0]["value"] == mean and values["missed"][0]["name"] == "max-au"
    assert _validate(*pairs, "--max-au", mean + 1e-6, "--max-landmarks", 0, "--min-iou", 1) == 0


def _written_out(paths: list[Path]) -> tuple[dict[str, float], int]:
    """Mean absolute differences of units over all clips, from the files' text alone."""
    differences: dict[str, list[float]] = {}
    paired = 0
    for path_a, path_b in zip(paths[::2], paths[1::2], strict=True):
        tables = []
        for path in (path_a, path_b):
            rows = csv.DictReader(path.read_text().splitlines(), skipinitialspace=True)
            tables.append({row["frame"]: row for row in rows})
        for frame in tables[0].keys() & tables[1].keys():
            a, b = tables[0][frame], tables[1][frame]
            if a["success"] == b["success"] == "1":
                paired += 1
                for name in (name for name in a if name.endswith("_r")):
                    differences.setdefault(name[:-2], []).append(
                        abs(float(a[name]) - float(b[name]))
                    )
    return {name: math.fsum(some) / len(some) for name, some in differences.items()}, paired


def test_golden_several_faces_and_images(golden_dir, tmp_path):
    """Of OpenFace's other programs: each against itself, and pictures in two bit depths."""
    several = golden_dir / "multi_face_VidMulti" / "multi_face.csv"
    rows = jaxface.read_results(several)
    found = jaxface.compare_results(several, several)
    assert found.row_a.tolist() == found.row_b.tolist() and len(found.frame) == len(rows)
    picture = golden_dir / "img_sample2" / "sample2.csv"
    shuffled = jaxface.write_csv(tmp_path / "sample2.csv", jaxface.read_results(picture)[[2, 0, 1]])
    again = jaxface.compare_results(picture, shuffled)
    assert again.row_b.tolist() == [1, 2, 0] and again.landmarks.max() == 0
    strict = ("--max-landmarks-p99", 0, "--min-agreement", 1, "--max-au", 0)
    assert _validate(several, several, picture, shuffled, *strict) == 0


# Limits


@pytest.mark.parametrize("name", LIMITS)
def test_every_limit_on_both_sides_of_its_bound(two, name, capsys):
    value = LIMITS[name].of(jaxface.compare_results(*two).summary())
    upper = name.startswith("max")
    worse = np.nextafter(value, -np.inf if upper else np.inf)
    if name == "min-au-r":  # a shift changes no correlation: 1, but for rounding
        assert value == pytest.approx(1)
        value, worse = 0.9, 1.0
        jaxface.write_npz(two[1], jaxface.read_results(two[0])[::-1])  # in no relation
        assert _validate(*two, "--min-au-r", value) == 0  # frames tell which rows go together
        spoilt = jaxface.read_results(two[0])
        spoilt = dataclasses.replace(spoilt, au_intensity=spoilt.au_intensity[::-1])
        jaxface.write_npz(two[1], spoilt)
        value = LIMITS[name].of(jaxface.compare_results(*two).summary())
        worse = np.nextafter(value, 1)
    capsys.readouterr()
    assert _validate(*two, f"--{name}", repr(float(value))) == 0
    assert capsys.readouterr().err == ""
    assert _validate(*two, f"--{name}", repr(float(worse))) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"jaxface: error: --{name}: {LIMITS[name].what} of clip clip is ")
    assert f"{value:.4g}" in message and f"{worse:.4g}" in message


def test_undefined_figures_miss_their_limits(tmp_path, capsys):
    clip = _clip()
    bare = choose_columns(clip, ColumnChoice(*[False] * 6))
    a, b = (
        jaxface.write_npz(tmp_path / f"{name}.npz", rows)
        for name, rows in (("a", clip), ("b", bare))
    )
    assert _validate(a, b, "--min-agreement", 1) == 0
    for name in LIMITS.keys() - {"min-agreement"}:
        loosest = -1 if name == "min-au-r" else 0 if name.startswith("min") else 1e9
        assert _validate(a, b, f"--{name}", loosest) == 1
        assert " is undefined, must be at " in capsys.readouterr().err
    assert _validate(a, b) == 0  # nothing was asked, and what is not there is named
    text = capsys.readouterr().out
    for group in ("landmarks", "head pose", "gaze", "intensity of action units"):
        assert f"\n- a: {group} not compared, " in text


def test_one_number_that_is_none_misses_the_limit(tmp_path, capsys):
    clip = _clip()
    spoilt = dataclasses.replace(clip, au_intensity=clip.au_intensity.copy())
    spoilt.au_intensity[4, 1] = np.nan
    a, b = (jaxface.write_npz(tmp_path / f"{n}.npz", c) for n, c in (("a", clip), ("b", spoilt)))
    assert _validate(a, b, "--max-au", 5) == 1 == _validate(b, a, "--max-au", 5)
    assert "- a: 1 values of action units are no numbers" in capsys.readouterr().out
    assert _validate(a, b, "--max-landmarks", 0) == 0


def test_limits_of_a_file(two, tmp_path, capsys):
    limits = tmp_path / "limits.toml"
    limits.write_text("max-landmarks = 4.5\nmin_agreement = 0.5\n")
    assert _validate(*two, "--limits", limits) == 1  # 5 px
    assert "--max-landmarks: " in capsys.readouterr().err
    assert _validate(*two, "--limits", limits, "--max-landmarks", 5.5) == 0
    for text, message in (
        ("max-landmark = 1", "expected one of max-landmarks, "),
        ("max-landmarks = 'a'", "max-landmarks: expected a number, got 'a'"),
        ("max-au = true", "max-au: expected a number, got True"),
        ("min-iou = 90", "min-iou: expected a number from 0 to 1, got 90"),
        ("max-au = nan", "max-au: expected a number, got nan"),
        ("max-au =", "expected a TOML file"),
    ):
        limits.write_text(text)
        assert message in _usage_error(capsys, *two, "--limits", limits)
    assert "nothing there" in _usage_error(capsys, *two, "--limits", tmp_path / "none.toml")
    assert "expected a number from 0 up" in _usage_error(capsys, *two, "--max-au=-1")
    with pytest.raises(ValueError, match="expected one of"):
        check_bound("max", 1)


def test_the_options_are_the_limits(capsys):
    with pytest.raises(SystemExit):
        _validate("--help")
    named = set(re.findall(r"--((?:max|min)-[a-z0-9-]+)", capsys.readouterr().out))
    assert named == LIMITS.keys()


# Files and folders


def test_folders_are_paired_by_name(tmp_path, capsys):
    clip = _clip()
    a = _write(tmp_path / "a", {"one": clip, "sub/two": clip, "lone": clip})
    b = _write(tmp_path / "b", {"sub/two": clip, "other": clip, ".hidden": clip})
    jaxface.write_csv(b / "one.csv", clip)
    (b / "one.run.json").write_text("{}")
    found = tmp_path / "found.json"
    assert _validate(a, b, "--json", found) == 1
    values = json.loads(found.read_text())
    assert [c["clips"] for c in values["clips"]] == [["one"], ["sub/two"]]
    problems = capsys.readouterr().err.splitlines()
    assert problems == [
        f"jaxface: error: {a}/lone.npz: no partner lone.* in {b}",
        f"jaxface: error: {b}/other.npz: no partner other.* in {a}",
    ]
    assert len(values["problems"]) == 2 and values["passed"] is False
    (a / "lone.npz").unlink()
    (b / "other.npz").unlink()
    assert _validate(a, b) == 0


def test_what_cannot_be_compared_is_named(two, tmp_path, capsys):
    a, b = two
    damaged = tmp_path / "damaged.csv"
    damaged.write_text("frame, face\n")
    # The others are compared all the same.
    assert _validate(a, b, damaged, b, a, tmp_path / "none.csv", "--max-landmarks", 6) == 1
    printed = capsys.readouterr()
    assert "FAILED: 1 clip compared, limits hold, 2 not compared" in printed.out
    assert "none.csv: nothing there" in printed.err and "damaged.csv: expected" in printed.err
    for name in ("c", "d"):
        (tmp_path / name).mkdir()
    assert _validate(tmp_path / "c", tmp_path / "d") == 1
    assert "no files of results" in capsys.readouterr().err


def test_wrong_usage(two, tmp_path, capsys):
    a, b = two
    assert "expected pairs of files or folders, got 1" in _usage_error(capsys, a)
    assert "got 3 of them" in _usage_error(capsys, a, b, a)
    assert "expected two files or two folders" in _usage_error(capsys, a, b.parent)
    for text in ("", "a", "20;50", "101", "-1", "nan"):
        message = _usage_error(capsys, a, b, f"--positions={text}")
        assert "expected numbers from 0 to 100" in message
    assert "--max-au" in _usage_error(capsys, a, b, "--max-au", "much")


def test_files_of_the_same_name_are_told_apart(two, tmp_path, capsys):
    a, b = two
    found = tmp_path / "found.json"
    assert _validate(a, b, b, a, a, a, "--json", found) == 0
    names = [clip["clips"][0] for clip in json.loads(found.read_text())["clips"]]
    assert names == [f"{a.parent}/clip (1)", f"{b.parent}/clip", f"{a.parent}/clip (3)"]


def test_positions_take_as_many_frames_of_each_clip(tmp_path, capsys):
    clips = {"short": _clip(8), "long": _clip(90)}
    a, found = _write(tmp_path / "a", clips), tmp_path / "found.json"
    assert _validate(a, a, "--positions", "20,50,80", "--json", found) == 0
    values = json.loads(found.read_text())
    assert [clip["rows"]["paired"] for clip in values["clips"]] == [3, 3]
    assert values["all"]["rows"]["paired"] == 6 and values["positions"] == [20, 50, 80]
    assert "The frames at 20, 50, 80 % of each clip" in capsys.readouterr().out


def test_an_end_that_is_missing_is_said(tmp_path, capsys):
    """By the first lines, whatever the limits; one of agreement makes it a failure."""
    a, b = (jaxface.write_npz(tmp_path / f"{n}.npz", _clip(10)[:n]) for n in (10, 4))
    assert _validate(a, b, "--max-landmarks", 0) == 0
    said = "1 clip compared, limits hold. 6 of 10 faces in frames stand in one of both alone.\n"
    assert f"\nPASSED: {said}" in capsys.readouterr().out
    assert _validate(a, b, "--min-agreement", 0.4) == 0 != _validate(a, b, "--min-agreement", 0.41)


# Cohorts


@pytest.mark.parametrize("kind", ("csv", "toml", "json"))
def test_ten_clips_in_two_cohorts(tmp_path, capsys, kind):
    """The cohort and the clip where a limit is missed are named, and pooled as by hand."""
    clips = {f"c{i}": _clip(6 + i, seed=i) for i in range(10)}
    a = _write(tmp_path / "a", clips)
    shifts = {name: np.array([i if i >= 5 else 0, 0], np.float32) for i, name in enumerate(clips)}
    b = _write(
        tmp_path / "b",
        {n: dataclasses.replace(c, landmarks=c.landmarks + shifts[n]) for n, c in clips.items()},
    )
    cohorts = {name: "young" if i < 5 else "old" for i, name in enumerate(clips)}
    del cohorts["c0"], cohorts["c9"]
    cohorts |= {"c9.npz": "old", "gone": "old"}
    path = tmp_path / f"cohorts.{kind}"
    if kind == "csv":
        lines = ["age, clip, cohort", *(f'1, "{n}", {c}' for n, c in cohorts.items()), ""]
        path.write_text("\n".join(lines))
    elif kind == "toml":
        path.write_text("".join(f'"{n}" = "{c}"\n' for n, c in cohorts.items()))
    else:
        path.write_text(json.dumps(cohorts))
    found = tmp_path / "found.json"
    limits = ("--max-landmarks", 4, "--min-agreement", 1)
    assert _validate(a, b, "--cohorts", path, "--json", found, *limits) == 1
    values, printed = json.loads(found.read_text()), capsys.readouterr()
    old, young = values["cohorts"]
    assert (old["name"], young["name"]) == ("cohort old", "cohort young")
    assert young["clips"] == ["c1", "c2", "c3", "c4"]
    counts = [6 + i for i in range(5, 10)]
    mean = sum(i * n for i, n in zip(range(5, 10), counts, strict=True)) / sum(counts)
    assert old["landmarks"]["all"]["mean"] == pytest.approx(mean, abs=1e-9)
    assert values["all"]["rows"]["paired"] == sum(6 + i for i in range(10))
    assert [miss["scope"] for miss in values["missed"]] == ["all clips", "cohort old"]
    for miss in values["missed"]:
        assert miss["worst"] == ["clip c9", 9.0]
    assert f"of cohort old is {mean:.4g} px, must be at most 4 px; worst in clip c9: 9 px" in (
        printed.err
    )
    assert "- gone: in the list of cohorts, but no such clip was compared" in printed.out
    assert "- c0: in no cohort" in printed.out


def test_cohorts_that_cannot_be_read(two, tmp_path, capsys):
    for name, text, message in (
        ("a.csv", "name,group\na,b\n", "expected columns clip and cohort, got name, group"),
        ("a.csv", "", "expected columns clip and cohort, got none"),
        ("a.csv", "clip,cohort\na,b\na.csv,c\n", "'a' again in line 3"),
        ("a.csv", "clip,cohort\na\n", "expected 2 values in line 2, got 1"),
        ("a.toml", "a = 1\n", "expected a text for each clip, its cohort, got 1 for 'a'"),
        ("a.toml", "a = 'b'\n'a.npz' = 'c'\n", "expected each clip once, got 'a' again"),
        ("a.json", "[1]", "expected names and values"),
        ("a.json", "{", "expected a JSON file"),
    ):
        (tmp_path / name).write_text(text)
        assert message in _usage_error(capsys, *two, "--cohorts", tmp_path / name)
    (tmp_path / "a.csv").write_bytes(b"clip,cohort\n\xff,b\n")
    assert "which is no text" in _usage_error(capsys, *two, "--cohorts", tmp_path / "a.csv")


def test_speed_is_that_of_the_records(tmp_path, capsys):
    clips = {f"c{i}": _clip(4) for i in range(3)}
    a, b = (_write(tmp_path / name, clips) for name in "ab")
    for i, name in enumerate(clips):
        record = {"seconds": 1.5 * (i + 1), "frames": 100}
        (a / f"{name}.run.json").write_text(json.dumps(record))
    (b / "c0.run.json").write_text("{}")
    (b / "c1.run.json").write_text('{"seconds": 1, "frames": 0}')
    found = tmp_path / "found.json"
    assert _validate(a, b, "--json", found) == 0
    speed = json.loads(found.read_text())["all"]["ms_per_frame"]
    expected = {"size": 3, "mean": 30, "median": 30, "p95": 43.5, "p99": 44.7, "max": 45}
    assert {name: speed["a"][name] for name in expected} == pytest.approx(expected)
    assert speed["b"]["size"] == 0 and speed["b"]["mean"] is None
    assert "ms per frame, over clips" in capsys.readouterr().out


# Reports


class _Page(html.parser.HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


def test_a_name_with_markup_stays_text(tmp_path, capsys):
    name = '<b>x" onload=alert(1)|`_y_`'
    clip = _clip(4)
    a = jaxface.write_csv(tmp_path / f"{name}.csv", clip)
    b = jaxface.write_csv(tmp_path / "b.csv", choose_columns(clip, ColumnChoice(gaze=False)))
    cohorts = tmp_path / "cohorts.json"
    cohorts.write_text(json.dumps({name: "<i>old</i>", "<script>": "&amp;"}))
    page, lines = tmp_path / "page.html", tmp_path / "page.md"
    arguments = ("--html", page, "--markdown", lines, "--cohorts", cohorts, "--max-gaze-deg", 1)
    assert _validate(a, b, tmp_path / "<b>gone", b, *arguments) == 1
    assert capsys.readouterr().out == ""
    text = page.read_text()
    found = _Page()
    found.feed(text)
    known = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "ul", "li", "div"}
    known |= {"table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary"}
    assert set(found.tags) <= known
    assert found.attributes <= {
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "class",
        "scope",
    }
    for shown in (name, "<i>old</i>", "<script>", "<b>gone"):
        assert shown in found.text
    assert "url(" not in text and "http:" not in text and "https:" not in text
    plain = lines.read_text()
    assert not re.search(r"(?<!\\)<", plain) and re.search(r"\\<b\\>x", plain)
    (head,) = [line for line in plain.splitlines() if line.startswith("| of |")]
    rows = [line for line in plain.splitlines() if line.startswith("| clip ")]
    bars = re.compile(r"(?<!\\)\|")
    assert rows and {len(bars.findall(row)) for row in rows} >= {len(bars.findall(head))}


def test_reports_show_the_figures(two, tmp_path, capsys):
    page, found = tmp_path / "page.html", tmp_path / "found.json"
    assert _validate(*two, "--html", page, "--json", found, "--max-landmarks", 1) == 1
    text = capsys.readouterr().out
    assert text.startswith("# Validation of B against A\n\nFAILED: 1 clip compared, 1 missed.\n")
    assert "| all | 612 | 5.0000 | 5.0000 | 0.0000 | 5.0000 | 5.0000 | 5.0000 |" in text  # 9 faces
    assert "| clip clip |  | 10 | 0 | 0 | 9 | 1 | 0 | 0.9000 | 5.0000 |" in text
    assert "<td>AU12</td><td>1.0000</td><td>0.5000</td><td>1.0000</td><td>1.0000</td>" in (
        page.read_text()
    )
    values = json.loads(found.read_text())
    assert values["limits"] == {"max-landmarks": 1} and values["passed"] is False
    assert values["all"]["landmarks"]["jaw"]["mean"] == 5
    assert values["clips"][0]["a"] == str(two[0])


def test_a_report_that_cannot_be_written(two, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert _validate(*two, "--html", tmp_path / "file" / "page.html") == 1
    assert "cannot be written" in capsys.readouterr().err
