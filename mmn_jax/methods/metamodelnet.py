"""`metamodelnet`, the paper's method: the plain head's rows moved by a regressor that is trained on banks of k-shot heads.

    banks (`fit_bank`) → regressor for every (λ, learning rate, weight decay) (`fit_metamodelnet`) → moved rows → the best on the folds

A share of the movement (the strength) is applied, and classes frequent enough for the last level may keep their rows; validation examples
choose among all combinations. Where too few classes have enough examples to learn from, the method is the tuned plain head.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from mmn_jax import defaults
from mmn_jax.errors import BadInput
from mmn_jax.linear import weighting
from mmn_jax.metamodelnet.chain import residual_chain
from mmn_jax.metamodelnet.kshot_bank import enough_classes, fit_bank, shot_classes, shot_ladder, subsets_at
from mmn_jax.metamodelnet.level import Hyper, Schedule
from mmn_jax.metamodelnet.regressor import Context, Regressor, Variables, rows_alone, rows_and_model
from mmn_jax.metamodelnet.training import fit_metamodelnet
from mmn_jax.metamodelnet.transfer import transfer_rows
from mmn_jax.methods import baselines
from mmn_jax.methods.choosing import by_grid, tune
from mmn_jax.methods.contract import Fitted, Method, Tuned, linear
from mmn_jax.methods.folds import Fold, Tasks
from mmn_jax.methods.progress import Tell
from mmn_jax.methods.tasks import Task, unscaled
from mmn_jax.methods.tuning import Axis, Setting
from mmn_jax.types import Bank, Normalised


@functools.cache  # one regressor for all folds and seeds, so that programs compiled for it are shared
def _made(make: Callable[[tuple[int, ...]], Regressor], ladder: tuple[int, ...]) -> Regressor:
    return make(ladder)


class BankOptions(NamedTuple):
    """The settings of banks.

    top: the largest N. min_classes: number of classes that a level needs (`enough_classes`). fixed_shots: k of the only bank, for the
    paper's ablation with a fixed split; None for a bank of each k. subsets: S at k = 1, 2, 4, .. (`subsets_at`). l2: ridge for the mean
    loss of the whole training set. tol, target_tol: gradient norms of k-shot heads and of θ*. memory: as for `fit_bank`.
    """

    top: int = defaults.TOP
    min_classes: int = defaults.MIN_CLASSES
    fixed_shots: int | None = None
    subsets: tuple[int, ...] = defaults.SUBSETS
    l2: float = defaults.BANK_L2
    tol: float = defaults.BANK_TOL
    target_tol: float = defaults.TOL
    memory: int | None = None


class RegressorOptions(NamedTuple):
    """The settings of regressors, and candidates for the hyperparameters that validation examples choose.

    make: returns a Regressor for a ladder; None for the paper's chain, with hidden layers of `width` and products in `dtype`.
    task_weights, rates, decays: candidates for λ, learning rate and weight decay. strengths: candidates for the share of the movement
    that is applied. schedule, held_out, memory: as for `fit_metamodelnet`.
    """

    make: Callable[[tuple[int, ...]], Regressor] | None = None
    width: int = defaults.WIDTH
    dtype: str = "float32"
    task_weights: tuple[float, ...] = defaults.TASK_WEIGHTS
    rates: tuple[float, ...] = defaults.RATES
    decays: tuple[float, ...] = defaults.DECAYS
    strengths: tuple[float, ...] = defaults.STRENGTHS
    schedule: Schedule = Schedule()
    held_out: float = defaults.HELD_OUT
    memory: int | None = None

    @property
    def hypers(self) -> list[Hyper]:
        """All combinations of task weight, rate and decay."""
        return [Hyper(*map(float, point)) for point in itertools.product(self.task_weights, self.rates, self.decays)]

    @property
    def moves(self) -> list["Move"]:
        """All combinations that validation examples choose among."""
        return [Move(*point) for point in itertools.product(self.hypers, (True, False), map(float, self.strengths))]

    def regressor(self, ladder: tuple[int, ...]) -> tuple[Regressor, Callable[[Normalised], Context]]:
        """Returns the regressor of a ladder, and a function that makes its Context from a training set."""
        if self.make is None:
            return residual_chain(ladder, self.width, jnp.dtype(self.dtype)), rows_alone
        return _made(self.make, ladder), rows_and_model


class Move(NamedTuple):
    """One setting.

    hyper: of the regressor. frequent_keep: whether classes frequent enough for the last level keep their rows. strength: the share of the
    movement that is applied.
    """

    hyper: Hyper
    frequent_keep: bool
    strength: float

    @property
    def setting(self) -> Setting:
        """The setting by the names of its hyperparameters, as it is recorded."""
        return {**self.hyper._asdict(), "frequent_keep": self.frequent_keep, "strength": self.strength}


def ladder_of(counts: Int[np.ndarray, " C"], options: BankOptions) -> tuple[int, ...]:
    """Returns the shot counts k of the banks; none where too few classes have enough examples."""
    enough = enough_classes(len(counts), options.min_classes)
    if options.fixed_shots is None:
        return shot_ladder(counts, enough, options.top)
    return (options.fixed_shots,) if len(shot_classes(counts, options.fixed_shots)) >= enough else ()


def move_rows(
    moves: Sequence[Move],
    regressor: Regressor,
    trained: Mapping[Hyper, Variables],
    theta: Float[np.ndarray, "C p"],
    counts: Int[np.ndarray, " C"],
    context: Context,
    keep_from: int,
) -> Float[np.ndarray, "moves C p"]:
    """Moves the rows of a head under every Move.

    Args:
      moves: the settings.
      regressor: what the variables belong to.
      trained: the variables by the hyperparameters that they were trained under.
      theta: the rows.
      counts: training examples of each class.
      context: what the regressor may use beside the rows.
      keep_from: number of examples from which a class keeps its row under a Move with `frequent_keep`.
    """
    moved = {
        (hyper, keep): transfer_rows(regressor, trained[hyper], theta, counts, context, keep_from if keep else None)
        for hyper, keep in {(one.hyper, one.frequent_keep) for one in moves}
    }
    return np.stack([theta + one.strength * (moved[one.hyper, one.frequent_keep] - theta) for one in moves]).astype(np.float32)


def fit_banks(key: Key[Array, ""], train: Normalised, options: BankOptions, plain: Float[np.ndarray, "C p"] | None = None) -> list[Bank]:
    """Fits the bank of every k of the ladder, all in memory; plain: rows of the plain head under the banks' ridge, as for `fit_bank`."""
    banks: list[Bank] = []
    for shots in ladder_of(np.bincount(train.y), options):
        start = partial(fit_bank, before=banks[-1] if banks else None, plain=plain)
        fit = partial(start, l2=options.l2, tol=options.tol, target_tol=options.target_tol, memory=options.memory)
        banks.append(fit(key, *train, shots, subsets=subsets_at(shots, options.subsets)))
    return banks


def _fit(banks_by: BankOptions, regressor_by: RegressorOptions, task: Task, setting: Setting) -> Fitted:
    """Fits a plain head and moves its rows by a setting; they stay where there is nothing to learn from; `Method.fit`."""
    train, move = task.train, Move(Hyper(*(setting[name] for name in Hyper._fields)), setting["frequent_keep"], setting["strength"])
    head = task.head(weighting.plain, banks_by.l2, unscaled)
    banks = task.once(("banks", banks_by), lambda: fit_banks(task.root, train, banks_by, head.theta))
    if not banks:
        return linear(head.theta, head)
    regressor, context = regressor_by.regressor(tuple(bank.shots for bank in banks))
    known = task.once(("context", context), lambda: context(train))
    fit = partial(fit_metamodelnet, task.root, banks, *train, regressor, move.hyper, context=lambda _: known, memory=regressor_by.memory)
    name = ("regressor", banks_by, regressor_by, move.hyper)
    variables, _ = task.once(name, lambda: fit(schedule=regressor_by.schedule, held_out=regressor_by.held_out))
    rows = move_rows([move], regressor, {move.hyper: variables}, head.theta, task.counts, known, 2 * banks[-1].shots)
    return linear(rows[0], head)


def _choose(
    banks_by: BankOptions, plain: Method, method: Method, tasks: Tasks, folds: Sequence[Fold], whole: Fold, budget: int, tell: Tell
) -> Tuned:
    """Tries every setting, whatever the budget, or tunes `plain` where one of the training sets has no bank; `Method.choose`."""
    can_learn = all(ladder_of(np.bincount(part.train.y), banks_by) for part in (*folds, whole))
    return by_grid(method, tasks, folds, whole, budget, tell) if folds and can_learn else tune(plain, tasks, folds, whole, budget, tell)


def method(
    grid: tuple[float, ...] = defaults.RIDGES,
    banks: BankOptions = BankOptions(),  # noqa: B008 - a NamedTuple cannot change
    regressor: RegressorOptions = RegressorOptions(),  # noqa: B008 - likewise
) -> Method:
    """Makes the paper's method, for `tune` and `TailClassifier`.

    Args:
      grid: ridges of the plain head that takes its place where there is nothing to learn from.
      banks: the settings of banks.
      regressor: the settings of regressors; for one of your own, `RegressorOptions(make=..)`. It gets the candidates for task weight,
        rate and decay that the chain gets, unless they are given, too.

    Raises:
      BadInput: `make` is no function of the ladder.
    """
    if isinstance(regressor.make, Regressor) or not (regressor.make is None or callable(regressor.make)):
        kind = type(regressor.make).__name__
        raise BadInput(
            f"make: must be a function, ladder of shot counts → Regressor, it is of type {kind}; give the function that makes it"
        )
    candidates = zip(Hyper._fields, (regressor.task_weights, regressor.rates, regressor.decays), strict=True)
    axes = [Axis(name, tuple(map(float, values)), float(values[0])) for name, values in candidates]
    strength = Axis("strength", tuple(map(float, regressor.strengths)), float(regressor.strengths[0]))
    plain = baselines.methods(grid)["plain"]
    fit = partial(_fit, banks, regressor)
    return Method("paper", (*axes, Axis("frequent_keep", (True, False), True), strength), fit, choose=partial(_choose, banks, plain))


def methods(grid: tuple[float, ...]) -> dict[str, Method]:
    """Returns `metamodelnet` by its name."""
    return {"metamodelnet": method(grid)}
