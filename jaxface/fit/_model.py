"""The landmark model: a main PDM with patch experts, its hierarchical parts and the validator."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ._pdm import PDM
from ._validator import Validator
from .experts import PatchExperts
from .search import ShapeRegressor


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartConfig:
    """Fixed fitting settings of a hierarchical part (specification 02, D.1)."""

    windows: tuple[int, ...]  # one per scale
    sigma: float
    regularisation: float
    weight_factor: float
    iterations: int = 5


class LandmarkModel(eqx.Module):
    """A PDM and its patch experts, coarse to fine."""

    pdm: PDM
    experts: tuple[PatchExperts, ...]


class Part(eqx.Module):
    """A hierarchical part; point `part_points[i]` is the main model's `main_points[i]`."""

    name: str = eqx.field(static=True)  # inner, left_eye_28, right_eye_28
    config: PartConfig = eqx.field(static=True)
    main_points: tuple[int, ...] = eqx.field(static=True)
    part_points: tuple[int, ...] = eqx.field(static=True)
    model: LandmarkModel


class EarlyTermination(eqx.Module):
    """Per-view test that ends the search over hypotheses (CE-CLM; specification 01, B.6.4)."""

    weights: Float[Array, " v"]
    biases: Float[Array, " v"]
    cutoffs: Float[Array, " v"]


class CLNF(eqx.Module):
    """Constrained local model with its parts: CLNF, CE-CLM or CLM by the kind of its experts."""

    main: LandmarkModel
    parts: tuple[Part, ...]
    validator: Validator
    early_termination: EarlyTermination | None
    triangles: Int[Array, "t 3"]  # of the 68 points, 111 triangles
    # Landmarks as they are reported, of the parameters of `main.pdm`; None: as they are fitted.
    reported: PDM | None = None
    regressor: ShapeRegressor | None = None  # a search starts from its guess
    # Of each of `part_groups`; computed, see prepare_clnf.
    stacks: tuple[LandmarkModel, ...] = ()


def part_groups(parts: tuple[Part, ...]) -> list[list[int]]:
    """Numbers of the parts of one structure, such as the two eyes: one mapped program fits them."""
    groups: dict[object, list[int]] = {}
    for i, part in enumerate(parts):
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(part.model))
        key = (jax.tree.structure(part.model), shapes, part.config, part.part_points)
        groups.setdefault(key, []).append(i)
    return list(groups.values())


def stack_parts(parts: tuple[Part, ...]) -> tuple[LandmarkModel, ...]:
    """The models of each group, stacked; that of a part alone as it is."""
    groups = [[parts[i].model for i in members] for members in part_groups(parts)]
    return tuple(
        models[0] if len(models) == 1 else jax.tree.map(lambda *x: jnp.stack(x), *models)
        for models in groups
    )
