"""One still image: detection, and every face by itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from ..io import as_camera, check_camera, flat_lengths, lay_in, pad_to_canvas, read_image
from ..models import Model
from ..pipeline import Config, default_config, prepare_model
from ..types import Camera, FlatImage
from ._checks import AnyImage, as_image, check_boxes, refuse_tracers
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
    given = None if boxes is None else check_boxes(boxes)
    pixels = read_image(image) if isinstance(image, str | Path) else as_image(image, "image")
    config = default_config(model, static_action_units=True) if config is None else config
    model, names = prepare_model(model, config), unit_names(model, config)
    height, width = pixels.shape[:2]
    starts = _detect(model, pixels, config) if given is None else _placed(given)
    canvas, size = (jnp.asarray(leaf) for leaf in pad_to_canvas(pixels))
    size = size.astype(jnp.int32)
    lens = to_camera(as_camera(camera, height=height, width=width))
    found: list[Any] = []
    for box, points in zip(*starts, strict=True):
        start = jnp.asarray(box), jnp.asarray(points)
        face = analyze_box(model, canvas, *start, lens, size, config)
        found.append(jax.tree.map(np.asarray, slim(face, extras)))
    if not found:
        return join_batches("image", names, [no_faces(model, config)])
    faces = jax.tree.map(lambda *leaves: np.stack(leaves), *found)
    number = np.arange(len(found))
    batch = to_batch(faces, np.ones_like(number), number, 0.0 * number)
    return join_batches("image", names, [batch])


_Starts = tuple[Float[np.ndarray, "f b"], Float[np.ndarray, "f 5 2"]]  # boxes, with points


def _detect(model: Model, pixels: UInt8[np.ndarray, "h w 3"], config: Config) -> _Starts:
    """Boxes and five points of the faces that the detector finds."""
    height, width = pixels.shape[:2]
    size = np.array([height, width], np.int32)
    settings = model.detector.config if config.detect is None else config.detect
    for length in flat_lengths(height, width):
        plan = model.detector.plan(height, width, length, settings)
        if plan is not None:
            placed = jax.device_put((lay_in(pixels, length), size, np.int32(width)))
            found = flat_detect_program(model, FlatImage(*placed), plan, config)
            break
    else:
        found = detect_program(model, *jax.device_put((pad_to_canvas(pixels)[0], size)), config)
    valid = np.asarray(found.valid)
    return np.asarray(found.sized_boxes)[valid], np.asarray(found.points)[valid]


def _placed(boxes: Float[np.ndarray, "f 4"]) -> _Starts:
    """Boxes of the caller's, whose five points nobody knows; with sizes, as those of detections,
    so that one program fits both."""
    sized = np.concatenate([boxes, boxes[:, 2:] - boxes[:, :2]], axis=1)
    return sized, np.zeros((len(boxes), 5, 2), np.float32)
