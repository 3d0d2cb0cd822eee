"""OpenFace's own command lines: what each flag asks for, and that the files are OpenFace's.

Flags and choices of columns are tested without an analysis. The real runs take few frames of the
samples, and are compared with what OpenFace wrote of them.
"""

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

import jaxface.models
from jaxface import fit_landmarks
from jaxface.cli import (
    COMMANDS,
    FLAGS,
    FaceRecord,
    FlagError,
    Request,
    Source,
    choose_model,
    fit_settings,
    main,
    parse_flags,
    plan_outputs,
    read_boxes,
    run_openface,
)
from jaxface.errors import InputError
from jaxface.fit import OPENFACE_FIT, OPENFACE_WILD_FIT, ceclm_settings, fit_config
from jaxface.io import read_image, read_video
from jaxface.models import InstalledModel, ModelFileError, save_model
from jaxface.models.openface import read_model
from jaxface.output import OPENFACE_UNITS, Table, read_csv, read_hog
from jaxface.reference.comparison.figures import clip_figures

from .toy_face import draw_face, toy_model, true_points

_IMAGES, _CLIPS, _SEVERAL = "FaceLandmarkImg", "FeatureExtraction", "FaceLandmarkVidMulti"
_COLUMNS = ("-gaze", "-aus", "-2Dfp", "-3Dfp", "-pose", "-pdmparams")
_ALL = (*_COLUMNS, "-hogalign", "-simalign")
_CLNF = ("-mloc", "model/main_clnf_general.txt")
_FRAMES = 8  # of the clip with several faces; one chunk


def _parse(line: str, command: str = _CLIPS) -> Request:
    return parse_flags(next(c for c in COMMANDS if c == command), line.split())


# Flags


def test_inputs_in_the_order_given():
    found = _parse("-f a.avi -fdir frames -f b.avi")
    assert [given.path for given in found.inputs] == ["a.avi", "frames", "b.avi"]
    assert [given.folder for given in found.inputs] == [False, True, False]
    images = _parse("-fdir x -f a.jpg -fdir y -f b.jpg", _IMAGES)
    assert [given.path for given in images.inputs] == ["a.jpg", "b.jpg"]  # files, if there are
    images = _parse("-fdir x -fdir y", _IMAGES)
    assert [given.path for given in images.inputs] == ["x"]  # or the first folder


@pytest.mark.parametrize("flag", ["-root", "-inroot"])
@pytest.mark.parametrize(("root", "name"), [("d/", "a.avi"), ("d", "a.avi"), ("d", "/a.avi")])
def test_root_stands_before_inputs(flag, root, name):
    """Put before the name as it is; only a separator that is missing is added."""
    assert _parse(f"-f {name} {flag} {root}").inputs[0].path == "d/a.avi"
    assert _parse(f"-fdir {name} -bboxdir {name} {flag} {root}", _IMAGES).boxes == "d/a.avi"


def test_all_groups_unless_some_are_named():
    everything = _parse("-f a.avi -nobadaligned")  # which names no group
    assert everything.columns() == (True,) * 6
    assert everything.groups >= {"-hogalign", "-simalign", "-tracked"}
    assert everything.notes == () and not everything.bad_aligned
    some = _parse("-f a.avi -pose -2Dfp")
    assert some.groups == {"-pose", "-2Dfp"} and some.notes == ()
    assert some.columns() == (False, False, True, False, True, False)
    assert not any(_parse("-f a.avi -tracked").columns())  # a group too


def test_aligned_faces():
    usual = _parse("-f a.avi")
    assert (usual.size, usual.scale, usual.mask, usual.gray) == (112, 0.7, True, False)
    larger = _parse("-f a.avi -simsize 224 -nomask -g")
    assert (larger.size, larger.scale, larger.mask, larger.gray) == (224, 1.4, False, True)
    assert _parse("-f a.avi -simsize 224 -simscale 0.9").scale == 0.9


def test_models_are_told_by_the_name_of_their_file():
    assert _parse("-f a.avi").model is None
    for path, name in (
        ("model/main_clnf_general.txt", "openface"),
        (r"C:\models\main_ceclm_general.txt", "openface-ceclm"),
        ("main_clm_general", "openface-clm"),
    ):
        assert _parse(f"-f a -mloc {path}").model == name
    with pytest.raises(FlagError, match="-mloc: expected a file named main_ceclm_general"):
        _parse("-f a.avi -mloc main_clnf_multi_pie.txt")


def test_the_last_of_several_counts():
    found = _parse("-f a -out_dir x -out_dir y -simsize 50 -simsize 60 -mloc main_clm_general.txt")
    assert (found.out_dir, found.size, found.model) == ("y", 60, "openface-clm")


def test_camera():
    assert _parse("-f a -fx 500 -cx -3 -fy 501 -cy 2.5").camera == {
        **{"fx": 500.0, "fy": 501.0, "cx": -3.0, "cy": 2.5},
    }
    with pytest.raises(FlagError, match="-cx, -cy: expected both or neither"):
        _parse("-f a.avi -cx 3")


def test_settings_of_the_fit_are_applied_from_left_to_right():
    def settings(line: str, model: str = "openface"):
        return fit_settings(_parse(f"-f a {line}").settings, model)

    assert settings("") == OPENFACE_FIT
    assert settings("", "openface-ceclm") == ceclm_settings(OPENFACE_FIT)
    assert settings("-sigma 3 -wild") == OPENFACE_WILD_FIT
    assert settings("-wild -sigma 3") == dataclasses.replace(OPENFACE_WILD_FIT, sigma=3.0)
    assert settings("-wild -multi_view 0").multi_view is False
    assert settings("-validate_detections 0 -wild").validate is False  # -wild says nothing of it
    assert settings("-reg 30 -reg 20").regularisation == 20
    others = settings("-w_reg 2 -n_iter 7 -multi_view 1")
    assert (others.weight_factor, others.iterations, others.multi_view) == (2, 7, True)
    # The factors of CE-CLM come last: also on what the user gave.
    ceclm = settings("-sigma 2 -reg 10", "openface-ceclm")
    assert (ceclm.sigma, ceclm.regularisation) == (3.0, 9.0)


def test_settings_are_the_models_own(openface_model, openface_ceclm, openface_clm):
    """Without flags, and with -wild: so the programs are those of `jaxface analyze`."""
    for name, model in (
        ("openface", openface_model),
        ("openface-ceclm", openface_ceclm),
        ("openface-clm", openface_clm),
    ):
        assert fit_settings((), name) == fit_config(model)
        assert fit_settings((("wild", 1.0),), name) == fit_config(model, wild=True)


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        ("-verbose", "no window"),
        ("-vis-track", "no window"),
        ("-vis-align", "no window"),
        ("-vis-hog", "no window"),
        ("-vis-aus", "no window"),
        ("-fdloc cascade.xml", "MTCNN"),
        ("-oc MJPG", "videos are MPEG-4, pictures JPEG"),
        ("-format_aligned jpg", "BMP"),
        ("-format_vis_image png", "videos are MPEG-4, pictures JPEG"),
        ("-device 0", "FaceLandmarkVid"),
        ("-cam_width 640", "FaceLandmarkVid"),
        ("-cam_height 480", "FaceLandmarkVid"),
        ("-bboxdir boxes", "no effect in FeatureExtraction, only in FaceLandmarkImg"),
    ],
)
def test_what_is_not_supported_is_named_once(flags, what):
    found = _parse(f"{flags} -pose {flags} -f a.avi")  # its value is no input
    assert [given.path for given in found.inputs] == ["a.avi"]
    (note,) = found.notes
    assert note.startswith(f"{flags.split()[0]}: ") and what in note


def test_flags_of_the_other_programs_are_named():
    for line, what in (("-g", "only in FeatureExtraction"), ("-au_static", "never adapts")):
        (note,) = _parse(f"-f a.avi -pose {line}", _SEVERAL).notes
        assert what in note


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-f a.avi -posee", "-posee: an unknown flag"),
        ("-f a.avi --pose", "--pose: an unknown flag"),  # no abbreviations, no double dashes
        ("-f a.avi b.avi", "b.avi: a value that no flag takes"),
        ("-f a.avi -p", "-p: an unknown flag"),
        ("-f", "-f: expected a value behind it, got the end of the line"),
        ("-f -out_dir x", "-f: expected a value behind it, got -out_dir"),
        ("-f a -device", "-device: expected a value"),
        ("-f a -sigma wide", "-sigma: expected a positive number, got 'wide'"),
        ("-f a -sigma 0", "-sigma: expected a positive number, got '0'"),
        ("-f a -reg -1", "-reg: expected a number of at least 0, got '-1'"),
        ("-f a -w_reg nan", "-w_reg: expected a number of at least 0, got 'nan'"),
        ("-f a -n_iter 2.5", "-n_iter: expected a whole number of at least 1, got '2.5'"),
        ("-f a -n_iter 0", "-n_iter: expected a whole number"),
        ("-f a -multi_view yes", "-multi_view: expected 0 or 1, got 'yes'"),
        ("-f a -validate_detections 2", "-validate_detections: expected 0 or 1, got '2'"),
        ("-f a -simsize 0", "-simsize: expected a whole number of px"),
        ("-f a -simscale inf", "-simscale: expected a positive number, got 'inf'"),
        ("-f a -fx 0 -fy 5", "-fx: expected a positive number of px, got '0'"),
        ("-pose", "no input: give -f FILE or -fdir DIR"),
    ],
)
def test_wrong_flags(line, message, capsys):
    with pytest.raises(FlagError) as caught:
        _parse(line)
    assert str(caught.value).startswith(message)
    assert main([_CLIPS, *line.split()]) == 2
    assert capsys.readouterr().err.startswith(f"jaxface {_CLIPS}: error: {message}")


def test_boxes_come_with_folders():
    with pytest.raises(FlagError, match="-bboxdir: expected -fdir with it, got -f"):
        _parse("-f a.jpg -bboxdir boxes", _IMAGES)


def test_without_arguments_and_help(capsys):
    for command in COMMANDS:
        assert main([command]) == 0  # as OpenFace
        assert "Command-line-arguments" in capsys.readouterr().out
        with pytest.raises(SystemExit) as caught:
            main([command, "--help"])
        assert caught.value.code == 0
        shown = capsys.readouterr().out
        assert all(f"  {flag.name} " in shown for flag in FLAGS if command in flag.commands)


# Names, models, boxes


def _outputs(line: str, command: str = _CLIPS) -> list[str]:
    return [str(folder / job.name) for job, folder in plan_outputs(_parse(line, command))]


def test_names_of_the_outputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frames").mkdir()
    assert cv2.imwrite("frames/a.b.png", np.zeros((8, 8, 3), np.uint8))
    shutil.copy("frames/a.b.png", "frames/c.png")
    assert _outputs("-f x/one.two.avi") == ["processed/one.two"]
    assert _outputs("-fdir frames/. -f one.avi -out_dir o") == ["o/frames", "o/one"]
    assert _outputs("-fdir frames", _IMAGES) == ["processed/a.b", "processed/c"]
    # The k-th name is the k-th input's, wherever it stands; -out_dir stays.
    two = "-of first.csv -f 1.avi -f 2.avi -f 3.avi -out_dir o -of deep/second"
    assert _outputs(two) == ["o/first", "o/deep/second", "o/3"]
    assert _outputs("-f 1.avi -of name") == ["processed/name"]
    assert _outputs("-f 1.avi -of deep/name") == ["deep/name"]  # not below processed
    assert _outputs(f"-f 1.avi -of {tmp_path}/name") == [f"{tmp_path}/name"]


def test_names_that_cannot_be(tmp_path, capsys, models):
    for line, message in (
        (f"-f a/x.avi -f b/x.avi -out_dir {tmp_path}", "a/x.avi and b/x.avi would both write"),
        (f"-f a.avi -of x -of y -out_dir {tmp_path}", "-of: expected at most one name"),
    ):
        assert main([_CLIPS, *line.split()]) == 2
        assert message in capsys.readouterr().err


def test_inputs_that_are_not_what_the_flag_says(tmp_path):
    image = tmp_path / "a.png"
    assert cv2.imwrite(str(image), np.zeros((8, 8, 3), np.uint8))
    for line, command, message in (
        (f"-f {tmp_path}", _CLIPS, "name it by -fdir"),
        (f"-fdir {image}", _CLIPS, "name it by -f"),
        ("-f gone.avi", _CLIPS, "nothing there"),
    ):
        ((job, _),) = plan_outputs(_parse(line, command))
        assert message in str(job.problem)


def test_the_model_that_runs(monkeypatch, tmp_path, capsys):
    there: list[str] = []

    def installed() -> list[InstalledModel]:
        rest = {"source": "", "licence": "", "landmark_scheme": "", "sha256": ""}
        more = {"path": tmp_path, "action_units": (), "modified": ()}
        return [InstalledModel(name=name, **rest, **more) for name in there]  # pyright: ignore

    monkeypatch.setattr(jaxface.models, "installed_models", installed)
    there.append("base")
    with pytest.raises(ModelFileError, match="jaxface models import DIR"):
        choose_model(None)
    there.append("openface")
    assert choose_model(None).name == "openface"
    assert "openface-ceclm, is not imported" in choose_model(None).note
    there.append("openface-ceclm")
    assert (choose_model(None).name, choose_model(None).note) == ("openface-ceclm", "")
    assert choose_model("openface").name == "openface"
    with pytest.raises(ModelFileError, match="the model openface-clm is not imported"):
        choose_model("openface-clm")
    there[:] = ["base"]
    assert main([_CLIPS, "-f", "a.avi", "-out_dir", str(tmp_path), "-pose"]) == 1
    assert "jaxface models import DIR" in capsys.readouterr().err


def test_files_of_boxes(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("10 20 30 40\n\n1.5 2.5 3.5\t4.5\n")
    np.testing.assert_array_equal(read_boxes(path), [[10, 20, 30, 40], [1.5, 2.5, 3.5, 4.5]])
    path.write_text("")
    assert read_boxes(path).shape == (0, 4)
    for text in ("1 2 3", "1 2 3 x", "30 20 10 40", "1 2 nan 4"):
        path.write_text(f"1 2 3 4\n{text}\n")
        with pytest.raises(InputError, match="in line 2"):
            read_boxes(path)
    with pytest.raises(InputError, match="nothing there"):
        read_boxes(tmp_path / "gone.txt")


def test_fits_that_are_not_judged():
    """The toy's validator is made to reject everything; faces that are too small fail still."""
    model = toy_model()
    strict = dataclasses.replace(model.clnf.config, validation_boundary=1.0)
    lenient = dataclasses.replace(strict, validate=False)
    points = true_points(0)
    gray = jnp.asarray(draw_face(points)[..., 0], jnp.float32)
    box = jnp.asarray(np.concatenate([points.min(axis=0), points.max(axis=0)]), jnp.float32)
    fits = [fit_landmarks(model.clnf, gray, box, config=c) for c in (strict, lenient)]
    np.testing.assert_array_equal(fits[0].landmarks, fits[1].landmarks)
    assert [bool(fit.success) for fit in fits] == [False, True]
    assert float(fits[1].confidence) == 1
    tiny = np.array([70, 50, 74, 54], np.float32)  # 4 px: below a quarter of the finest scale
    lost = fit_landmarks(model.clnf, gray, jnp.asarray(tiny), config=lenient)
    assert not lost.success and float(lost.confidence) == 0


# Whole runs


@pytest.fixture(scope="module")
def models(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder into which OpenFace's CLNF is imported."""
    folder = tmp_path_factory.mktemp("cache")
    save_model(read_model(model_dir, "openface"), folder / "models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXFACE_CACHE_DIR", str(folder))
        patch.setenv("JAXFACE_COMPILE_CACHE", "0")
        yield folder


@pytest.fixture(scope="module")
def sequence(models: Path, samples_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What FeatureExtraction writes of the folder of frames, with all groups."""
    out = tmp_path_factory.mktemp("sequence")
    frames = samples_dir / "image_sequence"
    assert main([_CLIPS, "-fdir", str(frames), "-out_dir", str(out), *_CLNF, *_ALL]) == 0
    return out


def _header(path: Path) -> bytes:
    return path.read_bytes().partition(b"\n")[0]


def _pixels(path: Path) -> np.ndarray:
    """An image as it is stored, grey or BGR."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image


def _check(figures) -> None:
    missed = [f"{f.name}: {f.measured:g}, bound {f.bound:g}" for f in figures if not f.passed]
    assert figures and not missed


def test_a_clip_as_openface(sequence: Path, golden_dir: Path, samples_dir: Path):
    """The same files, the same bytes where no number stands, numbers within the parity table."""
    golden = golden_dir / "image_sequence"
    path = golden / "image_sequence.csv"
    assert sorted(os.listdir(sequence)) == [
        *("image_sequence.csv", "image_sequence.hog"),
        *("image_sequence_aligned", "image_sequence_of_details.txt"),
    ]
    assert _header(sequence / path.name) == _header(path)
    (found, kind, units), (expected, *_) = read_csv(sequence / path.name), read_csv(path)
    assert kind == "video" and units == OPENFACE_UNITS
    for name in ("frame", "face_id", "timestamp", "success"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    # What is printed has one decimal: of two landmarks, that adds 0.03 px at most.
    ours = jaxface.read_csv(sequence / path.name)
    _check(clip_figures("openface", "image_sequence", ours, expected))
    assert np.abs(found.au_intensity - expected.au_intensity).mean() < 0.02  # the table's bound
    details = (sequence / "image_sequence_of_details.txt").read_text().splitlines()
    theirs = (golden / "image_sequence_of_details.txt").read_text().splitlines()
    frames = samples_dir / "image_sequence"
    assert details[:2] == [f"Input:{frames}", f"Input full path:{frames.resolve()}"]
    assert details[2:] == theirs[2:]
    (hogs, valid), (others, also) = (
        read_hog(folder / "image_sequence.hog") for folder in (sequence, golden)
    )
    np.testing.assert_array_equal(valid, also)
    assert np.abs(hogs - others).mean() < 0.01  # of 0 to 0.4; it follows pixels at half a level
    names = sorted(os.listdir(golden / "image_sequence_aligned"))
    assert sorted(os.listdir(sequence / "image_sequence_aligned")) == names
    for name in names[::7]:
        pixels = [
            read_image(folder / "image_sequence_aligned" / name).astype(int)
            for folder in (sequence, golden)
        ]
        # Landmarks that are apart by 0.02 px move a sharp edge by some levels.
        assert np.abs(pixels[0] - pixels[1]).mean() < 0.5


class _Replay:
    """Stands in for the analysis: the rows of a run that was made before."""

    def __init__(self, source: Source, table: Table):
        self.units = OPENFACE_UNITS
        self._source, self._table = source, table

    def __iter__(self) -> Iterator[FaceRecord]:
        bare = {n: getattr(self._table, n)[:, :0] for n in ("au_intensity", "au_presence")}
        for _, row in zip(self._source.frames, dataclasses.replace(self._table, **bare)):
            found = bool(row.success[0])
            picture = np.full((112, 112, 3), (200, 50, 10) if found else 0, np.uint8)
            yield FaceRecord(row, np.zeros(4464, np.float32), found, picture, found)

    def action_units(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return zip(self._table.au_intensity, self._table.au_presence, strict=True)


def _replay(table: Table, *arguments: str) -> int:
    """FeatureExtraction with the rows of a table."""
    return run_openface("FeatureExtraction", arguments, load=lambda _: lambda s: _Replay(s, table))


def test_choice_of_columns(sequence: Path, samples_dir: Path, tmp_path):
    """Each flag leaves its columns, cell by cell those of the whole file; and so in the details."""
    whole = sequence / "image_sequence.csv"
    table = read_csv(whole)[0]
    cells = [line.split(", ") for line in whole.read_text().splitlines()]
    columns = dict(zip(cells[0], zip(*cells[1:], strict=True), strict=True))
    starts = {
        "-gaze": ("gaze_", "eye_lmk_"),
        "-pose": ("pose_",),
        "-2Dfp": ("x_", "y_"),
        "-3Dfp": ("X_", "Y_", "Z_"),
        "-pdmparams": ("p_",),
        "-aus": ("AU",),
    }
    key = ["frame", "face_id", "timestamp", "confidence", "success"]
    assert {n for n in columns if not n.startswith(sum(starts.values(), ()))} == set(key)
    for flags in (*([flag] for flag in starts), ["-aus", "-pose"], ["-hogalign"], ["-simalign"]):
        out = tmp_path / "".join(flags)
        folder = str(samples_dir / "image_sequence")
        where = ["-fdir", folder, "-out_dir", str(out)]
        assert _replay(table, *where, *_CLNF, *flags, "-q") == 0
        some = tuple(start for flag in flags for start in starts.get(flag, ()))
        names = [n for n in columns if n in key or n.startswith(some or ("none",))]
        expected = [", ".join(names), *map(", ".join, zip(*(columns[n] for n in names)))]
        assert (out / whole.name).read_text().splitlines() == expected
        details = (out / "image_sequence_of_details.txt").read_text().splitlines()
        lines = {line.partition(": ")[0]: line[-1] for line in details[-6:]}
        labels = ("Gaze", "AUs", "Landmarks 2D", "Landmarks 3D", "Pose", "Shape parameters")
        assert lines == dict(zip(labels, (str(int(f in flags)) for f in _COLUMNS), strict=True))
        assert (out / "image_sequence.hog").exists() is ("-hogalign" in flags)


def test_quiet_and_notes(sequence: Path, samples_dir: Path, tmp_path, capsys):
    table = read_csv(sequence / "image_sequence.csv")[0]
    folder = str(samples_dir / "image_sequence")
    common = ["-fdir", folder, "-out_dir", str(tmp_path), *_CLNF, "-pose"]
    assert _replay(table, *common, "-verbose") == 0
    found = capsys.readouterr()
    assert found.err.splitlines() == [
        "jaxface: warning: -verbose: no window is shown: -tracked writes what it would show",
        "jaxface: model openface",
    ]
    assert found.out.startswith(f"{folder}: 30 frames")
    assert _replay(table, *common, "-q") == 0
    assert capsys.readouterr() == ("", "")
    assert _replay(table, *common, "-q", "-f", "gone.avi") == 1  # the other is finished
    assert capsys.readouterr().err.startswith("jaxface: error: gone.avi: ")


def test_aligned_faces_of_failed_frames(sequence: Path, samples_dir: Path, tmp_path):
    """Black and in colour, as OpenFace's, even beside grey ones; or left out."""
    table = read_csv(sequence / "image_sequence.csv")[0]
    table = dataclasses.replace(table, success=table.frame != 3)
    flags = ["-fdir", str(samples_dir / "image_sequence"), *_CLNF, "-simalign", "-g"]
    for more, count in (([], 30), (["-nobadaligned"], 29)):
        out = tmp_path / str(count)
        assert _replay(table, *flags, *more, "-out_dir", str(out)) == 0
        folder = out / "image_sequence_aligned"
        assert len(os.listdir(folder)) == count
        gray = _pixels(folder / "frame_det_00_000002.bmp")
        assert gray.shape == (112, 112) and np.unique(gray).tolist() == [90]  # 0.299 R + ...
        failed = folder / "frame_det_00_000003.bmp"
        assert failed.exists() is not bool(more)
        if failed.exists():
            black = _pixels(failed)
            assert black.shape == (112, 112, 3) and not black.any()


def test_other_aligned_faces(sequence: Path, samples_dir: Path, models: Path, tmp_path):
    """Unmasked and grey: the same pixels where the mask is; larger ones: the same face."""
    frames = tmp_path / "image_sequence"
    frames.mkdir()
    for number in range(1, _FRAMES + 1):
        name = f"{number:03d}.jpg"
        os.link(samples_dir / "image_sequence" / name, frames / name)
    flags = [*_CLNF, "-simalign", "-nomask", "-fdir", str(frames)]
    assert main([_CLIPS, *flags, "-g", "-out_dir", str(tmp_path / "gray")]) == 0
    assert main([_CLIPS, *flags, "-simsize", "224", "-out_dir", str(tmp_path / "large")]) == 0
    for number in (1, _FRAMES):
        name = f"image_sequence_aligned/frame_det_00_{number:06d}.bmp"
        usual = _pixels(sequence / name)
        gray = _pixels(tmp_path / "gray" / name)
        assert gray.shape == (112, 112)
        masked = cv2.cvtColor(usual, cv2.COLOR_BGR2GRAY)
        inside = masked > 0
        np.testing.assert_array_equal(gray[inside], masked[inside])
        assert 0.3 < inside.mean() < 0.9 and (gray[~inside] > 0).mean() > 0.5
        large = _pixels(tmp_path / "large" / name)
        assert large.shape == (224, 224, 3)
        small = cv2.cvtColor(cv2.resize(large, (112, 112), None, 0, 0, cv2.INTER_AREA), 6)
        # Levels; half a pixel aside, as a pixel's centre is not where it was.
        assert np.abs(small.astype(int) - gray).mean() < 8


def test_images_as_openface(models: Path, samples_dir: Path, golden_dir: Path, tmp_path):
    image, golden = samples_dir / "sample1.jpg", golden_dir / "img_sample1"
    flags = ["-f", str(image), "-out_dir", str(tmp_path), *_CLNF, *_ALL]
    assert main([_IMAGES, *flags]) == 0
    found = tmp_path / "sample1.csv"
    assert _header(found) == _header(golden / "sample1.csv")
    (ours, kind, _), (theirs, *_) = read_csv(found), read_csv(golden / "sample1.csv")
    assert kind == "image" and len(ours) == len(theirs) == 1
    # Printed with one decimal: 0.03 px and 0.14 px more than the figures' own bounds.
    apart = np.linalg.norm(ours.landmarks - theirs.landmarks, axis=-1)
    assert apart.mean() < 0.06 and apart.max() < 0.44
    np.testing.assert_array_equal(ours.au_presence, theirs.au_presence)
    assert os.listdir(tmp_path / "sample1_aligned") == ["face_det_000000.bmp"]
    details = (tmp_path / "sample1_of_details.txt").read_text().splitlines()
    expected = (golden / "sample1_of_details.txt").read_text().splitlines()
    assert details[2:] == [line for line in expected[2:] if not line.startswith("Output image:")]


def test_images_with_boxes(models: Path, samples_dir: Path, golden_dir: Path, tmp_path, capsys):
    """A row per line, in their order; none, and no CSV, for an empty file."""
    images, boxes, out = tmp_path / "images", tmp_path / "boxes", tmp_path / "out"
    for folder in (images, boxes):
        folder.mkdir()
    for name in ("a", "b", "c"):
        os.link(samples_dir / "sample1.jpg", images / f"{name}.jpg")
    theirs = read_csv(golden_dir / "img_sample1" / "sample1.csv")[0].landmarks[0]
    low, high = theirs.min(axis=0), theirs.max(axis=0)
    (boxes / "a.txt").write_text(f"5 5 60 70\n{low[0]} {low[1]} {high[0]} {high[1]}\n")
    (boxes / "b.txt").write_text("")
    flags = ["-fdir", str(images), "-bboxdir", str(boxes), "-out_dir", str(out), *_CLNF]
    assert main([_IMAGES, *flags, "-2Dfp", "-hogalign"]) == 1
    found = capsys.readouterr()
    assert f"{boxes}/c.txt: expected a file of boxes" in found.err and found.err.count("rror") == 1
    assert sorted(os.listdir(out)) == [
        *("a.csv", "a.hog", "a_of_details.txt", "b.hog", "b_of_details.txt"),
    ]
    table, _, units = read_csv(out / "a.csv")
    assert table.face_id.tolist() == [0, 1] and not units.intensity
    apart = np.linalg.norm(table.landmarks - theirs[None], axis=-1).mean(axis=1)
    assert apart[0] > 50 and apart[1] < 2  # px; another start, but the same face


def test_several_faces_as_openface(models: Path, samples_dir: Path, golden_dir: Path, tmp_path):
    frames, out = tmp_path / "multi_face", tmp_path / "out"
    frames.mkdir()
    clip = read_video(samples_dir / "multi_face.avi")
    for number, frame in zip(range(_FRAMES), clip):
        assert cv2.imwrite(str(frames / f"{number:03d}.png"), frame[..., ::-1])
    flags = ["-fdir", str(frames), "-out_dir", str(out), *_CLNF, *_COLUMNS]
    assert main([_SEVERAL, *flags]) == 0
    golden = golden_dir / "multi_face_VidMulti" / "multi_face.csv"
    assert _header(out / "multi_face.csv") == _header(golden)
    (ours, kind, _), (theirs, *_) = read_csv(out / "multi_face.csv"), read_csv(golden)
    theirs = theirs[theirs.frame <= _FRAMES]
    assert kind == "multi_face" and (theirs.timestamp > 0).any() and not ours.timestamp.any()
    for name in ("frame", "face_id", "success"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    apart = np.linalg.norm(ours.landmarks - theirs.landmarks, axis=-1)[theirs.success]
    assert apart.mean() < 0.09  # px; the figures' bound, and what one decimal adds
    assert sorted(os.listdir(out)) == ["multi_face.csv", "multi_face_of_details.txt"]
