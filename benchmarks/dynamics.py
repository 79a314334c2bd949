"""Measures how rows move on a data set: norms and similarity to θ* by training count, which heads `mmn` mixes, which classes move alike.

python benchmarks/dynamics.py [--features=FILE.npz --imbalance=96 --largest=480] [--seed=0]

"Before" are the logit-adjusted rows of the long-tailed head, "after" those of `mmn`, and θ* those of the head trained on all examples of
the file under the same ridge. Norms are relative to the mean norm of a head. Similarity is the correlation of logits over test examples,
as a cosine of rows would count directions that features hardly use.
"""

import jax
import numpy as np
from absl import app, flags
from scipy.stats import spearmanr

from mmn_jax.config import default
from mmn_jax.data import feature_files, glyphs, longtail
from mmn_jax.data.normalisation import normalisation
from mmn_jax.evaluation.metrics import per_class_accuracy
from mmn_jax.linear import weighting
from mmn_jax.linear.class_model import class_means
from mmn_jax.linear.rows import predict_logits, subtract_log_prior
from mmn_jax.methods import mmn
from mmn_jax.methods.choosing import tune
from mmn_jax.methods.folds import Fold
from mmn_jax.methods.tasks import make_task, unscaled
from mmn_jax.pipeline.table_formats import markdown
from mmn_jax.report.row_dynamics import cosine, levels, weights_of

FLAGS = flags.FLAGS
flags.DEFINE_string("features", "", "npz file (default: the glyphs).")
flags.DEFINE_float("imbalance", 100.0, "Imbalance of the long tail.")
flags.DEFINE_integer("largest", 200, "Training examples of the largest class.")
flags.DEFINE_integer("seed", 0, "Seed of the split.")

L2 = 1e-5  # ridge of the rows before transfer and of θ*


def _correlation(w, other, x):
    """Returns the correlations [C] of the logits of rows w and other [C, d] over x [n, d]."""
    a, b = (x @ rows.T for rows in (w, other))
    return cosine((a - a.mean(0)).T, (b - b.mean(0)).T)


def _adjusted_rows(task):
    """Returns the weights [C, d] of the logit-adjusted plain head, centred over classes, and its rows [C, d+1]."""
    theta = subtract_log_prior(task.head(weighting.plain, L2, unscaled).theta, 1.0, task.counts)
    return weights_of(theta), theta


def main(_):
    source = feature_files.load(FLAGS.features) if FLAGS.features else glyphs.load()
    part = longtail.long_tail_split(source, FLAGS.seed, imbalance=FLAGS.imbalance, max_per_class=FLAGS.largest)
    tail, heads = longtail.take(source, part), default().heads
    normalise = normalisation(tail.train)
    train, val, test = (normalise.of(one) for one in (tail.train, tail.val, tail.test))
    key = jax.random.key(FLAGS.seed)
    task = make_task(train, key, heads.tol)
    members, whole = mmn.default_members(heads.l2), Fold("whole", train, val)
    moved = tune(mmn.method(members, heads.l2), lambda name: (task, task), [whole], whole).arrays
    (before, plain), after = _adjusted_rows(task), weights_of(moved["theta"])
    target, _ = _adjusted_rows(make_task(normalise.of(source.train), key, heads.tol))

    kinds = {"plain": [], "row prior": [], "Bayesian": []}
    for weights, member in zip(moved["weights"], members, strict=True):
        kinds["Bayesian" if "l2" not in member else "plain" if member["within"] == 1 else "row prior"].append(weights)
    kinds = {kind: np.sum(weights, 0) / moved["weights"].sum(0) for kind, weights in kinds.items()}
    lines = [["examples of the class", "classes", "norm before", "after", "θ*", "correlation with θ* before", "after", *kinds]]
    for label, inside in levels(tail.counts):
        norms = [np.linalg.norm(w[inside], axis=1).mean() / np.linalg.norm(w, axis=1).mean() for w in (before, after, target)]
        alike = [_correlation(w[inside], target[inside], test.x).mean() for w in (before, after)]
        shares = [share[inside].mean() for share in kinds.values()]
        lines.append([label, str(inside.sum()), *(f"{value:.2f}" for value in (*norms, *alike, *shares))])
    print(markdown(lines))

    rare = np.flatnonzero(tail.counts < 16)
    means = class_means(*train, len(tail.counts))
    pairs = np.triu_indices(len(rare), 1)
    alike = [cosine(one[rare, None], one[None, rare])[pairs] for one in (means - means.mean(0), target - before)]
    print(f"\nrank correlation over pairs of classes, cosine of their means against cosine of θ* − θ: {spearmanr(*alike)[0]:.2f}")
    gain = np.subtract(*(per_class_accuracy(predict_logits(rows, test.x), test.y) for rows in (moved["theta"], plain)))
    for title, order in (("largest gains", np.argsort(-gain)), ("largest losses", np.argsort(gain))):
        print(f"{title}: " + ", ".join(f"{source.class_names[c]} ({tail.counts[c]}) {gain[c]:+.0f}" for c in order[:6]))


if __name__ == "__main__":
    app.run(main)
