"""Action units of a clip from given landmarks, each stage by itself."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jaxface import Model

from ...analyze import (
    ActionUnits,
    Scores,
    align_face,
    baseline_medians,
    extract_fhog,
    geometry_descriptor,
    init_baseline,
    label_presence,
    postprocess_clip,
    repredict_clip,
    score_action_units,
    update_baseline,
)
from ...fit import fit_pdm_to_landmarks
from .clips import Data, load, open_clip

Units = tuple[Float[np.ndarray, "n 17"], Float[np.ndarray, "n 18"]]


def appearance(model: Model) -> Callable:
    """Aligned face and geometry descriptor from a picture and its landmarks."""
    pdm = model.analyser.pdm

    def run(image, landmarks):
        refitted = fit_pdm_to_landmarks(pdm, landmarks)
        face = align_face(image, landmarks, refitted, pdm, model.clnf.scheme)
        return face.image, geometry_descriptor(pdm, refitted)

    return run


def units_from_landmarks(
    data: Data,
    clip: str,
    landmarks: Float[np.ndarray, "n 68 2"],
    success: Bool[np.ndarray, " n"],
) -> tuple[Units, Units]:
    """Intensity and presence from the frames and given landmarks: adapted, and static.

    Raises:
        ValueError: a frame failed; these have no landmarks.
    """
    if not success.all():
        raise ValueError("success: expected it in all frames")
    model = load(data, "openface")
    measure, analyser = appearance(model), model.analyser

    @jax.jit
    def step(state, image, landmarks):
        aligned, geometry = measure(image.astype(jnp.float32), landmarks)
        fhog = extract_fhog(aligned)
        state = update_baseline(state, fhog, geometry, jnp.asarray(True))
        video = score_action_units(analyser.video, fhog, geometry)
        return state, (video, score_action_units(analyser.image, fhog, geometry))

    state, rows = init_baseline(), []
    for image, points in zip(open_clip(data, clip), landmarks, strict=True):
        state, scores = step(state, jnp.asarray(image), points)
        rows.append(jax.tree.map(np.asarray, scores))
    video, still = jax.tree.map(lambda *leaves: np.stack(leaves), *rows)
    medians = np.asarray(baseline_medians(state))
    intensity, presence = repredict_clip(
        analyser.video, *_raw(analyser.video, video), *_values(video), medians, success
    )
    return (
        postprocess_clip(analyser.video, intensity, presence, success, dynamic=True),
        postprocess_clip(analyser.image, *_raw(analyser.image, still), success, dynamic=False),
    )


def _values(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(scores.intensity), np.asarray(scores.presence)


def _raw(units: ActionUnits, scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """Intensity and label per frame, as if no person had been seen before."""
    intensity, decision = _values(scores)
    labels = jax.vmap(label_presence, (None, 0))(units.presence, jnp.asarray(decision))
    return intensity.astype(np.float64), np.asarray(labels)
