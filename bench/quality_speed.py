"""How fast a model is, in a process of its own."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from jaxface.models import save_model
from jaxface.reference.comparison.clips import find_data
from jaxface.reference.comparison.figures import Figure

from .quality import Context
from .speed import run_worker

_REPEATS = 3  # a busy machine only ever slows a run down, so the best one counts


def speed_measures(context: Context) -> Iterator[Figure]:
    """A clip with a filled compile cache."""
    clip = find_data().samples / "default.wmv"
    with tempfile.TemporaryDirectory() as folder:
        stored = save_model(context.model, Path(folder) / "models").path
        cache = Path(folder) / "xla"
        inputs = stored, clip, "offline", cache
        run_worker(*inputs)
        runs = [run_worker(*inputs) for _ in range(1 if context.quick else _REPEATS)]
    about = context.subject("default.wmv")
    yield about.plain("frames per second, whole clip", max(run["rate"] for *_, run in runs))
    yield about.plain("first result, warm compile cache, s", min(first for _, first, _ in runs))
