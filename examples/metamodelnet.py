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
train, key = normalise.of(train), jax.random.key(0)

# One bank of k-shot heads for each k = 1, 2, 4, ..: S heads on k examples a class, and θ* on everything these classes have.
ladder = mmn_jax.shot_ladder(counts)
banks = [mmn_jax.fit_bank(key, *train, k) for k in ladder]

# The chain learns on the banks how rows move as examples grow.
chain = mmn_jax.residual_chain(ladder, width=32)
variables, reports = mmn_jax.fit_metamodelnet(key, banks, *train, chain, mmn_jax.Hyper(task_weight=1.0))

# The head of the long-tailed set under the banks' ridge, solved faster by way of stronger ones; its rows enter at their own shot counts.
theta, fit_head = jnp.zeros((len(counts), train.x.shape[1] + 1)), jax.jit(mmn_jax.fit_head)
for l2 in (1e-4, 1e-5, mmn_jax.defaults.BANK_L2):
    problem = mmn_jax.HeadProblem(*train, *mmn_jax.weighting.plain(key, train.y, counts), np.float32(l2))
    theta, info = fit_head(problem, theta)
theta, context, frequent = np.asarray(theta), mmn_jax.make_context(train), 2 * ladder[-1]
moved = mmn_jax.transfer_rows(chain, variables, theta, counts, context, keep_from=frequent)


def accuracy(rows):
    """Mean per-class accuracy on the test set, in percent."""
    return mmn_jax.metrics.mean_class_accuracy(mmn_jax.predict_logits(rows, normalise(test.x)), test.y)


print(f"plain {accuracy(theta):.1f}, MetaModelNet {accuracy(moved):.1f}, converged: {bool(info.converged)}")


def nearest(ladder, neighbours=5):
    """Every row moves along the line to the mean of its nearest rows, by a share for each level."""

    def init(key, spec):
        return {"params": {"share": jnp.zeros(len(ladder))}}

    def apply(variables, theta, shots, context, train):
        unit = theta[:, :-1] / jnp.linalg.norm(theta[:, :-1], axis=1, keepdims=True)
        usable = (context.head[:, None] == context.head) & ~jnp.eye(len(theta), dtype=bool)  # other rows of its own head
        _, index = jax.lax.top_k(jnp.where(usable, unit @ unit.T, -jnp.inf), neighbours)
        share = variables["params"]["share"][mmn_jax.entry_level(shots, ladder), None]
        return theta + share * (theta[index].mean(1) - theta), variables

    return mmn_jax.Regressor(init, apply)


variables, _ = mmn_jax.fit_metamodelnet(key, banks, *train, nearest(ladder), mmn_jax.Hyper(task_weight=1.0, rate=1e-2))
moved = mmn_jax.transfer_rows(nearest(ladder), variables, theta, counts, context, keep_from=frequent)
print(f"a regressor of one's own {accuracy(moved):.1f}")
