"""Comparison with OpenFace: its recorded results, its samples, and figures with their bounds.

The modules are public, as those of `jaxface.reference` are; nothing else in the package imports
them. They serve the tests, the bench and whoever wants to know whether a changed fit, another
processor or a model trained anew still agrees with OpenFace.
"""
