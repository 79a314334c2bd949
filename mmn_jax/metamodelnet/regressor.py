"""The extension point: a Regressor predicts from rows θ [C, p] the rows that more examples would give.

The paper's is the residual chain (`chain.py`); `contrib/small_regressors.py` has small ones, and docs/extend_the_regressor.md shows how to
write one. All are trained, applied and saved by the same functions.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mmn_jax.errors import BadInput
from mmn_jax.linear.algebra import AnyArray
from mmn_jax.linear.class_model import ClassModel, Shrinkage, class_means, class_model
from mmn_jax.types import Normalised

Variables = dict[str, Any]  # like Flax's: 'params' are trained, every other collection is state
HALF = Shrinkage(0.5, 0.5)


class RegressorSpec(NamedTuple):
    """The arguments of `Regressor.init`.

    dim: p = d + 1, the length of a row. first: the lowest level that is trained so far.
    """

    dim: int
    first: int


class Context(NamedTuple):
    """What a regressor may use beside the rows.

    model: the Gaussian model of the classes. head: which head each of the R rows belongs to. means: the mean of the examples that each row
    was fitted to. Model and means are of normalised features; whitened weights of rows are `theta[:, :-1] @ model.inverse.T`, and
    `whitened @ model.basis.T` takes them back. The paper's chain uses neither and gets None for both. In `fit_metamodelnet` means are None,
    as banks don't keep them; on mixed-shot episodes (`contrib/mixed_shot.py`) and at transfer they are there.
    """

    model: ClassModel | None
    head: Int[Array, " R"]
    means: Float[Array, "R d"] | None = None


class Regressor(NamedTuple):
    """A pair of pure functions, like an optax transformation.

    init(key, spec) returns Flax-style variables: 'params' are trained, every other collection is state. Training goes from the last level
    of the ladder to the first; at each, leaves that init also returns for the level after it keep their trained values, so a regressor
    that learns something for each level has to name it by its level.

    apply(variables, theta, shots, context, train) returns the moved rows and the variables, with their state updated if train is true. It
    is traced by jit, grad and, when held-out classes are evaluated, vmap. It has no key: it must be deterministic.

    theta [R, p] are the R rows of one call, of normalised features, in units of the root mean square entry of θ*; shots [R] are the
    training examples behind each row. A head's rows sum to nearly 0 over its classes. One call holds

        in training     a k-shot head of every bank, without the rows of held-out classes
        in evaluation   the same with all classes of each bank
        at transfer     the long-tailed head alone, every row with its own shots

    so R differs from call to call, and a regressor that compares rows has to keep to those of one head:
    `context.head[:, None] == context.head`. Banks that aren't in training yet (k < 2^i) have rows with 0 shots: what becomes of these is
    ignored, and they must not count in any statistics.
    """

    init: Callable[[Array, RegressorSpec], Variables]
    apply: Callable[[Variables, Array, Array, Context, bool], tuple[Array, Variables]]


def split_unit(variables: Variables) -> tuple[Variables, np.float32]:
    """Separates a trained regressor's own variables from 'unit', by which rows are divided before it moves them (1 if there is none)."""
    return {name: value for name, value in variables.items() if name != "unit"}, np.float32(variables.get("unit", 1.0))


def make_context(train: Normalised, shrinkage: Shrinkage = HALF) -> Context:
    """Makes the Context of a head fitted to a training set with normalised features: the model of its classes, and their means."""
    counts = np.bincount(train.y)
    model = jax.tree.map(lambda array: jnp.asarray(array, jnp.float32), class_model(train, shrinkage))
    means = jnp.asarray(class_means(*train, len(counts)), jnp.float32)
    return Context(model, jnp.zeros(len(counts), jnp.int32), means)


def rows_and_model(train: Normalised) -> Context:
    """Makes the Context of k-shot heads: the model of the classes; the means behind their rows aren't kept."""
    return make_context(train)._replace(means=None)


def rows_alone(train: Normalised) -> Context:
    """Makes the Context of a regressor that uses rows alone, such as the paper's chain."""
    return Context(None, jnp.zeros(int(train.y.max()) + 1, jnp.int32))


def check(regressor: Any, spec: RegressorSpec, shots: Int[np.ndarray, " C"], context: Context) -> None:
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
    moved, after = returned[1]
    if _entries(after) != _entries(returned[0]):
        raise BadInput(f"{must} apply returns the variables with the entries that init gave them")
    if moved.shape != rows.shape or moved.dtype != rows.dtype:
        raise BadInput(f"{must} apply returns rows {rows.shape} of {rows.dtype}, it returns {moved.shape} of {moved.dtype}")


def _entries(variables: Variables) -> list[Any]:
    """Returns the paths of all leaves."""
    return [path for path, _ in jax.tree_util.tree_leaves_with_path(variables)]


def _is_variables(given: Any) -> bool:
    return isinstance(given, dict) and "params" in given


def entry_level(shots: Int[AnyArray, " C"], ladder: tuple[int, ...]) -> Int[Array, " C"]:
    """Returns the level at which each class enters: the last one whose k it reaches, which is ⌊log2 n_c⌋ up to N on the full ladder."""
    level = jnp.searchsorted(jnp.asarray(ladder), shots, side="right") - 1
    return jnp.clip(level, 0, len(ladder) - 1)


def average(regressors: Sequence[Regressor]) -> Regressor:
    """Returns the regressor that moves rows to the mean of where several regressors move them; all are trained together."""

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
