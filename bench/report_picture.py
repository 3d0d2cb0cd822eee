"""Makes README's pictures of a report: that of bench/data/talking_head.mp4, in a browser.

Usage: python bench/report_picture.py [--out DIR] [--results DIR]

Needs the extras `report` and `test`, and a Chromium on the PATH. The pictures are what the browser
shows, at 1280 px of width and at a telephone's 390, once the slider is at a frame; nothing is drawn
into them.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from jaxface.cli import main as jaxface
from jaxface.io import read_image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.overlay_strip import CLIP, DATA, write_small  # noqa: E402

FRAME = 141  # from 1, as in the CSV
SIZES = {"report.png": (1280, 860), "report_narrow.png": (390, 860)}  # width and height, px
_BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")


def main(argv: list[str] | None = None) -> int:
    """Writes the pictures. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Makes README's pictures of a report.")
    parser.add_argument("--out", type=Path, default=DATA, help="default: %(default)s")
    parser.add_argument(
        "--results", type=Path, help="keeps the analysis here, or takes it from here"
    )
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.results or Path(temporary)
        status = jaxface(["analyze", str(CLIP), "--out", str(folder), "--resume"])
        page = Path(temporary) / "report.html"
        status = status or jaxface(["report", str(folder / f"{CLIP.stem}.csv"), "--out", str(page)])
        if status:
            return status
        for name, size in SIZES.items():
            shot, path = Path(temporary) / name, arguments.out / name
            photograph(page, shot, size)
            write_small(path, read_image(shot))
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    return 0


def photograph(page: Path, shot: Path, size: tuple[int, int]) -> None:
    """Opens a report, moves it to `FRAME` and takes a picture.

    Args:
        page: the report.
        shot: the picture, a PNG.
        size: width and height of the window, px.
    Raises:
        FileNotFoundError: there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None:
        raise FileNotFoundError(
            "expected a Chromium on the PATH, got none: apt-get install chromium"
        )
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": size[0], "height": size[1]})
        view.goto(page.resolve().as_uri())
        view.wait_for_selector("html[data-ready=true]")
        view.fill("#scrub", str(FRAME - 1))
        view.wait_for_function("() => !document.getElementById('film').seeking")
        view.evaluate("() => document.activeElement.blur()")
        view.wait_for_timeout(500)  # the browser draws the frame that it has found
        view.screenshot(path=shot)
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
