"""O-Net with OpenFace's order of sums: its boxes start fits, which follow their last bit."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..ops import double, interleaved_product, sequential_product
from ._nets import Conv, Dense, Net

_LARGE = 10_000  # weights; OpenCV multiplies smaller matrices itself, in float64
_BOUND = 2.0**10  # above all terms of such a product


def run_exactly(net: Net, maps: Float[Array, "h w c"]) -> Float[Array, " o"]:
    """Network outputs for one normalised picture, most of them OpenFace's to the last bit.

    Reference:
        Specification 01, A.3. The order of sums is found by comparison with golden outputs.
    """
    for layer in net.layers:
        if isinstance(layer, Conv):
            maps = _convolve(layer, maps)
        elif isinstance(layer, Dense):
            maps = _connect(layer, maps)
        else:
            maps = layer(maps)
    return maps


def _convolve(conv: Conv, maps: Float[Array, "h w i"]) -> Float[Array, "h2 w2 o"]:
    """Terms by input, column and row of the kernel; the bias is the last one."""
    outputs, inputs, height, width = conv.weight.shape
    rows, cols = maps.shape[0] - height + 1, maps.shape[1] - width + 1
    taps = [maps[j : j + rows, i : i + cols] for i in range(width) for j in range(height)]
    patches = jnp.stack(taps, axis=-1).reshape(rows * cols, inputs * len(taps))
    patches = jnp.concatenate([patches, jnp.ones_like(patches[:, :1])], axis=1)
    kernel = conv.weight.transpose(1, 3, 2, 0).reshape(-1, outputs)
    kernel = jnp.concatenate([kernel, conv.bias[None]])
    return sequential_product(patches, kernel).reshape(rows, cols, outputs)


def _connect(dense: Dense, maps: Float[Array, "*n"]) -> Float[Array, " o"]:
    values = maps.transpose(2, 1, 0).reshape(-1) if maps.ndim == 3 else maps
    if dense.weight.size >= _LARGE:
        return interleaved_product(values, dense.weight.T) + dense.bias
    total = double.total(double.exact_product(values[:, None], dense.weight.T), _BOUND)
    return double.add(total, (dense.bias, jnp.zeros_like(dense.bias)))[0]
