"""Where the rows of a result come from, so that its pictures can be read again."""

import os
from pathlib import Path

import numpy as np

from ..types import Camera


class Origin:
    """Where rows come from: a file or a folder, and the camera. Two never differ.

    So that rows of different clips, or read from files that do not say, are trees of one kind:
    they can be joined by `jax.tree.map`, and are equal where their arrays are.
    """

    def __init__(self, path: str | Path | None = None, camera: Camera | None = None):
        """Notes both.

        Args:
            path: of the clip or image; None where arrays were analysed.
            camera: intrinsics, px, that were given; None for OpenFace's guess.
        """
        # Absolute, as a notebook may change its folder.
        self.path = None if path is None else os.path.abspath(path)
        self.camera = None if camera is None else tuple(float(value) for value in camera)

    def lens(self) -> Camera | None:
        """The camera as functions take it."""
        if self.camera is None:
            return None
        return Camera(*(np.asarray(value, np.float32) for value in self.camera))

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origin)

    def __repr__(self) -> str:
        return f"Origin({self.path!r})"


NO_ORIGIN = Origin()


def origin_of(frames: object, camera: Camera | None) -> Origin:
    """Of frames that a reader gives the path of its file.

    Args:
        frames: a reader of `jaxface.io`, or whatever else was analysed.
        camera: that was given, px.
    """
    path = frames if isinstance(frames, str | Path) else getattr(frames, "path", None)
    return Origin(path if isinstance(path, str | Path) else None, camera)
