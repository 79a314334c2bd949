"""The diagnosis: its subsamples, its words, and what it refuses."""

import re

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import blobs

from mmn_jax import TailClassifier
from mmn_jax.cli import diagnose
from mmn_jax.data.longtail import class_pool
from mmn_jax.errors import BadInput
from mmn_jax.methods.diagnosis import Diagnosis, Level, Worth, expected_seconds, subsample
from mmn_jax.types import Examples, Knowledge

COUNTS = np.array([60, 40, 30, 20, 12, 9, 8, 3, 1])
TRAIN = Examples(*blobs(0, COUNTS, 6, spread=2.0))


def test_a_subsample_leaves_every_class_examples_to_choose_by_and_to_evaluate():
    pool = class_pool(TRAIN, np.arange(7))
    _, *parts = subsample(jax.random.key(0), pool, COUNTS)
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
    for line in ("accuracy by number of training examples", "advice: take", "what would change it: "):
        assert line in text


def test_its_levels_are_those_of_the_subsamples_and_of_the_training_set():
    told, names = [], [f"kind {c}" for c in range(len(COUNTS))]
    found = diagnose.diagnose(TRAIN, cuts=2, names=names, say=told.append)
    assert found.levels
    for one in found.levels:
        own = [c for c in reversed(range(len(COUNTS))) if one.least <= COUNTS[c] <= one.most]
        assert one.classes == len(own) and one.rarest == tuple(names[c] for c in own[:5])
    assert all(0 < accuracy <= 100 for one in found.levels for accuracy in one.accuracies.values())
    assert told[0].startswith("2 subsamples of 7 classes: about ") and sum("subsample 2 of 2" in line for line in told) == 2


def level(least, most, theirs, ours, low, high, classes=4):
    return Level(least, most, classes, {"logit_adjustment": theirs, "mmn": ours}, low, high, ("ant", "bee"))


RARE, MORE, LESS = level(1, 3, 50.0, 55.0, 2.0, 8.0), level(4, 15, 80.0, 79.5, -2.0, 1.0), level(16, 63, 80.0, 78.0, -3.0, -1.0)


@pytest.mark.parametrize(
    ("gains", "interval", "levels", "words"),
    [
        ([2.0, 3.0], (1.0, 4.0), (RARE, MORE), ["take mmn\n", "for classes with 4 to 15 these subsamples don't tell the two apart"]),
        ([2.0, 3.0], (1.0, 4.0), (RARE, LESS), ["take mmn\n", "logit_adjustment is ahead for classes with 16 to 63"]),
        ([2.0, 3.0], (1.0, 4.0), (MORE,), ["not known: at no number of examples by itself"]),
        ([2.0, 3.0], (1.0, 4.0), (), ["not known: at no number of examples by itself"]),
        ([2.0, 3.0], (1.0, 4.0), (RARE,), ["nothing that these subsamples show: mmn is ahead at every number"]),
        ([-2.0, -3.0], (-4.0, -1.0), (MORE,), ["take logit_adjustment: logit adjustment is ahead"]),
        (
            [0.0, 1.0],
            (-1.0, 2.0),
            (RARE, MORE),
            ["take either: mmn was ahead in 1 of 2", "if the classes with 1 to 3 examples", "more subsamples"],
        ),
        (
            [0.0, 1.0],
            (-1.0, 2.0),
            (RARE, MORE),
            ["the 4 classes that have 1 to 3, first of ant, bee: here such classes reached 55%, those with 4 to 15 80%"],
        ),
    ],
)
def test_advice_follows_the_intervals(gains, interval, levels, words):
    text = str(Diagnosis(np.array(gains), *interval, 100, levels))
    assert all(each in text for each in words), text


@pytest.mark.parametrize(
    ("interval", "advice"),
    [
        ((1.0, 4.0), "advice: use the examples without labels"),
        ((-4.0, -1.0), "advice: leave the examples without labels out"),
        ((-1.0, 4.0), ""),
    ],
)
def test_what_is_known_is_used_or_left_out_by_its_interval(interval, advice):
    worth = (Worth("mmn_unlabelled", ("unlabelled",), np.array([2.0, 3.0]), *interval),)
    text = str(Diagnosis(np.array([2.0, 3.0]), 1.0, 4.0, 100, (RARE,), worth))
    assert f"expected gain of mmn_unlabelled over mmn, by examples without labels: +2.5 ({interval[0]:+.1f} to {interval[1]:+.1f})" in text
    assert advice in text if advice else "without labels out" not in text and "use the" not in text


def test_what_is_known_of_the_classes_is_evaluated_on_the_same_subsamples(tmp_path, capsys):
    counts, means = np.array([30, 20, 15, 12, 10, 9, 8, 8, 3]), np.random.default_rng(5).normal(size=(9, 5)) * 2
    y = np.repeat(np.arange(9, dtype=np.int32), counts)
    x = (means[y] + np.random.default_rng(1).normal(size=(len(y), 5))).astype(np.float32)
    pool = (np.repeat(means, 10, axis=0) + np.random.default_rng(2).normal(size=(90, 5))).astype(np.float32)
    np.savez(
        tmp_path / "known.npz", train_x=x, train_y=y, class_names=[f"k{c}" for c in range(9)], class_embeddings=means, unlabelled_x=pool
    )
    assert diagnose.main([f"--features={tmp_path / 'known.npz'}", "--cuts=2"]) == 0
    shown = capsys.readouterr().out
    worth = re.findall(r"expected gain of (\w+) over mmn, by (.*): ([+-][\d.]+) \(", shown)
    assert [one[0] for one in worth] == ["mmn_names", "mmn_unlabelled", "mmn_all"]
    assert worth[2][1] == "descriptions of the classes and examples without labels"
    known = diagnose.diagnose(Examples(x, y), cuts=2, knowledge=Knowledge(means, pool))
    alone = diagnose.diagnose(Examples(x, y), cuts=2)
    np.testing.assert_array_equal(known.gains, alone.gains)  # more methods change nothing of these
    assert [f"{one.gains.mean():+.1f}" for one in known.worth] == [one[2] for one in worth] and not alone.worth
    found = TailClassifier(random_state=0).diagnose(x, y, cuts=2, class_embeddings=dict(enumerate(means)), X_unlabelled=pool)
    assert [one.gains.tolist() for one in found.worth] == [one.gains.tolist() for one in known.worth]


def test_there_is_nothing_to_collect_where_more_examples_add_nothing():
    even = [level(*one._replace(least=1)[:2], 80.0, 80.0, -1.0, 1.0) for one in (RARE, MORE)]
    assert "collect" not in str(Diagnosis(np.array([0.0, 1.0]), -1.0, 2.0, 100, tuple(even)))


def test_it_takes_longer_with_more_of_everything():
    seconds = expected_seconds(COUNTS, 6, 2)
    assert seconds < expected_seconds(COUNTS, 6000, 2) and seconds < expected_seconds(COUNTS, 6, 5)
    assert seconds < expected_seconds(10 * COUNTS, 6, 2)


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
