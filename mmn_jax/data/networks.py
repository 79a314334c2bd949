"""The networks that are trained here: uint8 images → features, and logits of the classes that they are trained on.

Plain, for small images of letters, and Residual, for photographs:

    features = BatchNorm ∘ FC ∘ (MaxPool ∘ ReLU ∘ BatchNorm ∘ Conv)^L
    features = BatchNorm ∘ FC ∘ Mean ∘ Block^L ∘ MaxPool ∘ ReLU ∘ BatchNorm ∘ Conv,     logits = FC(features) in both
    Block(x) = ReLU(x + BatchNorm ∘ Conv ∘ ReLU ∘ BatchNorm ∘ Conv(x))
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

Variables = dict[str, Any]


def _halved(x):
    """The largest of every 2 × 2; taken pairwise, since the gradient of XLA's windowed maximum is slow on a CPU."""
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    x = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])


class Plain(nn.Module):
    """uint8 [B, H, W, 3] → [B, dim] features and [B, classes] logits; every layer halves the sides."""

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


class Residual(nn.Module):
    """uint8 [B, H, W, 3] → [B, dim] features and [B, classes] logits; a block of two convolutions for each of the widths. The sides are
    halved before the first one and where the width differs from the one before: XLA's gradient of a convolution with few channels
    over many pixels is slow on a CPU, and so is that of one which skips pixels."""

    dim: int
    widths: tuple[int, ...]
    classes: int

    @nn.compact
    def __call__(self, images, train):
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        conv = partial(nn.Conv, kernel_size=(3, 3), use_bias=False)
        x = images.astype(jnp.float32) / 255.0
        x = _halved(nn.relu(norm(name="norm_stem")(conv(self.widths[0], name="stem")(x))))
        for i, width in enumerate(self.widths):
            if width != x.shape[-1]:
                x = _halved(x)
            y = nn.relu(norm(name=f"norm_first_{i}")(conv(width, name=f"first_{i}")(x)))
            y = norm(name=f"norm_second_{i}", scale_init=nn.initializers.zeros)(conv(width, name=f"second_{i}")(y))
            if width != x.shape[-1]:
                x = norm(name=f"norm_skip_{i}")(conv(width, kernel_size=(1, 1), name=f"skip_{i}")(x))
            x = nn.relu(x + y)
        x = norm(name="norm_out")(nn.Dense(self.dim, name="embed")(x.mean((1, 2))))
        return x, nn.Dense(self.classes, name="head")(x)


NETWORKS: dict[str, Callable[..., nn.Module]] = {"plain": Plain, "residual": Residual}  # what --config.features.network may say


def network_of(variables: Variables, classes: int | None = None) -> nn.Module:
    """The network that these variables belong to; their names and shapes tell. classes: of a new head, None: of the one it has."""
    params = variables["params"]
    kind, layer = (Residual, "second") if "stem" in params else (Plain, "conv")
    widths = tuple(params[f"{layer}_{i}"]["kernel"].shape[-1] for i in range(sum(name.startswith(f"{layer}_") for name in params)))
    return kind(params["embed"]["kernel"].shape[-1], widths, classes or params["head"]["kernel"].shape[-1])
