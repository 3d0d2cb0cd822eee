"""Single frames of a clip, without decoding all those before them where the file allows it."""

import contextlib
import itertools
import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from ..errors import InputError, InputWarning
from ._images import read_image
from ._video import SequenceReader, VideoReader

Frame = UInt8[np.ndarray, "h w 3"]  # RGB, 0 to 255

_NEAR = 100  # frames from the start that are decoded sooner than looked for


def read_frames(
    reader: VideoReader | SequenceReader, indices: Sequence[int], *, most: int | None = None
) -> dict[int, Frame]:
    """Some frames of a clip, the same as an iteration over all gives at these places.

    Far into a video the decoder starts at the key frame before each, where the times of the file
    tell the frames apart; else all frames up to the last that is wanted are decoded.

    Args:
        reader: the clip.
        indices: from 0.
        most: frames to decode at most where they have to be decoded from the start; None: all.
    Returns:
        The frames by their indices, without those that the clip does not have, or that cannot be
        read.
    Raises:
        InputError: the clip cannot be read at all.
    """
    wanted = sorted({index for index in indices if index >= 0})
    if not wanted:
        return {}
    if isinstance(reader, SequenceReader):
        return {index: frame for index in wanted for frame in _picture(reader, index)}
    if wanted[-1] >= _NEAR:
        from ._seek import seek_frames

        found = seek_frames(reader, wanted)
        if found is not None:
            return found
    last = wanted[-1] if most is None else min(wanted[-1], most - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)  # said when the clip was analysed
        passed = enumerate(itertools.islice(reader, last + 1))
        return {index: frame for index, frame in passed if index in wanted}


def _picture(reader: SequenceReader, index: int) -> list[Frame]:
    with warnings.catch_warnings(), contextlib.suppress(InputError):
        warnings.simplefilter("ignore", InputWarning)
        return [read_image(file) for file in reader.files[index : index + 1]]
    return []
