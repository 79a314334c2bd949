"""Every setting with its default. A recipe in configs/ starts from here and changes what it needs."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def default() -> ConfigDict:
    """The settings of the default run; see the comments for what each one is."""
    c = ConfigDict()
    c.seed = 0  # of the split and every random stream
    c.seeds = ()  # several seeds to run and aggregate, e.g. (0, 1, 2); empty: just `seed`

    c.data = ConfigDict()
    c.data.source = "glyphs"  # glyphs: the embedded default; npz: a file of features at data.path
    c.data.path = ""
    c.data.val_per_class = 20  # taken from train where the file has no validation set
    c.data.longtail = ConfigDict()
    c.data.longtail.imbalance = placeholder(float)  # n_max / n_min; unset: the file's own counts stand
    c.data.longtail.max_per_class = placeholder(int)  # n_max; unset: the largest class's count

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
    c.kshot.memory_mb = 512  # of the heads solved at once

    c.meta = ConfigDict()
    c.meta.split = "recursive"  # the paper's; fixed: one block on one k, its ablation
    c.meta.fixed_shots = 8  # k of the fixed split, whose head classes have 2k examples
    c.meta.width = 32  # hidden width of a block (the paper: d)
    c.meta.task_weight = (0.01, 0.1, 1.0)  # λ, candidates; 0 is the ablation without task loss
    c.meta.rate = (1e-3,)  # learning rate, candidates
    c.meta.decay = (1e-2,)  # weight decay, candidates
    c.meta.strength = (0.5, 0.75, 1.0)  # how much of the movement is applied, candidates; 1 is the paper's
    c.meta.held_out = 0.2  # share of the classes that decide when a stage stops
    c.meta.batch = 256  # examples in the task loss
    c.meta.steps = 200  # at most, in a stage
    c.meta.every = 10  # steps between looks at the held-out classes
    c.meta.patience = 3  # looks without a better one that end a stage

    c.eval = ConfigDict()
    c.eval.few = 20  # few-shot: fewer training examples than this
    c.eval.many = 100  # many-shot: more than this
    c.eval.draws = 2000  # of the bootstrap
    return c
