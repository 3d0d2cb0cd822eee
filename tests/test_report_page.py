"""Reports in a browser: they open, scrub, print, fit a telephone, and ask no network."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import jaxface
from jaxface import Analysis
from jaxface.output import ColumnChoice, choose_columns, join_tables

from .report_clip import RATE, blinking_clip

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip("bokeh", reason="pip install 'jaxface[report]'")

_SECONDS, _BLINKS, _SMILE = 6, (1.0, 2.5, 4.2), (3.0, 4.0)
_FRAMES = _SECONDS * RATE
_READY = 2.0  # s until a report can be used
_SIZES = ((1280, 900), (390, 844))


def _gray(index: int) -> int:
    """Brightness of a frame, by which it is told in the film: neighbours differ by 20."""
    return 40 + 20 * (index % 10)


def _frames() -> Iterator[np.ndarray]:
    return (np.full((240, 320, 3), _gray(index), np.uint8) for index in range(_FRAMES))


@pytest.fixture(scope="module")
def clip() -> Analysis:
    """Without landmarks and head, which would be drawn over the brightness of the frames."""
    whole = blinking_clip(seconds=_SECONDS, blinks=_BLINKS, smile=_SMILE)
    return choose_columns(whole, ColumnChoice(landmarks=False, gaze=True))


@pytest.fixture(scope="module")
def report(clip, tmp_path_factory) -> Path:
    bare = dataclasses.replace(clip, head_pose=clip.head_pose, gaze=clip.gaze[:, :0])
    path = tmp_path_factory.mktemp("report") / "clip.html"
    return jaxface.write_report(path, bare, video=_frames())


class _Watched:
    """A page, with what it said and asked for."""

    def __init__(self, browser: "Browser", path: Path, size: tuple[int, int] = _SIZES[0]):
        self.said: list[str] = []
        self.asked: list[str] = []
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, has_touch=size[0] < 700
        )
        self.page: Page = context.new_page()
        self.page.on("console", lambda m: self._heard(m.type, m.text))
        self.page.on("pageerror", lambda error: self._heard("error", str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready=true]", timeout=15000)

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.said.append(f"{kind}: {text}")

    def run(self, script: str) -> Any:
        return self.page.evaluate(script)

    def settle(self) -> None:
        """Waits until the film shows what it was asked for, and the screen is drawn."""
        self.page.wait_for_function("() => !document.getElementById('film')?.seeking")
        self.run("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")

    def state(self) -> dict[str, Any]:
        """Slider, place in words, the plots' cursors, and the film's brightness in the middle."""
        self.settle()
        return self.run(
            """() => {
              const film = document.getElementById("film");
              const canvas = document.createElement("canvas");
              canvas.width = canvas.height = 8;
              const pen = canvas.getContext("2d");
              pen.drawImage(film, 0, 0, 8, 8);
              const plots = Bokeh.documents[0].roots().filter((model) => model.center);
              const cursors = plots.flatMap((plot) => plot.center)
                .filter((model) => model.name === "cursor").map((model) => model.location);
              return {
                slider: Number(document.getElementById("scrub").value),
                where: document.getElementById("where").textContent,
                cursors,
                gray: pen.getImageData(4, 4, 1, 1).data[0],
              };
            }"""
        )

    def shows(self, index: int) -> None:
        """Checks that all that moves is at a frame."""
        found, time = self.state(), index / RATE
        assert found["slider"] == index
        assert found["where"].startswith(f"Frame {index + 1}, {time:.3f} s")
        assert len(found["cursors"]) >= 3
        np.testing.assert_allclose(found["cursors"], time, rtol=0, atol=1e-3)
        # Levels of H.264 at this quality.
        assert abs(found["gray"] - _gray(index)) < 6, (found["gray"], _gray(index))

    def press(self, key: str, share: float, *, to: float | None = None) -> None:
        """Presses in a plot at a share of its width, and drags."""
        self.page.locator(f"#plot-{key}").scroll_into_view_if_needed()
        self.settle()
        place = self.page.evaluate(
            """(key) => {
              const id = JSON.parse(document.getElementById("plan").textContent).roots[key];
              const view = Bokeh.index.get_by_id ? Bokeh.index.get_by_id(id) : Bokeh.index[id];
              const box = view.el.getBoundingClientRect();
              const frame = view.frame.bbox;
              return [box.left + frame.left, box.top + frame.top, frame.width, frame.height];
            }""",
            key,
        )
        left, top, width, height = place
        mouse = self.page.mouse
        mouse.move(left + share * width, top + height / 2)
        mouse.down()
        if to is not None:
            mouse.move(left + (share + to) / 2 * width, top + height / 2)
            mouse.move(left + to * width, top + height / 2)
        mouse.up()


def _near(found: int, wanted: float) -> bool:
    return abs(found - wanted) <= 2  # a pixel of a plot is a fifth of a frame


def test_a_report_opens_and_asks_no_network(browser, report):
    for size in _SIZES:
        watched = _Watched(browser, report, size)
        watched.settle()
        assert watched.said == []
        elsewhere = [url for url in watched.asked if not url.startswith(("data:", "blob:"))]
        assert elsewhere == [report.as_uri()]
        wide = watched.run("() => document.documentElement.scrollWidth")
        assert wide <= size[0], "the page is wider than the screen"
        canvases = watched.run(
            """() => Object.keys(JSON.parse(document.getElementById("plan").textContent).roots)
              .map((key) => document.getElementById(`plot-${key}`).firstElementChild)
              .map((drawn) => drawn.getBoundingClientRect())
              .map((box) => [box.width, box.height])"""
        )
        assert len(canvases) >= 4 and all(w > 300 and h > 100 for w, h in canvases)


@pytest.mark.untyped
def test_a_report_can_soon_be_used(browser, report):
    times = []
    for _ in range(2):
        watched = _Watched(browser, report)
        watched.settle()
        times.append(watched.run("() => performance.now()") / 1000)
    assert min(times) < _READY, times


def test_the_slider_moves_film_plots_and_numbers(browser, report):
    watched = _Watched(browser, report)
    watched.shows(0)
    slider = watched.page.locator("#scrub")
    slider.focus()
    for key, index in (("ArrowRight", 1), ("ArrowRight", 2), ("End", _FRAMES - 1), ("Home", 0)):
        watched.page.keyboard.press(key)
        watched.shows(index)
    slider.fill("77")
    watched.shows(77)
    assert watched.page.get_attribute("#scrub", "aria-valuetext") == "Frame 78, 2.567 s"
    at_blink = round(_BLINKS[1] * RATE) + 2
    slider.fill(str(at_blink))
    watched.settle()
    shown = watched.run(
        """() => [...document.querySelectorAll("meter")].map((meter) =>
          [meter.labels[0].textContent.trim(), meter.value])"""
    )
    assert dict(map(tuple, shown))["AU45"] == pytest.approx(3.0, abs=0.01)
    assert watched.said == []


def test_plots_and_buttons_move_the_film(browser, report):
    watched = _Watched(browser, report)
    watched.press("units", 0.5)
    found = watched.state()["slider"]
    assert _near(found, 0.5 * (_FRAMES - 1))
    watched.shows(found)
    watched.press("gaze", 0.2, to=0.8)
    found = watched.state()["slider"]
    assert _near(found, 0.8 * (_FRAMES - 1))
    watched.shows(found)
    page = watched.page
    page.click("#back")
    watched.shows(found - 1)
    page.click("#event-back")
    watched.shows(round(_BLINKS[2] * RATE))
    page.click("#event-back")
    watched.shows(round(_SMILE[0] * RATE))
    page.click("#event-on")
    watched.shows(round(_BLINKS[2] * RATE))
    page.click(".jump >> nth=0")
    watched.shows(round(_BLINKS[0] * RATE))
    assert watched.said == []


def test_a_finger_scrubs_sideways_and_scrolls_upwards(browser, report):
    watched = _Watched(browser, report, _SIZES[1])
    page = watched.page
    page.locator("#plot-units").scroll_into_view_if_needed()
    box = page.locator("#plot-units").bounding_box()
    assert box is not None
    touch = page.context.new_cdp_session(page)

    def drag(dx: float, dy: float) -> None:
        x, y = box["x"] + 120, min(box["y"] + 150, 700)
        points = [{"x": x + dx * k / 8, "y": y + dy * k / 8} for k in range(9)]
        for kind, point in zip(["touchStart"] + 8 * ["touchMove"], points, strict=True):
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        watched.settle()

    drag(150, 0)
    found = watched.state()["slider"]
    assert found > _FRAMES / 2
    watched.shows(found)
    before = watched.run("() => window.scrollY")
    drag(0, -120)
    assert watched.run("() => window.scrollY") > before + 50
    assert watched.state()["slider"] == found
    assert watched.said == []


def test_the_film_moves_the_plots(browser, report):
    watched = _Watched(browser, report)
    watched.page.click("#play")
    watched.page.wait_for_function("() => Number(document.getElementById('scrub').value) > 10")
    assert watched.page.inner_text("#play") == "Pause"
    watched.page.click("#play")
    watched.settle()
    found = watched.state()
    time = watched.run("() => document.getElementById('film').currentTime")
    assert _near(found["slider"], time * RATE)
    np.testing.assert_allclose(found["cursors"], found["slider"] / RATE, rtol=0, atol=1e-3)
    assert watched.said == []


def test_names_with_markup_stay_text(browser, clip, tmp_path):
    name = "<img src=x onerror=alert(1)></title></script><script>window.taken=1</script> $$x$$"
    file = tmp_path / "a.npz"
    jaxface.write_npz(file, clip)
    named = file.rename(tmp_path / f"{name.replace('/', '∕')}.npz")
    watched = _Watched(browser, jaxface.write_report(tmp_path / "r.html", named))
    assert watched.page.inner_text("h1") == named.stem
    assert watched.page.title() == f"{named.stem} – jaxface report"
    assert watched.run("() => [window.taken, document.querySelectorAll('img').length]") == [None, 0]
    assert watched.said == []
    assert "was not found" in watched.page.inner_text(".player")


def test_faces_can_be_chosen(browser, tmp_path):
    one = blinking_clip(seconds=3, blinks=(1.0,))
    two = blinking_clip(seconds=2, blinks=(0.5, 1.2), smile=(0.2, 1.5))
    two = dataclasses.replace(two, face_id=np.ones_like(two.face_id))
    whole = join_tables([one.table(), two.table()])
    whole = whole[np.lexsort((whole.face_id, whole.frame))]
    columns = {f.name: getattr(whole, f.name) for f in dataclasses.fields(whole)}
    both = Analysis(**columns, kind="multi_face", units=one.units)
    watched = _Watched(browser, jaxface.write_report(tmp_path / "r.html", both))
    visible = "() => [...document.querySelectorAll('[data-face]:not([hidden]) .facts dd')]"
    texts = f"{visible}.map((part) => part.innerText)"
    first = watched.run(texts)
    empty = "() => [...document.querySelectorAll('.canvas')].filter((c) => !c.children.length)"
    assert watched.run(f"{empty}.length") == 0
    assert first[:2] == ["90", "100.0 %"] and first[3].startswith("1")
    watched.page.select_option("#face", "1")
    second = watched.run(texts)
    assert second[:2] == ["90", "66.7 %"] and second[3].startswith("2")
    watched.page.click("#event-on")
    assert watched.page.inner_text("#where") == "Frame 7, 0.200 s"
    watched.page.locator("#scrub").fill("80")
    watched.settle()
    assert watched.page.inner_text("#where").endswith("no face")
    assert watched.said == []


def test_whatever_is_missing_a_report_opens(browser, tmp_path):
    whole = blinking_clip(seconds=2, blinks=(1.0,))
    unknown = np.full_like(whole.head_pose, np.nan)
    cases = {
        "no face": (dataclasses.replace(whole, success=np.zeros(len(whole), bool)), 2),
        "one frame": (whole[:1], 0),
        "no columns": (choose_columns(whole, ColumnChoice(*([False] * 6))), 2),
        "no numbers": (dataclasses.replace(whole, head_pose=unknown), 2),
        "no times": (dataclasses.replace(whole, timestamp=np.zeros(len(whole))), 2),
    }
    for name, (clip, last) in cases.items():
        watched = _Watched(browser, jaxface.write_report(tmp_path / f"{name}.html", clip))
        for _ in range(2):
            watched.page.click("#on")
        said = watched.page.inner_text("#where")
        assert said.startswith(f"Frame {last + 1}, {last / RATE:.3f} s"), name
        assert watched.said == [], name
        watched.page.close()
    empty = jaxface.write_report(tmp_path / "empty.html", whole[:0])
    assert "Clip of one face." in empty.read_text(encoding="utf-8")


_NAMELESS = """() => [...document.querySelectorAll("button, input, select, meter, img, video")]
  .filter((part) => !(part.getAttribute("aria-label") || part.alt || part.innerText?.trim()
    || part.labels?.[0]?.textContent.trim())).map((part) => part.outerHTML)"""
_LEVELS = """() => [...document.querySelectorAll("h1, h2, h3")].filter((h) => h.offsetParent)
  .map((heading) => Number(heading.tagName[1]))"""
# WCAG's relative luminance, of texts on the white ground or on their own.
_FAINT = """() => {
  const light = (color) => color.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (part) => {
    for (let at = part; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (color !== "rgba(0, 0, 0, 0)") return color;
    }
    return "rgb(255, 255, 255)";
  };
  const texts = [...document.querySelectorAll("body *")].filter((part) => part.offsetParent
    && [...part.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));
  const ratio = (part) => {
    const [a, b] = [getComputedStyle(part).color, ground(part)].map(light).sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  return [texts.length, texts.filter((part) => ratio(part) < 4.5).map((part) => part.outerHTML)];
}"""


def test_a_report_can_be_read_and_heard(browser, report):
    """Controls have names, headings leave no level out, texts stand out from the ground."""
    watched = _Watched(browser, report)
    assert watched.run(_NAMELESS) == []
    levels = watched.run(_LEVELS)
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False))
    count, faint = watched.run(_FAINT)
    assert count > 50 and faint == []


def test_a_report_prints(browser, report, tmp_path):
    watched = _Watched(browser, report)
    data = watched.page.pdf(format="A4")
    assert data.startswith(b"%PDF") and len(data) > 20000
    printed = watched.run(
        """() => [...document.querySelectorAll(".printed canvas")].map((c) => c.width)"""
    )
    assert len(printed) >= 4 and min(printed) > 300
    watched.page.emulate_media(media="print")
    assert not watched.page.is_visible("#play") and not watched.page.is_visible("#scrub")
    assert watched.page.is_visible("#printed-units")
    assert watched.said == []


def test_a_report_of_forty_results_in_cohorts(browser, tmp_path):
    folder = tmp_path / "results"
    lines = ["clip,cohort"]
    for number in range(40):
        blinks = (0.5, 1.5) if number % 2 else (1.0,)
        made = blinking_clip(seconds=2, blinks=blinks, smile=(0.3, 1.4) if number < 20 else None)
        some = choose_columns(made, ColumnChoice(landmarks=False, landmarks_3d=False, gaze=False))
        jaxface.write_npz(folder / f"clip{number:02}.npz", some)
        lines.append(f"clip{number:02},{'<b>one</b>' if number % 2 else 'two & more'}")
    (tmp_path / "cohorts.csv").write_text("\n".join(lines))
    path = jaxface.write_report(
        tmp_path / "all.html", folder, cohorts=tmp_path / "cohorts.csv", video=None
    )
    for size in _SIZES:
        watched = _Watched(browser, path, size)
        page = watched.page
        assert page.inner_text("h1") == "40 results"
        head = page.locator("table >> nth=0").locator("thead th").all_inner_texts()
        assert head == ["figure", "unit", "all results", "<b>one</b>", "two & more"]
        rows = page.locator("table >> nth=0").locator("tbody tr").all_inner_texts()
        blinks = next(row.split("\t") for row in rows if row.startswith("blinks"))
        assert blinks == ["blinks", "per minute", "45.00 ± 15.19", "60.00 ± 0.00", "30.00 ± 0.00"]
        assert page.locator("details table tbody tr").count() == 40
        assert page.is_visible("#plot-units")
        assert watched.run("() => document.documentElement.scrollWidth") <= size[0]
        assert watched.said == []
    assert path.stat().st_size < 2e6
