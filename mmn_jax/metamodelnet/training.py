"""Back-to-front training of a regressor on the banks of k-shot heads (Wang et al. 2017, equations 2 and 4).

Stage i, from N down to 0, trains what is new at rung i and fine-tunes what the later rungs have, on

    L(w) = mean_{k ∈ 2^i..2^N} [ E ‖F(θ_k; w) − θ*‖² / E ‖θ*‖²  +  λ · E CE(F(θ_k; w) x, y) ]

one random subset of every k and a fresh minibatch of examples a step (`metamodelnet/training_data.py`). Some classes are held out
of all of it: their rows decide when a stage stops.
"""

import functools
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding

from mmn_jax.devices import EACH, replicated
from mmn_jax.errors import BadInput
from mmn_jax.metamodelnet.regressor import Context, Regressor, Variables
from mmn_jax.metamodelnet.training_data import Lessons, draw_episode

WARM = 10  # episodes whose rows a stage's running statistics see before its first look


class Hyper(NamedTuple):
    """One candidate: task weight λ, learning rate, weight decay."""

    task_weight: float
    rate: float
    decay: float


class State(NamedTuple):
    """What a step carries: variables, optimiser state."""

    variables: Variables
    optimiser: optax.OptState


class Look(NamedTuple):
    """One look at a stage: after which step, the mean loss of the episodes since the look before, and of held-out classes the
    row loss, the task loss and the loss that the two make, rows + λ task, infinite where it isn't a number."""

    step: int
    train: float
    rows: float
    task: float
    loss: float


class StageReport(NamedTuple):
    """How a stage went: the step whose variables were kept, and every look, the first at step 0."""

    best_step: int
    looks: list[Look]


def task_loss(theta: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Cross-entropy of one example x [d] with label y under the classifier of rows theta."""
    return optax.softmax_cross_entropy_with_integer_labels(theta[:, :-1] @ x + theta[:, -1], y)


def row_loss(theta: jax.Array, target: jax.Array) -> jax.Array:
    """Squared distance of one row to its target."""
    return jnp.sum((theta - target) ** 2)


def mean_task_loss(theta: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean of `task_loss` over examples x [n, d], y [n]."""
    return jax.vmap(task_loss, (None, 0, 0))(theta, x, y).mean()


def relative_row_loss(theta: jax.Array, target: jax.Array) -> jax.Array:
    """Mean `row_loss` of rows [C, d+1] in units of the targets' mean squared norm."""
    return jax.vmap(row_loss)(theta, target).mean() / jnp.sum(target**2, 1).mean()


def _pack(regressor, variables, thetas, shots, context, train):
    """Moves the rows of several heads in one call, and gives them back head by head."""
    sizes = [len(theta) for theta in thetas]
    head = jnp.repeat(jnp.arange(len(sizes)), np.array(sizes), total_repeat_length=sum(sizes))
    rows, shots = jnp.concatenate(thetas), jnp.concatenate(shots)
    moved, variables = regressor.apply(variables, rows, shots, context._replace(head=head), train)
    return jnp.split(moved, np.cumsum(sizes)[:-1]), variables


def _objective(regressor, batch, params, state, hyper, key, context, lessons):
    """The paper's loss on one episode, and the variables after it."""
    unit, x, y, rungs = lessons
    episode = draw_episode(key, rungs, batch)
    thetas = [rung.theta[s] for rung, s in zip(rungs, episode[0], strict=True)]
    shots = [rung.shots[: len(theta)] for rung, theta in zip(rungs, thetas, strict=True)]
    heads, variables = _pack(regressor, {**state, "params": params}, thetas, shots, context, True)
    total = 0.0
    for rung, moved, index in zip(rungs, heads, episode[1], strict=True):
        total += relative_row_loss(moved, rung.target[: len(moved)])
        total += hyper.task_weight * mean_task_loss(unit * moved, x[index], y[index])
    return total / len(rungs), variables


def _optimiser(hyper):
    return optax.flatten(optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(hyper.rate, weight_decay=hyper.decay)))


def begin_training(variables: Variables, hyper: Hyper) -> State:
    """The State before the first step."""
    return State(variables, _optimiser(hyper).init(variables["params"]))


def train_step(objective: Callable, state: State, hyper: Hyper, key: jax.Array, context: Context, data: Any) -> tuple[State, jax.Array]:
    """One optimiser step on the episode that `key` draws from data, and the loss that it had before.

    objective(params, rest, hyper, key, context, data) gives its loss and the variables after it.
    """
    rest = {name: value for name, value in state.variables.items() if name != "params"}
    params = state.variables["params"]
    (loss, variables), gradient = jax.value_and_grad(objective, has_aux=True)(params, rest, hyper, key, context, data)
    update, optimiser = _optimiser(hyper).update(gradient, state.optimiser, params)
    return State({**variables, "params": optax.apply_updates(params, update)}, optimiser), loss


def held_out_losses(regressor: Regressor, variables: Variables, context: Context, lessons: Lessons) -> jax.Array:
    """[2] mean row loss and task loss of held-out classes: their rows are moved, those of the classes that train are θ*."""
    rungs = lessons.rungs

    def one(thetas):
        heads, _ = _pack(regressor, variables, thetas, [rung.shots for rung in rungs], context, False)
        return jnp.stack([_held_out_losses(rung, moved, lessons.unit) for rung, moved in zip(rungs, heads, strict=True)])

    return jax.vmap(one)([rung.held_theta for rung in rungs]).mean((0, 1))


def _held_out_losses(rung, moved, unit):
    seen = rung.theta.shape[1]
    mixed = jnp.concatenate([rung.target[:seen], moved[seen:]])
    rows = relative_row_loss(moved[seen:], rung.target[seen:])
    return jnp.stack([rows, mean_task_loss(unit * mixed, rung.held_x, rung.held_y)])


def _overlay(fresh, trained):
    """`fresh` with every leaf that `trained` also has taken from there."""
    if not isinstance(fresh, dict):
        if np.shape(fresh) != np.shape(trained):
            told = f"a variable of its has shape {np.shape(trained)} at one rung and {np.shape(fresh)} at the next"
            raise BadInput(f"--config.meta.regressor: {told}; give it one shape, or a name of its own at each rung")
        return trained
    return {name: _overlay(value, trained[name]) if name in trained else value for name, value in fresh.items()}


def begin_stage(fresh: Variables, trained: Variables | None) -> Variables:
    """Variables at the start of a stage: the rest as trained, what is new as init made it (`fresh`).

    Raises:
      BadInput: a variable that is trained has another shape now.
    """
    return fresh if trained is None else _overlay(fresh, trained)


class Programs(NamedTuple):
    """The two compiled functions of a stage, shared by all candidates; place(arrays) puts them where data are.

    step(state, hyper, key, context, data) → the State that takes the place of the one it was given, and the loss before it.
    losses(variables, context, data) → [2] the row loss and task loss of held-out classes.
    """

    step: Callable
    losses: Callable
    place: Callable


def _shared_rows(regressor, mesh):
    """The regressor, its rows shared out over the mesh."""

    def apply(variables, theta, shots, context, train):
        theta = jax.lax.with_sharding_constraint(theta, NamedSharding(mesh, EACH))
        return regressor.apply(variables, theta, shots, context, train)

    return regressor if mesh.size == 1 else regressor._replace(apply=apply)


@functools.cache  # folds and seeds share them
def compile_programs(regressor: Regressor, batch: int, mesh: Mesh) -> Programs:
    """Those of a regressor in the paper's training, its rows shared out over the mesh."""
    regressor = _shared_rows(regressor, mesh)
    return programs(partial(_objective, regressor, batch), partial(held_out_losses, regressor), partial(replicated, mesh))


def _exact(function):
    """The function, its products float32 on every device where a regressor doesn't ask for less."""

    def exact(*args):
        with jax.default_matmul_precision("highest"):
            return function(*args)

    return exact


def programs(objective: Callable, losses: Callable, place: Callable) -> Programs:
    """The compiled step on an objective, and the compiled losses."""
    step = _exact(partial(train_step, objective))
    return Programs(jax.jit(lambda *args: place(step(*args)), donate_argnums=0), jax.jit(_exact(losses)), place)


_copied = jax.jit(partial(jax.tree.map, jnp.copy))  # arrays of their own: a step takes the place of those it is given


def _begun(programs, variables, hyper):
    return programs.place(_copied(begin_training(variables, hyper)))


def _warmed(programs, variables, hyper, keys, context, data):
    """The variables after an episode at rate 0 for every key, and what it lost: later blocks gather statistics of the rows that are
    new to them, nothing is learned."""
    state, losses = _begun(programs, variables, hyper), []
    for key in keys:
        state, loss = programs.step(state, hyper._replace(rate=0.0), key, context, data)
        losses.append(loss)
    return state.variables, losses


def train_stage(
    programs: Programs,
    variables: Variables,
    hyper: Hyper,
    key: jax.Array,
    context: Context,
    data: Callable[[int], Any],
    *,
    steps: int,
    every: int,
    patience: int,
    track: Callable[[Iterable], Iterable] = lambda steps: steps,
) -> tuple[Variables, StageReport]:
    """One stage: at most `steps`, held-out classes looked at every `every` and after the last, the best
    variables kept; over when none of the last `patience` looks was better. data(i) is what the steps before look i + 1 learn from."""
    current, context = data(0), programs.place(context)

    def look(step, variables):
        rows, task = np.asarray(programs.losses(variables, context, current))
        loss = float(rows + hyper.task_weight * task)
        train = float(np.mean(jax.device_get(losses)))
        return Look(step, train, float(rows), float(task), loss if np.isfinite(loss) else np.inf)

    warm = [jax.random.fold_in(key, steps + 1 + i) for i in range(WARM)]
    variables, losses = _warmed(programs, variables, hyper, warm, context, current)
    looks, losses = [look(0, variables)], []
    state = _begun(programs, variables, hyper)
    best, best_step = _copied(state.variables), 0
    for i in track(range(1, steps + 1)):
        state, loss = programs.step(state, hyper, jax.random.fold_in(key, i), context, current)
        losses.append(loss)
        if i % every and i < steps:
            continue
        looks.append(look(i, state.variables))
        losses = []
        if looks[-1].loss < min(one.loss for one in looks[:-1]):
            best, best_step = _copied(state.variables), i
        if i - best_step >= patience * every:
            break
        current = data(i // every)
    return best, StageReport(best_step, looks)
