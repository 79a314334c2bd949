"""MetaModelNet as functions: banks, back-to-front training and transfer, without a folder; the same as the command's at the same seed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import blobs

from mmn_jax.config import default
from mmn_jax.devices import AXIS
from mmn_jax.errors import BadInput
from mmn_jax.estimator import TailClassifier
from mmn_jax.linear.rows import centred
from mmn_jax.metamodelnet.chain import residual_chain
from mmn_jax.metamodelnet.kshot_bank import fit_bank, shot_ladder
from mmn_jax.metamodelnet.level import Hyper, Schedule
from mmn_jax.metamodelnet.regressor import Regressor, make_context, rows_alone
from mmn_jax.metamodelnet.training import LevelSet, fit_metamodelnet
from mmn_jax.metamodelnet.transfer import transfer_rows
from mmn_jax.methods import metamodelnet
from mmn_jax.pipeline import sources, stages
from mmn_jax.store.run import Run
from mmn_jax.store.terminal import Terminal
from mmn_jax.types import Normalised

KEY = jax.random.key(3)
ONE = jax.sharding.Mesh(jax.devices()[:1], (AXIS,))  # test_sharding.py has more
COUNTS = np.array([40, 30, 24, 20, 16, 16, 12, 12, 10, 8, 8, 6, 5, 4, 4, 3, 2, 2, 1, 1])
X, Y = blobs(0, COUNTS, 6, spread=1.5)
SHORT = Schedule(steps=20, every=10, batch=32)


@pytest.fixture(autouse=True)
def standard_promotion():
    """optax's Adam itself mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def banks():
    return [fit_bank(KEY, X, Y, k, subsets=6, l2=1e-4, mesh=ONE) for k in (1, 2)]


def fit(banks, regressor=None, **settings):
    regressor = regressor or residual_chain((1, 2), 8)
    return fit_metamodelnet(KEY, banks, X, Y, regressor, **{"schedule": SHORT, "context": rows_alone, "mesh": ONE} | settings)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_the_ladder_of_counts_needs_a_quarter_of_the_classes_and_five():
    assert shot_ladder(COUNTS) == (1, 2, 4, 8) and shot_ladder(COUNTS, top=1) == (1, 2)
    assert shot_ladder(np.array([9, 9, 9, 9])) == () and shot_ladder(np.full(5, 2)) == (1,)


def test_rows_are_trained_and_transferred(banks):
    variables, reports = fit(banks)
    assert set(variables) == {"params", "batch_stats", "unit"} and set(variables["params"]) == {"block_0", "block_1"}
    assert len(reports) == 2 and all(report.evaluations[0].step == 0 for report in reports)
    theta = np.random.default_rng(0).normal(size=(20, 7)).astype(np.float32)
    moved = transfer_rows(residual_chain((1, 2), 8), variables, theta, COUNTS, rows_alone(Normalised(X, Y)), keep_from=4)
    kept = COUNTS >= 4
    np.testing.assert_array_equal(moved[kept], theta[kept])
    assert np.isfinite(moved).all() and moved.dtype == np.float32


def test_resumed_from_what_was_kept_it_ends_in_the_same_bits(banks):
    kept = {}

    def keep(level, make):
        if level not in kept:
            kept[level] = jax.device_get(make())
        return kept[level]

    whole = fit(banks)
    same(fit(banks, keep=keep)[0], whole[0])
    del kept[0]
    same(fit(banks, keep=keep)[0], whole[0])
    assert set(kept) == {0, 1}

    def found(level, make):
        return kept[level]  # nothing is trained

    same(fit(banks, keep=found)[0], whole[0])


def test_a_level_can_learn_from_features_of_its_own(banks):
    other = (1.5 * X[:, ::-1]).astype(np.float32)
    own = LevelSet([fit_bank(KEY, other, Y, 2, subsets=6, l2=1e-4, mesh=ONE)], Normalised(other, Y))
    seen = {}

    def keep(level, make):
        seen[level] = make()
        return seen[level]

    fit(banks, level_sets={1: own}, keep=keep)
    alone = fit_metamodelnet(KEY, own.banks, other, Y, residual_chain((2,), 8), schedule=SHORT, context=rows_alone, mesh=ONE)
    first = seen[1][1].evaluations[0]
    assert first.rows == pytest.approx(alone[1][0].evaluations[0].rows, rel=1e-5)  # untrained, both are the identity on the same rows
    assert first.rows != pytest.approx(fit(banks)[1][1].evaluations[0].rows, rel=1e-3)


def test_windows_of_heads_train_too(banks):
    memory = sum(3 * bank.target.nbytes for bank in banks)  # three heads of each at once
    variables, _ = fit(banks, memory=memory, schedule=Schedule(steps=40, every=10, batch=32))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))


def no_parameters(key, spec):
    return {"params": {"nothing": jnp.zeros(())}}


def test_a_regressor_that_gives_nan_before_training_is_refused(banks):
    broken = Regressor(no_parameters, lambda variables, theta, shots, context, train: (theta * jnp.nan, variables))
    with pytest.raises(BadInput, match="regressor: its rows are NaN or infinite before any training"):
        fit(banks, broken)


def test_a_regressor_sees_the_model_of_the_classes(banks):
    seen = []

    def apply(variables, theta, shots, context, train):
        seen.append(context)
        return theta + 0.0 * variables["params"]["nothing"], variables

    fit_metamodelnet(KEY, banks, X, Y, Regressor(no_parameters, apply), schedule=SHORT, mesh=ONE)
    assert all(context.model.basis.shape == (6, 6) and context.means is None for context in seen)
    assert make_context(Normalised(X, Y)).means.shape == (20, 6)


def test_a_bank_of_too_few_classes_is_refused():
    with pytest.raises(BadInput, match="shots: fewer than two classes have 64 examples or more; lower it from 32"):
        fit_bank(KEY, X, Y, 32)


def test_each_bank_starts_from_the_one_before_and_depends_on_it_no_further_than_the_tolerance(banks):
    warm, cold = (fit_bank(KEY, X, Y, 2, subsets=2, l2=1e-4, before=before, mesh=ONE) for before in (banks[0], None))
    np.testing.assert_array_equal(warm.heads(0, 2), cold.heads(0, 2))
    np.testing.assert_allclose(warm.heads(0, 2), banks[1].heads(0, 2), atol=1e-3 * np.abs(cold.heads(0, 2)).max())
    np.testing.assert_allclose(centred(warm.target), centred(banks[1].target), atol=5e-2 * np.abs(warm.target).max())


SMALL = {
    "kshot.subsets": (4,),
    "kshot.top": 0,
    "kshot.l2": 1e-4,
    "meta.steps": 20,
    "meta.width": 4,
    "meta.task_weight": (0.1,),
    "heads.l2": (1e-2,),
}


def test_the_classifier_of_the_estimator_is_that_of_a_run_of_its_seed(tmp_path):
    np.savez(tmp_path / "features.npz", train_x=X, train_y=Y, test_x=X + 1, test_y=Y)
    config = default()
    config.data.source, config.data.path, config.data.validation = "npz", str(tmp_path / "features.npz"), "train"
    config.data.folds = 2
    config.update_from_flattened_dict(SMALL)
    features = sources.load_features(config)
    run = Run(config, 5, tmp_path, features, "x", Terminal(lambda line: None, lambda items, name: items))
    data = stages.split(run)
    tasks = stages.tasks_of(run, data)
    plain = stages.tune_methods(run, data, tasks, {"plain": stages.baselines.methods(config.heads.l2)["plain"]})["plain"]
    theirs, _ = stages.meta(run, data, tasks, lambda: plain)
    banks = metamodelnet.BankOptions(top=0, subsets=(4,), l2=1e-4)
    method = metamodelnet.method((1e-2,), banks, metamodelnet.RegressorOptions(width=4, task_weights=(0.1,), schedule=Schedule(steps=20)))
    ours = TailClassifier(method, folds=2, random_state=5).fit(X, Y)
    np.testing.assert_array_equal(ours.arrays_["theta"], theirs.arrays["theta"])
    assert ours.record_["val_accuracy"] == theirs.val_accuracy and ours.temperature_ == theirs.temperature
    assert {name: theirs.tuned[name] for name in ours.record_["setting"]} == ours.record_["setting"]
    assert len(ours.record_["trials"]) == len(theirs.trials) == 6


def test_by_its_name_it_is_the_paper_s_method_and_the_plain_head_where_nothing_can_teach_it():
    few = Y < 4
    model, plain = (TailClassifier(name, l2=1e-2, random_state=0).fit(X[few], Y[few]) for name in ("metamodelnet", "plain"))
    np.testing.assert_array_equal(model.arrays_["theta"], plain.arrays_["theta"])
    assert Hyper() == Hyper(0.1, 1e-3, 1e-2)


def test_a_regressor_in_the_place_of_the_function_that_makes_it_is_refused_at_once():
    with pytest.raises(BadInput, match="make: must be a function, ladder of shot counts → Regressor, it is of type Regressor"):
        metamodelnet.method(regressor=metamodelnet.RegressorOptions(make=residual_chain((1, 2), 8)))


def test_raw_features_are_named():
    with pytest.warns(UserWarning, match=r"x: isn't normalised \(mean square norm .*\); see mmn_jax.normalisation"):
        fit_bank(KEY, 6 * X, Y, 2, subsets=1)
