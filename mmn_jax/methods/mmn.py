"""`mmn`, what a user gets: every row mixed from heads under priors of several strengths, by weights that move with its examples.

    θ̂_c = Σ_h a_h(log n_c) θ_c^h

θ^h are logit-adjusted heads under the row prior N(0, A⁻¹BA⁻¹) and Bayesian rows of a model of classes (`linear/class_model.py`) that is
learned from how classes with many examples scatter, each at several shrinkages and ridges: one trusts a class's own examples,
another what the other classes teach. How much each counts at n_c examples is learned by cutting classes of the training set to
fewer examples (`methods/subsampling.py`): the weights a_h make the heads of the cuts right about what was left out (`methods/stacking.py`).
"""

import itertools
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from mmn_jax import defaults
from mmn_jax.evaluation.calibration import best_temperature
from mmn_jax.linear import weighting
from mmn_jax.linear.class_model import Shrinkage, bayesian_rows
from mmn_jax.linear.rows import centred, predict_logits, subtract_log_prior
from mmn_jax.methods.contract import Fitted, Method, Tuned, by_factor, fit_method, linear
from mmn_jax.methods.stacking import HeldOut, class_weights, fit_mixture, mix
from mmn_jax.methods.subsampling import make_cut
from mmn_jax.methods.tasks import RowPrior, Scaling, Task, make_task, unscaled
from mmn_jax.methods.tuning import Axis, Setting
from mmn_jax.types import Examples

CUTS = 3
CUT_TOL = 1e-4  # gradient norm of the heads of a cut
LEAST_SPREAD = 0.5  # of log counts
ENOUGH = 250  # classes; fewer tell the weights less, so that these are held to equal ones in proportion


class Member(NamedTuple):
    """A head under the row prior of a shrinkage and a ridge ℓ, or, where that is None, the Bayesian rows of the shrinkage."""

    shrinkage: Shrinkage
    l2: float | None = None


NO_PRIOR = Shrinkage(1.0, 1.0)  # with which the row prior is the plain ridge


def fit_member(task: Task, member: Member) -> Fitted:
    """Fits a member; log π is subtracted from the biases of heads afterwards."""
    shrinkage = member.shrinkage
    if member.l2 is None:
        return linear(task.once(("rows", shrinkage), lambda: bayesian_rows(task.model(shrinkage), task.statistics().means, task.counts)))
    scaling: Scaling = unscaled if shrinkage == NO_PRIOR else RowPrior(shrinkage)  # type: ignore[assignment]  # a callable tuple
    head = task.head(weighting.plain, member.l2, scaling)
    return linear(subtract_log_prior(head.theta, 1.0, task.counts), head)


def default_members(grid: tuple[float, ...]) -> tuple[Member, ...]:
    """Returns heads at three shrinkages under every other ridge of `grid`, and Bayesian rows at six."""
    heads = [Member(Shrinkage(s, s), l2) for s, l2 in itertools.product((1.0, 0.6, 0.3), _ridges(grid))]
    rows = [Member(Shrinkage(within, between)) for within, between in itertools.product((0.1, 0.3, 0.9), (0.03, 0.5))]
    return (*heads, *rows)


def _ridges(grid):
    return sorted(grid, reverse=True)[::2]


def _rows(task, members):
    """[H, C, d+1] the members' rows, centred over classes, and the largest gradient norm."""
    fitted = [fit_member(task, member) for member in members]
    return centred(np.stack([one.arrays["theta"] for one in fitted])), max(one.gradient_norm for one in fitted)


def _traits(counts, reference):
    """[1, C] log counts, in standard deviations of the logarithms of `reference` from their mean, or in LEAST_SPREAD where these are
    nearly the same: a cut of a balanced set is far from balanced."""
    known = np.log(reference)
    return ((np.log(counts) - known.mean()) / max(known.std(), LEAST_SPREAD))[None]


class Cooled(NamedTuple):
    """What the members of every cut say of the examples that it left out, and what each member's rows are multiplied by [H, 1, 1] so
    that all speak at one scale."""

    held: list[HeldOut]
    scale: np.ndarray


def _held_out(task, members, i):
    train, held = make_cut(jax.random.fold_in(task.key, i), task.train)
    cut = make_task(train, task.root, CUT_TOL)
    logits = np.stack([predict_logits(rows, held.x) for rows in _rows(cut, members)[0]])
    return HeldOut(logits, _traits(cut.counts, task.counts), held.y)


def _cooled(task, members):
    held = [_held_out(task, members, i) for i in range(CUTS)]
    y = np.concatenate([each.y for each in held])
    if len(y) == 0:  # every class has a single example: nothing can be left out
        return Cooled(held, np.ones((len(members), 1, 1)))
    said = [np.concatenate([each.logits[h] for each in held]) for h in range(len(members))]
    scale = np.array([1 / best_temperature(logits, y) for logits in said], np.float32)[:, None, None]
    return Cooled([each._replace(logits=each.logits * scale) for each in held], scale)


def _learn(members, task, kappa):
    """The mixture that the cuts of a task teach, and the scale of its members' rows."""
    held, scale = task.once(("subsamples", members), lambda: _cooled(task, members))
    kappa *= max(1.0, ENOUGH / len(task.counts))
    mixture = task.once(("mixture", members, kappa), lambda: fit_mixture(held, kappa))
    return mixture, scale


def fit(members: tuple[Member, ...], task: Task, setting: Setting) -> Fitted:
    """The mixture of the `members` at a setting of `kappa` (κ, how strongly its weights are held to equal ones, in units of 250 / C where
    there are fewer classes than 250); or, where the setting has a ridge `alone`, the logit-adjusted head under that ridge, without mixing.

    A task with folds takes the mean of what their mixtures make of its heads (bagging, Breiman 1996): weights are noisy where classes
    are few, and these are the ones that κ was chosen for.
    """
    if setting["alone"] is not None:
        return fit_member(task, Member(NO_PRIOR, setting["alone"]))
    learned = [_learn(members, part, setting["kappa"]) for part in task.folds or (task,)]
    theta, norm = _rows(task, members)
    traits = _traits(task.counts, task.counts)
    rows = np.mean([mix(mixture, theta * scale, traits) for mixture, scale in learned], axis=0)
    weights = np.mean([class_weights(mixture, traits) for mixture, _ in learned], axis=0)
    return Fitted({"theta": rows, "weights": weights}, norm)


def method(members: tuple[Member, ...], grid: tuple[float, ...]) -> Method:
    """The mixture of these members; a single head under every other ridge of `grid` is among the candidates."""
    kappa = Axis("kappa", (10.0, 1.0, 0.1, 0.01), 1.0, by_factor, lambda setting: setting["alone"] is None)
    return Method("ours", (kappa, Axis("alone", (None, *_ridges(grid)), None)), partial(fit, members))


def methods(grid: tuple[float, ...]) -> dict[str, Method]:
    """`mmn`, its members and candidates under the ridges of `grid`."""
    return {"mmn": method(default_members(grid), grid)}


def fit_mmn(
    key: PRNGKeyArray,
    x: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    val: Examples | None = None,
    *,
    l2: tuple[float, ...] = defaults.RIDGES,
    folds: int = defaults.FOLDS,
    budget: int = defaults.BUDGET,
) -> Tuned:
    """Fits `mmn`, its hyperparameters chosen on a validation set or on folds of the training set.

    Args:
      key: the root of the streams that are drawn from.
      x: normalised features of the training set (`normalisation`).
      y: its labels, 0 to C − 1, each of which has an example.
      val: normalised validation examples; None: folds choose.
      l2: ridges ℓ of the members.
      folds: how many there are.
      budget: settings that are tried at most.

    Returns:
      The arrays, "theta" [C, p] being the rows and "weights" [H, C] what each member counts for each class, and the record of the choice.
    """
    return fit_method(methods(l2)["mmn"], key, Examples(x, y), val, folds=folds, budget=budget)
