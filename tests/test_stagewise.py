"""Back-to-front training: what it learns, what it leaves alone, and when it stops."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from mmn_jax.devices import all_devices
from mmn_jax.errors import BadInput
from mmn_jax.metamodelnet import training
from mmn_jax.metamodelnet.chain import residual_chain
from mmn_jax.metamodelnet.kshot_bank import in_memory
from mmn_jax.metamodelnet.level import Hyper, Schedule, begin_level, begin_training, train_level, train_step
from mmn_jax.metamodelnet.losses import row_loss, task_loss
from mmn_jax.metamodelnet.regressor import Context, RegressorSpec
from mmn_jax.metamodelnet.training_data import draw_episode, held_out_classes, training_data
from mmn_jax.types import Normalised

LADDER, DIM, CLASSES = (1, 2), 6, 20
COUNTS = np.full(CLASSES, 10)
CONTEXT = Context(None, jnp.zeros(CLASSES, jnp.int32))
CHAIN = residual_chain(LADDER, 16)
OBJECTIVE = partial(training._objective, CHAIN, 16)
LOSSES = jax.jit(partial(training.held_out_losses, CHAIN))


def shifted_bank(shots, seed=0, subsets=6):
    """θ* = θ_k + 1 in every entry: a movement that is the same for all classes, so held-out ones can profit."""
    target = np.random.default_rng(seed).normal(size=(CLASSES, DIM + 1)).astype(np.float32)
    noise = 0.05 * np.random.default_rng(seed + 1).normal(size=(subsets, CLASSES, DIM + 1)).astype(np.float32)
    return in_memory(shots, np.arange(CLASSES), target - 1 + noise, target)


@pytest.fixture(autouse=True)
def standard_promotion(request):
    """optax's Adam itself mixes dtypes; tests without an optimiser stay strict."""
    mode = "strict" if "strict" in request.keywords else "standard"
    with jax.numpy_dtype_promotion(mode):
        yield


def shared_data(window=None, scale=1.0):
    """data(level, number) of a bank of each k, all rows multiplied by `scale`."""
    rng = np.random.default_rng(0)
    train = Normalised(rng.normal(size=(200, DIM)).astype(np.float32), np.repeat(np.arange(CLASSES), 10).astype(np.int32))
    banks = [shifted_bank(k) for k in LADDER]
    banks = [
        in_memory(one.shots, one.classes, one.heads(0, one.subsets) * np.float32(scale), one.target * np.float32(scale)) for one in banks
    ]
    return training_data(jax.random.key(1), banks, train, held_out_classes(COUNTS, 0.25), all_devices(), window)


@pytest.fixture(scope="module")
def data():
    """The training data of level 0."""
    return shared_data()(0, 0)


def late(data):
    """The training data of the last level."""
    return data._replace(banks=data.banks[1:])


@cache
def programs():
    return training.compile_programs(CHAIN, 16, all_devices())


def train(variables, data, hyper, key=0, **settings):
    schedule = Schedule(**{"steps": 60, "every": 10, "patience": 3, "batch": 16} | settings)
    return train_level(programs(), variables, hyper, jax.random.key(key), CONTEXT, lambda _: data, schedule)


def begin(first, trained=None):
    return begin_level(CHAIN.init(jax.random.key(5), RegressorSpec(DIM + 1, first)), trained)


def curve(report):
    return np.array([one.loss for one in report.evaluations])


ROWS_ONLY = Hyper(0.0, 1e-2, 1e-4)


def test_a_movement_shared_by_all_classes_is_learned_for_those_held_out(data):
    _, report = train(begin(1), late(data), ROWS_ONLY, steps=200)
    assert curve(report).min() < 0.3 * curve(report)[0]


def test_kept_variables_are_those_of_the_best_evaluation(data):
    variables, report = train(begin(1), late(data), ROWS_ONLY)
    losses = LOSSES(variables, CONTEXT, late(data))
    np.testing.assert_allclose(losses[0], curve(report).min(), rtol=1e-5)
    assert report.best_step == 10 * curve(report).argmin()


def test_where_nothing_helps_the_level_ends_early_and_keeps_its_start(data):
    start = begin(1)
    variables, report = train(start, late(data), Hyper(0.0, 10.0, 0.0), patience=2)
    assert report.best_step == 0 and len(curve(report)) == 3
    jax.tree.map(np.testing.assert_array_equal, variables["params"], start["params"])


def test_a_bank_that_is_not_in_training_yet_is_as_if_it_were_not_there(data):
    """All levels share programs whose shapes are those of level 0: the data of the last level alone give the same losses and gradient."""
    variables, hyper = begin(0), Hyper(0.5, 1e-3, 1e-4)
    variables = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), variables)
    masked, alone = data._replace(first=jnp.int32(1)), late(data)
    for one in (masked, alone):
        assert len(training._shots(one, [bank.theta[0] for bank in one.banks])) == len(one.banks)
    np.testing.assert_allclose(*(LOSSES(variables, CONTEXT, one) for one in (masked, alone)), rtol=1e-6)
    thetas = [bank.theta[0] for bank in data.banks]

    @jax.jit
    def state_after(variables, thetas, data):
        return training._pack(CHAIN, variables, thetas, training._shots(data, thetas), CONTEXT, True)[1]["batch_stats"]

    state, expected = state_after(variables, thetas, masked), state_after(variables, thetas[1:], alone)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), state, expected)

    def loss(params):
        rest = {name: value for name, value in variables.items() if name != "params"}
        return OBJECTIVE(params, rest, hyper, jax.random.key(0), CONTEXT, masked)[0]

    gradient = jax.jit(jax.grad(loss))(variables["params"])
    assert all(not leaf.any() for leaf in jax.tree.leaves(gradient["block_0"]))
    assert any(leaf.any() for leaf in jax.tree.leaves(gradient["block_1"]))


def test_an_earlier_level_starts_from_the_trained_later_blocks(data):
    trained, _ = train(begin(1), late(data), ROWS_ONLY)
    start = begin(0, trained)
    jax.tree.map(np.testing.assert_array_equal, start["params"]["block_1"], trained["params"]["block_1"])
    assert set(start["params"]) == {"block_0", "block_1"} and set(trained["params"]) == {"block_1"}
    fine_tuned, report = train(start, data, ROWS_ONLY)
    assert report.best_step > 0
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), fine_tuned["params"]["block_1"], trained["params"]["block_1"])
    assert max(jax.tree.leaves(moved)) > 0


def test_the_same_key_gives_the_same_bits(data):
    first, second = (train(begin(1), late(data), Hyper(0.1, 1e-3, 1e-2))[0] for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_held_out_classes_take_no_part_in_training(data):
    bank = data.banks[0]
    seen = bank.theta.shape[1]
    assert int(data.y.max()) < seen <= int(bank.held_y.min())
    scrambled = bank._replace(target=bank.target.at[seen:].set(99.0), held_x=bank.held_x * 0, held_theta=bank.held_theta * 0)
    state = begin_training(begin(0), ROWS_ONLY)
    step = jax.jit(lambda s, r: train_step(OBJECTIVE, s, Hyper(1.0, 1e-2, 0.0), jax.random.key(0), CONTEXT, r))
    jax.tree.map(np.testing.assert_array_equal, step(state, data), step(state, data._replace(banks=(scrambled, data.banks[1]))))


def test_the_unit_of_the_rows_changes_no_row_loss_and_leaves_the_task_loss_that_of_the_rows(data):
    variables, scaled = begin(0), shared_data(scale=7.0)(0, 0)
    np.testing.assert_allclose(scaled.unit, 7 * data.unit, rtol=1e-6)
    np.testing.assert_allclose(scaled.banks[0].theta, data.banks[0].theta, rtol=1e-5)
    found = LOSSES(variables, CONTEXT, data)
    np.testing.assert_allclose(LOSSES(variables, CONTEXT, scaled)[0], found[0], rtol=1e-4)
    tempered = data._replace(unit=scaled.unit)  # rows seven times as large
    np.testing.assert_allclose(LOSSES(variables, CONTEXT, scaled)[1], LOSSES(variables, CONTEXT, tempered)[1], rtol=1e-4)
    assert float(found[1]) != pytest.approx(float(LOSSES(variables, CONTEXT, scaled)[1]), rel=0.1)


def test_the_last_step_is_evaluated_too(data):
    _, report = train(begin(1), late(data), ROWS_ONLY, steps=7, every=100)
    assert len(curve(report)) == 2 and report.best_step == 7


def test_a_level_that_diverges_keeps_its_start(data):
    start = begin(1)
    variables, report = train(start, late(data), Hyper(0.0, 1e30, 0.0), patience=2)
    assert report.best_step == 0 and np.isinf(curve(report)[1:]).all()
    jax.tree.map(np.testing.assert_array_equal, variables["params"], start["params"])


@pytest.mark.parametrize("share", [0.01, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("size", [3, 5, 40])
def test_every_level_holds_a_class_out_and_keeps_two(share, size):
    held = held_out_classes(np.arange(60)[::-1], share)[:size]
    assert held.sum() >= 1 and (~held).sum() >= 2


def test_held_out_classes_are_spread_over_the_counts():
    counts = np.arange(100)[::-1]
    held = held_out_classes(counts, 0.2)
    assert held.sum() == 20
    assert all(held[i : i + 5].sum() == 1 for i in range(0, 100, 5))


@pytest.mark.strict
def test_the_loss_is_the_sum_of_its_parts_and_no_dtype_is_mixed(data):
    variables = begin(0)
    rest = {"batch_stats": variables["batch_stats"]}
    episode = draw_episode(jax.random.key(0), data.banks, 16)

    def loss(params, weight):
        return OBJECTIVE(params, rest, Hyper(weight, 0.0, 0.0), jax.random.key(0), CONTEXT, data)[0]

    losses = [jax.jit(loss)(variables["params"], weight) for weight in (0.0, 1.0)]
    rows, task = 0.0, 0.0
    for bank, subset, index in zip(data.banks, *episode, strict=True):
        theta, target = np.asarray(bank.theta[subset]), np.asarray(bank.target)[: bank.theta.shape[1]]
        rows += ((theta - target) ** 2).sum(1).mean() / (target**2).sum(1).mean() / 2
        logits = float(data.unit) * (np.asarray(data.x[index]) @ theta[:, :-1].T + theta[:, -1])
        task -= log_softmax(logits, axis=1)[np.arange(16), np.asarray(data.y[index])].mean() / 2
    np.testing.assert_allclose(losses, [rows, rows + task], rtol=1e-5)  # the untrained chain is the identity
    jax.jit(jax.grad(loss))(variables["params"], 1.0)


@pytest.mark.strict
def test_losses_are_their_formulas():
    theta, target = np.arange(6.0).reshape(2, 3), np.ones((2, 3))
    assert float(row_loss(theta[0], target[0])) == 1 + 0 + 1
    x = np.array([1.0, -1.0])
    logits = theta[:, :2] @ x + theta[:, 2]
    expected = np.log(np.exp(logits).sum()) - logits[1]
    np.testing.assert_allclose(task_loss(jnp.asarray(theta), jnp.asarray(x), jnp.asarray(1)), expected, rtol=1e-6)


def test_windows_go_round_all_heads_in_one_shape():
    every = shared_data()(0, 0).banks[0].theta
    window = shared_data(window=4)
    seen = [window(0, number).banks[0].theta for number in range(3)]
    np.testing.assert_array_equal(np.concatenate(seen), every[np.arange(12) % 6])
    np.testing.assert_array_equal(window(1, 2).banks[0].theta, shared_data(window=4)(0, 2).banks[1].theta)
    assert shared_data(window=99)(0, 3).banks[0].theta.shape == every.shape


def test_a_variable_that_changes_its_shape_between_levels_is_refused():
    with pytest.raises(BadInput, match=r"shape \(1,\) at one level and \(2,\) at the next"):
        begin_level({"params": {"scale": jnp.ones(2)}}, {"params": {"scale": jnp.ones(1)}})
