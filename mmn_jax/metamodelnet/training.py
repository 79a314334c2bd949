"""Back-to-front training of a regressor on banks of k-shot heads (Wang et al. 2017, equations 2 and 4).

Level i, from N down to 0, trains what is new at level i and fine-tunes what later levels trained, on

    L(w) = mean_{k ∈ 2^i..2^N} [ E ‖F(θ_k; w) − θ*‖² / E ‖θ*‖²  +  λ · E CE(F(θ_k; w) x, y) ]

with one random subset of every k and a fresh minibatch of examples in each step (`training_data.py`). Some classes are held out of
training: the losses of their rows decide when the training of a level stops.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float, Int, Key

from mmn_jax import defaults
from mmn_jax.devices import EACH, all_devices, replicated
from mmn_jax.metamodelnet.level import Hyper, LevelReport, Programs, Schedule, begin_level, end_level, programs, train_level
from mmn_jax.metamodelnet.losses import mean_task_loss, relative_row_loss
from mmn_jax.metamodelnet.regressor import Context, Regressor, RegressorSpec, Variables, check, rows_and_model
from mmn_jax.metamodelnet.training_data import BankData, TrainingData, draw_episode, held_out_classes, row_unit, training_data, window_size
from mmn_jax.rng import fold
from mmn_jax.types import Bank, Normalised


def _pack(
    regressor: Regressor,
    variables: Variables,
    thetas: Sequence[Float[Array, "_ p"]],
    shots: Sequence[Int[Array, " _"]],
    context: Context,
    train: bool,
) -> tuple[list[Float[Array, "_ p"]], Variables]:
    """Moves the rows of several heads in one call, and returns them head by head."""
    sizes = [len(theta) for theta in thetas]
    head = jnp.repeat(jnp.arange(len(sizes)), np.array(sizes), total_repeat_length=sum(sizes))
    rows, every = jnp.concatenate(thetas), jnp.concatenate(shots)
    moved, variables = regressor.apply(variables, rows, every, context._replace(head=head), train)
    return jnp.split(moved, np.cumsum(sizes)[:-1]), variables


def _objective(
    regressor: Regressor,
    batch: int,
    params: Any,
    state: Variables,
    hyper: Hyper,
    key: Key[Array, ""],
    context: Context,
    data: TrainingData,
) -> tuple[Float[Array, ""], Variables]:
    """Computes the paper's loss on one episode, and the variables after it; state: all variables but `params`."""
    episode = draw_episode(key, data.banks, batch)
    thetas = [bank.theta[s] for bank, s in zip(data.banks, episode[0], strict=True)]
    heads, variables = _pack(regressor, {**state, "params": params}, thetas, _shots(data, thetas), context, True)

    def loss(bank, moved, index):
        task = mean_task_loss(data.unit * moved, data.x[index], data.y[index])
        return relative_row_loss(moved, bank.target[: len(moved)]) + hyper.task_weight * task

    return _mean(data, loss, zip(data.banks, heads, episode[1], strict=True)), variables


def _shots(data: TrainingData, thetas: Sequence[Float[Array, "_ p"]]) -> list[Int[Array, " _"]]:
    """Returns the shots of each bank's rows, 0 where the bank is not in training yet."""
    return [jnp.where(i < data.first, 0, bank.shots[: len(thetas[i])]) for i, bank in enumerate(data.banks)]


def _mean(data: TrainingData, loss: Callable[..., Float[Array, "..."]], banks: Iterable[tuple]) -> Float[Array, "..."]:
    """Returns the mean of loss(*arguments) over the banks in training, without computing it for the others."""
    total: Any = 0.0
    for i, arguments in enumerate(banks):
        nothing = jax.eval_shape(loss, *arguments)
        total += lax.cond(i >= data.first, loss, lambda *_, like=nothing: jnp.zeros(like.shape, like.dtype), *arguments)
    return total / (len(data.banks) - data.first).astype(total.dtype)


def held_out_losses(regressor: Regressor, variables: Variables, context: Context, data: TrainingData) -> Float[Array, " 2"]:
    """Computes the mean row loss and task loss of held-out classes: their rows are moved, and those of the other classes are θ*."""

    def one(thetas):
        heads, _ = _pack(regressor, variables, thetas, _shots(data, thetas), context, False)
        return _mean(data, partial(_held_out_losses, data.unit), zip(data.banks, heads, strict=True))

    return jax.vmap(one)([bank.held_theta for bank in data.banks]).mean(0)


def _held_out_losses(unit: Float[Array, ""], bank: BankData, moved: Float[Array, "C p"]) -> Float[Array, " 2"]:
    seen = bank.theta.shape[1]
    mixed = jnp.concatenate([bank.target[:seen], moved[seen:]])
    rows = relative_row_loss(moved[seen:], bank.target[seen:])
    return jnp.stack([rows, mean_task_loss(unit * mixed, bank.held_x, bank.held_y)])


def _sharded_rows(regressor: Regressor, mesh: Mesh) -> Regressor:
    """Returns the regressor with its rows sharded over the mesh."""

    def apply(variables, theta, shots, context, train):
        theta = jax.lax.with_sharding_constraint(theta, NamedSharding(mesh, EACH))
        return regressor.apply(variables, theta, shots, context, train)

    return regressor if mesh.size == 1 else regressor._replace(apply=apply)


@functools.cache  # folds and seeds share them
def compile_programs(regressor: Regressor, batch: int, mesh: Mesh) -> Programs:
    """Compiles the paper's training of a regressor, with its rows sharded over the mesh; batch: examples in the task loss."""
    regressor = _sharded_rows(regressor, mesh)
    return programs(partial(_objective, regressor, batch), partial(held_out_losses, regressor), partial(replicated, mesh))


class LevelSet(NamedTuple):
    """The training set of a level with features of its own (recursive feature dynamics), and its banks of the level's k and above."""

    banks: Sequence[Bank]
    train: Normalised


NO_SETS: Mapping[int, LevelSet] = MappingProxyType({})
Keep = Callable[[int, Callable[[], tuple[Variables, LevelReport]]], tuple[Variables, LevelReport]]
Track = Callable[[Iterable, int], Iterable]


def fit_metamodelnet(
    key: Key[Array, ""],
    banks: Sequence[Bank],
    x: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    regressor: Regressor,
    hyper: Hyper = Hyper(),  # noqa: B008 - a NamedTuple cannot change
    *,
    schedule: Schedule = Schedule(),  # noqa: B008 - likewise
    held_out: float = defaults.HELD_OUT,
    context: Callable[[Normalised], Context] = rows_and_model,
    memory: int | None = None,
    mesh: Mesh | None = None,
    level_sets: Mapping[int, LevelSet] = NO_SETS,
    keep: Keep = lambda level, make: make(),
    track: Track = lambda steps, level: steps,
) -> tuple[Variables, tuple[LevelReport, ...]]:
    """Trains a regressor on banks of k-shot heads, level by level from the last to the first.

    Args:
      key: the root of the streams that are drawn from: the regressor's initial variables, episodes, examples of evaluations.
      banks: of k = 1, 2, 4, .., fitted to x and y (`fit_bank`).
      x: normalised features of the training set.
      y: its labels, 0 to C − 1.
      regressor: such as `residual_chain(ladder, width)`.
      hyper: task weight, learning rate, weight decay.
      schedule: how long each level is trained.
      held_out: share of the classes that are held out and decide when a level stops.
      context: makes the Context of the regressor from a training set.
      memory: bytes that the heads of all banks may take on a device; if they take more, training goes over them in windows. By default an
        eighth of the device's.
      mesh: the devices, by default all.
      level_sets: by level, the training set of a level with features of its own; the others are trained on x and y.
      keep: keep(level, make) returns the result of make(). A caller can save it, and return what it saved instead of calling make() when
        the same training is resumed.
      track: track(steps, level) wraps the iterable of a level's steps, such as a progress bar.

    Returns:
      The variables, whose entry 'unit' is the number that rows are divided by, and a report for each level, the first for level 0.

    Raises:
      BadInput: the regressor breaks its contract.

    Source: Wang et al. 2017, section 3.3, equation 4.
    """
    mesh, dim, banks = mesh or all_devices(), x.shape[1], list(banks)
    sets: dict[int | None, LevelSet] = {None: LevelSet(banks, Normalised(x, y))}
    sets.update(level_sets.items())
    held = held_out_classes(np.bincount(y), held_out)
    contexts = {name: context(own.train)._replace(means=None) for name, own in sets.items()}  # banks keep no means
    check(regressor, RegressorSpec(dim + 1, 0), np.bincount(y), contexts[None])
    compiled = compile_programs(regressor, schedule.batch, mesh)

    @functools.cache  # shared by the levels without a set of their own; not made if the results of all of them are kept
    def prepared(name):
        own = sets[name]
        return training_data(fold(key, "held out"), own.banks, own.train, held, mesh, window_size(own.banks, memory))

    def make(level, trained):
        name, first = (level, 0) if level in level_sets else (None, level)
        data = partial(prepared(name), first)
        own = fold(key, "chain", level)
        fresh = jax.jit(regressor.init, static_argnums=1)(own, RegressorSpec(dim + 1, 0))  # all of one shape: one program for all levels
        start, steps = begin_level(fresh, trained), partial(track, level=level)
        after, report = train_level(compiled, start, hyper, fold(key, "episodes", level), contexts[name], data, schedule, steps)
        return end_level(after, jax.eval_shape(lambda key: regressor.init(key, RegressorSpec(dim + 1, level)), own)), report

    variables: Variables | None = None
    reports = []
    for level in reversed(range(len(banks))):
        variables, report = keep(level, partial(make, level, variables))
        reports.append(report)
    return {**(variables or {}), "unit": row_unit(banks)}, tuple(reversed(reports))
