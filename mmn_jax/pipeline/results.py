"""From classifiers to the table: results.json, choices.json, classifier.npz, and the table as text, Markdown and CSV.

Accuracy on test examples is computed here and nowhere else, after every choice has been made.
"""

import csv
import io
import json
import math
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from mmn_jax import __version__
from mmn_jax.config import described
from mmn_jax.devices import together
from mmn_jax.evaluation.bootstrap import bootstrap, interval
from mmn_jax.evaluation.calibration import calibration_error, class_mean_nll, reliability
from mmn_jax.evaluation.label_prior import read_prior
from mmn_jax.evaluation.metrics import per_class_accuracy, prior_accuracy, shot_groups, terciles
from mmn_jax.pipeline.markdown import in_markdown
from mmn_jax.pipeline.sources import licence
from mmn_jax.pipeline.stages import SeedResult
from mmn_jax.store import artifacts

GROUPS = ("many", "medium", "few")
TERCILES = ("most", "middle", "rarest")

Table = dict[str, Any]


def _group_means(per_class, masks):
    """[seeds, groups] mean accuracy of each group's tested classes, NaN where there are none."""
    means = np.full(masks.shape[:2], np.nan)
    for seed, group in np.ndindex(means.shape):
        inside = per_class[seed][masks[seed, group]]
        if np.isfinite(inside).any():
            means[seed, group] = np.nanmean(inside)
    return means


def _mean_of_seeds(values):
    """Mean over the seeds in which a group has tested classes, NaN where the first has none, as its size is the one shown."""
    return np.nan if np.isnan(values[0]) else np.nanmean(values)


def _optional(value):
    return None if math.isnan(value) else float(value)


def _as_lists(arrays):
    return {name: array.tolist() for name, array in arrays.items()}


def _scores(models, logits, y, priors, per_class, groups):
    """One method's entry of results.json, but for its intervals; reliability is the first seed's, before and after the temperature."""
    from sklearn.metrics import f1_score  # slow to import

    accuracies = groups[:, 0].tolist()
    cooled = [one / model.temperature for one, model in zip(logits, models, strict=True)]
    return {
        "kind": models[0].kind,
        "tuned": {key: [model.tuned.get(key) for model in models] for key in {k: None for model in models for k in model.tuned}},
        "val_accuracy": float(np.mean([model.val_accuracy for model in models])),
        "accuracy": float(np.mean(accuracies)),
        "accuracy_per_seed": accuracies,
        **{name: _optional(_mean_of_seeds(groups[:, 1 + i])) for i, name in enumerate((*GROUPS, *TERCILES))},
        "prior_accuracy": _optional(np.mean([prior_accuracy(row, prior) for row, prior in zip(per_class, priors, strict=True)])),
        "macro_f1": float(np.mean([100 * f1_score(y, one.argmax(1), average="macro", zero_division=0) for one in logits])),
        "ece": float(np.mean([calibration_error(one, y) for one in logits])),
        "ece_scaled": float(np.mean([calibration_error(one, y) for one in cooled])),
        "reliability": {name: _as_lists(reliability(one[0], y)) for name, one in (("before", logits), ("after", cooled))},
        "nll": float(np.mean([class_mean_nll(one, y) for one in logits])),
        "nll_scaled": float(np.mean([class_mean_nll(one, y) for one in cooled])),
        "seconds": float(np.mean([model.seconds for model in models])),
    }


def collect(results: list[SeedResult], config: ConfigDict) -> Table:
    """The content of results.json for the methods of all seeds."""
    y = results[0].data.tail.test.y
    counts = [result.data.tail.counts for result in results]
    groups = [{**shot_groups(one, config.eval.few, config.eval.many), **terciles(one)} for one in counts]
    masks = np.stack([np.stack([np.ones(len(one), bool), *group.values()]) for one, group in zip(counts, groups, strict=True)])
    priors = [read_prior(config.eval.prior, one, "--config.eval.prior", results[0].class_names) for one in counts]
    names = list(results[0].models)
    methods, per_class, means, right = {}, {}, {}, []
    for name in names:
        models = [result.models[name] for result in results]
        logits = [model.logits(model.arrays, result.data.tail.test.x) for model, result in zip(models, results, strict=True)]
        right.append(np.stack([one.argmax(1) == y for one in logits]))
        per_class[name] = [per_class_accuracy(one, y) for one in logits]
        means[name] = _group_means(per_class[name], masks)
        methods[name] = _scores(models, logits, y, priors, per_class[name], means[name])
    rng = np.random.default_rng([result.seed for result in results])
    draws = bootstrap(np.stack(right, 1), y, masks, rng, config.eval.draws)
    resampled = {name: draws[:, i] for i, name in enumerate(names)}
    for name in names:
        methods[name]["accuracy_interval"] = list(interval(resampled[name][:, 0], methods[name]["accuracy"]))
        for versus, other in (("vs_plain", "plain"), ("vs_best_rival", best_rival(methods, name))):
            methods[name] |= _intervals(versus, name, other, resampled, means)
    return {
        "schema": 1,
        "dataset": results[0].dataset,
        "seeds": [result.seed for result in results],
        "thresholds": {"few": config.eval.few, "many": config.eval.many},
        "groups": {group: int(groups[0][group].sum()) for group in (*GROUPS, *TERCILES)},
        "prior": config.eval.prior,
        "validation": config.data.validation,
        "licence": licence(config),
        "methods": methods,
        "per_class": {name: [row.tolist() for row in rows] for name, rows in per_class.items()},
        "counts": [one.tolist() for one in counts],
        "splits": [dict(result.data.checksums) for result in results],
        "config_hash": artifacts.digest(described(config)),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    """Of Python and of every package that computes."""
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "scikit-learn")
    return {"python": platform.python_version(), "mmn_jax": __version__, **{name: metadata.version(name) for name in names}}


def best_rival(methods: dict[str, dict], name: str) -> str | None:
    """The rival, other than `name`, with the highest test accuracy: the one that is hardest to beat. None where none was fitted."""
    rivals = [other for other, entry in methods.items() if entry["kind"] == "rival" and other != name]
    return max(rivals, key=lambda other: methods[other]["accuracy"], default=None)


def _intervals(versus, name, other, resampled, means):
    """[mean, low, high] of the difference between two methods, overall and by group; None where there is nothing to compare."""
    if other is None:
        return {versus: None, f"{versus}_groups": None}
    mean = (means[name] - means[other]).mean(0)
    draws = resampled[name] - resampled[other]
    every = [None if math.isnan(m) or np.isnan(draws[:, i]).any() else list(interval(draws[:, i], m)) for i, m in enumerate(mean)]
    return {versus: every[0], f"{versus}_groups": dict(zip((*GROUPS, *TERCILES), every[1:], strict=True))}


def write(workdir: Path, table: Table, results: list[SeedResult]) -> None:
    """results.json, choices.json (every setting tried), the table as table.csv and table.md, and classifier.npz with the
    first seed's `mmn`: argmax(((x − mean) · scale) Wᵀ + b) is its prediction in plain numpy, softmax of the scores over the
    temperature its probabilities."""
    ours, normalise = results[0].models["mmn"], results[0].data.normalise
    theta = ours.arrays["theta"]
    buffer = io.BytesIO()
    np.savez(
        buffer,
        W=theta[:, :-1].astype(np.float32),
        b=theta[:, -1].astype(np.float32),
        class_names=np.array(results[0].class_names),
        counts=results[0].data.tail.counts,
        mean=normalise.mean,
        scale=np.full_like(normalise.mean, normalise.scale),
        temperature=np.float32(ours.temperature),
    )
    choices = {result.seed: {name: model.trials for name, model in result.models.items()} for result in results}
    artifacts.write_bytes(workdir / "classifier.npz", buffer.getvalue())
    artifacts.write_bytes(workdir / "choices.json", json.dumps(choices, indent=1).encode())
    artifacts.write_bytes(workdir / "table.csv", as_csv(table).encode())
    artifacts.write_bytes(workdir / "table.md", as_markdown(table).encode())
    artifacts.write_bytes(workdir / "results.json", json.dumps(table, indent=1).encode())
    together()  # the other processes wait until they are there


def read(workdir: Path) -> Table:
    """results.json of a workdir."""
    return json.loads((workdir / "results.json").read_text())


def number(value: float | None) -> str:
    """A figure to one decimal, n/a where there is none."""
    return "n/a" if value is None or math.isnan(value) else f"{value:.1f}"


class Clear(str):
    """The text of a difference whose interval leaves 0 out; tables show it in bold."""


def difference(values: Sequence[float] | None) -> str:
    """A difference and its interval; one whose interval holds 0 is a tie."""
    if values is None:
        return ""
    mean, low, high = values
    text = f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
    return f"{text} tie" if low <= 0 <= high else Clear(text)


def ranked(methods: dict[str, dict[str, Any]]) -> list[str]:
    """The methods' names, the most accurate first."""
    return sorted(methods, key=lambda name: -methods[name]["accuracy"])


def rows(table: Table) -> list[list[str]]:
    """The table as text: a header and one row a method, the most accurate first."""
    methods = table["methods"]
    rivals = any(method["vs_best_rival"] for method in methods.values())
    prior = table["prior"] != "uniform"
    header = ["method", "accuracy", *(["at prior"] if prior else []), "vs plain", *(["vs best rival"] if rivals else [])]
    lines = [[*header, *(f"{g} ({table['groups'][g]})" for g in GROUPS), "ECE", "scaled", "NLL", "seconds"]]
    for name in ranked(methods):
        method = methods[name]
        cells = [name, number(method["accuracy"]), *([number(method["prior_accuracy"])] if prior else [])]
        cells += ["" if name == "plain" else difference(method["vs_plain"]), *([difference(method["vs_best_rival"])] if rivals else [])]
        cells += [number(method[group]) for group in GROUPS]
        lines.append(
            [*cells, number(method["ece"]), number(method["ece_scaled"]), f"{method['nll_scaled']:.2f}", f"{method['seconds']:.0f}"]
        )
    return lines


def as_text(table: Table) -> str:
    """The table for a terminal, in aligned columns."""
    lines = rows(table)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    )


def as_markdown(table: Table) -> str:
    """The table in Markdown."""
    return markdown(
        [[f"**{in_markdown(cell)}**" if isinstance(cell, Clear) else in_markdown(cell) for cell in line] for line in rows(table)]
    )


def markdown(lines: list[list[str]]) -> str:
    """A header and rows of cells, which are Markdown themselves, as a Markdown table, numbers to the right."""
    bars = ["---"] + ["---:"] * (len(lines[0]) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], bars, *lines[1:]])


FIELDS = (
    "kind",
    "accuracy",
    *GROUPS,
    *TERCILES,
    "prior_accuracy",
    "macro_f1",
    "ece",
    "ece_scaled",
    "nll",
    "nll_scaled",
    "val_accuracy",
    "seconds",
)


def as_csv(table: Table) -> str:
    """Every figure of results.json that is one number a method, and the two intervals."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["method", *FIELDS, *(f"{v}{end}" for v in ("vs_plain", "vs_best_rival") for end in ("", "_low", "_high"))])
    for name, method in table["methods"].items():
        ends = [value for versus in ("vs_plain", "vs_best_rival") for value in (method[versus] or [""] * 3)]
        writer.writerow([name, *(method[field] for field in FIELDS), *ends])
    return buffer.getvalue()
