"""Reports: events, asymmetry, figures, and what stands in the page."""

import base64
import dataclasses
import hashlib
import html.parser
import io
import json
import re
import sys

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import jaxface
from jaxface import Analysis, InputError
from jaxface.cli import main
from jaxface.output import OPENFACE_UNITS, ColumnChoice, Record, UnitNames, choose_columns
from jaxface.output.report import (
    MEASURES,
    Rule,
    Span,
    asymmetry,
    eye_closure,
    find_events,
    find_spans,
    script_json,
    upright_shapes,
)
from jaxface.types import MULTI_PIE_68

from .films import write_film
from .report_clip import RATE, blinking_clip, turned_faces

_TOL = {"rtol": 0, "atol": 1e-4}  # mm; float32 px and mm of some hundreds

# Events

pytest.importorskip("bokeh", reason="pip install 'jaxface[report]'")

_STEP = 1 / 32  # s: whose multiples are exact, so that sums of times are
_RULE = Rule(enter=2.0, leave=1.0)


@st.composite
def _series(draw):
    """Times with holes, levels that often sit on the bounds, and where there is a face."""
    count = draw(st.integers(1, 40))
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 9]), min_size=count, max_size=count))
    levels = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, np.nan])
    level = draw(st.lists(levels, min_size=count, max_size=count))
    valid = draw(st.lists(st.sampled_from([True, True, True, False]), min_size=count))
    valid = (valid * count)[:count]
    return np.cumsum(steps) * _STEP, np.array(level), np.array(valid)


@given(_series())
def test_spans_are_the_longest_stretches_between_the_levels(series):
    times, level, valid = series
    spans = find_spans(times, level, valid, _RULE)
    active = valid & (np.nan_to_num(level, nan=-1.0) >= _RULE.leave)
    inside = np.zeros(len(times), bool)
    for before, span in zip([None, *spans], spans, strict=False):
        part = slice(span.first, span.last + 1)
        assert active[part].all() and level[part].max() >= _RULE.enter
        assert before is None or before.last < span.first
        inside[part] = True
    assert inside[active & (level >= _RULE.enter)].all()
    step = np.median(np.diff(times)) if len(times) > 1 else 0
    for span in spans:  # whatever is active beside one lies beyond a hole
        for a, b in ((span.first - 1, span.first), (span.last, span.last + 1)):
            if a >= 0 and b < len(times) and active[a] and active[b]:
                assert times[b] - times[a] > 3 * step


@given(_series(), st.sampled_from([0.0, 2 * _STEP]), st.sampled_from([0.0, 3 * _STEP]))
def test_time_may_run_backwards_and_begin_anywhere(series, shortest, gap):
    times, level, valid = series
    rule = dataclasses.replace(_RULE, shortest=shortest, gap=gap)
    spans = find_spans(times, level, valid, rule)
    last = len(times) - 1
    back = find_spans(times[-1] - times[::-1], level[::-1], valid[::-1], rule)
    assert [Span(last - s.last, last - s.first) for s in reversed(back)] == spans
    assert find_spans(times + 64, level, valid, rule) == spans


@given(_series(), st.sampled_from([2 * _STEP, 5 * _STEP]))
def test_bounds_on_time_join_and_drop(series, bound):
    """What a rule without bounds finds is joined by `gap`, and left out by `shortest`."""
    times, level, valid = series
    plain = find_spans(times, level, valid, _RULE)
    joined = find_spans(times, level, valid, dataclasses.replace(_RULE, gap=bound))
    assert {s.first for s in joined} <= {s.first for s in plain}
    assert sum(any(j.first <= s.first and s.last <= j.last for j in joined) for s in plain) == len(
        plain
    )
    long = find_spans(times, level, valid, dataclasses.replace(_RULE, shortest=bound))
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    assert long == [s for s in plain if times[s.last] - times[s.first] + step >= bound]


def test_a_rule_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="leave: expected at most enter = 1, got 2"):
        Rule(enter=1.0, leave=2.0)


def test_blinks_and_smiles_are_those_that_were_put_in():
    clip = blinking_clip(seconds=10, blinks=(1.0, 4.0, 7.5), smile=(5.0, 6.5), closed=(8.2, 9.0))
    events = find_events(clip, clip.units)
    found = [(event.kind, round(event.start, 2)) for event in events]
    assert found == [
        *(("blink", 1.0), ("blink", 4.0), ("smile", 5.0), ("blink", 7.5), ("closure", 8.2)),
    ]
    smile = next(event for event in events if event.kind == "smile")
    assert smile.duration == pytest.approx(1.5, abs=1e-6)
    assert smile.note == "with raised cheeks (AU06)" and not smile.cut


def test_without_au45_blinks_are_found_by_the_lids():
    clip = blinking_clip(seconds=10, blinks=(1.0, 4.0, 7.5))
    by_unit = find_events(clip, clip.units)
    by_lids = find_events(
        dataclasses.replace(clip, au_intensity=clip.au_intensity[:, :0]), UnitNames((), ())
    )
    assert [e.kind for e in by_lids] == ["blink"] * 3
    assert np.allclose([e.start for e in by_lids], [e.start for e in by_unit], atol=0.09)
    closed = eye_closure(clip.timestamp, clip.landmarks, clip.success)
    assert abs(np.median(closed)) < 1e-6 and closed.max() > 0.5


def test_a_lost_face_cuts_an_event():
    clip = blinking_clip(seconds=4, blinks=(), smile=(1.0, 3.0))
    lost = clip.success & ~((clip.timestamp > 1.9) & (clip.timestamp < 2.2))
    events = find_events(dataclasses.replace(clip, success=lost), clip.units)
    assert [(e.kind, e.cut) for e in events] == [("smile", True)] * 2
    assert events[0].end < 2.0 < events[1].start


def test_the_talking_head_blinks_as_its_truth_says(golden_dir):
    """OpenFace's own result of a real clip: blinks at these times were seen by eye."""
    clip = jaxface.read_csv(golden_dir / "default" / "default.csv")
    blinks = [e.peak_time for e in find_events(clip, clip.units) if e.kind == "blink"]
    for seen in (1.3, 5.3, 7.6, 10.2, 18.8):
        assert min(abs(t - seen) for t in blinks) < 0.2, seen


# Asymmetry


def test_shapes_are_turned_back(rng=np.random.default_rng(0)):
    shape = rng.normal(0, 40, (68, 3))
    turned = turned_faces(shape, 20, rng)
    straight = turned_faces(shape, 1, rng, turn=0.0)
    shapes, expected = upright_shapes(turned), upright_shapes(straight)
    assert shapes is not None and expected is not None
    # Turns of the head change nothing; the frame may differ by the roll of a shape without eyes
    # that are level, which is taken out in both.
    np.testing.assert_allclose(shapes, np.broadcast_to(expected, shapes.shape), **_TOL)


def test_a_mirrored_face_has_the_opposite_asymmetry():
    rng = np.random.default_rng(1)
    faces = turned_faces(rng.normal(0, 40, (68, 3)), 10, rng)
    flip = list(MULTI_PIE_68.mirror)
    mirrored = dataclasses.replace(
        faces,
        landmarks=(faces.landmarks * np.array([-1, 1], np.float32))[:, flip],
        landmarks_3d=faces.landmarks_3d[:, flip],
        rotation=faces.rotation * np.array([1, -1, -1], np.float32),
    )
    here, there = asymmetry(faces), asymmetry(mirrored)
    assert here is not None and there is not None
    np.testing.assert_allclose(there, -here, **_TOL)
    assert np.abs(here).min() > 0.1


def test_known_displacements_are_found():
    """A millimetre at a landmark of a symmetric face is a millimetre, or its share of a mean."""
    rng = np.random.default_rng(2)
    half = rng.normal(0, 40, (68, 3))
    half[36:42, 0] -= 150  # the left eye lies left of the right one
    half[42:48, 0] += 150
    symmetric = (half + (half * [-1, 1, 1])[list(MULTI_PIE_68.mirror)]) / 2
    moves = {
        "mouth_height": (48, (0, 1), 1.0),
        "mouth_width": (54, (-1, 0), 1.0),
        "brow_height": (19, (0, -1), 0.2),
        "eye_opening": (37, (0, -1), 0.5),
    }
    for number, measure in enumerate(MEASURES):
        landmark, move, expected = moves[measure.key]
        shape = symmetric.copy()
        shape[landmark, :2] += move
        # A lid that moves takes the middle between the eyes with it, by a twelfth.
        found = asymmetry(turned_faces(shape, 5, rng))
        assert found is not None
        tolerance = 0.1 if measure.key == "eye_opening" else 1e-3
        np.testing.assert_allclose(found[:, number], expected, rtol=0, atol=tolerance)
        others = np.delete(found, number, axis=1)
        assert np.abs(others).max() < (0.2 if measure.key == "eye_opening" else 1e-3)


def test_what_lacks_columns_has_no_asymmetry():
    faces = turned_faces(np.random.default_rng(3).normal(0, 40, (68, 3)), 3)
    for name in ("landmarks", "landmarks_3d", "parameters"):
        some = choose_columns(faces, ColumnChoice()._replace(**{name: False}))
        assert asymmetry(some) is None
    lost = dataclasses.replace(faces, success=np.array([True, False, True]))
    found = asymmetry(lost)
    assert found is not None and np.isnan(found).all(axis=1).tolist() == [False, True, False]


# The page


class _Page(html.parser.HTMLParser):
    """Tags with the names of their attributes, texts of elements by id or tag, scripts by id."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.texts: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self._open.append(dict(attrs).get("id") or tag)

    def handle_endtag(self, tag):
        self._open = self._open[:-1]

    def handle_data(self, data):
        if self._open:
            self.texts[self._open[-1]] = self.texts.get(self._open[-1], "") + data


def _page(path) -> _Page:
    return _Page(path.read_text(encoding="utf-8"))


_BAD = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;<!--]]>\"'$$x$$"
_TEXTS = st.one_of(st.text(max_size=20), st.sampled_from([_BAD, "<!--<script>", "\ud800<b>"]))


def _named_clip(name: str, unit: str) -> Analysis:
    clip = blinking_clip(seconds=1, blinks=(0.4,))
    clip = choose_columns(clip, ColumnChoice(*([False] * 6))._replace(action_units=True))
    renamed = ([unit if n == "AU04" else n for n in names] for names in OPENFACE_UNITS)
    record = Record({"input": {"name": f"{name}.mp4"}, "model": {"name": name}, name: [name]})
    return dataclasses.replace(clip, units=UnitNames(*map(tuple, renamed)), record=record)


def _values(path) -> dict:
    return json.loads(_page(path).texts["jaxface-report"])


@pytest.fixture(scope="module")
def plain_tags(tmp_path_factory) -> list:
    folder = tmp_path_factory.mktemp("plain")
    return _page(jaxface.write_report(folder / "a.html", _named_clip("plain", "AU04"))).tags


# Shrinking would take minutes, and the texts are short already.
@settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(name=_TEXTS, unit=_TEXTS)
def test_every_text_stays_text(tmp_path_factory, plain_tags, name, unit):
    """Whatever names say, the elements of the page are the same, and no text leaves its own."""
    folder = tmp_path_factory.mktemp("names")
    name, unit = name or "x", unit or "x"
    page = _page(jaxface.write_report(folder / "b.html", _named_clip(name, unit)))
    assert page.tags == plain_tags
    values = json.loads(page.texts["jaxface-report"])
    assert values["record"]["model"]["name"] == name
    assert {u["name"] for u in values["faces"][0]["units"]} >= {unit}
    assert page.texts["h1"] == _shown(values["name"])
    assert "$$" not in json.dumps(json.loads(page.texts["plan"])["document"])
    if "/" not in name and "." not in name:
        assert values["name"] == name


def _shown(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(_JSON)
def test_json_in_a_script_is_the_same_and_ends_nothing(value):
    text = script_json(value)
    assert not set("<>&") & set(text) and text.isascii()
    assert json.loads(text) == value


def test_figures_are_numpys(tmp_path):
    clip = blinking_clip(seconds=10, blinks=(1.0, 4.0, 7.5), smile=(5.0, 6.5))
    found = np.arange(len(clip)) % 10 != 9
    clip = dataclasses.replace(clip, success=found)
    face = _values(jaxface.write_report(tmp_path / "r.html", clip))["faces"][0]
    assert (face["frames"], face["found"], face["share"]) == (300, 270, 0.9)
    assert face["seconds"] == pytest.approx(9.0)
    assert face["blinks_per_minute"] == pytest.approx(60 * 3 / 9)
    units = {unit["name"]: unit for unit in face["units"]}
    for column, name in enumerate(clip.units.intensity):
        values = clip.au_intensity[found, column].astype(np.float64)
        assert units[name]["intensity"]["mean"] == pytest.approx(values.mean())
        assert units[name]["intensity"]["sd"] == pytest.approx(values.std(ddof=1))
    assert units["AU28"]["intensity"] == {"size": 0, "mean": None, "sd": None}
    present = clip.au_presence[found, clip.units.presence.index("AU12")].mean()
    assert units["AU12"]["present"] == pytest.approx(present)


def test_the_clip_is_found_by_the_record(tmp_path):
    """As it was, or not at all; beside the result, too; named by OpenFace's details."""
    clip = blinking_clip(seconds=1, blinks=())
    film = write_film(tmp_path / "clip.mp4", frames=30, rate=RATE)
    result = jaxface.write_csv(tmp_path / "out" / "clip.csv", clip)
    page = tmp_path / "r.html"

    def parts() -> tuple[bool, str]:
        shown = _page(jaxface.write_report(page, result))
        return any(tag == "video" for tag, _ in shown.tags), shown.texts.get("li", "")

    assert not parts()[0]
    digest = hashlib.sha256(film.read_bytes()).hexdigest()
    record = {"jaxface": "0.1.0", "input": {"path": str(film), "sha256": digest}}
    beside = result.with_name("clip.run.json")
    beside.write_text(json.dumps(record))
    assert parts()[0]
    record["input"]["sha256"] = "0" * 64
    beside.write_text(json.dumps(record))
    assert parts()[0] is False and "its contents have changed" in parts()[1]
    beside.unlink()
    details = result.with_name("clip_of_details.txt")
    details.write_text("Input:clip.mp4\nCamera parameters:500,500,48,32\n")
    assert not parts()[0]
    film.rename(result.with_name("clip.mp4"))
    assert parts()[0]
    details.write_text("Input:" + 5000 * "a" + "\0\nCamera parameters:x")
    assert not parts()[0]


def test_a_result_without_its_clip_shows_its_aligned_faces(tmp_path):
    clip = blinking_clip(seconds=1, blinks=())
    faces = np.zeros((len(clip), 32, 32, 3), np.uint8)
    path = jaxface.write_report(tmp_path / "r.html", dataclasses.replace(clip, aligned=faces))
    assert "these are the aligned faces" in path.read_text(encoding="utf-8")
    assert any(tag == "video" for tag, _ in _page(path).tags)


def test_a_result_without_its_clip_shows_its_tracked_video(tmp_path):
    clip = blinking_clip(seconds=1, blinks=())
    result = jaxface.write_npz(tmp_path / "a.npz", clip)
    jaxface.write_tracked(
        tmp_path / "a_tracked.mp4", [np.zeros((240, 320, 3), np.uint8)] * 30, clip
    )
    path = jaxface.write_report(tmp_path / "r.html", result)
    assert "this is a_tracked.mp4" in path.read_text(encoding="utf-8")
    assert any(tag == "video" for tag, _ in _page(path).tags)


def test_an_image_has_a_picture_and_no_time(tmp_path, samples_dir, golden_dir):
    result = golden_dir / "img_sample3" / "sample3.csv"
    path = jaxface.write_report(tmp_path / "r.html", result, video=samples_dir / "sample3.jpg")
    page = _page(path)
    tags = [tag for tag, _ in page.tags]
    assert "img" in tags and "video" not in tags and "input" not in tags
    assert "plan" not in page.texts and path.stat().st_size < 3e5
    assert _values(path)["faces"][0]["events"] == []


def test_a_report_of_half_a_minute_is_small(tmp_path):
    """Of noise, which no codec can make small: its film has a highest rate."""
    clip = blinking_clip(seconds=30, blinks=(1.0, 9.0))[::2]
    clip = dataclasses.replace(clip, frame=1 + np.arange(len(clip)))
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (7, 240, 320, 3), dtype=np.uint8)
    frames = (noise[i % 7, :: 1 - 2 * (i % 2)] for i in range(len(clip)))
    path = jaxface.write_report(tmp_path / "r.html", clip, video=frames)
    assert path.stat().st_size < 8e6


def test_long_clips_are_thinned_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxface.run._report_film._MOST_FRAMES", 20)
    monkeypatch.setattr("jaxface.output.report._series.MOST_POINTS", 40)
    clip = blinking_clip(seconds=2, blinks=(1.0,))
    frames = (np.full((48, 64, 3), i, np.uint8) for i in range(len(clip)))
    path = jaxface.write_report(tmp_path / "r.html", clip, video=frames)
    text = path.read_text(encoding="utf-8")
    assert "One frame in 3 is shown" in text and "A point stands for 2 frames" in text
    source = re.search(r'src="data:video/mp4;base64,([^"]+)"', text)
    assert source is not None
    with av.open(io.BytesIO(base64.b64decode(source[1])), mode="r") as film:
        times = [frame.time for frame in film.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(20) * 3 / RATE, rtol=0, atol=1e-4)


# The command


def test_the_command_writes_a_page_and_says_where(tmp_path, capsys):
    result = jaxface.write_csv(tmp_path / "a.csv", blinking_clip(seconds=1, blinks=()))
    assert main(["report", str(result)]) == 0
    page = tmp_path / "a_report.html"
    assert page.is_file() and str(page) in capsys.readouterr().out
    cohorts = tmp_path / "cohorts.csv"
    cohorts.write_text("clip,cohort\na,one\n")
    assert main(["report", str(tmp_path), "--cohorts", str(cohorts)]) == 0
    names = [c["name"] for c in _values(tmp_path / "report.html")["cohorts"]]
    assert names == [
        "all results",
        "one",
    ]


def test_results_that_cannot_be_read_are_named(tmp_path, capsys):
    good = jaxface.write_npz(tmp_path / "good.npz", blinking_clip(seconds=1, blinks=()))
    bad = tmp_path / "bad.csv"
    bad.write_text("no results")
    page = tmp_path / "all.html"
    assert main(["report", str(good), str(bad), "--out", str(page)]) == 1
    assert "bad.csv: expected" in capsys.readouterr().err
    assert "bad.csv: expected" in page.read_text(encoding="utf-8")
    assert [r["name"] for r in _values(page)["results"]] == ["good"]
    page.unlink()
    assert main(["report", str(bad), str(bad), "--out", str(page)]) == 1
    assert "got 2 that cannot be read" in capsys.readouterr().err and not page.exists()
    with pytest.raises(InputError, match="bad.csv"):
        jaxface.write_report(page, [good, bad])
    with pytest.raises(InputError, match="got none"):
        jaxface.write_report(page, [])
    with pytest.raises(ValueError, match="video: expected None for several results"):
        jaxface.write_report(page, [good, good], video=tmp_path / "x.mp4")
    with pytest.raises(SystemExit, match="2"):
        main(["report", str(good), str(good), "--clip", "x.mp4"])


def test_a_missing_bokeh_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "bokeh", None)
    clip = blinking_clip(seconds=1, blinks=())
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxface\[report\]'"):
        jaxface.write_report(tmp_path / "r.html", clip)
    result = jaxface.write_csv(tmp_path / "a.csv", clip)
    assert main(["report", str(result)]) == 1
    assert "pip install 'jaxface[report]'" in capsys.readouterr().err
