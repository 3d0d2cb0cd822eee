"""Linear heads by ridge regression, each over the region of the face where its unit shows.

A head is clipped to 0 to 5 where it is used, so a face without the unit may give it any negative
value: closed eyes are no failure of the head for wide ones. Such a face counts only where the
head is above zero.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from ...analyze import ActionUnits, LinearHeads
from ...fit import PDM
from ._features import CELL, CELLS, CHANNELS, FHOG, SCALE, SIDE
from ._labels import FULL, INTENSITY_UNITS, PRESENT, UNITS
from ._pictures import Faces

_REACH = 14.0  # mm around its landmarks within which a unit looks
_LEAST = (0.02, 0.2)  # spread of FHOG, and of geometry in mm, below which a feature says nothing
_NARROW = 1e-2  # intensity: rounds end when no target moves further
_RESTS = 1e-3  # intensity: difference from rest of a picture that shows nothing
_THRESHOLDS = np.linspace(0.1, 3.0, 59)  # of the intensity, for presence
_BROWS, _EYES, _MOUTH = (*range(17, 27),), (*range(36, 48),), (*range(48, 68),)
_EYE_CORNERS, _WINGS = (36, 39, 42, 45), (31, 35)
_PLACES: dict[str, tuple[int, ...]] = {  # landmarks where a unit shows; for others the mouth
    "AU01": (*_BROWS, 27, *_EYE_CORNERS),
    "AU02": (*_BROWS, 27, *_EYE_CORNERS),
    "AU04": (*_BROWS, 27, *_EYE_CORNERS),
    "AU05": (*_BROWS, *_EYES),
    "AU06": (*_EYES, *_MOUTH, *range(2, 5), *range(12, 15), 29, 30, *_WINGS),  # cheeks between
    "AU07": _EYES,
    "AU09": (21, 22, *range(27, 36), 39, 42, 50, 52),
    "AU26": (*_MOUTH, *range(4, 13), 33),
    "AU45": _EYES,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadsConfig:
    """Settings of the regression."""

    penalties: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)  # ascending; one is chosen per unit
    # Of the penalties that are at most this worse than the best, in correlation on the validation
    # people, the strongest is taken. Real faces differ from drawn ones; there such heads do better.
    slack: float = 0.02
    rounds: int = 30
    # How much cheaper geometry is than FHOG. Brows less so: fits place them badly under hair.
    geometry: float = 3.0
    brow_geometry: float = 1.0
    # Share of a clip's frames, at most, that show less of a unit than its zero level.
    cutoff: float = 0.4


@dataclasses.dataclass(frozen=True)
class UnitFit:
    """One unit's head: a feature vector gives weights @ features + bias."""

    weights: np.ndarray  # (d,)
    bias: float
    threshold: float  # intensity from which the unit counts as present
    curve: np.ndarray  # (penalties,) correlation on the validation people

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Intensities (n,), 0 to 5."""
        return np.clip(features @ self.weights + self.bias, 0, FULL)


def unit_columns(pdm: PDM, unit: str) -> np.ndarray:
    """Features (k,) that a unit's head looks at: FHOG near its landmarks, and their offsets.

    The PDM's coefficients are left out: they say the same as the offsets, of the whole face.
    """
    points = np.array(_PLACES.get(unit, (*_MOUTH, *_WINGS)))
    mean = np.asarray(pdm.mean_shape)
    middle = ((np.arange(CELLS) + 1) * CELL + (CELL - 1) / 2 - SIDE // 2) / SCALE
    x, y = np.meshgrid(middle, middle)
    away = np.stack([x, y], axis=-1)[:, :, None] - mean[points, :2]
    near = np.linalg.norm(away, axis=-1).min(axis=-1) < _REACH
    offsets = [FHOG + axis * len(mean) + points for axis in range(3)]
    return np.concatenate([np.flatnonzero(np.repeat(near.ravel(), CHANNELS)), *offsets])


def without_medians(faces: Faces) -> np.ndarray:
    """Features (n, d) less the median of their series, as a clip's dynamic heads see them."""
    changed = np.empty_like(faces.features)
    for number in np.unique(faces.series):
        rows = faces.series == number
        changed[rows] = faces.features[rows] - np.median(faces.features[rows], axis=0)
    return changed


def without_rest(faces: Faces) -> np.ndarray:
    """Features (n, d) less the mean of their series' pictures at rest.

    What the median of a long clip comes to; that of a dozen pictures, of which half show something,
    is blurred by it. Where no picture at rest was accepted, the median stands in.
    """
    resting = (np.abs(faces.intensity - faces.rest) < _RESTS).all(axis=1)
    changed = without_medians(faces)
    for number in np.unique(faces.series[resting]):
        rows = faces.series == number
        changed[rows] -= changed[rows & resting].mean(axis=0)
    return changed


def targets(faces: Faces, *, dynamic: bool) -> np.ndarray:
    """Intensities (n, units) that heads are to give; dynamic ones, what rest does not show."""
    return faces.intensity - faces.rest if dynamic else faces.intensity


class Regression:
    """Ridge regression over some of the features, which are standardised once."""

    def __init__(self, features: np.ndarray) -> None:
        self.mean = features.mean(axis=0)
        least = np.where(np.arange(features.shape[1]) < FHOG, *_LEAST)
        self.factor = (1 / np.maximum(features.std(axis=0), least)).astype(np.float32)
        self.rows = (features - self.mean) * self.factor
        self.gram = self.rows.T @ self.rows / len(features)

    def solve(
        self,
        target: np.ndarray,
        absent: np.ndarray,
        columns: np.ndarray,
        weight: np.ndarray,
        penalty: float,
        rounds: int,
    ) -> tuple[np.ndarray, float]:
        """Weights (d,) and bias.

        Args:
            target: (n,) intensity.
            absent: (n,) rows whose target is only an upper bound.
            columns: (k,) features used.
            weight: (k,) by which their standardised values are multiplied.
            penalty: on the squared weights.
            rounds: at most.
        """
        rows = self.rows[:, columns] * weight
        gram = self.gram[np.ix_(columns, columns)] * np.outer(weight, weight)
        ridge = gram + np.float32(penalty) * np.eye(len(columns), dtype=np.float32)
        inverse, bounded = np.linalg.inv(ridge), target
        solution, middle = np.zeros(len(columns), np.float32), float(target.mean())
        for _ in range(rounds):
            middle = float(bounded.mean())
            solution = inverse @ (rows.T @ (bounded - np.float32(middle)) / len(rows))
            moved = np.where(absent, np.minimum(rows @ solution + middle, target), target)
            settled = np.abs(moved - bounded).max() < _NARROW
            bounded = moved
            if settled:
                break
        weights = np.zeros(len(self.factor), np.float32)
        weights[columns] = solution * weight * self.factor[columns]
        return weights, middle - float(self.mean @ weights)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's; 0 where one of them does not vary, or there is nothing."""
    if not len(first):
        return 0.0
    spread = float(first.std() * second.std())
    covariance = float(((first - first.mean()) * (second - second.mean())).mean())
    return covariance / spread if spread > 0 else 0.0


def f1_score(found: np.ndarray, truth: np.ndarray) -> float:
    """Harmonic mean of precision and recall of (n,) bool."""
    return 2 * float((found & truth).sum()) / max(int(found.sum() + truth.sum()), 1)


def fit_units(
    train: Faces, validation: Faces, pdm: PDM, config: HeadsConfig, *, dynamic: bool
) -> dict[str, UnitFit]:
    """Fits the heads of all units; validation chooses penalties and thresholds."""
    rows = train.features, validation.features
    if dynamic:
        rows = without_rest(train), without_medians(validation)
    wanted, checked = (targets(faces, dynamic=dynamic) for faces in (train, validation))
    regression = Regression(rows[0])
    fits = {}
    for u, unit in enumerate(UNITS):
        columns = unit_columns(pdm, unit)
        cheap = config.brow_geometry if set(_BROWS) <= set(_PLACES.get(unit, ())) else None
        weight = np.where(columns < FHOG, 1, cheap or config.geometry).astype(np.float32)
        absent, truth = train.intensity[:, u] == 0, np.clip(checked[:, u], 0, FULL)
        tried = []
        for penalty in config.penalties:
            found = regression.solve(wanted[:, u], absent, columns, weight, penalty, config.rounds)
            tried.append(UnitFit(*found, 0.0, np.zeros(0)))
        curve = np.array([correlation(fit(rows[1]), truth) for fit in tried])
        best = rescale_head(tried[choose_penalty(curve, config.slack)], rows[1], truth)
        values, present = best(rows[1]), truth >= PRESENT
        scores = [f1_score(values > t, present) for t in _THRESHOLDS]
        threshold = float(_THRESHOLDS[int(np.argmax(scores))])
        fits[unit] = dataclasses.replace(best, threshold=threshold, curve=curve)
    return fits


def choose_penalty(curve: np.ndarray, slack: float) -> int:
    """Number of the strongest penalty that is hardly worse than the best.

    Args:
        curve: (p,) correlation that each penalty reaches, the weakest penalty first.
        slack: how much less correlation counts as hardly worse.
    """
    return int(np.flatnonzero(curve >= curve.max() - slack)[-1])


def rescale_head(fit: UnitFit, features: np.ndarray, truth: np.ndarray) -> UnitFit:
    """The head with the gain, of its weights and bias, that meets the truth best where it shows.

    A strong penalty makes intensities small.
    """
    found = fit(features)
    square = float(found @ found)
    gain = float(found @ truth) / square if square > 0 else 1.0
    return dataclasses.replace(fit, weights=fit.weights * np.float32(gain), bias=fit.bias * gain)


def pack_heads(
    fits: dict[str, UnitFit], mean: np.ndarray, *, dynamic: bool, cutoff: float
) -> ActionUnits:
    """The heads in the form that analysis takes.

    Args:
        mean: (d,) of the features, which analysis subtracts first.
        cutoff: of the dynamic intensity heads.
    """

    def stack(names: tuple[str, ...], shift: bool, cut: float) -> LinearHeads:
        weights = np.stack([fits[name].weights for name in names])
        bias = np.array([fits[n].bias - (fits[n].threshold if shift else 0) for n in names])
        ones = jnp.ones(len(names), jnp.float32)
        return LinearHeads(
            names=names,
            weights=jnp.asarray(weights, jnp.float32),
            bias=jnp.asarray(bias + weights.astype(np.float64) @ mean, jnp.float32),
            dynamic=jnp.full(len(names), dynamic),
            cutoff=cut * ones,
            positive=ones,
            negative=0 * ones,
        )

    names = tuple(sorted(fits))
    graded = tuple(name for name in names if name in INTENSITY_UNITS)
    return ActionUnits(
        mean=jnp.asarray(mean, jnp.float32),
        intensity=stack(graded, False, cutoff if dynamic else -1.0),
        presence=stack(names, True, -1.0),
    )
