"""Figures of `compare_results`, against NumPy written out again, and what must not change them."""

import dataclasses
from pathlib import Path

import equinox as eqx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import jaxface
from jaxface import Analysis, Comparison
from jaxface.output import ColumnChoice, UnitNames, choose_columns
from jaxface.output.validation import LIMITS, Spread, Summary, summarize

from .test_results import _analysis

# Sums in float64 of numbers up to 1000, in another order.
_TOL = 1e-9
_REGIONS = {
    "all": range(68),
    "jaw": range(0, 17),
    "brows": range(17, 27),
    "nose": range(27, 36),
    "eyes": range(36, 48),
    "mouth": range(48, 68),
}
seeds = st.integers(0, 2**16)


def _clip(seed: int = 0, rows: int = 12, *, units: UnitNames = UnitNames()) -> Analysis:
    """A clip in which a face is found in two frames of three."""
    rng = np.random.default_rng(seed)
    whole = _analysis("video", rows, units=units)
    angles = rng.uniform(-1, 1, (rows, 3))
    gaze = rng.normal(size=(rows, 2, 3))
    return dataclasses.replace(
        whole,
        success=np.arange(rows) % 3 != 2,
        landmarks=(rng.uniform(100, 300, (rows, 68, 2))).astype(np.float32),
        head_pose=np.concatenate([rng.normal(0, 300, (rows, 3)), angles], 1).astype(np.float32),
        gaze=(gaze / np.linalg.norm(gaze, axis=2, keepdims=True)).astype(np.float32),
        au_intensity=rng.uniform(0, 5, whole.au_intensity.shape).astype(np.float32),
        au_presence=rng.integers(0, 2, whole.au_presence.shape).astype(np.float32),
    )


def _other(clip: Analysis, seed: int = 1) -> Analysis:
    """Another result of the same clip: close to it, and not always with a face where it has one."""
    rng = np.random.default_rng(seed)

    def near(values: np.ndarray, sd: float) -> np.ndarray:
        return (values + rng.normal(0, sd, values.shape)).astype(np.float32)

    changed = rng.random(clip.au_presence.shape) < 0.2
    return dataclasses.replace(
        clip,
        success=np.arange(len(clip)) % 4 != 1,
        landmarks=near(clip.landmarks, 2),
        head_pose=near(clip.head_pose, 0.3),
        gaze=near(clip.gaze, 0.1),
        au_intensity=near(clip.au_intensity, 0.5),
        au_presence=np.where(changed, 1 - clip.au_presence, clip.au_presence),
    )


def _written_out(values: np.ndarray) -> Spread:
    """The figures by their definitions."""
    kept = np.sort(values.ravel())
    middle = kept[(len(kept) - 1) // 2], kept[len(kept) // 2]

    def quantile(share: float) -> float:
        at = share * (len(kept) - 1)
        low = int(at)
        return kept[low] + (at - low) * (kept[min(low + 1, len(kept) - 1)] - kept[low])

    mean = kept.sum() / len(kept)
    sd = np.sqrt(((kept - mean) ** 2).sum() / len(kept))
    tails = quantile(0.95), quantile(0.99)
    return Spread(len(kept), 0, mean, sum(middle) / 2, sd, *tails, kept[0], kept[-1])


def _assert_close(found: object, expected: object) -> None:
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    np.testing.assert_allclose(found, expected, rtol=_TOL, atol=_TOL)


def _assert_spread(found: Spread, values: np.ndarray) -> None:
    _assert_close(found, _written_out(values))


def _leaves(summary: Summary) -> list[float]:
    """Every number of a summary, in order."""

    def walk(value: object) -> list[float]:
        if isinstance(value, dict):
            return [leaf for item in value.values() for leaf in walk(item)]
        if isinstance(value, tuple):
            return [leaf for item in value for leaf in walk(item)]
        return [] if isinstance(value, str) else [float(value)]  # pyright: ignore

    return walk(summary)


# Figures


def test_landmarks_and_boxes_are_those_written_out():
    a, b = _clip(), _other(_clip())
    both = a.success & b.success
    found = jaxface.compare_results(a, b).summary()
    points_a, points_b = a.landmarks[both].astype(float), b.landmarks[both].astype(float)
    distance = np.sqrt(((points_a - points_b) ** 2).sum(2))
    eyes = np.sqrt(((points_a[:, 36] - points_a[:, 45]) ** 2).sum(1))
    assert list(found.landmarks) == list(_REGIONS) == list(found.landmarks_percent)
    for name, points in _REGIONS.items():
        _assert_spread(found.landmarks[name], distance[:, list(points)])
        percent = 100 * distance[:, list(points)] / eyes[:, None]
        _assert_spread(found.landmarks_percent[name], percent)
    low_a, high_a = points_a.min(1), points_a.max(1)
    low_b, high_b = points_b.min(1), points_b.max(1)
    side = np.minimum(high_a, high_b) - np.maximum(low_a, low_b)
    shared = side[:, 0] * side[:, 1]
    assert (side > 0).all()
    areas = [np.prod(high - low, axis=1) for low, high in ((low_a, high_a), (low_b, high_b))]
    iou = shared / (areas[0] + areas[1] - shared)
    _assert_spread(found.box_iou, iou)
    assert found.box_shares == {s: (iou > s).sum() / len(iou) for s in (0.90, 0.95, 0.99)}
    assert 0 < found.box_shares[0.95] < 1
    centre = (low_a + high_a) / 2 - (low_b + high_b) / 2
    _assert_spread(found.box_position, np.sqrt((centre**2).sum(1)))
    size = np.abs((high_a - low_a) - (high_b - low_b))
    _assert_spread(found.box_width, size[:, 0])
    _assert_spread(found.box_height, size[:, 1])


def test_pose_and_gaze_are_those_written_out():
    a, b = _clip(), _other(_clip())
    both = a.success & b.success
    found = jaxface.compare_results(a, b).summary()
    moved = a.head_pose[both, :3].astype(float) - b.head_pose[both, :3]
    _assert_spread(found.translation, np.sqrt((moved**2).sum(1)))
    # Capital letters: about the axes as they turn, which is Rx @ Ry @ Rz.
    turns = [Rotation.from_euler("XYZ", c.head_pose[both, 3:].astype(float)) for c in (a, b)]
    _assert_spread(found.rotation, np.degrees((turns[0].inv() * turns[1]).magnitude()))
    gaze_a, gaze_b = a.gaze[both].astype(float), b.gaze[both].astype(float)
    cosine = (gaze_a * gaze_b).sum(2)
    lengths = np.linalg.norm(gaze_a, axis=2) * np.linalg.norm(gaze_b, axis=2)
    _assert_spread(found.gaze, np.degrees(np.arccos(cosine / lengths)))


def test_action_units_are_those_written_out():
    names = UnitNames(("AU01", "AU02", "AU04", "AU05"), ("AU01", "AU28"))
    a = _clip(units=names, rows=60)
    b = _other(a)
    still, faint = np.full(60, 1.5, np.float32), np.tile(np.array([1, 1.09], np.float32), 30)
    levels_a = np.stack([a.au_intensity[:, 0], still, a.au_intensity[:, 2], faint], 1)
    levels_b = np.stack([b.au_intensity[:, 0], b.au_intensity[:, 1], still, faint], 1)
    a = dataclasses.replace(a, au_intensity=levels_a)
    b = dataclasses.replace(b, au_intensity=levels_b)
    both = a.success & b.success
    found = jaxface.compare_results(a, b).summary()
    units = {unit.name: unit for unit in found.units}
    assert list(units) == ["AU01", "AU02", "AU04", "AU05", "AU28"]
    for column, name in enumerate(names.intensity):
        x, y = levels_a[both, column].astype(float), levels_b[both, column].astype(float)
        expected = np.abs(x - y).sum() / both.sum()
        _assert_close(units[name].mean_absolute, expected)
    x, y = levels_a[both, 0].astype(float), levels_b[both, 0].astype(float)
    _assert_close(units["AU01"].correlation, np.corrcoef(x, y)[0, 1])
    # A series that does not change, in A or in B, and one whose sd of 0.045 is below the least.
    assert all(np.isnan(units[name].correlation) for name in ("AU02", "AU04", "AU05"))
    for column, name in enumerate(names.presence):
        x, y = a.au_presence[both, column] == 1, b.au_presence[both, column] == 1
        hits, false, missed = (x & y).sum(), (~x & y).sum(), (x & ~y).sum()
        assert units[name].agreement == (x == y).sum() / both.sum()
        _assert_close(units[name].f1, hits / (hits + (false + missed) / 2))
    mean = found.unit_mean
    assert mean.correlation == units["AU01"].correlation
    errors = [units[name].mean_absolute for name in names.intensity]
    _assert_close(mean.mean_absolute, np.mean(errors))
    assert mean.f1 == (units["AU01"].f1 + units["AU28"].f1) / 2
    assert (units["AU28"].intensities, units["AU02"].presences) == (0, 0)


def test_f1_is_undefined_where_neither_has_the_unit():
    names = UnitNames((), ("AU01", "AU02"))
    a = _clip(units=names)
    a = dataclasses.replace(a, au_presence=np.array([[0, 1]] * len(a), np.float32))
    b = dataclasses.replace(a, au_presence=np.array([[0, 0]] * len(a), np.float32))
    first, second = jaxface.compare_results(a, b).summary().units
    assert np.isnan(first.f1) and first.agreement == 1
    assert (second.f1, second.agreement) == (0, 0)


def test_rows_are_counted():
    a, b = _clip(rows=12), _other(_clip(rows=12))
    found = jaxface.compare_results(a[2:], b[:10])
    rows = found.summary().rows
    assert found.frame.tolist() == list(range(1, 13))
    assert (rows.paired, rows.only_a, rows.only_b) == (8, 2, 2)
    in_a = np.where(np.arange(12) >= 2, a.success, False)
    in_b = np.where(np.arange(12) < 10, b.success, False)
    assert rows.success_both == (in_a & in_b).sum() == found.both.sum()
    assert rows.success_only_a == (in_a & ~in_b).sum()
    assert rows.success_only_b == (in_b & ~in_a).sum()
    assert rows.success_neither == (~in_a & ~in_b).sum()
    assert rows.agreement == (in_a == in_b).mean()
    np.testing.assert_array_equal(found.row_a, [-1, -1, *range(10)])
    np.testing.assert_array_equal(found.row_b, [*range(10), -1, -1])
    np.testing.assert_array_equal(found.paired, [False] * 2 + [True] * 8 + [False] * 2)


def test_clips_are_pooled_row_by_row():
    """A study's figures are those of its clips put below one another."""
    one, two = _clip(0, 9), _clip(1, 21)
    others = _other(one), _other(two)
    apart = [jaxface.compare_results(a, b) for a, b in zip((one, two), others, strict=True)]

    def joined(clips: tuple[Analysis, Analysis]) -> Analysis:
        later = dataclasses.replace(clips[1], frame=clips[1].frame + 100)
        columns = {
            f.name: np.concatenate([getattr(clips[0], f.name), getattr(later, f.name)])
            for f in dataclasses.fields(Analysis)
            if isinstance(getattr(later, f.name), np.ndarray)
        }
        return dataclasses.replace(later, **columns)

    together = jaxface.compare_results(joined((one, two)), joined((others[0], others[1])))
    assert _leaves(summarize(apart)) == _leaves(together.summary())


# What holds whatever the values


@settings(max_examples=15, deadline=None)
@given(seed=seeds, rows=st.integers(6, 15))
def test_a_result_equals_itself(seed, rows):
    clip = _clip(seed, rows)
    found = jaxface.compare_results(clip, clip).summary()
    spreads = [*found.landmarks.values(), *found.landmarks_percent.values(), found.box_position]
    spreads += [found.box_width, found.box_height, found.translation, found.rotation, found.gaze]
    for spread in spreads:
        assert spread.size and spread[1:] == (0,) * 8
    assert found.box_iou[2:] == (1, 1, 0, 1, 1, 1, 1)
    assert set(found.box_shares.values()) == {1}
    assert found.rows.agreement == 1 and found.missing == ()
    assert found.unit_mean.mean_absolute == 0
    _assert_close(found.unit_mean.correlation, 1)
    assert found.unit_mean.agreement == 1
    assert {unit.f1 for unit in found.units if not np.isnan(unit.f1)} <= {1}
    for name, limit in LIMITS.items():
        value = limit.of(found)
        _assert_close(value, 0 if name.startswith("max") else 1)


@settings(max_examples=15, deadline=None)
@given(seed=seeds, rows=st.integers(4, 15))
def test_differences_are_the_same_from_both_sides(seed, rows):
    """All but the share of the eyes' distance, which is that of A."""
    a = _clip(seed, rows)
    b = _other(a, seed + 1)
    there, back = jaxface.compare_results(a, b).summary(), jaxface.compare_results(b, a).summary()
    for summary in (there, back):
        assert summary.landmarks_percent["all"].size == summary.landmarks["all"].size
    swapped = back.rows._replace(
        success_only_a=back.rows.success_only_b, success_only_b=back.rows.success_only_a
    )
    back = back._replace(landmarks_percent=there.landmarks_percent, rows=swapped)
    _assert_close(_leaves(there), _leaves(back))


@settings(max_examples=15, deadline=None)
@given(
    seed=seeds,
    shift=st.tuples(st.integers(-40, 40), st.integers(-40, 40)),
)
def test_a_shift_is_found_to_the_bit(seed, shift):
    """Landmarks of a tenth of a px, as CSVs have, moved by whole px: exact in float64."""
    clip = _clip(seed, 6)
    clip = dataclasses.replace(clip, landmarks=np.round(clip.landmarks))
    moved = dataclasses.replace(clip, landmarks=clip.landmarks + np.array(shift, np.float32))
    found = jaxface.compare_results(clip, moved).summary()
    expected = float(np.linalg.norm(np.array(shift, np.float64)))
    assert {found.landmarks[name].max for name in _REGIONS} == {expected}
    assert {found.landmarks[name].min for name in _REGIONS} == {expected}
    assert found.box_position.min == found.box_position.max == expected
    assert found.box_width.max == found.box_height.max == 0


@settings(max_examples=10, deadline=None)
@given(seed=seeds, degrees=st.floats(1e-3, 179))
def test_a_turn_of_the_head_is_found(seed, degrees):
    clip = _clip(seed, 6)
    clip = eqx.tree_at(lambda c: c.head_pose, clip, clip.head_pose.astype(np.float64))
    turn = Rotation.from_euler("y", degrees, degrees=True)
    turned = clip.head_pose.copy()
    turned[:, 3:] = (Rotation.from_euler("XYZ", clip.head_pose[:, 3:]) * turn).as_euler("XYZ")
    found = jaxface.compare_results(clip, dataclasses.replace(clip, head_pose=turned)).summary()
    # Near half a turn the arc sine doubles digits: 1e-16 of its sine is up to 1e-8 rad.
    np.testing.assert_allclose([found.rotation.min, found.rotation.max], degrees, atol=1e-6)


# Which rows go together


def _faces(landmarks: np.ndarray, frames: list[int], ids: list[int]) -> Analysis:
    rows = _analysis("multi_face", len(frames))
    return dataclasses.replace(
        rows,
        frame=np.array(frames),
        face_id=np.array(ids),
        success=np.ones(len(frames), bool),
        landmarks=landmarks.astype(np.float32),
    )


def _at(*corners: float) -> np.ndarray:
    """Landmarks of faces 100 px wide and high."""
    shape = np.random.default_rng(3).uniform(0, 100, (68, 2))
    shape[:2] = [[0, 0], [100, 100]]
    return np.stack([shape + corner for corner in corners])


def test_faces_go_together_by_their_boxes():
    """Numbers are swapped in the second frame, and each has a face that the other has not."""
    a = _faces(_at(0, 500, 0, 500, 900), [1, 1, 2, 2, 2], [0, 1, 0, 1, 2])
    b = _faces(_at(3, 503, 503, 3, 2000), [1, 1, 2, 2, 2], [0, 1, 0, 1, 2])
    found = jaxface.compare_results(a, b)
    pairs = sorted(zip(found.frame.tolist(), found.row_a, found.row_b, strict=True))
    assert pairs == [(1, 0, 0), (1, 1, 1), (2, -1, 4), (2, 2, 3), (2, 3, 2), (2, 4, -1)]
    summary = found.summary()
    np.testing.assert_allclose(summary.landmarks["all"].max, 3 * np.sqrt(2), rtol=1e-6)  # float32
    assert summary.rows.agreement == 4 / 6


def test_the_largest_overlap_comes_first():
    a = _faces(_at(0, 40), [1, 1], [0, 1])
    b = _faces(_at(38, 110), [1, 1], [0, 1])
    found = jaxface.compare_results(a, b)
    pairs = [*zip(found.row_a.tolist(), found.row_b.tolist(), strict=True)]
    # b's second overlaps a's second alone, which is taken.
    assert pairs == [(1, 0), (0, -1), (-1, 1)]


def test_images_go_together_by_boxes_and_one_face_of_a_clip_by_frame():
    a, b = _faces(_at(0, 500), [1, 1], [0, 1]), _faces(_at(500, 0), [1, 1], [0, 1])
    image_a, image_b = (dataclasses.replace(rows, kind="image") for rows in (a, b))
    found = jaxface.compare_results(image_a, image_b)
    assert found.row_b.tolist() == [1, 0] and found.landmarks.max() == 0
    alone = jaxface.compare_results(image_a[0], image_b[0])
    assert alone.row_a.tolist() == [0, -1] and alone.landmarks.shape == (0, 68)
    clip_a, clip_b = (dataclasses.replace(rows[0], kind="video") for rows in (a, b))
    assert jaxface.compare_results(clip_a, clip_b).paired.all()


def test_without_boxes_the_number_decides():
    only_pose = ColumnChoice(False, False, False, False, True, False)
    a = choose_columns(_faces(_at(0, 500), [1, 1], [0, 7]), only_pose)
    b = choose_columns(_faces(_at(0, 500), [1, 1], [7, 3]), only_pose)
    found = jaxface.compare_results(a, b)
    pairs = {*zip(found.row_a.tolist(), found.row_b.tolist(), strict=True)}
    assert pairs == {(1, 0), (0, -1), (-1, 1)}


def test_positions_choose_frames():
    a = _clip(rows=11)
    found = jaxface.compare_results(a, a, positions=(0, 20, 24, 50, 100))
    assert found.frame.tolist() == [1, 3, 6, 11]  # 20 and 24 % have the same nearest frame
    assert len(found.landmarks) == found.both.sum() == a.success[[0, 2, 5, 10]].sum()
    # Of the frames of both: the end of one that stops early is not its own.
    assert jaxface.compare_results(a[:6], a, positions=(100,)).row_a.tolist() == [-1]
    assert jaxface.compare_results(a[:0], a[:0], positions=(50,)).frame.tolist() == []
    for wrong in (-1, 101, float("nan")):
        with pytest.raises(ValueError, match="positions: expected numbers from 0 to 100"):
            jaxface.compare_results(a, a, positions=(wrong,))


# What is not there


def test_missing_columns_are_named_and_have_no_figures():
    a = _clip()
    some = choose_columns(a, ColumnChoice(False, False, True, True, False, True))
    found = jaxface.compare_results(a, some)
    only = "only in A"
    assert dict(found.missing) == {
        "head pose": only,
        "gaze": only,
        "intensity of action units": only,
        "presence of action units": only,
    }
    summary = found.summary()
    assert summary.landmarks["all"].max == 0
    assert {s.size for s in (summary.gaze, summary.rotation, summary.translation)} == {0}
    assert summary.units == () and np.isnan(summary.unit_mean.mean_absolute)
    assert found.units_a == a.units
    for name in ("max-au", "min-au-r", "max-pose-deg", "max-gaze-deg"):
        assert np.isnan(LIMITS[name].of(summary))
    # One clip that lacks them spoils the limit of a study; the figures are of the others.
    study = summarize([found, jaxface.compare_results(a, a)])
    assert study.gaze.mean == 0 and np.isnan(LIMITS["max-gaze-deg"].of(study))


def test_other_numbers_of_landmarks_leave_the_boxes():
    a, b = _clip(), _clip()
    b = dataclasses.replace(b, landmarks=b.landmarks[:, 17:])
    found = jaxface.compare_results(a, b)
    assert dict(found.missing) == {"landmarks": "68 in A, 51 in B"}
    assert found.landmarks.shape[1] == 0 and found.box_iou.shape[1] == 1
    small = jaxface.compare_results(b, b).summary()
    assert list(small.landmarks) == ["all"] and small.landmarks_percent["all"].size == 0


def test_units_of_one_alone_are_named():
    a = _clip(units=UnitNames(("AU01", "AU02"), ("AU01",)))
    b = _clip(units=UnitNames(("AU02", "AU04"), ("AU28",)))
    found = jaxface.compare_results(a, b)
    assert found.units == UnitNames(("AU02",), ())
    assert (found.units_a, found.units_b) == ((("AU01",), ("AU01",)), (("AU04",), ("AU28",)))
    assert dict(found.missing) == {"presence of action units": "no unit in both"}
    np.testing.assert_array_equal(found.intensity_a[:, 0], a.au_intensity[a.success, 1])
    np.testing.assert_array_equal(found.intensity_b[:, 0], b.au_intensity[b.success, 0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_pass_no_limit(value):
    a = _clip()
    fields = ("landmarks", "head_pose", "gaze", "au_intensity")
    spoilt = {name: getattr(a, name).copy() for name in fields}
    for values in spoilt.values():
        values[0].flat[-1] = value  # of a row with a face
    for pair in ((a, dataclasses.replace(a, **spoilt)), (dataclasses.replace(a, **spoilt), a)):
        found = jaxface.compare_results(*pair).summary()
        assert (found.landmarks["all"].lost, found.landmarks["mouth"].lost) == (1, 1)
        assert found.landmarks["all"].max == found.landmarks["jaw"].max == 0
        assert (found.rotation.lost, found.gaze.lost, found.box_iou.lost) == (1, 1, 1)
        assert found.unit_mean.lost == 1
        undefined = {name for name, limit in LIMITS.items() if np.isnan(limit.of(found))}
        assert undefined == LIMITS.keys() - {"min-agreement"}


def test_no_face_has_no_figures():
    a = _clip()
    none = dataclasses.replace(a, success=np.zeros(len(a), bool))
    found = jaxface.compare_results(a, none).summary()
    assert found.landmarks["all"][:2] == (0, 0) and np.isnan(found.landmarks["all"].max)
    assert np.isnan(LIMITS["max-landmarks"].of(found))
    assert found.rows.agreement == (~a.success).mean()
    empty = jaxface.compare_results(a[:0], a[:0]).summary()
    assert np.isnan(empty.rows.agreement)


def test_files_and_analyses_give_the_same(tmp_path: Path):
    a, b = _clip(), _other(_clip())
    paths = [jaxface.write_npz(tmp_path / f"{n}.npz", c) for n, c in (("a", a), ("b", b))]
    found, expected = jaxface.compare_results(*paths), jaxface.compare_results(a, b)
    assert isinstance(found, Comparison)
    for field in dataclasses.fields(Comparison):
        ours, theirs = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(theirs, np.ndarray):
            np.testing.assert_array_equal(ours, theirs)
        else:
            assert ours == theirs
    with pytest.raises(jaxface.InputError, match="nothing there"):
        jaxface.compare_results(paths[0], tmp_path / "c.csv")
