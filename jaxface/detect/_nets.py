"""P-Net, R-Net and O-Net of MTCNN (Zhang et al. 2016) as Equinox modules."""

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


class Conv(eqx.Module):
    """Valid cross-correlation, stride 1."""

    weight: Float[Array, "o i kh kw"]
    bias: Float[Array, " o"]

    def __call__(self, maps: Float[Array, "h w i"]) -> Float[Array, "h2 w2 o"]:
        # Patches times weights: XLA's CPU convolution is 20 to 30 times slower inside a loop.
        # One gather compiles several times faster than a concatenation of shifted slices.
        outputs, inputs, height, width = self.weight.shape
        stride = maps.shape[1]
        rows, cols = maps.shape[0] - height + 1, stride - width + 1
        corners = jnp.arange(rows, dtype=jnp.int32)[:, None] * stride + jnp.arange(
            cols, dtype=jnp.int32
        )
        offsets = jnp.arange(height, dtype=jnp.int32)[:, None] * stride + jnp.arange(
            width, dtype=jnp.int32
        )
        taps = corners.reshape(-1, 1) + offsets.reshape(-1)
        patches = maps.reshape(-1, inputs).at[taps].get(mode="promise_in_bounds")
        patches = patches.reshape(rows * cols, -1)
        kernel = self.weight.transpose(2, 3, 1, 0).reshape(-1, outputs)
        products = jnp.dot(patches, kernel, precision=lax.Precision.HIGHEST)
        return products.reshape(rows, cols, outputs) + self.bias


class PReLU(eqx.Module):
    """max(x, 0) + slope * min(x, 0), one slope per channel."""

    slope: Float[Array, " c"]

    def __call__(self, maps: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
        return jnp.where(maps >= 0, maps, maps * self.slope)


class Dense(eqx.Module):
    """weight @ x + bias; maps are flattened in [channel, col, row] order first.

    Maps with as many channels as the layer has inputs are mapped pixel by pixel instead.
    """

    weight: Float[Array, "o i"]
    bias: Float[Array, " o"]

    def __call__(self, maps: Float[Array, "*n c"]) -> Float[Array, "*m o"]:
        if maps.shape[-1] != self.weight.shape[1]:
            maps = maps.transpose(2, 1, 0).reshape(-1)
        return jnp.dot(maps, self.weight.T, precision=lax.Precision.HIGHEST) + self.bias


class MaxPool(eqx.Module):
    """Maximum over kernel x kernel windows, output size rounded up, windows clipped at the end."""

    kernel: int = eqx.field(static=True)
    stride: int = eqx.field(static=True)

    def __call__(self, maps: Float[Array, "h w c"]) -> Float[Array, "h2 w2 c"]:
        steps = [-(-(size - self.kernel) // self.stride) for size in maps.shape[:2]]
        ends = [n * self.stride + self.kernel - size for n, size in zip(steps, maps.shape)]
        return lax.reduce_window(
            maps,
            -jnp.inf,
            lax.max,
            window_dimensions=(self.kernel, self.kernel, 1),
            window_strides=(self.stride, self.stride, 1),
            padding=[(0, end) for end in ends] + [(0, 0)],
        )


Layer = Conv | PReLU | Dense | MaxPool


class Net(eqx.Module):
    """A sequence of layers."""

    layers: tuple[Layer, ...]

    def __call__(self, maps: Float[Array, "h w c"]) -> Float[Array, "*m o"]:
        """Network outputs for one normalised RGB picture, rows first, channels last."""
        for layer in self.layers:
            maps = layer(maps)
        return maps


BoxFrame = tuple[float, float, float, float]
# Where OpenFace's own detector has the landmarks: specification 01, A.10.12.
OPENFACE_FRAME: BoxFrame = (-0.0075, 0.2459, 1.0323, 0.7751)
