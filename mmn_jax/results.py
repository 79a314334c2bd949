"""From classifiers to the table: results.json and classifier.npz.

Accuracy on test examples is computed here and nowhere else, after every choice has been made.
"""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from mmn_jax import artifacts
from mmn_jax.evaluate import calibration_error, paired_interval, per_class_accuracy, predict_logits, shot_groups
from mmn_jax.pipeline import SeedResult, versions

KINDS = {"metamodelnet": "paper", "mmn": "ours"}
GROUPS = ("many", "medium", "few")


def _group_mean(per_class, masks):
    """Mean over seeds of a group's mean accuracy; None where the group is empty or was never tested."""
    means = [np.nanmean(row[mask]) for row, mask in zip(per_class, masks, strict=True) if np.isfinite(row[mask]).any()]
    return float(np.mean(means)) if means else None


def _method(name, results, right, config):
    y = results[0].data.tail.test.y
    models = [result.models[name] for result in results]
    logits = [predict_logits(model.theta, result.data.tail.test.x) for model, result in zip(models, results, strict=True)]
    per_class = [per_class_accuracy(one, y) for one in logits]
    right[name] = np.stack([one.argmax(1) == y for one in logits]).astype(float)
    masks = [shot_groups(result.data.tail.counts, config.eval.few, config.eval.many) for result in results]
    accuracies = [float(np.nanmean(row)) for row in per_class]
    rng = np.random.default_rng([result.seed for result in results])  # the same draws for every method
    interval = paired_interval(right[name] - right["plain"], y, rng, config.eval.draws)
    entry = {
        "kind": KINDS.get(name, "paper"),
        "tuned": {key: [model.tuned.get(key) for model in models] for key in models[0].tuned},
        "val_accuracy": float(np.mean([model.val_accuracy for model in models])),
        "accuracy": float(np.mean(accuracies)),
        "accuracy_per_seed": accuracies,
        **{group: _group_mean(per_class, [mask[group] for mask in masks]) for group in GROUPS},
        "ece": float(np.mean([calibration_error(one, y) for one in logits])),
        "seconds": float(np.mean([model.seconds for model in models])),
        "vs_plain": list(interval),
        "vs_best_rival": None,  # no rival from outside the paper is fitted yet
    }
    return entry, [row.tolist() for row in per_class]


def collect(results: list[SeedResult], config: ConfigDict) -> dict[str, Any]:
    """The content of results.json for the methods of all seeds."""
    right, methods, per_class = {}, {}, {}
    for name in results[0].models:
        methods[name], per_class[name] = _method(name, results, right, config)
    groups = shot_groups(results[0].data.tail.counts, config.eval.few, config.eval.many)
    return {
        "schema": 1,
        "dataset": results[0].dataset,
        "seeds": [result.seed for result in results],
        "thresholds": {"few": config.eval.few, "many": config.eval.many},
        "groups": {group: int(groups[group].sum()) for group in GROUPS},
        "methods": methods,
        "per_class": per_class,
        "counts": [result.data.tail.counts.tolist() for result in results],
        "config_hash": artifacts.digest(config.to_dict()),
        "versions": versions(),
    }


def write(workdir: Path, table: dict[str, Any], result: SeedResult) -> None:
    """results.json, and classifier.npz with the first seed's `mmn`:
    argmax(((x − mean) · scale) Wᵀ + b) is its prediction in plain numpy."""
    theta, normalise = result.models["mmn"].theta, result.data.normalise
    buffer = io.BytesIO()
    np.savez(
        buffer,
        W=theta[:, :-1].astype(np.float32),
        b=theta[:, -1].astype(np.float32),
        class_names=np.array(result.class_names),
        mean=normalise.mean,
        scale=np.full_like(normalise.mean, normalise.scale),
    )
    artifacts.write_bytes(workdir / "classifier.npz", buffer.getvalue())
    artifacts.write_bytes(workdir / "results.json", json.dumps(table, indent=1).encode())


def read(workdir: Path) -> dict[str, Any]:
    """results.json of a workdir."""
    return json.loads((workdir / "results.json").read_text())


def _number(value):
    return "n/a" if value is None or math.isnan(value) else f"{value:.1f}"


def rows(table: dict[str, Any]) -> list[list[str]]:
    """The table as text: a header and one row a method."""
    header = ["method", "accuracy", "vs plain", *(f"{g} ({table['groups'][g]})" for g in GROUPS), "ECE", "seconds"]
    lines = [header]
    for name, method in table["methods"].items():
        mean, low, high = method["vs_plain"]
        difference = "" if name == "plain" else f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
        groups = [_number(method[group]) for group in GROUPS]
        lines.append([name, _number(method["accuracy"]), difference, *groups, _number(method["ece"]), f"{method['seconds']:.0f}"])
    return lines


def as_text(table: dict[str, Any]) -> str:
    """The table for a terminal, in aligned columns."""
    lines = rows(table)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    )


def as_markdown(table: dict[str, Any]) -> str:
    """The table in Markdown."""
    lines = rows(table)
    bars = ["---"] + ["---:"] * (len(lines[0]) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], bars, *lines[1:]])
