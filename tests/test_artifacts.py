"""Artefacts come back as they were, are made once, and are whole or not there."""

import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest

from mmn_jax.cli import command
from mmn_jax.errors import BadInput
from mmn_jax.store import artifacts

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


@pytest.mark.parametrize(("before", "left"), [(None, False), (artifacts.CODE, False), ("seed-0", True)])
def test_bad_input_leaves_no_new_folder_unless_it_holds_something(tmp_path, before, left):
    with pytest.raises(BadInput), artifacts.occupied(tmp_path / "run") as workdir:
        if before:
            (workdir / before).touch()
        raise BadInput("a file that is none")
    assert (tmp_path / "run").exists() == left


def test_bad_input_leaves_a_folder_that_was_there(tmp_path):
    with pytest.raises(BadInput), artifacts.occupied(tmp_path):
        raise BadInput("a file that is none")
    assert tmp_path.exists()


def test_a_workdir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="--workdir"):
        artifacts.writable_directory(tmp_path / "file")


def test_digests_tell_parts_apart():
    assert artifacts.digest("a", {"x": 1}) == artifacts.digest("a", {"x": 1}) != artifacts.digest("a", {"x": 2})


def spoil(path, how):
    content = bytearray(path.read_bytes())
    if how == "cut short":
        content = content[: len(content) // 2]
    elif how == "zeroed":
        content = bytes(len(content))
    else:
        content[len(content) // 2] ^= 4
    path.write_bytes(content)


def largest_file(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("how", ["cut short", "zeroed", "a bit flipped"])
@pytest.mark.parametrize("part", ["arrays/ocdbt.process_0/d", "arrays", "record"])
def test_a_damaged_artefact_is_never_taken_for_a_whole_one(tmp_path, capsys, part, how):
    path, made = tmp_path / "x", []

    def make():
        made.append(1)
        return ARRAYS, {"name": "é", "list": [1.5]}

    artifacts.cached(path, make)
    spoil(largest_file(path / part), how)
    assert (path / "record").exists()
    arrays, record = artifacts.cached(path, make)  # a file that isn't read may be damaged without harm
    np.testing.assert_array_equal(arrays["a"]["b"], ARRAYS["a"]["b"])
    assert record["name"] == "é" and record["list"] == [1.5]
    assert ("damaged, it is made again" in capsys.readouterr().err) == (len(made) == 2)


def test_a_record_that_was_changed_is_refused(tmp_path):
    artifacts.save(tmp_path / "x", ARRAYS, {"gradient_norm": 1e-6})
    record = tmp_path / "x" / "record" / "metadata"
    record.write_text(record.read_text().replace("1e-06", "1e-07"))
    for read in (artifacts.restore, artifacts.restore_record):
        with pytest.raises(BadInput, match=r"x: damaged; remove it, and the same command makes it again"):
            read(tmp_path / "x")


def test_an_artefact_without_checksums_is_made_again(tmp_path):
    """An artefact of an older schema is made again, should its hash ever come up."""
    artifacts.save(tmp_path / "x", ARRAYS, {})
    (tmp_path / "x" / "record" / "metadata").write_text('{"seconds": 1.0}')
    assert artifacts.kept(tmp_path / "x") is None and not (tmp_path / "x").exists()


def test_a_link_stays_one_and_a_pipe_is_written_to(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    for name in ("link", "pipe"):
        artifacts.write_bytes(tmp_path / name, b"new")
    assert os.read(reader, 9) == b"new" == (tmp_path / "file").read_bytes() and (tmp_path / "link").is_symlink()
    os.close(reader)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "pipe"]


def test_a_device_that_refuses_is_named_and_stays():
    with pytest.raises(OSError, match="/dev/full"):
        artifacts.write_bytes(Path("/dev/full"), b"new")
    assert Path("/dev/full").is_char_device()


@pytest.fixture
def no_large_file():
    """The system refuses to write beyond 100 kB into a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_save_that_the_disk_refuses_is_one_line_and_leaves_nothing_behind_its_name(tmp_path, capsys, no_large_file):
    noise = np.random.default_rng(0).bytes(400_000)
    arrays = {"a": np.frombuffer(noise, np.uint8)}
    assert command.exit_code(lambda: artifacts.save(tmp_path / "x", arrays, {})) == 2
    assert command.exit_code(lambda: artifacts.write_bytes(tmp_path / "y", noise)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["File too large"] * 2 and str(tmp_path / "x") in lines[0]
    assert not (tmp_path / "x").exists() and not (tmp_path / "y").exists()


def test_a_workdir_remembers_the_code_that_began_it(tmp_path):
    assert not artifacts.begun_by_other_code(tmp_path) and not artifacts.begun_by_other_code(tmp_path)
    (tmp_path / ".code.sha256").write_text("of another version")
    assert artifacts.begun_by_other_code(tmp_path) and artifacts.begun_by_other_code(tmp_path)
