"""The training loop: seeded, with a progress bar, interrupted and resumed at will."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from tqdm import tqdm

from ._checkpoint import load_state, save_state

if TYPE_CHECKING:
    import optax

Model = TypeVar("Model")
# Loss of a batch, and the terms that it is the sum of, to be drawn.
Loss = Callable[
    [Model, PyTree[Array], PRNGKeyArray], tuple[Float[Array, ""], dict[str, Float[Array, ""]]]
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How long and how fast to train."""

    steps: int
    rate: float = 1e-3  # at its highest; rises over the first 5 %, falls to 1/100 as a cosine
    decay: float = 1e-4  # of the weights, per step and rate
    save_every: int = 500  # steps


@dataclasses.dataclass(frozen=True)
class Fitted(Generic[Model]):
    """A trained model and the losses on the way."""

    model: Model
    losses: dict[str, np.ndarray]  # one per step


def _optimizer(recipe: Recipe) -> "optax.GradientTransformation":
    import optax

    schedule = optax.warmup_cosine_decay_schedule(
        recipe.rate / 10,
        recipe.rate,
        max(recipe.steps // 20, 1),
        max(recipe.steps, 2),
        recipe.rate / 100,
    )
    return optax.chain(
        optax.clip_by_global_norm(5.0), optax.adamw(schedule, weight_decay=recipe.decay)
    )


def _step(
    loss: Loss, optimizer: "optax.GradientTransformation", static: PyTree
) -> Callable[[PyTree, PyTree, PRNGKeyArray], tuple[PyTree, dict[str, Float[Array, ""]]]]:
    """One compiled step: (state, batch, key) -> state and the losses."""

    import optax

    @jax.jit
    def advance(state: PyTree, batch: PyTree, key: PRNGKeyArray) -> tuple[PyTree, dict]:
        arrays, moments = state

        def total(arrays: PyTree) -> tuple[Float[Array, ""], dict]:
            return loss(eqx.combine(arrays, static), batch, key)

        (value, terms), gradient = jax.value_and_grad(total, has_aux=True)(arrays)
        # Optax relies on promotion, which whoever calls this may have forbidden.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            updates, moments = optimizer.update(gradient, moments, arrays)
            arrays = optax.apply_updates(arrays, updates)
        return (arrays, moments), {"loss": value, **terms}

    return advance


def fit(
    model: Model,
    loss: Loss,
    batches: Callable[[int], PyTree[np.ndarray]],
    recipe: Recipe,
    *,
    terms: tuple[str, ...],
    checkpoint: Path,
    title: str,
    seed: int,
) -> Fitted[Model]:
    """Trains a model with AdamW.

    What happens in a step follows from its number and the seed, so a run that was interrupted
    ends bit for bit as one that was not.

    Args:
        model: with its first weights; all its arrays are trained.
        loss: (model, batch, key) -> loss and its terms.
        batches: the batch of a step.
        recipe: how long and how fast.
        terms: names of the loss's terms.
        checkpoint: file that the state is kept in; named after all settings by the caller.
        title: of the progress bar.
        seed: of the keys given to `loss`.
    Raises:
        FloatingPointError: the loss is no number any more.
    """
    optimizer = _optimizer(recipe)
    arrays, static = eqx.partition(model, eqx.is_array)
    state = arrays, optimizer.init(arrays)
    state, curve = load_state(checkpoint, state)
    names = ("loss", *terms)

    advance = _step(loss, optimizer, static)
    root = jax.random.key(seed)
    bar = tqdm(
        range(len(curve), recipe.steps), title, recipe.steps, initial=len(curve), unit="step"
    )
    for step in bar:
        state, found = advance(state, batches(step), jax.random.fold_in(root, jnp.uint32(step)))
        curve.append(np.array([found[name] for name in names], np.float32))
        if not np.isfinite(curve[-1][0]):
            raise FloatingPointError(f"{title}: the loss is {curve[-1][0]} in step {step}")
        if step % 20 == 0:
            bar.set_postfix(loss=f"{np.mean(curve[-50:], axis=0)[0]:.4f}", refresh=False)
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
            save_state(checkpoint, state, curve)
    losses = dict(zip(names, np.array(curve).T, strict=True))
    return Fitted(eqx.combine(state[0], static), losses)
