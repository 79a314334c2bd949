"""Times `TailClassifier` at the shape of ImageNet-LT (116,828 × 768, 1,000 classes), and what one would run otherwise.

python benchmarks/large.py [--method=mmn] [--rival=sklearn|none] [--ridge=1e-6] [--classes=.. --dim=.. --largest=.. and so on]

Features are synthetic, by default those of `configs/imagenet_lt_shape.py`. They are drawn from the model of classes that `mmn` assumes, so
that its accuracy says little. The rival is scikit-learn's LogisticRegression at one ridge, to a gradient as small as our heads'. Each runs
in a process of its own, whose peak resident set is its memory.
"""

import argparse
import multiprocessing
import resource
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmn_jax.cli.recipe import load_recipe
from mmn_jax.data import synthetic
from mmn_jax.data.normalisation import normalisation
from mmn_jax.evaluation.metrics import mean_class_accuracy
from mmn_jax.linear.rows import predict_logits, subtract_log_prior
from mmn_jax.pipeline.table_formats import markdown

RECIPE = Path(__file__).parents[1] / "configs" / "imagenet_lt_shape.py"
TOL = 1e-5  # of a gradient's largest entry, for the mean loss


class Measured(NamedTuple):
    """Seconds of a fit, bytes of the peak resident set, and the mean per-class accuracy on test examples in percent."""

    seconds: float
    memory: int
    accuracy: float


def fit_ours(shape: dict, method: str) -> Measured:
    """Fits a TailClassifier, all of its hyperparameters chosen on folds."""
    from mmn_jax import TailClassifier

    full = synthetic.make("large", **shape)
    assert full.test is not None
    begun = time.perf_counter()
    model = TailClassifier(method, random_state=0).fit(*full.train)
    return _measured(begun, model.predict_proba(full.test.x), full.test.y)


def fit_sklearn(shape: dict, ridge: float) -> Measured:
    """Fits a plain head under one ridge, and adjusts its logits."""
    from sklearn.linear_model import LogisticRegression

    full = synthetic.make("large", **shape)
    assert full.test is not None
    normalise = normalisation(full.train)
    train, test = normalise.of(full.train), normalise.of(full.test)
    begun = time.perf_counter()
    model = LogisticRegression(C=1 / (ridge * len(train.y)), tol=TOL, max_iter=1000).fit(*train)
    theta = subtract_log_prior(np.column_stack([model.coef_, model.intercept_]), 1.0, np.bincount(train.y))
    return _measured(begun, predict_logits(theta, test.x), test.y)


def _measured(begun, scores, y):
    seconds = time.perf_counter() - begun
    return Measured(seconds, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, mean_class_accuracy(scores, y))


def alone(function, *arguments) -> Measured:
    """Returns what the function returns in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    recipe = load_recipe(str(RECIPE), None).data.synthetic
    parser.add_argument("--classes", type=int)
    parser.add_argument("--dim", type=int)
    parser.add_argument("--largest", type=int)
    parser.add_argument("--median", type=int)
    parser.add_argument("--least", type=int)
    parser.add_argument("--scatter", type=float)
    parser.add_argument("--test_per_class", type=int)
    parser.set_defaults(**recipe)
    parser.add_argument("--method", default="mmn")
    parser.add_argument("--ridge", type=float, default=1e-6)
    parser.add_argument("--rival", choices=("sklearn", "none"), default="sklearn")
    shape = vars(parser.parse_args())
    method, ridge, rival = (shape.pop(name) for name in ("method", "ridge", "rival"))
    rows = {f'TailClassifier("{method}")': alone(fit_ours, shape, method)}
    if rival == "sklearn":
        rows[f"scikit-learn, one ridge ({ridge:g}), logit-adjusted"] = alone(fit_sklearn, shape, ridge)
    shown = [[name, f"{one.seconds:.0f}", f"{one.memory / 1e9:.1f}", f"{one.accuracy:.1f}"] for name, one in rows.items()]
    print(markdown([["", "seconds", "GB", "accuracy"], *shown]))


if __name__ == "__main__":
    main()
