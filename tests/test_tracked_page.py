"""Annotated videos in a browser, at 1080p: they play, each frame at the time that it had."""

import base64
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

import jaxface
from jaxface.io import read_video

from .test_tracked import _rows

_TIMES = (0.0, 0.03, 0.075, 0.1, 0.14, 0.165)  # s; within half a frame of 30 a second


def _write(path: Path) -> Path:
    """Pictures of 1920 x 1080 px, at times that are not of one rate."""
    picture = np.full((1080, 1920, 3), 90, np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, time in enumerate(_TIMES):
            cv2.circle(picture, (200 + 200 * index, 540), 60, (200, 40, 40), -1)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(1000 * time), stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    clip = _write(folder / "a.mkv")
    reader = read_video(clip)
    rows = _rows([*range(1, 7)], [reader.timestamp(index) for index in range(6)])
    # OpenFace's times count frames; a player shows the file's own.
    assert rows.timestamp == pytest.approx(np.arange(6) / reader.fps) and reader.fps == 30
    assert [reader.shown_at(index) for index in range(6)] == pytest.approx(_TIMES)
    return jaxface.write_tracked(folder / "t.mp4", clip, rows)


def test_frames_have_the_times_of_the_source(film):
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.height == 1080 and stream.width > 1920  # with the bars
        shown = [frame.time for frame in container.decode(stream)]
    assert shown == pytest.approx(_TIMES, abs=1e-4)


_PLAY = """async source => {
    const video = document.createElement("video");
    video.muted = true;
    document.body.append(video);
    const loaded = new Promise((done, fail) => {
        video.onloadeddata = done;
        video.onerror = () => fail(new Error(video.error.message));
    });
    video.src = source;
    await loaded;
    const shown = [];
    for (const time of [0, 0.05, 0.11, 0.15]) {
        const sought = new Promise(done => video.onseeked = done);
        const drawn = new Promise(done => video.requestVideoFrameCallback((_, at) => done(at)));
        video.currentTime = time;
        await sought;
        shown.push((await drawn).mediaTime);
    }
    const ended = new Promise(done => video.onended = done);
    video.currentTime = 0;
    await video.play();
    await ended;
    const size = [video.videoWidth, video.videoHeight];
    return {size, duration: video.duration, shown, end: video.currentTime};
}"""


def test_a_browser_plays_it(film, browser: Any):
    page = browser.new_page()
    try:
        page.goto("about:blank")
        data = base64.b64encode(film.read_bytes()).decode()
        found = page.evaluate(_PLAY, f"data:video/mp4;base64,{data}")
    finally:
        page.close()
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        assert found["size"] == [stream.width, stream.height]
    assert found["duration"] == pytest.approx(_TIMES[-1] + 1 / 30, abs=0.02)
    # Of each time the last frame before it.
    assert found["shown"] == pytest.approx([0.0, 0.03, 0.1, 0.14], abs=2e-3)
    assert found["end"] == pytest.approx(found["duration"])
