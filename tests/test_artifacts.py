"""Artefacts come back as they were, are made once, and are whole or not there."""

import os

import numpy as np
import pytest

from mmn_jax import artifacts
from mmn_jax.types import BadInput

ARRAYS = {"a": {"b": np.arange(6, dtype=np.float32).reshape(2, 3)}, "labels": np.arange(3)}


def test_arrays_and_record_come_back_as_they_were(tmp_path):
    artifacts.save(tmp_path / "x", ARRAYS, {"name": "é", "list": [1, 2.5, None]})
    arrays, record = artifacts.restore(tmp_path / "x")
    np.testing.assert_array_equal(arrays["a"]["b"], ARRAYS["a"]["b"])
    assert arrays["labels"].dtype == ARRAYS["labels"].dtype
    assert record == artifacts.restore_record(tmp_path / "x") == {"name": "é", "list": [1, 2.5, None]}


def test_cached_makes_once(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return ARRAYS, {}

    for _ in range(2):
        _, record = artifacts.cached(tmp_path / "x", make)
    assert len(calls) == 1 and record["seconds"] >= 0


def test_a_save_that_fails_leaves_nothing_behind_its_name(tmp_path):
    with pytest.raises(TypeError):
        artifacts.save(tmp_path / "x", ARRAYS, {"not json": {1, 2}})
    assert not (tmp_path / "x").exists()


def test_leftovers_of_interrupted_saves_are_cleared(tmp_path):
    (tmp_path / "seed-0" / "bank.orbax-checkpoint-tmp-1").mkdir(parents=True)
    (tmp_path / "seed-0" / "bank").mkdir()
    with artifacts.occupied(tmp_path):
        pass
    assert [p.name for p in (tmp_path / "seed-0").iterdir()] == ["bank"]


def test_two_runs_are_never_in_one_workdir(tmp_path):
    saving = tmp_path / "seed-0" / "bank-1" / "heads.orbax-checkpoint-tmp-1"
    with artifacts.occupied(tmp_path):
        saving.mkdir(parents=True)
        with pytest.raises(BadInput, match=f"process {os.getpid()} is at work there"), artifacts.occupied(tmp_path):
            pass
        assert saving.exists()
    with artifacts.occupied(tmp_path):
        assert not saving.exists()


def test_a_workdir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="--workdir"):
        artifacts.writable_directory(tmp_path / "file")


def test_digests_tell_parts_apart():
    assert artifacts.digest("a", {"x": 1}) == artifacts.digest("a", {"x": 1}) != artifacts.digest("a", {"x": 2})
