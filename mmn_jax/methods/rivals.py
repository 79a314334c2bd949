"""The rivals: later methods that MetaModelNet is compared with, as `Method`s (`contract.py`), each with its source.

Nearly all end in one linear head, solved by `linear/solve.py`. To add one, write its function and a line in `methods`.
"""

import warnings
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.optimize import minimize

from mmn_jax.linear import weighting
from mmn_jax.linear.class_model import class_means
from mmn_jax.linear.coordinates import is_wide, span_basis
from mmn_jax.linear.rows import centred, log_prior, predict_logits, subtract_log_prior, unit
from mmn_jax.linear.weighting import Weighting
from mmn_jax.machine import one_thread
from mmn_jax.methods.contract import Arrays, Fitted, Method, linear
from mmn_jax.methods.head_methods import SCALING, by_factor, by_step, head_axes, scaling, solved, tau_axis
from mmn_jax.methods.tasks import Head, Task, unscaled
from mmn_jax.methods.tuning import Axis, Setting

TARGET_FLOATS = 2**26  # of the one-hot targets that are in memory at once


def _plain_head(task: Task, setting: Setting) -> Head:
    return task.head(weighting.plain, setting["l2"], scaling(setting))


def logit_adjustment(task: Task, setting: Setting) -> Fitted:
    """Fits a plain head and adjusts its logits, b − τ log π (Menon et al. 2021, equation 9)."""
    head = _plain_head(task, setting)
    return linear(subtract_log_prior(head.theta, setting["tau"], task.counts), head)


def tau_norm(task: Task, setting: Setting) -> Fitted:
    """Fits a plain head and divides its rows, centred over classes, by ‖w_c‖^τ (τ-normalisation; Kang et al. 2020, equation 4).

    The authors drop the biases. To divide them too is stronger where they are solved to convergence, so both are tried.
    """
    head = _plain_head(task, setting)
    theta = centred(head.theta)
    norm = np.maximum(np.linalg.norm(theta[:, :-1], axis=1, keepdims=True), 1e-12)
    kept = np.append(np.ones(theta.shape[1] - 1), float(setting["bias"]))
    return linear(theta * kept / norm ** setting["tau"], head)


def max_norm(task: Task, setting: Setting) -> Fitted:
    """Fits a class-balanced head and projects its rows onto ‖w_c‖ ≤ r, where r is a quantile of their norms (MaxNorm; Alshammari et al.
    2022, equation 5).

    The other half of their weight balancing, tuned weight decay, is the ridge, which every method here tunes.
    """
    head = task.head(weighting.cost_sensitive, setting["l2"], scaling(setting))
    theta = centred(head.theta)
    norm = np.linalg.norm(theta[:, :-1], axis=1, keepdims=True)
    shrink = np.minimum(1.0, np.quantile(norm, setting["quantile"]) / np.maximum(norm, 1e-12))
    return linear(np.concatenate([theta[:, :-1] * shrink, theta[:, -1:]], 1), head)


def _balanced_cross_entropy(
    scale: Float[Array, " C"], scores: Float[Array, "n C"], y: Int[Array, " n"], weight: Float[Array, " n"], ridge: Float[Array, ""]
) -> Float[Array, ""]:
    """Computes the weighted cross-entropy of scaled scores, with a ridge on scale − 1."""
    log_probs = jax.nn.log_softmax(scores * scale, axis=1)
    return -(weight * jnp.take_along_axis(log_probs, y[:, None], 1)[:, 0]).sum() + 0.5 * ridge * jnp.mean((scale - 1) ** 2)


_scale_loss = jax.jit(jax.value_and_grad(_balanced_cross_entropy))


def lws(task: Task, setting: Setting) -> Fitted:
    """Fits a plain head, then factors f of its rows, f_c · (w_c x + b_c), on class-balanced examples (learnable weight scaling; Kang et al.
    2020, section 4.2).

    A ridge on f − 1 takes the place of the authors' early stopping after a few epochs.
    """
    head = _plain_head(task, setting)
    y, classes = task.train.y, len(task.counts)
    weight = (1 / task.counts[y] / classes).astype(np.float32)
    fixed = jax.device_put((predict_logits(head.theta, task.train.x), y, weight, np.float32(setting["scale_ridge"])))

    def loss(scale):
        value, slope = _scale_loss(jnp.asarray(scale, jnp.float32), *fixed)
        return float(value), np.asarray(slope, np.float64)

    solved = minimize(loss, np.ones(classes), jac=True, method="L-BFGS-B", options={"maxiter": 500, "gtol": 1e-6})
    if solved.status == 1:  # out of iterations; where it stops short of the tolerance for another reason, float32 is exhausted
        warnings.warn(f"lws: the scales of its rows did not converge ({solved.message})", stacklevel=2)
    return linear(head.theta * solved.x[:, None], head)


def crt(task: Task, setting: Setting) -> Fitted:
    """Fits a plain head and retrains it on class-balanced examples (classifier retraining; Kang et al. 2020, section 4.2).

    The authors retrain for a few epochs; here a ridge on the distance to the plain head takes the place of their number. Re-initialised and
    trained to convergence, as in their other variant, the head would be the cost-sensitive one, since features are frozen.
    """
    first = task.head(weighting.plain, setting["start_l2"], unscaled)
    scores = predict_logits(first.theta, task.train.x)

    def draw(key, y, counts):
        return Weighting(weighting.cost_sensitive(key, y, counts).weight, scores)

    head = task.head(draw, setting["l2"], scaling(setting))
    return linear(first.theta + head.theta, head)


def _metric(task: Task, setting: Setting) -> Float[np.ndarray, " d"]:
    """Returns what features are multiplied by."""
    return task.metric(scaling(setting))


def _folded(w: Float[np.ndarray, "C d"], b: Float[np.ndarray, " C"], metric: Float[np.ndarray, " d"]) -> Fitted:
    """Returns the closed-form head of scaled features as one of unscaled features."""
    return linear(np.concatenate([w * metric, b[:, None]], 1))


def ncm(task: Task, setting: Setting) -> Fitted:
    """Computes the head of the nearest class mean, by cosine, w = m_c / ‖m_c‖, or Euclidean distance, w = m_c and b = −½‖m_c‖² (Mensink et
    al. 2013; Kang et al. 2020)."""
    metric = _metric(task, setting)
    means = class_means(task.train.x * metric, task.train.y, len(task.counts))
    if setting["cosine"]:
        w, b = unit(means), np.zeros(len(means))
    else:
        w, b = means, -0.5 * (means**2).sum(1)
    return _folded(w, b, metric)


def ridge(task: Task, setting: Setting) -> Fitted:
    """Solves ridge regression to one-hot targets, where an example of class c has weight n_c^−balance (Hoerl & Kennard 1970)."""
    from sklearn.linear_model import Ridge  # slow to import

    metric, y = _metric(task, setting), task.train.y
    weight = task.counts[y] ** -setting["balance"]
    model, x = Ridge(alpha=setting["l2"] * weight.sum(), solver="cholesky"), (task.train.x * metric).astype(float)
    w, b = [], []
    for targets in _one_hot(y, len(task.counts)):
        model.fit(x, targets, weight)
        w.append(np.atleast_2d(model.coef_))
        b.append(np.atleast_1d(model.intercept_))
    return _folded(np.concatenate(w), np.concatenate(b), metric)


def _one_hot(y: Int[np.ndarray, " n"], classes: int) -> Iterator[Float[np.ndarray, "n _"]]:
    """Yields one-hot targets for as many classes at once as TARGET_FLOATS allows."""
    size = max(1, TARGET_FLOATS // len(y))
    return ((y[:, None] == np.arange(classes)[first : first + size]).astype(float) for first in range(0, classes, size))


def lda(task: Task, setting: Setting) -> Fitted:
    """Computes linear discriminant analysis, its pooled covariance shrunk towards a multiple of the identity (Hastie et al. 2009, section
    4.3), and adjusts its logits, b − τ log π.

    Where no class has two different examples, there is no covariance, and it is the nearest class mean.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # slow to import

    metric, classes = _metric(task, setting), len(task.counts)
    if len(task.train.y) <= classes or np.trace(task.statistics().within) < 1e-9:  # of features at unit mean square norm
        return ncm(task, setting | {"cosine": False})
    x = (task.train.x * metric).astype(float)
    span = span_basis(x) if is_wide(x) else None
    x, (shrinkage, scale) = (x, (setting["shrinkage"], 1.0)) if span is None else (x @ span, _in_fewer(setting["shrinkage"], *span.shape))
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=task.counts / task.counts.sum())
    with warnings.catch_warnings(), one_thread(x.shape[1]):
        warnings.filterwarnings("ignore", "Only one sample available")  # such a class adds nothing to the covariance, which is right
        model.fit(x, task.train.y)
    prior = log_prior(task.counts) if classes > 2 else np.diff(log_prior(task.counts))
    w, b = scale * model.coef_, scale * (model.intercept_ - prior) + prior
    if classes == 2:  # scikit-learn gives the difference alone
        w, b = np.concatenate([-w / 2, w / 2]), np.concatenate([-b / 2, b / 2])
    return _folded(w if span is None else w @ span.T, b - setting["tau"] * log_prior(task.counts), metric)


def _in_fewer(shrinkage: float, dim: int, rank: int) -> tuple[float, float]:
    """Returns the shrinkage s′ in the `rank` dimensions of the features' span that is equivalent to s in all `dim`, and the factor c of
    rows: (1 − s′) A + s′ tr(A)/rank I = c ((1 − s) A + s tr(A)/dim I)."""
    ratio = shrinkage / (1 - shrinkage) * rank / dim
    return ratio / (1 + ratio), 1 / ((1 + ratio) * (1 - shrinkage))


def knn(task: Task, setting: Setting) -> Fitted:
    """Stores what classification by the k nearest neighbours needs, where a vote for class c has weight n_c^−τ (Cover & Hart 1967)."""
    metric = _metric(task, setting)
    x = task.train.x * metric
    if setting["cosine"]:
        x = unit(x)
    arrays = {"x": x, "y": task.train.y, "metric": metric, "vote": task.counts ** -float(setting["tau"])}
    return Fitted(arrays | {"neighbours": np.array(min(setting["neighbours"], len(x))), "cosine": np.array(setting["cosine"])})


def knn_logits(arrays: Arrays, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n C"]:
    """Returns the logarithms of the smoothed shares of votes; classes without a vote have the smallest."""
    from sklearn.neighbors import KNeighborsClassifier  # slow to import

    x = x * arrays["metric"]
    model = KNeighborsClassifier(int(arrays["neighbours"]), algorithm="brute").fit(arrays["x"], arrays["y"])
    votes = model.predict_proba(unit(x) if arrays["cosine"] else x) * arrays["vote"]
    return np.log(votes / votes.sum(1, keepdims=True) + 1e-6)


def _beta_between(a: float, b: float) -> float | None:
    between = by_factor(1 - a, 1 - b)
    return between and 1 - between


def methods(grid: tuple[float, ...]) -> dict[str, Method]:
    """Returns the rivals by name, their ridges searched over `grid`."""
    axes = head_axes(grid)
    cosine = Axis("cosine", (True, False), True)
    beta = Axis("beta", (0.9, 0.99, 0.999, 0.9999), 0.99, _beta_between)
    quantile = Axis("quantile", (1.0, 0.75, 0.5, 0.25, 0.0), 0.5, by_step)
    scale_ridge = Axis("scale_ridge", (1.0, 0.1, 0.01, 0.001), 0.1, by_factor)
    balance = Axis("balance", (0.0, 0.5, 1.0), 1.0, by_step)
    shrinkage = Axis("shrinkage", (0.99, 0.9, 0.5, 0.2, 0.1, 0.01), 0.2, by_factor)
    neighbours = Axis("neighbours", (1, 3, 5, 10, 20, 50), 10)

    return {
        "logit_adjustment": Method("rival", (*axes, tau_axis(0.5, 0.75, 1.0, 1.25, 1.5, 2.0)), logit_adjustment),
        "logit_adjusted_loss": Method("rival", (*axes, tau_axis(0.5, 1.0, 1.5, 2.0)), solved(weighting.logit_adjusted, "tau")),
        "balanced_softmax": Method("rival", axes, solved(lambda: weighting.logit_adjusted(1.0))),
        "effective_number": Method("rival", (*axes, beta), solved(weighting.effective_number, "beta")),
        "square_root_sampling": Method("rival", axes, solved(lambda: weighting.inverse_frequency(0.5))),
        "tau_norm": Method("rival", (*axes, tau_axis(0.25, 0.5, 0.75, 1.0, start=0.5), Axis("bias", (True, False), True)), tau_norm),
        "max_norm": Method("rival", (*axes, quantile), max_norm),
        "lws": Method("rival", (*axes, scale_ridge), lws),
        "crt": Method("rival", (*axes, Axis("start_l2", (1e-4, 1e-6, 1e-8), 1e-6)), crt),
        "ncm": Method("rival", (cosine, SCALING), ncm),
        "ridge": Method("rival", (*axes, balance), ridge),
        "lda": Method("rival", (shrinkage, tau_axis(0.0, 0.5, 1.0, 1.5, 2.0), SCALING), lda),
        "knn": Method("rival", (neighbours, tau_axis(0.0, 0.5, 1.0), cosine, SCALING), knn, knn_logits),
    }
