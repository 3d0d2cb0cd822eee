"""Where fits of training pictures end, right or wrong: what the validator has to tell apart.

A fit that went wrong looks more like a face than a random start does, for it has found edges to
hold on to.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ...fit import (
    CLNF,
    PDM,
    CCNFExperts,
    FitConfig,
    LandmarkModel,
    OneRound,
    Phase,
    PreparedCLNF,
    Validator,
    empty_fit,
    parameters_from_box,
    prepare_clnf,
    refine_fit,
)
from ...types import MULTI_PIE_68, PDMParameters
from ._expert_data import Source
from ._measure_fit import jittered_boxes
from ._starts import Starts

# Pitch, yaw and roll, degrees, that fits start from; a face is mostly near one of them.
_STARTS = ((0, 0, 0), (0, 0, 0), (0, -30, 0), (0, 30, 0), (0, 0, 30), (0, 0, -30))
_CONFIG = FitConfig(refine_parts=False)


def fitted_starts(
    pdm: PDM,
    experts: tuple[CCNFExperts, ...],
    blank: Validator,
    source: Source,
    rows: np.ndarray,
    rng: np.random.Generator,
) -> Starts:
    """Fits some pictures, each from one rotation at random, in boxes that are a little off.

    Args:
        experts: without banks.
        blank: any validator of the PDM.
        rows: numbers of the pictures.
    """
    clnf = CLNF(
        main=LandmarkModel(pdm, experts),
        parts=(),
        validator=blank,
        search=OneRound(),
        scheme=MULTI_PIE_68,
        config=_CONFIG,
    )
    prepared = prepare_clnf(clnf)
    boxes = jittered_boxes(source.pictures.landmarks[rows], rng)
    turns = np.radians(np.array(_STARTS, np.float32)[rng.integers(len(_STARTS), size=len(rows))])
    found = [
        jax.tree.map(np.asarray, _fit(prepared, jnp.asarray(source.pictures.gray[row]), box, turn))
        for row, box, turn in zip(rows, boxes, turns, strict=True)
    ]
    together: PDMParameters = jax.tree.map(lambda *leaves: np.stack(leaves), *found)
    return Starts(together.scale, together.rotation, together.translation, together.local)  # pyright: ignore[reportArgumentType]


@eqx.filter_jit
def _fit(clnf: PreparedCLNF, gray: Array, box: Array, turn: Array) -> PDMParameters:
    first = eqx.tree_at(
        lambda fit: fit.parameters,
        empty_fit(clnf),
        parameters_from_box(clnf.main.pdm, jnp.asarray(box), jnp.asarray(turn)),
    )
    fit = refine_fit(
        *(clnf, gray.astype(jnp.float32), first),
        size=jnp.asarray(gray.shape),
        config=_CONFIG,
        phase=jnp.asarray(int(Phase.INIT)),
        phases=(Phase.INIT,),
    )
    return fit.parameters
