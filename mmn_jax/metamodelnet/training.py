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
import optax
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float, Int, Key

from mmn_jax import defaults
from mmn_jax.devices import EACH, all_devices, replicated
from mmn_jax.errors import BadInput
from mmn_jax.linear.algebra import AnyArray
from mmn_jax.metamodelnet.regressor import Context, Regressor, RegressorSpec, Variables, check, rows_and_model
from mmn_jax.metamodelnet.training_data import BankData, TrainingData, draw_episode, held_out_classes, row_unit, training_data, window_size
from mmn_jax.rng import fold
from mmn_jax.types import Bank, Normalised

WARM = 10  # episodes that the running statistics of a level gather before its first evaluation


class Hyper(NamedTuple):
    """The hyperparameters of training, which validation examples choose: task weight λ, learning rate and weight decay."""

    task_weight: float = defaults.TASK_WEIGHTS[0]
    rate: float = defaults.RATES[0]
    decay: float = defaults.DECAYS[0]


class Schedule(NamedTuple):
    """How long a level is trained.

    steps: the largest number of steps. every: held-out classes are evaluated every so many steps, and after the last one. patience:
    training stops when none of the last so many evaluations was the best. batch: examples in the task loss of each bank.
    """

    steps: int = defaults.STEPS
    every: int = defaults.EVERY
    patience: int = defaults.PATIENCE
    batch: int = defaults.BATCH


class State(NamedTuple):
    """The variables of the regressor and the state of the optimiser, between two steps."""

    variables: Variables
    optimiser: optax.OptState


class Evaluation(NamedTuple):
    """The losses after `step` steps of a level.

    train: mean loss of the episodes since the previous evaluation. rows, task: row loss and task loss of held-out classes. loss:
    rows + λ · task, infinite if that isn't finite.
    """

    step: int
    train: float
    rows: float
    task: float
    loss: float


class LevelReport(NamedTuple):
    """How the training of a level went: the step whose variables were kept, and every evaluation, the first at step 0."""

    best_step: int
    evaluations: list[Evaluation]


def task_loss(theta: Float[AnyArray, "C p"], x: Float[AnyArray, " d"], y: Int[AnyArray, ""]) -> Float[Array, ""]:
    """Computes the cross-entropy of one example under the classifier of rows theta."""
    return optax.softmax_cross_entropy_with_integer_labels(theta[:, :-1] @ x + theta[:, -1], y)


def row_loss(theta: Float[AnyArray, " p"], target: Float[AnyArray, " p"]) -> Float[Array, ""]:
    """Computes the squared distance of one row to its target."""
    return jnp.sum((theta - target) ** 2)


def mean_task_loss(theta: Float[AnyArray, "C p"], x: Float[AnyArray, "n d"], y: Int[AnyArray, " n"]) -> Float[Array, ""]:
    """Computes the mean of `task_loss` over examples."""
    return jax.vmap(task_loss, (None, 0, 0))(theta, x, y).mean()


def relative_row_loss(theta: Float[AnyArray, "C p"], target: Float[AnyArray, "C p"]) -> Float[Array, ""]:
    """Computes the mean `row_loss` of rows in units of the targets' mean squared norm."""
    return jax.vmap(row_loss)(theta, target).mean() / jnp.sum(target**2, 1).mean()


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
    shots = [bank.shots[: len(theta)] for bank, theta in zip(data.banks, thetas, strict=True)]
    heads, variables = _pack(regressor, {**state, "params": params}, thetas, shots, context, True)
    total: Any = 0.0
    for bank, moved, index in zip(data.banks, heads, episode[1], strict=True):
        total += relative_row_loss(moved, bank.target[: len(moved)])
        total += hyper.task_weight * mean_task_loss(data.unit * moved, data.x[index], data.y[index])
    return total / len(data.banks), variables


def _optimiser(hyper: Hyper) -> optax.GradientTransformation:
    return optax.flatten(optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(hyper.rate, weight_decay=hyper.decay)))


def begin_training(variables: Variables, hyper: Hyper) -> State:
    """Makes the State before the first step."""
    return State(variables, _optimiser(hyper).init(variables["params"]))


def train_step(
    objective: Callable, state: State, hyper: Hyper, key: Key[Array, ""], context: Context, data: Any
) -> tuple[State, Float[Array, ""]]:
    """Takes one optimiser step on the episode that `key` draws from data.

    Args:
      objective: returns the loss and the variables after it, from (params, all other variables, hyper, key, context, data).
      state: before the step.
      hyper: the hyperparameters.
      key: draws the episode.
      context: what the regressor may use beside the rows.
      data: what the episode is drawn from.

    Returns:
      The new State, and the loss before the step.
    """
    rest = {name: value for name, value in state.variables.items() if name != "params"}
    params = state.variables["params"]
    (loss, variables), gradient = jax.value_and_grad(objective, has_aux=True)(params, rest, hyper, key, context, data)
    update, optimiser = _optimiser(hyper).update(gradient, state.optimiser, params)
    return State({**variables, "params": optax.apply_updates(params, update)}, optimiser), loss


def held_out_losses(regressor: Regressor, variables: Variables, context: Context, data: TrainingData) -> Float[Array, " 2"]:
    """Computes the mean row loss and task loss of held-out classes: their rows are moved, and those of the other classes are θ*."""

    def one(thetas):
        heads, _ = _pack(regressor, variables, thetas, [bank.shots for bank in data.banks], context, False)
        return jnp.stack([_held_out_losses(bank, moved, data.unit) for bank, moved in zip(data.banks, heads, strict=True)])

    return jax.vmap(one)([bank.held_theta for bank in data.banks]).mean((0, 1))


def _held_out_losses(bank: BankData, moved: Float[Array, "C p"], unit: Float[Array, ""]) -> Float[Array, " 2"]:
    seen = bank.theta.shape[1]
    mixed = jnp.concatenate([bank.target[:seen], moved[seen:]])
    rows = relative_row_loss(moved[seen:], bank.target[seen:])
    return jnp.stack([rows, mean_task_loss(unit * mixed, bank.held_x, bank.held_y)])


def _overlay(fresh: Any, trained: Any) -> Any:
    """Returns the tree `fresh` with the leaves of `trained` wherever it has them."""
    if not isinstance(fresh, dict):
        if np.shape(fresh) != np.shape(trained):
            shapes = f"a variable has shape {np.shape(trained)} at one level and {np.shape(fresh)} at the next"
            raise BadInput(f"regressor: {shapes}; give it one shape, or a name of its own at each level")
        return trained
    return {name: _overlay(value, trained[name]) if name in trained else value for name, value in fresh.items()}


def begin_level(fresh: Variables, trained: Variables | None) -> Variables:
    """Returns the variables at the start of a level.

    Args:
      fresh: as init returned them at this level.
      trained: those of the levels after it, which replace fresh ones of the same name; None at the last level.

    Raises:
      BadInput: a trained variable has another shape at this level.
    """
    return fresh if trained is None else _overlay(fresh, trained)


class Programs(NamedTuple):
    """The compiled functions of training, shared by all hyperparameters.

    step(state, hyper, key, context, data) returns the next State and the loss before the step; the given State must not be used again.
    losses(variables, context, data) returns the row loss and task loss of held-out classes, [2]. place(arrays) puts arrays on the devices
    of the data.
    """

    step: Callable[..., tuple[State, Array]]
    losses: Callable[[Variables, Context, Any], Array]
    place: Callable[[Any], Any]


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


def _exact(function: Callable) -> Callable:
    """Returns the function with products in full float32 on every device, unless a regressor asks for less."""

    def exact(*args):
        with jax.default_matmul_precision("highest"):
            return function(*args)

    return exact


def programs(objective: Callable, losses: Callable, place: Callable) -> Programs:
    """Compiles training on an objective.

    Args:
      objective: as for `train_step`.
      losses: as in `Programs`.
      place: as in `Programs`.
    """
    step = _exact(partial(train_step, objective))
    return Programs(jax.jit(lambda *args: place(step(*args)), donate_argnums=0), jax.jit(_exact(losses)), place)


_copied = jax.jit(partial(jax.tree.map, jnp.copy))  # arrays of their own: a step donates its argument's


def _begun(programs: Programs, variables: Variables, hyper: Hyper) -> State:
    return programs.place(_copied(begin_training(variables, hyper)))


def _warmed(
    programs: Programs, variables: Variables, hyper: Hyper, keys: Sequence[Key[Array, ""]], context: Context, data: Any
) -> tuple[Variables, list[Float[Array, ""]]]:
    """Runs an episode at learning rate 0 for every key, so that later blocks gather statistics of the rows that are new to them, and
    returns the variables and the losses."""
    state, losses = _begun(programs, variables, hyper), []
    for key in keys:
        state, loss = programs.step(state, hyper._replace(rate=0.0), key, context, data)
        losses.append(loss)
    return state.variables, losses


def train_level(
    programs: Programs,
    variables: Variables,
    hyper: Hyper,
    key: Key[Array, ""],
    context: Context,
    data: Callable[[int], Any],
    schedule: Schedule,
    track: Callable[[Iterable], Iterable] = lambda steps: steps,
) -> tuple[Variables, LevelReport]:
    """Trains one level.

    Args:
      programs: the compiled step and losses.
      variables: at its start.
      hyper: its hyperparameters.
      key: draws the episodes.
      context: what the regressor may use beside the rows.
      data: data(i) returns the training data of the steps before evaluation i + 1.
      schedule: how long it is trained.
      track: wraps the iterable of steps, such as tqdm.

    Returns:
      The variables of the best evaluation, and a report.

    Raises:
      BadInput: the regressor returns NaN or infinity before it is trained.
    """
    current, context = data(0), programs.place(context)

    def evaluate(step, variables):
        rows, task = np.asarray(programs.losses(variables, context, current))
        loss = float(rows + hyper.task_weight * task)
        train = float(np.mean(jax.device_get(losses)))
        return Evaluation(step, train, float(rows), float(task), loss if np.isfinite(loss) else np.inf)

    warm = [jax.random.fold_in(key, schedule.steps + 1 + i) for i in range(WARM)]
    variables, losses = _warmed(programs, variables, hyper, warm, context, current)
    evaluations, losses = [evaluate(0, variables)], []
    if not np.isfinite(evaluations[0].loss):
        raise BadInput("regressor: its rows are NaN or infinite before any training of this level; make it begin as the identity")
    state = _begun(programs, variables, hyper)
    best, best_step = _copied(state.variables), 0
    for i in track(range(1, schedule.steps + 1)):
        state, loss = programs.step(state, hyper, jax.random.fold_in(key, i), context, current)
        losses.append(loss)
        if i % schedule.every and i < schedule.steps:
            continue
        evaluations.append(evaluate(i, state.variables))
        losses = []
        if evaluations[-1].loss < min(one.loss for one in evaluations[:-1]):
            best, best_step = _copied(state.variables), i
        if i - best_step >= schedule.patience * schedule.every:
            break
        current = data(i // schedule.every)
    return best, LevelReport(best_step, evaluations)


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
    check(regressor, RegressorSpec(dim + 1, len(banks) - 1), np.bincount(y), contexts[None])
    compiled = compile_programs(regressor, schedule.batch, mesh)

    @functools.cache  # shared by the levels without a set of their own; not made if the results of all of them are kept
    def prepared(name):
        own = sets[name]
        return training_data(fold(key, "held out"), own.banks, own.train, held, mesh, window_size(own.banks, memory))

    def make(level, trained):
        name, first = (level, 0) if level in level_sets else (None, level)
        data = partial(prepared(name), first)
        fresh = jax.jit(regressor.init, static_argnums=1)(fold(key, "chain", level), RegressorSpec(dim + 1, level))
        start, steps = begin_level(fresh, trained), partial(track, level=level)
        return train_level(compiled, start, hyper, fold(key, "episodes", level), contexts[name], data, schedule, steps)

    variables: Variables | None = None
    reports = []
    for level in reversed(range(len(banks))):
        variables, report = keep(level, partial(make, level, variables))
        reports.append(report)
    return {**(variables or {}), "unit": row_unit(banks)}, tuple(reversed(reports))
