"""Response maps that are smooth and known, around a small face, in the precision asked for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxface import PDMParameters
from jaxface.fit import PDM, ResponseFrame, ScaleConfig, shape_2d

POINTS, MODES, WINDOW = 9, 3, 11
SETTINGS = ScaleConfig(
    window=WINDOW, sigma=1.5, regularisation=5.0, weight_factor=0.0, iterations=5
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A fit at one scale; arrays of one precision."""

    pdm: PDM
    frame: ResponseFrame
    start: PDMParameters

    @property
    def parts(self) -> tuple[PDM, ResponseFrame, PDMParameters]:
        return self.pdm, self.frame, self.start


def make_case(seed: int = 0, dtype: type = np.float64) -> Case:
    """Ridges and peaks whose middles lie up to 2 cells off the landmarks of the start.

    Two landmarks are hidden; the maps are turned and scaled against the picture.
    """
    rng = np.random.default_rng(seed)

    def of(values: object) -> jax.Array:
        return jnp.asarray(values, dtype)

    pdm = PDM(
        mean_shape=of(rng.normal(0, 1, (POINTS, 3)) * [30, 30, 10]),
        components=of(rng.normal(0, 1 / np.sqrt(3 * POINTS), (MODES, POINTS, 3))),
        eigenvalues=of([60.0, 30.0, 10.0]),
    )
    start = PDMParameters(
        scale=of(1.6),
        rotation=of([0.1, -0.2, 0.15]),
        translation=of([80.0, 60.0]),
        local=of([2.0, -1.0, 0.5]),
    )
    cells = np.arange(WINDOW) - WINDOW // 2
    y, x = np.meshgrid(cells, cells, indexing="ij")
    responses = np.empty((POINTS, WINDOW, WINDOW))
    for row in responses:
        middle, turn = rng.uniform(-2, 2, 2), rng.uniform(0, np.pi)
        across, along = rng.uniform(0.7, 1.2), rng.uniform(1.0, 3.0)
        u = np.cos(turn) * (x - middle[0]) + np.sin(turn) * (y - middle[1])
        v = np.cos(turn) * (y - middle[1]) - np.sin(turn) * (x - middle[0])
        row[:] = 0.02 + np.exp(-0.5 * ((u / across) ** 2 + (v / along) ** 2))
    to_reference = 0.6 * np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    visible = np.arange(POINTS) % 5 != 4
    frame = ResponseFrame(
        responses=of(responses),
        landmarks=shape_2d(pdm, start),
        to_reference=of(to_reference),
        to_image=of(np.linalg.inv(to_reference)),
        visible=jnp.asarray(visible),
        confidence=of(rng.uniform(0.2, 1, POINTS)),
    )
    return Case(pdm, frame, start)
