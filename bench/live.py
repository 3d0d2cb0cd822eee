"""How long a live frame takes until it is drawn, and whether memory stays flat.

    python bench/live.py CLIP [--rate FPS] [--minutes M] [--model NAME] [--watch]

Plays a clip as if it were a camera, over and over, through the session of `jaxface live`:
capture, analysis, drawing and JPEG. Prints the delay from the moment when a frame was there until
its picture was ready, the CPU time of the process per frame, and the memory that the process holds
after 1, 5 and 10 minutes. With --watch, a client on the same computer asks the server for every
picture, as the page does; its delays end when the picture has arrived. With --rate frames come
faster or slower than in the clip.
"""

import argparse
import http.client
import itertools
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from jaxface import load_model
from jaxface.cli import keep_small
from jaxface.io import LiveFrame, LiveSource, open_frames, play_live
from jaxface.run.live import LiveAnalysis, LiveServer, Session, paint_page

_MARKS = (1, 5, 10)  # minutes after which memory is looked at


def main() -> None:
    """Runs the measurement and prints one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default="base")
    parser.add_argument("--rate", type=float)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--watch", action="store_true")
    arguments = parser.parse_args()
    keep_small()  # as the command line does
    source: LiveSource = play_live(arguments.clip, loop=True)
    if arguments.rate:
        source = _AtRate(arguments.clip, arguments.rate)
    session = Session(source, lambda: LiveAnalysis(load_model(arguments.model)), paint_page)
    session.start()
    while not session.analysed:  # and compiled
        time.sleep(0.1)
        if session.error is not None:
            raise session.error
    with LiveServer(session.shown, source.name) as server:
        arrived: list[float] = []
        if arguments.watch:
            client = threading.Thread(target=_watch, args=(server.url, arrived), daemon=True)
            client.start()
        result = _measure(session, arguments.minutes)
    session.stop()
    if arguments.watch:
        result |= _percentiles("arrived_ms", arrived)
    result |= {"model": arguments.model, "clip": arguments.clip.name, "summary": session.summary()}
    print(json.dumps({**result, "load": os.getloadavg()[0]}))


class _AtRate:
    """A clip over and over, at another rate than its own."""

    def __init__(self, path: Path, rate: float):
        self._reader, self._rate = open_frames(path, ahead=2), rate
        self.name, self.height, self.width = str(path), self._reader.height, self._reader.width

    def __iter__(self) -> Iterator[LiveFrame]:
        start = time.perf_counter()
        for index, pixels in enumerate(
            itertools.chain.from_iterable(itertools.repeat(self._reader))
        ):
            due = index / self._rate
            time.sleep(max(start + due - time.perf_counter(), 0))
            yield LiveFrame(pixels, index + 1, due, time.perf_counter())

    def close(self) -> None:
        pass


def _measure(session: Session, minutes: float) -> dict[str, object]:
    """Follows the pictures for a while."""
    delays: list[float] = []
    memory = {0.0: _resident()}
    begin, cpu = time.perf_counter(), time.process_time()
    latest = session.shown.get(0, 1.0)  # it waited for a compiler
    assert latest is not None
    number, first = latest[0], latest[1].figures.shown
    while (passed := (time.perf_counter() - begin) / 60) < minutes and not session.ended.is_set():
        latest = session.shown.get(number, 1.0) or latest
        if latest[0] == number:
            continue
        number, shown = latest
        delays.append(shown.figures.delay)
        for mark in _MARKS:
            if passed >= mark and mark not in memory:
                memory[mark] = _resident()
    memory[round(minutes, 2)] = _resident()
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - begin
    figures = latest[1].figures
    frames = figures.shown - first
    return {
        "frames": frames,
        "frames_per_s": round(frames / seconds, 2),
        "came_per_s": round(figures.captured_rate, 2),
        "dropped": figures.dropped,
        "cpu_ms_per_frame": round(1000 * cpu / frames, 2),
        **_percentiles("drawn_ms", delays),
        "resident_mb_by_minute": memory,
    }


def _percentiles(name: str, values: list[float]) -> dict[str, object]:
    median, slow, slowest = np.percentile(values, [50, 95, 100])
    return {name: {"p50": round(median, 2), "p95": round(slow, 2), "max": round(slowest, 2)}}


def _watch(url: str, arrived: list[float]) -> None:
    """Asks for one picture after the other, as the page does."""
    parts = urlsplit(url)
    token = parts.query.removeprefix("token=")
    connection = http.client.HTTPConnection(parts.netloc)
    number = 0
    while True:
        headers = {"Authorization": f"Bearer {token}"}
        connection.request("GET", f"/next?after={number}", headers=headers)
        answer = connection.getresponse()
        came = time.perf_counter()
        body = answer.read()
        if answer.status != 200:
            continue
        figures = json.loads(body[4 : 4 + int.from_bytes(body[:4], "big")])
        if figures.get("ended"):
            return
        number = figures["number"]
        age = float(answer.headers["Jaxface-Age"])
        arrived.append(age + 1000 * (time.perf_counter() - came))


def _resident() -> float:
    """Memory of this process that lies in RAM, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


if __name__ == "__main__":
    main()
