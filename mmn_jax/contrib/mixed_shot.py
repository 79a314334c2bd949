"""Mixed-shot episodes: a regressor is trained on heads like the one that it will be applied to.

In the paper's banks all classes of a head have the same k examples. In the long-tailed head they don't, which affects its rows. Here S
heads are fitted to long-tailed subsets: every class with 4 examples or more gets the count of a random class of the training set, and at
most half of its own,

    θ_s = fit_head(k_c examples of every c) − [0, log k_c],    θ* = fit_head(everything) − [0, log n_c],

and the examples that a subset leaves out evaluate the moved rows. An episode is one head and a new class-balanced draw of such examples;
held-out classes decide when training stops, by the loop of `metamodelnet/level.py`.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from mmn_jax.data.longtail import class_pool, random_ranks
from mmn_jax.linear.class_model import class_means
from mmn_jax.linear.coordinates import eigen_coordinates
from mmn_jax.linear.rows import centred, subtract_log_prior
from mmn_jax.linear.weighting import Weighting
from mmn_jax.metamodelnet.level import Hyper, LevelReport, Programs, Schedule, programs, train_level
from mmn_jax.metamodelnet.losses import mean_task_loss, relative_row_loss
from mmn_jax.metamodelnet.regressor import Context, Regressor, RegressorSpec, Variables
from mmn_jax.metamodelnet.training_data import EVALUATED_EXAMPLES, EVALUATED_HEADS, row_unit
from mmn_jax.methods.subsampling import LEAST, draw_shots
from mmn_jax.methods.tasks import Metric, Start, fit_weighted
from mmn_jax.rng import generator
from mmn_jax.types import MixedBank, Normalised

SCHEDULE = Schedule(steps=400, every=20)  # of the one level, which is trained on all shot counts at once


class MixedPlan(NamedTuple):
    """The settings of a mixed-shot bank.

    subsets: S. l2: ridge ℓ, for the mean loss. tol: gradient norm of heads. adjusted: whether rows are logit-adjusted.
    """

    subsets: int
    l2: float
    tol: float
    adjusted: bool = True


def fit_mixed_bank(key: Key[Array, ""], train: Normalised, plan: MixedPlan, metric: Metric | None = None) -> MixedBank:
    """Fits the mixed-shot bank of a training set.

    Args:
      key: draws the subsets; subset s depends on the key and s alone.
      train: the training set.
      plan: the settings of the bank.
      metric: of the features under the ridge (`tasks.Scaling`), an invertible matrix or a vector; ones by default.

    Raises:
      BadInput: a head takes more memory than there is.
    """
    counts = np.bincount(train.y)
    classes = np.flatnonzero(counts >= LEAST)
    pool = class_pool(train, classes)
    place = eigen_coordinates(np.ones(pool.x.shape[1], np.float32) if metric is None else metric, pool.x)
    own = np.bincount(pool.y)
    no_offset = np.zeros(len(own), np.float32)

    def fit(used, theta):
        return fit_weighted(pool, Weighting(used.astype(np.float32), no_offset), plan.l2, Start(theta), plan.tol, place)[0]

    def rows(theta, shots):
        theta = subtract_log_prior(theta, float(plan.adjusted), shots)
        return centred(theta).astype(np.float32)

    whole = fit(np.ones(len(pool.y)), np.zeros((len(own), pool.x.shape[1] + 1), np.float32))
    shots, theta, means, masks = [], [], [], []
    for s in range(plan.subsets):
        draw, keep = jax.random.split(jax.random.fold_in(key, s))
        shots.append(draw_shots(generator(draw), counts, own))
        masks.append(random_ranks(keep, pool.y) < shots[-1][pool.y])
        theta.append(rows(fit(masks[-1], whole), shots[-1]))
        means.append(class_means(pool.x[masks[-1]], pool.y[masks[-1]], len(own)).astype(np.float32))
    return MixedBank(classes, np.stack(shots), np.stack(theta), np.stack(means), pool, np.stack(masks), rows(whole, own))


class Episodes(NamedTuple):
    """A MixedBank as arrays on the device, rows divided by `unit`.

    shots, theta, means, target: as in the bank. x, y: its pool. chance: cumulative probabilities by which, for each head, an example that
    it was not fitted to is drawn, of a training class. held: positions of such examples of the held-out classes, which evaluate the first
    heads. seen: whether a class is a training class.
    """

    unit: Float[Array, ""]
    shots: Int[Array, "S H"]
    theta: Float[Array, "S H p"]
    means: Float[Array, "S H d"]
    target: Float[Array, "H p"]
    x: Float[Array, "n d"]
    y: Int[Array, " n"]
    chance: Float[Array, "S n"]
    held: Int[Array, "heads m"]
    seen: Bool[Array, " H"]


def _balanced(weight: Bool[np.ndarray, " n"], y: Int[np.ndarray, " n"], classes: int) -> Float[np.ndarray, " n"]:
    """Returns weights of sum 1 under which every class with an example in the mask has the same total."""
    total = np.bincount(y, weight, classes)
    share = weight / np.maximum(total, 1e-12)[y]
    return share / share.sum()


def make_episodes(key: Key[Array, ""], bank: MixedBank, held: Bool[np.ndarray, " C"]) -> Episodes:
    """Makes Episodes of a bank.

    Args:
      key: draws the examples that evaluate held-out classes.
      bank: the bank.
      held: the classes held out of training (`training_data.held_out_classes`).
    """
    out = held[bank.classes]
    y, classes = bank.pool.y, len(bank.classes)
    unit = row_unit([bank])
    free = ~bank.used
    chance = np.stack([np.cumsum(_balanced(one & ~out[y], y, classes)) for one in free])
    rng = generator(key)
    evaluated = np.stack([rng.choice(len(y), EVALUATED_EXAMPLES, p=_balanced(one & out[y], y, classes)) for one in free[:EVALUATED_HEADS]])
    theta, target = bank.theta / np.float32(unit), bank.target / np.float32(unit)
    shots, chance, evaluated = bank.shots.astype(np.int32), chance.astype(np.float32), evaluated.astype(np.int32)
    return Episodes(*map(jnp.asarray, (np.float32(unit), shots, theta, bank.means, target, bank.pool.x, y, chance, evaluated, ~out)))


def _moved(
    regressor: Regressor, variables: Variables, context: Context, data: Episodes, s: Int[Array, ""], train: bool
) -> tuple[Float[Array, "H p"], Variables]:
    """Moves the rows of head s, and returns them and the regressor's variables."""
    return regressor.apply(
        variables, data.theta[s], data.shots[s], context._replace(means=data.means[s], head=jnp.zeros_like(data.shots[s])), train
    )


def _among(theta: Float[Array, "H p"], classes: Bool[Array, " H"]) -> Float[Array, "H p"]:
    """Returns rows with the logits of all other classes out of the softmax."""
    return theta.at[:, -1].add(jnp.where(classes, 0.0, -1e4).astype(theta.dtype))


def _objective(
    regressor: Regressor,
    batch: int,
    params: Any,
    state: Variables,
    hyper: Hyper,
    key: Key[Array, ""],
    context: Context,
    data: Episodes,
) -> tuple[Float[Array, ""], Variables]:
    """Computes the loss of the training classes in one head, without held-out ones, and the variables after it."""
    subset, query = jax.random.split(key)
    s = jax.random.randint(subset, (), 0, len(data.theta))
    index = jnp.searchsorted(data.chance[s], jax.random.uniform(query, (batch,)))
    index = jnp.minimum(index, len(data.y) - 1)
    moved, variables = _moved(regressor, {**state, "params": params}, context, data, s, True)
    weight = data.seen[:, None].astype(moved.dtype)
    rows = relative_row_loss(moved * weight, data.target * weight)
    return rows + hyper.task_weight * mean_task_loss(data.unit * _among(moved, data.seen), data.x[index], data.y[index]), variables


def held_out_losses(regressor: Regressor, variables: Variables, context: Context, data: Episodes) -> Float[Array, " 2"]:
    """Computes the mean row loss and task loss of held-out classes, with all classes moved and in the softmax, as at transfer."""

    def one(s):
        moved, _ = _moved(regressor, variables, context, data, s, False)
        weight = 1.0 - data.seen[:, None].astype(moved.dtype)
        rows = relative_row_loss(moved * weight, data.target * weight)
        return jnp.stack([rows, mean_task_loss(data.unit * moved, data.x[data.held[s]], data.y[data.held[s]])])

    return jax.vmap(one)(jnp.arange(len(data.held))).mean(0)


def compile_programs(regressor: Regressor, batch: int) -> Programs:
    """Compiles the training of a regressor on mixed-shot episodes, for `level.train_level`; batch: examples in the task loss."""
    return programs(partial(_objective, regressor, batch), partial(held_out_losses, regressor), jax.device_put)


def fit_regressor(
    key: Key[Array, ""],
    regressor: Regressor,
    context: Context,
    data: Episodes,
    candidates: Iterable[Hyper],
    *,
    schedule: Schedule = SCHEDULE,
) -> list[tuple[Variables, LevelReport]]:
    """Trains a regressor on mixed-shot episodes under every candidate, from the same variables and on the same draws.

    Args:
      key: draws the initial variables and the episodes.
      regressor: is trained as a single level.
      context: of the training set (`make_context`).
      data: the episodes.
      candidates: hyperparameters.
      schedule: how long it is trained.

    Returns:
      For each candidate the variables, for `transfer_rows`, and a report.
    """
    begin, draws = jax.random.split(key)
    compiled = compile_programs(regressor, schedule.batch)
    start = jax.jit(regressor.init, static_argnums=1)(begin, RegressorSpec(data.theta.shape[2], 0))
    trained = [train_level(compiled, start, hyper, draws, context, lambda _: data, schedule) for hyper in candidates]
    return [({**variables, "unit": np.asarray(data.unit)}, report) for variables, report in trained]
