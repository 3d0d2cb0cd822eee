"""What is read from OpenFace's original files, against the facts of specifications 01 to 03."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxface.detect import MTCNN, Conv, Dense, MaxPool
from jaxface.fit import CCNFExperts, CENExperts, LandmarkModel, OneRound, SVRExperts, TwoRounds
from jaxface.models import Model
from jaxface.models.openface import read_model

_ATOL_FACT = 0.05  # the specification gives eigenvalues to one decimal
_ATOL_ORTHONORMAL = 2e-6  # 1.6e-6 in the files (specification 02, A.3)
_ATOL_FLOAT32 = 1e-6  # one rounding of numbers up to 8
_RTOL_CEN = 2.4e-7  # 2 float32 steps: products rounded in another order

YAWS = (0, -20, -45, -70, 70, 45, 20)  # degrees, patch experts
VALIDATOR_YAWS = (0, -20, -45, -70, 20, 45, 70)
HIDDEN_LEFT = [*range(9, 17), *range(21, 27), 32, 34, 35, 39, *range(42, 48), *range(52, 57), 60]
HIDDEN_RIGHT = [*range(8), *range(17, 23), 31, 32, 34, *range(36, 43), *range(48, 51)]


@pytest.fixture(scope="module")
def cen_dir(openface_dir: Path) -> Path:
    return openface_dir / "cen-from-ccnf"


@pytest.fixture(scope="module")
def clnf(model_dir: Path) -> Model:
    return read_model(model_dir, "openface")


@pytest.fixture(scope="module")
def ceclm(model_dir: Path, cen_dir: Path) -> Model:
    return read_model(model_dir, "openface-ceclm", cen_dir=cen_dir)


@pytest.fixture(scope="module")
def clm(model_dir: Path) -> Model:
    return read_model(model_dir, "openface-clm")


def ccnf_experts(model: LandmarkModel) -> list[CCNFExperts]:
    assert all(isinstance(experts, CCNFExperts) for experts in model.experts)
    return [experts for experts in model.experts if isinstance(experts, CCNFExperts)]


def cen_experts(model: LandmarkModel) -> list[CENExperts]:
    assert all(isinstance(experts, CENExperts) for experts in model.experts)
    return [experts for experts in model.experts if isinstance(experts, CENExperts)]


def test_pdm(clnf: Model) -> None:
    pdm = clnf.clnf.main.pdm
    np.testing.assert_allclose(pdm.eigenvalues[:3], (826.2, 695.8, 380.6), rtol=0, atol=_ATOL_FACT)
    assert pdm.components.shape == (34, 68, 3)
    flat = np.asarray(pdm.components, np.float64).reshape(34, -1)
    gram = flat @ flat.T
    np.testing.assert_allclose(gram, np.eye(34), rtol=0, atol=_ATOL_ORTHONORMAL)
    mean = np.asarray(pdm.mean_shape)
    assert 76 < mean[8, 1] < 78  # chin, y down
    assert -38 < mean[30, 2] < -36  # nose tip, z away from the camera
    assert abs(mean.mean(axis=0)).max() < 1e-3
    assert np.array_equal(mean, clnf.analyser.pdm.mean_shape)


def test_parts(clnf: Model) -> None:
    inner, left, right = clnf.clnf.parts
    assert [part.name for part in clnf.clnf.parts] == ["inner", "left_eye_28", "right_eye_28"]
    assert inner.main_points == tuple(range(17, 68)) and inner.part_points == tuple(range(51))
    assert left.main_points == tuple(range(36, 42)) and right.main_points == tuple(range(42, 48))
    assert left.part_points == right.part_points == (8, 10, 12, 14, 16, 18)
    assert [part.model.pdm.components.shape[:2] for part in clnf.clnf.parts] == [
        (32, 51),
        (10, 28),
        (10, 28),
    ]
    settings = [part.config for part in clnf.clnf.parts]
    assert [config.windows for config in settings] == [(9,), (3, 5), (3, 5)]
    assert [config.sigma for config in settings] == [1.75, 1.0, 1.0]
    assert [config.regularisation for config in settings] == [2.5, 0.5, 0.5]
    assert [config.weight_factor for config in settings] == [2.5, 0.0, 0.0]
    assert [expert.scale for expert in left.model.experts] == [1.0, 1.5]


def test_other_models_have_eyes_only(ceclm: Model, clm: Model) -> None:
    for model in (ceclm, clm):
        assert [part.name for part in model.clnf.parts] == ["left_eye_28", "right_eye_28"]


@pytest.mark.parametrize("kind", ["clnf", "ceclm", "clm"])
def test_views_and_visibility(kind: str, request: pytest.FixtureRequest) -> None:
    main = request.getfixturevalue(kind).clnf.main
    scales = [0.25, 0.35, 0.5, 1.0] if kind == "ceclm" else [0.25, 0.35, 0.5]
    assert [experts.scale for experts in main.experts] == scales
    for experts in main.experts:
        degrees = np.zeros((7, 3))
        degrees[:, 1] = YAWS
        np.testing.assert_allclose(experts.centres, np.deg2rad(degrees), rtol=0, atol=_ATOL_FLOAT32)
        visible = np.asarray(experts.visible)
        assert visible.sum(axis=1).tolist() == [68, 68, 68, 35, 35, 68, 68]
        assert np.flatnonzero(~visible[3]).tolist() == [*HIDDEN_LEFT, 63, 64, 65]
        # The SVR files hide other points of the inner mouth in this view.
        mouth = [62, 63, 64, 65] if kind == "clm" else [60, 61, 64, 67]
        assert np.flatnonzero(~visible[4]).tolist() == [*HIDDEN_RIGHT, 58, 59, *mouth]
        confidence = np.asarray(experts.confidence)
        assert (confidence[~visible] == 0).all() and (confidence[visible] != 0).all()


def test_ccnf_experts(clnf: Model) -> None:
    inner, left, right = clnf.clnf.parts
    for experts in (*ccnf_experts(clnf.clnf.main), *ccnf_experts(inner.model)):
        assert experts.component_windows == (7, 9, 11, 15)
        assert experts.weights.shape[2:] == (7, 11, 11) and experts.beta.shape[2] == 3
        visible = np.asarray(experts.visible)
        for leaf in (experts.weights, experts.bias, experts.alpha, experts.beta):
            assert not np.asarray(leaf)[~visible].any()
        norms = np.linalg.norm(np.asarray(experts.weights)[visible], axis=(-1, -2))
        assert (norms > 0).all()
        assert (np.asarray(experts.alpha)[visible].sum(axis=1) > 0).all()
    visible = np.asarray(clnf.clnf.main.experts[0].visible)
    assert np.array_equal(inner.model.experts[0].visible, visible[:, 17:])
    for part in (left, right):
        for experts in ccnf_experts(part.model):
            assert experts.component_windows == () and experts.beta.shape == (1, 28, 0)
            assert experts.visible.all() and not experts.centres.any()


def test_left_eye_mirrors_right_eye(clnf: Model) -> None:
    """Pins the axis order: only columns flip (specification 02, A.2)."""
    partner = np.arange(28)
    pairs = "0-4 1-3 5-7 8-14 9-13 10-12 15-19 16-18 20-22 23-27 24-26"
    for a, b in (map(int, pair.split("-")) for pair in pairs.split()):
        partner[[a, b]] = b, a
    left, right = (ccnf_experts(part.model) for part in clnf.clnf.parts[1:])
    for one, other in zip(left, right, strict=True):
        assert np.array_equal(one.weights, np.asarray(other.weights)[:, partner, :, :, ::-1])
        assert np.array_equal(one.alpha, np.asarray(other.alpha)[:, partner])


def test_svr_experts(clm: Model, model_dir: Path) -> None:
    """The first modality of the first landmark, read from the text by hand."""
    experts = clm.clnf.main.experts[0]
    assert isinstance(experts, SVRExperts)
    name = "lib/local/LandmarkDetector/model/patch_experts/svr_patches_0.25_general.txt"
    lines = [line for line in (model_dir / name).read_text().splitlines() if line[:1] != "#"]
    words = " ".join(lines).split()
    start = 2 + 7 * (3 + 3) + 7 * (3 + 68)  # scale, views, centres, visibilities
    assert words[start : start + 6] == ["3", "11", "11", "2", "2", "0"]
    confidence, scaling, bias = map(float, words[start + 6 : start + 9])
    assert words[start + 9 : start + 12] == ["11", "11", "5"]
    stored = np.array(words[start + 12 : start + 12 + 121], np.float32).reshape(11, 11)
    assert np.array_equal(experts.weights[0, 0, 0], stored.T)
    found = [float(leaf[0, 0, 0]) for leaf in (experts.confidence, experts.scaling, experts.bias)]
    np.testing.assert_allclose(found, (confidence, scaling, bias), rtol=1e-7)
    assert experts.weights.shape == (7, 68, 2, 11, 11)
    hidden = ~np.asarray(experts.visible)
    assert not np.asarray(experts.weights)[hidden].any()


def test_cen_experts_are_the_ccnf_neurons(ceclm: Model, clnf: Model) -> None:
    """The files given were made from the CCNF experts, so own experts can be compared."""
    for cen, ccnf in zip(
        cen_experts(ceclm.clnf.main)[:3], ccnf_experts(clnf.clnf.main), strict=True
    ):
        assert cen.activations == ("sigmoid", "none")
        own = np.asarray(cen.visible & ~cen.mirrored)
        expert = np.asarray(cen.expert)
        assert sorted(set(expert[np.asarray(cen.visible)])) == list(range(210))
        table = [np.asarray(leaf) for leaf in (*cen.weights, cen.biases[0])]
        neurons = [np.asarray(leaf) for leaf in (ccnf.weights, ccnf.bias, ccnf.alpha)]
        checked = 0
        for view, landmark in np.argwhere(own):
            index = expert[view, landmark]
            hidden, output, rest = (leaf[index] for leaf in table)
            weights, shift, alpha = (leaf[view, landmark] for leaf in neurons)
            # The pixels are in column-major order behind the constant input.
            patches = hidden[:, 1:].reshape(-1, 11, 11).swapaxes(1, 2)
            bias = hidden[:, 0] + rest
            kept = np.flatnonzero(alpha > 1e-4)
            count = len(kept)
            np.testing.assert_allclose(patches[:count], weights[kept], rtol=_RTOL_CEN)
            np.testing.assert_allclose(bias[:count], shift[kept], rtol=_RTOL_CEN)
            np.testing.assert_allclose(output[0, :count], 2 * alpha[kept], rtol=_RTOL_CEN)
            assert not output[0, count:].any()
            checked += 1
        assert checked == 210


def test_cen_mirroring(ceclm: Model) -> None:
    """Frontal: right landmarks flip the left ones; positive yaw flips negative yaw."""
    partner = np.arange(68)
    pairs = [*zip(range(8), range(16, 8, -1)), *zip(range(17, 22), range(26, 21, -1))]
    pairs += [(31, 35), (32, 34), (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    pairs += [(48, 54), (49, 53), (50, 52), (59, 55), (58, 56), (60, 64), (61, 63), (67, 65)]
    for a, b in pairs:
        partner[[a, b]] = b, a
    for experts in cen_experts(ceclm.clnf.main):
        expert, mirrored = np.asarray(experts.expert), np.asarray(experts.mirrored)
        visible = np.asarray(experts.visible)
        assert mirrored[0].sum() == 29 and not mirrored[0, partner == np.arange(68)].any()
        assert np.array_equal(expert[0], expert[0, partner])
        assert (mirrored[0] != mirrored[0, partner])[partner != np.arange(68)].all()
        for right, left in ((4, 3), (5, 2), (6, 1)):
            assert not mirrored[left].any()
            assert np.array_equal(mirrored[right], visible[right])
            assert np.array_equal(visible[right], visible[left, partner])
            assert np.array_equal(expert[right], expert[left, partner])


def test_early_termination(ceclm: Model, clnf: Model) -> None:
    early = ceclm.clnf.search
    assert isinstance(early, TwoRounds) and clnf.clnf.search == OneRound()
    wanted = np.array([1.0, 1.005, 1.054, 0.976, 0.976, 1.054, 1.005], np.float32)
    assert np.array_equal(early.weights, wanted)
    assert np.array_equal(
        early.biases, np.array([0, 0.049, 0.121, -0.37, -0.37, 0.121, 0.049], np.float32)
    )
    wanted = np.array([-0.23, -0.2, -0.14, 0.26, 0.26, -0.14, -0.2], np.float32)
    assert np.array_equal(early.cutoffs, wanted)


@pytest.mark.parametrize("kind", ["clnf", "ceclm"])
def test_validator(kind: str, request: pytest.FixtureRequest) -> None:
    validator = request.getfixturevalue(kind).clnf.validator
    warp = validator.warp
    shapes = [weight.shape[1:] for weight in validator.weights]
    conv = ("conv", "relu", "pool")
    if kind == "clnf":
        assert validator.layers == (*conv, *conv, "fc", "relu", "fc")
        assert shapes == [(10, 1, 9, 9), (10, 10, 7, 7), (50, 1000), (30, 50)]
    else:
        assert validator.layers == (*conv, *conv, *conv, "fc", "relu", "fc")
        assert shapes == [(20, 1, 5, 5), (50, 20, 5, 5), (20, 50, 3, 3), (50, 500), (20, 50)]
    np.testing.assert_allclose(
        warp.centres[:, 1], np.deg2rad(VALIDATOR_YAWS), rtol=0, atol=_ATOL_FLOAT32
    )
    mask = np.asarray(warp.mask)
    assert mask.sum(axis=(1, 2)).tolist() == [2642, 2469, 1665, 1491, 2494, 1690, 1536]
    used = [len(set(ids[ids >= 0])) for ids in np.asarray(warp.triangle_id)]
    assert all(n <= t for n, t in zip(used, (97, 97, 36, 31, 97, 36, 31), strict=True))
    real = np.asarray(warp.triangles).any(axis=2).sum(axis=1)
    assert real.tolist() == [97, 97, 36, 31, 97, 36, 31]
    wanted = [-29.7639874, -35.5128631, -36.6428175, -30.9064786]
    wanted += [-20.8033608, -12.6375463, -15.6121915]
    assert np.array_equal(warp.min_x, np.array(wanted, np.float32))
    assert np.array_equal(warp.min_y, np.full(7, -25.1298743, np.float32))
    assert np.array_equal(np.asarray(warp.triangle_id) >= 0, mask)
    assert not np.asarray(warp.mean)[~mask].any()
    assert (np.asarray(warp.std)[~mask] == 1).all() and (np.asarray(warp.std) > 0).all()


def test_validator_images_are_upright(clnf: Model) -> None:
    """The frontal mean face is mirror-symmetric in x but not in y, so it was not transposed."""
    mean = np.asarray(clnf.clnf.validator.warp.mean[0])
    mask = np.asarray(clnf.clnf.validator.warp.mask[0])
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    face = mean[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    inside = mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]

    def likeness(other: np.ndarray, where: np.ndarray) -> float:
        both = inside & where
        return float(np.corrcoef(face[both], other[both])[0, 1])

    assert likeness(face[:, ::-1], inside[:, ::-1]) > 0.7
    assert likeness(face[::-1], inside[::-1]) < 0.0


def test_mtcnn(clnf: Model) -> None:
    nets = clnf.detector
    assert isinstance(nets, MTCNN)
    kinds = [[type(layer).__name__ for layer in net.layers] for net in (nets.pnet, nets.rnet)]
    assert kinds[0] == "Conv PReLU MaxPool Conv PReLU Conv PReLU Dense".split()
    assert kinds[1] == (
        "Conv PReLU MaxPool Conv PReLU MaxPool Conv PReLU Dense PReLU Dense".split()
    )
    assert len(nets.onet.layers) == 14
    assert nets.landmark_frame == (-0.0075, 0.2459, 1.0323, 0.7751)
    weights = [
        layer.weight.shape
        for net in (nets.pnet, nets.rnet, nets.onet)
        for layer in net.layers
        if isinstance(layer, Conv | Dense)
    ]
    assert weights == [
        *[(10, 3, 3, 3), (16, 10, 3, 3), (32, 16, 3, 3), (6, 32)],
        *[(28, 3, 3, 3), (48, 28, 3, 3), (64, 48, 2, 2), (128, 576), (6, 128)],
        *[(32, 3, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3), (128, 64, 2, 2), (256, 1152), (16, 256)],
    ]
    pools = [layer for layer in nets.onet.layers if isinstance(layer, MaxPool)]
    assert [(pool.kernel, pool.stride) for pool in pools] == [(3, 2), (3, 2), (2, 2)]


def test_mtcnn_weights_by_hand(clnf: Model, model_dir: Path) -> None:
    """The kernels lie in the file by input, then output; a kernel is not transposed."""
    name = "lib/local/LandmarkDetector/model/mtcnn_detector/PNet.dat"
    data = (model_dir / name).read_bytes()
    start = 4 + 4 + 8 + 4 * 10  # layers, type, inputs and outputs, biases
    record = 12 + 4 * 9
    assert isinstance(clnf.detector, MTCNN)
    first = clnf.detector.pnet.layers[0]
    assert isinstance(first, Conv)
    for channel, output in ((0, 0), (0, 3), (2, 7)):
        offset = start + record * (channel * 10 + output) + 12
        kernel = np.frombuffer(data, "<f4", 9, offset).reshape(3, 3)
        assert np.array_equal(first.weight[output, channel], kernel)


def test_action_units(clnf: Model) -> None:
    """Models and labels: specification 03, 0.2; cutoffs as in the files."""
    cutoffs = {
        **dict(AU01=0.55, AU02=0.75, AU05=0.80, AU09=0.70, AU15=0.55, AU17=0.20),
        **dict(AU20=0.65, AU23=0.65, AU25=0.30, AU26=0.30, AU45=0.60),
    }
    static = {"AU04", "AU05", "AU06", "AU07", "AU10", "AU12", "AU14", "AU23"}
    video, image = clnf.analyser.video, clnf.analyser.image
    for units in (video, image):
        numbers = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26)
        names = tuple(f"AU{number:02}" for number in numbers)
        assert units.intensity.names == (*names, "AU45")
        assert units.presence.names == (*names, "AU28", "AU45")
        positive = dict(zip(units.presence.names, units.presence.positive.tolist(), strict=True))
        assert {name for name, label in positive.items() if label} == {"AU10", "AU12", "AU25"}
        assert jnp.array_equal(units.presence.negative, 1 - units.presence.positive)
        assert units.mean.shape == (4702,) and not units.mean[4464:].any()
        assert (units.presence.cutoff == -1).all() and units.intensity.positive.all()
        assert (abs(units.intensity.weights).sum(axis=1) > 0).all()
    for name, dynamic, cutoff in zip(
        video.intensity.names,
        video.intensity.dynamic.tolist(),
        video.intensity.cutoff.tolist(),
        strict=True,
    ):
        assert dynamic == (name in cutoffs)
        np.testing.assert_allclose(cutoff, cutoffs.get(name, -1.0), rtol=0, atol=_ATOL_FLOAT32)
    dynamic = dict(zip(video.presence.names, video.presence.dynamic.tolist(), strict=True))
    assert {name for name, flag in dynamic.items() if not flag} == static
    assert not image.intensity.dynamic.any() and not image.presence.dynamic.any()
    assert (image.intensity.cutoff == -1).all()


def test_triangulation(clnf: Model) -> None:
    triangles = np.asarray(clnf.clnf.triangles)
    assert triangles.shape == (111, 3) and set(triangles.ravel()) == set(range(68))
    assert triangles[0].tolist() == [58, 67, 59]
