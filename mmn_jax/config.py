"""Defines every setting in one line of `SETTINGS`: its key, default, limit and meaning.

A recipe in configs/ starts from `default()` and changes what it needs. The command line's `--help` and docs/config.md are generated
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

from mmn_jax import defaults
from mmn_jax.errors import BadInput


class Limit(NamedTuple):
    """What a setting may be.

    allows: returns whether a value is valid; a TypeError or OverflowError counts as no.
    says: the rule in words.
    """

    allows: Callable[[Any], bool]
    says: str


class Entry(NamedTuple):
    """One setting.

    key: its place in the config, parts separated by dots.
    default: its default; a type, such as float, means that the setting is unset and takes values of this type.
    limit: what it may be.
    meaning: what it does, in one line.
    """

    key: str
    default: Any
    limit: Limit
    meaning: str


def _one(test: Callable[[float], bool]) -> Callable[[Any], bool]:
    return lambda value: math.isfinite(value) and test(value)


def _all(test: Callable[[float], bool]) -> Callable[[Any], bool]:
    return lambda values: len(values) > 0 and all(math.isfinite(value) and test(value) for value in values)


def _choice(*words: str) -> Limit:
    return Limit(lambda value: value in words, f"must be {', '.join(words[:-1])} or {words[-1]}")


def _at_least(least: int) -> Limit:
    return Limit(_one(lambda v: least <= v < 2**31), f"must be at least {least}, and below 2^31")


def _seed(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 2**31


def _count(value: Any) -> bool:
    return isinstance(value, int) and 1 <= value < 2**31


def _names(values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


_ANY = Limit(lambda value: True, "")  # checked where it is used, with the features at hand
_POSITIVE = Limit(_one(lambda v: v > 0), "must be above 0")
_ABOVE_0_IF_SET = Limit(lambda v: v is None or _POSITIVE.allows(v), _POSITIVE.says)
_COUNT_IF_SET = Limit(lambda v: v is None or _count(v), "must be an integer from 1 up, below 2^31")
_POSITIVES = Limit(_all(lambda v: v > 0), "must list numbers above 0")
_NOT_NEGATIVES = Limit(_all(lambda v: v >= 0), "must list numbers from 0 up")
_COUNTS = Limit(lambda v: len(v) > 0 and all(map(_count, v)), "must list integers from 1 up, below 2^31")
_SEED = Limit(_seed, "must be from 0 to 2^31 - 1")
_SEEDS = Limit(lambda v: len(set(v)) == len(v) and all(map(_seed, v)), "must list different integers from 0 to 2^31 - 1")
_NAMES = Limit(_names, "must list names of methods")
_TOP = Limit(_one(lambda v: 0 <= v <= 30), "must be from 0 to 30")
_SHARE = Limit(_one(lambda v: 0 < v <= 0.5), "must be above 0 and at most 0.5")
_THREE = Limit(lambda v: len(v) == 3 and all(map(_count, v)), "must list three integers from 1 up")
_DISTORT = Limit(_one(lambda v: 0 <= v <= 3), "must be from 0 to 3")
_FUNCTION = Limit(lambda v: v is None or callable(v), "must be a function, given in the recipe")
_SOURCE = _choice("auto", "glyphs", "npz", "synthetic", "images", "fonts")
_VALIDATION = _choice("set", "train")
_TEST = _choice("auto", "none")
_PROFILE = _choice("exp", "pareto", "step")
_NETWORK = _choice("plain", "residual")
_AUGMENT = _choice("letters", "photo")
_FINETUNE = _choice("none", "fixed", "recursive")
_SPLIT = _choice("recursive", "fixed")
_PRECISION = _choice("float32", "bfloat16")
_NOT_NEGATIVE = Limit(_one(lambda v: 0 <= v < 2**31), "must be from 0 up, and below 2^31")

SETTINGS = (
    Entry("seed", 0, _SEED, "seed of the split and of every random stream"),
    Entry("seeds", (), _SEEDS, "seeds to run and aggregate, such as 0,1,2; none: only `seed`"),
    Entry("methods", (), _NAMES, "methods to run, such as mmn,logit_adjustment,plain; none: all those of the stage"),
    #
    Entry("data.source", "auto", _SOURCE, "auto: npz if data.path is given, else the embedded glyphs; synthetic: see data.synthetic"),
    Entry("data.path", "", _ANY, "npz or Parquet file, or folder of npy files, Parquet files or images (docs/your_own_features.md)"),
    Entry("data.tfds", "", _ANY, "with source=images: name of a TFDS data set prepared in data.path"),
    Entry("data.splits.train", "", _ANY, "TFDS split to train on, such as train[:90%]; all three empty: train, validation and test"),
    Entry("data.splits.val", "", _ANY, "TFDS split to validate on; empty: taken from the training split"),
    Entry("data.splits.test", "", _ANY, "TFDS split to test on"),
    Entry("data.lists.train", "", _ANY, "with source=images: file that lists the training images, paths relative to data.path"),
    Entry("data.lists.val", "", _ANY, "list of validation images"),
    Entry("data.lists.test", "", _ANY, "list of test images"),
    Entry("data.test", "auto", _TEST, "auto: test examples of the source, or data.test_share; none: train on all, evaluate on folds"),
    Entry("data.test_share", float, _ANY, "share of each class to test on if the features or the folder of images have no test examples"),
    Entry("data.transductive", False, _ANY, "allow rows of unlabelled_x that are test examples, too"),
    Entry("data.test_seed", 0, _SEED, "seed of the test examples of data.test_share, the same for all seeds of a run"),
    Entry("data.fonts", "", _ANY, "with source=fonts: folder of font files; empty: the fonts that matplotlib ships"),
    Entry("data.licence", "", _ANY, "licence of the features, stated in the model card"),
    Entry("data.columns.features", "features", _ANY, "Parquet column of features, lists of numbers of equal length"),
    Entry("data.columns.label", "label", _ANY, "Parquet column of labels, integers from 0 or names"),
    Entry("data.columns.split", "split", _ANY, "Parquet column of train, validation or test, in a file that holds all three"),
    Entry(
        "data.validation", "set", _VALIDATION, "set: hyperparameters are chosen on a validation set; train: on folds of the training set"
    ),
    Entry("data.val_per_class", 20, _NOT_NEGATIVE, "validation examples per class, taken from the training set if the file has none"),
    Entry("data.folds", defaults.FOLDS, _at_least(2), "folds of the training set, with data.validation=train"),
    Entry("data.manifest", "", _ANY, "split.json of another run; its split is used instead of data.longtail"),
    Entry("data.longtail.imbalance", float, _ABOVE_0_IF_SET, "n_max / n_min; unset: the counts stay as they are (embedded default: 100)"),
    Entry("data.longtail.max_per_class", int, _COUNT_IF_SET, "n_max; unset: the largest class's count (embedded default: 200)"),
    Entry("data.longtail.profile", "exp", _PROFILE, "how counts fall from n_max to n_min; pareto: as in ImageNet-LT"),
    Entry("data.longtail.indices", "", _ANY, "text file of the rows of train_x to train on, one per line, instead of a drawn long tail"),
    Entry("data.synthetic.classes", 397, _at_least(2), "number of synthetic classes; the defaults here have the shape of SUN-397-LT"),
    Entry("data.synthetic.dim", 2048, _at_least(1), "dimensions of synthetic features"),
    Entry("data.synthetic.largest", 1132, _at_least(1), "examples of the largest synthetic class"),
    Entry("data.synthetic.median", 47, _at_least(1), "examples of the median synthetic class"),
    Entry("data.synthetic.least", 1, _at_least(1), "examples of the smallest synthetic class"),
    Entry("data.synthetic.scatter", 2.0, _POSITIVE, "variance within synthetic classes, in units of that of their means"),
    Entry("data.synthetic.test_per_class", 40, _at_least(1), "test examples of each synthetic class"),
    #
    Entry("characters.points", "21-24F 370-52F 1E00-1EFF 2190-22FF", _ANY, "ranges of code points that source=fonts renders"),
    Entry("characters.classes", 250, _at_least(2), "maximum number of letters, drawn from those that all parts have"),
    Entry("characters.base", 400, _NOT_NEGATIVE, "maximum number of other characters, which train the backbone"),
    Entry("characters.per_class", (200, 20, 30), _THREE, "training, validation and test examples of each letter"),
    Entry("characters.distort", 1.0, _DISTORT, "strength of the random distortions; 0: none, and each rendering is used once"),
    Entry("characters.families.train", "", _ANY, "font families to train on, separated by commas; all three empty: drawn at random"),
    Entry("characters.families.val", "", _ANY, "font families to validate on"),
    Entry("characters.families.test", "", _ANY, "font families to test on"),
    Entry("characters.seed", 0, _SEED, "seed of the characters and their distortions, the same for all seeds of a run"),
    #
    Entry("features.backbone", None, _FUNCTION, "your own function, images → features; none: the built-in network"),
    Entry("features.weights", "", _ANY, "folder backbone-.. of another run, whose built-in network is used instead of training one"),
    Entry("features.size", 0, _NOT_NEGATIVE, "pixels of the shorter side, the centre is cropped; 0: images as they are, all of one size"),
    Entry("features.batch", 256, _at_least(1), "images per batch"),
    Entry("features.dim", 128, _at_least(1), "feature dimension d of the built-in network"),
    Entry("features.widths", (32, 64, 128, 128), _COUNTS, "channels of its layers"),
    Entry("features.epochs", 8.0, _POSITIVE, "epochs of its training, on the base images"),
    Entry("features.rate", 3e-3, _POSITIVE, "peak learning rate of its training"),
    Entry("features.seed", 0, _SEED, "seed of its training"),
    Entry("features.network", "plain", _NETWORK, "plain: one convolution per width; residual: two with a skip connection"),
    Entry("features.augment", "letters", _AUGMENT, "augmentation of training images; letters: distortions; photo: crops and mirroring"),
    Entry("features.finetune", "none", _FINETUNE, "fine-tunes this network on the long-tailed images, once or at every level"),
    #
    Entry("finetune.epochs", 4.0, _POSITIVE, "epochs over the long-tailed images, each time"),
    Entry("finetune.rate", 1e-3, _POSITIVE, "peak learning rate"),
    Entry("finetune.adjust", 0.0, _NOT_NEGATIVE, "τ of the logit-adjusted loss; 0: cross-entropy"),
    #
    Entry(
        "tuning.budget",
        defaults.BUDGET,
        _at_least(1),
        "settings that a method may try; metamodelnet tries all combinations of its candidates",
    ),
    #
    Entry("heads.l2", defaults.RIDGES, _POSITIVES, "candidates for the ridge ℓ, relative to the mean loss"),
    Entry("heads.tol", defaults.TOL, _POSITIVE, "gradient norm to reach during tuning, and for θ*"),
    Entry("heads.final_tol", defaults.FINAL_TOL, _POSITIVE, "gradient norm to reach for the chosen head"),
    #
    Entry("kshot.top", defaults.TOP, _TOP, "maximum N; k runs over 1, 2, .., 2^N"),
    Entry(
        "kshot.min_classes",
        defaults.MIN_CLASSES,
        _at_least(1),
        "classes with 2k examples that level i (k = 2^i) needs; C/4 if fewer, at least 5",
    ),
    Entry("kshot.subsets", defaults.SUBSETS, _COUNTS, "S at k = 1, at k = 2, and at k = 4 and above; the paper: 1000,500,200"),
    Entry("kshot.l2", defaults.BANK_L2, _POSITIVE, "ridge of the bank, relative to the mean loss of the whole training set"),
    Entry("kshot.tol", defaults.BANK_TOL, _POSITIVE, "gradient norm to reach for every k-shot head"),
    Entry("kshot.memory_mb", 0, _NOT_NEGATIVE, "MB of heads that a device solves at once; 0: 24 on a CPU, else 1/4 of the device's"),
    #
    Entry("meta.split", "recursive", _SPLIT, "recursive: the paper's; fixed: one block on one k, the paper's ablation"),
    Entry("meta.fixed_shots", 8, _at_least(1), "k of the fixed split, which trains on classes with at least 2k examples"),
    Entry("meta.regressor", None, _FUNCTION, "your own function, ladder → Regressor (docs/extend_the_regressor.md); none: the chain"),
    Entry("meta.width", defaults.WIDTH, _at_least(1), "hidden width of a block (the paper: d)"),
    Entry("meta.precision", "float32", _PRECISION, "precision of the chain's matrix products; bfloat16: mixed precision"),
    Entry("meta.task_weight", defaults.TASK_WEIGHTS, _NOT_NEGATIVES, "candidates for λ; 0: the ablation without task loss"),
    Entry("meta.rate", defaults.RATES, _POSITIVES, "candidates for the learning rate"),
    Entry("meta.decay", defaults.DECAYS, _NOT_NEGATIVES, "candidates for the weight decay"),
    Entry("meta.strength", defaults.STRENGTHS, _NOT_NEGATIVES, "candidates for the factor on the chain's movement; 1: the paper's"),
    Entry("meta.held_out", defaults.HELD_OUT, _SHARE, "share of the classes held out for early stopping, rounded to 1 / round(1 / share)"),
    Entry("meta.batch", defaults.BATCH, _at_least(1), "examples per batch of the task loss"),
    Entry("meta.memory_mb", 0, _NOT_NEGATIVE, "MB of heads kept in memory, the rest is read when needed; 0: 1/8 of the device's"),
    Entry("meta.steps", defaults.STEPS, _at_least(1), "maximum number of steps per level"),
    Entry("meta.every", defaults.EVERY, _at_least(1), "steps between evaluations on the held-out classes"),
    Entry("meta.patience", defaults.PATIENCE, _at_least(1), "evaluations without improvement after which a level stops"),
    #
    Entry("eval.few", 20, _at_least(1), "few-shot classes have fewer training examples than this"),
    Entry("eval.many", 100, _at_least(1), "many-shot classes have more training examples than this"),
    Entry("eval.draws", 2000, _at_least(1), "resamples of the bootstrap"),
    Entry("eval.classifier", "", _ANY, "method that classifier.npz holds; empty: of the mmn family, the one validation prefers"),
    Entry("eval.prior", "uniform", _ANY, "class prior in use: uniform, train, or a text file of C numbers"),
)

FUNCTIONS = tuple(setting.key for setting in SETTINGS if setting.limit is _FUNCTION)  # keys whose value only a recipe can give


def default() -> ConfigDict:
    """Returns the settings with their defaults, locked: a recipe that misspells a key is refused."""
    config = ConfigDict()
    for setting in SETTINGS:
        place, (*sections, name) = config, setting.key.split(".")
        for section in sections:
            if section not in place:
                place[section] = ConfigDict()
            place = place[section]
        place[name] = placeholder(setting.default) if isinstance(setting.default, type) else setting.default
    return config.lock()


def _value(config: ConfigDict, key: str) -> Any:
    for part in key.split("."):
        if part not in config:
            raise BadInput(f"--config: the recipe lacks {key}; start it from mmn_jax.config.default()")
        config = config[part]
    return config


class Given(NamedTuple):
    """Identifies a function of a recipe.

    name: its qualified name. file: the name of the file that defines it. text: SHA-256 of that file, without what it imports.
    values: SHA-256 of its closure and default arguments, as they print.
    """

    name: str
    file: str
    text: str
    values: str


def given(function: Callable, key: str) -> Given:
    """Fingerprints the function stored under `key`.

    Raises:
      BadInput: the function isn't defined in a file.
    """
    code = getattr(function, "__code__", None)
    if code is None or not Path(code.co_filename).is_file():
        raise BadInput(f"--config.{key}: must be a function defined in a file, as its text is part of what artefacts depend on")
    path = Path(code.co_filename)
    held = [[cell.cell_contents for cell in function.__closure__ or ()], function.__defaults__, function.__kwdefaults__]
    printed = re.sub(r" at 0x[0-9a-f]+", "", repr(held))  # the same in every process
    text, values = (hashlib.sha256(content).hexdigest() for content in (path.read_bytes(), printed.encode()))
    return Given(function.__qualname__, path.name, text, values)


def described(config: ConfigDict) -> dict[str, Any]:
    """Returns the settings as a JSON-able dict, functions replaced by their fingerprints (`given`).

    Raises:
      BadInput: a function isn't defined in a file.
    """
    sections = config.to_dict()
    for key in FUNCTIONS:
        section, name = key.split(".")
        if sections[section][name] is not None:
            sections[section][name] = given(sections[section][name], key)
    return sections


def flat(config: ConfigDict) -> dict[str, Any]:
    """Returns the settings of `described` by their full keys."""
    sections = described(config)

    def value(key):
        place: Any = sections
        for part in key.split("."):
            place = place[part]
        return place

    return {setting.key: value(setting.key) for setting in SETTINGS}


def check(config: ConfigDict) -> None:
    """Raises BadInput for the first setting whose value is invalid."""
    for setting in SETTINGS:
        value = _value(config, setting.key)
        try:
            allowed = setting.limit.allows(value)
        except (TypeError, OverflowError):  # text or None instead of a number, or a number with hundreds of digits
            allowed = False
        if not allowed:
            shown = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            raise BadInput(f"--config.{setting.key}: {setting.limit.says}, it is {shown or 'empty'}")
    described(config)
    if config.data.test == "none" and config.data.validation != "train":
        raise BadInput("--config.data.test=none: trains on all examples and evaluates on folds; add --config.data.validation=train")
    if config.eval.few > config.eval.many:
        raise BadInput(f"--config.eval.few: must not be above eval.many ({config.eval.many}), it is {config.eval.few}")
