"""How a network of ours is trained, from nothing or from another training: images → variables.

It learns to tell apart classes that are not among the long-tailed ones (`pretrain`), or the long-tailed ones themselves, all of them or
those with many examples (`train` with an `ImageTask` of them; `joint.py`); its last layer is then thrown away. Every image is drawn
once before any is drawn again, whatever its class, and augmented at random (`augment.py`).
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from mmn_jax.errors import BadInput
from mmn_jax.rng import permutation
from mmn_jax.store.checkpoints import Checkpoints
from mmn_jax.types import Examples
from mmn_jax.vision.arrays import coloured
from mmn_jax.vision.augment import Strength, crop_and_flip, distort
from mmn_jax.vision.networks import Variables

Track = Callable[[Iterable, str], Iterable]
OUTSIDE = -1e9  # the logit of a class that a task leaves out


class Recipe(NamedTuple):
    """How the network is built and trained. widths: channels of the layers. rate: at the top of a single cycle; decay: of AdamW;
    smoothing: of the labels. held_out: the share of the images that accuracy is measured on in `pretrain`. strength: of `letters`."""

    dim: int = 128
    widths: tuple[int, ...] = (32, 64, 128, 128)
    epochs: float = 8.0
    batch: int = 128
    rate: float = 3e-3
    decay: float = 0.02
    smoothing: float = 0.05
    held_out: float = 0.05
    strength: Strength = Strength()


Augment = Callable[[jax.Array, jax.Array, Recipe], jax.Array]  # key, uint8 [B, H, W, ch] → the same, changed at random


def letters(key: jax.Array, images: jax.Array, recipe: Recipe) -> jax.Array:
    """`distort` at the recipe's strength."""
    return distort(key, images, recipe.strength)


def photographs(key: jax.Array, images: jax.Array, recipe: Recipe) -> jax.Array:
    """`crop_and_flip`."""
    return crop_and_flip(key, images)


AUGMENTS: dict[str, Augment] = {"letters": letters, "photo": photographs}  # what --config.features.augment may say


class ImageTask(NamedTuple):
    """What is to be learned. train: uint8 [n, H, W, 1 or 3] and labels [n]. held: others, whose accuracy is looked at after every epoch.
    known: [classes] mask of the classes that are told apart, those of all these examples. offset: [classes] added to their logits in
    training, such as τ log π (Menon et al. 2021, equation 10)."""

    train: Examples
    held: Examples
    known: np.ndarray
    offset: np.ndarray


class TrainedNetwork(NamedTuple):
    """variables: of the network. losses: [steps]. accuracies: [epochs] on the held-out images, as a share; NaN where there are none.
    epoch: its steps."""

    variables: Variables
    losses: np.ndarray
    accuracies: np.ndarray
    epoch: int

    @property
    def curve(self) -> list[tuple[float, float]]:
        """The mean loss of every epoch, and the accuracy after it."""
        parts = np.split(self.losses, range(self.epoch, len(self.losses), self.epoch))
        return [(float(part.mean()), float(right)) for part, right in zip(parts, self.accuracies, strict=True)]


def one_cycle(steps: int, peak: float) -> np.ndarray:
    """[steps] learning rates: up from a 25th of the peak over the first 30 per cent, and down to a thousandth along half a cosine."""
    schedule = optax.cosine_onecycle_schedule(steps, peak, pct_start=0.3, div_factor=25.0, final_div_factor=40.0)
    return np.asarray(jax.vmap(schedule)(jnp.arange(steps)))


def orders(key: jax.Array, n: int, steps: int, batch: int) -> np.ndarray:
    """[steps, batch] rows of the n images: every one once, in random order, before any of them again."""
    rounds = -(-steps * batch // n)
    rows = jax.vmap(lambda key: jax.random.permutation(key, n))(jax.random.split(key, rounds))
    return np.asarray(rows).reshape(-1)[: steps * batch].reshape(steps, batch)


class NetworkState(NamedTuple):
    """What a step changes."""

    variables: Variables
    optimiser: optax.OptState


class Progress(NamedTuple):
    """What a training is at. done: [] steps. losses: [steps], and accuracies: [epochs], NaN for what is to come."""

    done: np.ndarray
    state: NetworkState
    losses: np.ndarray
    accuracies: np.ndarray


def _optimiser(rate, decay):
    return optax.flatten(optax.adamw(rate, weight_decay=decay))


def adjusted_loss(logits: jax.Array, y: jax.Array, known: jax.Array, offset: jax.Array, smoothing: float) -> jax.Array:
    """Mean cross-entropy of logits [B, classes] + offset [classes] among the known classes, labels [B] smoothed over these."""
    logits = jnp.where(known, logits + offset, OUTSIDE)
    among = known.astype(logits.dtype)
    wanted = (1 - smoothing) * jax.nn.one_hot(y, len(known)) + smoothing * among / among.sum()
    return optax.softmax_cross_entropy(logits, wanted).mean()


@functools.cache  # stages of one run share it
def compile_step(network: nn.Module, recipe: Recipe, augment: Augment) -> Callable[..., tuple[NetworkState, jax.Array]]:
    """The jitted step(state, rate, key, images, y, known, offset) → (state, loss), images: uint8 [B, H, W, ch], y: [B]."""

    def loss(params, stats, images, y, known, offset):
        (_, logits), changed = network.apply({"params": params, **stats}, images, True, mutable="batch_stats")
        return adjusted_loss(logits, y, known, offset, recipe.smoothing), changed

    @partial(jax.jit, donate_argnums=0)
    def step(state, rate, key, images, y, known, offset):
        images = augment(key, images, recipe)
        images = jnp.broadcast_to(images, (*images.shape[:3], 3))
        params, stats = state.variables["params"], {"batch_stats": state.variables["batch_stats"]}
        (value, changed), gradient = jax.value_and_grad(loss, has_aux=True)(params, stats, images, y, known, offset)
        update, optimiser = _optimiser(rate, recipe.decay).update(gradient, state.optimiser, params)
        return NetworkState({"params": optax.apply_updates(params, update), **changed}, optimiser), value

    return step


@functools.cache
def _compile_top(network):
    """The jitted top(variables, known, images) → [B] the known class of the largest logit."""

    @jax.jit
    def top(variables, known, images):
        _, logits = network.apply(variables, images, False)
        return jnp.where(known, logits, OUTSIDE).argmax(1)

    return top


def accuracy(network: nn.Module, variables: Variables, examples: Examples, known: np.ndarray, batch: int = 256) -> float:
    """Share of the images [n, H, W, ch] that the network gives their class among the known ones; NaN where there are none."""
    (x, y), top, right = examples, _compile_top(network), 0
    for first in range(0, len(x), batch):
        part = coloured(x[first : first + batch])
        padded = np.pad(part, ((0, batch - len(part)), *((0, 0),) * 3))
        right += int((np.asarray(top(variables, known, padded))[: len(part)] == y[first : first + batch]).sum())
    return right / len(x) if len(x) else math.nan


def begin(key: jax.Array, network: nn.Module, sides: tuple[int, int], start: Variables | None = None) -> Variables:
    """Variables before training on images of these sides: those of `start`, which may lack the head, and fresh ones for what it lacks.

    Raises:
      BadInput: the images are too small for the network.
    """
    if min(sides) >> network.halvings == 0:
        what = f"{len(network.widths)} layers leave nothing of images of {sides[0]} by {sides[1]} pixels"
        raise BadInput(f"--config.features.widths: {what}; give fewer, or larger images")
    fresh = jax.jit(network.init, static_argnums=2)(key, jnp.zeros((2, *sides, 3), jnp.uint8), False)
    return jax.device_put(unflatten_dict({**flatten_dict(fresh), **flatten_dict(start or {})}))


def train(
    keys: Sequence[jax.Array],
    network: nn.Module,
    task: ImageTask,
    recipe: Recipe,
    augment: Augment = letters,
    start: Variables | None = None,
    checkpoints: Checkpoints | None = None,
    track: Track = lambda items, name: items,
) -> TrainedNetwork:
    """The network trained on the task, from `start` where that is given; one that was stopped goes on after its last epoch and ends in
    the same bits. It trains on one device.

    Args:
      keys: [3] of fresh variables, of the order of the images, and of how they are changed.
    """
    (x, y), step = task.train, compile_step(network, recipe, augment)
    known, offset = jnp.asarray(task.known), jnp.asarray(task.offset, jnp.float32)
    steps, epoch = max(1, round(recipe.epochs * len(y) / recipe.batch)), -(-len(y) // recipe.batch)
    rows, rates = orders(keys[1], len(y), steps, recipe.batch), one_cycle(steps, recipe.rate)
    variables = begin(keys[0], network, x.shape[1:3], start)
    state = NetworkState(variables, _optimiser(recipe.rate, recipe.decay).init(variables["params"]))
    losses, accuracies = np.full(steps, np.nan, np.float32), np.full(-(-steps // epoch), np.nan)
    fresh = Progress(np.zeros((), int), state, losses, accuracies)
    latest = None if checkpoints is None else checkpoints.latest(fresh)
    done, state, losses, accuracies = fresh if latest is None else latest._replace(state=jax.device_put(latest.state))
    waiting = []  # losses that the device may still be computing
    for i in track(range(int(done), steps), "backbone"):
        key = jax.random.fold_in(keys[2], i)
        state, loss = step(state, rates[i], key, x[rows[i]], y[rows[i]], known, offset)
        waiting.append(loss)
        if (i + 1) % epoch == 0 or i + 1 == steps:
            losses[i + 1 - len(waiting) : i + 1], waiting = jax.device_get(waiting), []
            accuracies[i // epoch] = accuracy(network, state.variables, task.held, task.known)
            if checkpoints is not None:
                checkpoints.save(i + 1, Progress(np.array(i + 1), state, losses, accuracies))
    return TrainedNetwork(jax.device_get(state.variables), losses, accuracies, epoch)


def pretrain(
    key: jax.Array,
    network: nn.Module,
    x: np.ndarray,
    y: np.ndarray,
    recipe: Recipe,
    augment: Augment = letters,
    checkpoints: Checkpoints | None = None,
    track: Track = lambda items, name: items,
) -> TrainedNetwork:
    """The network trained to tell the classes of images apart; x: uint8 [n, H, W, 1] or [n, H, W, 3], y: [n] from 0. The same key gives
    the same variables."""
    split, *keys = jax.random.split(key, 4)
    held, kept = np.split(permutation(split, len(y)), [int(recipe.held_out * len(y))])
    every, classes = Examples(x, y), network.classes
    task = ImageTask(every.at(kept), every.at(held), np.ones(classes, bool), np.zeros(classes))
    return train(keys, network, task, recipe, augment, None, checkpoints, track)
