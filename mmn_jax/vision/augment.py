"""How an image of training is changed at random, another way each time.

`distort` is for letters: moved, turned, scaled, slanted and made bolder or lighter. `crop_and_flip` is for photographs, as is usual for
CIFAR: moved by a few pixels, and mirrored in half of the cases.
"""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp


class Strength(NamedTuple):
    """How far an image is distorted at most. shift: a share of its side. turn: radians. scale: of its logarithm, for each axis.
    slant: of x by y. weight: how much of a stroke's rim of one pixel is added or taken away."""

    shift: float = 0.08
    turn: float = 0.12
    scale: float = 0.15
    slant: float = 0.15
    weight: float = 0.6


def _affine(key, strength):
    """[2, 2] and [2]: where an output pixel (y, x), counted from the centre in half sides, is read."""
    turn, slant, scale_y, scale_x, *shift = jax.random.uniform(key, (6,), minval=-1.0, maxval=1.0)
    cos, sin = jnp.cos(strength.turn * turn), jnp.sin(strength.turn * turn)
    rotation = jnp.array([[cos, -sin], [sin, cos]])
    shear = jnp.eye(2).at[1, 0].set(strength.slant * slant)
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


@partial(jax.jit, static_argnums=2)
def crop_and_flip(key: jax.Array, images: jax.Array, margin: int = 4) -> jax.Array:
    """uint8 [B, H, W, ch], each moved by at most `margin` pixels along both axes, black where nothing was, and perhaps mirrored."""
    where, mirror = jax.random.split(key)
    corner = jax.random.randint(where, (len(images), 2), 0, 2 * margin + 1)
    framed = jnp.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    cut = jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), images.shape[1:]))(framed, corner)
    mirrored = jax.random.bernoulli(mirror, shape=(len(images), 1, 1, 1))
    return jnp.where(mirrored, cut[:, :, ::-1], cut)
