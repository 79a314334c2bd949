"""The logs of a run: every evaluation and every method, strict JSON, TensorBoard's scalars, the same from artefacts as from training."""

import json
import struct

import jax
import pytest
from tensorboardX.proto.event_pb2 import Event
from test_pipeline import QUIET, small

from mmn_jax.pipeline import stages
from mmn_jax.store import artifacts, metrics_log


def logged(config, workdir):
    """The lines of a run up to meta."""
    with jax.numpy_dtype_promotion("standard"), metrics_log.written(workdir) as log:
        stages.run_seeds(config, workdir, QUIET._replace(log=log), "meta")
    return (workdir / "metrics.jsonl").read_text()


def scalars(workdir):
    """{run: {(tag, step): value}} of all event files: records of length, checksum, content and checksum."""
    runs = {}
    for path in (workdir / "tensorboard").rglob("events.*"):
        content, events = path.read_bytes(), []
        while content:
            (size,) = struct.unpack("<Q", content[:8])
            events.append(Event.FromString(content[12 : 12 + size]))
            content = content[16 + size :]
        values = {(one.tag, event.step): one.simple_value for event in events for one in event.summary.value}
        runs.setdefault(str(path.parent.relative_to(workdir / "tensorboard")), {}).update(values)
    return runs


@pytest.fixture(scope="module")
def run(feature_file, tmp_path_factory):
    config, workdir = small(feature_file), artifacts.writable_directory(tmp_path_factory.mktemp("metrics"))
    config.meta.task_weight = (0.1, 1.0)
    return config, workdir, logged(config, workdir)


def test_every_evaluation_and_every_method_has_a_line(run):
    _, _, text = run
    lines = [json.loads(line) for line in text.splitlines()]
    methods = [line["method"] for line in lines if line["kind"] == "method"]
    assert methods == ["plain", "over_sampling", "under_sampling", "cost_sensitive", "metamodelnet", "mmn", "logit_adjustment"]
    for weight in (0.1, 1.0):
        for stage in (0, 1):
            found = [line for line in lines if line.get("stage") == stage and line["task_weight"] == weight]
            assert [one["step"] for one in found][:2] == [0, 10] and 2 <= len(found) <= 3
            for one in found:
                assert one["held_out_loss"] == pytest.approx(one["held_out_rows"] + weight * one["held_out_task"])
            assert found[-1]["train_loss"] < found[0]["train_loss"]


def test_the_log_of_a_run_that_finds_all_made_is_the_same(run):
    config, workdir, text = run
    assert logged(config, workdir) == text
    assert len(list((workdir / "tensorboard").rglob("events.*"))) == 3  # the seed's and that of each candidate, the old ones gone


def test_tensorboard_has_what_the_lines_have(run):
    _, workdir, text = run
    runs = scalars(workdir)
    for line in map(json.loads, text.splitlines()):
        if line["kind"] == "method":
            assert runs["seed-0"][f"val_accuracy/{line['method']}", 0] == pytest.approx(line["val_accuracy"], rel=1e-6)
        else:
            found = runs[f"seed-0/{line['part']}/task_weight={line['task_weight']:g},rate=0.001,decay=0.01"]
            for loss in ("train_loss", "held_out_rows", "held_out_task", "held_out_loss"):
                assert found[f"stage-{line['stage']}/{loss}", line["step"]] == pytest.approx(line[loss], rel=1e-6)


def test_what_is_not_a_number_is_null_and_no_scalar(tmp_path):
    with metrics_log.written(tmp_path) as log:
        metrics_log.log_method(log, 3, "plain", float("nan"), float("inf"))
        metrics_log.log_method(log, 3, "mmn", 50.0, 1.0)
    first, _ = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(first) == {"kind": "method", "seed": 3, "method": "plain", "val_accuracy": None, "seconds": None}
    assert set(scalars(tmp_path)["seed-3"]) == {("val_accuracy/mmn", 0), ("seconds/mmn", 0)}


def test_where_nothing_is_logged_nothing_is_touched(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("old")
    with metrics_log.written(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"] and (tmp_path / "metrics.jsonl").read_text() == "old"
