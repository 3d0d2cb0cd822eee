"""Clips chunk by chunk, how far they have come, and what is refused before any work is done."""

import itertools
import threading
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxface
from jaxface import Analysis, Model
from jaxface.output import FIELDS, column_names
from jaxface.run import Tally, analyze_chunks, collect_clip, open_clip, second_pass

from .conftest import ROOT

_CLIP = ROOT / "bench" / "data" / "talking_head.mp4"
_COUNT = 20  # frames: two chunks and a half


@pytest.fixture(scope="module")
def model() -> Model:
    return jaxface.load_model()


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return list(itertools.islice(jaxface.read_video(_CLIP), _COUNT))


@pytest.fixture(scope="module")
def whole(model, frames) -> Analysis:
    return jaxface.analyze_video(model, frames, fps=25.0)


def _assert_same(found: Analysis, expected: Analysis) -> None:
    assert (found.kind, found.units) == (expected.kind, expected.units)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)


# A clip in pieces


def test_a_clip_in_pieces_is_the_whole(model, frames, whole):
    clip = open_clip(model, frames, fps=25.0)
    batches = list(analyze_chunks(clip))
    assert [len(batch.table) for batch in batches] == [8, 8, 4]
    assert [batch.tally for batch in batches] == [Tally(n, n) for n in (8, 8, 4)]
    assert not any(batch.table.au_intensity.size for batch in batches)
    _assert_same(collect_clip(clip, batches), whole)
    histories = [batch.history for batch in batches]
    units = second_pass(clip, histories)
    assert units is not None
    np.testing.assert_array_equal(units[0], whole.au_intensity)
    with pytest.raises(ValueError, match="histories: expected those of the whole clip"):
        second_pass(clip, histories[:-1])
    _assert_same(collect_clip(clip, list(analyze_chunks(clip))), whole)  # nothing was left in it


def test_two_clips_in_turn_do_not_mix(model, frames, whole):
    clips = [open_clip(model, f, fps=25.0) for f in (frames, frames[::-1])]
    pieces = list(zip(*map(analyze_chunks, clips), strict=True))
    found = [collect_clip(c, list(b)) for c, b in zip(clips, zip(*pieces, strict=True))]
    _assert_same(found[0], whole)
    assert not np.array_equal(found[1].landmarks, whole.landmarks)


def test_the_old_name_gives_the_same_and_warns(model, frames, whole):
    with pytest.warns(DeprecationWarning, match="ClipAnalysis goes .*: call open_clip"):
        clip = jaxface.ClipAnalysis(model, frames, timestamp=lambda index: index * (1 / 25.0))
    assert (clip.kind, clip.units, clip.action_units()) == ("video", whole.units, None)
    for _ in range(2):
        batches = list(clip)
        assert clip.tally == Tally(_COUNT, _COUNT)
        _assert_same(clip.collect(batches), whole)


def test_a_clip_that_is_left_stops_its_threads(model, frames):
    """And asks for no more frames than were read ahead."""
    asked = []

    def source() -> Iterator[np.ndarray]:
        for index, frame in enumerate(itertools.cycle(frames)):
            asked.append(index)
            yield frame

    before = threading.active_count()
    rows = analyze_chunks(open_clip(model, source()))
    assert len(next(rows).table) == 8
    rows.close()  # pyright: ignore[reportAttributeAccessIssue]
    del rows
    assert threading.active_count() == before
    assert len(asked) <= 4 * 8 + 1


def test_an_error_of_a_late_frame_comes_after_rows(model, frames):
    """A chunk is read and another measured meanwhile, so after those of the chunk before them."""
    batches = analyze_chunks(open_clip(model, [*frames, *frames[:4], frames[0][..., 0]]))
    assert len(next(batches).table) == 8
    with pytest.raises(ValueError, match="^frame 24: expected an RGB image"):
        list(batches)


def test_no_frame(model):
    for faces in ("one", "all"):
        with pytest.raises(ValueError, match="^video: expected at least one frame, got none"):
            jaxface.analyze_video(model, [], faces=faces)


# How far it is


def test_progress_is_told(model, frames, whole):
    told: list[tuple[int, int | None]] = []

    def tell(done: int, total: int | None) -> None:
        told.append((done, total))

    found = jaxface.analyze_video(model, frames, fps=25.0, progress=tell)
    assert told == [(8, 20), (16, 20), (20, 20)]
    _assert_same(found, whole)
    told.clear()
    jaxface.analyze_video(model, (f for f in frames[:8]), progress=tell)
    assert told == [(8, None)]


def test_frames_without_any_of_several_faces_are_done_too(model):
    told: list[tuple[int, int | None]] = []
    frames = np.zeros((9, 48, 64, 3), np.uint8)
    found = jaxface.analyze_video(
        *(model, frames), faces="all", progress=lambda done, total: told.append((done, total))
    )
    assert told == [(8, 9), (9, 9)]
    assert (found.kind, len(found), found.landmarks.shape) == ("multi_face", 0, (0, 68, 2))
    names = column_names("multi_face", units=found.units, modes=found.local.shape[1])
    assert list(found.to_dataframe().columns) == names


def test_progress_bar(model, frames, capsys):
    jaxface.analyze_video(model, frames[:8], progress=True)
    assert "8/8" in capsys.readouterr().err
    jaxface.analyze_video(model, frames[:8])
    assert capsys.readouterr().err == ""


def test_a_progress_that_fails_ends_the_analysis(model, frames):
    def tell(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        jaxface.analyze_video(model, frames, progress=tell)
    assert threading.active_count() == before


# Refused by name


@pytest.mark.parametrize(
    "analyze",
    (
        jaxface.analyze_video,
        jaxface.analyze_image,
        lambda model, image: jaxface.analyze_images(model, [image]),
        lambda model, image: jaxface.analyze_batch(model, [[image]]),
    ),
    ids=("video", "image", "images", "batch"),
)
@pytest.mark.parametrize("trace", (jax.jit, jax.vmap), ids=("jit", "vmap"))
def test_what_cannot_be_traced_says_what_can(model, trace: Callable, analyze: Callable):
    image = jnp.zeros((2, 48, 64, 3), jnp.uint8)
    message = r"analyze_\w+ cannot be traced .* jaxface.clip_frame .*jaxface.track_frame .*scan"
    with pytest.raises(TypeError, match=message):
        trace(lambda image: analyze(model, image))(image)
    if trace is jax.jit:  # the model may be an argument, too
        with pytest.raises(TypeError, match=message):
            jax.jit(analyze)(model, image)


def _image(value: float, dtype: type = np.float32) -> np.ndarray:
    image = np.zeros((48, 64, 3), dtype)
    image[10, 20] = value
    return image


_FRACTIONS = r"expected values from 0 to 255, got fractions from 0 to .*: multiply by 255, or round"


@pytest.mark.parametrize(
    ("image", "message"),
    (
        (_image(0.5), _FRACTIONS),
        (_image(0.999, np.float64), _FRACTIONS),
        (_image(0.25, np.float16), _FRACTIONS),
        (_image(1, bool), "expected values from 0 to 255, got bool: multiply by 255"),
        (_image(1, np.complex64), "expected numbers from 0 to 255, got complex64"),
        (np.full((48, 64, 3), "a"), "expected numbers from 0 to 255, got <U1"),
    ),
    ids=("float32", "float64", "float16", "bool", "complex", "text"),
)
def test_images_in_other_units(model, image, message):
    with pytest.raises(ValueError, match=f"^image: {message}"):
        jaxface.analyze_image(model, image)
    with pytest.raises(ValueError, match=f"^frame 0: {message}"):
        jaxface.analyze_video(model, [image])


@pytest.mark.parametrize(
    "image",
    (_image(0), _image(1), _image(1, np.int64), _image(1, np.uint8), _image(1.5)),
    ids=("black", "float levels", "integers", "bytes", "above 1"),
)
def test_dark_images_are_taken(model, image):
    """A frame that is all but black is no picture with values from 0 to 1."""
    expected = jaxface.analyze_image(model, np.rint(image).astype(np.uint8))
    assert len(jaxface.analyze_image(model, image)) == len(expected) == 0


@pytest.mark.parametrize(
    ("boxes", "message"),
    (
        (np.zeros(4), r"boxes: expected shape \(f, 4\), .* got shape \(4,\): put it in a list"),
        (np.zeros((2, 5)), r"boxes: expected shape \(f, 4\), .* got shape \(2, 5\)$"),
        (np.zeros((1, 2, 4)), r"boxes: expected shape \(f, 4\), .* got shape \(1, 2, 4\)$"),
        ([[1, 2, 3, 4], [1, 2, np.nan, 4]], r"boxes\[1\]: expected finite x0 y0 x1 y1"),
        ([[0, 0, np.inf, 9]], r"boxes\[0\]: expected finite"),
        ([[9, 0, 3, 9]], r"boxes\[0\]: expected .* with x0 < x1 and y0 < y1, got \[9.0, 0.0"),
    ),
)
def test_wrong_boxes(model, boxes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        jaxface.analyze_image(model, _image(9, np.uint8), boxes=boxes)


def test_no_boxes(model):
    """None at all is not the same as none given."""
    for boxes in ([], np.array([]), np.zeros((0, 4))):
        assert len(jaxface.analyze_image(model, _image(9, np.uint8), boxes=boxes)) == 0


@pytest.mark.parametrize("fps", (-25.0, np.nan, np.inf))
def test_wrong_rates(model, fps):
    message = "^fps: expected frames per second, or 0 .*, got"
    with pytest.raises(ValueError, match=message):
        jaxface.analyze_video(model, [_image(9, np.uint8)], fps=fps)
    (found,) = jaxface.analyze_batch(model, [[_image(9, np.uint8)]], fps=fps)
    assert isinstance(found, ValueError) and str(found).startswith("fps: expected")


@pytest.mark.parametrize("fx", (np.nan, 0.0, -500.0))
def test_wrong_cameras(model, fx):
    camera = jaxface.Camera(*(np.array(value, np.float32) for value in (fx, 500, 320, 240)))
    image = _image(9, np.uint8)
    message = r"^camera.fx: expected a positive focal length in px, got"
    with pytest.raises(ValueError, match=message):
        jaxface.analyze_image(model, image, camera=camera)
    with pytest.raises(ValueError, match=message):
        jaxface.analyze_video(model, [image], camera=camera)
