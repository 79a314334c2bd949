"""One device or eight: the same rows, the same training."""

import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import environment
from conftest import ROOT, blobs

from mmn_jax.devices import AXIS, all_devices
from mmn_jax.metamodelnet import kshot_bank, training
from mmn_jax.metamodelnet.chain import residual_chain
from mmn_jax.metamodelnet.level import Hyper, Schedule, train_level
from mmn_jax.metamodelnet.regressor import Context, RegressorSpec
from mmn_jax.metamodelnet.training_data import held_out_classes, training_data
from mmn_jax.types import Normalised

ONE = jax.sharding.Mesh(jax.devices()[:1], (AXIS,))
COUNTS = np.full(11, 8)


def bank(mesh, subsets=13):
    train = Normalised(*blobs(0, COUNTS, 5))
    return kshot_bank.fit_bank(jax.random.key(3), *train, 2, subsets=subsets, l2=0.05 / 88, tol=1e-5, memory=1 << 20, mesh=mesh), train


def test_eight_devices_solve_the_heads_of_one_though_their_number_is_uneven():
    assert all_devices().size == 8
    one, eight = (bank(mesh)[0].heads(0, 13) for mesh in (ONE, all_devices()))
    assert eight.shape == (13, 11, 6)
    np.testing.assert_allclose(eight, one, atol=1e-3 * np.abs(one).max())


def test_eight_devices_learn_what_one_learns():
    chain, context, held = residual_chain((2,), 8), Context(None, jnp.zeros(11, jnp.int32)), held_out_classes(COUNTS, 0.2)
    made, train = bank(ONE)
    trained = []
    for mesh in (ONE, all_devices()):
        data = partial(training_data(jax.random.key(0), [made], train, held, mesh), 0)
        programs = training.compile_programs(chain, 16, mesh)
        start = chain.init(jax.random.key(1), RegressorSpec(6, 0))
        hyper, schedule = Hyper(0.1, 1e-2, 1e-3), Schedule(20, 10, 3, 16)
        with jax.numpy_dtype_promotion("standard"):
            _, report = train_level(programs, start, hyper, jax.random.key(2), context, data, schedule)
            trained.append([one.loss for one in report.evaluations])
    np.testing.assert_allclose(*trained, rtol=1e-2)
    assert trained[0][-1] < trained[0][0]


REAL_SIZES = """
import sys, threading
import jax
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
import numpy as np
from mmn_jax.metamodelnet import kshot_bank
from mmn_jax.data import synthetic
from mmn_jax.devices import AXIS, all_devices
from mmn_jax.data.normalisation import normalisation

train = synthetic.make("wide", 40, 384, 12, 12, 1).train
train = train.at(np.isin(train.y, np.flatnonzero(np.bincount(train.y) >= 8)))
train = normalisation(train).of(train)
counts = np.bincount(train.y)
one, every = jax.sharding.Mesh(jax.devices()[:1], (AXIS,)), all_devices()

def solve(k, mesh):
    pool = kshot_bank.bank_pool(train, counts, k, mesh)
    return kshot_bank.fit_heads(jax.random.key(0), 0, pool, kshot_bank.BankPlan(k, 16, 0.01, 1e-4, 1e-4, 1 << 30), mesh)[0]

for k in (1, 4):
    alone = solve(k, one)
    np.testing.assert_allclose(solve(k, every), alone, atol=1e-2 * np.abs(alone).max())
threads = [threading.Thread(target=solve, args=(1, one)) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(counts), "classes done")
"""


@pytest.mark.parametrize("devices", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_heads_of_fewer_examples_than_dimensions_end_on_devices_and_threads_that_share_a_processor(devices):
    command = [sys.executable, "-c", REAL_SIZES, str(devices)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=180)
    assert done.returncode == 0 and done.stdout == "24 classes done\n", done.stdout + done.stderr
