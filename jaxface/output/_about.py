"""What result files say of all their rows: whose they are, and what made them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from ..errors import InputError
from ._columns import CsvKind, check_kind
from ._rows import OPENFACE_UNITS, Table, UnitNames

_FORMAT = 1
_AGAIN = "write or copy the file again"


class Record(Mapping[str, Any]):
    """What made a result: model, settings, versions, as in `<name>.run.json`. Never changes."""

    def __init__(self, values: Mapping[str, Any] | None = None):
        """Copies values.

        Args:
            values: that JSON can hold; None for none.
        Raises:
            ValueError: JSON cannot hold them.
        """
        try:
            # Hashed and compared by its text: a static field of a tree is.
            self._text = json.dumps({} if values is None else dict(values), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"record: expected values that JSON can hold: {error}") from error
        self._values: dict[str, Any] = json.loads(self._text)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self._text == other._text

    def __repr__(self) -> str:
        return f"Record({self._values!r})"


NO_RECORD = Record()


class About(NamedTuple):
    """What belongs to all rows of a table."""

    kind: CsvKind
    units: UnitNames = OPENFACE_UNITS
    lanes: int = 1  # see `Analysis`
    record: Record = NO_RECORD


class Stored(NamedTuple):
    """What a result file holds."""

    table: Table
    about: About
    fhog: Float[np.ndarray, "n 4464"] | None = None
    aligned: UInt8[np.ndarray, "n s s 3"] | None = None  # RGB


def about_text(about: About) -> str:
    """As JSON, which Parquet and NPZ files hold."""
    return json.dumps(
        {
            "format": _FORMAT,
            "kind": about.kind,
            "intensity": about.units.intensity,
            "presence": about.units.presence,
            "lanes": about.lanes,
            "record": dict(about.record),
        }
    )


def read_about(path: Path, text: str) -> About:
    """The inverse of `about_text`.

    Args:
        path: the file that holds it, for messages.
        text: as it was found.
    Raises:
        InputError: it is damaged, or of a later version.
    """
    try:
        found = json.loads(text)
        if isinstance(found, dict) and found.get("format") not in (None, _FORMAT):
            got = f"version {found['format']!r}"
            raise InputError(path, f"version {_FORMAT} of jaxface's results", got, "update jaxface")
        check_kind(found["kind"])
        names = [found[field] for field in ("intensity", "presence")]
        lanes, record = found["lanes"], found["record"]
        if not all(isinstance(name, str) for some in names for name in some):
            raise ValueError(names)
        if not isinstance(lanes, int) or not isinstance(record, dict):
            raise ValueError(lanes, record)
        return About(found["kind"], UnitNames(*map(tuple, names)), lanes, Record(record))
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        expected = "what jaxface's results say of themselves"
        raise InputError(path, expected, f"{text[:60]!r}", _AGAIN) from error
