"""The training of one level: optimiser steps on an objective, evaluations on held-out classes, early stopping.

Objective and losses are given: those of banks are in `training.py`, those of mixed-shot episodes in `contrib/mixed_shot.py`.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from mmn_jax import defaults
from mmn_jax.devices import COMPILER_OPTIONS
from mmn_jax.errors import BadInput
from mmn_jax.metamodelnet.regressor import Context, Variables

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


def end_level(variables: Any, trained: Any) -> Any:
    """Returns those of the variables at the end of a level that the tree `trained` has, too: the others belong to levels before it."""
    if not isinstance(trained, dict):
        return variables
    return {name: end_level(variables[name], part) for name, part in trained.items()}


class Programs(NamedTuple):
    """The compiled functions of training, shared by all hyperparameters.

    step(state, hyper, key, context, data) returns the next State and the loss before the step; the given State must not be used again.
    losses(variables, context, data) returns the row loss and task loss of held-out classes, [2]. place(arrays) puts arrays on the devices
    of the data.
    """

    step: Callable[..., tuple[State, Array]]
    losses: Callable[[Variables, Context, Any], Array]
    place: Callable[[Any], Any]


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
    compiled = jax.jit(lambda *args: place(step(*args)), donate_argnums=0, compiler_options=COMPILER_OPTIONS)
    return Programs(compiled, jax.jit(_exact(losses), compiler_options=COMPILER_OPTIONS), place)


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
