"""Banks of k-shot heads by other solvers for JAX under vmap, for `bank.py`: optax's L-BFGS, and optimistix's, if it is installed.

Both minimise the objective of the bank from zeros, for centred features, in batches of the size that suits them best.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from cases import Case, subset
from jax.flatten_util import ravel_pytree

from mmn_jax.types import Normalised

MAX_STEPS = 1000
BATCHES = (4, 16, 64)
TOLERANCES = 10.0 ** -np.arange(3, 8.5, 0.5)  # of optimistix, which stops where steps are small, not where the gradient is


def _loss(theta, x, y, ridge):
    logits = jnp.matmul(x, theta[:, :-1].T, precision="highest") + theta[:, -1]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean() + ridge / (2 * len(y)) * (theta[:, :-1] ** 2).sum()


def _by_optax(wanted: float) -> Callable:
    """Returns optax's L-BFGS with its zoom line search, stopped at the gradient norm wanted."""
    solver = optax.lbfgs()

    def solve(theta, *data):
        def loss(theta):
            return _loss(theta, *data)

        value_and_gradient = optax.value_and_grad_from_state(loss)

        def go_on(state):
            steps, gradient = optax.tree.get(state[1], "count"), optax.tree.get(state[1], "grad")
            return (steps == 0) | ((steps < MAX_STEPS) & (jnp.linalg.norm(gradient) > wanted))

        def step(state):
            theta, memory = state
            value, gradient = value_and_gradient(theta, state=memory)
            change, memory = solver.update(gradient, memory, theta, value=value, grad=gradient, value_fn=loss)
            return optax.apply_updates(theta, change), memory

        return jax.lax.while_loop(go_on, step, (theta, solver.init(theta)))[0]

    return solve


def _by_optimistix(tol: float) -> Callable:
    """Returns optimistix's L-BFGS at these tolerances."""
    import optimistix

    def solve(theta, *data):
        flat, shaped = ravel_pytree(theta)
        solver = optimistix.LBFGS(rtol=tol, atol=tol)
        found = optimistix.minimise(lambda flat, data: _loss(shaped(flat), *data), solver, flat, data, max_steps=MAX_STEPS, throw=False)
        return shaped(found.value)

    return solve


def _heads_per_second(solve: Callable, case: Case, train: Normalised, ridge: float, seconds: float) -> tuple[float, float]:
    """Returns heads a second in the best batch, and the largest gradient norm."""

    @jax.jit
    def batch(x, y):
        def one(x):
            theta = solve(jnp.zeros((case.classes, x.shape[1] + 1)), x, y, ridge)
            return jnp.linalg.norm(jax.grad(_loss)(theta, x, y, ridge))

        return jax.vmap(one)(x)

    def run(size, rng):
        drawn = [subset(rng, case, train) for _ in range(size)]
        x = np.stack([x - x.mean(0) for x, _ in drawn])
        began = time.perf_counter()
        norm = float(batch(x, drawn[0][1]).max())
        return time.perf_counter() - began, norm

    best, largest = 0.0, 0.0
    for size in BATCHES:
        rng = np.random.default_rng(1)
        run(size, rng)  # compiles
        spent, heads = 0.0, 0
        while spent < seconds / len(BATCHES):
            took, norm = run(size, rng)
            spent, heads, largest = spent + took, heads + size, max(largest, norm)
        best = max(best, heads / spent)
    return best, largest


def by_optax(case: Case, train: Normalised, ridge: float, wanted: float, seconds: float) -> float:
    """Measures heads per second of optax's L-BFGS."""
    return _heads_per_second(_by_optax(wanted), case, train, ridge, seconds)[0]


def by_optimistix(case: Case, train: Normalised, ridge: float, wanted: float, seconds: float) -> float:
    """Measures heads per second of optimistix's L-BFGS at the loosest tolerance that reaches the gradient norm; NaN where none does."""
    for tol in TOLERANCES:
        found, norm = _heads_per_second(_by_optimistix(float(tol)), case, train, ridge, seconds / 4)
        if norm <= wanted:
            return found
    return float("nan")
