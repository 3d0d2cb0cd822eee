"""The oracle: every stage in NumPy, written for reading and not for speed, and what it follows.

`specification-01-detector-and-tracking.md`, `specification-02-landmarks.md` and
`specification-03-analysis-and-outputs.md` lie beside this file, in the repository and in the wheel.
A docstring's "Specification 02, D.3" is section D.3 of the second. Imports nothing from jaxface.
"""
