"""The analysis behind the command line: one model, loaded once, for all inputs."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from ..models import Model, load_model
from ..output import UnitNames
from ..pipeline import Config, default_config, prepare_model
from ..run import (
    Extras,
    FaceBatch,
    History,
    analyze_chunks,
    analyze_image,
    open_clip,
    second_pass,
    unit_names,
)
from ._run import FaceRecord, Options, Process, Results, Source


def load_process(options: Options) -> Process:
    """Loads the model and prepares the analysis of frames.

    Args:
        options: model, faces and settings; the file options are not looked at.
    Returns:
        What `run_job` calls for every input.
    Raises:
        ModelFileError: the model is not installed or damaged.
    """
    model = load_model(options.model, wild=options.wild)
    config = default_config(model, wild=options.wild, multi_view=options.multi_view)
    model = prepare_model(model, config)
    extras = Extras(fhog=options.hog, aligned=options.aligned)

    def process(source: Source) -> Results:
        static = options.static or source.mode == "image" or source.faces == "all"
        settings = dataclasses.replace(config, static_action_units=static)
        if source.mode == "image":
            return _ImageResults(model, source, settings, extras)
        return _ClipResults(model, source, settings, extras, options.at_once)

    return process


class _ImageResults:
    """Faces of one image."""

    def __init__(self, model: Model, source: Source, config: Config, extras: Extras):
        self._model, self._source, self._config, self._extras = model, source, config, extras
        self.units = unit_names(model, config)

    def __iter__(self) -> Iterator[FaceRecord]:
        for frame in self._source.frames:
            found = analyze_image(
                self._model,
                frame,
                camera=self._source.camera,
                config=self._config,
                extras=self._extras,
            )
            batch = FaceBatch(found, found.success, found.fhog, found.aligned)
            if self._source.faces == "one":
                batch = _widest(batch)
            yield from _records(batch, batch.accepted)

    def action_units(self) -> None:
        return None


class _ClipResults:
    """Faces of a clip."""

    def __init__(self, model: Model, source: Source, config: Config, extras: Extras, at_once: bool):
        self._histories: list[History | None] = []
        self._clip = open_clip(
            model,
            source.frames,
            camera=source.camera,
            timestamp=source.timestamp,
            faces=source.faces,
            config=config,
            extras=extras,
            at_once=at_once,
        )

    @property
    def units(self) -> UnitNames:
        return self._clip.units

    def __iter__(self) -> Iterator[FaceRecord]:
        for batch in analyze_chunks(self._clip):
            self._histories.append(batch.history)
            one = self._clip.kind == "video"
            yield from _records(batch, batch.table.success if one else batch.accepted)

    def action_units(self) -> Iterator[tuple[np.ndarray, np.ndarray]] | None:
        units = second_pass(self._clip, self._histories)
        return None if units is None else zip(*units, strict=True)


def _widest(batch: FaceBatch) -> FaceBatch:
    """The face with the widest landmarks alone."""
    x = batch.table.landmarks[..., 0]
    if not len(x):
        return batch
    widest = int(np.argmax(np.ptp(x, axis=1)))
    keep = slice(widest, widest + 1)
    table = dataclasses.replace(batch.table[keep], face_id=np.zeros(1, int))
    fhog, aligned = (None if e is None else e[keep] for e in (batch.fhog, batch.aligned))
    return FaceBatch(table, batch.accepted[keep], fhog, aligned)


def _records(batch: FaceBatch, hog_valid: np.ndarray) -> Iterator[FaceRecord]:
    """Row by row what is written."""
    for i, row in enumerate(batch.table):
        yield FaceRecord(
            row,
            None if batch.fhog is None else batch.fhog[i],
            bool(hog_valid[i]),
            None if batch.aligned is None else batch.aligned[i],
        )
