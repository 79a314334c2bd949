"""The paper's method from arrays to transferred rows, then with a regressor of one's own: python examples/metamodelnet.py"""

import jax
import jax.numpy as jnp
import numpy as np

import mmn_jax

# A long-tailed training set of frozen features, here the glyphs that come with the package; yours are x [n, d] and y [n] from 0.
full = mmn_jax.data.glyphs.load()
part = mmn_jax.data.long_tail_split(full, seed=0, imbalance=100, max_per_class=200)
train, val, test, counts = mmn_jax.data.take(full, part)
normalise = mmn_jax.normalisation(train)
(x, y), key = normalise.of(train), jax.random.key(0)

# One bank of k-shot heads for each k = 1, 2, 4, ..: S heads on k examples a class, and θ* on everything these classes have.
ladder = mmn_jax.shot_ladder(counts)
banks = [mmn_jax.fit_bank(key, x, y, k) for k in ladder]

# The chain learns on the banks how rows move as examples grow.
chain = mmn_jax.residual_chain(ladder, width=32)
variables, reports = mmn_jax.fit_metamodelnet(key, banks, x, y, chain, mmn_jax.Hyper(task_weight=1.0))

# The head of the long-tailed set, under the ridge of the banks; its rows enter the chain at their own shot counts.
problem = mmn_jax.HeadProblem(x, y, np.ones(len(y), np.float32), np.zeros(len(counts), np.float32), np.float32(1e-6))
theta, info = jax.jit(mmn_jax.fit_head)(problem, jnp.zeros((len(counts), x.shape[1] + 1)))
context = mmn_jax.make_context(mmn_jax.Normalised(x, y))
moved = mmn_jax.transfer_rows(chain, variables, np.asarray(theta), counts, context, keep_from=2 * ladder[-1])


def accuracy(rows):
    """Mean per-class accuracy on the test set, in percent."""
    return mmn_jax.metrics.mean_class_accuracy(mmn_jax.predict_logits(rows, normalise(test.x)), test.y)


print(f"plain {accuracy(theta):.1f}, MetaModelNet {accuracy(moved):.1f}, converged: {bool(info.converged)}")


def pull(ladder):
    """A regressor of one's own: every row goes towards the mean of the rows by a share that depends on its shots."""

    def init(key, spec):
        return {"params": {"share": jnp.zeros(len(ladder)), "bias": jnp.zeros(len(ladder))}}

    def apply(variables, theta, shots, context, train):
        level, params = mmn_jax.entry_level(shots, ladder), variables["params"]
        moved = theta + params["share"][level, None] * (theta.mean(0) - theta)
        return moved.at[:, -1].add(params["bias"][level]), variables

    return mmn_jax.Regressor(init, apply)


own = pull(ladder)
variables, _ = mmn_jax.fit_metamodelnet(key, banks, x, y, own, mmn_jax.Hyper(task_weight=1.0, rate=1e-2))
moved = mmn_jax.transfer_rows(own, variables, np.asarray(theta), counts, context)
print(f"a regressor of one's own {accuracy(moved):.1f}")
