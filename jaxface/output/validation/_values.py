"""Figures of a study as values that JSON knows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ._limits import Miss
from ._study import Scope, Study


def study_values(
    study: Study, bounds: Mapping[str, float], misses: Sequence[Miss]
) -> dict[str, Any]:
    """All figures, as JSON can hold them: None for what is undefined.

    Args:
        study: what was compared.
        bounds: limits that were set.
        misses: those that do not hold.
    """

    def scope(found: Scope) -> dict[str, Any]:
        summary = found.summary
        values = {"name": found.label, "clips": [clip.pair.name for clip in found.clips]}
        values |= _plain(summary)
        values["rows"]["agreement"] = _plain(summary.rows.agreement)
        return values | {"ms_per_frame": _plain(found.latency)}

    clips = []
    for one in study.clips:
        (clip,) = one.clips
        files = {"a": str(clip.pair.a), "b": str(clip.pair.b), "cohort": study.cohort_of(clip)}
        clips.append(scope(one) | files)
    return {
        "passed": not study.problems and not misses,
        "limits": dict(bounds),
        "missed": _plain(list(misses)),
        "positions": _plain(study.positions),
        "measured": list(study.measured),
        "all": scope(study.whole),
        "cohorts": [scope(cohort) for cohort in study.cohorts],
        "clips": clips,
        "problems": list(study.problems),
        "notes": list(study.notes),
    }


def _plain(value: Any) -> Any:
    """Values of Python that JSON knows."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if (named := getattr(value, "_asdict", None)) is not None:
        return _plain(named())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
