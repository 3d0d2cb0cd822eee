"""Stores models as one safetensors file and a JSON manifest each, and loads them."""


class ModelFileError(ValueError):
    """A model file is missing, damaged or not what was expected; the message says what to do."""
