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
from jaxtyping import Int

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


def split_unit(variables: Variables) -> tuple[Variables, np.float32]:
    """Separates a trained regressor's own variables from 'unit', what rows are divided by before it moves them (1 if it isn't there)."""
    return {name: value for name, value in variables.items() if name != "unit"}, np.float32(variables.get("unit", 1.0))


def make_context(train: Examples, shrinkage: Shrinkage = HALF) -> Context:
    """Makes the Context of a head fitted to a training set with normalised features: the model of its classes, and their means."""
    counts = np.bincount(train.y)
    model = jax.tree.map(lambda array: jnp.asarray(array, jnp.float32), class_model(train, shrinkage))
    means = jnp.asarray(class_means(*train, len(counts)), jnp.float32)
    return Context(model, jnp.zeros(len(counts), jnp.int32), means)


def rows_and_model(train: Examples) -> Context:
    """Makes the Context of k-shot heads: the model of the classes; the means behind their rows aren't kept."""
    return make_context(train)._replace(means=None)


def rows_alone(train: Examples) -> Context:
    """Makes the Context of a regressor that looks at rows alone, such as the paper's chain."""
    return Context(None, jnp.zeros(int(train.y.max()) + 1, jnp.int32))


def check(regressor: Regressor, spec: RegressorSpec, shots: Int[np.ndarray, " C"], context: Context) -> None:
    """Checks what a regressor returns for rows of classes with these shots, without computing it.

    Raises:
      BadInput: it breaks the contract.
    """
    must = "regressor: must be a Regressor whose"
    if not isinstance(regressor, Regressor):
        raise BadInput(f"{must} init and apply are functions, it is of type {type(regressor).__name__}")
    returned: list[Any] = []

    def run(key, theta, shots, context):
        returned.append(regressor.init(key, spec))
        if _is_variables(returned[0]):
            returned.append(regressor.apply(returned[0], theta, shots, context, True))

    rows = jax.ShapeDtypeStruct((len(shots), spec.dim), jnp.float32)
    jax.eval_shape(run, jax.random.key(0), rows, jnp.asarray(shots), context)  # traced, not computed
    if not _is_variables(returned[0]):
        raise BadInput(f"{must} init returns a dict with 'params'")
    if not isinstance(returned[1], tuple) or len(returned[1]) != 2:
        raise BadInput(f"{must} apply returns the moved rows and the variables")
    moved = returned[1][0]
    if moved.shape != rows.shape or moved.dtype != rows.dtype:
        raise BadInput(f"{must} apply returns rows {rows.shape} of {rows.dtype}, it returns {moved.shape} of {moved.dtype}")


def _is_variables(given):
    return isinstance(given, dict) and "params" in given


def entry_level(shots: jax.Array, ladder: tuple[int, ...]) -> jax.Array:
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
