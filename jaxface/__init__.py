"""OpenFace 2's facial-behaviour pipeline as pure JAX functions over Equinox modules."""

__version__ = "0.1.0"
