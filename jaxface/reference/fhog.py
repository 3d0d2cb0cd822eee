"""FHOG and the geometry descriptor as written in specification 03, B and C.1."""

import math

import numpy as np

DIRECTIONS = (
    (1.0, 0.0),
    (0.9397, 0.3420),
    (0.7660, 0.6428),
    (0.5, 0.8660),
    (0.1736, 0.9848),
    (-0.1736, 0.9848),
    (-0.5, 0.8660),
    (-0.7660, 0.6428),
    (-0.9397, 0.3420),
)
BLOCKS = (
    ((0, 0), (0, 1), (1, 0), (1, 1)),
    ((-1, 0), (-1, 1), (0, 0), (0, 1)),
    ((0, -1), (0, 0), (1, -1), (1, 0)),
    ((-1, -1), (-1, 0), (0, -1), (0, 0)),
)


def strongest_gradient(image, y, x, in_block):
    """Gradient (gx, gy) of the channel with the longest one; `image` (h, w, 3) RGB, float64."""
    gx = [image[y, x + 1, c] - image[y, x - 1, c] for c in range(3)]
    gy = [image[y + 1, x, c] - image[y - 1, x, c] for c in range(3)]
    length = [gx[c] ** 2 + gy[c] ** 2 for c in range(3)]
    red, green, blue = 0, 1, 2
    if in_block:
        best = red if length[red] > length[green] else green
        best = best if length[best] > length[blue] else blue
    else:
        best = green if length[green] > length[red] else red
        best = blue if length[blue] > length[best] else best
    return gx[best], gy[best]


def orientation_bin(gx, gy):
    """One of 18 signed directions."""
    best, found = 0.0, 0
    for o, (ux, uy) in enumerate(DIRECTIONS):
        along = gx * ux + gy * uy
        if along > best:
            best, found = along, o
        if -along > best:
            best, found = -along, o + 9
    return found


def gradient_histogram(image, cell=8):
    """Votes (rows + 2, columns + 2, 18) of every pixel's gradient, bilinear over cells."""
    image = np.asarray(image, np.float64)
    height, width = image.shape[:2]
    rows, columns = int(height / cell + 0.5), int(width / cell + 0.5)
    last_y, last_x = min(rows * cell, height) - 1, min(columns * cell, width) - 1
    block_end = 1
    while block_end < last_x - 7:
        block_end += 8
    hist = np.zeros((rows + 2, columns + 2, 18))
    for y in range(1, last_y):
        for x in range(1, last_x):
            gx, gy = strongest_gradient(image, y, x, in_block=x < block_end)
            o, vote = orientation_bin(gx, gy), math.sqrt(gx**2 + gy**2)
            yp, xp = (y + 0.5) / cell - 0.5, (x + 0.5) / cell - 0.5
            iy, ix = math.floor(yp), math.floor(xp)
            fy, fx = yp - iy, xp - ix
            hist[iy + 1, ix + 1, o] += vote * (1 - fy) * (1 - fx)
            hist[iy + 2, ix + 1, o] += vote * fy * (1 - fx)
            hist[iy + 1, ix + 2, o] += vote * (1 - fy) * fx
            hist[iy + 2, ix + 2, o] += vote * fy * fx
    return hist


def extract_fhog(image, cell=8):
    """Descriptor (rows - 2, columns - 2, 31) of an RGB image (h, w, 3), 0 to 255."""
    hist = gradient_histogram(image, cell)
    inner = hist[1:-1, 1:-1]
    unsigned = inner[..., :9] + inner[..., 9:]
    energy = (unsigned**2).sum(axis=-1)
    rows, columns = energy.shape
    out = np.zeros((rows - 2, columns - 2, 31))
    for y in range(rows - 2):
        for x in range(columns - 2):
            r, c = y + 1, x + 1
            for k, block in enumerate(BLOCKS):
                total = sum(energy[r + dr, c + dc] for dr, dc in block)
                limit = 0.2 * math.sqrt(total + 1e-4)
                full_turn = np.minimum(inner[r, c], limit) * 0.1 / limit
                half_turn = np.minimum(unsigned[r, c], limit) * 0.1 / limit
                out[y, x, :18] += full_turn
                out[y, x, 18:27] += half_turn
                out[y, x, 27 + k] = 2 * 0.2357 * full_turn.sum()
    return out


def geometry_descriptor(components, local):
    """Shape offsets (all X, all Y, all Z, mm) and coefficients; `components` (m, n, 3)."""
    offsets = np.tensordot(np.asarray(local, np.float64), np.asarray(components, np.float64), 1)
    return np.concatenate([offsets.T.ravel(), local])
