"""Numbers and values as words."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ._figures import Spread

_DASH = "–"

# FACS's names of the action units.
UNITS = {
    "AU01": "inner brow raiser",
    "AU02": "outer brow raiser",
    "AU04": "brow lowerer",
    "AU05": "upper lid raiser",
    "AU06": "cheek raiser",
    "AU07": "lid tightener",
    "AU09": "nose wrinkler",
    "AU10": "upper lip raiser",
    "AU12": "lip corner puller",
    "AU14": "dimpler",
    "AU15": "lip corner depressor",
    "AU17": "chin raiser",
    "AU20": "lip stretcher",
    "AU23": "lip tightener",
    "AU25": "lips part",
    "AU26": "jaw drop",
    "AU28": "lip suck",
    "AU45": "blink",
}


def number(value: float, digits: int = 2) -> str:
    """A number with some decimals; a dash for what there is not."""
    # -0.00 would say that there is something left of 0.
    return f"{round(value, digits) + 0.0:.{digits}f}" if math.isfinite(value) else _DASH


def percent(share: float) -> str:
    """A share of 1 in %."""
    return f"{100 * share:.1f} %" if math.isfinite(share) else _DASH


def plus_minus(found: Spread, digits: int = 2) -> str:
    """Mean and sd."""
    if not found.size:
        return _DASH
    sd = f" ± {number(found.sd, digits)}" if math.isfinite(found.sd) else ""
    return number(found.mean, digits) + sd


def plural(count: int, one: str, many: str = "") -> str:
    """A count with its noun."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def to_json(value: Any) -> Any:
    """As JSON holds it: None for what is no number, lists for tuples, objects for named ones."""
    fields = getattr(value, "_fields", None) if isinstance(value, tuple) else None
    if fields is not None:
        return {key: to_json(part) for key, part in zip(fields, value, strict=True)}
    if isinstance(value, Mapping):
        return {str(key): to_json(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(part) for part in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value


def script_json(value: Any) -> str:
    """JSON that stands in an HTML script element: no text in it can end the element or open a
    comment."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def flat(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested record as names, with dots, and values."""
    rows: list[tuple[str, str]] = []
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows += flat(value, f"{name}.")
        elif isinstance(value, str):
            rows.append((name, value))
        else:
            rows.append((name, json.dumps(value, ensure_ascii=False)))
    return rows
