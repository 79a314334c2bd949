"""Rivals of `mmn_names` and `mmn_unlabelled`: what a practitioner would do with descriptions of classes, or with examples without labels.

Each gets the same input as ours, and is tuned with the same budget (`contract.py`).
"""

import math
import warnings

import numpy as np
from jaxtyping import Float

from mmn_jax.defaults import TOL
from mmn_jax.errors import BadInput
from mmn_jax.linear import weighting
from mmn_jax.linear.rows import centred, subtract_log_prior, unit
from mmn_jax.methods.contract import Arrays, Fitted, Method, linear
from mmn_jax.methods.head_methods import by_factor, by_step, l2_axis, tau_axis
from mmn_jax.methods.pseudo_labelling import label, pool_of, with_labelled
from mmn_jax.methods.tasks import Head, Task, make_task, unscaled
from mmn_jax.methods.tuning import Axis, Setting

ROUNDS = 4  # of self-training, at most: each fits a head
SPREAD = 20_000  # examples without labels that label spreading uses, at most: its time grows with their square


def _adjusted(task: Task, setting: Setting) -> tuple[Float[np.ndarray, "C p"], Head]:
    """Returns the centred rows of a logit-adjusted head, and the head."""
    head = task.head(weighting.plain, setting["l2"], unscaled)
    return centred(subtract_log_prior(head.theta, setting["tau"], task.counts)), head


def described_rows(task: Task, setting: Setting) -> Fitted:
    """Mixes the rows of a logit-adjusted head with those that ridge regression predicts from the descriptions of the classes.

    A class weighs in the regression as much as it has examples (Frome et al. 2013 map images to descriptions; this maps the other way).
    """
    from sklearn.linear_model import Ridge  # slow to import

    rows, head = _adjusted(task, setting)
    descriptions = task.knowledge.descriptions
    assert descriptions is not None, "the method needs them"
    descriptions = unit(descriptions)
    model = Ridge(alpha=setting["alpha"] * task.counts.mean()).fit(descriptions, rows, sample_weight=task.counts)
    return linear((1 - setting["share"]) * rows + setting["share"] * model.predict(descriptions), head)


def zero_shot(task: Task, setting: Setting) -> Fitted:
    """Takes the descriptions themselves, at unit norm, as the rows, where they lie in the space of the features (Radford et al. 2021).

    Features are centred, which takes away what their mean has in common with a description. No training example is used otherwise.

    Raises:
      BadInput: descriptions have another number of dimensions than features.
    """
    descriptions, dim = task.knowledge.descriptions, task.train.x.shape[1]
    assert descriptions is not None, "the method needs them"
    if descriptions.shape[1] != dim:
        given = f"it has {descriptions.shape[1]} dimensions, the features {dim}"
        raise BadInput(f"class_embeddings: zero_shot needs descriptions in the space of the features, {given}")
    return linear(np.concatenate([unit(descriptions), np.zeros((len(descriptions), 1))], 1))


def _self_trained(rounds: int, task: Task, setting: Setting) -> Fitted:
    """Fits a logit-adjusted head, and in each round another one to all examples that are labelled or that the last head is sure of."""
    (rows, head), last = _adjusted(task, setting), None
    for _ in range(rounds):
        new = label(rows, pool_of(task.knowledge), setting["threshold"])
        if last is not None and np.array_equal(new.sure, last.sure) and np.array_equal(new.y, last.y):
            break
        more = with_labelled(task.train, pool_of(task.knowledge), new)
        (rows, head), last = _adjusted(make_task(more, task.root, TOL), setting), new
    return linear(rows, head)


def pseudo_labels(task: Task, setting: Setting) -> Fitted:
    """Fits a logit-adjusted head, labels the unlabelled examples that it is sure of, and fits another one to all (Lee 2013)."""
    return _self_trained(1, task, setting)


def self_training(task: Task, setting: Setting) -> Fitted:
    """Repeats what `pseudo_labels` does until labels stay, at most ROUNDS times (Yarowsky 1995), labelling all examples anew each time."""
    return _self_trained(ROUNDS, task, setting)


def label_spreading(task: Task, setting: Setting) -> Fitted:
    """Spreads the labels over the graph of nearest neighbours of all examples, by cosine (Zhou et al. 2004).

    Of more than SPREAD examples without labels, every second, third, .. takes part. A new example gets the mean of its neighbours, where a
    class counts n_c^−τ times. This is no linear head.
    """
    from sklearn.exceptions import ConvergenceWarning  # scikit-learn is slow to import
    from sklearn.neighbors import kneighbors_graph
    from sklearn.semi_supervised import LabelSpreading

    pool = pool_of(task.knowledge)
    x = unit(np.concatenate([task.train.x, pool[:: max(1, math.ceil(len(pool) / SPREAD))]]))
    neighbours = min(setting["neighbours"], len(x))
    graph = task.once(("graph", neighbours), lambda: kneighbors_graph(x, neighbours, include_self=True))
    y = np.concatenate([task.train.y, np.full(len(x) - len(task.train.y), -1)])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "max_iter=", ConvergenceWarning)  # shares that still change a little are as good
        found = LabelSpreading(kernel=lambda _x, _y: graph, alpha=setting["alpha"]).fit(x, y).label_distributions_
    shares = found.astype(np.float32)
    return Fitted({"x": x, "shares": shares, "neighbours": np.array(neighbours), "vote": task.counts ** -float(setting["tau"])})


def spread_logits(arrays: Arrays, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n C"]:
    """Returns the logarithms of the smoothed shares that the labels of the nearest neighbours have."""
    from sklearn.neighbors import NearestNeighbors  # slow to import

    model = NearestNeighbors(n_neighbors=int(arrays["neighbours"]), algorithm="brute").fit(arrays["x"])
    share = (model.kneighbors_graph(unit(x)) @ arrays["shares"]) * arrays["vote"]
    return np.log(share / np.maximum(share.sum(1, keepdims=True), 1e-12) + 1e-6)


def methods(grid: tuple[float, ...]) -> dict[str, Method]:
    """Returns the informed rivals by name, their ridges searched over `grid`."""
    axes = l2_axis(grid), tau_axis(0.5, 1.0, 1.5, 2.0)
    alpha, share = Axis("alpha", (10.0, 1.0, 0.1, 0.01), 1.0, by_factor), Axis("share", (0.0, 0.25, 0.5, 0.75), 0.25, by_step)
    threshold = Axis("threshold", (0.95, 0.8, 0.5, 0.3), 0.8, by_step)
    neighbours, alpha_spread = Axis("neighbours", (5, 10, 20, 50), 10), Axis("alpha", (0.2, 0.5, 0.8, 0.95), 0.5, by_step)
    spreading = neighbours, alpha_spread, tau_axis(0.0, 0.5, 1.0, start=0.5)
    unlabelled = frozenset({"unlabelled"})
    return {
        "described_rows": Method("rival_informed", (*axes, alpha, share), described_rows, needs=frozenset({"descriptions"})),
        "zero_shot": Method("rival_informed", (), zero_shot, needs=frozenset({"descriptions"}), same_space=True),
        "pseudo_labels": Method("rival_informed", (*axes, threshold), pseudo_labels, needs=unlabelled),
        "self_training": Method("rival_informed", (*axes, threshold), self_training, needs=unlabelled),
        "label_spreading": Method("rival_informed", spreading, label_spreading, spread_logits, needs=unlabelled),
    }
