"""The analysis behind the command line: one model, loaded once, for all inputs."""

import contextlib
import dataclasses
from collections.abc import Iterator

import jax
import numpy as np

from ..models import Model, load_model, model_digest
from ..output import UnitNames
from ..pipeline import Config, default_config, prepare_model
from ..run import (
    Clip,
    Extras,
    FaceBatch,
    History,
    LaneTracker,
    analyze_chunks,
    analyze_image,
    lanes_for,
    open_clip,
    plan_lanes,
    second_pass,
    unit_names,
)
from ._aligned import Redrawing
from ._record import Described
from ._run import FaceRecord, Options, Results, Source


def load_process(options: Options) -> "Engine":
    """Loads the model and prepares the analysis of frames.

    Args:
        options: model, faces and settings; the file options are not looked at.
    Returns:
        What `run_job` calls for every input.
    Raises:
        ModelFileError: the model is not installed or damaged.
    """
    return Engine(options)


class Engine:
    """Analyses frames: a `Process`."""

    def __init__(self, options: Options):
        """Loads the model; see `load_process`."""
        model = load_model(options.model, wild=options.wild)
        config = default_config(model, wild=options.wild, multi_view=options.multi_view)
        if options.fit is not None:
            config = dataclasses.replace(config, fit=options.fit)
        self._options, self._config = options, config
        self._model = prepare_model(model, config)
        self._lanes: LaneTracker | None = None

    def __call__(self, source: Source) -> Results:
        """Begins the analysis of one input."""
        options = self._options
        pictures, redrawing = options.aligned_files.config, None
        extras = Extras(fhog=options.hog, aligned=options.aligned and pictures is None)
        if options.aligned and pictures is not None:
            redrawing = Redrawing(self._model, pictures)
            source = source._replace(frames=redrawing.watch(source.frames))
        if source.mode == "image":
            settings = self._settings(source)
            return _ImageResults(self._model, source, settings, extras, redrawing)
        lanes = self._lanes if source.faces == "one" else None
        clip = self.open(source, extras)
        return _ClipResults(clip if lanes is None else clip.in_lanes(lanes), redrawing)

    def open(self, source: Source, extras: Extras = Extras()) -> Clip:
        """A clip as it is going to be analysed."""
        return open_clip(
            self._model,
            source.frames,
            camera=source.camera,
            timestamp=source.timestamp,
            lost=source.lost,
            faces=source.faces,
            config=self._settings(source),
            extras=extras,
            at_once=self._options.at_once,
        )

    def _settings(self, source: Source) -> Config:
        static = self._options.static or source.mode == "image" or source.faces == "all"
        return dataclasses.replace(self._config, static_action_units=static)

    def describe(self, lanes: int) -> Described:
        """What the records of results say about this analysis.

        Args:
            lanes: that clips of one face are followed in.
        """
        return Described(
            model={"name": self._model.info.name, "sha256": model_digest(self._options.model)},
            config=dataclasses.asdict(self._config),
            device=f"{jax.devices()[0].platform} {jax.devices()[0].device_kind}",
            lanes=lanes,
        )

    def count_lanes(self, clips: int) -> int:
        """Clips of one face to follow at a time, of so many."""
        chosen = 1 if self._options.at_once else lanes_for(clips, jax.devices()[:1])
        return self._options.lanes or chosen

    @contextlib.contextmanager
    def share(self, lanes: int) -> Iterator[LaneTracker]:
        """Within it clips of one face are tracked together, each in a `seat` of its own."""
        config = dataclasses.replace(self._config, static_action_units=self._options.static)
        with LaneTracker(self._model, config, plan_lanes(lanes)) as self._lanes:
            try:
                yield self._lanes
            finally:
                self._lanes = None


class _ImageResults:
    """Faces of one image."""

    def __init__(
        self,
        model: Model,
        source: Source,
        config: Config,
        extras: Extras,
        redrawing: Redrawing | None,
    ):
        self._model, self._source, self._config, self._extras = model, source, config, extras
        self._redrawing = redrawing
        self.units = unit_names(model, config)

    def __iter__(self) -> Iterator[FaceRecord]:
        for frame in self._source.frames:
            found = analyze_image(
                self._model,
                frame,
                boxes=self._source.boxes,
                camera=self._source.camera,
                config=self._config,
                extras=self._extras,
            )
            batch = FaceBatch(found.table(), found.success, found.fhog, found.aligned)
            if self._redrawing is not None:
                batch = self._redrawing.draw(batch, np.ones(len(batch.table), bool), 1)
            if self._source.faces == "one":
                batch = _widest(batch)
            yield from _records(batch, batch.accepted)

    def action_units(self) -> None:
        return None


class _ClipResults:
    """Faces of a clip."""

    def __init__(self, clip: Clip, redrawing: Redrawing | None):
        self._histories: list[History | None] = []
        self._clip, self._redrawing = clip, redrawing

    @property
    def units(self) -> UnitNames:
        return self._clip.units

    def __iter__(self) -> Iterator[FaceRecord]:
        for batch in analyze_chunks(self._clip):
            self._histories.append(batch.history)
            one = self._clip.kind == "video"
            if self._redrawing is not None:
                drawn = batch.accepted if one else np.ones(len(batch.table), bool)
                batch = self._redrawing.draw(batch, drawn, batch.tally.frames)
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
            bool(batch.accepted[i]),
        )
