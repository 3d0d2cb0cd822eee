"""Training data: rotations, the z-buffer, the morphable head, the jaw's contour and the fit."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxface.ops import euler_to_matrix as package_euler_to_matrix
from jaxface.training import View, load_head_model, load_portraits, split_of
from jaxface.training.data import (
    JAW,
    Observed,
    best_rotation,
    euler_to_matrix,
    fit_head,
    jaw_strips,
    landmarks_at_contour,
    matrix_to_euler,
    normals,
)
from jaxface.training.render import rasterize, seen

_TOL = 1e-5  # float32 rotations
_CENTRE = np.zeros(3, np.float32)


@pytest.fixture(scope="module")
def head(training_dir):
    return load_head_model(training_dir)


@pytest.fixture(scope="module")
def strips(head):
    return jaw_strips(head)


def _view(pitch=0.0, yaw=0.0, roll=0.0, scale=1.0) -> View:
    rotation = euler_to_matrix(np.radians([pitch, yaw, roll]))
    return View(rotation, scale, np.array([150.0, 150.0], np.float32), _CENTRE)


def test_people_are_split_for_good(training_dir):
    split = load_portraits(training_dir).split
    assert {name: len(people) for name, people in split.items()} == {
        "train": 560,
        "validation": 35,
        "test": 105,
    }
    assert sorted(np.concatenate(list(split.values()))) == list(range(700))
    assert [split_of(person) for person in (4, 8, 10, 17, 24, 0)] == [
        *("test", "validation", "test", "test", "test", "train")
    ]


def test_data_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="portraits"):
        load_portraits(tmp_path)
    with pytest.raises(FileNotFoundError, match="ict-facekit"):
        load_head_model(tmp_path)


@pytest.mark.parametrize("angles", [(0.1, -0.8, 0.4), (-0.4, 1.2, -0.5), (0, 0, 0)])
def test_rotations_are_the_package_s(angles):
    rotation = np.array(angles, np.float32)
    matrix = euler_to_matrix(rotation)
    np.testing.assert_allclose(
        matrix, package_euler_to_matrix(jnp.asarray(rotation)), rtol=0, atol=_TOL
    )
    np.testing.assert_allclose(matrix_to_euler(matrix), rotation, rtol=0, atol=_TOL)


def _about(axis: int, angle: float) -> np.ndarray:
    """Right-handed rotation about one axis, from its definition."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[[first, second], [first, second]] = np.cos(angle)
    matrix[second, first], matrix[first, second] = np.sin(angle), -np.sin(angle)
    return matrix


def test_pitch_yaw_and_roll_are_applied_as_rx_ry_rz():
    rotation = np.random.default_rng(0).uniform(-1.5, 1.5, (2, 4, 3))
    found = euler_to_matrix(rotation)
    assert found.shape == (2, 4, 3, 3) and found.dtype == np.float32
    for matrix, angles in zip(found.reshape(-1, 3, 3), rotation.reshape(-1, 3), strict=True):
        pitch, yaw, roll = angles
        expected = _about(0, pitch) @ _about(1, yaw) @ _about(2, roll)
        np.testing.assert_allclose(matrix, expected, rtol=0, atol=_TOL)
    np.testing.assert_allclose(matrix_to_euler(found), rotation, rtol=0, atol=_TOL)


def test_a_profile_keeps_its_yaw():
    """Half a degree before the pole, where pitch and roll nearly turn about one axis."""
    found = matrix_to_euler(euler_to_matrix(np.radians([3.0, 89.5, -2.0])))
    # float32 entries are off by 6e-8; pitch and roll enlarge that by 1 / cos(yaw) = 115.
    np.testing.assert_allclose(np.degrees(found), [3.0, 89.5, -2.0], rtol=0, atol=1e-2)


def test_the_best_rotation_heeds_weights_and_mirrors_nothing():
    rng = np.random.default_rng(1)
    turn = euler_to_matrix(np.array([0.3, -0.7, 0.2])).astype(np.float64)
    points = rng.normal(size=(12, 3))
    target = points @ turn.T
    target[0] = -5.0  # an outlier
    weights = np.ones(12)
    assert abs(best_rotation(points, target) - turn).max() > 0.05
    weights[0] = 0
    np.testing.assert_allclose(best_rotation(points, target, weights), turn, rtol=0, atol=1e-6)
    reflected = best_rotation(points, points * [1, 1, -1])  # a reflection would fit exactly
    assert np.linalg.det(reflected) == pytest.approx(1)


def test_perspective_enlarges_what_is_near():
    view = View(np.eye(3, dtype=np.float32), 2.0, np.zeros(2), _CENTRE, 500.0)
    near, far = view.project(np.array([[10, 0, -100], [10, 0, 100]], np.float32))
    assert near[0] == pytest.approx(20 / 0.8) and far[0] == pytest.approx(20 / 1.2)


# Two triangles make a square from (2, 2) to (10, 8); anticlockwise as seen, y being down.
_SQUARE = np.array([[2, 2, 5], [2, 8, 5], [10, 8, 5], [10, 2, 5]], np.float32)
_HALVES = np.array([[0, 1, 2], [0, 2, 3]])


def test_a_square_is_drawn_without_gaps():
    found = rasterize(_SQUARE, _HALVES, 12, 12)
    covered = np.zeros((12, 12), bool)
    covered.reshape(-1)[found.pixel] = True
    expected = np.zeros((12, 12), bool)
    expected[2:9, 2:11] = True
    np.testing.assert_array_equal(covered, expected)
    place = found.interpolate(_SQUARE, _HALVES)
    np.testing.assert_allclose(place[:, 0], found.pixel % 12, atol=1e-4)
    np.testing.assert_allclose(place[:, 1], found.pixel // 12, atol=1e-4)


def test_what_faces_away_or_lies_behind_is_not_drawn():
    assert not len(rasterize(_SQUARE, _HALVES[:, ::-1], 12, 12).pixel)
    behind = _SQUARE + np.array([1, 1, 3], np.float32)
    both = np.concatenate([behind, _SQUARE])
    found = rasterize(both, np.concatenate([_HALVES, _HALVES + 4]), 12, 12)
    inside = found.depth[3:8, 3:10]
    np.testing.assert_allclose(inside, 5, atol=1e-5)
    points = np.array([[5, 5, 8.0], [5, 5, 5.0], [11, 9, 8.0]])
    np.testing.assert_array_equal(seen(points, found.depth, slack=1.0, reach=0), [0, 1, 1])


def test_the_head_has_the_package_s_units_and_axes(head):
    marks = head.mean[head.landmarks]
    assert 80 < np.linalg.norm(marks[45] - marks[36]) < 95  # mm
    assert marks[45, 0] > marks[36, 0]  # the left eye lies to the right of the picture
    assert marks[8, 1] > marks[30, 1] > marks[27, 1]  # y points down
    assert marks[30, 2] < marks[36, 2] < marks[0, 2]  # the nose is nearest
    outward = normals(head.mean, head.triangles)[head.landmarks]
    assert outward[30, 2] < -0.9 and outward[0, 0] < -0.7 and outward[16, 0] > 0.7


def test_the_mirror_swaps_left_and_right_shapes(head):
    swap = head.mirrored_expression
    np.testing.assert_array_equal(swap[swap], np.arange(len(swap)))
    left = head.expression_index("mouthSmile_L")
    assert swap[left] == head.expression_index("mouthSmile_R")
    moved = np.linalg.norm(head.expression_basis[left], axis=1).argmax()
    assert head.mean[moved, 0] > 0
    inner = head.landmarks[17:]
    flipped = head.expression_basis[left][head.mirrored[inner]] * np.array([-1, 1, 1])
    expected = head.expression_basis[swap[left]][inner]
    assert abs(expected).max() > 5  # mm
    np.testing.assert_allclose(flipped, expected, atol=0.3)


@pytest.mark.parametrize("yaw", [-50.0, -20.0, 0.0, 35.0, 60.0])
def test_the_jaw_lies_at_the_outline_of_the_face(head, strips, yaw):
    view = _view(yaw=yaw)
    found = landmarks_at_contour(head, strips, head.mean, view.rotation)
    jaw = view.project(found)[:JAW]
    np.testing.assert_array_equal(found[JAW:], head.mean[head.landmarks[JAW:]])
    fixed = view.project(head.mean[head.landmarks[:JAW]])
    # Nothing of the face lies farther out than the side that is turned away, at its heights.
    face = view.project(head.mean[np.unique(head.triangles[head.piece_of("face")])])
    far = slice(0, 5) if yaw > 0 else slice(12, JAW)
    sign = -1 if yaw > 0 else 1
    if abs(yaw) > 30:
        assert (sign * (jaw[far, 0] - fixed[far, 0])).mean() > 3  # px = mm
        for x, y, _ in jaw[far][1:-1]:
            level = face[(abs(face[:, 1] - y) < 2) & (sign * (face[:, 0] - x) > -12)]
            assert (sign * level[:, 0]).max() < sign * x + 14
    for half in (jaw[:9], jaw[8:]):
        steps = np.linalg.norm(np.diff(half[:, :2], axis=0), axis=1)
        assert steps.max() < 1.35 * steps.min()


def test_roll_turns_the_contour_with_the_head(head, strips):
    upright, turned = _view(yaw=30), _view(yaw=30, roll=0)
    angle = np.radians(25)
    roll = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]])
    spun = np.concatenate([roll, [[0, 0, 1]]]).astype(np.float32) @ turned.rotation
    first = landmarks_at_contour(head, strips, head.mean, upright.rotation)
    second = landmarks_at_contour(head, strips, head.mean, spun)
    np.testing.assert_allclose(first, second, atol=6)  # mm, the roll is that of the axis


def test_a_known_head_is_recovered(head):
    rng = np.random.default_rng(0)
    identity = rng.normal(size=100).astype(np.float32) * 0.7
    expression = np.zeros(57, np.float32)
    expression[head.expression_index("jawOpen")] = 0.5
    chosen = rng.choice(9409, 400, replace=False)
    view = _view(5, -12, 8, scale=1.6)
    points = view.project(head.vertices(identity, expression)[chosen]).astype(np.float64)
    points[:, 2] = 1.6 * points[:, 2] + 30
    fitted = fit_head(head, Observed(points, np.ones(400)), chosen)
    assert fitted.error < 0.3  # mm
    angles = np.degrees(fitted.view.euler - view.euler)
    assert abs(angles).max() < 1.0
    assert abs(fitted.expression[head.expression_index("jawOpen")] - 0.5) < 0.1


def test_expressions_beyond_their_range_are_held_at_its_end(head):
    """What is left over goes into the other weights, as the least squares within bounds say."""
    rng = np.random.default_rng(3)
    expression = np.zeros(57, np.float32)
    opened, smile = head.expression_index("jawOpen"), head.expression_index("mouthSmile_L")
    expression[opened], expression[smile] = 1.4, 0.4
    chosen = rng.choice(9409, 400, replace=False)
    points = _view().project(head.vertices(np.zeros(100, np.float32), expression)[chosen])
    fitted = fit_head(head, Observed(points.astype(np.float64), np.ones(400)), chosen)
    assert fitted.expression[opened] == 1
    assert fitted.expression.min() >= 0 and fitted.expression.max() <= 1
    assert abs(fitted.expression[smile] - 0.4) < 0.1
