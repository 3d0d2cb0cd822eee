"""`jaxface analyze --tracked`: a clip's results drawn over its frames, as a video."""

from pathlib import Path

import av
import numpy as np
import pytest

from jaxface.cli import main, run_openface

from .stand_in import StandIn, put_behind_command_line, write_image, write_video


@pytest.fixture(autouse=True)
def analysed(monkeypatch) -> list[str]:
    return put_behind_command_line(monkeypatch)


class _Model:
    """The choice of a model that the stand-in does not need."""

    note = ""

    def __init__(self, wanted: str | None):
        self.name = wanted or "openface"


def _decode(path: Path) -> tuple[list[np.ndarray], list[float]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    times = [frame.time for frame in frames if frame.time is not None]
    return [frame.to_ndarray(format="rgb24") for frame in frames], times


def _green(picture: np.ndarray) -> int:
    """Pixels of bars, right of the picture, which is 64 px wide and enlarged five times."""
    panel = picture[:, 5 * 64 :].astype(int)
    return int((panel[..., 1] - panel[..., 0] > 60).sum())


@pytest.mark.parametrize("faces", ("one", "all"))
def test_a_video_of_every_frame(tmp_path, capsys, faces):
    clip, out = write_video(tmp_path / "a.avi"), tmp_path / "out"
    assert main(["analyze", clip, "--out", str(out), "--tracked", "--faces", faces]) == 0
    video = out / "a_tracked.mp4"
    assert capsys.readouterr().out.splitlines()[0].endswith(f", video {video}")
    pictures, times = _decode(video)
    assert times == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], abs=1e-4)
    bars = [_green(picture) for picture in pictures]
    assert bars[0] == 0  # a black frame has no face
    if faces == "one":  # the stand-in's last pass: an intensity of half the row's number
        assert np.all(np.diff(bars[1:]) > 0)
        assert bars[4] / bars[2] == pytest.approx(2, rel=0.1)
    else:
        assert min(bars[1:]) > 0 and np.ptp(bars[1:]) < 0.1 * max(bars)


def test_an_image_gets_its_overlay(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["analyze", write_image(tmp_path / "a.png"), "--out", str(out), "--tracked"]) == 0
    assert f", overlay {out / 'a_overlay.png'}" in capsys.readouterr().out
    assert not [*out.glob("*.mp4")]


def test_the_video_of_openfaces_commands(tmp_path, monkeypatch):
    clip, out = write_video(tmp_path / "a.avi"), tmp_path / "out"
    command = ["-f", clip, "-out_dir", str(out), "-2Dfp", "-q"]
    monkeypatch.setattr("jaxface.cli._openface.choose_model", _Model)
    assert run_openface("FeatureExtraction", [*command, "-tracked"], load=lambda _: StandIn) == 0
    pictures, times = _decode(out / "a.avi")
    assert np.diff(times) == pytest.approx([0.1] * 5) and len(pictures) == 6
    assert {picture.shape for picture in pictures} == {(48, 64, 3)}
    assert "Output video:a.avi\n" in (out / "a_of_details.txt").read_text()
    assert run_openface("FeatureExtraction", command, load=lambda _: StandIn) == 0
    assert "Output video" not in (out / "a_of_details.txt").read_text()


def test_the_picture_of_openfaces_commands(tmp_path, monkeypatch):
    image, out = write_image(tmp_path / "a.png"), tmp_path / "out"
    monkeypatch.setattr("jaxface.cli._openface.choose_model", _Model)
    command = ["-f", image, "-out_dir", str(out), "-2Dfp", "-tracked", "-q"]
    assert run_openface("FaceLandmarkImg", command, load=lambda _: StandIn) == 0
    assert (out / "a.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
    assert "Output image:a.jpg\n" in (out / "a_of_details.txt").read_text()


def test_a_clip_without_faces_keeps_its_video(tmp_path):
    clip, out = write_video(tmp_path / "a.avi", 1), tmp_path / "out"  # a black frame
    command = ["analyze", clip, "--out", str(out), "--tracked", "--faces", "all"]
    assert main(command) == 0
    assert len(_decode(out / "a_tracked.mp4")[0]) == 1


def test_a_lost_video_is_made_again(tmp_path, analysed):
    clip, out = write_video(tmp_path / "a.avi"), tmp_path / "out"
    command = ["analyze", clip, "--out", str(out), "--tracked", "--resume"]
    assert main(command) == main(command) == 0
    assert len(analysed) == 1
    video = out / "a_tracked.mp4"
    video.unlink()
    assert main(command) == 0
    assert len(analysed) == 2 and video.is_file()


def test_a_video_that_cannot_be_written_is_named(tmp_path, capsys):
    clip, out = write_video(tmp_path / "a.avi"), tmp_path / "out"
    (out / "a_tracked.mp4").mkdir(parents=True)
    assert main(["analyze", clip, "--out", str(out), "--tracked"]) == 1
    assert "a_tracked.mp4" in capsys.readouterr().err
    assert not [*out.glob(".*.tmp")]
