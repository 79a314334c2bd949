"""`mmn`, what a user gets: every row mixed from heads under priors of several strengths, by weights that grow with its examples.

    θ̂_c = Σ_h a_h(φ_c) θ_c^h

θ^h are logit-adjusted heads under the row prior N(0, A⁻¹BA⁻¹) and Bayesian rows of a model of classes (`classes.py`) that is
learned from how classes with many examples scatter, each at several shrinkages and ridges: one trusts the class's own examples,
another what other classes teach. φ_c are the examples of the class, how far it is from the others' centre and how crowded its
neighbourhood is; the weights a_h are learned on held-out examples (`mixture.py`), the same for all classes.
"""

import itertools
from collections.abc import Sequence
from functools import partial

import numpy as np

from mmn_jax import weighting
from mmn_jax.classes import Shrinkage, bayesian_rows, class_means, posterior_means
from mmn_jax.evaluate import best_temperature, mean_class_accuracy, predict_logits
from mmn_jax.methods import Fitted, Method, Tuned, chosen_record, linear, logit_adjusted
from mmn_jax.mixture import Part, class_weights, fit_mixture, mix
from mmn_jax.tuning import Fold, RowPrior, Setting, Task, Trial, unscaled

GEOMETRY = Shrinkage(0.3, 0.3)  # of the model in which distances between classes are measured
NEAREST = 3  # classes that make a neighbourhood


def fit(task: Task, setting: Setting) -> Fitted:
    """One member: the Bayesian rows under shrinkages `within` and `between`, or, where the setting has an l2, the logit-adjusted head
    under their row prior; with both 1 that is the plain ridge."""
    shrinkage = Shrinkage(setting["within"], setting["between"])
    if "l2" not in setting:
        return linear(bayesian_rows(task.model(shrinkage), class_means(*task.train, len(task.counts)), task.counts))
    scaling = unscaled if shrinkage == (1, 1) else RowPrior(shrinkage)
    head = task.head("plain", weighting.plain, setting["l2"], scaling)
    return linear(logit_adjusted(head.theta, 1.0, task.counts), head)


def members(grid: tuple[float, ...]) -> list[Setting]:
    """Heads at three shrinkages under every other ridge of `grid`, and Bayesian rows at six."""
    ridges = sorted(grid, reverse=True)[::2]
    heads = [{"l2": l2, "within": s, "between": s} for s, l2 in itertools.product((1.0, 0.6, 0.3), ridges)]
    return heads + [{"within": within, "between": between} for within, between in itertools.product((0.1, 0.3, 0.9), (0.03, 0.5))]


def traits(task: Task) -> np.ndarray:
    """[3, C] what the weights of a class depend on, standardised over classes: log of its examples, of the distance of its mean from the
    centre, and of that to the means nearest to it, both as the model of classes expects them to be."""
    model = task.model(GEOMETRY)
    means = posterior_means(model, class_means(*task.train, len(task.counts)), task.counts)
    square = (means**2).sum(1)
    apart = np.maximum(square[:, None] + square - 2 * means @ means.T, 0.0)
    np.fill_diagonal(apart, np.inf)
    near = np.sort(apart, axis=1)[:, : min(NEAREST, len(apart) - 1)].mean(1)
    values = np.log(np.stack([task.counts.astype(float), square + 1e-12, near + 1e-12]))
    values -= values.mean(1, keepdims=True)
    return values / np.maximum(values.std(1, keepdims=True), 1e-6)


def _centred(theta):
    return theta - theta.mean(0)


def _mixed(settings: Sequence[Setting], _, tasks: Sequence[Task], folds: Sequence[Fold], final: Task, budget: int) -> Tuned:
    """The mixture of the first `budget` members, its weights learned on what the folds hold out."""
    settings = settings[:budget]
    rows = [[_centred(fit(task, setting).arrays["theta"]) for setting in settings] for task in tasks]
    held = np.concatenate([fold.val.y for fold in folds])

    def logits(every):
        return [predict_logits(theta, fold.val.x) for theta, fold in zip(every, folds, strict=True)]

    each = [np.concatenate(logits(every)) for every in zip(*rows, strict=True)]
    trials = [Trial(setting, mean_class_accuracy(one, held)) for setting, one in zip(settings, each, strict=True)]
    cool = np.array([1 / best_temperature(one, held) for one in each])[:, None, None]  # so that all speak at one scale
    parts = [Part(np.stack(heads) * cool, traits(task), fold.val) for heads, task, fold in zip(rows, tasks, folds, strict=True)]
    mixture = fit_mixture(parts)
    fitted = [fit(final, setting) for setting in settings]
    whole = Part(np.stack([_centred(one.arrays["theta"]) for one in fitted]) * cool, traits(final), None)
    mixed = logits([mix(mixture, part.theta, part.traits) for part in parts])
    record = chosen_record({"members": len(settings)}, mixed, folds, trials)
    arrays = {"theta": mix(mixture, whole.theta, whole.traits), "weights": class_weights(mixture, whole.traits)}
    return Tuned(arrays, record | {"gradient_norm": max(one.gradient_norm for one in fitted)})


def method(settings: Sequence[Setting]) -> Method:
    """The mixture of these members, in the order of what a smaller budget should keep."""
    return Method("ours", (), fit, tune=partial(_mixed, settings))
