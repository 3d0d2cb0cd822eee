"""Clips of frames that are laid out row after row: the values of arrays, one program for all sizes.

The toy's detector is given a plan here; without one its clips are put on canvases, as before.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Int

import jaxface
from jaxface.detect import AbstractDetector, detect_faces
from jaxface.io import clip_length
from jaxface.pipeline import luma_of
from jaxface.run import several_chunk, track_chunk
from jaxface.track import run_ahead, start_track
from jaxface.types import FlatFrames, FlatImage

from .head_clip import compile_alike
from .toy_face import DarkestBox, draw_clip, watchful_model

_SIDES = 480, 640  # px; of the array that the detector below looks at
_SIZES = (120, 160), (110, 151)
_SEEN = [1] * 7 + [0] * 4 + [1] * 6  # the face comes back elsewhere
_NOISE = 2e-3  # px; another number of lanes rounds otherwise


class PlannedBox(AbstractDetector):
    """`DarkestBox`, which takes flat pictures too."""

    config: int = eqx.field(static=True, default=128)

    def detect(self, image: Array, size: Int[Array, "2"], config: Any) -> jaxface.Detections:
        return DarkestBox().detect(image, size, config)

    def plan(self, height: int, width: int, length: int, config: Any) -> Any:
        return np.zeros((), np.int32)

    def detect_flat(self, image: FlatImage, plan: Any, config: Any) -> jaxface.Detections:
        rows, columns = (np.arange(side, dtype=np.int32) for side in _SIDES)
        inside = (rows < image.size[0])[:, None] & (columns < image.size[1])[None]
        place = jnp.where(inside, rows[:, None] * image.pitch + columns[None], 0)
        pixels = image.pixels[place].astype(jnp.float32)
        return self.detect(jnp.where(inside[..., None], pixels, 0), image.size, config)


@pytest.fixture(scope="module")
def on_canvas() -> jaxface.Model:
    return watchful_model()


@pytest.fixture(scope="module")
def flat(on_canvas: jaxface.Model) -> jaxface.Model:
    return dataclasses.replace(on_canvas, detector=PlannedBox())


def _clips() -> list[np.ndarray]:
    frames = draw_clip(_SEEN)
    return [frames[:, :height, :width] for height, width in _SIZES]


def _lay(frames: np.ndarray, length: int, gap: int = 0) -> FlatFrames:
    """Frames row after row, with what shows where no pixel is: it must not be read."""
    count, height, width = frames.shape[:3]
    junk = 255 if frames.dtype == np.uint8 else np.nan
    rows = np.full((count, height, width + gap, 3), junk, frames.dtype)
    rows[:, :, :width] = frames
    pixels = np.full((count, length, 3), junk, frames.dtype)
    pixels[:, : height * (width + gap)] = rows.reshape(count, -1, 3)
    size = jnp.array([height, width], jnp.int32)
    return FlatFrames(jnp.asarray(pixels), size, jnp.int32(width + gap))


def _run_ahead(clnf: Any, fits: Any, pool: Array, rows: Array, valid: Array, sizes: Array) -> Any:
    return run_ahead(clnf, fits, pool, rows, valid, sizes=sizes, config=None)


def _assert_same(found: jaxface.Analysis, expected: jaxface.Analysis) -> None:
    for name in ("success", "confidence", "landmarks", "head_pose", "gaze", "au_intensity"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)


@pytest.mark.parametrize("kind", ["one", "all", "at_once"])
def test_clips_of_all_sizes_share_programs(flat, on_canvas, kind: str):
    how: Any = {"at_once": True} if kind == "at_once" else {"faces": kind}
    clips = _clips()
    if kind == "at_once":  # fewer frames are tracked one by one
        clips = [np.concatenate([clip[:7]] * 6) for clip in clips]
    program = several_chunk if kind == "all" else track_chunk
    for number, frames in enumerate(clips):
        expected = jaxface.analyze_video(on_canvas, frames, fps=25, **how)
        before = len(program._programs)
        found = jaxface.analyze_video(flat, frames, fps=25, **how)
        assert number == 0 or len(program._programs) == before
        _assert_same(found, expected)
        assert expected.success.any() and (kind == "at_once" or not expected.success.all())


def test_a_batch_of_several_sizes(flat, on_canvas):
    """Clips that had to take turns, as no program took both, now share one."""
    settings: Any = {"fps": 25, "lanes": 4}
    found = jaxface.analyze_batch(flat, _clips(), **settings)
    for ours, frames in zip(found, _clips(), strict=True):
        assert isinstance(ours, jaxface.Analysis)
        theirs = jaxface.analyze_video(on_canvas, frames, fps=25)
        np.testing.assert_array_equal(ours.success, theirs.success)
        np.testing.assert_allclose(ours.landmarks, theirs.landmarks, rtol=0, atol=_NOISE)


def test_lanes_read_their_own_frames(flat):
    """Each lane goes through frames of its own size, in an order of its own."""
    clnf = flat.clnf
    clips = [clip[:5] for clip in _clips()]
    length = 20_000
    grays = [luma_of(_lay(clip, length)) for clip in clips]
    first = jaxface.track_clip(flat, jnp.asarray(clips[0][:1]))[1].fit
    starts = jax.tree.map(lambda leaf: jnp.repeat(leaf, 2, axis=0), first)
    rows = jnp.array([[1, 8], [2, 7], [3, 6]], jnp.int32)
    follow = compile_alike(_run_ahead)
    sizes = jnp.array([clip.shape[1:3] for clip in clips], jnp.int32)
    pool, live = jnp.concatenate(grays), jnp.ones(rows.shape, bool)
    found = follow(clnf, starts, pool, rows, live, sizes)
    for lane, clip in enumerate(clips):
        expected = follow(
            *(clnf, first, luma_of(jnp.asarray(clip))),
            *(rows[:, lane, None] - 5 * lane, live[:, :1], sizes[lane, None]),
        )
        np.testing.assert_array_equal(found.success[:, lane], expected.success[:, 0])
        np.testing.assert_allclose(
            found.landmarks[:, lane], expected.landmarks[:, 0], rtol=0, atol=_NOISE
        )


@pytest.mark.parametrize("gap", [0, 5])
def test_a_clip_as_a_pure_function(flat, gap: int):
    """Frame by frame, at once and as arrays, with junk between and behind the rows."""
    frames = _clips()[1]
    height, width = frames.shape[1:3]
    camera = jax.tree.map(jnp.float32, jaxface.default_camera(height=height, width=width))
    laid, plan = _lay(frames, 20_000, gap), flat.detector.plan(height, width, 20_000, None)
    analyze: Any = compile_alike(jaxface.analyze_clip)
    state, expected = analyze(flat, jnp.asarray(frames), camera)
    ours, found = analyze(flat, laid, camera, plan=plan)
    jax.tree.map(np.testing.assert_array_equal, (ours, found), (state, expected))
    step: Any = compile_alike(jaxface.clip_frame)
    state = jaxface.start_clip(flat)
    for number in range(3):
        image = FlatImage(laid.pixels[number], laid.size, laid.pitch)
        state, face = step(flat, state, image, camera, plan=plan)
        np.testing.assert_array_equal(face.face.landmarks, expected.face.landmarks[number])


def test_a_flat_picture_needs_its_plan(flat):
    laid = _lay(_clips()[0][:1], 20_000)
    with pytest.raises(ValueError, match=r"^plan: expected what detector\.plan\(height, width"):
        detect_faces(flat.detector, FlatImage(laid.pixels[0], laid.size, laid.pitch))


def test_a_pool_beyond_the_reach_of_an_index(flat):
    fits = jax.tree.map(lambda leaf: leaf[None], start_track(flat.clnf).fit)
    rows, live = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
    pool = jax.ShapeDtypeStruct((1100, 2_000_000), jnp.uint8)

    def follow(pool: Array) -> Any:
        sizes = jnp.array([[1000, 2000]], jnp.int32)
        return run_ahead(flat.clnf, fits, pool, rows, live, sizes=sizes, config=None)

    with pytest.raises(ValueError, match=r"^pool: expected fewer than 2\*\*31 pixels"):
        jax.eval_shape(follow, pool)


def test_a_length_for_every_clip():
    lengths = [clip_length(*size) for size in ((240, 320), (481, 640), (1080, 1920), (1920, 1080))]
    assert lengths == [640 * 480, 1280 * 720, 1920 * 1080, 1920 * 1080]
    assert clip_length(2160, 3840) is clip_length(1081, 1920) is clip_length(90, 9000) is None
