"""P-Net's image pyramid, all levels side by side in one mosaic.

Which level sits where follows from the canvas size alone, so everything here that depends on
positions is NumPy at trace time; the true size of the picture only enters through small tables.
"""

import dataclasses
import functools
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..types import Image
from ._sampling import normalise, resize_taps, sample

_CELL = 12  # side of the square that one P-Net output cell sees, px
_STRIDE = 2  # px between cells
_GAP = 1 << 14  # a place past the end of every level


def _cells(size: np.ndarray) -> np.ndarray:
    """Output cells of P-Net along a side of `size` px."""
    return np.maximum(-(-(size - 2) // 2) - 4, 0)


def _shelves(sizes: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Places rectangles, largest first, on shelves of the first one's width at even offsets."""
    width = int(sizes[0, 1] + sizes[0, 1] % 2)
    shelves: list[list[int]] = []  # top, height, used width
    offsets = []
    bottom = 0
    for height, needed in sizes + sizes % 2:
        for shelf in shelves:
            if height <= shelf[1] and shelf[2] + needed <= width:
                break
        else:
            shelf = [bottom, int(height), 0]
            shelves.append(shelf)
            bottom += int(height)
        offsets.append((shelf[0], shelf[2]))
        shelf[2] += int(needed)
    return np.array(offsets, np.int32), (bottom, width)


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """Static plan of the pyramid of one canvas size. L levels, N cells over all levels."""

    level_counts: np.ndarray  # [min(H, W)] levels of a picture with that shorter side
    heights: np.ndarray  # [L, H] true level height for each picture height, px
    widths: np.ndarray  # [L, W]
    offsets: np.ndarray  # [L, 2] row and column of each level in the mosaic, even
    pixel_level: np.ndarray  # [m, n] level of each mosaic pixel
    pixel_place: np.ndarray  # [m, n, 2] row and column within the level, _GAP between levels
    cell_level: np.ndarray  # [N] cells by level, then column, then row
    cell_place: np.ndarray  # [N, 2] row and column within the level
    edges: np.ndarray  # [L, C, 2] first and last image coordinate of each cell index

    @property
    def levels(self) -> int:
        return len(self.offsets)


@functools.lru_cache(maxsize=32)
def plan_pyramid(height: int, width: int, min_face_size: float, factor: float) -> Layout:
    """Plans the pyramid of pictures up to height x width.

    Args:
        height: canvas height, px.
        width: canvas width, px.
        min_face_size: smallest face looked for, px.
        factor: ratio of one level's size to that of the previous one.
    Reference:
        Specification 01, A.4 and A.5.
    """
    sides = np.arange(1, min(height, width) + 1)
    ratios = np.array([math.log(min_face_size / side) / math.log(factor) for side in sides])
    counts = np.concatenate([[0], np.maximum(np.floor(ratios) + 1, 0)]).astype(np.int32)
    scales = np.array([_CELL / min_face_size * factor**i for i in range(int(counts[-1]))])
    heights = np.ceil(np.arange(height + 1) * scales[:, None]).astype(np.int32)
    widths = np.ceil(np.arange(width + 1) * scales[:, None]).astype(np.int32)
    if not len(scales):
        nothing = np.zeros((0, 2), np.int32)
        pixels = np.zeros((0, 0), np.int32), np.zeros((0, 0, 2), np.int32)
        cells = nothing[:, 0], nothing, np.zeros((0, 0, 2), np.float32)
        return Layout(counts, heights, widths, nothing, *pixels, *cells)
    sizes = np.stack([heights[:, -1], widths[:, -1]], axis=1)
    offsets, shape = _shelves(sizes)
    pixel_level = np.zeros(shape, np.int32)
    pixel_place = np.full((*shape, 2), _GAP, np.int32)
    for level, ((top, left), (rows, cols)) in enumerate(zip(offsets, sizes, strict=True)):
        window = slice(top, top + rows), slice(left, left + cols)
        pixel_level[window] = level
        pixel_place[window] = np.moveaxis(np.mgrid[:rows, :cols], 0, -1)
    levels, places = [], []
    for level, (rows, cols) in enumerate(_cells(sizes)):
        col, row = np.meshgrid(np.arange(cols), np.arange(rows), indexing="ij")
        places.append(np.stack([row.ravel(), col.ravel()], axis=1).astype(np.int32))
        levels.append(np.full(rows * cols, level, np.int32))
    index = np.arange(_cells(sizes).max())
    # The float32 quotient must be correctly rounded before truncation, so it is made here.
    near_far = np.stack([_STRIDE * index + 1, _STRIDE * index + _CELL], axis=1).astype(np.float32)
    edges = np.trunc(near_far / scales.astype(np.float32)[:, None, None])
    pixels = pixel_level, pixel_place
    cells = np.concatenate(levels), np.concatenate(places), edges.astype(np.float32)
    return Layout(counts, heights, widths, offsets, *pixels, *cells)


def level_sizes(layout: Layout, size: Int[Array, "2"]) -> Int[Array, "l 2"]:
    """True (height, width) of each level for a picture of `size`; 0 for levels it lacks."""
    height, width = size[0], size[1]
    used = jnp.asarray(layout.level_counts)[jnp.minimum(height, width)]
    heights = jnp.asarray(layout.heights)[:, height]
    widths = jnp.asarray(layout.widths)[:, width]
    present = np.arange(layout.levels, dtype=np.int32) < used
    return jnp.where(present[:, None], jnp.stack([heights, widths], axis=1), 0)


def build_mosaic(
    layout: Layout, image: Image, size: Int[Array, "2"], sizes: Int[Array, "l 2"]
) -> Float[Array, "m n 3"]:
    """Resizes the picture to every level and lays the normalised levels out in one mosaic.

    Args:
        layout: plan for the canvas.
        image: RGB, 0 to 255; the picture is its top-left corner.
        size: true height and width of the picture, px.
        sizes: true sizes of the levels, px.
    Returns:
        The mosaic; outside the true levels its values are meaningless but finite.
    """
    true = sizes[layout.pixel_level]
    place = jnp.asarray(layout.pixel_place)
    rows = resize_taps(place[..., 0], size[0], true[..., 0], image.dtype)
    cols = resize_taps(place[..., 1], size[1], true[..., 1], image.dtype)
    return normalise(sample(image, rows, cols))


def inside_levels(layout: Layout, sizes: Int[Array, "l 2"], stride: int) -> Bool[Array, "m n"]:
    """Mask of every `stride`-th mosaic position that lies in the top-left `sizes` of its level.

    Args:
        layout: plan for the canvas.
        sizes: rows and columns counted of each level, in strides.
        stride: px.
    """
    place = jnp.asarray(layout.pixel_place[::stride, ::stride] // stride)
    true = sizes[layout.pixel_level[::stride, ::stride]]
    return (place[..., 0] < true[..., 0]) & (place[..., 1] < true[..., 1])


def true_cells(layout: Layout, sizes: Int[Array, "l 2"]) -> Bool[Array, " n"]:
    """Which of the layout's cells exist for the true level sizes."""
    counts = jnp.maximum(-(-(sizes - 2) // 2) - 4, 0)
    rows, cols = jnp.asarray(layout.cell_place.T)
    return (rows < counts[layout.cell_level, 0]) & (cols < counts[layout.cell_level, 1])
