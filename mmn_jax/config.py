"""Every setting with its default. A recipe in configs/ starts from here and changes what it needs."""

import math

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from mmn_jax.types import BadInput


def default() -> ConfigDict:
    """The settings of the default run; see the comments for what each one is."""
    c = ConfigDict()
    c.seed = 0  # of the split and every random stream
    c.seeds = ()  # several seeds to run and aggregate, e.g. (0, 1, 2); empty: just `seed`

    c.data = ConfigDict()
    c.data.source = "glyphs"  # glyphs: the embedded default; npz: features of your own at data.path; synthetic: made-up ones;
    # images: features are made of the images at data.path (docs/your_own_features.md); fonts: of letters that are rendered
    c.data.path = ""  # an npz or Parquet file, or a folder of npy or Parquet files (docs/your_own_features.md)
    c.data.tfds = ""  # with source=images: a TFDS data set prepared in data.path
    c.data.lists = ConfigDict({"train": "", "val": "", "test": ""})  # with source=images: list files, their images below data.path
    c.data.test_share = placeholder(float)  # with source=images: of every class, to test on where a folder has no test images
    c.data.fonts = ""  # with source=fonts: a folder; empty: those that matplotlib brings
    c.data.columns = ConfigDict()  # what Parquet files call them
    c.data.columns.features = "features"  # lists of numbers, all of one length
    c.data.columns.label = "label"  # integers from 0, or names
    c.data.columns.split = "split"  # train, validation or test; only in a file that holds all of them
    c.data.validation = "set"  # what knobs are chosen on; set: the file's or one taken from train; train: folds of the tail itself
    c.data.val_per_class = 20  # taken from train where the file has no validation set
    c.data.folds = 3  # of the training set, with data.validation=train
    c.data.manifest = ""  # a split.json of another run, whose split this one repeats
    c.data.longtail = ConfigDict()
    c.data.longtail.imbalance = placeholder(float)  # n_max / n_min; unset: the file's own counts stand
    c.data.longtail.max_per_class = placeholder(int)  # n_max; unset: the largest class's count
    c.data.longtail.profile = "exp"  # how counts fall from class to class: exp, pareto (as ImageNet-LT) or step
    c.data.longtail.indices = ""  # a text file of the rows of train_x to train on, one a line, instead of a made tail
    c.data.synthetic = ConfigDict()  # the shape of made-up features, that of SUN-397-LT
    c.data.synthetic.classes = 397
    c.data.synthetic.dim = 2048
    c.data.synthetic.largest = 1132  # examples of the largest class
    c.data.synthetic.median = 47
    c.data.synthetic.test_per_class = 40

    c.characters = ConfigDict()  # what source=fonts renders
    c.characters.points = "21-24F 370-52F 1E00-1EFF 2190-22FF"  # ranges of code points
    c.characters.classes = 250  # letters at most, drawn of those that all parts have
    c.characters.base = 400  # other characters at most, to train the backbone on
    c.characters.per_class = (200, 20, 30)  # examples of a letter to train, to validate and to test on
    c.characters.distort = 1.0  # strength of the random distortions; 0: none, and each rendering once
    c.characters.families = ConfigDict({"train": "", "val": "", "test": ""})  # of type, names with commas; all empty: drawn
    c.characters.seed = 0  # of everything drawn here; the same characters in every seed of a run

    c.features = ConfigDict()  # how images become features
    c.features.backbone = None  # a function of your own (docs/your_own_features.md); none: our network, trained on the base images
    c.features.weights = ""  # our network from another run, its folder backbone-..., instead of a new one
    c.features.size = 0  # pixels; the shorter side is brought to it and the middle cut out; 0: images as they are, all of one size
    c.features.batch = 256
    c.features.dim = 128  # d of our network
    c.features.widths = (32, 64, 128, 128)  # channels of its layers
    c.features.epochs = 8.0  # over the base images
    c.features.rate = 3e-3  # learning rate at the top of its cycle
    c.features.seed = 0  # of its training

    c.tuning = ConfigDict()
    c.tuning.budget = 18  # settings that every method may try

    c.heads = ConfigDict()
    c.heads.l2 = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)  # ridge ℓ for the mean loss
    c.heads.tol = 1e-5  # gradient norm while choosing
    c.heads.final_tol = 1e-6  # gradient norm of the chosen head

    c.kshot = ConfigDict()
    c.kshot.top = 6  # N at most: k runs over 1, 2, .., 2^N
    c.kshot.min_classes = 20  # a rung k needs so many classes with 2k examples
    c.kshot.subsets = (32, 16, 8)  # S at k = 1, 2, and 4 and above; the paper: 1000, 500, 200
    c.kshot.l2 = 1e-6  # ridge of the bank for the mean loss of the whole training set
    c.kshot.tol = 1e-4  # gradient norm of every head
    c.kshot.memory_mb = 0  # of the heads that a device solves at once; 0: what is fast there, 24 on a CPU, 4096 elsewhere

    c.meta = ConfigDict()
    c.meta.split = "recursive"  # the paper's; fixed: one block on one k, its ablation
    c.meta.fixed_shots = 8  # k of the fixed split, whose head classes have 2k examples
    c.meta.width = 32  # hidden width of a block (the paper: d)
    c.meta.precision = "float32"  # of the chain's products; bfloat16: mixed precision
    c.meta.task_weight = (0.1, 1.0)  # λ, candidates; 0 is the ablation without task loss
    c.meta.rate = (1e-3,)  # learning rate, candidates
    c.meta.decay = (1e-2,)  # weight decay, candidates
    c.meta.strength = (0.5, 0.75, 1.0)  # how much of the movement is applied, candidates; 1 is the paper's
    c.meta.held_out = 0.2  # share of the classes that decide when a stage stops
    c.meta.batch = 256  # examples in the task loss
    c.meta.memory_mb = 1024  # of the heads that training draws from; a larger bank is read from the disk as training goes on
    c.meta.steps = 200  # at most, in a stage
    c.meta.every = 10  # steps between looks at the held-out classes
    c.meta.patience = 3  # looks without a better one that end a stage

    c.eval = ConfigDict()
    c.eval.few = 20  # few-shot: fewer training examples than this
    c.eval.many = 100  # many-shot: more than this
    c.eval.draws = 2000  # of the bootstrap
    c.eval.prior = "uniform"  # how often each class comes up where the classifier is used; train, or a text file of C numbers
    return c


def _all(test):
    return lambda values: len(values) > 0 and all(math.isfinite(value) and test(value) for value in values)


def _one(test):
    return lambda value: math.isfinite(value) and test(value)


_POSITIVE = (_one(lambda v: v > 0), "must be above 0")
_AT_LEAST_1 = (_one(lambda v: v >= 1), "must be at least 1")
_POSITIVES = (_all(lambda v: v > 0), "must list numbers above 0")
_NOT_NEGATIVES = (_all(lambda v: v >= 0), "must list numbers from 0 up")
_ANY = (lambda v: True, "")  # checked where it is used, with the features at hand
_RULES = {
    **dict.fromkeys(("data.path", "data.manifest", "data.val_per_class", "eval.prior"), _ANY),
    **dict.fromkeys(("data.longtail.imbalance", "data.longtail.max_per_class", "data.longtail.indices"), _ANY),
    **dict.fromkeys(("data.columns.features", "data.columns.label", "data.columns.split"), _ANY),
    "data.longtail.profile": (lambda v: v in ("exp", "pareto", "step"), "must be exp, pareto or step"),
    "seed": (_one(lambda v: 0 <= v < 2**31), "must be from 0 to 2^31 - 1"),
    "seeds": (
        lambda seeds: len(set(seeds)) == len(seeds) and all(isinstance(v, int) and 0 <= v < 2**31 for v in seeds),
        "must list different integers from 0 to 2^31 - 1",
    ),
    **{f"data.synthetic.{name}": _AT_LEAST_1 for name in ("classes", "dim", "largest", "median", "test_per_class")},
    "data.source": (
        lambda v: v in ("glyphs", "npz", "synthetic", "images", "fonts"),
        "must be glyphs, npz, synthetic, images or fonts",
    ),
    **dict.fromkeys(("data.tfds", "data.lists.train", "data.lists.val", "data.lists.test", "data.test_share", "data.fonts"), _ANY),
    **dict.fromkeys(("characters.points", "features.weights"), _ANY),
    **dict.fromkeys(("characters.families.train", "characters.families.val", "characters.families.test"), _ANY),
    "characters.classes": (_one(lambda v: v >= 2), "must be at least 2"),
    "characters.base": (_one(lambda v: v >= 0), "must be from 0 up"),
    "characters.per_class": (lambda v: len(v) == 3 and all(isinstance(n, int) and n >= 1 for n in v), "must list three integers from 1 up"),
    "characters.distort": (_one(lambda v: 0 <= v <= 3), "must be from 0 to 3"),
    "characters.seed": (_one(lambda v: 0 <= v < 2**31), "must be from 0 to 2^31 - 1"),
    "features.backbone": (lambda v: v is None or callable(v), "must be a function, given in the recipe"),
    "features.size": (_one(lambda v: v >= 0), "must be from 0 up"),
    "features.batch": _AT_LEAST_1,
    "features.dim": _AT_LEAST_1,
    "features.widths": (lambda v: len(v) > 0 and all(isinstance(n, int) and n >= 1 for n in v), "must list integers from 1 up"),
    "features.epochs": _POSITIVE,
    "features.rate": _POSITIVE,
    "features.seed": (_one(lambda v: 0 <= v < 2**31), "must be from 0 to 2^31 - 1"),
    "data.validation": (lambda v: v in ("set", "train"), "must be set or train"),
    "data.folds": (_one(lambda v: v >= 2), "must be at least 2"),
    "tuning.budget": _AT_LEAST_1,
    "heads.l2": _POSITIVES,
    "heads.tol": _POSITIVE,
    "heads.final_tol": _POSITIVE,
    "kshot.top": (_one(lambda v: 0 <= v <= 30), "must be from 0 to 30"),
    "kshot.min_classes": _AT_LEAST_1,
    "kshot.subsets": (lambda v: len(v) > 0 and all(isinstance(s, int) and s >= 1 for s in v), "must list integers from 1 up"),
    "kshot.l2": _POSITIVE,
    "kshot.tol": _POSITIVE,
    "kshot.memory_mb": (_one(lambda v: v >= 0), "must be from 0 up"),
    "meta.split": (lambda v: v in ("recursive", "fixed"), "must be recursive or fixed"),
    "meta.fixed_shots": _AT_LEAST_1,
    "meta.width": _AT_LEAST_1,
    "meta.precision": (lambda v: v in ("float32", "bfloat16"), "must be float32 or bfloat16"),
    "meta.task_weight": _NOT_NEGATIVES,
    "meta.rate": _POSITIVES,
    "meta.decay": _NOT_NEGATIVES,
    "meta.strength": _NOT_NEGATIVES,
    "meta.held_out": (_one(lambda v: 0 < v <= 0.5), "must be above 0 and at most 0.5"),
    "meta.batch": _AT_LEAST_1,
    "meta.memory_mb": _AT_LEAST_1,
    "meta.steps": _AT_LEAST_1,
    "meta.every": _AT_LEAST_1,
    "meta.patience": _AT_LEAST_1,
    "eval.few": _AT_LEAST_1,
    "eval.many": _AT_LEAST_1,
    "eval.draws": _AT_LEAST_1,
}


def check(config: ConfigDict) -> None:
    """Raises BadInput for the first setting whose value makes no sense."""
    for key, (test, rule) in _RULES.items():
        value = config
        for part in key.split("."):
            if part not in value:
                raise BadInput(f"--config: the recipe lacks {key}; start it from mmn_jax.config.default()")
            value = value[part]
        try:
            allowed = test(value)
        except TypeError:  # text or nothing where a number belongs
            allowed = False
        if not allowed:
            raise BadInput(f"--config.{key}: {rule}, it is {value}")
    if config.eval.few > config.eval.many:
        raise BadInput(f"--config.eval.few: must not be above eval.many ({config.eval.many}), it is {config.eval.few}")
