"""Every jitted function of mmn_jax lowers for TPU with static shapes and without float64. No TPU is needed: jax.export lowers to StableHLO
on any machine. What a TPU's compiler makes of it, its speed and its memory are not tested."""

import ast
import re
from collections import Counter
from functools import partial
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT

from mmn_jax.cli import export
from mmn_jax.contrib import mixed_shot, small_regressors
from mmn_jax.devices import AXIS, all_devices
from mmn_jax.linear import solve
from mmn_jax.linear.class_model import ClassModel
from mmn_jax.linear.problem import HeadProblem
from mmn_jax.metamodelnet import chain, kshot_bank, training, transfer
from mmn_jax.metamodelnet.level import Hyper, _copied, begin_training
from mmn_jax.metamodelnet.regressor import Context, RegressorSpec, rows_alone
from mmn_jax.metamodelnet.training_data import BankData, TrainingData
from mmn_jax.methods import rivals, stacking
from mmn_jax.store.classifier import Classifier
from mmn_jax.vision import augment, backbones, network_training, networks
from mmn_jax.vision.network_training import NetworkState, Recipe

# JAX lowers eigh on TPU to these custom calls, to the last two where a side is above 256. jax.export guarantees them to be stable and
# refuses all that it doesn't, so that no check of its is disabled here.
CUSTOM_CALLS = {"Eigh", "Qr", "ProductOfElementaryHouseholderReflectors"}
# A TPU rounds the operands of a float32 product to bfloat16 unless the program asks for more. These programs do, in all but so many
# products: the two that scale BFGS's coordinates change the number of its steps, not the optimum. Nor do they append a single column by a
# concatenation, which XLA fails to compile for some GPUs (`with_column`).
EXACT = {
    "cli.export.to_stablehlo": 0,
    "linear.solve.fit_one": 0,
    "metamodelnet.kshot_bank._fit_chunk": 0,
    "methods.stacking._derivatives": 0,
    "metamodelnet.level.programs": 0,
    "metamodelnet.level.programs (2)": 0,
    "metamodelnet.transfer.transfer_rows": 0,
}

ONE = jax.sharding.Mesh(jax.devices()[:1], (AXIS,))
CLASSES, DIM, LADDER = 10, 32, (1, 2, 4)
COMPILERS = {"jit", "pjit", "pmap"}


def shaped(dtype, *shape):
    return jax.ShapeDtypeStruct(shape, dtype)


floats, ints, images = partial(shaped, jnp.float32), partial(shaped, jnp.int32), partial(shaped, jnp.uint8)
KEY = jax.eval_shape(jax.random.key, 0)


def lowered(function, *args, **more):
    """The StableHLO of a jitted function for TPU."""
    return jax.export.export(function, platforms=["tpu"])(*args, **more).mlir_module()


class Reached(Exception):
    """Carries the StableHLO of a jitted function out of the work that called it."""


def reached(work, *args, **more):
    """The StableHLO of the first function that `work` itself jits and calls, lowered with the arguments and in the context of that call."""
    jit = jax.jit

    def spy(function, **how):
        def call(*args):
            with mock.patch.object(jax, "jit", jit):
                raise Reached(lowered(jit(function, **how), *args))

        return call

    with mock.patch.object(jax, "jit", spy), pytest.raises(Reached) as error:
        work(*args, **more)
    return error.value.args[0]


def head(examples, dim, classes, *offset, solver=solve.NEWTON):
    """One large solve; it takes other paths with fewer examples than dimensions, and with logits in blocks."""
    problem = HeadProblem(floats(examples, dim), ints(examples), floats(examples), floats(*offset, classes), floats())
    return lowered(solve.fit_one, problem, floats(classes, dim + 1), 1e-6, solver=solver)


def bank(mesh, shots, basis):
    frame = (floats(DIM, DIM), floats(DIM)) if basis else (None, None)
    return lowered(
        kshot_bank._fit_chunk, KEY, ints(16), floats(512, DIM), ints(512), ints(CLASSES), *frame, floats(), floats(), shots, mesh
    )


CHAIN, MIXED = chain.residual_chain(LADDER, 16), chain.residual_chain(LADDER, 16, jnp.bfloat16)
REGRESSORS = {
    "chain": CHAIN,
    "bfloat16": MIXED,
    "scale and bias": small_regressors.scale_and_bias(),
    "diagonal": small_regressors.diagonal(),
    "Bayesian mix": small_regressors.bayesian_mix(),
    "attention": small_regressors.neighbour_attention(),
    "low rank": small_regressors.low_rank(),
    "equivariant": small_regressors.equivariant(),
}
MODEL = ClassModel(floats(DIM, DIM), floats(DIM, DIM), floats(DIM), floats(DIM))
CONTEXT = Context(MODEL, ints(CLASSES), floats(CLASSES, DIM))


def variables_of(regressor):
    return jax.eval_shape(lambda key: regressor.init(key, RegressorSpec(DIM + 1, 0)), KEY)


HYPER = Hyper(0.1, 1e-3, 1e-2)


def begun(regressor):
    return jax.eval_shape(partial(begin_training, hyper=HYPER), variables_of(regressor))


def step(programs, regressor, context, data):
    return lowered(programs.step, begun(regressor), HYPER, KEY, context, data)


def losses(programs, regressor, context, data):
    return lowered(programs.losses, variables_of(regressor), context, data)


def chain_stage(regressor, mesh):
    """The arguments of `step` and `losses` for the paper's training."""
    seen, width = CLASSES - 2, DIM + 1
    one = BankData(
        ints(CLASSES), floats(6, seen, width), floats(CLASSES, width), ints(), floats(8, CLASSES, width), floats(64, DIM), ints(64)
    )
    data = TrainingData(ints(), floats(), floats(512, DIM), ints(512), (one,) * len(LADDER))
    return training.compile_programs(regressor, 24, mesh), regressor, Context(None, ints(CLASSES)), data


EPISODES = mixed_shot.Episodes(
    floats(), ints(6, CLASSES), floats(6, CLASSES, DIM + 1), floats(6, CLASSES, DIM), floats(CLASSES, DIM + 1), floats(512, DIM), ints(512),
    floats(6, 512), ints(6, 64), shaped(bool, CLASSES),
)  # fmt: skip


def episode_stage(regressor):
    """The arguments of `step` and `losses` for training on mixed-shot episodes."""
    return mixed_shot.compile_programs(regressor, 24), regressor, CONTEXT, EPISODES


def moved(regressor):
    theta, counts = np.ones((CLASSES, DIM + 1), np.float32), np.arange(1, CLASSES + 1)
    return reached(transfer.transfer_rows, regressor, variables_of(regressor), theta, counts, CONTEXT)


def fresh_level():
    """The first call of `fit_metamodelnet` that computes: the variables of the last level."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(CLASSES, dtype=np.int32), 4)
    rows = rng.standard_normal((6, CLASSES, DIM + 1), np.float32)
    bank = kshot_bank.in_memory(1, np.arange(CLASSES), rows, rows[0])
    x = rng.standard_normal((len(y), DIM), np.float32)
    return reached(training.fit_metamodelnet, jax.random.key(0), [bank], x, y, chain.residual_chain((1,), 4), context=rows_alone)


NETWORKS = {"plain": networks.Plain(8, (4, 8), CLASSES), "residual": networks.Residual(8, (4, 8), CLASSES)}
CHANGED = {"plain": network_training.letters, "residual": network_training.photographs}
KNOWN, BATCH = shaped(bool, CLASSES), images(24, 16, 16, 3)


def network_variables(name):
    return jax.eval_shape(lambda key: NETWORKS[name].init(key, jnp.zeros((2, 16, 16, 3), jnp.uint8), False), KEY)


def network_step(name):
    variables, recipe = network_variables(name), Recipe()
    optimiser = jax.eval_shape(network_training._optimiser(1e-3, recipe.decay).init, variables["params"])
    compiled = network_training.compile_step(NETWORKS[name], recipe, CHANGED[name])
    return lowered(compiled, NetworkState(variables, optimiser), floats(), KEY, images(24, 16, 16, 1), ints(24), KNOWN, floats(CLASSES))


def network_features(name):
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), network_variables(name))
    network = NETWORKS[name]
    record = {"sides": [16, 16], "architecture": networks.Architecture(name, network.dim, network.widths, network.classes)._asdict()}
    compute, _ = backbones.use(backbones.Kept({"variables": variables}, record, Path("backbone")), "")
    return compute(np.zeros(BATCH.shape, np.uint8))


def scores(rows):
    """The function that `export.to_stablehlo` jits, for a fixed number of rows. The file's own is symbolic on purpose; JAX refines it when
    the file is called."""
    model = Classifier(*(np.ones(shape, np.float32) for shape in ((CLASSES, DIM), CLASSES, CLASSES, DIM, DIM, (), CLASSES)))
    assert "tpu" in jax.export.deserialize(bytearray(export.to_stablehlo(model))).platforms
    return lowered(jax.jit(partial(export.scores, model)), floats(rows, DIM))


def mixture_sums():
    return lowered(stacking._derivatives, floats(4, 5), floats(CLASSES, 512, 4), floats(5, CLASSES), ints(512), floats(512))


def scale_loss():
    return lowered(rivals._scale_loss, floats(CLASSES), floats(512, CLASSES), ints(512), floats(512), floats())


# Every place where mmn_jax calls `jit`, and the cases that are lowered for it. "(2)" marks the second call in one place.
CASES = {
    "vision.backbones.use": {name: lambda name=name: reached(network_features, name) for name in NETWORKS},
    "metamodelnet.chain._sown": {
        "": lambda: lowered(chain._sown, chain.Chain(LADDER, 16, 0), variables_of(CHAIN), floats(CLASSES, DIM + 1), ints(CLASSES))
    },
    "vision.augment.crop_and_flip": {"": lambda: lowered(augment.crop_and_flip, KEY, BATCH, 4)},
    "vision.augment.distort": {"": lambda: lowered(augment.distort, KEY, BATCH, augment.Strength())},
    "vision.network_training._compile_top.top": {
        name: lambda name=name: lowered(network_training._compile_top(NETWORKS[name]), network_variables(name), KNOWN, BATCH)
        for name in NETWORKS
    },
    "vision.network_training.begin": {
        name: lambda name=name: reached(network_training.begin, jax.random.key(0), NETWORKS[name], (16, 16)) for name in NETWORKS
    },
    "vision.network_training.compile_step.step": {name: partial(network_step, name) for name in NETWORKS},
    "contrib.mixed_shot.fit_regressor": {
        name: lambda one=one: reached(mixed_shot.fit_regressor, jax.random.key(0), one, CONTEXT, EPISODES, [])
        for name, one in REGRESSORS.items()
    },
    "cli.export.to_stablehlo": {"": partial(scores, 24)},
    "linear.solve.fit_one": {
        "few examples": partial(head, 64, 512, CLASSES),
        "an offset for every example": partial(head, 512, DIM, CLASSES, 512),
        "ImageNet-LT": partial(head, 115846, 2048, 1000),
        "iNaturalist": partial(head, 14 * 31744, 768, 8142, solver=solve.newton_in_blocks(solve.ALIGNED_NEWTON, 31744)),
    },
    "metamodelnet.kshot_bank._fit_chunk": {
        "one device": partial(bank, ONE, 1, False),
        "eight devices": partial(bank, all_devices(), 1, False),
        "eigenbasis": partial(bank, ONE, 8, True),
    },
    "methods.stacking._derivatives": {"": mixture_sums},
    "methods.rivals._scale_loss": {"": scale_loss},
    "metamodelnet.training.fit_metamodelnet.make": {"": fresh_level},
    "metamodelnet.level._copied": {"": lambda: lowered(_copied, begun(CHAIN))},
    "metamodelnet.level.programs": {
        "one device": lambda: step(*chain_stage(CHAIN, ONE)),
        "eight devices": lambda: step(*chain_stage(CHAIN, all_devices())),
        "bfloat16": lambda: step(*chain_stage(MIXED, ONE)),
        "episodes": lambda: step(*episode_stage(REGRESSORS["attention"])),
    },
    "metamodelnet.level.programs (2)": {
        "one device": lambda: losses(*chain_stage(CHAIN, ONE)),
        "eight devices": lambda: losses(*chain_stage(CHAIN, all_devices())),
        "episodes": lambda: losses(*episode_stage(REGRESSORS["attention"])),
    },
    "metamodelnet.transfer.transfer_rows": {name: partial(moved, one) for name, one in REGRESSORS.items()},
}


@pytest.mark.parametrize("place, case", [pytest.param(place, case, id=f"{place}-{case}") for place in CASES for case in CASES[place]])
def test_it_lowers_for_tpu_with_known_shapes_and_without_float64(place, case):
    with jax.numpy_dtype_promotion("standard"):  # optax and Flax promote
        program = CASES[place][case]()
    types = set(re.findall(r"tensor<([^>]*)>", program))
    assert types and not [each for each in types if "f64" in each or "?" in each]
    assert set(re.findall(r"custom_call @(\w+)", program)) <= CUSTOM_CALLS
    if place in EXACT:
        products = [line for line in program.splitlines() if "stablehlo.dot_general" in line and "bf16" not in line]
        assert len([line for line in products if "precision = [HIGHEST, HIGHEST]" not in line]) <= EXACT[place]
        assert not [line for line in program.splitlines() if "stablehlo.concatenate" in line and re.search("x1xf32>", line)]


def jitted(tree, names):
    """Yields the place of everything in the tree that names one of `COMPILERS`: the dotted names of the definitions around it."""
    for node in ast.iter_child_nodes(tree):
        if {getattr(node, "attr", None), getattr(node, "id", None)} & COMPILERS or (isinstance(node, ast.alias) and node.name in COMPILERS):
            yield ".".join(names)
        own = [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
        if isinstance(node, ast.Assign) and isinstance(tree, ast.Module):
            own = [ast.unparse(node.targets[0])]
        yield from jitted(node, [*names, *own])


def test_every_jitted_function_is_lowered_above():
    found = Counter()
    for path in (ROOT / "mmn_jax").rglob("*.py"):
        found.update(jitted(ast.parse(path.read_text()), path.relative_to(ROOT / "mmn_jax").with_suffix("").parts))
    numbered = [place if i == 0 else f"{place} ({i + 1})" for place, times in found.items() for i in range(times)]
    assert sorted(numbered) == sorted(CASES)


@pytest.mark.parametrize(
    "source, place",
    [
        ("@jax.jit\ndef f(x): return x", "m.f"),
        ("@partial(jax.jit, static_argnums=0)\ndef f(x): return x", "m.f"),
        ("f = jax.jit(g)", "m.f"),
        ("def f(x):\n    moved, _ = jax.jit(g)(x)", "m.f"),
        ("from jax import jit", "m"),
        ("def f():\n    @jax.pmap\n    def g(x): return x", "m.f.g"),
    ],
)
def test_a_jitted_function_is_found_however_it_is_written(source, place):
    assert list(jitted(ast.parse(source), ["m"])) == [place]
