"""Rows of results from what the device measured."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ..analyze import ActionUnits
from ..fit import reported_pdm
from ..models import Model
from ..output import FIELDS, CsvKind, Layout, Table, UnitNames, empty_table, join_tables
from ..pipeline import Config
from ..types import Camera
from ._follow import Tally
from ._origin import NO_ORIGIN, Origin
from ._results import Analysis

HostFace = Any  # a ClipFace whose arrays are NumPy's, where its fields are annotated with JAX's


class History(NamedTuple):
    """What the second pass over a clip needs of some frames."""

    intensity: Float[np.ndarray, "n u"]  # as predicted when the frame came
    presence: Bool[np.ndarray, "n c"]
    score_intensity: Float[np.ndarray, "n u"]  # without the person's medians
    score_presence: Float[np.ndarray, "n c"]
    accepted: Bool[np.ndarray, " n"]
    medians: Float[np.ndarray, " d"] | None = None  # after a clip's last frame; with that alone


class FaceBatch(NamedTuple):
    """Rows of some frames, in the order of the CSV."""

    table: Table  # without action units where `history` has what they come from
    accepted: Bool[np.ndarray, " n"]  # by the validator
    fhog: Float[np.ndarray, "n 4464"] | None = None
    aligned: UInt8[np.ndarray, "n s s 3"] | None = None
    tally: Tally = Tally()  # of these frames
    history: History | None = None


def to_batch(
    faces: HostFace,
    frame: Int[np.ndarray, " n"],
    face_id: Int[np.ndarray, " n"],
    timestamp: Float[np.ndarray, " n"],
    *,
    tally: Tally = Tally(),
    second_pass: bool = False,
) -> FaceBatch:
    """Rows on the host from faces with one leading axis.

    Args:
        faces: result of the compiled programs.
        frame: from 1.
        face_id: from 0.
        timestamp: s.
        tally: how the frames were tracked.
        second_pass: the action units are not final: keep them as history, not in the table.
    """
    face, scores = faces.face, faces.face.scores
    raw = faces.intensity, faces.presence
    history = History(*raw, scores.intensity, scores.presence, face.accepted)
    intensity, presence = (units[:, : 0 if second_pass else None] for units in raw)
    # Fields bear the names that they have in the records of the pipeline.
    measured = {
        name: getattr(record, name)
        for record in (face, face.gaze, face.parameters)
        for name in FIELDS
        if hasattr(record, name)
    }
    table = Table(
        **measured,
        frame=frame,
        face_id=face_id,
        timestamp=timestamp,
        au_intensity=intensity,
        au_presence=presence.astype(np.float32),
    )
    extras = face.fhog, face.aligned
    return FaceBatch(table, face.accepted, *extras, tally, history if second_pass else None)


def to_camera(camera: Camera) -> Camera:
    """Intrinsics on the device."""
    return Camera(*(jnp.asarray(value, jnp.float32) for value in camera))


def unit_heads(model: Model, config: Config) -> ActionUnits:
    """The action units that are predicted."""
    return model.analyser.image if config.static_action_units else model.analyser.video


def unit_names(model: Model, config: Config) -> UnitNames:
    """Action units that a model knows, in the order of their columns."""
    heads = unit_heads(model, config)
    return UnitNames(heads.intensity.names, heads.presence.names)


def no_faces(model: Model, config: Config) -> FaceBatch:
    """A batch without rows, with the columns of a model."""
    pdm = reported_pdm(model.clnf)
    layout = Layout(
        eye_landmarks=model.clnf.scheme.eye_count,
        eye_landmarks_3d=model.clnf.scheme.eye_count,
        landmarks=len(pdm.mean_shape),
        landmarks_3d=len(pdm.mean_shape),
        modes=len(pdm.eigenvalues),
        units=unit_names(model, config),
    )
    return FaceBatch(empty_table(layout), np.zeros(0, bool))


def join_batches(
    kind: CsvKind,
    units: UnitNames,
    batches: Sequence[FaceBatch],
    action_units: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    lanes: int = 1,
    origin: Origin = NO_ORIGIN,
) -> Analysis:
    """All rows as one analysis.

    Args:
        kind: whose CSV it makes.
        units: names of the action units.
        batches: at least one.
        action_units: intensity and presence of all rows, where the rows have none.
        lanes: that the clips were followed in.
        origin: where the rows come from.
    """
    table = join_tables(batch.table for batch in batches)
    columns = {name: getattr(table, name) for name in FIELDS}
    if action_units is not None:
        columns["au_intensity"], columns["au_presence"] = action_units
    fhog = [batch.fhog for batch in batches if batch.fhog is not None]
    aligned = [batch.aligned for batch in batches if batch.aligned is not None]
    return Analysis(
        **columns,
        kind=kind,
        units=units,
        lanes=lanes,
        origin=origin,
        fhog=np.concatenate(fhog) if fhog else None,
        aligned=np.concatenate(aligned) if aligned else None,
    )
