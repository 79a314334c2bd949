"""The banks of a run on the disk: made in pieces, continued, read back, and refused where they can't fit."""

import shutil

import jax
import numpy as np
import pytest
from conftest import blobs

from mmn_jax import config, machine
from mmn_jax.devices import AXIS
from mmn_jax.errors import BadInput
from mmn_jax.linear.problem import padded
from mmn_jax.metamodelnet import kshot_bank
from mmn_jax.methods.folds import Fold
from mmn_jax.store import banks
from mmn_jax.store.run import Run
from mmn_jax.store.terminal import Terminal
from mmn_jax.types import Normalised

ONE = jax.sharding.Mesh(jax.devices()[:1], (AXIS,))
COUNTS = np.array([90, 70, 50, 40, 12, 9])
PART = Fold("split-x", Normalised(*blobs(0, COUNTS, 4)), None)


def make(workdir, monkeypatch, piece=2**27, says=None, **kshot):
    workdir.mkdir(exist_ok=True)
    monkeypatch.setattr(banks, "PIECE", piece)
    settings = config.default()
    settings.kshot.update({"subsets": (150, 90), "top": 1, "l2": 1e-3, "memory_mb": 1} | kshot)
    terminal = Terminal(print if says is None else says.append, lambda items, name: items)
    return banks.banks(Run(settings, 0, workdir, None, "", terminal), PART, ONE)


def test_pieces_hold_what_one_whole_would(tmp_path, monkeypatch):
    whole = make(tmp_path / "whole", monkeypatch).every
    pieces = make(tmp_path / "pieces", monkeypatch, piece=1).every
    for one, many in zip(whole, pieces, strict=True):
        assert one.subsets == many.subsets and one.shots == many.shots
        np.testing.assert_allclose(many.heads(0, many.subsets), one.heads(0, one.subsets), atol=1e-2)
        np.testing.assert_array_equal(many.heads(3, 9), many.heads(0, many.subsets)[3:9])
        assert many.heads(4, 4).shape == (0, *many.target.shape)


def test_a_run_goes_on_after_the_last_piece(tmp_path, monkeypatch):
    first = make(tmp_path, monkeypatch, piece=1).every[0]
    rows, folder = first.heads(0, 150), next((tmp_path / "seed-0").glob("bank-1-*"))
    pieces = sorted(folder.glob("heads-*"), key=lambda path: int(path.name.split("-")[1]))
    assert len(pieces) > 1
    shutil.rmtree(pieces[-1])
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("**/_METADATA")}
    again = make(tmp_path, monkeypatch, piece=1).every[0]
    assert kept.items() <= {path: path.stat().st_mtime_ns for path in folder.glob("**/_METADATA")}.items()
    np.testing.assert_array_equal(again.heads(0, 150), rows)


def test_a_damaged_piece_is_made_again_and_what_it_cuts_off_with_it(tmp_path, monkeypatch, capsys):
    first = make(tmp_path, monkeypatch, piece=1).every[0]
    rows, folder = first.heads(0, 150), next((tmp_path / "seed-0").glob("bank-1-*"))
    pieces = sorted(folder.glob("heads-*"), key=lambda path: int(path.name.split("-")[1]))
    record = pieces[1] / "record" / "metadata"
    record.write_text(record.read_text().replace("e-0", "e-1", 1))
    kept = (pieces[0] / "_CHECKPOINT_METADATA").stat().st_mtime_ns
    again = make(tmp_path, monkeypatch, piece=1).every[0]
    assert f"{pieces[1]}: damaged, it is made again" in capsys.readouterr().err
    assert (pieces[0] / "_CHECKPOINT_METADATA").stat().st_mtime_ns == kept
    np.testing.assert_array_equal(again.heads(0, 150), rows)


def test_what_banks_will_take_is_printed_before_they_are_made_and_only_then(tmp_path, monkeypatch):
    messages = [], []
    for lines in messages:
        make(tmp_path, monkeypatch, says=lines)
    expected = sum(4 * subsets * len(COUNTS) * 5 for subsets in (150, 90)) / 1e6
    assert "240 heads to solve on 1 device(s): about" in messages[0][0] and f"{expected:.0f} MB on disk" in messages[0][0]
    assert not any("to solve" in line for line in messages[1])


def test_banks_that_do_not_fit_are_refused_by_the_setting_that_makes_them_fit(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match=r"--config.kshot.subsets: the banks take 1000.0 GB.*lower it, or give another workdir"):
        banks.check_disk(banks.Forecast(1, 1.0, 10**12, 1, {}), tmp_path)
    examples, dim, classes = padded(COUNTS.sum()), 4, len(COUNTS)
    one, two = (kshot_bank.head_bytes(k * classes, dim, classes, examples) + 16 * examples * dim for k in (1, 2))
    for memory, subsets, message in (
        (one - 1, (150, 90), r"--config.data.longtail.max_per_class: a head of k = 1 takes .* GB of memory, there are .*; lower it"),
        (two - 1, (1, 90), r"--config.kshot.top: a head of k = 2 takes .*; lower it below 1, or data.longtail.max_per_class"),
        (2 * two, (150, 90), r"--config.kshot.memory_mb: heads of k = 1 take .*; lower it below 1, so that fewer are solved at once"),
    ):
        monkeypatch.setattr(banks, "device_memory", lambda memory=memory: memory)
        with pytest.raises(BadInput, match=message):
            make(tmp_path, monkeypatch, subsets=subsets)


def test_a_batch_that_does_not_fit_after_all_is_solved_at_half_its_size_once(tmp_path, monkeypatch):
    whole, messages, sizes = make(tmp_path / "whole", monkeypatch).every, [], []
    solve, limit = kshot_bank.fit_heads, 40

    def fit_heads(key, first, pool, plan, devices):
        size = kshot_bank.chunk_size(pool.shape, plan, devices.size)
        sizes.append(size)
        if size > limit:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes.")
        return solve(key, first, pool, plan, devices)

    monkeypatch.setattr(kshot_bank, "fit_heads", fit_heads)
    first = max(
        kshot_bank.chunk_size((padded(COUNTS.sum()), 4, len(COUNTS)), kshot_bank.BankPlan(k, 150, 1.0, 1.0, 1.0, 1 << 20), 1)
        for k in (1, 2)
    )
    limit = first // 2
    halves = make(tmp_path / "halves", monkeypatch, says=messages).every
    assert f"  k = 1: {first} heads at once don't fit into memory, going on with {first // 2}" in messages and first // 2 in sizes
    for one, many in zip(whole, halves, strict=True):
        np.testing.assert_allclose(many.heads(0, many.subsets), one.heads(0, one.subsets), atol=1e-2)
    limit = 1
    with pytest.raises(jax.errors.JaxRuntimeError):
        make(tmp_path / "none", monkeypatch)


def test_a_container_that_has_less_memory_than_the_machine_is_what_counts(tmp_path, monkeypatch):
    whole = machine.host_memory()
    for name, text in (("none", "max\n"), ("less", "1000000\n")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(machine, "CGROUP_LIMITS", (str(tmp_path / "none"), str(tmp_path / "missing")))
    assert machine.host_memory() >= whole
    monkeypatch.setattr(machine, "CGROUP_LIMITS", (str(tmp_path / "none"), str(tmp_path / "less")))
    assert machine.host_memory() == 1_000_000
