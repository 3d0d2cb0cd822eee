"""P-, R- and O-Net: their shapes, first weights and forward pass over batches."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ...detect import MTCNN, BoxFrame, Conv, Dense, MaxPool, Net, PReLU

SIDES = {"pnet": 12, "rnet": 24, "onet": 48}  # px of the crops
NAMES = tuple(SIDES)

# conv: outputs and kernel; pool: kernel and stride; dense: outputs. PReLU follows all but the last.
Plan = tuple[tuple[str, int, int], ...]
_PLANS: dict[str, Plan] = {
    "pnet": (
        *(("conv", 10, 3), ("pool", 2, 2), ("conv", 16, 3), ("conv", 32, 3)),
        ("dense", 6, 0),
    ),
    "rnet": (
        *(("conv", 24, 3), ("pool", 3, 2), ("conv", 40, 3), ("pool", 3, 2), ("conv", 64, 2)),
        *(("dense", 128, 0), ("dense", 6, 0)),
    ),
    "onet": (
        *(("conv", 16, 3), ("pool", 3, 2), ("conv", 40, 3), ("pool", 3, 2)),
        *(("conv", 64, 3), ("pool", 2, 2), ("conv", 96, 2)),
        *(("dense", 192, 0), ("dense", 16, 0)),
    ),
}


def new_net(name: str, rng: np.random.Generator) -> Net:
    """One of the detector's networks with random weights.

    Args:
        name: one of `NAMES`.
        rng: decides them.
    """
    return random_net(_PLANS[name], SIDES[name], 3, rng)


def random_net(plan: Plan, side: int, channels: int, rng: np.random.Generator) -> Net:
    """A network with random weights (He et al. 2015), small ones in the last layer; PReLU follows
    all but that.

    Args:
        plan: a row per layer: conv, outputs, kernel; pool, kernel, stride; dense, outputs, 0.
        side: px of its pictures.
        channels: of its pictures.
        rng: decides the weights.
    """
    layers = []
    for index, (kind, size, kernel) in enumerate(plan):
        if kind == "pool":
            layers.append(MaxPool(kernel=size, stride=kernel))
            side = -(-(side - size) // kernel) + 1
            continue
        shape = (size, channels, kernel, kernel) if kind == "conv" else (size, channels * side**2)
        inputs = float(np.prod(shape[1:]))
        last = index == len(plan) - 1
        spread = (2 / inputs) ** 0.5 * (0.1 if last else 1)
        weight = jnp.asarray(spread * rng.normal(size=shape), jnp.float32)
        layer = Conv if kind == "conv" else Dense
        layers.append(layer(weight=weight, bias=jnp.zeros(size, jnp.float32)))
        side, channels = (side - kernel + 1, size) if kind == "conv" else (1, size)
        if not last:
            layers.append(PReLU(slope=jnp.full(size, 0.25, jnp.float32)))
    return Net(layers=tuple(layers))


def new_detector(seed: int, frame: BoxFrame) -> MTCNN:
    """Three networks with random weights.

    Args:
        seed: decides them.
        frame: where the landmarks lie in the boxes that they learn.
    """
    pnet, rnet, onet = (
        new_net(name, np.random.default_rng([seed, index])) for index, name in enumerate(NAMES)
    )
    return MTCNN(pnet=pnet, rnet=rnet, onet=onet, landmark_frame=frame)


def run_batch(net: Net, maps: Float[Array, "b h w c"]) -> Float[Array, "b o"]:
    """Outputs for crops of the network's own size; the same as `vmap(net)`, with a quick gradient.

    The layers' own gathers turn into scatters in reverse mode, ten times slower on a CPU.
    """
    for layer in net.layers:
        if isinstance(layer, Conv):
            maps = _convolve(layer, maps)
        elif isinstance(layer, MaxPool):
            maps = _pool(_pool(maps, layer, 1), layer, 2)
        elif isinstance(layer, Dense):
            if maps.ndim == 4:
                maps = maps.transpose(0, 3, 2, 1).reshape(maps.shape[0], -1)
            maps = jnp.dot(maps, layer.weight.T, precision=lax.Precision.HIGHEST) + layer.bias[None]
        else:
            maps = layer(maps)
    return maps


def _convolve(layer: Conv, maps: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
    outputs, _, height, width = layer.weight.shape
    rows, cols = maps.shape[1] - height + 1, maps.shape[2] - width + 1
    shifted = [maps[:, y : y + rows, x : x + cols] for y in range(height) for x in range(width)]
    kernel = layer.weight.transpose(2, 3, 1, 0).reshape(-1, outputs)
    patches = jnp.concatenate(shifted, axis=-1)
    return jnp.dot(patches, kernel, precision=lax.Precision.HIGHEST) + layer.bias[None, None, None]


def _pool(maps: Float[Array, "b h w c"], layer: MaxPool, axis: int) -> Float[Array, "b h2 w2 c"]:
    """Maximum over windows along one axis; the last window may be cut."""
    size = maps.shape[axis]
    steps = -(-(size - layer.kernel) // layer.stride) + 1
    end = (steps - 1) * layer.stride + layer.kernel - size
    padding = [(0, end if other == axis else 0) for other in range(4)]
    maps = jnp.pad(maps, padding, constant_values=-jnp.inf)
    reach = (steps - 1) * layer.stride + 1
    windows = [
        lax.slice_in_dim(maps, start, start + reach, layer.stride, axis)
        for start in range(layer.kernel)
    ]
    best = windows[0]
    for window in windows[1:]:
        best = jnp.where(window > best, window, best)  # its gradient is quicker than maximum's
    return best
