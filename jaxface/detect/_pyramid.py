"""P-Net's image pyramid, all levels side by side in one mosaic.

How large a mosaic is, and how many cells it has, is static. Where the levels lie in it is not: a
`Pyramid` holds that as a few small arrays. Those of a picture on a canvas follow from its size
inside a program (`place_levels`); those of a flat picture are made on the host (`plan_picture`),
and one program serves pictures of any size.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..types import FlatImage
from ._config import DetectConfig
from ._sampling import normalise, resize_taps, sample

_CELL = 12  # side of the square that one P-Net output cell sees, px
_STRIDE = 2  # px between cells
_BITS = 14  # of a row or column in a level, px
_GAP = (1 << _BITS) - 1  # a place past the end of every level
# Of a mosaic for pictures of any shape, in sides of a square of their largest level's area, where
# levels shrink by OpenFace's factor. With the shelves' waste, pictures up to three times as wide or
# high as they are high or wide fit in.
_ROOM_HEIGHT, _ROOM_WIDTH, _ROOM_CELLS = 2.2, 1.5, 0.55
_ROOM_FACTOR = 0.709


class Pyramid(eqx.Module):
    """Where the levels of one picture lie in a mosaic. L levels, K places along a side."""

    shape: tuple[int, int] = eqx.field(static=True)  # of the mosaic, px; even
    cells: int = eqx.field(static=True)  # over all levels, at most
    sizes: Int[Array, "l 2"]  # true height and width of each level, px; 0 for levels it lacks
    offsets: Int[Array, "l 2"]  # row and column of each level in the mosaic, even
    edges: Float[Array, "l k 2"]  # first and last image coordinate of each cell index

    @property
    def levels(self) -> int:
        return len(self.offsets)


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """Static plan of the pyramids of all pictures on one canvas. L levels, K places."""

    level_counts: np.ndarray  # [min(H, W)] levels of a picture with that shorter side
    heights: np.ndarray  # [L, H] true level height for each picture height, px
    widths: np.ndarray  # [L, W]
    offsets: np.ndarray  # [L, 2] row and column of each level in the mosaic, even
    edges: np.ndarray  # [L, K, 2] first and last image coordinate of each cell index
    shape: tuple[int, int]  # of the mosaic, px
    cells: int  # over all levels

    @property
    def levels(self) -> int:
        return len(self.offsets)


def _cells(size: np.ndarray) -> np.ndarray:
    """Output cells of P-Net along a side of `size` px."""
    return np.maximum(-(-(size - 2) // 2) - 4, 0)


def _shelves(sizes: np.ndarray, width: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Places rectangles, largest first, on shelves of a width at even offsets."""
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
    return np.array(offsets, np.int32).reshape(-1, 2), (bottom, width)


@functools.lru_cache(maxsize=32)
def plan_pyramid(height: int, width: int, min_face_size: float, factor: float) -> Layout:
    """Plans the pyramids of pictures up to height x width.

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
    scales = _scales(int(counts[-1]), min_face_size, factor)
    heights, widths = (_level_sides(np.arange(side + 1), scales) for side in (height, width))
    sizes = np.stack([heights[:, -1], widths[:, -1]], axis=1)
    first = int(sizes[0, 1]) if len(sizes) else 0
    offsets, shape = _shelves(sizes, first + first % 2)
    cells = _cells(sizes)
    edges = _edges(scales, int(cells.max(initial=0)))
    count = int(cells.prod(axis=1).sum())
    return Layout(counts, heights, widths, offsets, edges, shape, count)


def _scales(count: int, min_face_size: float, factor: float) -> np.ndarray:
    return np.array([_CELL / min_face_size * factor**i for i in range(count)])


def _level_sides(sides: np.ndarray, scales: np.ndarray) -> np.ndarray:
    return np.ceil(sides * scales[:, None]).astype(np.int32)


def _edges(scales: np.ndarray, count: int) -> np.ndarray:
    """The image coordinates of so many cells along a side of each level."""
    index = np.arange(count)
    # The float32 quotient must be correctly rounded before truncation, so it is made here.
    near_far = np.stack([_STRIDE * index + 1, _STRIDE * index + _CELL], axis=1).astype(np.float32)
    return np.trunc(near_far / scales.astype(np.float32)[:, None, None]).astype(np.float32)


def place_levels(layout: Layout, size: Int[Array, "2"]) -> Pyramid:
    """The pyramid of a picture of `size` (height and width, px) on a canvas."""
    height, width = size[0], size[1]
    used = jnp.asarray(layout.level_counts)[jnp.minimum(height, width)]
    heights = jnp.asarray(layout.heights)[:, height]
    widths = jnp.asarray(layout.widths)[:, width]
    present = np.arange(layout.levels, dtype=np.int32) < used
    return Pyramid(
        shape=layout.shape,
        cells=layout.cells,
        sizes=jnp.where(present[:, None], jnp.stack([heights, widths], axis=1), 0),
        offsets=jnp.asarray(layout.offsets),
        edges=jnp.asarray(layout.edges),
    )


def plan_picture(height: int, width: int, length: int, config: DetectConfig) -> Pyramid | None:
    """The pyramid of one picture, in the mosaic that all pictures of up to `length` px share.

    Args:
        height: of the picture, px.
        width: px.
        length: pixels that the picture's array has room for.
        config: settings; the smallest face and the factor count.
    Returns:
        Arrays of shapes that do not depend on the picture; None where it does not fit in, as it is
        very wide or very high.
    Reference:
        Specification 01, A.4 and A.5.
    """
    layout = plan_pyramid(height, width, config.min_face_size, config.factor)
    side = _CELL / config.min_face_size * math.sqrt(length)
    # Areas of all levels add up to 1 / (1 - factor^2) of the largest.
    side *= math.sqrt((1 - _ROOM_FACTOR**2) / (1 - config.factor**2))
    room_height, room_width = (2 * math.ceil(side * s / 2) for s in (_ROOM_HEIGHT, _ROOM_WIDTH))
    square = math.isqrt(length)
    levels = plan_pyramid(square, square, config.min_face_size, config.factor).levels
    sizes = np.stack([layout.heights[:, -1], layout.widths[:, -1]], axis=1)
    count = math.ceil(_ROOM_CELLS * side * side)
    if layout.levels and sizes[0, 1] + sizes[0, 1] % 2 > room_width:
        return None
    offsets, (bottom, _) = _shelves(sizes, room_width)
    if bottom > room_height or layout.cells > count or layout.levels > levels:
        return None
    places = int(_cells(np.array([room_height, room_width])).max())
    scales = _scales(levels, config.min_face_size, config.factor)
    unused = ((0, levels - layout.levels), (0, 0))
    tables = np.pad(sizes, unused), np.pad(offsets, unused), _edges(scales, places)
    return Pyramid((room_height, room_width), count, *jax.device_put(tables))


class Mosaic(NamedTuple):
    """Rows of a mosaic, and what P-Net's pool must not see."""

    pixels: Float[Array, "m n 3"]  # normalised; outside the levels meaningless but finite
    before_pool: Bool[Array, "m n"]  # inside the levels after the first layer
    after_pool: Bool[Array, "m2 n2"]  # and after the pool, of every other row and column


def draw_rows(
    pyramid: Pyramid, image: FlatImage, first: Int[Array, ""], count: int, dtype: np.dtype
) -> Mosaic:
    """Resizes a picture to every level, for some rows of the mosaic.

    Args:
        pyramid: where the levels are.
        image: RGB, 0 to 255.
        first: row of the mosaic, even.
        count: of rows, even.
        dtype: of the mosaic.
    """
    level, row, col = _locate(pyramid, first, count)
    true = pyramid.sizes[level]
    rows = resize_taps(row, image.size[0], true[..., 0], dtype)
    cols = resize_taps(col, image.size[1], true[..., 1], dtype)
    pixels = normalise(sample(image, rows, cols))
    before_pool = _within(pyramid.sizes - 2, level, row, col)
    level, row, col = (table[::2, ::2] for table in (level, row // 2, col // 2))
    after_pool = _within(-(-(pyramid.sizes - 2) // 2), level, row, col)
    return Mosaic(pixels, before_pool, after_pool)


def _locate(
    pyramid: Pyramid, first: Int[Array, ""], count: int
) -> tuple[Int[Array, "m n"], Int[Array, "m n"], Int[Array, "m n"]]:
    """Level of each pixel of some rows of the mosaic, and row and column in it.

    Pixels outside all levels are far outside the first. In a loop, as its result is stored: what
    XLA fuses into a gather is computed once per tap.
    """
    shape = count, pyramid.shape[1]
    rows = first + np.arange(count, dtype=np.int32)[:, None]
    cols = np.arange(shape[1], dtype=np.int32)[None]

    def mark(
        number: Int[Array, ""], known: tuple[Int[Array, "m n"], Int[Array, "m n"]]
    ) -> tuple[Int[Array, "m n"], Int[Array, "m n"]]:
        level, place = known
        offset, size = pyramid.offsets[number], pyramid.sizes[number]
        down, right = rows - offset[0], cols - offset[1]
        inside = (down >= 0) & (down < size[0]) & (right >= 0) & (right < size[1])
        here = (down << _BITS) | right
        return jnp.where(inside, number, level), jnp.where(inside, here, place)

    outside = jnp.full(shape, (_GAP << _BITS) | _GAP, jnp.int32)
    start = jnp.zeros(shape, jnp.int32), outside
    level, place = lax.fori_loop(np.int32(0), np.int32(pyramid.levels), mark, start)
    return level, place >> _BITS, place & _GAP


def _within(
    inner: Int[Array, "l 2"], level: Int[Array, "m n"], row: Int[Array, "m n"], col: Array
) -> Bool[Array, "m n"]:
    """Which pixels lie in the top left `inner` rows and columns of their level."""
    true = inner[level]
    return (row < true[..., 0]) & (col < true[..., 1])


def locate_cells(
    pyramid: Pyramid,
) -> tuple[Int[Array, " n"], Int[Array, "n 2"], Bool[Array, " n"]]:
    """Level of each cell by level, then column, then row; row and column in it; which there are."""
    rows, cols = jnp.maximum(-(-(pyramid.sizes - 2) // 2) - 4, 0).T
    ends = jnp.cumsum(rows * cols, dtype=jnp.int32)
    index = np.arange(pyramid.cells, dtype=np.int32)
    past = jnp.sum(index[:, None] >= ends[None], axis=1, dtype=jnp.int32)
    level = jnp.minimum(past, pyramid.levels - 1)
    within = index - (ends - rows * cols)[level]
    high = jnp.maximum(rows[level], 1)
    there = jnp.asarray(index) < ends[-1]
    place = jnp.stack([within % high, within // high], axis=1)
    return level, jnp.where(there[:, None], place, 0), there
