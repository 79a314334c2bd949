"""Rivals of `mmn_names` and `mmn_unlabelled`: what a practitioner would do with descriptions of classes, or with examples without labels.

Each gets the same input as ours, and is tuned with the same budget (`contract.py`).
"""

import numpy as np
from jaxtyping import Float
from scipy.special import softmax

from mmn_jax.defaults import TOL
from mmn_jax.linear import weighting
from mmn_jax.linear.rows import centred, predict_logits, subtract_log_prior
from mmn_jax.methods.contract import Fitted, Method, linear
from mmn_jax.methods.head_methods import by_factor, by_step, l2_axis, tau_axis
from mmn_jax.methods.tasks import Head, Task, make_task, unscaled
from mmn_jax.methods.tuning import Axis, Setting
from mmn_jax.types import Normalised


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
    descriptions = descriptions / np.maximum(np.linalg.norm(descriptions, axis=1, keepdims=True), 1e-12)
    model = Ridge(alpha=setting["alpha"] * task.counts.mean()).fit(descriptions, rows, sample_weight=task.counts)
    return linear((1 - setting["share"]) * rows + setting["share"] * model.predict(descriptions), head)


def _confident(task: Task, setting: Setting) -> Task:
    """Returns the task of the training set and the unlabelled examples whose class a logit-adjusted head is sure enough of."""
    rows, _ = _adjusted(task, setting)
    x = task.knowledge.unlabelled
    assert x is not None, "the method needs it"
    probability = softmax(predict_logits(rows, x), axis=1)
    sure = probability.max(1) >= setting["threshold"]
    y = np.concatenate([task.train.y, probability[sure].argmax(1).astype(task.train.y.dtype)])
    return make_task(Normalised(np.concatenate([task.train.x, x[sure]]), y), task.root, TOL)


def pseudo_labels(task: Task, setting: Setting) -> Fitted:
    """Fits a logit-adjusted head, labels the unlabelled examples that it is sure of, and fits another one to all (Lee 2013)."""
    name = "pseudo-labels", setting["l2"], setting["tau"], setting["threshold"]
    more = task.once(name, lambda: _confident(task, setting))
    rows, head = _adjusted(more, setting)
    return linear(rows, head)


def methods(grid: tuple[float, ...]) -> dict[str, Method]:
    """Returns the informed rivals by name, their ridges searched over `grid`."""
    axes = l2_axis(grid), tau_axis(0.5, 1.0, 1.5, 2.0)
    alpha, share = Axis("alpha", (10.0, 1.0, 0.1, 0.01), 1.0, by_factor), Axis("share", (0.0, 0.25, 0.5, 0.75), 0.25, by_step)
    threshold = Axis("threshold", (0.95, 0.8, 0.5, 0.3), 0.8, by_step)
    return {
        "described_rows": Method("rival_informed", (*axes, alpha, share), described_rows, needs=frozenset({"descriptions"})),
        "pseudo_labels": Method("rival_informed", (*axes, threshold), pseudo_labels, needs=frozenset({"unlabelled"})),
    }
