"""What is compiled once stays compiled: over chunks, keys, seeds of nearly the same size, ridges, scalings and candidates."""

import itertools
import subprocess
import sys
from functools import partial
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
from conftest import blobs

from mmn_jax.devices import COMPILER_OPTIONS, all_devices
from mmn_jax.linear import weighting
from mmn_jax.linear.class_model import Shrinkage
from mmn_jax.linear.solve import fit_one
from mmn_jax.metamodelnet import kshot_bank, training
from mmn_jax.metamodelnet.chain import residual_chain
from mmn_jax.metamodelnet.level import Hyper, Schedule, train_level
from mmn_jax.metamodelnet.regressor import Context, RegressorSpec, rows_alone
from mmn_jax.metamodelnet.training_data import held_out_classes, training_data
from mmn_jax.methods.tasks import RowPrior, make_task, standardised, unscaled
from mmn_jax.types import Normalised

PRIOR = RowPrior(Shrinkage(0.5, 0.5))


def compiled(function, work):
    before = function._cache_size()
    work()
    return function._cache_size() - before


def test_a_bank_is_one_program_whatever_its_chunks_key_and_ridge():
    counts = np.array([7, 9, 8, 6])
    train = Normalised(*blobs(0, counts, 3))

    def banks():
        for key, l2 in ((0, 3e-3), (1, 6e-3)):
            memory = 3 * kshot_bank.head_bytes(8, 3, 4, 512)
            kshot_bank.fit_bank(jax.random.key(key), *train, 2, subsets=40, l2=l2, target_tol=1e-4, memory=memory)

    assert compiled(kshot_bank._fit_chunk, banks) == 1


def test_tuning_a_head_is_one_program_for_all_ridges_scalings_and_nearby_sizes():
    def tune():
        for extra in (0, 5):
            x, y = blobs(0, [21 + extra, 10, 9], 3)
            task = make_task(Normalised(x, y), jax.random.key(extra), 1e-3)
            for l2, scaling in itertools.product((1e-1, 1e-2, 3e-3), (unscaled, standardised, PRIOR)):
                task.head(weighting.plain, l2, scaling)
                task.head(weighting.cost_sensitive, l2, scaling)

    assert compiled(fit_one, tune) == 1


def test_a_level_is_one_program_for_all_candidates():
    counts = np.full(10, 6)
    rng = np.random.default_rng(0)
    train = Normalised(*blobs(0, counts, 3))
    target = rng.normal(size=(10, 4)).astype(np.float32)
    bank = kshot_bank.in_memory(1, np.arange(10), np.stack([target] * 3), target)
    held = held_out_classes(counts, 0.2)
    data = partial(training_data(jax.random.key(0), [bank], train, held, all_devices(), 2), 0)
    chain = residual_chain((1,), 4)
    programs = training.compile_programs(chain, 8, all_devices())
    context = Context(None, jnp.zeros(10, jnp.int32))
    with jax.numpy_dtype_promotion("standard"):
        for weight in (0.1, 1.0):
            variables = chain.init(jax.random.key(0), RegressorSpec(4, 0))
            hyper = Hyper(weight, 1e-3, 1e-2)
            key = jax.random.key(int(10 * weight))
            train_level(programs, variables, hyper, key, context, data, Schedule(4, 2, 3, 8))
    assert programs.step._cache_size() == 1 and programs.losses._cache_size() == 1


def test_all_levels_are_one_program():
    counts = np.full(10, 6)
    train = Normalised(*blobs(0, counts, 3))
    rows = np.random.default_rng(0).normal(size=(2, 10, 4)).astype(np.float32)
    banks = [kshot_bank.in_memory(k, np.arange(10 - k), rows[:, : 10 - k], rows[0, : 10 - k]) for k in (1, 2, 4)]
    chain = residual_chain((1, 2, 4), 4)
    with jax.numpy_dtype_promotion("standard"):
        training.fit_metamodelnet(jax.random.key(0), banks, *train, chain, schedule=Schedule(4, 2, 3, 8), context=rows_alone)
    programs = training.compile_programs(chain, 8, all_devices())
    assert programs.step._cache_size() == 1 and programs.losses._cache_size() == 1


def test_compiler_options_are_known_and_change_nothing_elsewhere():
    code = """
import importlib.machinery, sys
class Plugin:  # what JAX for an NVIDIA GPU installs
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, None) if name == "jax_cuda13_plugin" else None
sys.meta_path.append(Plugin())
from mmn_jax import devices
assert devices.COMPILER_OPTIONS.items() <= devices.SOLVER_OPTIONS.items()
assert devices.COMPILER_OPTIONS == {"xla_gpu_enable_triton_gemm": False}
import jax, numpy as np
x = np.random.default_rng(0).standard_normal((9, 4), np.float32)
def product(x): return x @ x.T
assert (jax.jit(product, compiler_options=devices.SOLVER_OPTIONS)(x) == jax.jit(product)(x)).all()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert COMPILER_OPTIONS == {} or find_spec("jax_cuda12_plugin") or find_spec("jax_cuda13_plugin")
