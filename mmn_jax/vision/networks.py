"""The project's own networks, from uint8 images to features and to logits of the classes that they are trained on.

Plain is for small images of letters, Residual for photographs:

    features = BatchNorm ∘ FC ∘ (MaxPool ∘ ReLU ∘ BatchNorm ∘ Conv)^L
    features = BatchNorm ∘ FC ∘ Mean ∘ Block^L ∘ MaxPool ∘ ReLU ∘ BatchNorm ∘ Conv,     logits = FC(features) in both
    Block(x) = ReLU(x + BatchNorm ∘ Conv ∘ ReLU ∘ BatchNorm ∘ Conv(x))
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

Variables = dict[str, Any]


def _own_convolution(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@jax.custom_vjp
def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves x [B, H, W, in] with a kernel [3, 3, in, out] and padding "SAME".

    The gradient of the kernel is computed by products of matrices, since XLA's own is slow on a CPU: so a step of the default network takes
    three quarters of the time.
    """
    return _own_convolution(x, kernel)


def _backward(residuals, slope):
    x, kernel = residuals
    height, width = x.shape[1:3]
    framed = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = [framed[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    if x.shape[3] < 8:  # one product is faster than nine narrow ones
        windows = [jnp.concatenate(windows, -1)]
    found = [jnp.einsum("bhwi,bhwo->io", window, slope) for window in windows]
    return _own_convolution(slope, jnp.flip(kernel, (0, 1)).swapaxes(2, 3)), jnp.concatenate(found).reshape(kernel.shape)


convolve.defvjp(lambda x, kernel: (_own_convolution(x, kernel), (x, kernel)), _backward)
_Conv = partial(nn.Conv, kernel_size=(3, 3), use_bias=False, conv_general_dilated=lambda x, kernel, *_, **__: convolve(x, kernel))


def _halved(x):
    """Max-pools windows of 2 × 2 pixels, pairwise, since the gradient of XLA's windowed maximum is slow on a CPU."""
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    x = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])


class Plain(nn.Module):
    """Convolutions, each of which halves the sides: uint8 [B, H, W, 3] → [B, dim] features and [B, classes] logits."""

    dim: int
    widths: tuple[int, ...]
    classes: int

    @property
    def halvings(self) -> int:
        """How many times it halves the sides of an image."""
        return len(self.widths)

    @nn.compact
    def __call__(self, images, train):
        x = images.astype(jnp.float32) / 255.0
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        for i, width in enumerate(self.widths):
            x = _Conv(width, name=f"conv_{i}")(x)
            x = _halved(nn.relu(norm(name=f"norm_{i}")(x)))
        x = norm(name="norm_out")(nn.Dense(self.dim, name="embed")(x.reshape(len(x), -1)))
        return x, nn.Dense(self.classes, name="head")(x)


class Residual(nn.Module):
    """Residual blocks of two convolutions, one for each width: uint8 [B, H, W, 3] → [B, dim] features and [B, classes] logits.

    The sides are halved before the first block and where the width changes, by max-pooling: XLA's gradients of a convolution with few
    channels over many pixels, and of a strided one, are slow on a CPU.
    """

    dim: int
    widths: tuple[int, ...]
    classes: int

    @property
    def halvings(self) -> int:
        """How many times it halves the sides of an image."""
        return 1 + sum(before != after for before, after in itertools.pairwise(self.widths))

    @nn.compact
    def __call__(self, images, train):
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        x = images.astype(jnp.float32) / 255.0
        x = _halved(nn.relu(norm(name="norm_stem")(_Conv(self.widths[0], name="stem")(x))))
        for i, width in enumerate(self.widths):
            if width != x.shape[-1]:
                x = _halved(x)
            y = nn.relu(norm(name=f"norm_first_{i}")(_Conv(width, name=f"first_{i}")(x)))
            y = norm(name=f"norm_second_{i}", scale_init=nn.initializers.zeros)(_Conv(width, name=f"second_{i}")(y))
            if width != x.shape[-1]:
                x = norm(name=f"norm_skip_{i}")(nn.Dense(width, use_bias=False, name=f"skip_{i}")(x))
            x = nn.relu(x + y)
        x = norm(name="norm_out")(nn.Dense(self.dim, name="embed")(x.mean((1, 2))))
        return x, nn.Dense(self.classes, name="head")(x)


NETWORKS: dict[str, Callable[..., nn.Module]] = {"plain": Plain, "residual": Residual}  # what --config.features.network may say


class Architecture(NamedTuple):
    """What a network is built from, and its record holds. kind: a key of `NETWORKS`. dim: d of the features. widths: channels of the
    layers. classes: of the last layer."""

    kind: str
    dim: int
    widths: tuple[int, ...]
    classes: int

    def build(self) -> nn.Module:
        """Returns the network, whose variables are made by its `init` or restored."""
        return NETWORKS[self.kind](self.dim, tuple(self.widths), self.classes)


def features(network: nn.Module, variables: Variables, images: jax.Array) -> jax.Array:
    """Returns the [B, dim] features of uint8 images [B, H, W, 3], of the size that the network was trained on."""
    return network.apply(variables, images, False)[0]


def without_head(variables: Variables) -> Variables:
    """Returns the variables without those of the last layer."""
    return {**variables, "params": {name: value for name, value in variables["params"].items() if name != "head"}}
