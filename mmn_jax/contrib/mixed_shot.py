"""Mixed-shot episodes: a regressor is trained on heads like the one that it will be used on.

In the paper's banks all classes of a head have the same k examples. In the long-tailed head they don't, and its rows show it.
Here S heads are fitted to long-tailed subsets: every class with 4 examples or more takes the count of a random class of
the training set, at most half of what it has,

    θ_s = fit_head(k_c examples of every c) − [0, log k_c],    θ* = fit_head(everything) − [0, log n_c],

and what a subset leaves unused judges the moved rows. An episode is one head and a fresh class-balanced draw of such
examples; held-out classes decide when training stops, as in `metamodelnet/training.py`, whose loop it shares.
"""

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmn_jax.data.longtail import class_pool, random_ranks
from mmn_jax.linear.class_model import class_means
from mmn_jax.linear.coordinates import coordinates
from mmn_jax.linear.rows import centred, subtract_log_prior
from mmn_jax.linear.weighting import Weighting
from mmn_jax.metamodelnet.regressor import Context, Regressor, RegressorSpec, Variables
from mmn_jax.metamodelnet.training import Hyper, LevelReport, Programs, Schedule, mean_task_loss, programs, relative_row_loss, train_level
from mmn_jax.metamodelnet.training_data import EVALUATED_EXAMPLES, EVALUATED_HEADS, row_unit
from mmn_jax.methods.subsampling import LEAST, draw_shots
from mmn_jax.methods.tasks import fit_weighted
from mmn_jax.rng import generator
from mmn_jax.types import Examples, MixedBank

SCHEDULE = Schedule(steps=400, every=20)  # of one level that learns all shot counts at once


class MixedPlan(NamedTuple):
    """What a mixed-shot bank is: S subsets, ridge ℓ for the mean loss, gradient norm, and whether rows are logit-adjusted or plain."""

    subsets: int
    l2: float
    tol: float
    adjusted: bool = True


def fit_mixed_bank(key: jax.Array, train: Examples, plan: MixedPlan, metric: np.ndarray | None = None) -> MixedBank:
    """The mixed-shot bank of a training set; subset s depends on the key and s alone.

    metric: of the features under the ridge (`tasks.Scaling`), [d] or [d, d]; ones by default.
    """
    counts = np.bincount(train.y)
    classes = np.flatnonzero(counts >= LEAST)
    pool = class_pool(train, classes)
    place = coordinates(np.ones(pool.x.shape[1], np.float32) if metric is None else metric)
    own = np.bincount(pool.y)
    no_offset = np.zeros(len(own), np.float32)

    def fit(used, theta):
        return fit_weighted(pool, Weighting(used.astype(np.float32), no_offset), plan.l2, theta, plan.tol, place)[0]

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
    """A MixedBank for training, rows divided by `unit`; classes that train come first, those held out last.

    shots: [S, H]. theta: [S, H, d+1]. means: [S, H, d]. target: [H, d+1]. x: [n, d], y: [n] the pool. chance: [S, n] cumulative
    chance with which an unused example of a class that trains is drawn. held: [heads, queries] unused examples of the held-out
    classes, which judge the first heads. seen: [H] whether a class trains.
    """

    unit: jax.Array
    shots: jax.Array
    theta: jax.Array
    means: jax.Array
    target: jax.Array
    x: jax.Array
    y: jax.Array
    chance: jax.Array
    held: jax.Array
    seen: jax.Array


def _balanced(weight, y, classes):
    """[n] weights under which every class that has any weighs the same, summing to 1."""
    total = np.bincount(y, weight, classes)
    share = weight / np.maximum(total, 1e-12)[y]
    return share / share.sum()


def make_episodes(key: jax.Array, bank: MixedBank, held: np.ndarray) -> Episodes:
    """A bank as Episodes; held: [C] mask of the classes held out of training (`lessons.held_out_classes`)."""
    out = held[bank.classes]
    y, classes = bank.pool.y, len(bank.classes)
    unit = row_unit([bank])
    free = ~bank.used
    chance = np.stack([np.cumsum(_balanced(one & ~out[y], y, classes)) for one in free])
    rng = generator(key)
    judged = np.stack([rng.choice(len(y), EVALUATED_EXAMPLES, p=_balanced(one & out[y], y, classes)) for one in free[:EVALUATED_HEADS]])
    theta, target = bank.theta / np.float32(unit), bank.target / np.float32(unit)
    shots, chance, judged = bank.shots.astype(np.int32), chance.astype(np.float32), judged.astype(np.int32)
    return Episodes(*map(jnp.asarray, (np.float32(unit), shots, theta, bank.means, target, bank.pool.x, y, chance, judged, ~out)))


def _moved(regressor, variables, context, data, s, train):
    """The rows of head s after the regressor, and its variables."""
    return regressor.apply(
        variables, data.theta[s], data.shots[s], context._replace(means=data.means[s], head=jnp.zeros_like(data.shots[s])), train
    )


def _among(theta, classes):
    """Rows whose logit is out of the softmax unless `classes` [H] says otherwise."""
    return theta.at[:, -1].add(jnp.where(classes, 0.0, -1e4).astype(theta.dtype))


def _objective(regressor, batch, params, state, hyper, key, context, data):
    """Row loss and task loss of the classes that train, in one head; held-out classes stay out of both."""
    subset, query = jax.random.split(key)
    s = jax.random.randint(subset, (), 0, len(data.theta))
    index = jnp.searchsorted(data.chance[s], jax.random.uniform(query, (batch,)))
    index = jnp.minimum(index, len(data.y) - 1)
    moved, variables = _moved(regressor, {**state, "params": params}, context, data, s, True)
    weight = data.seen[:, None].astype(moved.dtype)
    rows = relative_row_loss(moved * weight, data.target * weight)
    return rows + hyper.task_weight * mean_task_loss(data.unit * _among(moved, data.seen), data.x[index], data.y[index]), variables


def held_out_losses(regressor: Regressor, variables: Variables, context: Context, data: Episodes) -> jax.Array:
    """[2] mean row loss and task loss of held-out classes, all classes moved and in the softmax, as they are at transfer."""

    def one(s):
        moved, _ = _moved(regressor, variables, context, data, s, False)
        weight = 1.0 - data.seen[:, None].astype(moved.dtype)
        rows = relative_row_loss(moved * weight, data.target * weight)
        return jnp.stack([rows, mean_task_loss(data.unit * moved, data.x[data.held[s]], data.y[data.held[s]])])

    return jax.vmap(one)(jnp.arange(len(data.held))).mean(0)


def compile_programs(regressor: Regressor, batch: int) -> Programs:
    """Those of a regressor on mixed-shot episodes, for `stagewise.train_level`."""
    return programs(partial(_objective, regressor, batch), partial(held_out_losses, regressor), jax.device_put)


def fit_regressor(
    key: jax.Array,
    regressor: Regressor,
    context: Context,
    data: Episodes,
    candidates: Iterable[Hyper],
    *,
    schedule: Schedule = SCHEDULE,
) -> list[tuple[Variables, LevelReport]]:
    """The regressor trained on mixed-shot episodes under every candidate, from the same start and on the same draws, and how that went.

    steps, every, patience: of `stagewise.train_level`.
    """
    begin, draws = jax.random.split(key)
    compiled = compile_programs(regressor, schedule.batch)
    start = jax.jit(regressor.init, static_argnums=1)(begin, RegressorSpec(data.theta.shape[2], 0))
    trained = [train_level(compiled, start, hyper, draws, context, lambda _: data, schedule) for hyper in candidates]
    return [({**variables, "unit": np.asarray(data.unit)}, report) for variables, report in trained]
