"""The extension point: a Regressor moves rows θ [C, d+1] to where more examples would take them.

The paper's is the residual chain (`chain.py`); `contrib/small_regressors.py` has small ones, docs/extend_the_regressor.md shows how to
write one.
All of them are trained, applied and saved by the same functions.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmn_jax.errors import BadInput
from mmn_jax.linear.class_model import ClassModel, Shrinkage, class_means, class_model
from mmn_jax.types import Examples

Variables = dict[str, Any]
HALF = Shrinkage(0.5, 0.5)


class RegressorSpec(NamedTuple):
    """What init needs to know: width d+1 of a row, and the lowest rung of the ladder that is in training yet."""

    dim: int
    first: int


class Context(NamedTuple):
    """What of the problem a regressor may look at beside the rows.

    model: the Gaussian model of the classes (`linear/class_model.py`). head: [C] which head a row belongs to; training packs
    the rows of several heads into one call. means: [C, d] mean of the examples that each row was fitted to. Both are of normalised
    features. The paper's chain looks at neither, and gets None for both; on banks of k-shot heads, whose means are not kept, a
    recipe's own regressor gets a model and no means; on mixed-shot episodes (`contrib/mixed_shot.py`) it gets both.
    """

    model: ClassModel | None
    head: jax.Array
    means: jax.Array | None = None


class Regressor(NamedTuple):
    """A pair of pure functions, like an optax transformation.

    init(key, spec) gives a Flax-style dict of variables: 'params' are trained, every other
    collection is state. Training goes from the last rung of the ladder to the first and calls
    init at each; leaves that an earlier call made keep their trained values, so a regressor
    that learns something of its own per rung names it by its rung.

    apply(variables, theta, shots, context, train) takes rows theta [C, d+1] and shots [C], how
    many examples each row's class had, and returns the moved rows and the variables
    with their state updated (when train is true). Rows are of normalised features, in units of
    the root mean square entry of θ* (`lessons.row_unit`). It is traced by jit, grad and, where
    held-out classes are scored, vmap, and has no key: it must be deterministic.
    """

    init: Callable[[jax.Array, RegressorSpec], Variables]
    apply: Callable[[Variables, jax.Array, jax.Array, Context, bool], tuple[jax.Array, Variables]]


def make_context(train: Examples, shrinkage: Shrinkage = HALF) -> Context:
    """The Context of the head of a training set, whose features are normalised."""
    counts = np.bincount(train.y)
    model = jax.tree.map(lambda array: jnp.asarray(array, jnp.float32), class_model(train, shrinkage))
    means = jnp.asarray(class_means(*train, len(counts)), jnp.float32)
    return Context(model, jnp.zeros(len(counts), jnp.int32), means)


def check(regressor: Regressor, spec: RegressorSpec, shots: np.ndarray, context: Context) -> None:
    """Raises BadInput where an untrained regressor breaks the contract on rows of classes with these shots [C]."""
    told = "--config.meta.regressor: must return a Regressor whose"
    if not isinstance(regressor, Regressor):
        raise BadInput(f"{told} init and apply are functions, it returns {type(regressor).__name__}")
    theta = jax.random.normal(jax.random.key(0), (len(shots), spec.dim))
    variables = regressor.init(jax.random.key(0), spec)
    if not isinstance(variables, dict) or "params" not in variables:
        raise BadInput(f"{told} init gives a dict with 'params'")
    given = regressor.apply(variables, theta, jnp.asarray(shots), context, True)
    if not isinstance(given, tuple) or len(given) != 2:
        raise BadInput(f"{told} apply gives the moved rows and the variables")
    moved = given[0]
    if moved.shape != theta.shape or moved.dtype != theta.dtype:
        raise BadInput(f"{told} apply gives rows {theta.shape} of {theta.dtype}, it gives {moved.shape} of {moved.dtype}")
    if not np.isfinite(moved).all():
        raise BadInput(f"{told} apply gives finite rows, it gives NaN or infinity before any training")


def entry_rung(shots: jax.Array, ladder: tuple[int, ...]) -> jax.Array:
    """[C] the rung at which a class enters: the last whose k it reaches, so ⌊log2 n_c⌋ capped at N on the full ladder."""
    rung = jnp.searchsorted(jnp.asarray(ladder), shots, side="right") - 1
    return jnp.clip(rung, 0, len(ladder) - 1)


def average(regressors: Sequence[Regressor]) -> Regressor:
    """The mean of where several regressors move the rows, trained together."""

    def init(key, spec):
        every = [one.init(jax.random.fold_in(key, i), spec) for i, one in enumerate(regressors)]
        kinds = {kind for variables in every for kind in variables}
        return {kind: {str(i): variables.get(kind, {}) for i, variables in enumerate(every)} for kind in kinds}

    def apply(variables, theta, shots, context, train):
        moved, states = [], []
        for i, one in enumerate(regressors):
            rows, state = one.apply({kind: parts[str(i)] for kind, parts in variables.items()}, theta, shots, context, train)
            moved.append(rows)
            states.append(state)
        return sum(moved) / len(moved), {kind: {str(i): state.get(kind, {}) for i, state in enumerate(states)} for kind in variables}

    return Regressor(init, apply)
