"""P-Net, R-Net and O-Net of MTCNN (Zhang et al. 2016) as Equinox modules."""

import equinox as eqx
from jaxtyping import Array, Float


class Conv(eqx.Module):
    """Valid cross-correlation, stride 1."""

    weight: Float[Array, "o i kh kw"]
    bias: Float[Array, " o"]


class PReLU(eqx.Module):
    """max(x, 0) + slope * min(x, 0), one slope per channel."""

    slope: Float[Array, " c"]


class Dense(eqx.Module):
    """weight @ x + bias; maps are flattened in [channel, col, row] order first."""

    weight: Float[Array, "o i"]
    bias: Float[Array, " o"]


class MaxPool(eqx.Module):
    """Maximum over kernel x kernel windows, output size rounded up, windows clipped at the end."""

    kernel: int = eqx.field(static=True)
    stride: int = eqx.field(static=True)


Layer = Conv | PReLU | Dense | MaxPool


class Net(eqx.Module):
    """A sequence of layers."""

    layers: tuple[Layer, ...]


class MTCNN(eqx.Module):
    """The three stages. Input planes are RGB, (v - 127.5) / 128."""

    pnet: Net
    rnet: Net
    onet: Net
