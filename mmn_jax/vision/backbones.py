"""Trains, saves and loads the project's own networks, each in a folder backbone-HASH of a workdir.

A training saves a checkpoint after every epoch, in training-HASH beside that folder, and resumes from it.
"""

import hashlib
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from ml_collections import ConfigDict

from mmn_jax.devices import agreed, first_process
from mmn_jax.errors import BadInput
from mmn_jax.rng import stream
from mmn_jax.store import artifacts
from mmn_jax.store.checkpoints import Checkpoints, open_checkpoints
from mmn_jax.store.terminal import Terminal
from mmn_jax.types import Examples
from mmn_jax.vision import extract, network_training, networks

SCHEMA = 3  # part of every hash here


class Kept(NamedTuple):
    """A trained network on the disk: variables and losses, their record, and the folder."""

    arrays: artifacts.Arrays
    record: artifacts.Record
    folder: Path

    @property
    def architecture(self) -> networks.Architecture:
        """Which network it is."""
        return networks.Architecture(**self.record["architecture"])


class Maker(NamedTuple):
    """How a network is made. kind: a key of `networks.NETWORKS`. augment: changes training images. identity: all of that, JSON-able, for
    hashes."""

    kind: str
    recipe: network_training.Recipe
    augment: network_training.Augment
    identity: Any

    def architecture(self, classes: int) -> networks.Architecture:
        """Returns the architecture for this number of classes."""
        return networks.Architecture(self.kind, self.recipe.dim, self.recipe.widths, classes)


def maker(settings: ConfigDict) -> Maker:
    """Returns the Maker that the settings `features` describe."""
    recipe = network_training.Recipe(settings.dim, tuple(settings.widths), float(settings.epochs), rate=settings.rate)
    augment = network_training.AUGMENTS[settings.augment]
    return Maker(settings.network, recipe, augment, (recipe, settings.network, settings.augment))


def trained(
    folder: Path,
    architecture: networks.Architecture,
    train: Callable[[nn.Module, Checkpoints], network_training.TrainedNetwork],
    facts: artifacts.Record,
) -> Kept:
    """Returns the network in a folder, after training it if it is missing.

    Args:
      folder: backbone-...
      architecture: of the network.
      train: trains the network, with checkpoints.
      facts: further entries of the record, JSON-able.
    """
    beside = folder.with_name(folder.name.replace("backbone-", "training-"))

    def make():
        with open_checkpoints(beside) as checkpoints:
            made = train(architecture.build(), checkpoints)
        curve = [[round(loss, 4), None if math.isnan(right) else round(right, 4)] for loss, right in made.curve]
        arrays = {"variables": made.variables, "losses": made.losses}
        return arrays, {**facts, "architecture": architecture._asdict(), "held_out_accuracy": curve[-1][1], "curve": curve}

    arrays, record = artifacts.cached(folder, make)
    if first_process():
        shutil.rmtree(beside, ignore_errors=True)
    return Kept(arrays, record, folder)


def _fingerprint(base):
    return hashlib.sha256(repr(base.x.shape).encode() + base.x.tobytes() + base.y.tobytes()).hexdigest()


def of_base(base: Examples, config: ConfigDict, workdir: Path, terminal: Terminal) -> Kept:
    """Returns the network trained on images of other classes, the same for all seeds of a run.

    Args:
      base: uint8 images [n, H, W] or [n, H, W, 3] and their labels.
      config: all settings.
      workdir: where it is saved.
      terminal: prints the progress.
    """
    how, seed, classes = maker(config.features), config.features.seed, int(base.y.max()) + 1
    folder = workdir / f"backbone-{artifacts.digest(SCHEMA, _fingerprint(base), how.identity, seed)}"
    if not agreed(folder.exists()):
        terminal.say(f"  training the backbone on {len(base.y)} images of {classes} other classes")
    x = base.x[..., None] if base.x.ndim == 3 else base.x
    facts = {"recipe": how.recipe._asdict(), "classes": classes, "images": len(base.y), "sides": list(base.x.shape[1:3])}

    def train(network, checkpoints):
        key = stream(seed, "backbone")
        return network_training.pretrain(key, network, x, base.y, how.recipe, how.augment, checkpoints, terminal.track)

    kept = trained(folder, how.architecture(classes), train, facts)
    held = kept.record["held_out_accuracy"]
    right = "" if held is None else f", {100 * held:.1f}% accuracy on held-out images of its own classes"
    terminal.say(f"  backbone: trained in {kept.record['seconds']:.0f} s{right}")
    return kept


def _restored(folder, where):
    if not (folder.is_dir() and folder.name.startswith("backbone-")):
        raise BadInput(f"{where}: not a folder backbone-.. of a run")
    try:
        kept = Kept(*artifacts.restore(folder), folder)
    except Exception as error:  # Orbax has no error of its own for a damaged folder
        raise BadInput(f"{where}: no backbone, or damaged") from error
    if "architecture" not in kept.record:
        raise BadInput(f"{where}: trained by an older version of mmn_jax; train it again")
    return kept


def of_another_run(folder: Path) -> Kept:
    """Returns the network as another run trained it.

    Raises:
      BadInput: the folder holds none, it is damaged, or an older version of mmn_jax made it.
    """
    return _restored(folder, f"--config.features.weights={folder}")


def load_network(folder: str | Path) -> extract.Backbone:
    """Returns a trained network as a function from uint8 images [B, H, W, 3] to features [B, d].

    Args:
      folder: WORKDIR/backbone-HASH of a run, or WORKDIR/seed-N/backbone-.. of one with fine-tuning.

    Raises:
      BadInput: the folder holds no network, or it is damaged; by the function: images of other sides than those of the training.
    """
    return use(_restored(Path(folder), str(folder)), "images")[0]


def check_sides(kept: Kept, sides: tuple[int, int], where: str) -> None:
    """Checks that images are of the size that the network was trained on, and raises BadInput if not; where: their place, for messages."""
    if list(sides) != kept.record["sides"]:
        sizes = [" by ".join(map(str, each)) for each in (sides, kept.record["sides"])]
        raise BadInput(f"{where}: images of {sizes[0]} pixels, the backbone is for {sizes[1]}; see --config.features.size")


def use(kept: Kept, where: str) -> tuple[extract.Backbone, dict[str, Any]]:
    """Returns the network as a function from images to features, and its entry in the card; where: the images' place, for messages."""
    network = kept.architecture.build()
    apply = partial(jax.jit(networks.features, static_argnums=0), network, jax.device_put(kept.arrays["variables"]))

    def compute(batch):
        check_sides(kept, batch.shape[1:3], where)
        return apply(batch)

    return compute, {"network": f"{type(network).__module__}.{type(network).__qualname__}", **kept.record, "folder": kept.folder.name}
