"""The name that clips were analysed by up to jaxface 0.1."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float

from ..models import Model
from ..output import CsvKind, UnitNames
from ..pipeline import Config
from ..types import Camera
from ._checks import AnyImage
from ._clip import analyze_chunks, collect_clip, open_clip, second_pass
from ._follow import Tally
from ._programs import Extras
from ._results import Analysis
from ._tables import FaceBatch, History


class ClipAnalysis:
    """Deprecated: `open_clip`, `analyze_chunks`, `second_pass` of `jaxface.run` in one object."""

    def __init__(
        self,
        model: Model,
        frames: Iterable[AnyImage],
        *,
        camera: Camera | None = None,
        timestamp: Callable[[int], float] = lambda index: 0.0,
        faces: str = "one",
        config: Config | None = None,
        extras: Extras = Extras(),
        at_once: bool = False,
    ):
        """See `open_clip`."""
        warnings.warn(
            "ClipAnalysis goes with the next release: call open_clip, analyze_chunks and "
            "second_pass of jaxface.run, or jaxface.analyze_video",
            DeprecationWarning,
            stacklevel=2,
        )
        self._clip = open_clip(
            model,
            frames,
            timestamp=timestamp,
            camera=camera,
            faces=faces,
            config=config,
            extras=extras,
            at_once=at_once,
        )
        self._histories: list[History | None] = []
        self.tally = Tally()  # how the frames so far were tracked

    @property
    def kind(self) -> CsvKind:
        """Whose CSV the rows make."""
        return self._clip.kind

    @property
    def units(self) -> UnitNames:
        """Action units that the model knows, in the order of their columns."""
        return self._clip.units

    def __iter__(self) -> Iterator[FaceBatch]:
        """Analyses the clip. Yields the rows of each chunk; see `analyze_chunks`."""
        self._histories, self.tally = [], Tally()
        for batch in analyze_chunks(self._clip):
            self._histories.append(batch.history)
            self.tally = self.tally.plus(batch.tally)
            yield batch

    def action_units(self) -> tuple[Float[np.ndarray, "n u"], Float[np.ndarray, "n c"]] | None:
        """Intensity and presence of every row, once iterated; None where the rows have them."""
        return second_pass(self._clip, self._histories)

    def collect(self, batches: Sequence[FaceBatch]) -> Analysis:
        """All rows as one table, once iterated."""
        return collect_clip(self._clip, batches)
