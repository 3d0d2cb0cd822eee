"""Many still images at once."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax

from ..io import check_camera
from ..models import Model
from ..pipeline import Config, default_config, prepare_model
from ..types import Camera
from ._checks import AnyImage, refuse_tracers
from ._image import analyze_image
from ._programs import Extras
from ._results import Analysis


def analyze_images(
    model: Model,
    images: Sequence[str | Path | AnyImage],
    *,
    camera: Camera | None = None,
    config: Config | None = None,
    extras: Extras = Extras(),
    workers: int | None = None,
) -> list[Analysis | Exception]:
    """Analyses all faces of many images, several images at a time.

    Images are taken by threads, not stacked: each needs as many fits as it has faces, and from one
    image the processor's cores cannot all be kept busy.

    Args:
        model: see `load_model`.
        images: image files, or RGB images (h, w, 3), 0 to 255, of any sizes.
        camera: intrinsics of all images, px; by default OpenFace's guess from each image's size.
        config: settings; by default OpenFace's for still images.
        extras: large arrays to bring back.
        workers: images at a time; by default the cores of the processor, two with another device.
    Returns:
        For each image, in order, what `analyze_image` gives, or what it would have raised.
    Raises:
        ValueError: `workers` is below 1.
        TypeError: it is traced by jax.jit or another transformation.
    """
    refuse_tracers("analyze_images", model, images, camera)
    if workers is not None and workers < 1:
        raise ValueError(f"workers: expected at least 1, got {workers}: leave it out for all cores")
    camera = check_camera(camera)
    config = default_config(model, static_action_units=True) if config is None else config
    model = prepare_model(model, config)

    def analyze(image: str | Path | AnyImage) -> Analysis | Exception:
        try:
            return analyze_image(model, image, camera=camera, config=config, extras=extras)
        except Exception as error:  # of this image alone
            return error

    # With another device, one thread prepares while it works for the other.
    usual = usable_cores() if jax.default_backend() == "cpu" else 2
    with ThreadPoolExecutor(workers or usual) as pool:
        return list(pool.map(analyze, images))


def usable_cores() -> int:
    """Cores of the processor that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
