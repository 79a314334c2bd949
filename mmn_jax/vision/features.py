"""The stage `features`: makes WORKDIR/features-HASH of images, a folder of npy files that is read like any other features, and its card.

    source (files, TFDS, an npz, fonts) → Pictures → backbone (trained here, of another run, or the user's) → float16 features

The hash depends on the images and on the backbone. The project's own network is an artefact of its own, WORKDIR/backbone-HASH, whose hash
depends on the images that it was trained on and on its recipe.
"""

import hashlib
import json
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from mmn_jax.config import given
from mmn_jax.data import feature_files
from mmn_jax.data.array_files import NAMES
from mmn_jax.devices import agreed, together
from mmn_jax.errors import BadInput
from mmn_jax.store import artifacts
from mmn_jax.store.terminal import Terminal
from mmn_jax.types import FeatureSet
from mmn_jax.vision import augment, backbones, characters, extract, folders, lists, render, tfds
from mmn_jax.vision.arrays import Pictures, image_file
from mmn_jax.vision.backbones import SCHEMA
from mmn_jax.vision.images import PARTS, SHOWN


class Source(NamedTuple):
    """A source of images. name: of the data set. version: differs between different images. open: returns the Pictures, which may take
    time."""

    name: str
    version: str
    open: Callable[[], Pictures]


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fonts(config, terminal):
    settings, folder = config.characters, Path(config.data.fonts or render.shipped())
    families = {part: tuple(name.strip() for name in settings.families[part].split(",") if name.strip()) for part in PARTS}
    if not config.data.fonts and not any(families.values()):
        families = characters.SHIPPED
    strength = augment.Strength(*(settings.distort * most for most in augment.Strength()))
    choice = characters.Choice(
        settings.points, settings.classes, settings.base, tuple(settings.per_class), strength, families, settings.seed
    )
    fonts = render.find_fonts(folder)
    version = artifacts.digest(render.version(fonts), choice)
    name = f"letters of {folder.name if config.data.fonts else 'matplotlib'}"
    return Source(name, version, lambda: characters.make(name, fonts, choice, folder, terminal.track))


def _of_files(config, say):
    """Returns the ImageSet of files or records; say: reports what is doubtful."""
    data = config.data
    if data.tfds:
        splits = {part: split for part, split in data.splits.items() if split}
        return tfds.tfds_source(data.tfds, data.path, splits or None, say)
    if any(data.lists.values()):
        for part in ("train", "test"):
            if not data.lists[part]:
                raise BadInput(f"--config.data.lists.{part}: give the list of images to {part} on")
        return lists.list_files(data.path, data.lists.train, data.lists.val or None, data.lists.test, say=say)
    return folders.image_folder(data.path, data.test_share, data.test_seed, say)


def choose_source(config: ConfigDict, terminal: Terminal) -> Source:
    """Returns the source of images that the config names.

    Raises:
      BadInput: the file or folder is missing, or holds something that is not an image.
    """
    if config.data.source == "fonts":
        return _fonts(config, terminal)
    path = Path(config.data.path)
    if not config.data.path:
        raise BadInput("--config.data.path: give the npz file or the folder with your images")
    if path.suffix == ".npz" and not path.is_dir():
        if not path.is_file():
            raise BadInput(f"{path}: no such file")
        return Source(path.stem, _sha256(path), lambda: image_file(path, terminal.say))
    found = _of_files(config, terminal.say)
    parts = [(part.version, part.y.tolist()) for part in (found.train, found.val, found.test) if part is not None]
    return Source(found.name, artifacts.digest(parts, found.class_names), lambda: Pictures(found, None))


class Extractor(NamedTuple):
    """Turns images into features. identity: what the features depend on, apart from the images; JSON-able. make: returns the backbone for
    Pictures, and its entry in the card."""

    identity: Any
    make: Callable[[Pictures], tuple[extract.Backbone, dict[str, Any]]]


def _own(config, workdir, terminal, where):
    """Returns the Extractor with the project's own network, which is trained first if it is missing."""

    def make(pictures):
        if pictures.base is None:
            raise BadInput(
                f"{where}: has no base_x and base_y to train a backbone on; give --config.features.weights, or a recipe with "
                "features.backbone, or train on the long-tailed images by --config.features.finetune=fixed (docs/your_own_features.md)"
            )
        return backbones.use(backbones.of_base(pictures.base, config, workdir, terminal), where)

    return Extractor(("own", backbones.maker(config.features).identity, config.features.seed), make)


def _kept(folder, where):
    """Returns the Extractor with a network that another run trained."""
    kept = backbones.of_another_run(folder)
    return Extractor(("kept", folder.name), lambda pictures: backbones.use(kept, where))


def _given(function):
    """Returns the Extractor with the user's function."""
    name, file, text, values = given(function, "features.backbone")
    return Extractor(("given", name, text, values), lambda pictures: (function, {"network": name, "file": file, "file_sha256": text}))


def choose_extractor(config: ConfigDict, workdir: Path, terminal: Terminal, where: str) -> Extractor:
    """Returns what turns images into features, as the config says.

    Args:
      config: all settings.
      workdir: where networks are saved.
      terminal: prints the progress.
      where: the name of the images, for messages.

    Raises:
      BadInput: settings name two backbones, a function isn't in a file, or a folder holds no network.
    """
    if config.features.backbone is not None:
        if config.features.weights:
            raise BadInput("--config.features.weights: the recipe has a features.backbone of its own")
        return _given(config.features.backbone)
    return _kept(Path(config.features.weights), where) if config.features.weights else _own(config, workdir, terminal, where)


def _card(source, description, folder, settings, counts, rate):
    files = {path.name: _sha256(path) for name in NAMES if (path := folder / f"{name}.npy").is_file()}
    size = f"shorter side to {settings.size}, bicubic, middle cut out" if settings.size else "images as they are"
    return {
        "schema": SCHEMA, "name": source.name, "source_version": source.version, "backbone": description,
        "preprocessing": f"{SHOWN}, {size}", "dtype": "float16", "counts": counts, "sha256": files,
        "images_per_second": rate,
        "versions": {name: metadata.version(name) for name in ("jax", "flax", "numpy")},
    }  # fmt: skip


def _extract(source, extractor, folder, settings, terminal):
    pictures = source.open()
    compute, description = extractor.make(pictures)
    parts = {name: part for name in PARTS if (part := getattr(pictures.images, name)) is not None}
    folder.mkdir(parents=True, exist_ok=True)
    counts, began, made = {name: len(part.y) for name, part in parts.items()}, time.perf_counter(), 0
    for name, part in parts.items():
        if not agreed((folder / f"{name}_x.npy").exists()):
            pieces, computed = extract.part_features(compute, part, folder, name, settings.size, settings.batch, terminal.track)
            extract.join(pieces, folder / f"{name}_x.npy")
            made += computed
        extract.write_npy(folder / f"{name}_y.npy", part.y)
    extract.write_npy(folder / "class_names.npy", np.array(pictures.images.class_names))
    rate = round(made / (time.perf_counter() - began), 1)  # compilation included; 0 if an earlier run had computed everything
    card = _card(source, description, folder, settings, counts, rate)
    artifacts.write_bytes(folder / "card.json", json.dumps(card, indent=1).encode())
    together()  # for all processes, the card is there once everything else is


def make(config: ConfigDict, workdir: Path, terminal: Terminal) -> FeatureSet:
    """Returns the features of the images that the config names, from the workdir if they are there already.

    Raises:
      BadInput: an image, font, list or label can't be used, there is no backbone, or features aren't finite numbers.
    """
    terminal.say("features")
    source = choose_source(config, terminal)
    extractor = choose_extractor(config, workdir, terminal, source.name)
    folder = workdir / f"features-{artifacts.digest(SCHEMA, source.version, extractor.identity, config.features.size)}"
    if not agreed((folder / "card.json").exists()):
        _extract(source, extractor, folder, config.features, terminal)
    card = json.loads((folder / "card.json").read_text())
    terminal.say(f"  {sum(card['counts'].values())} images of {source.name}, {card['images_per_second']:.0f} per second: {folder}")
    return feature_files.load(folder, say=terminal.say)._replace(name=source.name)
