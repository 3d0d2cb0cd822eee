"""One still image: detection, and every face by itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from ..io import (
    as_camera,
    check_camera,
    face_length,
    flat_lengths,
    lay_in,
    pad_to_canvas,
    read_image,
)
from ..models import Model
from ..pipeline import Config, default_config, prepare_model
from ..types import Camera, FlatImage
from ._checks import AnyImage, as_image, check_boxes, refuse_tracers
from ._origin import origin_of
from ._programs import Extras, analyze_box, detect_program, flat_detect_program, slim
from ._results import Analysis
from ._tables import join_batches, no_faces, to_batch, to_camera, unit_names


def analyze_image(
    model: Model,
    image: str | Path | AnyImage,
    *,
    boxes: np.ndarray | Sequence[Sequence[float | int]] | None = None,
    camera: Camera | None = None,
    config: Config | None = None,
    extras: Extras = Extras(),
) -> Analysis:
    """Analyses all faces of one image: everything that OpenFace's `FaceLandmarkImg` writes.

    Args:
        model: see `load_model`.
        image: an image file, or an RGB image (h, w, 3), 0 to 255.
        boxes: face boxes (f, 4), x0 y0 x1 y1, px, instead of detected ones.
        camera: intrinsics, px; by default OpenFace's guess from the image size.
        config: settings; by default OpenFace's for still images.
        extras: large arrays to bring back.
    Returns:
        One row per face, by descending probability of the detection; none without a face.
    Raises:
        InputError: the file cannot be read.
        ValueError: `image` is not an RGB image, or a box is none.
        TypeError: it is traced by jax.jit or another transformation.
    """
    refuse_tracers("analyze_image", model, image, boxes, camera)
    camera = check_camera(camera)
    origin = origin_of(image, camera)
    given = None if boxes is None else check_boxes(boxes)
    pixels = read_image(image) if isinstance(image, str | Path) else as_image(image, "image")
    config = default_config(model, static_action_units=True) if config is None else config
    model, names = prepare_model(model, config), unit_names(model, config)
    height, width = pixels.shape[:2]
    picture = _lay(pixels)
    starts = _detect(model, pixels, picture, config) if given is None else _placed(given)
    lens = to_camera(as_camera(camera, height=height, width=width))
    found: list[Any] = []
    for box, points in zip(*starts, strict=True):
        start = jnp.asarray(box), jnp.asarray(points)
        face = analyze_box(model, picture.image, *start, lens, picture.size, config)
        found.append(jax.tree.map(np.asarray, slim(face, extras)))
    if not found:
        return join_batches("image", names, [no_faces(model, config)], origin=origin)
    faces = jax.tree.map(lambda *leaves: np.stack(leaves), *found)
    number = np.arange(len(found))
    batch = to_batch(faces, np.ones_like(number), number, 0.0 * number)
    return join_batches("image", names, [batch], origin=origin)


_Starts = tuple[Float[np.ndarray, "f b"], Float[np.ndarray, "f 5 2"]]  # boxes, with points


class _Flat(NamedTuple):
    """A picture on the device, whose size is no part of a program."""

    image: FlatImage
    size: Int[Array, "2"]  # height and width, px


class _Canvas(NamedTuple):
    """A picture on the device, in the top left corner of an array of one of few sizes."""

    image: UInt8[Array, "h w 3"]
    size: Int[Array, "2"]  # height and width, px


_Picture = _Flat | _Canvas


def _detect(
    model: Model, pixels: UInt8[np.ndarray, "h w 3"], picture: _Picture, config: Config
) -> _Starts:
    """Boxes and five points of the faces that the detector finds.

    Args:
        pixels: the picture on the host.
        picture: as faces are fitted in it.
    """
    height, width = pixels.shape[:2]
    settings = model.detector.config if config.detect is None else config.detect
    for length in flat_lengths(height, width):
        plan = model.detector.plan(height, width, length, settings)
        if plan is not None:
            flat = picture
            if not isinstance(flat, _Flat) or len(flat.image.pixels) != length:
                flat = _lay_flat(pixels, length)
            found = flat_detect_program(model, flat.image, plan, config)
            break
    else:
        on_canvas = picture if isinstance(picture, _Canvas) else _lay_on_canvas(pixels)
        found = detect_program(model, *on_canvas, config)
    valid = np.asarray(found.valid)
    return np.asarray(found.sized_boxes)[valid], np.asarray(found.points)[valid]


def _placed(boxes: Float[np.ndarray, "f 4"]) -> _Starts:
    """Boxes of the caller's, whose five points nobody knows; with sizes, as those of detections,
    so that one program fits both."""
    sized = np.concatenate([boxes, boxes[:, 2:] - boxes[:, :2]], axis=1)
    return sized, np.zeros((len(boxes), 5, 2), np.float32)


def _lay(pixels: UInt8[np.ndarray, "h w 3"]) -> _Picture:
    """A picture as faces are fitted in it: flat, or on a canvas where it is too large."""
    length = face_length(*pixels.shape[:2])
    return _lay_on_canvas(pixels) if length is None else _lay_flat(pixels, length)


def _lay_flat(pixels: UInt8[np.ndarray, "h w 3"], length: int) -> _Flat:
    height, width = pixels.shape[:2]
    size = np.array([height, width], np.int32)
    placed = jax.device_put((lay_in(pixels, length), size, np.int32(width)))
    return _Flat(FlatImage(*placed), placed[1])


def _lay_on_canvas(pixels: UInt8[np.ndarray, "h w 3"]) -> _Canvas:
    canvas, size = pad_to_canvas(pixels)
    return _Canvas(*jax.device_put((canvas, np.array(size, np.int32))))
