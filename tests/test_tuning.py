"""Choosing on validation data: the search, its budget, ties, grids and folds."""

import re

import jax
import numpy as np
import pytest
from conftest import blobs

from mmn_jax.methods import tuning
from mmn_jax.methods.baselines import methods
from mmn_jax.methods.choosing import tune
from mmn_jax.methods.contract import Method, linear
from mmn_jax.methods.folds import Fold, held_accuracy, make_tasks, training_folds
from mmn_jax.methods.progress import Piece
from mmn_jax.methods.tuning import Axis, Trial
from mmn_jax.types import Normalised

X, Y = blobs(0, [20, 10, 6], 5)
TRAIN = Normalised(X, Y)


def halves(a, b):
    return (a + b) / 2 if abs(a - b) > 0.5 else None


AXES = (Axis("a", (0.0, 2.0, 4.0, 6.0), 0.0, halves), Axis("b", (False, True), False), Axis("c", (1.0, 2.0, 3.0), 2.0, halves))


def bowl(setting):
    return -abs(setting["a"] - 3.4) - abs(setting["c"] - 1.6) + setting["b"]


def test_the_search_finds_the_best_of_the_refined_grid():
    trials = tuning.search(bowl, AXES, 100)
    assert tuning.best(trials).setting == {"a": 3.5, "b": True, "c": 1.5}
    settings = [tuple(trial.setting.values()) for trial in trials]
    assert len(set(settings)) == len(settings) < 100


@pytest.mark.parametrize("budget", [1, 7, 12])
def test_the_search_keeps_to_its_budget_and_to_its_order(budget):
    trials = tuning.search(bowl, AXES, budget)
    assert trials == tuning.search(bowl, AXES, 100)[:budget]


def test_a_tie_goes_to_the_setting_tried_first():
    trials = [Trial({"a": 1}, 50.0), Trial({"a": 2}, 60.0), Trial({"a": 3}, 60.0 + 1e-12)]
    assert tuning.best(trials).setting == {"a": 2}


def test_choices_at_the_end_of_a_grid_are_named():
    assert tuning.at_edge({"a": 0.0, "b": True, "c": 2.0}, AXES) == ["a"]


def test_a_hyperparameter_that_does_not_matter_costs_no_setting_and_is_not_named():
    alone = Axis("alone", (None, 1.0, 2.0, 3.0), None)
    axes = (Axis("a", (0.0, 2.0, 4.0), 2.0, halves, lambda setting: setting["alone"] is None), alone)
    trials = tuning.search(lambda setting: setting["alone"] or -setting["a"], axes, 100)
    assert [trial.setting for trial in trials] == [
        *({"a": a, "alone": None} for a in (2.0, 0.0, 4.0)),
        *({"a": None, "alone": value} for value in (1.0, 2.0, 3.0)),
    ]
    assert tuning.best(trials).setting == {"a": None, "alone": 3.0}
    assert tuning.at_edge({"a": None, "alone": 3.0}, axes) == ["alone"] and tuning.at_edge({"a": 4.0, "alone": None}, axes) == ["a"]


def test_grids_are_refined_to_half_decades_and_then_done():
    tried = tuning.search(lambda setting: -abs(np.log10(setting["l2"]) + 3.4), methods((1e-2, 1e-3, 1e-4))["plain"].axes, 100)
    assert tuning.best(tried).setting["l2"] == 3.16e-4 and len(tried) < 15


def test_values_are_left_out_once_accuracy_has_fallen_twice_in_a_row():
    accuracies = {1.0: 3.0, 2.0: 5.0, 3.0: 4.0, 4.0: 6.0, 5.0: 6.0, 6.0: 5.0, 7.0: 5.9, 8.0: 9.0}  # one dip and a tie don't end it
    axis = Axis("a", tuple(accuracies), 1.0)
    for patience, last in ((2, 7.0), (None, 8.0)):
        trials = tuning.search(lambda setting: accuracies[setting["a"]], (axis._replace(patience=patience),), 100)
        assert [trial.setting["a"] for trial in trials] == [value for value in accuracies if value <= last]


def test_held_out_predictions_are_evaluated_together():
    folds = [Fold("a", TRAIN, Normalised(X[:2], np.array([0, 1]))), Fold("b", TRAIN, Normalised(X[:2], np.array([0, 0])))]
    logits = [np.eye(3)[[0, 0]], np.eye(3)[[0, 1]]]  # class 0: two of three right; class 1: none of one
    assert held_accuracy(logits, folds) == pytest.approx(100 * (2 / 3 + 0) / 2)


def test_a_fold_that_would_learn_from_one_point_is_dropped():
    train = Normalised(np.array([[0.0], [1.0], [0.0]], np.float32), np.array([0, 0, 1], np.int32))
    (fold,) = training_folds("x", train, jax.random.key(0), 3)
    assert fold.val.x.tolist() == [[0.0]] and sorted(fold.train.x.ravel()) == [0.0, 1.0]
    assert training_folds("x", Normalised(train.x[1:], train.y[1:]), jax.random.key(0), 3) == ()


def test_folds_beyond_those_that_hold_enough_examples_are_left_out():
    for per_class, expected in ((2500, 3), (4600, 2), (9100, 1)):
        y = np.repeat(np.arange(10), per_class)
        folds = training_folds("x", Normalised(np.arange(len(y), dtype=np.float32)[:, None], y), jax.random.key(0), 3)
        assert [fold.name for fold in folds] == [f"x-fold{i}of3" for i in range(expected)]
        assert all(len(fold.val.y) * 3 == pytest.approx(len(y), rel=0.01) for fold in folds)


def test_a_search_says_why_it_ends_before_its_budget():
    axes = methods((1e-2, 1e-3, 1e-4, 1e-5, 1e-6))["plain"].axes
    for optimum, budget, said in (
        (-2.0, 100, "l2 1e-05, 1e-06 left out, as the 2 values before were less accurate and every neighbour of the best one was tried"),
        (-6.0, 100, "every neighbour of the best one was tried"),
        (-2.0, 2, ""),
    ):
        tried = tuning.search(lambda setting, optimum=optimum: -abs(np.log10(setting["l2"]) - optimum), axes, budget)
        assert tuning.why_ended([trial.setting for trial in tried], axes, budget) == said


def test_every_step_of_a_choice_is_told():
    steps, folds = [], [Fold("a", TRAIN, Normalised(X, TRAIN.y)), Fold("b", TRAIN, Normalised(X, TRAIN.y))]
    whole = Fold("all", TRAIN, None)

    def fit(task, setting):
        task.tell(Piece("part", 1, 1))
        return linear(np.zeros((3, X.shape[1] + 1)))

    tasks = make_tasks((*folds, whole), jax.random.key(0), 1e-3, 1e-3)
    tune(Method("ours", (Axis("a", (1, 2), 1),), fit), tasks, folds, whole, 5, steps.append)
    first = ["setting 1 of 5, fold 1 of 2", "setting 1 of 5, fold 1 of 2, part 1 of 1", "setting 1 of 5, fold 2 of 2"]
    told = list(map(str, steps))
    assert told[:3] == first and re.fullmatch(r"setting 1 of 5 \(a 1\): [\d.]+% mean per-class accuracy", told[4])
    assert told[-2:] == [
        f"2 of 5 settings tried: every neighbour of the best one was tried; the best (a 1) is fitted to all {len(X)} examples",
        f"fit to all {len(X)} examples, part 1 of 1",
    ]
    assert [step.ends for step in steps].count(True) == 3
