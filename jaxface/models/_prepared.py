"""Prepared models kept in the user's cache: to lay one out takes seconds, to map it none."""

import contextlib
import hashlib
import platform
import time
from collections.abc import Callable
from pathlib import Path

import jax.monitoring
import numpy as np

from .._files import SOURCE_DIGEST, discard_damaged
from ._mapped import DamagedFileError, drop_oldest, mark_used, read_tree, write_tree
from ._model import Model

_EVENT = "/jaxface/prepare_model"
_KEPT = 3  # files of one model: versions of it, of jaxface and of the settings, 140 MB each


def kept_model(folder: Path, name: str, contents: bytes, prepare: Callable[[], Model]) -> Model:
    """A model as `prepare` gives it, read from a folder if it was prepared before.

    Bit by bit the same model. A file that is damaged is replaced; where none can be written, or
    the model holds a class that is not this package's, it is prepared each time.

    Args:
        folder: is made if it is missing.
        name: of the model.
        contents: all that what `prepare` does depends on, except for this package's sources.
        prepare: makes the model.
    """
    path = folder / f"{name}-{_key(contents)}"
    try:
        model = read_tree(path)
        mark_used(path)
        return model
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, DamagedFileError):  # not even replaced, if it is a folder
        discard_damaged(path)
    begin = time.monotonic()
    model = prepare()
    with contextlib.suppress(OSError, TypeError, DamagedFileError):
        folder.mkdir(parents=True, exist_ok=True)
        write_tree(path, model)
        drop_oldest(folder, f"{name}-*", _KEPT)
        model = read_tree(path)  # in place of the other, whose memory is then free
    # The command line gives back to the system what such an event leaves behind.
    jax.monitoring.record_event_duration_secs(_EVENT, time.monotonic() - begin)
    return model


def _key(contents: bytes) -> str:
    """Digest of a prepared model's origin. NumPy inverts matrices, for one kind of machine."""
    x64: bool = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
    made_by = (SOURCE_DIGEST, np.__version__, platform.machine(), x64)
    return hashlib.sha256(repr(made_by).encode() + contents).hexdigest()[:32]
