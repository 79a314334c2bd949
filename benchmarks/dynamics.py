"""What the movement of rows looks like on a data set: tables of row norms and cosines to θ* by shot count, and who moves alike.

python benchmarks/dynamics.py [--features=FILE.npz --imbalance=96 --largest=480] [--seed=0]

Heads are fitted to mixed-shot subsets of the training set (`mmn_jax/episodes.py`), once under the plain ridge (before) and once
as `mmn` does, under the row prior and mixed with their Bayesian rows (after), both logit-adjusted. θ* is
the head of all examples under the same ridge.
"""

import numpy as np
from absl import app, flags
from scipy.stats import spearmanr

from mmn_jax import episodes, maps, mmn
from mmn_jax.classes import Shrinkage, bayesian_rows, class_means
from mmn_jax.data import features as feature_files
from mmn_jax.data import glyphs, longtail
from mmn_jax.evaluate import per_class_accuracy, predict_logits
from mmn_jax.keys import stream
from mmn_jax.results import markdown
from mmn_jax.tuning import RowPrior, make_task, normalisation
from mmn_jax.types import Examples

FLAGS = flags.FLAGS
flags.DEFINE_string("features", "", "npz file; the glyphs by default.")
flags.DEFINE_float("imbalance", 100.0, "Of the long tail that is made.")
flags.DEFINE_integer("largest", 200, "Examples of its largest class.")
flags.DEFINE_integer("seed", 0, "Of the split and the subsets.")
flags.DEFINE_float("l2", 1e-5, "Ridge of the heads.")
flags.DEFINE_float("shrinkage", 0.6, "Of the model of classes.")
flags.DEFINE_float("alpha", 0.2, "Share of the Bayesian row.")


def _cosine(a, b):
    return (a * b).sum(-1) / np.maximum(np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1), 1e-12)


def _by_level(shots):
    """The shot counts' rungs and a label for each."""
    level = np.searchsorted(maps.LEVELS, shots, side="right") - 1
    labels = [f"{a}–{b - 1}" if b - a > 1 else f"{a}" for a, b in zip(maps.LEVELS, (*maps.LEVELS[1:], 10**6), strict=True)]
    return level, [*labels[:-1], f"{maps.LEVELS[-1]}+"]


def main(_):
    source = feature_files.load_npz(FLAGS.features) if FLAGS.features else glyphs.load()
    part = longtail.long_tail_split(source, FLAGS.seed, imbalance=FLAGS.imbalance, max_per_class=FLAGS.largest)
    tail = longtail.take(source, part)
    normalise = normalisation(tail.train.x)
    train, test = (Examples(normalise(one.x), one.y) for one in (tail.train, tail.test))
    shrinkage = Shrinkage(FLAGS.shrinkage, FLAGS.shrinkage)
    task = make_task(train, stream(FLAGS.seed, "weighting"), 1e-4)
    model = task.model(shrinkage)
    plan = episodes.MixedPlan(16, FLAGS.l2, 1e-4)
    bank = episodes.fit_mixed_bank(stream(FLAGS.seed, "mixed"), train, plan)
    prior = episodes.fit_mixed_bank(stream(FLAGS.seed, "mixed"), train, plan, task.metric(RowPrior(shrinkage)))
    mixed = np.stack(
        [
            mmn.mix_rows(theta, bayesian_rows(model, means, shots), FLAGS.alpha)
            for theta, means, shots in zip(prior.theta, prior.means, prior.shots, strict=True)
        ]
    )
    before, after, target = bank.theta[..., :-1], mixed[..., :-1], bank.target[:, :-1]
    level, labels = _by_level(bank.shots)
    lines = [["examples of the class", "rows", "norm before", "after", "cosine to θ* before", "after"]]
    stars = [np.broadcast_to(one.target[:, :-1], before.shape) for one in (bank, prior)]
    for i in np.unique(level):
        inside = level == i
        norms = [np.linalg.norm(rows[inside], axis=-1).mean() for rows in (before, after)]
        cosines = [_cosine(rows[inside], star[inside]).mean() for rows, star in zip((before, after), stars, strict=True)]
        lines.append([labels[i], str(inside.sum()), *(f"{value:.2f}" for value in (*norms, *cosines))])
    print(markdown(lines))
    movement = np.where((level <= 3)[..., None], target - before, 0.0).sum(0)
    means = class_means(bank.pool.x, bank.pool.y, len(bank.classes)) - model.centre
    pairs = np.triu_indices(len(means), 1)
    alike = [_cosine(one[:, None], one[None])[pairs] for one in (means, movement)]
    print(f"\nrank correlation over pairs of classes, cosine of their means against cosine of their movements: {spearmanr(*alike)[0]:.2f}")
    inside = np.isin(test.y, bank.classes)
    y = np.searchsorted(bank.classes, test.y[inside])
    moved, stayed = (per_class_accuracy(predict_logits(rows, test.x[inside]), y) for rows in (mixed[0], bank.theta[0]))
    gain = moved - stayed
    shots, names = bank.shots[0], [source.class_names[c] for c in bank.classes]
    for title, order in (("largest gains", np.argsort(-gain)), ("largest losses", np.argsort(gain))):
        print(f"{title}, one head: " + ", ".join(f"{names[c]} ({shots[c]}) {gain[c]:+.0f}" for c in order[:6]))


if __name__ == "__main__":
    app.run(main)
