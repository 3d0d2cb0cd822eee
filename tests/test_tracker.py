"""The tracker's state machine (specification 01, B.5), and golden frames of a clip."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxface.fit import CLNF, FitConfig, fit_config
from jaxface.reference.comparison.fit_inputs import put_on_canvas, read_stage, to_parameters
from jaxface.track import TrackState, start_track, track_box, track_landmarks

from .head_clip import compile_alike

# px; the algorithm is discontinuous: specification 02, H.
_MEAN = 0.03
_LARGEST = 0.3

_SIZE = (120, 160)
_ACCEPT = jnp.asarray(_SIZE)
_REJECT = jnp.asarray((1, 1))  # so small a picture that the validator sees no face
_BOX = jnp.asarray([40.0, 20, 120, 100])
_POINTS = jnp.zeros((5, 2))  # OpenFace's models take no notice
_AWAY = jnp.asarray([5000.0, 20, 5080, 100])  # outside every picture: always rejected


class Machine:
    """Runs the tracker on a small picture, with faces found at will.

    Any face inside the picture is accepted, as the boundary is 0; none in a picture of 1x1.
    """

    def __init__(self, clnf: CLNF, gray) -> None:
        config = dataclasses.replace(
            fit_config(clnf),
            windows_init=(0, 9, 7),
            windows_track=(0, 0, 7),
            iterations=1,
            refine_parts=False,
            validation_boundary=0.0,
        )
        self.clnf, self.gray = clnf, gray
        self.state = start_track(clnf)

        @compile_alike
        def step(clnf, state, gray, box, found, size):
            return track_landmarks(
                clnf, state, gray, lambda: (box, _POINTS, found), size=size, config=config
            )

        self._step = step

    def reset(self) -> None:
        self.state = start_track(self.clnf)

    def run(self, *, box=None, size=_ACCEPT):
        """One frame; `box` is what the detector would find."""
        found = jnp.asarray(box is not None)
        self.state, tracked = self._step(
            self.clnf, self.state, self.gray, _BOX if box is None else box, found, size
        )
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tracked))
        return tracked

    def lose(self, frames: int) -> list[int]:
        """Frames (from 1) in which the detector ran, none with success."""
        detected = []
        for frame in range(1, frames + 1):
            tracked = self.run(size=_REJECT)
            assert not tracked.success and not tracked.fit.success
            if tracked.detected:
                detected.append(frame)
        return detected


@pytest.fixture(scope="module")
def compiled(openface_model) -> Machine:
    gray = np.random.default_rng(0).integers(0, 256, _SIZE).astype(np.float32)
    return Machine(openface_model, jnp.asarray(gray))


@pytest.fixture
def machine(compiled) -> Machine:
    compiled.reset()
    return compiled


def _same(a, b) -> bool:
    return jax.tree.all(jax.tree.map(lambda x, y: bool(np.array_equal(x, y)), a, b))


def test_before_any_face(openface_model, machine):
    """Landmarks 0, parameters (1, 0, 0, 0, 0, 0), certainty 0."""
    state = start_track(openface_model)
    assert not state.initialised and state.failures == -1 and not state.fit.success
    assert state.fit.likelihood == -10 and state.fit.confidence == 0
    tracked = machine.run()
    assert tracked.fit.parameters.scale == 1 and not np.any(tracked.fit.landmarks)
    assert tracked.fit.confidence == 0 and not machine.state.initialised


def test_detector_runs_every_12_frames_until_a_first_face(machine):
    assert machine.lose(40) == [1, 13, 25, 37]
    # Between these frames it does not matter what it would find.
    assert not machine.run(box=_BOX).detected and not machine.state.initialised
    for _ in range(7):
        machine.run(size=_REJECT)
    tracked = machine.run(box=_BOX)
    assert tracked.detected and tracked.success and machine.state.initialised


def test_a_good_track_never_detects(machine):
    assert machine.run(box=_BOX).detected
    for _ in range(15):
        tracked = machine.run(box=_AWAY)
        assert tracked.success and tracked.fit.success and not tracked.detected
        assert machine.state.failures == -1


def test_first_face_is_accepted_although_the_validator_rejects(machine):
    tracked = machine.run(box=_BOX, size=_REJECT)
    assert tracked.success and tracked.detected and not tracked.fit.success
    assert machine.state.initialised and machine.state.failures == -1
    # The next frame tracks, fails, and detects at once; this time the validator counts.
    tracked = machine.run(box=_BOX, size=_REJECT)
    assert tracked.detected and not tracked.success and machine.state.failures == 0


def test_loss_detects_in_the_same_frame_then_every_second(machine):
    machine.run(box=_BOX)
    assert machine.lose(9) == [1, 3, 5, 7, 9]
    assert machine.state.failures == 8
    # Tracking itself recovers once the face validates again.
    tracked = machine.run()
    assert tracked.success and not tracked.detected and machine.state.failures == -1


def _lose_track_far_away(machine: Machine) -> TrackState:
    """A track that fails in a picture where a detection would be accepted."""
    machine.run(box=_AWAY, size=_REJECT)
    assert machine.state.initialised and not machine.state.fit.success
    return machine.state


def test_accepted_detection_replaces_a_lost_track(machine):
    before = _lose_track_far_away(machine)
    tracked = machine.run(box=_BOX)
    assert tracked.detected and tracked.success and tracked.fit.success
    assert machine.state.failures == -1
    centre = np.mean(np.asarray(tracked.fit.landmarks), axis=0)
    assert np.abs(centre - np.array([80, 60])).max() < 30
    assert np.mean(before.fit.landmarks[:, 0]) > 4000


def test_rejected_detection_gives_the_tracked_pose_back(machine):
    """Pose, shape, landmarks and likelihood, but not confidence, view and parts."""
    before = _lose_track_far_away(machine)
    tracked_alone = machine.run()
    assert tracked_alone.detected and not tracked_alone.success
    machine.state = before
    restored = machine.run(box=_AWAY + 300)
    assert restored.detected and not restored.success
    for name in ("parameters", "landmarks", "likelihood"):
        assert _same(getattr(restored.fit, name), getattr(tracked_alone.fit, name)), name
    assert machine.state.failures == 0 and machine.state.initialised


def test_rejected_detection_keeps_its_own_confidence(machine):
    """OpenFace restores neither certainty nor success: both are those of the rejected fit."""
    machine.run(box=_BOX)
    certain = machine.state
    assert certain.fit.confidence > 0
    tracked = machine.run(box=_BOX, size=_REJECT)
    assert tracked.fit.confidence == 0 and not machine.state.fit.success


def test_track_is_forgotten_after_101_failures(machine):
    machine.run(box=_BOX)
    detected = machine.lose(101)
    assert detected == list(range(1, 102, 2)) and machine.state.failures == 100
    assert machine.state.initialised
    machine.run(size=_REJECT)
    assert machine.state.failures == 101 and not machine.state.initialised
    frozen = machine.state.fit
    # Detections go on 7 frames later and then every 12.
    assert machine.lose(20) == [7, 19]
    assert _same(machine.state.fit, frozen)
    for _ in range(10):  # frames 21 to 30
        assert not machine.run(box=_AWAY).detected
    tracked = machine.run(box=_AWAY)
    assert tracked.detected and tracked.success and not tracked.fit.success


def test_windows_follow_the_last_verdict(machine):
    """Small windows after a success, all of them after a failure."""
    machine.run(box=_BOX)
    good = machine.state
    bad = eqx.tree_at(lambda s: s.fit.success, good, jnp.zeros((), bool))
    machine.state = good
    small = machine.run()
    machine.state = bad
    large = machine.run()
    assert small.success and large.success
    assert not _same(small.fit.landmarks, large.fit.landmarks)


def test_state_has_one_structure_and_dtypes(machine, openface_model):
    """A track can be carried through a scan."""
    start = start_track(openface_model)
    for box in (None, _BOX, _AWAY):
        machine.run(box=box)
        assert jax.tree.structure(machine.state) == jax.tree.structure(start)
        for new, old in zip(jax.tree.leaves(machine.state), jax.tree.leaves(start), strict=True):
            assert (new.shape, new.dtype) == (old.shape, old.dtype)


@pytest.fixture(scope="module")
def step_box(openface_model):
    config = dataclasses.replace(
        fit_config(openface_model),
        windows_init=(0, 0, 7),
        windows_track=(0, 0, 7),
        iterations=1,
        refine_parts=False,
        validation_boundary=0.0,
    )
    gray = jnp.zeros(_SIZE)
    step = compile_alike(
        lambda clnf, state, box, fresh, size: track_box(
            clnf, state, gray, box, fresh, size=size, config=config
        )
    )
    return lambda state, fresh, size=_ACCEPT: step(
        openface_model, state, _BOX, jnp.asarray(fresh), size
    )


def test_a_given_box_starts_a_track(openface_model, step_box):
    """Several faces: no detection inside; failures count from the first frame."""
    state = step_box(start_track(openface_model), True)
    assert state.initialised and state.fit.success and state.failures == -1
    for failures in range(6):
        state = step_box(state, False, _REJECT)
        assert state.failures == failures and not state.fit.success
    state = step_box(state, False)
    assert state.failures == -1 and state.fit.success
    assert step_box(state, True, _REJECT).failures == 0
    # A fresh box forgets the earlier pose.
    far = eqx.tree_at(lambda s: s.fit.parameters.translation, state, jnp.asarray([9e3, 9e3]))
    assert _same(step_box(far, True), step_box(start_track(openface_model), True))


@pytest.fixture(scope="module")
def step_clip(openface_model):
    config: FitConfig = fit_config(openface_model)

    @compile_alike
    def step(clnf, state, gray, box, size):
        face = box, _POINTS, jnp.ones((), bool)
        return track_landmarks(clnf, state, gray, lambda: face, size=size, config=config)

    return lambda *inputs: step(openface_model, *inputs)


def _assert_golden(fit, stage) -> None:
    apart = np.abs(np.asarray(fit.landmarks) - stage.points("chosen_landmarks"))
    assert apart.max() < _LARGEST and apart.mean() < _MEAN
    certainty = stage.arrays["chosen_likelihood_certainty"].ravel()[1]
    assert fit.confidence == np.float32(certainty)


def test_golden_first_frame(openface_model, golden_dir, step_clip):
    """A detection and 11 start rotations."""
    stage = read_stage(golden_dir, "default_track_f000")
    gray, size = put_on_canvas(stage)
    x, y, width, height = stage.arrays["hyp0_init_bbox"].ravel()[:4]
    box = jnp.asarray([x, y, x + width, y + height], jnp.float32)
    state, tracked = step_clip(start_track(openface_model), gray, box, size)
    assert tracked.success and tracked.detected and state.failures == -1
    _assert_golden(tracked.fit, stage)


@pytest.mark.parametrize("name", ["default_track_f030", "default_track_f100"])
def test_golden_tracked_frames(openface_model, golden_dir, step_clip, name):
    """From OpenFace's parameters of the frame before."""
    stage = read_stage(golden_dir, name)
    gray, size = put_on_canvas(stage)
    before = to_parameters(stage.parameters("track_init_"))
    state = eqx.tree_at(
        lambda s: (s.fit.parameters, s.fit.success, s.initialised),
        start_track(openface_model),
        (before, jnp.ones((), bool), jnp.ones((), bool)),
    )
    state, tracked = step_clip(state, gray, jnp.zeros(4), size)
    assert tracked.success and not tracked.detected and state.failures == -1
    _assert_golden(tracked.fit, stage)
