"""The contract of a method: what it learns from a training set, and how its hyperparameters are chosen.

A `Method` is a pair of pure functions: fit(task, setting) learns arrays from a `Task`, logits(arrays, x) scores normalised features. Nearly
all methods are one linear head {"theta": [C, p]}.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mmn_jax.linear.rows import predict_logits
from mmn_jax.methods.folds import Fold, Tasks
from mmn_jax.methods.progress import Tell
from mmn_jax.methods.tasks import Head, Task
from mmn_jax.methods.tuning import Axis, Setting
from mmn_jax.types import Knowledge

Arrays = dict[str, Any]  # by name, of the shapes that a method gives them


class Fitted(NamedTuple):
    """The result of a fit: the arrays that `logits` needs, the gradient norm of the head they come from (0 for a closed form), and whether
    its solver converged."""

    arrays: Arrays
    gradient_norm: float = 0.0
    converged: bool = True


def linear(theta: Float[np.ndarray, "C p"], head: Head | Fitted | None = None) -> Fitted:
    """Returns rows as the result of a method that is one linear head.

    Args:
      theta: the rows.
      head: what they were computed from, whose end is reported; None for a closed form.
    """
    arrays = {"theta": theta.astype(np.float32)}
    return Fitted(arrays) if head is None else Fitted(arrays, head.gradient_norm, head.converged)


def linear_logits(arrays: Arrays, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n C"]:
    """Returns the logits of a linear head."""
    return predict_logits(arrays["theta"], x)


class Record(NamedTuple):
    """How a method's setting was chosen.

    setting: the chosen one. val_accuracy: its mean per-class accuracy on validation examples, in percent. temperature: divides its scores
    to calibrate them on these examples. trials: every setting that was tried, with its val_accuracy. gradient_norm: of the final head.
    at_edge: hyperparameters whose chosen value is the first or last of its grid. converged: whether the final head's solver did.
    """

    setting: Setting
    val_accuracy: float
    temperature: float
    trials: list[dict[str, Any]]
    gradient_norm: float
    at_edge: list[str]
    converged: bool = True


class Tuned(NamedTuple):
    """A method's arrays, fitted to all training examples, and how its setting was chosen."""

    arrays: Arrays
    record: Record


class Method(NamedTuple):
    """A method of classification: a pair of pure functions, and how its hyperparameters are chosen.

    kind: "paper" (its baselines and its method), "rival", "ours", or "rival_informed", a rival that gets what `needs` says. axes: the
    hyperparameters, in the order in which they are searched. fit(task, setting) learns arrays from a Task. logits(arrays, x) scores
    normalised features. choose(method, tasks, folds, whole, budget, tell) chooses a setting and fits it; None for `choosing.by_search`.
    needs: the fields of `Knowledge` without which it can't be fitted. same_space: whether its descriptions must lie in the space of the
    features.
    """

    kind: str
    axes: tuple[Axis, ...]
    fit: Callable[[Task, Setting], Fitted]
    logits: Callable[[Arrays, np.ndarray], np.ndarray] = linear_logits
    choose: Callable[["Method", Tasks, Sequence[Fold], Fold, int, Tell], Tuned] | None = None
    needs: frozenset[str] = frozenset()
    same_space: bool = False

    def missing(self, knowledge: Knowledge) -> list[str]:
        """Returns the fields that the method needs and that aren't known."""
        return [name for name in sorted(self.needs) if getattr(knowledge, name) is None]

    def applies(self, knowledge: Knowledge) -> bool:
        """Returns whether everything that the method needs is known."""
        return not self.missing(knowledge)

    def misfit(self, knowledge: Knowledge) -> tuple[str, bool] | None:
        """Returns the first field that is known and not used, or needed and not known, and whether it is known; None if there is none."""
        known = {name: value is not None for name, value in knowledge._asdict().items()}
        return next(((name, there) for name, there in known.items() if there != (name in self.needs)), None)
