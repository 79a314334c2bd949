"""The convex solver: one linear softmax head, fitted to a stated gradient norm.

    minimise over W, b:  Σ_j ω_j · CE(W x_j + b + a_j, y_j) / Σ_j ω_j  +  (ℓ/2) ‖W‖²

Every way of training a head in this project is this problem with other weights
ω and offsets a (`weighting.py`). `fit_head` solves one problem; callers vmap it.

The method is truncated Newton. b is free, so features are centred without
changing the problem; they are then rotated into the eigenbasis of their own
covariance, which has min(n, d) coordinates that matter: with fewer examples
than dimensions all the work happens in sample space. Conjugate gradients
solve each Newton system, preconditioned by the Hessian's own per-class blocks.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

HIGHEST = lax.Precision.HIGHEST  # the optimum must not depend on bf16 or TF32


class HeadProblem(NamedTuple):
    """One weighted, offset softmax regression.

    x: [n, d] features. y: [n] int labels. weight: [n] example weights ω ≥ 0, a
    padded example has 0. offset: [C] or [n, C] added to the logits in training.
    l2: the strength ℓ of the ridge on W, for the mean loss.
    """

    x: jax.Array
    y: jax.Array
    weight: jax.Array
    offset: jax.Array
    l2: jax.Array


def pad_examples(problem: HeadProblem, multiple: int = 512) -> HeadProblem:
    """The same problem with examples of weight 0 added up to a multiple, so that similar sizes share one compiled program."""
    n = len(problem.y)
    extra = -n % multiple

    def pad(array):
        return jnp.pad(jnp.asarray(array), [(0, extra)] + [(0, 0)] * (array.ndim - 1))

    offset = pad(problem.offset) if problem.offset.ndim == 2 else jnp.asarray(problem.offset)
    return HeadProblem(pad(problem.x), pad(problem.y), pad(problem.weight), offset, jnp.asarray(problem.l2, jnp.float32))


class HeadInfo(NamedTuple):
    """How a solve ended: gradient norm (features centred, as b is free) and objective at the result, Newton steps, Hessian products."""

    gradient_norm: jax.Array
    objective: jax.Array
    steps: jax.Array
    products: jax.Array


class _Frame(NamedTuple):
    """The problem in the eigenbasis: z = [(x - mean) basis, 1], weights summing to 1."""

    z: jax.Array
    mean: jax.Array
    basis: jax.Array
    weight: jax.Array
    ridge: jax.Array


class _Point(NamedTuple):
    """An iterate: coefficients v [C, r+1], logits [n, C], probabilities and the gradient."""

    v: jax.Array
    logits: jax.Array
    probs: jax.Array
    gradient: jax.Array


def _mm(a, b):
    return jnp.matmul(a, b, precision=HIGHEST)


def _eigenbasis(x, weight):
    """Orthonormal [d, r] eigenvectors of the weighted covariance of centred x [n, d], r = min(n, d)."""
    n, d = x.shape
    scaled = x * jnp.sqrt(weight)[:, None]
    if n >= d:
        return jnp.linalg.eigh(_mm(scaled.T, scaled))[1]
    values, vectors = jnp.linalg.eigh(_mm(scaled, scaled.T))
    keep = values > values[-1] * 1e-6  # directions the examples do not span get no column
    basis = jnp.where(keep, _mm(scaled.T, vectors) / jnp.sqrt(jnp.where(keep, values, 1.0)), 0.0)
    for _ in range(2):  # Newton–Schulz: float32 leaves columns of small eigenvalues up to 6% from orthonormal
        basis = 1.5 * basis - 0.5 * _mm(basis, _mm(basis.T, basis))
    return basis


def _frame(problem):
    weight = problem.weight / problem.weight.sum()
    mean = _mm(weight, problem.x)
    centred = problem.x - mean
    basis = _eigenbasis(centred, weight)
    ones = jnp.ones((len(centred), 1), centred.dtype)
    ridge = jnp.full(basis.shape[1] + 1, problem.l2, centred.dtype).at[-1].set(0.0)
    return _Frame(jnp.concatenate([_mm(centred, basis), ones], 1), mean, basis, weight, ridge)


def _into_frame(theta, frame):
    return jnp.concatenate([_mm(theta[:, :-1], frame.basis), (theta[:, -1] + _mm(theta[:, :-1], frame.mean))[:, None]], 1)


def _out_of_frame(v, frame):
    w = _mm(v[:, :-1], frame.basis.T)
    bias = v[:, -1] - _mm(w, frame.mean)
    return jnp.concatenate([w, (bias - bias.mean())[:, None]], 1)


def _point(problem, frame, v, logits):
    probs = jax.nn.softmax(logits + problem.offset, axis=1)
    residual = probs.at[jnp.arange(len(probs)), problem.y].add(-1.0)
    gradient = _mm((residual * frame.weight[:, None]).T, frame.z) + v * frame.ridge
    return _Point(v, logits, probs, gradient)


def _hessian_product(frame, probs, direction):
    u = _mm(frame.z, direction.T)
    pu = probs * u
    curved = pu - probs * pu.sum(1, keepdims=True)
    return _mm((curved * frame.weight[:, None]).T, frame.z) + direction * frame.ridge


BLOCK_LIMIT = 2**27  # floats in all per-class blocks of a problem; beyond it their diagonals have to do
BLOCK_EXAMPLES = 256  # examples of largest curvature that enter a block whole; the rest by their diagonal
STALE = 20  # Hessian products in one Newton step that call for fresh blocks
PATIENCE = 3 * STALE  # products that a step may take while diagonals are all there is


class _Preconditioner(NamedTuple):
    """Inverse diagonals [C, r+1] of the Hessian's per-class blocks; once `whole`, their inverse Cholesky factors [C, r+1, r+1]."""

    diagonal: jax.Array
    factors: jax.Array
    whole: jax.Array


def _curvature(frame, probs):
    """[C, n] curvature of each example for each class, the blocks' diagonals [C, r+1], and a floor against rounding."""
    curvature = (probs * (1.0 - probs) * frame.weight[:, None]).T
    diagonal = _mm(curvature, frame.z**2) + frame.ridge
    return curvature, diagonal, 1e-6 * diagonal.max(1, keepdims=True)


def _by_diagonal(frame, probs, blocks):
    """The preconditioner that costs next to nothing: enough for a problem that starts near its optimum."""
    _, diagonal, floor = _curvature(frame, probs)
    classes, width = diagonal.shape
    usable = blocks and classes * width * width <= BLOCK_LIMIT
    return _Preconditioner(
        1.0 / (diagonal + floor), jnp.zeros((classes, width, width) if usable else (0,), diagonal.dtype), jnp.array(False)
    )


def _by_block(frame, probs):
    """The preconditioner that saves products where they are many."""
    curvature, diagonal, floor = _curvature(frame, probs)
    heavy, index = lax.top_k(curvature, min(BLOCK_EXAMPLES, len(frame.z)))
    rows = frame.z[index] * jnp.sqrt(heavy)[..., None]  # [C, m, r+1]
    rest = jnp.maximum(diagonal - (rows**2).sum(1), frame.ridge) + floor
    block = jnp.einsum("cmi,cmj->cij", rows, rows, precision=HIGHEST) + jax.vmap(jnp.diag)(rest)
    identity = jnp.broadcast_to(jnp.eye(diagonal.shape[1], dtype=block.dtype), block.shape)
    factors = lax.linalg.triangular_solve(jnp.linalg.cholesky(block), identity, left_side=True, lower=True)
    return _Preconditioner(1.0 / (diagonal + floor), factors, jnp.array(True))


def _renewed(frame, probs, old, products):
    """The preconditioner for the next step, given how many products the last one took."""
    fresh = partial(_by_diagonal, frame, probs, False) if old.factors.ndim == 1 else partial(_by_block, frame, probs)
    return lax.cond(products > STALE, fresh, lambda: old)


def _precondition(preconditioner, r):
    if preconditioner.factors.ndim == 1:
        return preconditioner.diagonal * r

    def whole():
        half = jnp.einsum("cij,cj->ci", preconditioner.factors, r, precision=HIGHEST)
        return jnp.einsum("cji,cj->ci", preconditioner.factors, half, precision=HIGHEST)

    return lax.cond(preconditioner.whole, whole, lambda: preconditioner.diagonal * r)


def _newton_direction(frame, point, preconditioner, tolerance, limit):
    """Preconditioned conjugate gradients on H s = -g, down to a residual norm of `tolerance`."""

    def unfinished(state):
        _, r, _, rho, k = state
        return (jnp.linalg.norm(r) > tolerance) & (rho > 0) & (k < limit)

    def step(state):
        s, r, p, rho, k = state
        hp = _hessian_product(frame, point.probs, p)
        curvature = (p * hp).sum()
        usable = curvature > 0  # rounding can leave a direction without curvature: end there
        alpha = jnp.where(usable, rho / jnp.where(usable, curvature, 1.0), 0.0)
        r = r - alpha * hp
        q = _precondition(preconditioner, r)
        new = jnp.where(usable, (r * q).sum(), 0.0)
        return s + alpha * p, r, q + (new / rho) * p, new, k + 1

    r = -point.gradient
    q = _precondition(preconditioner, r)
    s, _, _, _, k = lax.while_loop(unfinished, step, (jnp.zeros_like(r), r, q, (r * q).sum(), 0))
    return s, k


def _line_search(problem, frame, point, s):
    """A step length by the derivative along s alone, which float32 still resolves where the objective has gone flat."""
    u = _mm(frame.z, s.T)
    quadratic = ((s * frame.ridge * point.v).sum(), (s * frame.ridge * s).sum())
    own = (u[jnp.arange(len(u)), problem.y] * frame.weight).sum()

    def slope(t):
        probs = jax.nn.softmax(point.logits + t * u + problem.offset, axis=1)
        return ((probs * u).sum(1) * frame.weight).sum() - own + quadratic[0] + t * quadratic[1]

    start = (point.gradient * s).sum()

    def overshot(state):
        _, value, k = state
        return (value > -0.1 * start) & (k < 30)

    def shrink(state):
        t, value, k = state
        t = t * jnp.clip(start / (start - value), 0.1, 0.9)
        return t, slope(t), k + 1

    one = jnp.ones((), u.dtype)
    t, _, _ = lax.while_loop(overshot, shrink, (one, slope(one), 0))
    return _point(problem, frame, point.v + t * s, point.logits + t * u)


def fit_head(
    problem: HeadProblem, theta: jax.Array, tol: float = 1e-6, *, blocks: bool = True, max_steps: int = 100, max_products: int = 500
) -> tuple[jax.Array, HeadInfo]:
    """Fits one head, starting from theta.

    Args:
      problem: the data of one `HeadProblem`.
      theta: [C, d+1] rows [W b] to start from; zeros will do.
      tol: the gradient norm, over [W b] and for the mean loss, to stop at.
      blocks: precondition with whole per-class blocks once a step takes many products, which suits one
        large problem; without, always with their diagonals, which suits a vmapped batch of small ones.
      max_steps: Newton steps at most; max_products: Hessian products at most in one.

    Returns:
      theta [C, d+1] with biases centred over classes (W is centred by ℓ > 0), and a
      `HeadInfo`, whose gradient_norm tells whether tol was reached.
    """
    frame = _frame(problem)
    v = _into_frame(theta, frame)
    first = _point(problem, frame, v, _mm(frame.z, v.T))
    cold = _point(problem, frame, jnp.zeros_like(v), jnp.zeros_like(first.logits))
    scale = jnp.linalg.norm(cold.gradient)

    def unfinished(state):
        point, _, steps, _, _ = state
        return (jnp.linalg.norm(point.gradient) > tol) & (steps < max_steps)

    def step(state):
        point, preconditioner, steps, products, last = state
        preconditioner = _renewed(frame, point.probs, preconditioner, last)
        norm = jnp.linalg.norm(point.gradient)
        tolerance = jnp.maximum(jnp.minimum(0.25, jnp.sqrt(norm / scale)) * norm, 0.5 * tol)
        limit = max_products if preconditioner.factors.ndim == 1 else jnp.where(preconditioner.whole, max_products, PATIENCE)
        s, k = _newton_direction(frame, point, preconditioner, tolerance, limit)
        return _line_search(problem, frame, point, s), preconditioner, steps + 1, products + k, k

    start = (first, _by_diagonal(frame, first.probs, blocks), 0, 0, 0)
    point, _, steps, products, _ = lax.while_loop(unfinished, step, start)
    log_probs = jax.nn.log_softmax(point.logits + problem.offset, axis=1)
    loss = -(frame.weight * log_probs[jnp.arange(len(log_probs)), problem.y]).sum()
    objective = loss + 0.5 * (frame.ridge * point.v**2).sum()
    return _out_of_frame(point.v, frame), HeadInfo(jnp.linalg.norm(point.gradient), objective, steps, products)


fit_one = jax.jit(fit_head)  # for callers with a single problem, so that they share its compiled programs
