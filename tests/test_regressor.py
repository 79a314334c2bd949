"""The Regressor contract, held by every implementation, and the chain's own mathematics."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import blobs

from mmn_jax.contrib import small_regressors
from mmn_jax.errors import BadInput
from mmn_jax.linear.class_model import bayesian_rows
from mmn_jax.metamodelnet.chain import LevelNorm, block_movement, residual_chain
from mmn_jax.metamodelnet.regressor import Regressor, RegressorSpec, average, check, entry_level, make_context
from mmn_jax.types import Normalised

LADDER, DIM, CLASSES = (1, 2, 4), 7, 12
SMALL = (
    small_regressors.scale_and_bias,
    small_regressors.diagonal,
    small_regressors.bayesian_mix,
    small_regressors.neighbour_attention,
    small_regressors.low_rank,
    small_regressors.equivariant,
)
REGRESSORS = {
    "residual_chain": residual_chain(LADDER, 5),
    **{make.__name__: make() for make in SMALL},
    "average": average([residual_chain(LADDER, 5), small_regressors.scale_and_bias()]),
}
COMPILED = {name: one._replace(apply=jax.jit(one.apply, static_argnums=4)) for name, one in REGRESSORS.items()}
COUNTS = [1, 1, 1, 1, 2, 2, 3, 3, 4, 5, 8, 100]
TRAIN = Normalised(*blobs(0, COUNTS, DIM - 1))
CONTEXT = make_context(TRAIN)
SHOTS = jnp.array(COUNTS)


def rows(seed=0):
    return jax.random.normal(jax.random.key(seed), (CLASSES, DIM))


def shaken(variables, seed=1):
    """Variables as after some training: every parameter moved."""
    leaves, tree = jax.tree.flatten(variables["params"])
    keys = jax.random.split(jax.random.key(seed), len(leaves)) if leaves else []
    moved = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return {**variables, "params": jax.tree.unflatten(tree, moved)}


@pytest.fixture(params=REGRESSORS)
def regressor(request):
    return COMPILED[request.param]


@pytest.mark.parametrize("first", range(len(LADDER)))
def test_untrained_it_is_the_identity(regressor, first):
    variables = regressor.init(jax.random.key(0), RegressorSpec(DIM, first))
    for train in (True, False):
        moved, _ = regressor.apply(variables, rows(), SHOTS, CONTEXT, train)
        np.testing.assert_allclose(moved, rows(), atol=1e-5)


def test_apply_is_pure_and_leaves_state_alone_outside_training(regressor):
    variables = shaken(regressor.init(jax.random.key(0), RegressorSpec(DIM, 0)))
    first, after = regressor.apply.__wrapped__(variables, rows(), SHOTS, CONTEXT, False)
    second, _ = regressor.apply(variables, rows(), SHOTS, CONTEXT, False)
    np.testing.assert_allclose(first, second, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, after, variables)


def test_training_keeps_the_tree_of_variables(regressor):
    variables = regressor.init(jax.random.key(0), RegressorSpec(DIM, 0))
    _, after = regressor.apply(variables, rows(), SHOTS, CONTEXT, True)
    assert jax.tree.structure(after) == jax.tree.structure(variables)


def test_init_at_an_earlier_level_only_adds(regressor):
    late = regressor.init(jax.random.key(0), RegressorSpec(DIM, 2))
    early = regressor.init(jax.random.key(0), RegressorSpec(DIM, 0))
    paths = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(early)}
    assert {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(late)} <= paths


def test_classes_are_treated_alike(regressor):
    variables = shaken(regressor.init(jax.random.key(0), RegressorSpec(DIM, 0)))
    order = np.random.default_rng(0).permutation(CLASSES)
    moved, _ = regressor.apply(variables, rows(), SHOTS, CONTEXT, False)
    context = CONTEXT._replace(means=CONTEXT.means[order])
    permuted, _ = regressor.apply(variables, rows()[order], SHOTS[order], context, False)
    np.testing.assert_allclose(permuted, moved[order], atol=1e-4)


def test_a_single_entry_level_is_flax_batch_norm():
    x, level, active = rows(), jnp.full(CLASSES, 1), jnp.ones(CLASSES, bool)
    ours, reference = LevelNorm(3), nn.BatchNorm(momentum=0.9)
    variables = ours.init(jax.random.key(0), x, level, active, True)
    expected, _ = reference.init_with_output(jax.random.key(0), x, use_running_average=False)
    got, after = ours.apply(variables, x, level, active, True, mutable="batch_stats")
    np.testing.assert_allclose(got, expected, atol=1e-5)
    for name in ("mean", "var", "weight"):
        np.testing.assert_array_equal(after["batch_stats"][name][0], variables["batch_stats"][name][0])
    # the first batch a level sees is its running statistics, not a tenth of the way there
    inference = ours.apply({**variables, **after}, x, level, active, False)
    np.testing.assert_allclose(inference, expected, atol=1e-4)


def test_running_statistics_are_the_weighted_mean_of_what_was_seen():
    norm, level, active = LevelNorm(1), jnp.zeros(CLASSES, int), jnp.ones(CLASSES, bool)
    variables = norm.init(jax.random.key(0), rows(), level, active, True)
    batches = [rows(seed) + seed for seed in range(3)]
    for batch in batches:
        variables = {**variables, **norm.apply(variables, batch, level, active, True, mutable="batch_stats")[1]}
    weights = np.array([0.81, 0.9, 1.0]) / 2.71
    mean = sum(w * np.asarray(b).mean(0) for w, b in zip(weights, batches, strict=True))
    var = sum(w * np.asarray(b).var(0) for w, b in zip(weights, batches, strict=True))
    got = norm.apply(variables, rows(), level, active, False)
    np.testing.assert_allclose(got, (np.asarray(rows()) - mean) / np.sqrt(var + 1e-5), atol=1e-4)


def test_block_movement_is_the_relative_size_of_each_residual():
    chain = residual_chain(LADDER, 5)
    variables = shaken(chain.init(jax.random.key(0), RegressorSpec(DIM, 0)))
    got = block_movement(LADDER, 5, variables, rows(), SHOTS)
    late = {name: {"block_2": tree["block_2"]} for name, tree in variables.items()}
    last = rows()[SHOTS >= 4]
    moved, _ = chain.apply(late, last, SHOTS[SHOTS >= 4], CONTEXT, False)
    alone = block_movement(LADDER, 5, variables, last, SHOTS[SHOTS >= 4])
    expected = np.linalg.norm(moved - last, axis=1) / np.linalg.norm(last, axis=1)
    np.testing.assert_allclose(alone[2], expected.mean(), rtol=1e-4)
    assert alone[:2] == [None, None] and len(got) == 3 and min(got) > 0


def test_packed_levels_are_normalised_apart():
    norm = LevelNorm(3)
    variables = norm.init(jax.random.key(0), rows(), jnp.zeros(CLASSES, int), jnp.ones(CLASSES, bool), True)
    level = jnp.array([0] * 4 + [2] * 8)

    def run(x, r):
        return norm.apply(variables, x, r, jnp.ones(len(r), bool), True, mutable="batch_stats")[0]

    apart = jnp.concatenate([run(rows()[:4], level[:4]), run(rows()[4:], level[4:])])
    np.testing.assert_allclose(run(rows(), level), apart, atol=1e-5)


def test_a_row_passes_the_blocks_from_its_entry_on():
    chain = residual_chain(LADDER, 5)
    variables = shaken(chain.init(jax.random.key(0), RegressorSpec(DIM, 0)))
    late = {name: {"block_2": tree["block_2"]} for name, tree in variables.items()}
    whole, _ = chain.apply(variables, rows(), SHOTS, CONTEXT, False)
    last, _ = chain.apply(late, rows(), SHOTS, CONTEXT, False)
    enters_last = np.asarray(SHOTS) >= 4
    np.testing.assert_allclose(whole[enters_last], last[enters_last], atol=1e-6)
    assert np.abs(np.asarray(whole - last))[~enters_last].max() > 1e-3


def test_rows_of_0_shots_change_no_other_head(regressor):
    theta, variables = rows(), shaken(regressor.init(jax.random.key(0), RegressorSpec(DIM, 0)))
    there = np.arange(CLASSES) % 3 > 0
    context = CONTEXT._replace(head=jnp.asarray(there, jnp.int32))
    alone = CONTEXT._replace(head=context.head[there], means=CONTEXT.means[there])
    with jax.numpy_dtype_promotion("standard"):
        moved, state = regressor.apply(variables, theta, jnp.where(there, SHOTS, 0), context, True)
        without, expected = regressor.apply(variables, theta[there], SHOTS[there], alone, True)
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    close(moved[there], without)
    jax.tree.map(close, state, expected)


def test_the_chain_leaves_rows_of_0_shots_where_they_are():
    chain = residual_chain(LADDER, 5)
    moved, _ = chain.apply(shaken(chain.init(jax.random.key(0), RegressorSpec(DIM, 0))), rows(), SHOTS.at[::3].set(0), CONTEXT, False)
    np.testing.assert_array_equal(moved[::3], rows()[::3])


def test_entry_blocks_are_those_of_the_paper():
    counts = jnp.array([1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 5000])
    ladder = (1, 2, 4, 8, 16, 32, 64)
    np.testing.assert_array_equal(entry_level(counts, ladder), [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 6, 6])
    np.testing.assert_array_equal(entry_level(counts, (8,)), 0)


def with_params(regressor, **params):
    variables = regressor.init(jax.random.key(0), RegressorSpec(DIM, 0))
    return {"params": {name: jnp.full_like(leaf, params.get(name, 0.0)) for name, leaf in variables["params"].items()}}


def moved_by(regressor, **params):
    return regressor.apply(with_params(regressor, **params), rows(), SHOTS, CONTEXT, False)[0]


def test_scale_and_bias_do_what_their_names_say():
    np.testing.assert_allclose(
        moved_by(small_regressors.scale_and_bias(), scale=0.5, bias=2.0), (1.5 * rows()).at[:, -1].add(2.0), rtol=1e-5
    )


def test_the_same_factor_in_every_direction_is_a_scale():
    moved = moved_by(small_regressors.diagonal(), factor=0.5)
    np.testing.assert_allclose(moved[:, :-1], 1.5 * rows()[:, :-1], atol=1e-4)


def test_mixed_all_the_way_rows_are_the_bayesian_ones():
    moved = moved_by(small_regressors.bayesian_mix(), share=1.0)
    model = jax.tree.map(np.asarray, CONTEXT.model)
    expected = bayesian_rows(model, np.asarray(CONTEXT.means), np.array(COUNTS))
    np.testing.assert_allclose(moved / np.linalg.norm(moved), expected / np.linalg.norm(expected), atol=1e-4)


def test_attention_stays_within_a_head_and_never_uses_the_row_itself():
    half = CONTEXT._replace(head=jnp.arange(CLASSES) // 6)
    variables = with_params(small_regressors.neighbour_attention(), pull=1.0)
    apply = small_regressors.neighbour_attention().apply
    first, _ = apply(variables, rows(), SHOTS, half, False)
    other, _ = apply(variables, rows().at[7:].add(5.0).at[0].add(9.0), SHOTS, half, False)
    np.testing.assert_allclose(other[0], first[0], atol=1e-5)  # the pull takes all of its own row away
    assert not np.allclose(other[1:6], first[1:6])


def test_the_equivariant_map_commutes_with_rotations_and_permutations():
    regressor, order = small_regressors.equivariant(), np.roll(np.arange(CLASSES), 5)
    variables = with_params(regressor, once=0.3, twice=-0.2)

    def move(theta, shots=SHOTS):
        return regressor.apply(variables, theta, shots, CONTEXT, False)[0]

    flat = rows().at[:, -1].set(0.0)
    rotation = np.eye(DIM, dtype=np.float32)
    rotation[:-1, :-1] = np.linalg.qr(np.random.default_rng(0).normal(size=(DIM - 1, DIM - 1)))[0]
    np.testing.assert_allclose(move(flat @ rotation), move(flat) @ rotation, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(move(rows()[order], SHOTS[order]), move(rows())[order], rtol=1e-4, atol=1e-5)


def test_the_gradient_of_every_parameter_is_finite(regressor):
    variables = regressor.init(jax.random.key(0), RegressorSpec(DIM, 0))
    rest = {kind: value for kind, value in variables.items() if kind != "params"}

    def loss(params):
        return jnp.sum(regressor.apply({**rest, "params": params}, rows(), SHOTS, CONTEXT, True)[0] ** 2)

    gradient = jax.tree.leaves(jax.jit(jax.grad(loss))(variables["params"]))
    assert all(jnp.isfinite(leaf).all() for leaf in gradient)


def no_change(variables, theta, shots, context, train):
    return theta, variables


def nothing(key, spec):
    return {"params": {}}


def one_number(key, spec):
    return {"params": {"scale": jnp.ones(())}}


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ((nothing, no_change), "init and apply are functions, it is of type tuple"),
        (Regressor(lambda key, spec: {}, no_change), "init returns a dict with 'params'"),
        (Regressor(one_number, lambda variables, theta, *rest: (theta, variables["params"])), "variables with the entries that init gave"),
        (Regressor(nothing, lambda variables, theta, *rest: theta), "apply returns the moved rows and the variables"),
        (Regressor(nothing, lambda variables, theta, *rest: (theta[:, 1:], variables)), r"returns rows \(12, \d+\) of float32"),
        (Regressor(nothing, lambda variables, theta, *rest: (theta.astype("float16"), variables)), "of float16"),
    ],
)
def test_a_regressor_that_breaks_the_contract_is_refused_with_the_reason(broken, named):
    with pytest.raises(BadInput, match=named):
        check(broken, RegressorSpec(DIM, 0), np.array(COUNTS), CONTEXT)


def test_the_shipped_regressors_keep_the_contract(regressor):
    check(regressor, RegressorSpec(DIM, 0), np.array(COUNTS), CONTEXT)
