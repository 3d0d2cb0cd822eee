"""Training of the patch experts of one view and scale: all landmarks in one mapped program.

Mean shift takes each response map as a density, so an expert learns the density of its landmark:
the loss is the cross entropy between the normalised map and a Gaussian around the true place. A
small squared error on the map itself fixes its level, which the likelihood of a fit compares.
"""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, UInt8

SUPPORT = 11
Arrays = Array | np.ndarray  # NumPy before and after training
_HIGHEST = lax.Precision.HIGHEST
_FLAT = np.float32(1e-3)  # squared grey levels of a whole patch: there is nothing to see
_RATE_LEFT = 0.01  # share of the rate that is left at the end


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpertConfig:
    """Settings of the training of experts; hashable, so static under jit."""

    neurons: int = 7
    batch: int = 64
    epochs: int = 8
    rate: float = 0.03  # of Adam; falls to a hundredth along a cosine
    target_sigma: float = 1.0  # px of the response map
    level: float = 10.0  # weight of the squared error beside the cross entropy
    decay: float = 1e-4  # weight of the squared weights


class Experts(eqx.Module):
    """Experts as they are trained: of one landmark, or with a leading axis of all of a view."""

    weights: Float[Arrays, "*n k 11 11"]
    bias: Float[Arrays, "*n k"]
    log_alpha: Float[Arrays, "*n k"]


class Examples(NamedTuple):
    """Areas around starts, and where in the response map the landmark truly is."""

    areas: UInt8[Arrays, "n a s s"]
    places: Float[Arrays, "n a 2"]  # column and row, px of the map
    present: Float[Arrays, "n a"]  # weight of the example; 0 where the landmark is hidden


class Progress(eqx.Module):
    """State of a training run; all that a checkpoint holds."""

    experts: Experts
    optimiser: PyTree  # state of Adam, one for each landmark
    epoch: Int[Array, ""]


def _adam(config: ExpertConfig, steps: int) -> Any:
    import optax

    return optax.adam(optax.cosine_decay_schedule(config.rate, steps, _RATE_LEFT), b2=0.99)


def start_training(key: PRNGKeyArray, landmarks: int, config: ExpertConfig) -> Progress:
    """Small random neurons that fire rarely."""
    shape = (landmarks, config.neurons)
    weights = 0.3 * jax.random.normal(key, (*shape, SUPPORT, SUPPORT), jnp.float32)
    experts = Experts(weights, jnp.full(shape, -2, jnp.float32), jnp.zeros(shape, jnp.float32))
    optimiser = jax.vmap(_adam(config, 1).init)(experts)
    return Progress(experts, optimiser, jnp.zeros((), jnp.int32))


def raw_responses(expert: Experts, areas: Float[Arrays, "a s s"]) -> Float[Array, "a w w"]:
    """Maps of one landmark, 0 to 1: what `ccnf_responses` gives without coupled pixels."""
    count, side, _ = areas.shape
    window = side - SUPPORT + 1
    neurons = expert.weights.shape[0]
    centred = areas - jnp.mean(areas, axis=(1, 2), keepdims=True)
    rows = _toeplitz(expert.weights, window)
    lines = centred.reshape(count, side * side)
    bands = [lines[:, r * side : (r + SUPPORT) * side] for r in range(window)]
    stacked = jnp.stack(bands, axis=1).reshape(count * window, SUPPORT * side)
    products = jnp.dot(stacked, rows, precision=_HIGHEST)
    products = products.reshape(count, window, neurons, window)
    fired = jax.nn.sigmoid(
        products * _inverse_norms(centred)[:, :, None] + expert.bias[None, None, :, None]
    )
    return jnp.einsum("k,arkc->arc", jax.nn.softmax(expert.log_alpha), fired, precision=_HIGHEST)


def _toeplitz(weights: Float[Arrays, "k 11 11"], window: int) -> Float[Array, "r j"]:
    """Matrix that takes 11 rows of an area to one row of each neuron's map."""
    side = window + SUPPORT - 1
    centred = weights - jnp.mean(weights, axis=(1, 2), keepdims=True)
    shifted = [
        jnp.pad(centred, ((0, 0), (0, 0), (c, window - 1 - c))).transpose(1, 2, 0)
        for c in range(window)
    ]
    return jnp.stack(shifted, axis=-1).reshape(SUPPORT * side, -1)


def _inverse_norms(areas: Float[Arrays, "a s s"]) -> Float[Array, "a w w"]:
    """One over the length of each 11x11 patch without its mean; 0 where it is flat."""
    side = areas.shape[-1]
    offset = np.arange(side)[:, None] - np.arange(side - SUPPORT + 1)
    band = ((offset >= 0) & (offset < SUPPORT)).astype(np.float32)
    both = jnp.stack([areas, areas * areas])
    total, square = jnp.einsum("cayx,xq,yp->capq", both, band, band, precision=_HIGHEST)
    energy = square - total * total / SUPPORT**2
    return jnp.where(energy > _FLAT, lax.rsqrt(jnp.maximum(energy, _FLAT)), 0)


def target_maps(places: Float[Arrays, "a 2"], window: int, sigma: float) -> Float[Array, "a w w"]:
    """Gaussians of height 1 at places (column, row)."""
    cells = np.arange(window, dtype=np.float32)
    each = jnp.exp(np.float32(-0.5 / sigma**2) * (places[..., None] - cells[None, None]) ** 2)
    return each[:, 1, :, None] * each[:, 0, None, :]


def _losses(
    expert: Experts, example: Examples, config: ExpertConfig
) -> tuple[Float[Array, ""], Float[Array, "2"]]:
    """Loss of one landmark, and its terms: cross entropy above the target's entropy, and square."""
    maps = raw_responses(expert, example.areas.astype(jnp.float32))
    target = target_maps(example.places, maps.shape[-1], config.target_sigma)
    mass = jnp.sum(target, axis=(1, 2))
    # A landmark outside the map says nothing about where it is, but that it is not here.
    seen = mass > np.float32(0.5 * 2 * np.pi * config.target_sigma**2)
    inside = jnp.where(seen, example.present, 0)
    total = jnp.sum(maps, axis=(1, 2))
    density = target / jnp.maximum(mass, np.float32(1e-6))[:, None, None]
    logs = jnp.log(maps + np.float32(1e-6)) - jnp.log(total + np.float32(1e-4))[:, None, None]
    entropy = jnp.log(density + np.float32(1e-12))
    cross = jnp.sum(density * (entropy - logs), axis=(1, 2))
    square = jnp.mean((maps - target) ** 2, axis=(1, 2))
    count = jnp.maximum(jnp.sum(example.present), 1)
    terms = jnp.stack(
        [
            jnp.sum(inside * cross) / jnp.maximum(jnp.sum(inside), 1),
            jnp.sum(example.present * square) / count,
        ]
    )
    shrink = jnp.sum(expert.weights**2)
    return terms[0] + config.level * terms[1] + config.decay * shrink, terms


@eqx.filter_jit
def train_epoch(
    progress: Progress, examples: Examples, key: PRNGKeyArray, config: ExpertConfig
) -> tuple[Progress, Float[Array, "n 2"]]:
    """One pass over the examples in random order.

    Args:
        key: of the whole run; the order follows from it and the epoch.
    Returns:
        The next state, and the mean losses of each landmark: cross entropy, squared error.
    """
    count = examples.areas.shape[1]
    batches = count // config.batch
    order = jax.random.permutation(jax.random.fold_in(key, progress.epoch), count)
    rows = order[: batches * config.batch].reshape(batches, config.batch)
    adam = _adam(config, config.epochs * batches)

    def one(landmark):
        expert, optimiser, example = landmark

        def step(carry, row):
            expert, optimiser = carry
            batch = Examples(*(leaf[row] for leaf in example))
            gradient, terms = jax.grad(_losses, has_aux=True)(expert, batch, config)
            # Optax relies on promotion, which whoever calls this may have forbidden.
            with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
                change, optimiser = adam.update(gradient, optimiser)
            return (jax.tree.map(jnp.add, expert, change), optimiser), terms

        state, terms = lax.scan(step, (expert, optimiser), rows)
        return state, jnp.mean(terms, axis=0)

    # One landmark after the other: what one batch needs then stays in a core's cache.
    (experts, optimiser), terms = lax.map(one, (progress.experts, progress.optimiser, examples))
    return Progress(experts, optimiser, progress.epoch + 1), terms


@eqx.filter_jit
def map_quality(
    experts: Experts, examples: Examples, config: ExpertConfig
) -> tuple[Float[Array, "n 2"], Float[Array, " n"]]:
    """Losses of each landmark, and the mean squared distance between the mean of its map under a
    kernel at the true place and that place, px of the map."""

    def one(leaf):
        expert, example = leaf
        _, terms = _losses(expert, example, config)
        return terms, _misplacement(expert, example, config)

    return lax.map(one, (experts, examples))


def _misplacement(expert: Experts, example: Examples, config: ExpertConfig):
    maps = raw_responses(expert, example.areas.astype(jnp.float32))
    window = maps.shape[-1]
    near = target_maps(example.places, window, 2 * config.target_sigma)
    cells = np.arange(window, dtype=np.float32)
    mass = maps * near
    total = jnp.sum(mass, axis=(1, 2)) + np.float32(1e-9)
    found = jnp.stack(
        [jnp.sum(mass * side, axis=(1, 2)) for side in (cells[None, None], cells[None, :, None])]
    )
    missed = jnp.sum((found.T / total[:, None] - example.places) ** 2, axis=1)
    margin = np.float32(0.5)
    within = jnp.all((example.places > -margin) & (example.places < window - 1 + margin), axis=1)
    weight = jnp.where(within, example.present, 0)
    return jnp.sum(weight * missed) / jnp.maximum(jnp.sum(weight), 1)
