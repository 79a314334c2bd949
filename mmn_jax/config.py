"""Every setting: its key, its default, what it may be and what it means, each in one line of `SETTINGS`.

A recipe in configs/ starts from `default()` and changes what it needs. `--help` of the command line and docs/config.md are made
from the same lines (mmn_jax/cli/reference.py).
"""

import hashlib
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from mmn_jax.errors import BadInput


class Limit(NamedTuple):
    """allows(value): whether it makes sense; a TypeError or OverflowError means no. says: what must be, in words."""

    allows: Callable[[Any], bool]
    says: str


class Entry(NamedTuple):
    """key: its place in the config, parts divided by dots. default: a type, such as float, means unset, and of this type once set."""

    key: str
    default: Any
    limit: Limit
    meaning: str


def _one(test):
    return lambda value: math.isfinite(value) and test(value)


def _all(test):
    return lambda values: len(values) > 0 and all(math.isfinite(value) and test(value) for value in values)


def _choice(*words):
    return Limit(lambda value: value in words, f"must be {', '.join(words[:-1])} or {words[-1]}")


def _at_least(least):
    return Limit(_one(lambda v: least <= v < 2**31), f"must be at least {least}, and below 2^31")


def _seed(value):
    return isinstance(value, int) and 0 <= value < 2**31


def _count(value):
    return isinstance(value, int) and 1 <= value < 2**31


_ANY = Limit(lambda value: True, "")  # checked where it is used, with the features at hand
_POSITIVE = Limit(_one(lambda v: v > 0), "must be above 0")
_ABOVE_0_IF_SET = Limit(lambda v: v is None or _POSITIVE.allows(v), _POSITIVE.says)
_COUNT_IF_SET = Limit(lambda v: v is None or _count(v), "must be an integer from 1 up, below 2^31")
_POSITIVES = Limit(_all(lambda v: v > 0), "must list numbers above 0")
_NOT_NEGATIVES = Limit(_all(lambda v: v >= 0), "must list numbers from 0 up")
_COUNTS = Limit(lambda v: len(v) > 0 and all(map(_count, v)), "must list integers from 1 up, below 2^31")
_SEED = Limit(_seed, "must be from 0 to 2^31 - 1")
_SEEDS = Limit(lambda v: len(set(v)) == len(v) and all(map(_seed, v)), "must list different integers from 0 to 2^31 - 1")
_TOP = Limit(_one(lambda v: 0 <= v <= 30), "must be from 0 to 30")
_SHARE = Limit(_one(lambda v: 0 < v <= 0.5), "must be above 0 and at most 0.5")
_THREE = Limit(lambda v: len(v) == 3 and all(map(_count, v)), "must list three integers from 1 up")
_DISTORT = Limit(_one(lambda v: 0 <= v <= 3), "must be from 0 to 3")
_FUNCTION = Limit(lambda v: v is None or callable(v), "must be a function, given in the recipe")
_SOURCE = _choice("auto", "glyphs", "npz", "synthetic", "images", "fonts")
_NETWORK = _choice("plain", "residual")
_FINETUNE = _choice("none", "fixed", "recursive")
_NOT_NEGATIVE = Limit(_one(lambda v: 0 <= v < 2**31), "must be from 0 up, and below 2^31")

_RIDGES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)

SETTINGS = (
    Entry("seed", 0, _SEED, "of the split and every random stream"),
    Entry("seeds", (), _SEEDS, "several seeds to run and aggregate, such as 0,1,2; none: just `seed`"),
    #
    Entry("data.source", "auto", _SOURCE, "auto: npz where data.path is given, else the embedded glyphs; synthetic: made-up features"),
    Entry("data.path", "", _ANY, "an npz or Parquet file, or a folder of npy or Parquet files or of images (docs/your_own_features.md)"),
    Entry("data.tfds", "", _ANY, "with source=images: a TFDS data set prepared in data.path"),
    Entry("data.splits.train", "", _ANY, "its split to train on, such as train[:90%]; empty in all three: train, validation and test"),
    Entry("data.splits.val", "", _ANY, "likewise, to validate on; empty: taken from train"),
    Entry("data.splits.test", "", _ANY, "likewise, to test on"),
    Entry("data.lists.train", "", _ANY, "with source=images: a list file, its images below data.path"),
    Entry("data.lists.val", "", _ANY, "likewise, of validation images"),
    Entry("data.lists.test", "", _ANY, "likewise, of test images"),
    Entry("data.test_share", float, _ANY, "with source=images: the share of every class to test on if a folder has no test images"),
    Entry("data.fonts", "", _ANY, "with source=fonts: a folder; none: those that matplotlib brings"),
    Entry("data.licence", "", _ANY, "licence of the features, for the model card"),
    Entry("data.columns.features", "features", _ANY, "the column of Parquet files with lists of numbers, all of one length"),
    Entry("data.columns.label", "label", _ANY, "the column with integers from 0, or names"),
    Entry("data.columns.split", "split", _ANY, "the column with train, validation or test, in a file that holds all of them"),
    Entry("data.validation", "set", _choice("set", "train"), "what chooses knobs: a set beside train, or folds of train"),
    Entry("data.val_per_class", 20, _NOT_NEGATIVE, "validation examples a class, taken from train if the file has none"),
    Entry("data.folds", 3, _at_least(2), "folds of the training set, with data.validation=train"),
    Entry("data.manifest", "", _ANY, "a split.json of another run, whose split this one repeats, in place of data.longtail"),
    Entry("data.longtail.imbalance", float, _ABOVE_0_IF_SET, "n_max / n_min; unset: counts as they are, the embedded default has 100"),
    Entry("data.longtail.max_per_class", int, _COUNT_IF_SET, "n_max; unset: the largest class's count, the embedded default has 200"),
    Entry("data.longtail.profile", "exp", _choice("exp", "pareto", "step"), "how counts fall; pareto: as in ImageNet-LT"),
    Entry("data.longtail.indices", "", _ANY, "a text file of rows of train_x to train on, one a line, instead of a made tail"),
    Entry("data.synthetic.classes", 397, _at_least(2), "classes of made-up features, by default as SUN-397-LT"),
    Entry("data.synthetic.dim", 2048, _at_least(1), "dimensions of made-up features"),
    Entry("data.synthetic.largest", 1132, _at_least(1), "examples of the largest made-up class"),
    Entry("data.synthetic.median", 47, _at_least(1), "examples of the middle one"),
    Entry("data.synthetic.test_per_class", 40, _at_least(1), "test examples of each made-up class"),
    #
    Entry("characters.points", "21-24F 370-52F 1E00-1EFF 2190-22FF", _ANY, "ranges of code points that source=fonts renders"),
    Entry("characters.classes", 250, _at_least(2), "letters at most, drawn of those that all parts have"),
    Entry("characters.base", 400, _NOT_NEGATIVE, "other characters at most, to train the backbone on"),
    Entry("characters.per_class", (200, 20, 30), _THREE, "examples of a letter to train, to validate and to test on"),
    Entry("characters.distort", 1.0, _DISTORT, "strength of the random distortions; 0: none, and each rendering once"),
    Entry("characters.families.train", "", _ANY, "families of type, names with commas; none in all three: drawn"),
    Entry("characters.families.val", "", _ANY, "likewise, to validate on"),
    Entry("characters.families.test", "", _ANY, "likewise, to test on"),
    Entry("characters.seed", 0, _SEED, "seed of everything drawn here; the same characters in every seed of a run"),
    #
    Entry("features.backbone", None, _FUNCTION, "images → features, of your own; none: our network, trained on the base images"),
    Entry("features.weights", "", _ANY, "our network from another run, its folder backbone-.., instead of a new one"),
    Entry("features.size", 0, _NOT_NEGATIVE, "pixels of the shorter side, the middle is cut out; 0: images as they are, all of one size"),
    Entry("features.batch", 256, _at_least(1), "images at once"),
    Entry("features.dim", 128, _at_least(1), "d of our network"),
    Entry("features.widths", (32, 64, 128, 128), _COUNTS, "channels of its layers"),
    Entry("features.epochs", 8.0, _POSITIVE, "epochs of that training, over the base images"),
    Entry("features.rate", 3e-3, _POSITIVE, "learning rate at the top of its cycle"),
    Entry("features.seed", 0, _SEED, "seed of the training of our network"),
    Entry("features.network", "plain", _NETWORK, "convolutions in a row, or a block of two with a skip for each of the widths"),
    Entry("features.augment", "letters", _choice("letters", "photo"), "how images of training are changed; photo: cropped and mirrored"),
    Entry("features.finetune", "none", _FINETUNE, "our network learns from the long-tailed images: once, or at every stage"),
    #
    Entry("finetune.epochs", 4.0, _POSITIVE, "epochs over the long-tailed images, in every stage"),
    Entry("finetune.rate", 1e-3, _POSITIVE, "learning rate at the top of its cycle"),
    Entry("finetune.adjust", 0.0, _NOT_NEGATIVE, "τ of the logit-adjusted loss; 0: cross-entropy"),
    #
    Entry("tuning.budget", 18, _at_least(1), "settings that a method may try; metamodelnet tries every combination of its own"),
    #
    Entry("heads.l2", _RIDGES, _POSITIVES, "ridge ℓ for the mean loss, candidates"),
    Entry("heads.tol", 1e-5, _POSITIVE, "gradient norm while choosing"),
    Entry("heads.final_tol", 1e-6, _POSITIVE, "gradient norm of the chosen head, and of θ*"),
    #
    Entry("kshot.top", 6, _TOP, "N at most: k runs over 1, 2, .., 2^N"),
    Entry("kshot.min_classes", 20, _at_least(1), "classes with 2k examples that a rung k needs; a quarter of all if fewer, at least 5"),
    Entry("kshot.subsets", (32, 16, 8), _COUNTS, "S at k = 1, 2, and 4 and above; the paper: 1000,500,200"),
    Entry("kshot.l2", 1e-6, _POSITIVE, "ridge of the bank for the mean loss of the whole training set"),
    Entry("kshot.tol", 1e-4, _POSITIVE, "gradient norm of every k-shot head"),
    Entry("kshot.memory_mb", 0, _NOT_NEGATIVE, "MB of heads that a device solves at once; 0: 24 on a CPU, else 1/4 of the device's"),
    #
    Entry("meta.split", "recursive", _choice("recursive", "fixed"), "recursive: the paper's; fixed: one block on one k, its ablation"),
    Entry("meta.fixed_shots", 8, _at_least(1), "k of the fixed split, whose head classes have 2k examples"),
    Entry("meta.regressor", None, _FUNCTION, "ladder → Regressor, of your own (docs/extend_the_regressor.md); none: the paper's chain"),
    Entry("meta.width", 32, _at_least(1), "hidden width of a block (the paper: d)"),
    Entry("meta.precision", "float32", _choice("float32", "bfloat16"), "precision of the chain's products; bfloat16: mixed"),
    Entry("meta.task_weight", (0.1, 1.0), _NOT_NEGATIVES, "λ, candidates; 0 is the ablation without task loss"),
    Entry("meta.rate", (1e-3,), _POSITIVES, "learning rate, candidates"),
    Entry("meta.decay", (1e-2,), _NOT_NEGATIVES, "weight decay, candidates"),
    Entry("meta.strength", (0.5, 0.75, 1.0), _NOT_NEGATIVES, "how much of the movement is applied, candidates; 1 is the paper's"),
    Entry("meta.held_out", 0.2, _SHARE, "share of the classes that decide when a stage stops: 1 / round(1 / share)"),
    Entry("meta.batch", 256, _at_least(1), "examples in the task loss"),
    Entry("meta.memory_mb", 0, _NOT_NEGATIVE, "MB of heads that training draws from, others are read later; 0: an eighth of the device's"),
    Entry("meta.steps", 200, _at_least(1), "steps of a stage, at most"),
    Entry("meta.every", 10, _at_least(1), "steps between looks at the held-out classes"),
    Entry("meta.patience", 3, _at_least(1), "looks without a better one that end a stage"),
    #
    Entry("eval.few", 20, _at_least(1), "few-shot: fewer training examples than this"),
    Entry("eval.many", 100, _at_least(1), "many-shot: more than this"),
    Entry("eval.draws", 2000, _at_least(1), "resamples of the bootstrap"),
    Entry("eval.prior", "uniform", _ANY, "how often classes come up in use: uniform, train, or a text file of C numbers"),
)

FUNCTIONS = tuple(setting.key for setting in SETTINGS if setting.limit is _FUNCTION)  # keys whose value only a recipe can give


def default() -> ConfigDict:
    """The settings with their defaults."""
    config = ConfigDict()
    for setting in SETTINGS:
        place, (*sections, name) = config, setting.key.split(".")
        for section in sections:
            if section not in place:
                place[section] = ConfigDict()
            place = place[section]
        place[name] = placeholder(setting.default) if isinstance(setting.default, type) else setting.default
    return config.lock()  # a recipe that misspells a key is refused


def _value(config, key):
    for part in key.split("."):
        if part not in config:
            raise BadInput(f"--config: the recipe lacks {key}; start it from mmn_jax.config.default()")
        config = config[part]
    return config


class Given(NamedTuple):
    """What tells a function of a recipe from others: its name, the file that it stands in, and the SHA-256 of that file's text and of
    what the function closes over or has as defaults, as it prints. What its file imports isn't seen."""

    name: str
    file: str
    text: str
    values: str


def given(function: Callable, key: str) -> Given:
    """Of a function that the setting `key` holds.

    Raises:
      BadInput: it doesn't stand in a file.
    """
    code = getattr(function, "__code__", None)
    if code is None or not Path(code.co_filename).is_file():
        raise BadInput(f"--config.{key}: must be a function that stands in a file, whose text tells it from others")
    path = Path(code.co_filename)
    values = [[cell.cell_contents for cell in function.__closure__ or ()], function.__defaults__, function.__kwdefaults__]
    printed = re.sub(r" at 0x[0-9a-f]+", "", repr(values))
    return Given(function.__qualname__, path.name, *(hashlib.sha256(told).hexdigest() for told in (path.read_bytes(), printed.encode())))


def described(config: ConfigDict) -> dict[str, Any]:
    """The settings by section, JSON-able: a function is told as by `given`.

    Raises:
      BadInput: a function that `given` refuses.
    """
    sections = config.to_dict()
    for key in FUNCTIONS:
        section, name = key.split(".")
        if sections[section][name] is not None:
            sections[section][name] = given(sections[section][name], key)
    return sections


def check(config: ConfigDict) -> None:
    """Raises BadInput for the first setting whose value makes no sense."""
    for setting in SETTINGS:
        value = _value(config, setting.key)
        try:
            allowed = setting.limit.allows(value)
        except (TypeError, OverflowError):  # text or nothing where a number belongs, or one with hundreds of digits
            allowed = False
        if not allowed:
            shown = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            raise BadInput(f"--config.{setting.key}: {setting.limit.says}, it is {shown or 'empty'}")
    described(config)
    if config.eval.few > config.eval.many:
        raise BadInput(f"--config.eval.few: must not be above eval.many ({config.eval.many}), it is {config.eval.few}")
