"""Degenerate problems: every method has an answer of finite scores, or the problem is refused in one line."""

import json

import jax
import numpy as np
import pytest
from conftest import blobs

from mmn_jax import config
from mmn_jax.data.feature_files import from_arrays
from mmn_jax.data.normalisation import normalisation
from mmn_jax.methods import catalogue
from mmn_jax.methods.tasks import make_task
from mmn_jax.pipeline import results, stages
from mmn_jax.report import page
from mmn_jax.store import artifacts
from mmn_jax.types import Examples, Knowledge

TAIL = [12, 9, 6, 3, 2]
X, Y = blobs(0, TAIL, 4)
METHODS = {name: each for name, each in catalogue.every_method((1e-9,)).items() if name != "metamodelnet"}  # test_metamodelnet.py


def train(counts=TAIL, dim=4, change=lambda x: x, **options):
    x, y = blobs(0, counts, dim, **options)
    return Examples(change(x.copy()), y)


def column(place, value):
    def change(x):
        x[:, place] = value
        return x

    return change


PROBLEMS = {  # all of one number of examples, so that they share programs
    "two classes, one with a single example": train([31, 1]),
    "one example in all classes but one": train([28, 1, 1, 1, 1]),
    "one dimension": train(dim=1),
    "far more dimensions than examples": train(dim=80),
    "every example twice": Examples(np.repeat(X[::2], 2, 0), np.repeat(Y[::2], 2)),
    "examples of a class all alike": train(spread=0.0),
    "the same examples in every class": Examples(np.resize(X[:4], X.shape), Y),
    "a column of zeros and one of millions": train(change=lambda x: column(0, 0.0)(column(1, 1e6)(x))),
    "columns of very different sizes": train(change=lambda x: x * np.array([1e-6, 1, 1e3, 1e6], np.float32)),
    "tiny": train(change=lambda x: x * np.float32(1e-6)),
    "huge": train(change=lambda x: x * np.float32(1e6)),
    "far from the origin": train(change=lambda x: x + np.float32(1e4)),
    "separable, with next to no ridge": train(spread=1e-3),
}


OWN_PROGRAMS = list(PROBLEMS)[:4]  # which take their time to compile


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in OWN_PROGRAMS else name for name in PROBLEMS])
def test_every_method_has_an_answer(name):
    x, y = PROBLEMS[name]
    normalised = normalisation(Examples(x, y)).of(Examples(x, y))
    known = Knowledge(np.random.default_rng(0).normal(size=(y.max() + 1, x.shape[1])), normalised.x)
    task = make_task(normalised, jax.random.key(0), 1e-4, knowledge=known)
    for method in METHODS.values():
        with jax.numpy_dtype_promotion("standard"):  # optax's Adam itself mixes dtypes
            made = method.fit(task, {axis.name: axis.start for axis in method.axes})
        scores = method.logits(made.arrays, task.train.x)
        assert scores.shape == (len(y), y.max() + 1) and np.isfinite(scores).all()
        assert made.gradient_norm <= 1e-4


def features(counts, test, dim=4, classes=None):
    """A set whose test examples have these counts, of which val has two a class."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(len(counts), dim))
    y = [np.repeat(np.arange(len(counts)), part) for part in (counts, [2] * len(counts), test)]
    x = [(means[part] + rng.normal(size=(len(part), dim))).astype(np.float16) for part in y]
    return from_arrays(x[0], y[0], x[2], y[2], x[1], y[1])


@pytest.mark.parametrize(
    ("counts", "test", "fallback"),
    [
        ([5, 1], [3, 3], True),
        ([1] * 5, [3] * 5, True),
        pytest.param([9, 9, 9, 2, 2, 1], [0, 3, 0, 3, 0, 3], False, marks=pytest.mark.slow),
    ],
    ids=["two classes", "one example a class", "classes that test lacks"],
)
def test_a_run_ends_in_a_table_and_a_classifier(tmp_path, monkeypatch, counts, test, fallback):
    settings, said = config.default(), []
    settings.heads.l2, settings.tuning.budget, settings.eval.draws = (1e-2, 1e-9), 1, 50
    settings.kshot.subsets, settings.kshot.top = (3,), 0
    settings.meta.steps, settings.meta.task_weight, settings.meta.width = 5, (0.1,), 4
    monkeypatch.setattr(stages.sources, "load_features", lambda config, say: features(counts, test))
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam itself mixes dtypes
        seeds = stages.run_seeds(settings, tmp_path, stages.Terminal(said.append, lambda items, name: items), "meta")
    table = results.collect(seeds, settings)
    results.write(tmp_path, table, seeds)
    page.write(tmp_path, seeds)
    tested = np.array(test) > 0
    read = json.loads((tmp_path / "results.json").read_text())
    for name, method in read["methods"].items():
        assert 0 <= method["accuracy"] <= 100
        np.testing.assert_array_equal(np.isfinite(read["per_class"][name][0]), tested)
    assert all(np.isfinite(array).all() for name, array in np.load(tmp_path / "classifier.npz").items() if name != "class_names")
    assert any("metamodelnet is the plain head" in line for line in said) == fallback
    assert ("fallback" in table["methods"]["metamodelnet"]["tuned"]) == fallback
    assert artifacts.restore_record(next((tmp_path / "seed-0").glob("head-plain-*")))["gradient_norm"] <= settings.heads.final_tol
