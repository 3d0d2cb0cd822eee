"""The landmark model: a main PDM with patch experts, its parts, its validator and its search."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from ..types import LandmarkScheme
from ._config import FitConfig
from ._origin import Origin
from ._pdm import PDM
from ._validator import PreparedValidator, Validator
from .experts import AbstractPatchExperts
from .search import AbstractSearch


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartConfig:
    """Fixed fitting settings of a hierarchical part (specification 02, table D.1)."""

    windows: tuple[int, ...]  # one per scale
    sigma: float
    regularisation: float
    weight_factor: float
    iterations: int = 5


class LandmarkModel(eqx.Module):
    """A PDM and its patch experts, coarse to fine."""

    pdm: PDM
    experts: tuple[AbstractPatchExperts, ...]


class Part(eqx.Module):
    """A hierarchical part; point `part_points[i]` is the main model's `main_points[i]`."""

    name: str = eqx.field(static=True)  # inner, left_eye_28, right_eye_28
    config: PartConfig = eqx.field(static=True)
    main_points: tuple[int, ...] = eqx.field(static=True)
    part_points: tuple[int, ...] = eqx.field(static=True)
    model: LandmarkModel


class PartGroup(eqx.Module):
    """Parts of one structure, such as the two eyes: one mapped program fits them all."""

    places: tuple[int, ...] = eqx.field(static=True)  # in the order of the model's parts
    names: tuple[str, ...] = eqx.field(static=True)
    config: PartConfig = eqx.field(static=True)
    main_points: tuple[tuple[int, ...], ...] = eqx.field(static=True)  # of each part
    part_points: tuple[int, ...] = eqx.field(static=True)
    model: LandmarkModel  # with one more leading axis where there are several parts

    def part_pdm(self, row: int) -> PDM:
        """The PDM of one of the parts."""
        several = len(self.places) > 1
        return jax.tree.map(lambda x: x[row], self.model.pdm) if several else self.model.pdm

    def part(self, row: int) -> Part:
        """One of the parts by itself."""
        several = len(self.places) > 1
        model = jax.tree.map(lambda x: x[row], self.model) if several else self.model
        return Part(
            name=self.names[row],
            config=self.config,
            main_points=self.main_points[row],
            part_points=self.part_points,
            model=model,
        )


class CLNF(eqx.Module):
    """Constrained local model with its parts: CLNF, CE-CLM or CLM by the kind of its experts.

    Holds the weights as they are trained and stored. `prepare_clnf` lays them out for fitting.
    """

    main: LandmarkModel
    parts: tuple[Part, ...]
    validator: Validator
    search: AbstractSearch
    scheme: LandmarkScheme = eqx.field(static=True)
    config: FitConfig = eqx.field(static=True, default=FitConfig())  # settings that suit it
    wild: FitConfig = eqx.field(static=True, default=FitConfig())  # for difficult still images
    # Landmarks as they are reported, of the parameters of `main.pdm`; None: as they are fitted.
    reported: PDM | None = None

    def __check_init__(self) -> None:
        points = self.main.pdm.mean_shape.shape[0]
        if points != self.scheme.count:
            raise ValueError(
                f"scheme: {self.scheme.name} has {self.scheme.count} landmarks, but the PDM has "
                f"{points}: give the LandmarkScheme of this model"
            )

    @property
    def groups(self) -> tuple[PartGroup, ...]:
        """The parts by structure."""
        return group_parts(self.parts)

    @property
    def triangles(self) -> Int[Array, "t 3"]:
        """The surface of the face; landmarks by index."""
        return jnp.asarray(np.array(self.scheme.triangles, np.int32).reshape(-1, 3))


class PreparedCLNF(eqx.Module):
    """A `CLNF` laid out for fitting: see `prepare_clnf`.

    It holds no weights whose edits would have no effect: `strip_clnf` gives back the model that
    it was made from, whose weights count.
    """

    main: LandmarkModel
    groups: tuple[PartGroup, ...]
    validator: PreparedValidator
    search: AbstractSearch
    scheme: LandmarkScheme = eqx.field(static=True)
    config: FitConfig = eqx.field(static=True)
    wild: FitConfig = eqx.field(static=True)
    reported: PDM | None
    origin: Origin[Any] = eqx.field(static=True)  # what `strip_clnf` needs

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts in their order, taken out of their groups: to be read, not edited."""
        found = {
            place: group.part(row)
            for group in self.groups
            for row, place in enumerate(group.places)
        }
        return tuple(found[place] for place in sorted(found))

    @property
    def triangles(self) -> Int[Array, "t 3"]:
        """The surface of the face; landmarks by index."""
        return jnp.asarray(np.array(self.scheme.triangles, np.int32).reshape(-1, 3))


AnyCLNF = CLNF | PreparedCLNF


def group_parts(parts: tuple[Part, ...]) -> tuple[PartGroup, ...]:
    """Puts parts of one structure together, each group at the place of its first part."""
    places: dict[object, list[int]] = {}
    for i, part in enumerate(parts):
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(part.model))
        key = (jax.tree.structure(part.model), shapes, part.config, part.part_points)
        places.setdefault(key, []).append(i)
    return tuple(_group(tuple(members), parts) for members in places.values())


def _group(places: tuple[int, ...], parts: tuple[Part, ...]) -> PartGroup:
    members = [parts[i] for i in places]
    models = [part.model for part in members]
    first = members[0]
    return PartGroup(
        places=places,
        names=tuple(part.name for part in members),
        config=first.config,
        main_points=tuple(part.main_points for part in members),
        part_points=first.part_points,
        model=models[0] if len(models) == 1 else jax.tree.map(lambda *x: jnp.stack(x), *models),
    )


def settings_of(clnf: AnyCLNF, config: FitConfig | None) -> FitConfig:
    """The settings given; the model's own in place of None."""
    return clnf.config if config is None else config
