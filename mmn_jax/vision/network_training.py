"""Trains the project's own networks, from fresh weights or from those of another training.

A network learns to classify images of classes outside the long-tailed set (`pretrain`), or of the long-tailed classes themselves, all or
those with many examples (`train` with an `ImageTask`; `joint.py`). Its features are then used without its last layer. In each epoch every
image is drawn once, whatever its class, and augmented at random (`augment.py`).
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
    """How a network is built and trained.

    dim: d of the features. widths: channels of the layers. epochs: passes over the images. batch: images in a step. rate: the peak of the
    learning rate. decay: weight decay of AdamW. smoothing: of the labels. held_out: the share of the images that `pretrain` measures
    accuracy on. strength: of `letters`.
    """

    dim: int = 128
    widths: tuple[int, ...] = (32, 64, 128, 128)
    epochs: float = 8.0
    batch: int = 128
    rate: float = 3e-3
    decay: float = 0.02
    smoothing: float = 0.05
    held_out: float = 0.05
    strength: Strength = Strength()


Augment = Callable[[jax.Array, jax.Array, Recipe], jax.Array]  # (key, uint8 [B, H, W, ch], recipe) → augmented images


def letters(key: jax.Array, images: jax.Array, recipe: Recipe) -> jax.Array:
    """Augments letters: `distort` at the recipe's strength."""
    return distort(key, images, recipe.strength)


def photographs(key: jax.Array, images: jax.Array, recipe: Recipe) -> jax.Array:
    """Augments photographs: `crop_and_flip`."""
    return crop_and_flip(key, images)


AUGMENTS: dict[str, Augment] = {"letters": letters, "photo": photographs}  # what --config.features.augment may say


class ImageTask(NamedTuple):
    """What a network learns.

    train: uint8 images [n, H, W, 1 or 3] and labels [n]. held: held-out images, on which accuracy is measured after every epoch. known:
    [classes] mask of the classes of these images, among which they are classified. offset: [classes] added to the logits in training, such
    as τ log π (Menon et al. 2021, equation 10).
    """

    train: Examples
    held: Examples
    known: np.ndarray
    offset: np.ndarray


class TrainedNetwork(NamedTuple):
    """A trained network. losses: [steps]. accuracies: [epochs] on the held-out images, from 0 to 1; NaN if there are none. epoch: steps of
    an epoch."""

    variables: Variables
    losses: np.ndarray
    accuracies: np.ndarray
    epoch: int

    @property
    def curve(self) -> list[tuple[float, float]]:
        """Mean loss of every epoch, and the accuracy after it."""
        parts = np.split(self.losses, range(self.epoch, len(self.losses), self.epoch))
        return [(float(part.mean()), float(right)) for part, right in zip(parts, self.accuracies, strict=True)]


def one_cycle(steps: int, peak: float) -> np.ndarray:
    """Returns the learning rates [steps]: from 1/25 of the peak up to it in the first 30 per cent of the steps, then down to 1/1000."""
    schedule = optax.cosine_onecycle_schedule(steps, peak, pct_start=0.3, div_factor=25.0, final_div_factor=40.0)
    return np.asarray(jax.vmap(schedule)(jnp.arange(steps)))


def orders(key: jax.Array, n: int, steps: int, batch: int) -> np.ndarray:
    """Draws the rows [steps, batch] of n images for every step: in random order, every image once before any is repeated."""
    rounds = -(-steps * batch // n)
    rows = jax.vmap(lambda key: jax.random.permutation(key, n))(jax.random.split(key, rounds))
    return np.asarray(rows).reshape(-1)[: steps * batch].reshape(steps, batch)


class NetworkState(NamedTuple):
    """What a step updates: the variables of the network and the state of the optimiser."""

    variables: Variables
    optimiser: optax.OptState


class Progress(NamedTuple):
    """A training up to some step. done: [] number of steps. losses: [steps]. accuracies: [epochs]; both NaN for later ones."""

    done: np.ndarray
    state: NetworkState
    losses: np.ndarray
    accuracies: np.ndarray


def _optimiser(rate, decay):
    return optax.flatten(optax.adamw(rate, weight_decay=decay))


def adjusted_loss(logits: jax.Array, y: jax.Array, known: jax.Array, offset: jax.Array, smoothing: float) -> jax.Array:
    """Returns the mean cross-entropy of logits [B, classes] + offset [classes] among the known classes, with labels [B] smoothed."""
    logits = jnp.where(known, logits + offset, OUTSIDE)
    among = known.astype(logits.dtype)
    target = (1 - smoothing) * jax.nn.one_hot(y, len(known)) + smoothing * among / among.sum()
    return optax.softmax_cross_entropy(logits, target).mean()


@functools.cache  # all trainings of a run share it
def compile_step(network: nn.Module, recipe: Recipe, augment: Augment) -> Callable[..., tuple[NetworkState, jax.Array]]:
    """Returns the jitted step(state, rate, key, images, y, known, offset) → (state, loss), with uint8 images [B, H, W, ch] and y [B]."""

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
    """Returns the jitted top(variables, known, images) → [B], the known class of the largest logit."""

    @jax.jit
    def top(variables, known, images):
        _, logits = network.apply(variables, images, False)
        return jnp.where(known, logits, OUTSIDE).argmax(1)

    return top


def accuracy(network: nn.Module, variables: Variables, examples: Examples, known: np.ndarray, batch: int = 256) -> float:
    """Returns the share of images that the network assigns to their class, among the known classes.

    Args:
      network: the network.
      variables: its variables.
      examples: images [n, H, W, ch] and labels [n].
      known: [classes] mask.
      batch: images that are classified at once.

    Returns:
      The accuracy from 0 to 1, NaN without images.
    """
    (x, y), top, right = examples, _compile_top(network), 0
    for first in range(0, len(x), batch):
        part = coloured(x[first : first + batch])
        padded = np.pad(part, ((0, batch - len(part)), *((0, 0),) * 3))
        right += int((np.asarray(top(variables, known, padded))[: len(part)] == y[first : first + batch]).sum())
    return right / len(x) if len(x) else math.nan


def begin(key: jax.Array, network: nn.Module, sides: tuple[int, int], start: Variables | None = None) -> Variables:
    """Returns the variables that training starts from: those of `start` and fresh ones for what it lacks.

    Args:
      key: of the fresh variables.
      network: the network.
      sides: height and width of the images.
      start: variables, perhaps without those of the last layer.

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
    """Trains a network, on one device. An interrupted training resumes after its last epoch and ends with the same bits.

    Args:
      keys: three keys: of fresh variables, of the order of the images, and of augmentation.
      network: the network.
      task: images, labels and classes.
      recipe: how it is trained.
      augment: augments a batch.
      start: variables that training starts from, perhaps without those of the last layer; fresh ones by default.
      checkpoints: where the training is saved after every epoch.
      track: shows the progress of an iteration.
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
    """Trains a network to classify images of other classes than the long-tailed ones. The same key gives the same variables.

    Args:
      key: PRNG key.
      network: the network, for as many classes as y has.
      x: uint8 [n, H, W, 1] or [n, H, W, 3].
      y: [n] labels from 0.
      recipe: how it is trained, and the share of the images that is held out.
      augment: augments a batch.
      checkpoints: where the training is saved after every epoch.
      track: shows the progress of an iteration.
    """
    split, *keys = jax.random.split(key, 4)
    held, kept = np.split(permutation(split, len(y)), [int(recipe.held_out * len(y))])
    every, classes = Examples(x, y), network.classes
    task = ImageTask(every.at(kept), every.at(held), np.ones(classes, bool), np.zeros(classes))
    return train(keys, network, task, recipe, augment, None, checkpoints, track)
