"""Formats of results. Imports nothing heavy, as the parser needs it."""

from typing import Literal, get_args

Format = Literal["csv", "parquet", "npz"]
FORMATS: tuple[Format, ...] = get_args(Format)  # each is its files' suffix, too
NAMES: dict[Format, str] = {"csv": "CSV", "parquet": "Parquet", "npz": "NPZ"}
