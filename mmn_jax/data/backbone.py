"""A small convolutional network of our own: images → d features. It learns to tell apart characters that are not among the long-tailed
classes; its last layer is then thrown away.

    features = BatchNorm ∘ FC ∘ (MaxPool ∘ ReLU ∘ BatchNorm ∘ Conv)^L,     logits = FC(features)

Every image of training is seen moved, turned, scaled, slanted and made bolder or lighter at random, another way each time (`distort`).
"""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

Variables = dict[str, Any]
Track = Callable[[Iterable, str], Iterable]


class Strength(NamedTuple):
    """How far an image is distorted at most. shift: a share of its side. turn: radians. scale: of its logarithm, for each axis.
    slant: of x by y. weight: how much of a stroke's rim of one pixel is added or taken away."""

    shift: float = 0.08
    turn: float = 0.12
    scale: float = 0.15
    slant: float = 0.15
    weight: float = 0.6


class Recipe(NamedTuple):
    """How the network is built and trained. widths: channels of the layers, each of which halves the sides. rate: at the top of a
    single cycle; decay: of AdamW; smoothing: of the labels. held_out: the share of the images that accuracy is measured on."""

    dim: int = 128
    widths: tuple[int, ...] = (32, 64, 128, 128)
    epochs: float = 8.0
    batch: int = 128
    rate: float = 3e-3
    decay: float = 0.02
    smoothing: float = 0.05
    held_out: float = 0.05
    strength: Strength = Strength()


class Trained(NamedTuple):
    """variables: of the network. losses: [steps]. accuracy: on held-out images of the classes that it was trained on; NaN where none
    were held out."""

    variables: Variables
    losses: np.ndarray
    accuracy: float


def _halved(x):
    """The largest of every 2 × 2; taken pairwise, since the gradient of XLA's windowed maximum is slow on a CPU."""
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    x = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])


class Network(nn.Module):
    """uint8 [B, H, W, 3] → [B, dim] features and [B, classes] logits."""

    dim: int
    widths: tuple[int, ...]
    classes: int

    @nn.compact
    def __call__(self, images, train):
        x = images.astype(jnp.float32) / 255.0
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        for i, width in enumerate(self.widths):
            x = nn.Conv(width, (3, 3), use_bias=False, name=f"conv_{i}")(x)
            x = _halved(nn.relu(norm(name=f"norm_{i}")(x)))
        x = norm(name="norm_out")(nn.Dense(self.dim, name="embed")(x.reshape(len(x), -1)))
        return x, nn.Dense(self.classes, name="head")(x)


def network_of(variables: Variables) -> Network:
    """The network that these variables belong to; their shapes tell."""
    params = variables["params"]
    widths = tuple(params[f"conv_{i}"]["kernel"].shape[-1] for i in range(sum(name.startswith("conv_") for name in params)))
    return Network(params["embed"]["kernel"].shape[-1], widths, params["head"]["kernel"].shape[-1])


def features(variables: Variables, images: jax.Array) -> jax.Array:
    """[B, dim] features of uint8 images [B, H, W, 3], of the size that the network was trained on."""
    return network_of(variables).apply(variables, images, False)[0]


def _affine(key, strength):
    """[2, 2] and [2]: where an output pixel (y, x), counted from the centre in half sides, is read."""
    turn, slant, scale_y, scale_x, *shift = jax.random.uniform(key, (6,), minval=-1.0, maxval=1.0)
    cos, sin = jnp.cos(strength.turn * turn), jnp.sin(strength.turn * turn)
    rotation = jnp.array([[cos, -sin], [sin, cos]])
    shear = jnp.array([[1.0, 0.0], [0.0, 1.0]]).at[1, 0].set(strength.slant * slant)
    stretch = jnp.diag(jnp.exp(strength.scale * jnp.array([scale_y, scale_x])))
    return rotation @ shear @ stretch, 2 * strength.shift * jnp.array(shift)


def _read(image, matrix, shift):
    """The image [H, W, ch] read bilinearly at matrix · p + shift; beyond its edge it is black."""
    sides = jnp.array(image.shape[:2], jnp.float32)
    grid = jnp.stack(jnp.meshgrid(*(jnp.arange(side, dtype=jnp.float32) for side in image.shape[:2]), indexing="ij"))
    centred = (grid - (sides[:, None, None] - 1) / 2) / (sides[:, None, None] / 2)
    at = jnp.einsum("ij,jyx->iyx", matrix, centred) + shift[:, None, None]
    at = at * (sides[:, None, None] / 2) + (sides[:, None, None] - 1) / 2
    read = partial(jax.scipy.ndimage.map_coordinates, order=1, cval=0.0)
    return jax.vmap(lambda channel: read(channel, list(at)), 2, 2)(image)


def _reweigh(image, amount):
    """Strokes grow (amount > 0) or shrink by that share of a rim of one pixel."""
    grown = nn.max_pool(image[None], (3, 3), padding="SAME")[0]
    shrunk = -nn.max_pool(-image[None], (3, 3), padding="SAME")[0]
    return image + jnp.maximum(amount, 0) * (grown - image) + jnp.maximum(-amount, 0) * (shrunk - image)


def distort_one(key: jax.Array, image: jax.Array, strength: Strength) -> jax.Array:
    """uint8 [H, W, ch], bright strokes on black, distorted at random."""
    where, weight = jax.random.split(key)
    x = _read(image.astype(jnp.float32), *_affine(where, strength))
    x = _reweigh(x, strength.weight * jax.random.uniform(weight, minval=-1.0, maxval=1.0))
    return jnp.round(jnp.clip(x, 0.0, 255.0)).astype(jnp.uint8)


@jax.jit
def distort(key: jax.Array, images: jax.Array, strength: Strength) -> jax.Array:
    """uint8 [B, H, W, ch], each distorted in its own way."""
    return jax.vmap(distort_one, (0, 0, None))(jax.random.split(key, len(images)), images, strength)


def one_cycle(steps: int, peak: float) -> np.ndarray:
    """[steps] learning rates: up from a 25th of the peak over the first 30 per cent, and down to a thousandth along half a cosine."""
    place = (np.arange(steps) + 0.5) / steps
    up, down = place / 0.3, (place - 0.3) / 0.7
    rising = 1 / 25 + (1 - 1 / 25) * (1 - np.cos(np.pi * np.minimum(up, 1))) / 2
    falling = 1e-3 + (1 - 1e-3) * (1 + np.cos(np.pi * np.maximum(down, 0))) / 2
    return (peak * np.where(place < 0.3, rising, falling)).astype(np.float32)


def orders(key: jax.Array, n: int, steps: int, batch: int) -> np.ndarray:
    """[steps, batch] rows of the n images: every one once, in random order, before any of them again."""
    rounds = -(-steps * batch // n)
    rows = jax.vmap(lambda key: jax.random.permutation(key, n))(jax.random.split(key, rounds))
    return np.asarray(rows).reshape(-1)[: steps * batch].reshape(steps, batch)


class State(NamedTuple):
    """What a step changes."""

    variables: Variables
    optimiser: optax.OptState


def _optimiser(rate, decay):
    return optax.flatten(optax.adamw(rate, weight_decay=decay))


def compile_step(network: Network, recipe: Recipe) -> Callable[..., tuple[State, jax.Array]]:
    """The jitted step(state, rate, key, images, y) → (state, loss) on a batch of uint8 images [B, H, W, ch] with labels [B]."""

    def loss(params, stats, images, y):
        (_, logits), changed = network.apply({"params": params, **stats}, images, True, mutable="batch_stats")
        wanted = optax.smooth_labels(jax.nn.one_hot(y, network.classes), recipe.smoothing)
        return optax.softmax_cross_entropy(logits, wanted).mean(), changed

    @partial(jax.jit, donate_argnums=0)
    def step(state, rate, key, images, y):
        images = distort(key, images, recipe.strength)
        images = jnp.broadcast_to(images, (*images.shape[:3], 3))
        params, stats = state.variables["params"], {"batch_stats": state.variables["batch_stats"]}
        (value, changed), gradient = jax.value_and_grad(loss, has_aux=True)(params, stats, images, y)
        update, optimiser = _optimiser(rate, recipe.decay).update(gradient, state.optimiser, params)
        return State({"params": optax.apply_updates(params, update), **changed}, optimiser), value

    return step


def accuracy(variables: Variables, x: np.ndarray, y: np.ndarray, batch: int = 256) -> float:
    """Share of the images [n, H, W, 3] that the network gives their class; NaN where there are none."""
    network = network_of(variables)

    @jax.jit
    def top(variables, images):
        _, logits = network.apply(variables, images, False)
        return logits.argmax(1)

    right = 0
    for first in range(0, len(x), batch):
        part = x[first : first + batch]
        padded = np.pad(part, ((0, batch - len(part)), *((0, 0),) * 3))
        right += int((np.asarray(top(variables, padded))[: len(part)] == y[first : first + batch]).sum())
    return right / len(x) if len(x) else math.nan


def pretrain(key: jax.Array, x: np.ndarray, y: np.ndarray, recipe: Recipe, track: Track = lambda items, name: items) -> Trained:
    """A network trained to tell the classes of images apart; x: uint8 [n, H, W, 1] or [n, H, W, 3], y: [n] from 0. The same key gives
    the same network."""
    split, begin, order, distortions = jax.random.split(key, 4)
    shuffled = np.asarray(jax.random.permutation(split, len(y)))
    held, kept = np.split(shuffled, [int(recipe.held_out * len(y))])
    network = Network(recipe.dim, tuple(recipe.widths), int(y.max()) + 1)
    variables = jax.jit(network.init, static_argnums=2)(begin, jnp.zeros((2, *x.shape[1:3], 3), jnp.uint8), False)
    state = State(variables, _optimiser(recipe.rate, recipe.decay).init(variables["params"]))
    steps, step, losses = max(1, round(recipe.epochs * len(kept) / recipe.batch)), compile_step(network, recipe), []
    rows, rates = kept[orders(order, len(kept), steps, recipe.batch)], one_cycle(steps, recipe.rate)
    for i in track(range(steps), "backbone"):
        state, loss = step(state, rates[i], jax.random.fold_in(distortions, i), x[rows[i]], y[rows[i]])
        losses.append(loss)
    seen = np.broadcast_to(x[held], (*x[held].shape[:3], 3))
    variables = jax.device_get(state.variables)
    return Trained(variables, np.array(jax.device_get(losses)), accuracy(variables, seen, y[held]))
