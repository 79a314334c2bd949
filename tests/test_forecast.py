"""The forecast of a run: it names every stage that is left to do, costs nothing that is lost, and changes no result."""

import re

import jax
import numpy as np
import pytest
from conftest import blobs
from test_pipeline import small

from mmn_jax.methods import baselines, mmn
from mmn_jax.methods.tasks import make_task
from mmn_jax.pipeline import forecast, stages
from mmn_jax.store import artifacts
from mmn_jax.types import Knowledge, Normalised


def run(config, workdir, stage="meta"):
    """Returns what a run says of its forecast: the stages by name, and all lines."""
    messages = []
    with jax.numpy_dtype_promotion("standard"):
        stages.run_seeds(config, workdir, stages.Terminal(messages.append, lambda items, name: items), stage)
    found = [re.fullmatch(r"    (\w+) +([\d.]+) (s|min|h)  (.*)", line) for line in messages]
    return {match[1]: match[4] for match in found if match}, messages


@pytest.fixture(scope="module")
def done(feature_file, tmp_path_factory):
    config, workdir = small(feature_file), artifacts.writable_directory(tmp_path_factory.mktemp("forecast"))
    return config, workdir, run(config, workdir)


def test_every_stage_is_forecast_and_held_against_what_it_took(done):
    _, _, (found, messages) = done
    heads = "plain, over_sampling, under_sampling, cost_sensitive"
    assert list(found) == ["heads", "kshot", "meta", "ours", "rivals"] and found["heads"] == heads
    assert found["ours"] == "mmn" and found["rivals"] == "logit_adjustment" and found["kshot"] == "7 heads of 1 training set(s)"
    assert any(re.fullmatch(r"seed 0: took \d+ s, the forecast was \d+ s", line) for line in messages)
    for name in ("plain", "metamodelnet", "mmn", "logit_adjustment"):  # and a line for each method
        assert any(re.fullmatch(rf"  {name}: [\d.]+% on validation examples, \d+ settings, \d+ s", line) for line in messages)


def test_what_is_kept_is_not_forecast(done):
    config, workdir, _ = done
    found, messages = run(config, workdir)
    assert not found and "  everything is kept from before; nothing is fitted" in messages
    other = config.copy_and_resolve_references()
    other.meta.rate = (1e-4,)
    assert run(other, workdir)[0] == {"meta": "metamodelnet"}
    other = config.copy_and_resolve_references()
    other.methods = ("ncm", "plain")
    assert run(other, workdir)[0] == {"rivals": "ncm"}


def test_several_seeds_are_forecast_together():
    parts = [forecast.Part("heads", 50.0, "plain"), forecast.Part("meta", 3600.0, "metamodelnet")]
    lines = forecast.describe(parts, 5)
    assert lines[0] == "  forecast from this machine's speed now: about 60.8 min for this seed, 5.1 h for 5 seeds"
    assert lines[1:] == ["    heads       50 s  plain", "    meta     60.0 min  metamodelnet"]


def test_a_smaller_grid_shortens_what_has_a_ridge_and_shared_members_are_paid_for_once():
    train = Normalised(*blobs(0, [20, 10, 6], 5))
    known = Knowledge(np.eye(3), np.ones((1000, 5), np.float32))
    task, speed = make_task(train, jax.random.key(0), 1e-3, knowledge=known), forecast.Speed(1e9, 1.0, 0.0)
    family = mmn.methods((1e-2,))

    def seconds(names, ridges, methods=family):
        return forecast._methods_seconds({name: methods[name] for name in names}, forecast.Search(task, 1, ridges, 18), speed)

    assert seconds(["plain"], 1, baselines.methods((1e-2,))) < 0.2 * seconds(["plain"], 8, baselines.methods((1e-2,)))
    assert 0.3 * seconds(["mmn"], 8) < seconds(["mmn"], 1) < 0.5 * seconds(["mmn"], 8)
    assert seconds(["mmn", "mmn_names"], 8) < 1.5 * seconds(["mmn"], 8)
    assert seconds(["mmn_unlabelled"], 8) > seconds(["mmn_names"], 8)
