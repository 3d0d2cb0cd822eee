"""Landmarks of a series as the model finds them, one picture after the other as in a clip.

What fits miss is no noise: they follow brows and cheeks less far than these move, and take a part
of a turn for a change of shape. Heads must learn from landmarks that are wrong in just this way.
"""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, UInt8

from ...fit import (
    CLNF,
    FitConfig,
    Phase,
    PreparedCLNF,
    empty_fit,
    fit_config,
    fit_pdm_to_landmarks,
    prepare_clnf,
    refine_fit,
    shape_2d,
)
from ...ops import to_gray
from ...types import Fit

_PHASES = (Phase.TRACK,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FollowConfig:
    """How the pictures of a series are fitted.

    Each starts from the shape found in the picture before it, and near the true pose: in a clip a
    head has turned little since the last frame, and an expression comes within several.
    """

    fits: int = 3  # of each picture, one from the other
    rotation: float = 4.0  # degrees, standard deviation of the starts
    scale: float = 0.03  # of the scale, likewise
    translation: float = 1.5  # mm, likewise


class Follower:
    """The landmark model, ready to follow series."""

    def __init__(self, clnf: CLNF, config: FollowConfig):
        """Prepares the model.

        Args:
            clnf: without banks, as `assemble_clnf` gives it.
        """
        self._settings, self._config = fit_config(clnf), config
        self._clnf = prepare_clnf(clnf, self._settings)

    def follow(
        self, rng: np.random.Generator, images: np.ndarray, landmarks: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fits a series.

        Args:
            images: (k, h, w, 3) uint8 RGB.
            landmarks: (k, 68, 2) px, the true ones, near which fits start.

        Returns:
            Landmarks (k, 68, 2), px, and whether the validator accepts them (k,).
        """
        config, count = self._config, len(images)
        turns = np.radians(config.rotation) * rng.normal(size=(count, 3))
        grown = np.exp(config.scale * rng.normal(size=count))
        moved = config.translation * rng.normal(size=(count, 2))
        noise = np.concatenate([turns, grown[:, None], moved], axis=1).astype(np.float32)
        rows = jnp.asarray(images), jnp.asarray(landmarks), jnp.asarray(noise)
        found, accepted = _follow(self._clnf, *rows, self._settings, config.fits)
        return np.asarray(found), np.asarray(accepted)


@eqx.filter_jit
def _follow(
    clnf: PreparedCLNF,
    images: UInt8[Array, "k h w 3"],
    landmarks: Float[Array, "k 68 2"],
    noise: Float[Array, "k 6"],
    config: FitConfig,
    fits: int,
) -> tuple[Float[Array, "k 68 2"], Bool[Array, " k"]]:
    size = jnp.asarray(images.shape[1:3])

    def step(before: Fit, row: tuple[Array, ...]) -> tuple[Fit, tuple[Array, Array]]:
        image, points, off = row
        gray = to_gray(image)
        true = fit_pdm_to_landmarks(clnf.main.pdm, points)
        start = dataclasses.replace(
            true,
            rotation=true.rotation + off[:3],
            scale=true.scale * off[3],
            translation=true.translation + true.scale * off[4:],
            local=before.parameters.local,
        )
        first = eqx.tree_at(lambda fit: fit.parameters, before, start)

        def refine(_: Array, fit: Fit) -> Fit:
            return refine_fit(
                *(clnf, gray, fit), size=size, config=config, phase=Phase.TRACK, phases=_PHASES
            )

        fit = lax.fori_loop(0, fits, refine, first)
        return fit, (shape_2d(clnf.main.pdm, fit.parameters), fit.success)

    return lax.scan(step, empty_fit(clnf), (images, landmarks, noise))[1]
