"""The command line: what it writes and reports, and how it fails."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from jaxface.cli import _engine, _run, main
from jaxface.io import VideoReader, read_image, read_video
from jaxface.output import column_names, draw_face, read_hog

from .films import write_film
from .stand_in import CAMERA, FACES, StandIn, make_row, read_cells, write_image, write_video


@pytest.fixture
def fake(monkeypatch) -> list:
    """Puts the stand-in behind the command line; the list collects the options it got."""
    seen = []

    def load(options):
        seen.append(options)
        return StandIn

    monkeypatch.setattr(_engine, "load_process", load)
    monkeypatch.setenv("JAXFACE_COMPILE_CACHE", "0")
    return seen


def _results(out: Path) -> list[str]:
    """Names of the files in the output folder, but for the records beside the results."""
    return sorted(name for name in os.listdir(out) if not name.endswith(".run.json"))


# What is written


def test_video_image_and_folder(tmp_path, fake, capsys):
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(3):
        write_image(folder / f"{i}.png", 30 + i)
    inputs = [
        write_video(tmp_path / "clip.avi"),
        write_image(tmp_path / "still.png"),
        str(folder) + "/.",
    ]
    out = tmp_path / "deep" / "out"
    assert main(["analyze", *inputs, "--out", str(out)]) == 0
    assert _results(out) == [
        *("clip.csv", "clip_of_details.txt", "frames.csv", "frames_of_details.txt"),
        *("still.csv", "still_of_details.txt"),
    ]
    assert read_cells(out / "clip.csv", "frame") == list("123456")
    assert read_cells(out / "clip.csv", "timestamp") == [f"{i / 10:.3f}" for i in range(6)]
    assert read_cells(out / "clip.csv", "success") == list("011111")
    assert read_cells(out / "clip.csv", "AU01_r")[:3] == ["0.00", "0.50", "1.00"]  # filled in last
    assert read_cells(out / "frames.csv", "timestamp") == ["0.000"] * 3
    assert read_cells(out / "frames.csv", "x_0") == ["30.0", "31.0", "32.0"]
    assert read_cells(out / "still.csv", "face") == ["0", "1"]
    assert read_cells(out / "still.csv", "AU28_c") == ["1.0", "1.0"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{inputs[0]}: 6 frames in ") and " frames/s), 5 of " in lines[0]
    assert lines[0].endswith(f" 5 of 6 rows with a face -> {out / 'clip.csv'}")
    assert lines[1] == f"{inputs[1]}: 2 faces -> {out / 'still.csv'}"
    assert lines[3:] == ["3 of 3 inputs analysed"]
    text = (out / "clip_of_details.txt").read_text()
    assert text.startswith(f"Input:{inputs[0]}\nInput full path:{inputs[0]}\nCamera parameters:50,")
    assert "Output csv:clip.csv\nGaze: 1\n" in text and "HOG" not in text


def test_more_outputs_on_request(tmp_path, fake):
    out = tmp_path / "out"
    inputs = [write_video(tmp_path / "clip.avi", 2), write_image(tmp_path / "still.png", 7)]
    options = ["--hog", "--aligned", "--fx", "600", "--fy", "601", "--cx", "30", "--cy", "20"]
    assert main(["analyze", *inputs, "--out", str(out), *options]) == 0
    assert sorted(os.listdir(out / "clip_aligned")) == [
        *("frame_det_00_000001.bmp", "frame_det_00_000002.bmp"),
    ]
    assert sorted(os.listdir(out / "still_aligned")) == [
        *("face_det_000000.bmp", "face_det_000001.bmp"),
    ]
    assert read_hog(out / "clip.hog")[1].tolist() == [False, True]
    assert len(read_hog(out / "still.hog")[1]) == 2
    text = (out / "still_of_details.txt").read_text()
    assert "Camera parameters:600,601,30,20\nOutput HOG:still.hog\n" in text
    assert "Output aligned directory:still_aligned\nOutput csv:still.csv\n" in text
    assert len(fake) == 1  # one model for all inputs


def test_settings_reach_the_analysis(tmp_path, fake):
    image = write_image(tmp_path / "a.png")
    options = ["--model", "other", "--static", "--wild", "--multi-view", "0", "--faces", "one"]
    options += ["--no-details"]
    assert main(["analyze", image, "--out", str(tmp_path / "out"), *options]) == 0
    assert (fake[0].model, fake[0].static, fake[0].wild, fake[0].faces) == (
        *("other", True, True, "one"),
    )
    assert fake[0].multi_view is False
    assert _results(tmp_path / "out") == ["a.csv"]
    assert len(read_cells(tmp_path / "out" / "a.csv", "face")) == 1


def test_profile(tmp_path, fake, capsys):
    folder = tmp_path / "trace"
    arguments = ["analyze", write_image(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--profile", str(folder)]) == 0
    assert len(list(folder.rglob("*.xplane.pb"))) == 1
    assert main([*arguments, "--profile", arguments[1]]) == 1  # a file, no folder
    assert capsys.readouterr().err.startswith(f"jaxface: error: {arguments[1]}: ")


def test_modes(tmp_path, fake):
    folder = tmp_path / "frames"
    folder.mkdir()
    write_image(folder / "a.png")
    write_image(folder / "b.png")
    out = tmp_path / "out"
    assert main(["analyze", str(folder), "--out", str(out), "--mode", "image"]) == 0
    assert read_cells(out / "a.csv", "face") == read_cells(out / "b.csv", "face") == ["0", "1"]
    assert main(["analyze", str(folder / "a.png"), "--out", str(out), "--mode", "video"]) == 0
    assert read_cells(out / "a.csv", "frame") == ["1"]
    assert main(["analyze", str(folder), "--out", str(out), "--faces", "all"]) == 0
    assert read_cells(out / "frames.csv", "face_id") == list("0101")
    assert read_cells(out / "frames.csv", "AU01_c") == ["1.0"] * 4  # one decimal, as VidMulti


def test_overlays_of_stills_and_chosen_frames(tmp_path, fake, capsys):
    clip, still = write_video(tmp_path / "clip.avi"), write_image(tmp_path / "still.png")
    out = tmp_path / "out"
    arguments = ["analyze", clip, still, "--out", str(out), "--no-details"]
    assert main([*arguments, "--overlay", "5,2,9"]) == 0
    names = ["clip_overlay_000002.png", "clip_overlay_000005.png", "still_overlay.png"]
    assert sorted(path.name for path in out.glob("*.png")) == names
    found = capsys.readouterr()
    lines = found.out.splitlines()
    assert lines[0].endswith(f"clip.csv, 2 overlays {out / 'clip_overlay_*.png'}")
    assert lines[1].endswith(f"still.csv, overlay {out / 'still_overlay.png'}")
    assert found.err == (
        f"jaxface: warning: {clip}: no overlay of frame 9: the clip has 6 frames\n"
    )
    frames = list(read_video(clip))
    for name, number in zip(names, (2, 5)):
        frame = frames[number - 1]
        level = float(frame[..., 0].mean().round())  # where the stand-in's landmarks lie, px
        expected = draw_face(frame, make_row(number, 0, 0.0, level), CAMERA)
        np.testing.assert_array_equal(read_image(out / name), expected)
    expected = read_image(still)
    for face in range(FACES):
        expected = draw_face(expected, make_row(1, face, 0.0, 50), CAMERA)
    np.testing.assert_array_equal(read_image(out / names[2]), expected)


def test_overlays_of_some_frames(tmp_path, fake, monkeypatch):
    clip, out = write_video(tmp_path / "clip.avi", 40), tmp_path / "out"
    expected = [f"clip_overlay_{n:06d}.png" for n in (3, 8, 13, 18, 23, 28, 33, 38)]
    assert main(["analyze", clip, "--out", str(out), "--no-details", "--overlay"]) == 0
    assert sorted(path.name for path in out.glob("*.png")) == expected
    # A file that names no number of frames is decoded once more, to count them.
    monkeypatch.setattr(_run, "read_video", lambda path, clock: _uncounted(read_video(path)))
    again = tmp_path / "again"
    assert main(["analyze", clip, "--out", str(again), "--no-details", "--overlay"]) == 0
    assert sorted(path.name for path in again.glob("*.png")) == expected
    short = write_video(tmp_path / "short.avi", 2)
    assert main(["analyze", short, "--out", str(again), "--overlay"]) == 0
    assert len(list(again.glob("short_overlay_*.png"))) == 2


def _uncounted(reader: VideoReader) -> VideoReader:
    return dataclasses.replace(reader, count=None)


def test_overlays_without_a_face_and_over_several(tmp_path, fake):
    black, clip = write_image(tmp_path / "black.png", 0), write_video(tmp_path / "clip.avi", 3)
    out = tmp_path / "out"
    arguments = ["analyze", black, clip, "--out", str(out), "--no-details", "--faces", "all"]
    assert main([*arguments, "--overlay", "1,2"]) == 0
    for name, source in (("black_overlay", black), ("clip_overlay_000001", clip)):
        frame = read_image(black) if source is black else next(iter(read_video(clip)))
        drawn = read_image(out / f"{name}.png")
        rows, columns = np.nonzero((drawn != frame).any(axis=-1))
        assert len(rows) and rows.min() > 24, name  # "no face" below, nothing else
    assert (out / "clip_overlay_000002.png").is_file()


def test_frames_to_be_drawn_wait_one_at_a_time(tmp_path, fake, monkeypatch):
    """A frame is let go as soon as a later row comes: memory does not grow with the clip."""
    most, add = [], _run.Overlays.add

    def watched(self, row):
        most.append(len(self._waiting))
        add(self, row)

    monkeypatch.setattr(_run.Overlays, "add", watched)
    clip = write_video(tmp_path / "clip.avi", 30)
    chosen = ",".join(map(str, range(1, 31)))
    assert main(["analyze", clip, "--out", str(tmp_path), "--overlay", chosen]) == 0
    assert len(list(tmp_path.glob("*.png"))) == 30
    assert max(most) == 2  # the frame before, which this row completes, and this one


def test_image_without_a_face_is_a_success(tmp_path, fake, capsys):
    out = tmp_path / "out"
    inputs = [write_image(tmp_path / "black.png", 0)]
    cv2.imwrite(str(tmp_path / "dot.png"), np.zeros((1, 1, 3), np.uint8))
    inputs.append(str(tmp_path / "dot.png"))
    assert main(["analyze", *inputs, "--out", str(out), "--hog"]) == 0
    assert _results(out) == [
        *("black.hog", "black_of_details.txt", "dot.hog", "dot_of_details.txt"),
    ]
    assert (out / "black.hog").read_bytes() == b""
    assert "csv" not in (out / "black_of_details.txt").read_text()
    expected = [f"{given}: no face found, no CSV written" for given in inputs]
    expected.append("2 of 2 inputs analysed")
    assert capsys.readouterr().out.splitlines() == expected


# Failures


def test_odd_names(tmp_path, fake, capsys):
    """Bytes that are no text, letters that the terminal lacks, no name, and too long a one."""
    plain = write_image(tmp_path / "größe.png")
    odd = str(tmp_path / "\udcff.png")
    os.link(plain, odd)
    out = tmp_path / "out"
    assert main(["analyze", odd, plain, "", "x" * 300, "--out", str(out)]) == 1
    expected = [
        f"{name}{end}" for name in ("größe", "\udcff") for end in (".csv", "_of_details.txt")
    ]
    assert _results(out) == sorted(expected)
    found = capsys.readouterr()
    assert found.out.startswith(f"{tmp_path}/\\udcff.png: 2 faces")
    assert f"\n{plain}: 2 faces" in found.out
    assert "'': expected a file or folder, got an empty name" in found.err
    assert "xxx: expected a file or folder, got File name too long" in found.err


def test_only_bad_inputs_load_no_model(tmp_path, fake, capsys):
    assert main(["analyze", "gone.png", "--out", str(tmp_path / "out")]) == 1
    assert fake == []
    assert capsys.readouterr().err.count("\n") == 1


def test_the_clock_of_a_video_can_be_chosen(tmp_path, fake, capsys):
    path = write_film(tmp_path / "a.mkv", ticks=[0, 1, 2, 30])
    counted, own = [0.0, 0.04, 0.08, 0.12], [0.0, 0.04, 0.08, 1.2]
    for flags, times in (([], own), (["--clock", "openface"], counted)):
        assert main(["analyze", str(path), "--out", str(tmp_path / "out"), *flags]) == 0
        assert [
            float(cell) for cell in read_cells(tmp_path / "out" / "a.csv", "timestamp")
        ] == times
        assert "file's clock" in capsys.readouterr().out


def test_an_unreadable_picture_of_a_folder_is_counted(tmp_path, fake, capsys):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in (1, 2, 3):
        write_image(folder / f"{number}.png", 50)
    (folder / "2.png").write_bytes(b"")
    assert main(["analyze", str(folder), "--out", str(tmp_path / "out")]) == 1
    assert len(read_cells(tmp_path / "out" / "frames.csv", "frame")) == 3
    found = capsys.readouterr()
    assert "1 picture unreadable" in found.out
    assert "2.png: expected an image, got an empty file" in found.err


def test_truncated_video_is_processed_with_a_warning(tmp_path, fake, capsys):
    path = Path(write_video(tmp_path / "clip.avi", 40))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert main(["analyze", str(path), "--out", str(tmp_path / "out")]) == 0
    assert len(read_cells(tmp_path / "out" / "clip.csv", "frame")) >= 5
    error = capsys.readouterr().err
    assert error.startswith(f"jaxface: warning: {path}: ") and error.count("\n") == 1
    assert "only 9 of 40 frames" in error


def test_the_same_input_twice(tmp_path, fake, capsys):
    first = write_image(tmp_path / "a.png")
    assert main(["analyze", first, first, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"{first} and {first} would both write a.png.csv" in error
    assert fake == [] and not (tmp_path / "out").exists()


def test_file_in_place_of_the_output_folder(tmp_path, fake, capsys):
    image = write_image(tmp_path / "a.png")
    (tmp_path / "out").write_text("a file")
    assert main(["analyze", image, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"jaxface: error: {tmp_path / 'out'}: cannot be written")
    assert fake == [] and (tmp_path / "out").read_text() == "a file"


def test_unwritable_result_leaves_the_old_ones(tmp_path, fake, capsys, monkeypatch):
    image, out = write_image(tmp_path / "a.png"), tmp_path / "out"
    out.mkdir()
    for name in ("a.csv", "a.hog"):
        (out / name).write_text("older")

    def full(*names):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert main(["analyze", image, "--out", str(out), "--hog"]) == 1
    assert "a.csv: cannot be written (No space left on device)" in capsys.readouterr().err
    assert _results(out) == ["a.csv", "a.hog"]
    assert {path.read_text() for path in out.iterdir()} == {"older"}


@pytest.mark.parametrize("debug", [False, True])
def test_our_own_mistakes(tmp_path, capsys, monkeypatch, debug):
    """An unforeseen exception fails its input alone; the traceback is for --debug."""
    inputs = [write_image(tmp_path / "a.png"), write_image(tmp_path / "b.png", 0)]

    def process(source):
        results = list(StandIn(source))
        if results:
            raise TypeError("an array has the wrong shape")
        return StandIn(source)

    monkeypatch.setattr(_engine, "load_process", lambda options: process)
    out = ["--out", str(tmp_path / "out"), "--no-compile-cache"]
    assert main(["analyze", *inputs, *out, *(["--debug"] if debug else [])]) == 1
    found = capsys.readouterr()
    assert f"jaxface: error: {inputs[0]}: TypeError: an array has the wrong shape" in found.err
    assert ("Traceback" in found.err) is debug
    assert ("--debug shows the traceback" in found.err) is not debug
    last = "1 of 2 inputs analysed: 1 now, 1 failed"
    assert found.out == f"{inputs[1]}: no face found, no CSV written\n{last}\n"


def test_interruption(tmp_path, capsys, monkeypatch):
    def process(source):
        next(source.frames)
        raise KeyboardInterrupt

    monkeypatch.setattr(_engine, "load_process", lambda options: process)
    monkeypatch.setenv("JAXFACE_COMPILE_CACHE", "0")
    clip = write_video(tmp_path / "clip.avi", 40)
    assert main(["analyze", clip, "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "jaxface: interrupted\n"
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["analyze", "a.mp4"], "--out"),
        (["analyze", "a.mp4", "--out", "o", "--fx", "5"], "--fx and --fy must be given together"),
        (["analyze", "a.mp4", "--out", "o", "--cy", "5"], "--cx and --cy must be given together"),
        (["analyze", "a.mp4", "--out", "o", "--fx", "-5", "--fy", "5"], "--fx must be positive"),
        (["analyze", "a.mp4", "--out", "o", "--cx", "nan", "--cy", "5"], "--cx must be a finite"),
        (["analyze", "a.mp4", "--out", "o", "--mode", "film"], "invalid choice: 'film'"),
        (["analyze", "a.mp4", "--out", "o", "--overlay", "1,x"], "such as 1,50,100, got '1,x'"),
        (["analyze", "a.mp4", "--out", "o", "--overlay", "0"], "expected frame numbers from 1 on"),
        (["models"], "ACTION"),
    ],
)
def test_usage_errors(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


# Terminal, models, cache


def test_progress_bar_on_a_terminal_only(tmp_path, fake, capsys, monkeypatch):
    clip = write_video(tmp_path / "clip.avi")
    assert main(["analyze", clip, "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["analyze", clip, "--out", str(tmp_path / "out")]) == 0
    assert "6 [00:00" in capsys.readouterr().err


def test_help_and_version_start_quickly():
    """They must not import NumPy, OpenCV or JAX on the command line's account."""
    code = (
        "import sys; sys.modules['jax'] = sys.modules['cv2'] = sys.modules['pandas'] = None\n"
        "from jaxface.cli import main\n"
        "main([sys.argv[1]])"
    )
    for option, expected in (("--help", "exit status: 0"), ("--version", "jaxface 0.")):
        done = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert expected in done.stdout


def test_models(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAXFACE_CACHE_DIR", str(tmp_path))
    assert main(["models", "list"]) == 0
    listed = capsys.readouterr().out
    assert listed.startswith("base (comes with jaxface): ") and "licence: Apache-2.0" in listed
    assert main(["models", "import", str(tmp_path / "gone")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("jaxface: error: ") and str(tmp_path / "gone") in error


def test_models_import_and_list(tmp_path, monkeypatch, capsys, model_dir):
    monkeypatch.setenv("JAXFACE_CACHE_DIR", str(tmp_path))
    assert main(["models", "import", str(model_dir)]) == 0
    imported = capsys.readouterr().out
    assert f"openface: {tmp_path / 'models' / 'openface.safetensors'}\n" in imported
    assert "licence: OpenFace (CMU)" in imported
    assert main(["models", "list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[0].startswith("base (comes with jaxface)")
    assert sorted(listed[2:]) == sorted(imported.splitlines())


def test_missing_model_is_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAXFACE_CACHE_DIR", str(tmp_path))
    arguments = ["analyze", write_image(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--no-compile-cache", "--model", "openface"]) == 1
    assert "jaxface models import" in capsys.readouterr().err


def test_compile_cache(tmp_path):
    """In processes of their own: it is a global setting of JAX."""
    code = (
        "import jax; from jaxface.cli._cache import enable_compile_cache\n"
        "print(enable_compile_cache(), jax.config.jax_compilation_cache_dir)"
    )

    def run(**extra: str) -> str:
        environment = {**os.environ, "JAXFACE_CACHE_DIR": str(tmp_path), "JAX_PLATFORMS": "cpu"}
        for name in ("JAXFACE_COMPILE_CACHE", "JAX_COMPILATION_CACHE_DIR"):
            environment.pop(name, None)
        environment |= extra
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert run() == f"{tmp_path / 'xla'} {tmp_path / 'xla'}"
    assert run(JAXFACE_COMPILE_CACHE="0") == "None None"
    assert run(JAX_COMPILATION_CACHE_DIR="/elsewhere") == "None /elsewhere"


def test_header_is_openfaces(tmp_path, fake):
    assert main(["analyze", write_video(tmp_path / "a.avi", 1), "--out", str(tmp_path)]) == 0
    header = (tmp_path / "a.csv").read_text().splitlines()[0]
    assert header == ", ".join(column_names("video"))
