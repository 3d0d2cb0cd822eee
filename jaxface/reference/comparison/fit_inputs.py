"""OpenFace's intermediates as inputs of `jaxface.fit`."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ...fit import AnyCLNF, LandmarkModel, ResponseFrame, ScaleConfig
from ...types import PDMParameters
from .. import pdm as reference
from . import golden_fits
from .golden_fits import ScaleRecord, Stage

# All seven views of the main and the inner model, a large and a small face, a tracked frame.
STAGES = ("sample1", "sample4", "sample5_multiview", "default_track_f030")
CEN_STAGES = ("ceclm_sample1", "ceclm_default_track_f030")
_CANVAS = (578, 640)  # holds every stage's picture, so that each program is compiled once


@functools.cache
def read_stage(golden_dir: Path, name: str) -> Stage:
    return Stage(golden_dir, name)


def models_of(clnf: AnyCLNF) -> dict[str, LandmarkModel]:
    """The landmark models by their names in the records."""
    return {"main": clnf.main, **{part.name: part.model for part in clnf.parts}}


def put_on_canvas(stage: Stage) -> tuple[jax.Array, jax.Array]:
    """The picture on black, and its height and width."""
    canvas = np.zeros(_CANVAS, np.float32)
    height, width = stage.gray.shape
    canvas[:height, :width] = stage.gray
    return jnp.asarray(canvas), jnp.asarray([height, width], jnp.int32)


def last_run(stage: Stage, key: str) -> str:
    """Suffix of the last run under a key: CE-CLM fits coarse first, then the other scales."""
    return "__2" if f"{key}__2" in stage.arrays else ""


def to_parameters(golden: golden_fits.Parameters) -> PDMParameters:
    return PDMParameters(
        scale=jnp.asarray(golden.scale, jnp.float32),
        rotation=jnp.asarray(golden.rotation, jnp.float32),
        translation=jnp.asarray(golden.translation, jnp.float32),
        local=jnp.asarray(golden.local, jnp.float32),
    )


def to_reference(parameters: PDMParameters) -> reference.Parameters:
    rotation, translation, local = (
        np.asarray(leaf, np.float64)
        for leaf in (parameters.rotation, parameters.translation, parameters.local)
    )
    return reference.Parameters(float(parameters.scale), rotation, translation, local)


def to_frame(model: LandmarkModel, record: ScaleRecord) -> ResponseFrame:
    """OpenFace's response maps; those of invisible landmarks are left over and set to 0."""
    experts = model.experts[record.index]
    visible = experts.visible[record.view]
    confidence = experts.confidences(jnp.asarray(record.view))
    return ResponseFrame(
        responses=jnp.where(visible[:, None, None], record.responses, 0),
        landmarks=jnp.asarray(record.landmarks),
        to_reference=jnp.asarray(record.to_reference),
        to_image=jnp.asarray(record.to_image),
        visible=visible,
        confidence=confidence,
    )


def to_config(record: ScaleRecord) -> ScaleConfig:
    return ScaleConfig(
        window=record.window,
        sigma=record.sigma,
        regularisation=record.regularisation,
        weight_factor=record.weight_factor,
        iterations=record.iterations,
    )


def error(found, expected) -> float:
    """Largest absolute difference of arrays of one shape."""
    assert np.shape(found) == np.shape(expected)
    return float(np.abs(np.asarray(found, np.float64) - np.asarray(expected)).max())
