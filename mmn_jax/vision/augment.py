"""Augments training images at random.

`distort` is for letters: it shifts, rotates, scales and slants them, and makes them bolder or lighter. `crop_and_flip` is for photographs,
as is usual for CIFAR: it shifts them by a few pixels and mirrors half of them.
"""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp


class Strength(NamedTuple):
    """The largest distortions. shift: as a part of the side. turn: in radians. scale: of the logarithm of each axis's scale. slant: shift
    of x per y. weight: how much of a rim of one pixel is added to strokes or removed."""

    shift: float = 0.08
    turn: float = 0.12
    scale: float = 0.15
    slant: float = 0.15
    weight: float = 0.6


def _affine(key, strength):
    """Draws a matrix [2, 2] and a shift [2] that map a pixel (y, x) of the output, from the centre in half sides, to the input."""
    turn, slant, scale_y, scale_x, *shift = jax.random.uniform(key, (6,), minval=-1.0, maxval=1.0)
    cos, sin = jnp.cos(strength.turn * turn), jnp.sin(strength.turn * turn)
    rotation = jnp.array([[cos, -sin], [sin, cos]])
    shear = jnp.eye(2).at[1, 0].set(strength.slant * slant)
    stretch = jnp.diag(jnp.exp(strength.scale * jnp.array([scale_y, scale_x])))
    return rotation @ shear @ stretch, 2 * strength.shift * jnp.array(shift)


def _read(image, matrix, shift):
    """Interpolates the image [H, W, ch] bilinearly at matrix · p + shift; it is black outside."""
    sides = jnp.array(image.shape[:2], jnp.float32)
    grid = jnp.stack(jnp.meshgrid(*(jnp.arange(side, dtype=jnp.float32) for side in image.shape[:2]), indexing="ij"))
    centred = (grid - (sides[:, None, None] - 1) / 2) / (sides[:, None, None] / 2)
    at = jnp.einsum("ij,jyx->iyx", matrix, centred) + shift[:, None, None]
    at = at * (sides[:, None, None] / 2) + (sides[:, None, None] - 1) / 2
    read = partial(jax.scipy.ndimage.map_coordinates, order=1, cval=0.0)
    return jax.vmap(lambda channel: read(channel, list(at)), 2, 2)(image)


def _reweigh(image, amount):
    """Grows strokes (amount > 0) or shrinks them by that part of a rim of one pixel."""
    grown = nn.max_pool(image[None], (3, 3), padding="SAME")[0]
    shrunk = -nn.max_pool(-image[None], (3, 3), padding="SAME")[0]
    return image + jnp.maximum(amount, 0) * (grown - image) + jnp.maximum(-amount, 0) * (shrunk - image)


def distort_one(key: jax.Array, image: jax.Array, strength: Strength) -> jax.Array:
    """Distorts an image at random: uint8 [H, W, ch], bright strokes on black."""
    where, weight = jax.random.split(key)
    x = _read(image.astype(jnp.float32), *_affine(where, strength))
    x = _reweigh(x, strength.weight * jax.random.uniform(weight, minval=-1.0, maxval=1.0))
    return jnp.round(jnp.clip(x, 0.0, 255.0)).astype(jnp.uint8)


@jax.jit
def distort(key: jax.Array, images: jax.Array, strength: Strength) -> jax.Array:
    """Distorts each of the images, uint8 [B, H, W, ch], in its own way."""
    return jax.vmap(distort_one, (0, 0, None))(jax.random.split(key, len(images)), images, strength)


@partial(jax.jit, static_argnums=2)
def crop_and_flip(key: jax.Array, images: jax.Array, margin: int = 4) -> jax.Array:
    """Shifts each image by at most `margin` pixels along both axes, over black, and mirrors half of them.

    Args:
      key: PRNG key.
      images: uint8 [B, H, W, ch].
      margin: pixels.

    Returns:
      uint8 [B, H, W, ch].
    """
    where, mirror = jax.random.split(key)
    corner = jax.random.randint(where, (len(images), 2), 0, 2 * margin + 1)
    framed = jnp.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    shifted = jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), images.shape[1:]))(framed, corner)
    mirrored = jax.random.bernoulli(mirror, shape=(len(images), 1, 1, 1))
    return jnp.where(mirrored, shifted[:, :, ::-1], shifted)
