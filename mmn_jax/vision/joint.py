"""Joint feature and classifier dynamics (Wang et al. 2017, section 4.4): the backbone is fine-tuned on the long-tailed set, too.

    images, split → fine-tuned backbone → its features → heads, banks and chain as without fine-tuning

fixed: once, on the whole training set. recursive: at every level i of the chain, from N down to 0, on H_t, the classes with t = 2^(i+1)
examples or more, from the backbone of the level above; the bank and θ* of level i are of that backbone's features, and the last backbone
computes the features of the test. Fine-tuning starts from the network trained on base images or given by features.weights. Without either
it starts from fresh weights, which is the first step of decoupling (Kang et al. 2020): instance-balanced training of the representation,
then heads.

All images are in memory. The backbone trains on one device, in each process alike.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from mmn_jax.data import feature_files
from mmn_jax.data.normalisation import normalisation
from mmn_jax.data.repeats import tell_repeats
from mmn_jax.errors import BadInput
from mmn_jax.linear.rows import log_prior
from mmn_jax.machine import host_memory
from mmn_jax.methods.folds import Fold
from mmn_jax.rng import stream
from mmn_jax.store import artifacts
from mmn_jax.store.banks import shots_used
from mmn_jax.store.run import Run
from mmn_jax.store.terminal import Terminal
from mmn_jax.types import Examples, FeatureSet, LongTail
from mmn_jax.vision import arrays, backbones, extract, features, network_training, networks
from mmn_jax.vision.images import PARTS, ImageSet


class Studio(NamedTuple):
    """What all seeds share.

    images: not read yet. start: the network that fine-tuning starts from, None for fresh weights. labels: the data set with positions of
    images in place of features, x [n, 2]: the part and the row. fingerprint: a hash of all that.
    """

    images: ImageSet
    start: backbones.Kept | None
    labels: FeatureSet
    fingerprint: str


def _check(config):
    """Raises BadInput for settings that are incompatible with fine-tuning."""
    flag = f"--config.features.finetune={config.features.finetune}"
    if config.data.source not in ("images", "fonts"):
        raise BadInput(f"{flag}: needs images, --config.data.source=images or fonts; it is {config.data.source}")
    if config.data.validation == "train":
        raise BadInput(f"{flag}: needs a validation set of its own, not --config.data.validation=train")
    if config.features.backbone is not None:
        raise BadInput(f"{flag}: features.backbone is a function, which cannot be trained; leave it out")
    if config.features.finetune == "recursive" and config.meta.split == "fixed":
        raise BadInput(f"{flag}: its last level is that of all classes, which --config.meta.split=fixed leaves out; give finetune=fixed")


def _start(config, workdir, terminal, base):
    if config.features.weights:
        return backbones.of_another_run(Path(config.features.weights))
    return None if base is None else backbones.of_base(base, config, workdir, terminal)


def open_studio(config: ConfigDict, workdir: Path, terminal: Terminal) -> Studio:
    """Returns the images that the config names, and the network that fine-tuning starts from, after training it on base images if any.

    Raises:
      BadInput: settings are incompatible; or whatever the source of images raises.
    """
    _check(config)
    terminal.say("features")
    source = features.choose_source(config, terminal)
    found, base = source.open()
    start = _start(config, workdir, terminal, base)

    def places(number, part):
        return part and Examples(np.stack([np.full(len(part.y), number), np.arange(len(part.y))], 1), part.y)

    train, val, test = (places(number, getattr(found, name)) for number, name in enumerate(PARTS))
    labels = FeatureSet(source.name, train, val, test, found.class_names)
    identity = (source.version, feature_files.fingerprint(labels), config.features.size, start and start.folder.name)
    return Studio(found, start, labels, artifacts.digest(backbones.SCHEMA, *identity))


def _load(studio, examples, settings):
    """Reads the images at these positions in one part: uint8 [n, H, W, 3], or [n, H, W, 1] if all are grey."""
    part = PARTS[examples.x[0, 0]]
    x = extract.gather(getattr(studio.images, part), examples.x[:, 1], settings.size, settings.batch, part)
    return Examples(x[..., :1] if (x == x[..., :1]).all() else x, examples.y)


def _check_memory(studio, tail, settings):
    """Raises BadInput if memory can't hold the images of the tail and, while they are read, a copy."""
    first = extract.resized(studio.images.train.load(0), settings.size)
    needed = 2 * sum(len(part.y) for part in tail[:3]) * first.nbytes
    if needed > host_memory():
        have = f"images take {needed / 1e9:.1f} GB of memory, there are {host_memory() / 1e9:.1f}"
        raise BadInput(f"--config.features.size: {have}; lower it, or data.longtail.max_per_class")


class FineTuned(NamedTuple):
    """The long-tailed set in the features of fine-tuned backbones.

    name: of the features of the last backbone, with a hash of what they depend on. tail: the set in these features. stage_parts: with
    recursive fine-tuning, the normalised training set in the features of the backbone of each level, by k; else empty.
    """

    name: str
    tail: LongTail
    stage_parts: dict[int, Fold]


def learn(run: Run, studio: Studio, places: LongTail, split: str) -> FineTuned:
    """Fine-tunes the backbones of a split that are missing and computes their features.

    Args:
      run: the seed, the settings and the workdir.
      studio: what all seeds share.
      places: the split of the studio's `labels`.
      split: a hash of the split.

    Raises:
      BadInput: the images don't fit into memory, or aren't of the size of the network that fine-tuning starts from.
    """
    settings, counts = run.config.features, places.counts
    _check_memory(studio, places, settings)
    train, val, test = (_load(studio, each, settings) for each in places[:3])
    read = LongTail(train, val, test, counts)
    others = {"the validation images": val, "the test images": test}
    tell_repeats(train, others, lambda label: run.features.class_names[label], run.terminal.say, "the training images")
    if studio.start is not None:
        backbones.check_sides(studio.start, read.train.x.shape[1:3], studio.images.name)
    ladder = shots_used(run.config, counts) if settings.finetune == "recursive" else ()
    kept, stage_parts = studio.start, {}
    for shots in ladder[:0:-1]:
        kept = fine_tune(run, studio, read, split, kept, 2 * shots)
        name, train = _features(run, kept, read.train, "train")
        stage_parts[shots] = Fold(name, normalisation(train).of(train), None)
    kept = fine_tune(run, studio, read, split, kept, 2 * ladder[0] if ladder else 0)
    run.terminal.say(f"  backbone: {kept.folder}")
    (name, train), (_, val), (_, test) = (_features(run, kept, getattr(read, part), part) for part in PARTS)
    return FineTuned(name, LongTail(train, val, test, counts), stage_parts)


def image_task(tail: LongTail, least: int, adjust: float) -> network_training.ImageTask:
    """Returns the task of classifying the classes with `least` examples or more; adjust: τ of the logit-adjusted loss."""
    known = tail.counts >= least

    def of_known(examples):
        return examples.at(known[examples.y])

    return network_training.ImageTask(of_known(tail.train), of_known(tail.val), known, adjust * log_prior(np.where(known, tail.counts, 1)))


def fine_tune(run: Run, studio: Studio, tail: LongTail, split: str, before: backbones.Kept | None, least: int) -> backbones.Kept:
    """Fine-tunes a network on the classes with `least` examples or more.

    The head of the network that all seeds start from is dropped, as it is of other classes; the head of a fine-tuned network is kept, with
    fresh rows for classes that it hasn't been trained on.

    Args:
      run: the seed, the settings and the workdir.
      studio: what all seeds share.
      tail: the images of the split.
      split: a hash of the split.
      before: the network to start from, None for fresh weights.
      least: examples of a class.
    """
    settings, how = run.config.finetune, backbones.maker(run.config.features)
    recipe = how.recipe._replace(epochs=float(settings.epochs), rate=settings.rate, held_out=0.0)
    names = (run.config.features.network, run.config.features.augment)
    given = (run.fingerprint, run.seed, split, before and before.folder.name, least, recipe, *names, settings.adjust)
    path, task = run.path(f"backbone-{least}", *given), image_task(tail, least, settings.adjust)
    classes = int(task.known.sum())
    if not path.exists():
        run.terminal.say(f"  fine-tuning the backbone on {len(task.train.y)} images of {classes} classes")
    start = None if before is None else before.arrays["variables"]
    if before is studio.start and start is not None:
        start = networks.without_head(start)
    architecture = how.architecture(len(tail.counts)) if before is None else before.architecture._replace(classes=len(tail.counts))
    facts = {"recipe": recipe._asdict(), "adjust": settings.adjust, "classes": classes, "images": len(task.train.y)}
    facts |= {"sides": list(tail.train.x.shape[1:3]), "start": before and before.folder.name}
    keys = [stream(run.seed, "finetune", least, name) for name in ("fresh", "order", "augment")]

    def train(network, checkpoints):
        return network_training.train(keys, network, task, recipe, how.augment, start, checkpoints, run.terminal.track)

    kept = backbones.trained(path, architecture, train, facts)
    loss, accuracy = kept.record["curve"][-1]
    on_validation = "" if accuracy is None else f", {100 * accuracy:.1f}% accuracy on validation images"
    run.terminal.say(f"  classes of {least} examples or more: loss {loss:.2f}{on_validation}")
    return kept


def _features(run, kept, examples, name):
    """Returns the name of the artefact with the features of images in memory, and the Examples with these features."""
    compute, _ = backbones.use(kept, name)
    read, batch = arrays.in_memory(*examples).load, extract.rounded_batch(run.config.features.batch)

    def make():
        return {"x": extract.compute(compute, read, 0, len(examples.y), batch, name)}, {}

    path = run.path(f"features-{name}", kept.folder.name)
    x = artifacts.cached(path, make)[0]["x"]
    return path.name, Examples(x.astype(np.float32), examples.y)
