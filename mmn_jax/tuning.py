"""How a head's free knobs are chosen: on validation examples, from a grid that is the same for every method.

The ridge ℓ goes down its grid from strong to weak, each fit starting from the one before.
Then the other feature scaling is tried at the best ℓ and its neighbours. A scaling is a
diagonal metric m on the ridge: the head is fitted on x · m and folded back, θ_W · m, so that
every head lives in the same coordinates.
"""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmn_jax.evaluate import mean_class_accuracy, predict_logits
from mmn_jax.heads import HeadInfo, HeadProblem, fit_one, pad_examples
from mmn_jax.types import BadInput, Examples
from mmn_jax.weighting import Weighting


class Normalisation(NamedTuple):
    """x̂ = (x − mean) · scale: training features centred, at unit mean square norm."""

    mean: np.ndarray
    scale: np.float32

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return ((x - self.mean) * self.scale).astype(np.float32)


class Trial(NamedTuple):
    """One setting and what it gave: the ridge, whether features were standardised, validation accuracy in percent, solver's norm."""

    l2: float
    standardised: bool
    val_accuracy: float
    gradient_norm: float


class TunedHead(NamedTuple):
    """theta: [C, d+1] rows of the chosen setting; trials: all settings in the order tried."""

    theta: np.ndarray
    chosen: Trial
    trials: tuple[Trial, ...]


def normalisation(x: np.ndarray) -> Normalisation:
    """The normalisation of training features x [n, d].

    Raises:
      BadInput: all examples are the same point.
    """
    mean = x.mean(0, dtype=np.float64)
    square = ((x - mean) ** 2).sum(1).mean()
    if not square > 0:
        raise BadInput("train_x: every example is the same point, there is nothing to learn from")
    return Normalisation(mean.astype(np.float32), np.float32(1 / np.sqrt(square)))


def standard_metric(x: np.ndarray) -> np.ndarray:
    """[d] factors that give every dimension of centred x [n, d] the same variance, at unit mean square norm; constant ones keep 1."""
    spread = x.std(0)
    usable = spread > 1e-6 * spread.max()
    return np.where(usable, 1 / (np.where(usable, spread, 1.0) * np.sqrt(usable.sum())), 1.0).astype(np.float32)


def fit_weighted(
    train: Examples, weighting: Weighting, l2: float, theta: np.ndarray, tol: float, metric: np.ndarray | float = 1.0
) -> tuple[np.ndarray, HeadInfo]:
    """One head of normalised examples; those of weight 0 are left out. theta [C, d+1] is where the solver starts."""
    used = weighting.weight > 0
    problem = HeadProblem(train.x[used] * metric, train.y[used], weighting.weight[used], weighting.offset, np.float32(l2))
    columns = np.append(np.broadcast_to(metric, train.x.shape[1]), 1.0).astype(np.float32)
    fitted, info = fit_one(pad_examples(problem), jnp.asarray(theta / columns), tol)
    return np.asarray(fitted) * columns, jax.device_get(info)


def better(new: Trial, old: Trial | None) -> bool:
    """Whether a trial beats the best so far; a tie goes to the one tried first, the simpler."""
    return old is None or new.val_accuracy > old.val_accuracy + 1e-9


def tune_head(train: Examples, val: Examples, weighting: Weighting, grid: Iterable[float], tol: float, final_tol: float) -> TunedHead:
    """Chooses ridge and scaling on normalised examples by mean per-class accuracy on val, then solves the choice to final_tol."""
    grid = sorted(grid, reverse=True)
    standard = standard_metric(train.x)
    zeros = np.zeros((len(weighting.offset), train.x.shape[1] + 1), np.float32)
    trials, best, best_theta = [], None, zeros

    def descend(strengths, standardised, theta):
        nonlocal best, best_theta
        for l2 in strengths:
            theta, info = fit_weighted(train, weighting, l2, theta, tol, standard if standardised else 1.0)
            accuracy = mean_class_accuracy(predict_logits(theta, val.x), val.y)
            trials.append(Trial(float(l2), standardised, accuracy, float(info.gradient_norm)))
            if better(trials[-1], best):
                best, best_theta = trials[-1], theta

    descend(grid, False, zeros)
    near = grid.index(best.l2)
    descend(grid[max(near - 1, 0) : near + 2], True, best_theta)
    theta, info = fit_weighted(train, weighting, best.l2, best_theta, final_tol, standard if best.standardised else 1.0)
    final = mean_class_accuracy(predict_logits(theta, val.x), val.y)
    return TunedHead(theta, best._replace(val_accuracy=final, gradient_norm=float(info.gradient_norm)), tuple(trials))
