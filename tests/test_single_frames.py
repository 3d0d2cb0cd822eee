"""Single frames of a clip are those that an iteration gives, wherever decoding starts."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from jaxface.io import open_frames, read_frames, read_video

from .head_clip import CLIP


def _write(path, times: list[int], *, keys: int = 20) -> None:
    """A video of 64 x 48 px whose frames are told apart by their level. Times in 1/1000 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": str(keys), "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, time in enumerate(times):
            level = np.full((48, 64, 3), 20 + index % 200, np.uint8)
            frame = av.VideoFrame.from_ndarray(level, format="rgb24")
            frame.pts, frame.time_base = time, stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _all(reader) -> list[np.ndarray]:
    return list(reader)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_frames_far_into_a_video_are_looked_for(tmp_path, monkeypatch, name):
    """With steps of many lengths, pictures between others (B), and key frames 20 frames apart."""
    steps = np.random.default_rng(0).integers(20, 90, 180)
    _write(tmp_path / name, np.cumsum(steps).tolist())
    whole = _all(read_video(tmp_path / name))
    assert len(whole) == 180
    reader = read_video(tmp_path / name)
    wanted = [0, 19, 20, 21, 59, 101, 177, 179]

    def refuse(self):
        raise AssertionError("decoded from the start")

    monkeypatch.setattr(type(reader), "__iter__", refuse)
    found = read_frames(reader, wanted)
    assert list(found) == wanted
    for index in wanted:
        np.testing.assert_array_equal(found[index], whole[index], str(index))


def test_frames_near_the_start_of_the_talking_head():
    reader = read_video(CLIP)
    found = read_frames(reader, [3, 0, 3])
    frames = [frame for frame, _ in zip(reader, range(4), strict=False)]
    assert list(found) == [0, 3]
    np.testing.assert_array_equal(found[3], frames[3])


def test_frames_that_there_are_not_are_left_out(tmp_path):
    _write(tmp_path / "a.mp4", [40 * i for i in range(130)])
    reader = read_video(tmp_path / "a.mp4")
    assert list(read_frames(reader, [-1, 5, 129, 130, 1000])) == [5, 129]
    assert read_frames(reader, []) == {} and read_frames(reader, [400]) == {}


def test_a_file_that_does_not_tell_its_frames_apart_is_decoded(tmp_path, monkeypatch):
    """Cut short: fewer frames than its index promises, so none can be looked for by time."""
    _write(tmp_path / "a.mkv", [40 * i for i in range(160)])
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(data[: len(data) * 19 // 20])
    reader = read_video(tmp_path / "a.mkv")
    with pytest.warns(match="ends early"):
        whole = _all(reader)
    wanted = len(whole) - 5
    assert 100 < wanted
    found = read_frames(reader, [wanted])
    np.testing.assert_array_equal(found[wanted], whole[wanted])
    # As many are decoded as are allowed where they have to be.
    monkeypatch.setattr("jaxface.io._seek.seek_frames", lambda *_: None)
    assert list(read_frames(reader, [2, wanted], most=50)) == [2]


def test_pictures_of_a_folder(tmp_path):
    for index in range(4):
        assert cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((48, 64, 3), index, np.uint8))
    (tmp_path / "2.png").write_bytes(b"no picture")
    found = read_frames(open_frames(tmp_path), [0, 2, 3, 9])
    assert {index: int(frame[0, 0, 0]) for index, frame in found.items()} == {0: 0, 3: 3}
