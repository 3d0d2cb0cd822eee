"""The NumPy detector against OpenFace's recorded intermediate results."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from jaxface.detect import MTCNN, AbstractDetector, Conv, Dense, MaxPool, Net, PReLU
from jaxface.models.openface import read_model
from jaxface.reference import mtcnn as reference

_MAP_TOL = 2e-5  # logits; OpenFace sums up to 144 products of order 1 in float32
_INPUT_TOL = 1e-6  # of -1..1; the resize is the same float32 formula, here measured equal
_OUTPUT_TOL = 1e-5  # logits; OpenFace sums up to 1152 products in float32
_PROBABILITY_TOL = 5e-6  # the logits' tolerance times the softmax's steepest slope, 1/4
_BOX_TOL = 1e-4  # px; the correction's tolerance times a box of some 300 px, less is measured

STAGES = [f"sample{i}" for i in (1, 3, 4, 5)] + [f"default_image_f{i:03d}" for i in (0, 30, 100)]


def make_net(net: Net) -> reference.Net:
    """The reference's plain layers from a Module."""
    empty = np.zeros(0)
    layers = []
    for layer in net.layers:
        match layer:
            case Conv() | Dense():
                kind = "conv" if isinstance(layer, Conv) else "dense"
                weight, bias = (np.asarray(a, np.float64) for a in (layer.weight, layer.bias))
                layers.append(reference.Layer(kind, weight, bias))
            case PReLU():
                slope = np.asarray(layer.slope, np.float64)
                layers.append(reference.Layer("prelu", slope, empty))
            case MaxPool():
                layers.append(reference.Layer("pool", empty, empty, layer.kernel, layer.stride))
    return layers


def make_detector(mtcnn: AbstractDetector) -> reference.MTCNN:
    assert isinstance(mtcnn, MTCNN)
    nets = (make_net(net) for net in (mtcnn.pnet, mtcnn.rnet, mtcnn.onet))
    return reference.MTCNN(*nets, landmark_frame=mtcnn.landmark_frame)


@pytest.fixture(scope="session")
def detector(model_dir: Path) -> reference.MTCNN:
    return make_detector(read_model(model_dir, kind="openface").detector)


def read_stage_image(name: str, samples_dir: Path) -> np.ndarray:
    """RGB image that a stage file was recorded from."""
    if name.startswith("sample"):
        image = cv2.imread(str(samples_dir / f"{name}.jpg"))
    else:
        video = cv2.VideoCapture(str(samples_dir / "default.wmv"))
        for _ in range(int(name[-3:])):
            video.read()
        image = video.read()[1]
        video.release()
    assert image is not None
    return np.ascontiguousarray(image[:, :, ::-1])


@dataclasses.dataclass
class Stage:
    name: str
    image: np.ndarray
    golden: dict[str, np.ndarray]
    result: reference.Result


@pytest.fixture(scope="module", params=STAGES)
def stage(request, detector: reference.MTCNN, golden_dir: Path, samples_dir: Path) -> Stage:
    image = read_stage_image(request.param, samples_dir)
    with np.load(golden_dir / "stages" / f"{request.param}.npz") as file:
        golden = {key: file[key] for key in file.files if key.startswith("mtcnn_")}
    return Stage(request.param, image, golden, reference.detect(detector, image))


def assert_close(actual, expected, tolerance: float) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    if not expected.size:
        assert not actual.size
        return
    assert actual.shape == expected.shape
    assert np.max(np.abs(actual - expected)) <= tolerance


def test_pnet_follows_openface(stage: Stage):
    result, golden = stage.result, stage.golden
    assert len(result.levels) == golden["mtcnn_args"][0, 0]
    for i, level in enumerate(result.levels):
        prefix = f"mtcnn_pnet_s{i}_"
        assert level.picture.shape[1::-1] == tuple(golden[prefix + "scale"][0, 1:])
        if prefix + "input" in golden:
            assert_close(level.picture[..., ::-1], golden[prefix + "input"], _INPUT_TOL)
        assert_close(level.maps, golden[prefix + "raw"], _MAP_TOL)
        probability = reference.probability(level.maps.transpose(1, 2, 0))
        assert_close(probability, golden[prefix + "prob"], _PROBABILITY_TOL)


def test_proposals_follow_openface(stage: Stage):
    result, golden = stage.result, stage.golden
    for i, level in enumerate(result.levels):
        prefix = f"mtcnn_pnet_s{i}_"
        for name, candidates in (("prenms", level.proposed), ("nms", level.kept)):
            assert_close(candidates.boxes, golden[f"{prefix}boxes_{name}"], 0)
            scores = golden[f"{prefix}scores_{name}"].ravel()
            assert_close(candidates.scores, scores, _PROBABILITY_TOL)
        assert_close(level.proposed.corrections, golden[prefix + "corr_prenms"], _MAP_TOL)


def test_rnet_and_onet_follow_openface(stage: Stage):
    result, golden = stage.result, stage.golden
    for name, boxes, raw, side in (
        ("rnet", result.rnet_boxes, result.rnet_raw, 24),
        ("onet", result.onet_boxes, result.onet_raw, 48),
    ):
        assert_close(boxes, golden[f"mtcnn_{name}_in_boxes"], 0)
        assert_close(raw, golden[f"mtcnn_{name}_raw_all"][:, 0], _OUTPUT_TOL)
        for k, box in enumerate(boxes):
            if f"mtcnn_{name}_patch_{k}" in golden:
                patch = reference.crop(stage.image.astype(np.float32), box, side)
                assert patch is not None
                assert_close(patch[..., ::-1], golden[f"mtcnn_{name}_patch_{k}"], _INPUT_TOL)


def test_faces_follow_openface(stage: Stage):
    result, golden = stage.result, stage.golden
    assert_close(result.boxes, golden["mtcnn_final_boxes"], _BOX_TOL)
    assert_close(result.scores, golden["mtcnn_final_conf"].ravel(), _PROBABILITY_TOL)


# Specification 01, A.12: proposals and survivors per level, then boxes after each later stage.
_COUNTS = {
    "sample1": ([(7, 4), (1, 1), (16, 6), (16, 4), (3, 1), (0, 0)], (16, 4, 1)),
    "sample3": ([(16, 12), (23, 10), (32, 9), (22, 6), (6, 3), (4, 1)], (41, 8, 1)),
    "sample4": ([(7, 3), (8, 4), (7, 3), (6, 2), (12, 3), (2, 2), (0, 0)], (17, 1, 1)),
    "sample5": ([(34, 16), (29, 12), (16, 9), (20, 10), (14, 4), (5, 1)], (52, 6, 1)),
}


def test_counts_are_those_of_the_specification(stage: Stage):
    if stage.name not in _COUNTS:
        pytest.skip("the specification counts the still images only")
    levels, later = _COUNTS[stage.name]
    result = stage.result
    assert [(len(lv.proposed.boxes), len(lv.kept.boxes)) for lv in result.levels] == levels
    assert (len(result.rnet_boxes), len(result.onet_boxes), len(result.boxes)) == later


def test_empty_overlap_deletes_nothing():
    boxes, scores = np.zeros((2, 4), np.float32), np.array([0.5, 0.5], np.float32)
    assert reference.suppress(boxes, scores, 0.7) == [1, 0]
    assert reference.suppress(boxes, scores, 0.7, minimum=True) == [1, 0]


@pytest.mark.parametrize("size", [(1, 1), (42, 640), (59, 59), (43, 50)])
def test_small_pictures_have_no_faces(size, detector):
    assert len(reference.detect(detector, np.full((*size, 3), 127)).boxes) == 0
