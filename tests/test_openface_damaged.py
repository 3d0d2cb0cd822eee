"""Damaged and unusual model files: the error names file and field; unusual CEN files are read."""

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from jaxface.fit import CENExperts
from jaxface.models import ModelFileError
from jaxface.models.openface import read_model

LANDMARK = "lib/local/LandmarkDetector/model"
AU = "lib/local/FaceAnalyser/AU_predictors"
CCNF = f"{LANDMARK}/patch_experts/ccnf_patches_0.25_general.txt"
SVR = f"{LANDMARK}/patch_experts/svr_patches_0.25_general.txt"
PDM = f"{LANDMARK}/pdms/In-the-wild_aligned_PDM_68.txt"
VALIDATOR = f"{LANDMARK}/detection_validation/validator_cnn.txt"
PNET = f"{LANDMARK}/mtcnn_detector/PNet.dat"
MAIN = f"{LANDMARK}/main_clnf_general.txt"
SVM = f"{AU}/svm_combined/AU_10_static.dat"
TRIANGLES = f"{AU}/tris_68_full.txt"

_ATOL_NET = 1e-6  # float32 sums of 122 products; outputs 0 to 1

Change = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def tree(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the originals made of symbolic links."""
    target = tmp_path_factory.mktemp("tree")
    for folder, _, names in os.walk(model_dir):
        here = target / Path(folder).relative_to(model_dir)
        here.mkdir(parents=True, exist_ok=True)
        for name in names:
            (here / name).symlink_to(Path(folder) / name)
    return target


def put(offset: int, data: bytes) -> Change:
    """Overwrites bytes; a negative offset counts from the end."""

    def change(old: bytes) -> bytes:
        start = offset % len(old)
        return old[:start] + data + old[start + len(data) :]

    return change


def replace(old: bytes, new: bytes) -> Change:
    return lambda data: data.replace(old, new, 1)


def cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def extend(data: bytes) -> bytes:
    return data + b"\n1 2 "


def int32(value: int) -> bytes:
    return struct.pack("<i", value)


NAN32 = struct.pack("<f", np.nan)
NAN64 = struct.pack("<d", np.nan)
FIRST_WINDOW = 12 + 7 * 36 + 7 * 284 + 4  # of a CCNF file
CASES = [
    ("openface", CCNF, cut, "ends too early: .* needs .* bytes, .* are left"),
    ("openface", CCNF, extend, "5 bytes are left over"),
    ("openface", CCNF, put(0, NAN64), "scale is not finite"),
    ("openface", CCNF, put(0, struct.pack("<d", -1)), "scale: expected a number from 0 to 16"),
    ("openface", CCNF, put(8, int32(-1)), "number of views: expected 0 to 100, found -1"),
    ("openface", CCNF, put(12, int32(4)), r"view 0: centre: expected 3 x 1, found 4 x 1"),
    ("openface", CCNF, put(20, int32(5)), r"view 0: centre: expected element type \(6,\)"),
    ("openface", CCNF, put(12 + 7 * 36 + 12, int32(7)), "visibility: expected 0 or 1"),
    ("openface", CCNF, put(12 + 7 * 36 + 12, int32(0)), "do not agree with the visibility"),
    ("openface", CCNF, put(FIRST_WINDOW + 4, int32(2)), "window 7: expected 0 or 3 components"),
    ("openface", CCNF, put(FIRST_WINDOW + 20, b"\0\0\0\0"), "window 7: component 0: differs"),
    ("openface", CCNF, put(FIRST_WINDOW + 20, NAN32), "component 0 holds numbers that are not"),
    ("openface", CCNF, put(-100, NAN32), "weights holds numbers that are not finite"),
    ("openface", PDM, cut, "principal components needs .* numbers, .* are left"),
    ("openface", PDM, extend, "2 numbers are left over"),
    ("openface", PDM, replace(b"-73.393523", b"nan"), "mean shape holds numbers that are not"),
    ("openface", PDM, replace(b"-73.393523", b"x"), "expected a text file of numbers"),
    ("openface", PDM, replace(b"204", b"203"), "mean shape: expected 3n values, found 203"),
    ("openface", VALIDATOR, cut, "ends too early"),
    ("openface", VALIDATOR, extend, "5 bytes are left over"),
    ("openface", VALIDATOR, put(0, int32(2)), "validator type: expected 3, found 2"),
    ("openface", VALIDATOR, put(-16, NAN64), "beta holds numbers that are not finite"),
    ("openface", PNET, cut, "ends too early"),
    ("openface", PNET, extend, "5 bytes are left over"),
    ("openface", PNET, put(4, int32(4)), "layer 0: expected type 0 to 3, found 4"),
    ("openface", PNET, put(16, NAN32), "layer 0: biases holds numbers that are not finite"),
    ("openface", SVM, cut, "weights at byte .* needs 37616 bytes"),
    ("openface", SVM, extend, "5 bytes are left over"),
    ("openface", SVM, put(0, int32(2)), "model type: expected 0, 1, 4 or 5, found 2"),
    ("openface", SVM, put(-8, struct.pack("<d", 1)), r"labels: expected 0 and 1, found 1\.0, 1\.0"),
    ("openface", SVM, put(24, struct.pack("<d", 5)), "means: differ from the other heads"),
    ("openface", SVM, put(-24, NAN64), "bias is not finite"),
    ("openface", TRIANGLES, replace(b"58 67 59", b"58 67 68"), "landmark indices from 0 to 67"),
    ("openface", TRIANGLES, replace(b"58 67 59", b"58 67 5.5"), "triangles: expected integers"),
    ("openface", MAIN, replace(b" 67 50", b" 67 51"), "part inner: an index is beyond"),
    ("openface", MAIN, replace(b" inner ", b" mouth "), "found mouth"),
    ("openface", MAIN, replace(b" 67 50", b" 67"), "expected FILE NAME and pairs of indices"),
    ("openface", MAIN, replace(b"DetectionV", b"V"), "expected one line `DetectionValidator FILE`"),
    ("openface", MAIN, lambda _: b"\xff\xfe\0", "expected a text file"),
    ("openface", MAIN, lambda _: b"", "is empty"),
    ("openface-clm", SVR, cut, "needs .* numbers, .* are left"),
    ("openface-clm", SVR, extend, "2 numbers are left over"),
    ("openface-clm", SVR, replace(b"\n7\n", b"\n7.5\n"), "number of views: expected an integer"),
]


@contextlib.contextmanager
def damage(tree: Path, name: str, change: Change, model_dir: Path) -> Iterator[Path]:
    """Replaces a link by a changed copy of its file for a while."""
    path = tree / name
    path.unlink()
    path.write_bytes(change((model_dir / name).read_bytes()))
    try:
        yield path
    finally:
        path.unlink()
        path.symlink_to(model_dir / name)


@pytest.mark.parametrize(("kind", "name", "change", "message"), CASES)
def test_damaged_file(
    kind: str, name: str, change: Change, message: str, tree: Path, model_dir: Path
) -> None:
    """Without the known sha256 the parsers themselves find the damage."""
    with damage(tree, name, change, model_dir) as path:
        with pytest.raises(ModelFileError, match=message) as caught:
            read_model(tree, kind, allow_modified=True)
    assert str(path) in str(caught.value) and "OpenFace 2.2.0" in str(caught.value)


@pytest.mark.parametrize("name", [PNET, MAIN, CCNF, SVM])
def test_one_changed_byte(name: str, tree: Path, model_dir: Path) -> None:
    """Damage that leaves a readable file is found by its sha256."""
    with damage(tree, name, put(-1, b"\1"), model_dir) as path:
        with pytest.raises(ModelFileError, match="expected sha256 .*, found") as caught:
            read_model(tree)
    assert str(path) in str(caught.value)


def matrix(values: np.ndarray) -> bytes:
    kind = {"i": 4, "f": 5, "d": 6}[values.dtype.char]
    return struct.pack("<3i", *values.shape, kind) + values.tobytes()


Layer = tuple[int, np.ndarray, np.ndarray]


def cen_file(own: dict[tuple[int, int], list[Layer]], scale: float) -> bytes:
    """A CEN file of seven views in which all landmarks are visible (specification 02, A.7)."""
    views = [matrix(np.array([[0.0], [yaw], [0.0]])) for yaw in (0, -20, -45, -70, 70, 45, 20)]
    visible = [matrix(np.ones((68, 1), np.int32))] * 7
    mirror = np.arange(68, dtype=np.int32)
    mirror[[0, 16]] = 16, 0
    mirrored_view = np.array([0, 6, 5, 4, 3, 2, 1], np.int32)
    out = [struct.pack("<di", scale, 7), *views, *visible]
    out += [matrix(mirror[:, None]), matrix(mirrored_view[:, None])]
    for view, landmark in np.ndindex(7, 68):
        layers = own.get((view, landmark), [])
        out.append(struct.pack("<4i", 6, 11, 11, len(layers)))
        for activation, weight, bias in layers:
            out += [int32(activation), matrix(bias[:, None]), matrix(weight)]
        out.append(struct.pack("<d", 0.5 + view))
    return b"".join(out)


def network(generator: np.random.Generator, hidden: int, dtype: type) -> list[Layer]:
    """Two hidden layers of ReLU and sigmoid, then one output of another kind."""
    sizes = (122, hidden, 3, 1)
    return [
        (
            code,
            generator.normal(size=(o, i)).astype(dtype) / 11,
            generator.normal(size=o).astype(dtype),
        )
        for code, i, o in zip((2, 0, 1), sizes, sizes[1:], strict=False)
    ]


def read_cen_file(model_dir: Path, folder: Path, data: bytes) -> CENExperts:
    for scale in ("0.25", "0.35", "0.50", "1.00"):
        (folder / f"cen_patches_{scale}_of.dat").write_bytes(data)
    experts = read_model(model_dir, "openface-ceclm", cen_dir=folder).clnf.main.experts[0]
    assert isinstance(experts, CENExperts)
    return experts


def left_experts(generator: np.random.Generator) -> dict[tuple[int, int], list[Layer]]:
    """Own experts of frontal and negative-yaw views, of unlike widths and element types."""
    return {
        (view, landmark): network(generator, 4 + landmark % 2, (np.float32, np.float64)[view % 2])
        for view in range(4)
        for landmark in range(68)
        if (view, landmark) != (0, 16)
    }


def test_cen_experts_of_unlike_width(model_dir: Path, tmp_path: Path) -> None:
    """Padding to the widest network changes no output; absent experts are mirrored."""
    generator = np.random.default_rng(0)
    own = left_experts(generator)
    experts = read_cen_file(model_dir, tmp_path, cen_file(own, 0.25))
    assert experts.activations == ("relu", "sigmoid", "none")
    assert [weight.shape for weight in experts.weights] == [(271, 5, 122), (271, 3, 5), (271, 1, 3)]
    pixels = generator.normal(size=122)
    pixels[0] = 1.0
    weights, biases = ([np.asarray(x) for x in e] for e in (experts.weights, experts.biases))
    expert, mirrored = np.asarray(experts.expert), np.asarray(experts.mirrored)
    functions = (lambda x: np.maximum(x, 0), lambda x: 1 / (1 + np.exp(-x)), lambda x: x)
    for view, landmark in np.ndindex(7, 68):
        borrows = view > 3 or (view, landmark) == (0, 16)
        partner = 16 - landmark if landmark in (0, 16) else landmark
        place = ((7 - view) % 7, partner) if borrows else (view, landmark)
        assert mirrored[view, landmark] == borrows
        wanted, found = pixels, pixels
        index = expert[view, landmark]
        for depth, function in enumerate(functions):
            _, weight, bias = own[place][depth]
            wanted = function(weight @ wanted + bias)
            found = function(weights[depth][index] @ found + biases[depth][index])
        np.testing.assert_allclose(found, wanted, rtol=0, atol=_ATOL_NET)
    assert np.array_equal(experts.confidence[:, 5], 0.5 + np.arange(7, dtype=np.float32))


def test_cen_frontal_partner_overwrites(model_dir: Path, tmp_path: Path) -> None:
    """Where both of a frontal pair have own experts, the later one serves both."""
    generator = np.random.default_rng(0)
    own = left_experts(generator) | {(0, 16): network(generator, 4, np.float32)}
    experts = read_cen_file(model_dir, tmp_path, cen_file(own, 0.25))
    assert experts.expert[0, 0] == experts.expert[0, 16] == 16
    assert experts.mirrored[0, 0] and not experts.mirrored[0, 16]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, "ends too early"),
        (extend, "5 bytes are left over"),
        (put(-8, NAN64), "confidence is not finite"),
    ],
)
def test_damaged_cen_file(change: Change, message: str, model_dir: Path, tmp_path: Path) -> None:
    data = change(cen_file(left_experts(np.random.default_rng(0)), 0.25))
    with pytest.raises(ModelFileError, match=rf"cen_patches_0\.25_of\.dat: .*{message}"):
        read_cen_file(model_dir, tmp_path, data)


def test_cen_landmark_without_expert(model_dir: Path, tmp_path: Path) -> None:
    own = left_experts(np.random.default_rng(0))
    del own[2, 40]
    with pytest.raises(ModelFileError, match="view 2, landmark 40: has no expert"):
        read_cen_file(model_dir, tmp_path, cen_file(own, 0.25))


def test_cen_experts_of_unlike_depth(model_dir: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    own = left_experts(generator)
    own[1, 5] = [(0, generator.normal(size=(1, 122)), np.zeros(1))]
    with pytest.raises(ModelFileError, match="same activations in every layer"):
        read_cen_file(model_dir, tmp_path, cen_file(own, 0.25))
