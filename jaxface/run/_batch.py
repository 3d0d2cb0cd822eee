"""Many clips at once: in lanes that share a CPU, or spread over devices and lanes of each."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax

from ..io import check_camera
from ..models import Model
from ..pipeline import Config, default_config, prepare_model
from ..types import Camera
from ._checks import AnyImage, refuse_tracers
from ._clip import Clip, analyze_chunks, collect_clip, open_clip
from ._devices import Devices
from ._images import usable_cores
from ._lanes import LaneTracker, choose_lanes, plan_lanes
from ._programs import Extras
from ._results import Analysis

_Device = Any  # jax.Device, which type checkers take for a variable
_ON_ACCELERATOR = 64  # lanes of one, where there are so many clips


def analyze_batch(
    model: Model,
    videos: Sequence[str | Path | Iterable[AnyImage]],
    *,
    fps: float | None = None,
    camera: Camera | None = None,
    config: Config | None = None,
    extras: Extras = Extras(),
    lanes: int | None = None,
    devices: Sequence[_Device] | None = None,
) -> list[Analysis | Exception]:
    """Analyses many clips of one face each, some of them at a time.

    Clips step together, each in a lane: what they share is computed once, and a device has more to
    do at a time. A lane whose clip ends takes the next. Clips whose frames have the same canvas
    are taken together, as only they share a program.

    A clip's result depends on the clip, the settings and the number of lanes alone, never on the
    other clips. With one lane it is that of `analyze_video`, elsewhere within the noise of the fit:
    landmarks by 0.02 px in the mean.

    Args:
        model: see `load_model`.
        videos: video files, folders of images, or RGB frames (h, w, 3), 0 to 255.
        fps: of all clips; by default the files'.
        camera: of all clips; by default OpenFace's guess from each frame size.
        config: settings; by default `default_config(model)`.
        extras: large arrays to bring back.
        lanes: clips to follow at a time, on all devices together; rounded up to a multiple of
            their number. By default what suits the device and the number of clips, and one for
            each device where they are several CPUs. `Analysis.lanes` tells it.
        devices: by default all of JAX's default backend.
    Returns:
        For each clip, in order, its analysis, or what `analyze_video` would have raised for it.
    Raises:
        ValueError: `devices` is empty, or `lanes` below 1.
        TypeError: it is traced by jax.jit or another transformation.
    """
    refuse_tracers("analyze_batch", model, videos, camera)
    devices = jax.devices() if devices is None else devices
    if not len(devices):
        raise ValueError("devices: expected at least one, got none: leave it out to use all")
    if lanes is not None and lanes < 1:
        raise ValueError(f"lanes: expected at least 1, got {lanes}: leave it out to have it chosen")
    camera = check_camera(camera)  # one that is wrong for all clips fails at once
    config = default_config(model) if config is None else config
    lanes = lanes_for(len(videos), devices) if lanes is None else lanes
    results: list[Any] = [None] * len(videos)
    clips: list[tuple[int, Clip]] = []
    model = prepare_model(model, config)
    for number, video in enumerate(videos):
        try:
            clip = open_clip(model, video, fps=fps, camera=camera, config=config, extras=extras)
            clips.append((number, clip))
        except Exception as error:  # of this clip alone
            results[number] = error
    clips.sort(key=lambda clip: clip[1].canvas)
    if len(devices) == 1 and devices[0] == jax.local_devices(backend="cpu")[0]:
        analyzed = _share_cpu(model, config, clips, lanes)
    else:
        analyzed = Devices(model, config, extras, devices, lanes).run(clips)
    for number, result in analyzed:
        results[number] = result
    return results


def lanes_for(clips: int, devices: Sequence[_Device]) -> int:
    """Lanes in which devices follow so many clips best.

    Args:
        clips: of the batch.
        devices: that are used, of one kind.
    """
    if devices[0].platform != "cpu":
        share = -(-clips // len(devices))
        return len(devices) * min(_ON_ACCELERATOR, 1 << max(share - 1, 0).bit_length())
    return choose_lanes(clips, usable_cores()) if len(devices) == 1 else len(devices)


def _share_cpu(
    model: Model, config: Config, clips: Sequence[tuple[int, Clip]], lanes: int
) -> Iterator[tuple[int, Analysis | Exception]]:
    """Each clip in a thread of its own, so many at a time."""
    if lanes == 1:
        for number, clip in clips:
            yield number, _analyze(clip, lanes)
        return
    with (
        LaneTracker(model, config, plan_lanes(lanes)) as tracker,
        ThreadPoolExecutor(lanes) as pool,
    ):

        def analyze(clip: Clip) -> Analysis | Exception:
            with tracker.seat():
                return _analyze(clip, lanes)

        jobs = [(n, pool.submit(analyze, clip.in_lanes(tracker))) for n, clip in clips]
        for number, job in jobs:
            yield number, job.result()


def _analyze(clip: Clip, lanes: int) -> Analysis | Exception:
    try:
        return collect_clip(clip, list(analyze_chunks(clip)), lanes=lanes)
    except Exception as error:  # of this clip alone
        return error
