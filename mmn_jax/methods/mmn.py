"""`mmn`, the default method: every row is mixed from heads under priors of several strengths, by weights that depend on its class's count.

    θ̂_c = Σ_h a_h(log n_c) θ_c^h

The members θ^h are logit-adjusted heads under the row prior N(0, A⁻¹BA⁻¹), at several ridges, and Bayesian rows, at several shrinkages, of
a model of classes (`linear/class_model.py`), which is learned from how the classes with many examples scatter: some rely on a class's own
examples, others on the other classes. The weights a_h are learned on subsamples of the training set in which classes have fewer examples
(`methods/subsampling.py`): they are fitted so that the mixed heads of the subsamples classify the held-out examples
(`methods/stacking.py`).

Methods that know more of the classes (`INFORMED`) have more Bayesian rows. One that gets examples without labels may, if validation says
so, label those that its mixture is sure of, and fit a mixture to all (`methods/pseudo_labelling.py`).
"""

import itertools
import math
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mmn_jax import defaults
from mmn_jax.data.normalisation import warn_unless_normalised
from mmn_jax.evaluation.calibration import best_temperature
from mmn_jax.linear import weighting
from mmn_jax.linear.class_model import Shrinkage, bayesian_rows
from mmn_jax.linear.mean_prior import informed_rows, typical_decompositions
from mmn_jax.linear.relations import relations
from mmn_jax.linear.rows import centred, predict_logits, subtract_log_prior
from mmn_jax.methods.choosing import fit_method
from mmn_jax.methods.contract import Fitted, Method, Tuned, linear
from mmn_jax.methods.head_methods import by_factor
from mmn_jax.methods.progress import Piece
from mmn_jax.methods.pseudo_labelling import label, level_within, pool_of, up_to, with_labelled
from mmn_jax.methods.stacking import HeldOut, Mixture, class_weights, fit_mixture, mix
from mmn_jax.methods.subsampling import make_subsample
from mmn_jax.methods.tasks import RowPrior, Scaling, Task, make_task, unscaled
from mmn_jax.methods.tuning import Axis, Setting
from mmn_jax.types import Knowledge, Normalised

SUBSAMPLES = 3  # of up to ENOUGH classes; proportionally fewer of more
SUBSAMPLE_TOL = 1e-4  # gradient norm of the heads of a subsample
LEAST_SPREAD = 0.5  # of log counts
ENOUGH = 250  # classes; of fewer, the penalty towards equal weights is scaled up in proportion, as they determine the weights less well


class Member(NamedTuple):
    """A head under the row prior of a shrinkage and a ridge ℓ, or, where that is None, the Bayesian rows of the shrinkage."""

    shrinkage: Shrinkage
    l2: float | None = None

    @property
    def needs(self) -> frozenset[str]:
        """The fields of `Knowledge` that are used: none."""
        return frozenset()


INFORMED = {  # methods by what they know of the classes beside labelled examples
    "mmn_names": frozenset({"descriptions"}),
    "mmn_unlabelled": frozenset({"unlabelled"}),
    "mmn_all": frozenset({"descriptions", "unlabelled"}),
}
HEAD_SHRINKAGE = Shrinkage(0.6, 0.6)
INFORMED_SHRINKAGES = (Shrinkage(0.1, 0.5), Shrinkage(0.6, 0.5), Shrinkage(0.9, 0.5), Shrinkage(0.3, 0.03))
KAPPA = 1.0  # κ that the search starts from
SURE = 0.5  # probability from which an example without a label gets one
FILLED, LABELLED = 100, 50_000  # classes are filled up to the largest count, or to FILLED, by at most so many examples that get labels
NO_PRIOR = Shrinkage(1.0, 1.0)  # with which the row prior is the plain ridge


class InformedMember(NamedTuple):
    """The Bayesian rows of a shrinkage, where the class means follow what descriptions and unlabelled examples say (`mean_prior.py`).

    needs: the fields of `Knowledge` that are used.
    """

    shrinkage: Shrinkage
    needs: frozenset[str]


AnyMember = Member | InformedMember


def _informed_rows(task: Task, member: InformedMember) -> Float[np.ndarray, "C p"]:
    known = {name: getattr(task.knowledge, name) for name in member.needs}
    descriptions = known.pop("descriptions", None)
    related = None if descriptions is None else task.once("relations", lambda: relations(descriptions))
    counts = task.counts.astype(float)
    decomposed = task.once(("decompositions", related is None), lambda: typical_decompositions(related, counts))
    return informed_rows(task.model(member.shrinkage), task.statistics(), related, decomposed=decomposed, **known)


def fit_member(task: Task, member: AnyMember) -> Fitted:
    """Fits a member; heads are logit-adjusted afterwards, by subtracting log π from their biases."""
    if isinstance(member, InformedMember):
        return linear(task.once(member, lambda: _informed_rows(task, member)))
    shrinkage = member.shrinkage
    if member.l2 is None:
        return linear(task.once(("rows", shrinkage), lambda: bayesian_rows(task.model(shrinkage), task.statistics().means, task.counts)))
    scaling: Scaling = unscaled if shrinkage == NO_PRIOR else RowPrior(shrinkage)  # type: ignore[assignment]  # a callable tuple
    head = task.head(weighting.plain, member.l2, scaling)
    return linear(subtract_log_prior(head.theta, 1.0, task.counts), head)


def default_members(grid: tuple[float, ...]) -> tuple[Member, ...]:
    """Returns heads under a row prior and every other ridge of `grid`, and Bayesian rows at four shrinkages."""
    heads = [Member(HEAD_SHRINKAGE, l2) for l2 in _ridges(grid)]
    rows = [Member(Shrinkage(within, between)) for within, between in itertools.product((0.1, 0.9), (0.03, 0.5))]
    return (*heads, *rows)


def row_members() -> tuple[Member, ...]:
    """Returns Bayesian rows at six shrinkages."""
    return tuple(Member(Shrinkage(within, between)) for within, between in itertools.product((0.1, 0.3, 0.9), (0.03, 0.5)))


def informed_members(grid: tuple[float, ...], needs: frozenset[str]) -> tuple[AnyMember, ...]:
    """Returns the default members, and Bayesian rows at four shrinkages that use these fields of `Knowledge`."""
    return (*default_members(grid), *(InformedMember(shrinkage, needs) for shrinkage in INFORMED_SHRINKAGES))


def _ridges(grid: tuple[float, ...]) -> list[float]:
    return sorted(grid, reverse=True)[::2]


def _rows(task: Task, members: tuple[AnyMember, ...]) -> Fitted:
    """Fits the members: "theta" [H, C, p] are their rows, centred over classes.

    Heads are rough ones where the task has these: the weights of members are learned from subsamples' heads, which are as rough.
    """
    fitted = []
    for number, member in enumerate(members, 1):
        task.tell(Piece("member", number, len(members)))
        fitted.append(fit_member(task.rough or task, member))
    rows = centred(np.stack([one.arrays["theta"] for one in fitted]))
    return Fitted({"theta": rows}, max(one.gradient_norm for one in fitted), all(one.converged for one in fitted))


def _traits(counts: Int[np.ndarray, " C"], reference: Int[np.ndarray, " C"]) -> Float[np.ndarray, "1 C"]:
    """Returns log counts, standardised by the mean and standard deviation of the logarithms of `reference`.

    The standard deviation is taken to be at least LEAST_SPREAD: a subsample of a balanced set is far from balanced.
    """
    known = np.log(reference)
    return ((np.log(counts) - known.mean()) / max(known.std(), LEAST_SPREAD))[None]


class Calibrated(NamedTuple):
    """The members' logits for the held-out examples of every subsample, calibrated.

    held: with logits multiplied by `scale`. scale: the factor of each member's rows that calibrates it, so that all have one scale.
    """

    held: list[HeldOut]
    scale: Float[np.ndarray, "H 1 1"]


def _subsample(task: Task, i: int) -> tuple[Task, Normalised]:
    """Returns the task of subsample i, which methods with the same members share, and its held-out examples."""
    train, held = make_subsample(jax.random.fold_in(task.key, i), task.train)
    return make_task(train, task.root, SUBSAMPLE_TOL, knowledge=task.knowledge), held


def _held_out(task: Task, members: tuple[AnyMember, ...], i: int, number: int) -> HeldOut:
    """Fits the members to subsample i of a number, and returns their logits for its held-out examples."""
    piece = Piece("subsample", i + 1, number)
    task.tell(piece)
    subsample, held = task.once(("subsample", i), lambda: _subsample(task, i))
    subsample = subsample._replace(tell=partial(task.tell, piece))
    logits = np.stack([predict_logits(rows, held.x) for rows in _rows(subsample, members).arrays["theta"]])
    return HeldOut(logits, _traits(subsample.counts, task.counts), held.y)


def _calibrated(task: Task, members: tuple[AnyMember, ...]) -> Calibrated:
    """Fits the members to every subsample of a task, and calibrates each on all held-out examples."""
    number = math.ceil(SUBSAMPLES * min(1.0, ENOUGH / len(task.counts)))
    held = [_held_out(task, members, i, number) for i in range(number)]
    y = np.concatenate([each.y for each in held])
    if len(y) == 0:  # every class has a single example: nothing can be held out
        return Calibrated(held, np.ones((len(members), 1, 1)))
    by_member = [np.concatenate([each.logits[h] for each in held]) for h in range(len(members))]
    scale = np.array([1 / best_temperature(logits, y) for logits in by_member], np.float32)[:, None, None]
    return Calibrated([each._replace(logits=each.logits * scale) for each in held], scale)


def _learn(members: tuple[AnyMember, ...], task: Task, kappa: float) -> tuple[Mixture, Float[np.ndarray, "H 1 1"]]:
    """Fits the mixture to the subsamples of a task, and returns it with the scale of its members' rows."""
    held, scale = task.once(("subsamples", members), lambda: _calibrated(task, members))
    kappa *= max(1.0, ENOUGH / len(task.counts))
    mixture = task.once(("mixture", members, kappa), lambda: fit_mixture(held, kappa))
    return mixture, scale


def fit(members: tuple[AnyMember, ...], labelled: tuple[AnyMember, ...], task: Task, setting: Setting) -> Fitted:
    """Fits the mixture of members, or a single logit-adjusted head.

    For a task with folds, the rows and weights are means over the folds' mixtures, each applied to the heads of the task (bagging, Breiman
    1996): weights are noisy where classes are few, and these mixtures are the ones that κ was chosen for.

    Args:
      members: of the mixture.
      labelled: of the mixture that is fitted to examples that the first one labelled, too; none where there is no such step.
      task: the training set.
      setting: `kappa` is κ, the strength of the penalty towards equal weights (`stacking.py`), in units of 250 / C below 250 classes;
        `alone` is the ridge of the single head, None for the mixture; `labels` says whether examples without labels get some.

    Returns:
      The arrays, "theta" [C, p] and, for a mixture, "weights" [H, C].
    """
    if setting["alone"] is not None:
        return fit_member(task, Member(NO_PRIOR, setting["alone"]))
    if setting.get("labels"):
        return fit(labelled, (), task.once(("labelled", members), lambda: _labelled_task(members, task)), {**setting, "labels": None})
    learned = [_learn(members, part, setting["kappa"]) for part in task.folds or (task,)]
    fitted = _rows(task, members)
    traits = _traits(task.counts, task.counts)
    rows = np.mean([mix(mixture, fitted.arrays["theta"] * scale, traits) for mixture, scale in learned], axis=0)
    weights = np.mean([class_weights(mixture, traits) for mixture, _ in learned], axis=0)
    return fitted._replace(arrays={"theta": rows, "weights": weights})


def _labelled_task(members: tuple[AnyMember, ...], task: Task) -> Task:
    """Returns the task of the training set and the examples that the mixture at κ = 1, whose logits are calibrated, is sure of."""
    pool = pool_of(task.knowledge)
    rows = fit(members, (), task, {"kappa": KAPPA, "alone": None}).arrays["theta"]
    new = label(rows, pool, SURE)
    most = level_within(new, task.counts, max(FILLED, task.counts.max()), LABELLED)
    more = with_labelled(task.train, pool, up_to(new, task.counts, most, jax.random.fold_in(task.key, len(pool))))
    return make_task(more, task.root, defaults.TOL, knowledge=task.knowledge._replace(unlabelled=None))._replace(tell=task.tell)


def method(members: tuple[AnyMember, ...], grid: tuple[float, ...], labelled: tuple[AnyMember, ...] = ()) -> Method:
    """Makes the method that mixes these members; a single head under every other ridge of `grid` is among its candidates.

    Args:
      members: of the mixture.
      grid: ridges.
      labelled: as for `fit`.
    """
    kappa = Axis("kappa", (10.0, 1.0, 0.1, 0.01), KAPPA, by_factor, _mixes)
    labels = (Axis("labels", (False, True), False, matters=_mixes),) if labelled else ()
    needs = frozenset().union(*(member.needs for member in members))
    return Method("ours", (kappa, Axis("alone", (None, *_ridges(grid)), None), *labels), partial(fit, members, labelled), needs=needs)


def _mixes(setting: Setting) -> bool:
    """Returns whether a setting is that of a mixture."""
    return setting["alone"] is None


def rows_method() -> Method:
    """Makes `mmn_rows`, which mixes Bayesian rows alone and so solves no head: for thousands of classes and hundreds of thousands of
    examples, where a head takes hours."""
    return method(row_members(), ())


def informed_method(needs: frozenset[str], grid: tuple[float, ...]) -> Method:
    """Makes the method of the mmn family that uses these fields of `Knowledge`."""
    others = needs - {"unlabelled"}
    labelled = (informed_members(grid, others) if others else default_members(grid)) if "unlabelled" in needs else ()
    return method(informed_members(grid, needs), grid, labelled)


def methods(grid: tuple[float, ...]) -> dict[str, Method]:
    """Returns `mmn` by its name, the methods that know more of the classes, with members and candidates under the ridges of `grid`, and
    `mmn_rows`, whose members are in closed form."""
    informed = {name: informed_method(needs, grid) for name, needs in INFORMED.items()}
    return {"mmn": method(default_members(grid), grid), **informed, "mmn_rows": rows_method()}


def informed_name(knowledge: Knowledge) -> str:
    """Returns the method of the mmn family that uses everything that is known."""
    there = {name for name, value in knowledge._asdict().items() if value is not None}
    return next((name for name, needs in INFORMED.items() if needs == there), "mmn")


def fit_mmn(
    key: Key[Array, ""],
    x: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    val: Normalised | None = None,
    *,
    l2: tuple[float, ...] = defaults.RIDGES,
    folds: int = defaults.FOLDS,
    budget: int = defaults.BUDGET,
    knowledge: Knowledge = Knowledge(),  # noqa: B008 - a NamedTuple cannot change
) -> Tuned:
    """Fits `mmn`, its hyperparameters chosen on a validation set or on folds of the training set.

    Args:
      key: the root of the streams that are drawn from.
      x: normalised features of the training set (`normalisation`).
      y: its labels, from 0 to C − 1; each class has an example.
      val: validation examples; None where folds of the training set choose.
      l2: ridges ℓ of the members.
      folds: the number of folds.
      budget: the largest number of settings that are tried.
      knowledge: descriptions of the classes and examples without labels, with normalised features; whatever is there is used.

    Returns:
      The arrays, where "theta" [C, p] are the rows and "weights" [H, C] the weights of each member for each class (no "weights" where a
      single head was chosen), and the record of the choice.

    Raises:
      BadInput: a head takes more memory than there is.
    """
    warn_unless_normalised(x)
    name = informed_name(knowledge)
    return fit_method(methods(l2)[name], key, Normalised(x, y), val, folds=folds, budget=budget, knowledge=knowledge)
