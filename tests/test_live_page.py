"""The live page in a browser: it shows pictures and figures, and asks nobody else for anything."""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from jaxface.run.live import LiveServer, Session, paint_page

from .live_stand_in import DrawnFrames, KnowsFrames


class _Watched(NamedTuple):
    page: Any
    said: list[str]  # in the console
    asked: list[str]  # addresses


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    source = DrawnFrames(10**6, rate=30, size=(240, 320))
    session = Session(source, KnowsFrames, paint_page)
    session.start()
    yield session
    session.stop()


@pytest.fixture
def server(session) -> Iterator[LiveServer]:
    with LiveServer(session.shown, DrawnFrames.name) as server:
        yield server


@pytest.fixture
def watched(browser, server) -> Iterator[_Watched]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server.url)
    _until(page, lambda: _number(page) > 10)
    yield _Watched(page, said, asked)
    page.close()


def _number(page: Any) -> int:
    return int(page.get_attribute("#picture", "data-number") or 0)


def _until(page: Any, true: Callable[[], bool]) -> None:
    """Waits; the page's policy forbids the eval of playwright's own `wait_for_function`."""
    until = time.perf_counter() + 20
    while not true():
        assert time.perf_counter() < until
        page.wait_for_timeout(20)


def test_pictures_and_figures_change(watched, server):
    page = watched.page
    before, picture = _number(page), page.locator("#picture").screenshot()
    width = page.eval_on_selector("#units .bar i", "bar => bar.getBoundingClientRect().width")
    delays = page.inner_text("#delay")
    _until(page, lambda: _number(page) > before + 6)
    assert page.locator("#picture").screenshot() != picture
    after = page.eval_on_selector("#units .bar i", "bar => bar.getBoundingClientRect().width")
    assert after != width
    assert page.inner_text("#turn") == "+6° −12° +0°"  # of 0.1, -0.21 and 0 rad
    assert page.inner_text("#place") == "60 cm"
    assert page.inner_text("#confidence") == "0.90"
    assert "ms" in delays and re.fullmatch(r"\d+ of \d+", page.inner_text("#rate"))
    rows = page.locator("#units li")
    assert rows.count() == 18 and rows.nth(0).inner_text().startswith("AU01")
    shape = page.evaluate("[document.getElementById('picture').width, picture.height]")
    assert shape == [320, 240]
    # A clip's name is text, whatever it holds.
    assert page.inner_text("#title") == DrawnFrames.name and page.locator("#title b").count() == 0
    assert watched.said == []
    here = server.url.partition("/?")[0]
    assert {url.partition("/next")[0].partition("/?")[0] for url in watched.asked} == {here}


@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_the_window(watched, width):
    watched.page.set_viewport_size({"width": width, "height": 844})
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
    box = watched.page.locator("#picture").bounding_box()
    assert box["width"] > 0.6 * width
    # Nothing is cut off or lies over its neighbour: text is not wider than its room.
    cut = watched.page.evaluate(
        "[...document.querySelectorAll('dd, dt, h1, h2, .value')]"
        ".filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"
    )
    assert cut == []


def test_a_wrong_token_is_told(browser, server):
    page = browser.new_page()
    answer = page.goto(server.url.replace("token=", "token=x"))
    assert answer.status == 403 and page.inner_text("body") == "forbidden"
    page.close()


def test_another_page_of_this_computer_gets_nothing(browser, server, session):
    """Its scripts know the address, and even the token; the browser must not hand out answers."""
    with LiveServer(session.shown, "another") as other:
        page = browser.new_page()
        page.goto(other.url)
        asked = page.evaluate(
            """async ([url, token]) => {
                const answers = [];
                for (const options of [
                    {}, { mode: "no-cors" }, { headers: { Authorization: `Bearer ${token}` } },
                ]) {
                    try {
                        const answer = await fetch(url, options);
                        answers.push(answer.type + answer.status);
                    } catch (error) { answers.push("refused"); }
                }
                return answers;
            }""",
            [f"http://127.0.0.1:{server.port}/next?after=0", server.token],
        )
        page.close()
    assert asked == ["refused"] * 3


def test_the_end_is_shown(browser):
    session = Session(DrawnFrames(20, rate=30), KnowsFrames, paint_page)
    with LiveServer(session.shown, "short") as server:
        session.start()
        page = browser.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(server.url)
        _until(page, lambda: page.inner_text("#note") == "ended")
        assert said == []
        page.close()
    session.stop()
