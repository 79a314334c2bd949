"""Heads whose examples are shared out over devices: the same rows as on one, at a size where a solve takes many products."""

import jax
import numpy as np
import pytest

from mmn_jax.data import synthetic
from mmn_jax.linear.coordinates import eigen_coordinates
from mmn_jax.linear.problem import HeadProblem
from mmn_jax.linear.weighting import Weighting
from mmn_jax.methods import tasks
from mmn_jax.types import Normalised

CLASSES, DIM = 120, 384
TOL = 1e-5


def made(largest, median):
    x, y = synthetic.make("large", CLASSES, DIM, largest, median, 1, scatter=10.0).train
    return Normalised(x / np.sqrt((x**2).sum(1).mean()), y)


def fitted(train, weighting, l2):
    zeros = np.zeros((CLASSES, DIM + 1), np.float32)
    return tasks.fit_weighted(train, weighting, l2, tasks.Start(zeros), TOL, eigen_coordinates(np.ones(DIM, np.float32), train.x))


@pytest.mark.parametrize(("share", "by_example"), [(tasks.SHARE, False), (256, True)])
def test_a_head_on_eight_devices_is_the_one_on_one(share, by_example, monkeypatch):
    monkeypatch.setattr(tasks, "SHARE", share)
    train = made(500, 60) if share == 1024 else made(200, 15)
    assert jax.local_device_count() == 8 and len(train.y) >= 8 * tasks.SHARE
    rng = np.random.default_rng(0)
    offset = rng.normal(size=(len(train.y), CLASSES) if by_example else CLASSES).astype(np.float32)
    weighting = Weighting(rng.uniform(0.5, 2, len(train.y)).astype(np.float32), offset)
    problem, size = tasks._on_devices(HeadProblem(train.x, train.y, *weighting, np.float32(1e-4)), CLASSES)
    assert size is None and {shard.data.shape[0] for shard in problem.x.addressable_shards} == {len(problem.x) // 8}
    theta, info = fitted(train, weighting, 1e-4)
    monkeypatch.setattr(tasks, "SHARE", 10**6)
    alone, its = fitted(train, weighting, 1e-4)
    assert info.converged and its.converged and its.products > 20
    np.testing.assert_allclose(theta, alone, atol=2e-3 * np.abs(alone).max())
