"""The diagnosis: its subsamples, its words, and what it refuses."""

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import blobs

from mmn_jax.cli import diagnose
from mmn_jax.data.longtail import class_pool
from mmn_jax.errors import BadInput
from mmn_jax.methods.diagnosis import Diagnosis, subsample
from mmn_jax.types import Examples

COUNTS = np.array([60, 40, 30, 20, 12, 9, 8, 3, 1])
TRAIN = Examples(*blobs(0, COUNTS, 6, spread=2.0))


def test_a_subsample_leaves_every_class_examples_to_choose_by_and_to_evaluate():
    pool = class_pool(TRAIN, np.arange(7))
    parts = subsample(jax.random.key(0), pool, COUNTS)
    sizes = np.stack([np.bincount(part.y, minlength=7) for part in parts])
    np.testing.assert_array_equal(sizes.sum(0), COUNTS[:7])
    assert (sizes[0] >= 1).all() and (sizes[1:] >= 2).all() and (sizes[0] <= COUNTS[:7] // 2).all()
    assert (parts[0].x.astype(float) ** 2).sum(1).mean() == pytest.approx(1, rel=1e-3)


def test_it_names_the_gain_its_interval_and_too_few_classes():
    found = diagnose.diagnose(TRAIN, cuts=2)
    assert found.low <= found.gains.mean() <= found.high and found.classes == 7 and len(found.gains) == 2
    text = diagnose.describe(found)
    assert f"{found.gains.mean():+.1f} points" in text and "only 7 classes" in text
    certain = diagnose.describe(Diagnosis(np.array([1.0, 1.2]), 0.5, 1.5, 100))
    assert "warning" not in certain and "contains 0" not in certain


def test_without_classes_to_subsample_it_refuses():
    with pytest.raises(BadInput, match="at least 3 must"):
        diagnose.diagnose(Examples(*blobs(0, [9, 8, 7, 7], 3)))


def write_parquet(path, *names):
    pq.write_table(pa.table(dict(zip(names, (TRAIN.x.tolist(), TRAIN.y, ["train"] * len(TRAIN.y)), strict=False))), path)


def test_columns_of_other_names_are_given_by_the_flags_that_its_message_names(tmp_path, capsys):
    write_parquet(tmp_path / "train.parquet", "embedding", "class")
    command = [f"--features={tmp_path}", "--cuts=2"]
    for role, name in (("features", "embedding"), ("label", "class")):
        assert diagnose.main(command) == 2
        message = capsys.readouterr().err
        flag = f"--config.data.columns.{role}"
        assert f"it has embedding, class; name it by {flag}" in message and len(message.splitlines()) == 1
        command.append(f"{flag}={name}")
    assert diagnose.main(command) == 0
    assert "expected gain of mmn" in capsys.readouterr().out


def test_the_column_of_parts_has_a_flag_too(tmp_path, capsys):
    write_parquet(tmp_path / "all.parquet", "features", "label", "part")
    command = [f"--features={tmp_path / 'all.parquet'}", "--cuts=2"]
    assert diagnose.main(command) == 2 and "--config.data.columns.split" in capsys.readouterr().err
    assert diagnose.main([*command, "--config.data.columns.split=part"]) == 0
