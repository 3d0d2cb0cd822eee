"""What the detector's networks are taught with, and where their scores are cut."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from ...detect import Net
from ._nets import run_batch
from .mining import NEGATIVE, POSITIVE, Crops

_HARD = 0.7  # share of the faces and non-faces of a batch, the worst ones, that count
_NEAR = 0.05  # box sizes; errors below count less
_MIRRORED_POINTS = np.array([1, 0, 2, 4, 3])


def detector_loss(
    net: Net,
    batch: tuple[UInt8[Array, "b s s 3"], Int[Array, " b"], Array, Array],
    key: PRNGKeyArray,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Loss of one batch of crops.

    Args:
        net: one of the three.
        batch: crops (0 to 255), kinds, corrections, points; see `Crops`.
        key: of mirroring and of changes of light.
    Returns:
        The sum of the losses of face scores, boxes and, where the network has them, points;
        and each of them.
    """
    images, kinds, corrections, points = batch
    mirror_key, light_key = jax.random.split(key)
    mirrored = jax.random.bernoulli(mirror_key, 0.5, kinds.shape)
    images = vary_light(images.astype(jnp.float32), light_key)
    images, corrections, points = mirror(images, corrections, points, mirrored)
    outputs = run_batch(net, (images - 127.5) / 128)
    scored = (kinds == POSITIVE) | (kinds == NEGATIVE)
    margin = outputs[:, 1] - outputs[:, 0]
    losses = jax.nn.softplus(jnp.where(kinds == POSITIVE, -margin, margin))  # cross entropy
    terms = {"score": hard_mean(losses, scored, _HARD)}
    shown = kinds != NEGATIVE
    terms["box"] = _mean_error(outputs[:, 2:6], corrections, shown)
    if outputs.shape[1] > 6:
        flat = jnp.concatenate([points[..., 0], points[..., 1]], axis=1)
        terms["points"] = _mean_error(outputs[:, 6:], flat, shown)
    return jnp.sum(jnp.stack(list(terms.values()))), terms


def hard_mean(
    losses: Float[Array, " b"], counted: Bool[Array, " b"], share: float
) -> Float[Array, ""]:
    """Mean of the largest `share` of those losses that count."""
    ranked = jnp.sort(jnp.where(counted, losses, -1))[::-1]
    most = jnp.ceil(share * jnp.sum(counted).astype(losses.dtype))
    chosen = jnp.arange(len(losses), dtype=most.dtype) < most
    return jnp.sum(jnp.where(chosen, ranked, 0)) / jnp.maximum(most, 1)


def _mean_error(
    outputs: Float[Array, "b n"], targets: Float[Array, "b n"], shown: Bool[Array, " b"]
) -> Float[Array, ""]:
    """Sum over a box's four edges, or as many points' coordinates, of Huber's error."""
    apart = jnp.abs(outputs - targets)
    errors = jnp.where(apart < _NEAR, apart**2 / (2 * _NEAR), apart - _NEAR / 2).mean(1)
    return (
        jnp.sum(jnp.where(shown, errors, 0))
        * 4
        / jnp.maximum(jnp.sum(shown).astype(errors.dtype), 1)
    )


def mirror(
    images: Float[Array, "b s s 3"],
    corrections: Float[Array, "b 4"],
    points: Float[Array, "b 5 2"],
    mirrored: Bool[Array, " b"],
) -> tuple[Float[Array, "b s s 3"], Float[Array, "b 4"], Float[Array, "b 5 2"]]:
    """Mirrors some crops, with their boxes and points."""
    images = jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    turned = corrections[:, jnp.array([2, 1, 0, 3])] * jnp.array([[-1.0, 1, -1, 1]])
    corrections = jnp.where(mirrored[:, None], turned, corrections)
    turned = points[:, _MIRRORED_POINTS] * jnp.array([[[-1.0, 1]]]) + jnp.array([[[1.0, 0]]])
    return images, corrections, jnp.where(mirrored[:, None, None], turned, points)


def vary_light(images: Float[Array, "b s s 3"], key: PRNGKeyArray) -> Float[Array, "b s s 3"]:
    """Changes contrast, brightness and colours of each crop; makes some grey."""
    keys = jax.random.split(key, 4)
    count = (images.shape[0], 1, 1)
    gain = jnp.exp(0.2 * jax.random.normal(keys[0], (*count, 1)))
    cast = jnp.exp(0.06 * jax.random.normal(keys[1], (*count, 3)))
    level = 12 * jax.random.normal(keys[2], (*count, 1))
    grey = jax.random.bernoulli(keys[3], 0.15, (*count, 1))
    images = jnp.where(grey, images.mean(-1, keepdims=True), images)
    return jnp.clip(images * gain * cast + level, 0, 255)


@jax.jit
def _margins(net: Net, images: UInt8[Array, "b s s 3"]) -> Float[Array, " b"]:
    outputs = run_batch(net, (images.astype(jnp.float32) - 127.5) / 128)
    return outputs[:, 1] - outputs[:, 0]


def crop_margins(net: Net, images: UInt8[np.ndarray, "n s s 3"]) -> Float[np.ndarray, " n"]:
    """How much a network prefers face to non-face (difference of logits)."""
    blocks = [images[i : i + 256] for i in range(0, len(images), 256)]
    return np.concatenate([np.asarray(_margins(net, block)) for block in blocks])


def face_margins(net: Net, crops: Crops, kind: int) -> Float[np.ndarray, " k"]:
    """`crop_margins` of the crops of a kind."""
    return crop_margins(net, crops.images[crops.kinds == kind])


def set_operating_point(net: Net, margins: np.ndarray, misses: float, threshold: float) -> Net:
    """Shifts the face score so that `threshold` lets all but a share of these faces pass.

    Args:
        net: one of the three.
        margins: of validation faces.
        misses: share of them that may fail.
        threshold: of `DetectConfig`.
    """
    wanted = np.log(threshold / (1 - threshold))
    return shift_scores(net, float(wanted - np.quantile(margins, misses)))


def shift_scores(net: Net, shift: float) -> Net:
    """Adds to how much a network prefers face to non-face."""
    return eqx.tree_at(
        lambda net: net.layers[-1].bias, net, replace_fn=lambda bias: bias.at[1].add(shift)
    )
