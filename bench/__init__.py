"""Measurements against OpenFace and against the clock; not part of the package."""
