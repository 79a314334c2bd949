"""Computes the content of results.json from fitted classifiers, and writes it with choices.json, classifier.npz and the table.

Test accuracy is computed here and nowhere else, after every choice has been made. Without a test set, accuracy is that of the training
examples that folds hold out, which hyperparameters were chosen on, too.
"""

import json
import math
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from mmn_jax import __version__
from mmn_jax.config import described, flat
from mmn_jax.devices import together
from mmn_jax.errors import BadInput
from mmn_jax.evaluation.bootstrap import FEWEST_SEEDS, bootstrap, interval
from mmn_jax.evaluation.calibration import calibration_error, class_mean_nll, reliability
from mmn_jax.evaluation.label_prior import read_prior
from mmn_jax.evaluation.metrics import per_class_accuracy, prior_accuracy, shot_groups, terciles
from mmn_jax.methods.catalogue import every_method
from mmn_jax.methods.contract import linear_logits
from mmn_jax.methods.folds import in_order
from mmn_jax.pipeline.advice import advise, best_other, best_rival
from mmn_jax.pipeline.sources import licence
from mmn_jax.pipeline.stages import SeedResult
from mmn_jax.pipeline.table_formats import EVALUATED, GROUPS, TERCILES, Table, as_csv, as_markdown
from mmn_jax.store import artifacts
from mmn_jax.store.classifier import as_npz, of_rows
from mmn_jax.store.run import Model


def labels(result: SeedResult) -> np.ndarray:
    """Returns the labels [n] of the examples that a seed is evaluated on: the test set or, without one, what folds hold out."""
    test, folds = result.data.tail.test, result.data.folds
    return in_order([fold.val.y for fold in folds if fold.val is not None], folds) if test is None else test.y


def _logits(result: SeedResult, model: Model) -> np.ndarray:
    """Returns a model's logits [n, C] of these examples."""
    test = result.data.tail.test
    if test is not None:
        return model.logits(model.arrays, test.x)
    assert model.held is not None, "made with the model where there is no test set"
    return model.held


def _group_means(per_class: list[np.ndarray], masks: np.ndarray) -> np.ndarray:
    """Returns the mean accuracy [seeds, groups] of each group's tested classes, NaN if it has none.

    Args:
      per_class: accuracies [C] of each seed, NaN for untested classes.
      masks: [seeds, groups, C] which classes are in a group.
    """
    means = np.full(masks.shape[:2], np.nan)
    for seed, group in np.ndindex(means.shape):
        inside = per_class[seed][masks[seed, group]]
        if np.isfinite(inside).any():
            means[seed, group] = np.nanmean(inside)
    return means


def _mean_of_seeds(values: np.ndarray) -> float:
    """Averages over the seeds in which a group has tested classes; NaN if it is empty in the first seed, whose group sizes are shown."""
    return np.nan if np.isnan(values[0]) else np.nanmean(values)


def _if_fitted(methods: Mapping[str, Any], name: str) -> str | None:
    return name if name in methods else None


def _optional(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _as_lists(arrays):
    return {name: array.tolist() for name, array in arrays.items()}


def _scores(models, logits, y, priors, per_class, groups):
    """Returns a method's entry of results.json without its intervals.

    Args:
      models: what was fitted, of each seed; so are all lists here.
      logits: [n, C] of the examples that are evaluated.
      y: [n] their labels.
      priors: [C] class priors in use.
      per_class: [C] accuracies on them.
      groups: [seeds, 1 + groups] mean accuracy, overall and by group.
    """
    from sklearn.metrics import f1_score  # slow to import

    accuracies = groups[:, 0].tolist()
    scaled = [one / model.temperature for one, model in zip(logits, models, strict=True)]
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
        "ece_scaled": float(np.mean([calibration_error(one, y) for one in scaled])),
        "reliability": {name: _as_lists(reliability(one[0], y)) for name, one in (("before", logits), ("after", scaled))},
        "nll": float(np.mean([class_mean_nll(one, y) for one in logits])),
        "nll_scaled": float(np.mean([class_mean_nll(one, y) for one in scaled])),
        "seconds": float(np.mean([model.seconds for model in models])),
    }


def collect(results: list[SeedResult], config: ConfigDict) -> Table:
    """Evaluates every method on the test set or, without one, on what folds hold out.

    Args:
      results: of all seeds.
      config: the settings.

    Returns:
      The content of results.json (docs/outputs.md).

    Raises:
      BadInput: eval.prior can't be read.
    """
    y, on = labels(results[0]), "folds" if results[0].data.tail.test is None else "test"
    counts = [result.data.tail.counts for result in results]
    groups = [{**shot_groups(one, config.eval.few, config.eval.many), **terciles(one)} for one in counts]
    masks = np.stack([np.stack([np.ones(len(one), bool), *group.values()]) for one, group in zip(counts, groups, strict=True)])
    priors = [read_prior(config.eval.prior, one, "--config.eval.prior", results[0].class_names) for one in counts]
    names = list(results[0].models)
    methods, per_class, means, right, every = {}, {}, {}, [], every_method(config.heads.l2)
    for name in names:
        models = [result.models[name] for result in results]
        logits = [_logits(result, model) for model, result in zip(models, results, strict=True)]
        right.append(np.stack([one.argmax(1) == y for one in logits]))
        per_class[name] = [per_class_accuracy(one, y) for one in logits]
        means[name] = _group_means(per_class[name], masks)
        methods[name] = _scores(models, logits, y, priors, per_class[name], means[name])
        methods[name]["needs"] = sorted(every[name].needs)
    rng = np.random.default_rng([result.seed for result in results])
    draws = bootstrap(np.stack(right, 1), y, masks, rng, config.eval.draws)
    resampled = {name: draws[:, i] for i, name in enumerate(names)}
    held = classifier_of(results[0].models, config.eval.classifier)
    for name in names:
        methods[name]["accuracy_interval"] = list(interval(resampled[name][:, 0], methods[name]["accuracy"]))
        compared = {"vs_plain": _if_fitted(methods, "plain"), "vs_logit_adjustment": _if_fitted(methods, "logit_adjustment")}
        compared |= {"vs_best_rival": best_rival(methods, name), "vs_next": best_other(methods, name)}
        for versus, other in compared.items():
            methods[name] |= _intervals(versus, name, other, resampled, means)
    table = {
        "schema": 1,
        "dataset": results[0].dataset,
        "class_names": list(results[0].class_names),
        "seeds": [result.seed for result in results],
        "interval_over": EVALUATED[on].examples + (" and seeds" if len(results) >= FEWEST_SEEDS else ""),
        "classifier": held,
        "thresholds": {"few": config.eval.few, "many": config.eval.many},
        "groups": {group: int(groups[0][group].sum()) for group in (*GROUPS, *TERCILES)},
        "prior": config.eval.prior,
        "validation": config.data.validation,
        "evaluated_on": on,
        "licence": licence(config),
        "knowledge": results[0].known._asdict(),
        "methods": methods,
        "per_class": {name: [row.tolist() for row in rows] for name, rows in per_class.items()},
        "counts": [one.tolist() for one in counts],
        "splits": [dict(result.data.checksums) for result in results],
        "config_hash": artifacts.digest(described(config)),
        "settings": json.loads(json.dumps(flat(config))),
        "versions": _versions(),
    }
    return table | {"advice": advise(table)}


def _versions() -> dict[str, str]:
    """Returns the versions of Python and of every package that affects results."""
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "scikit-learn")
    return {"python": platform.python_version(), "mmn_jax": __version__, **{name: metadata.version(name) for name in names}}


def classifier_of(models: Mapping[str, Model], wanted: str = "") -> str:
    """Returns the method that classifier.npz holds.

    It is the one that is wanted or, without, the most accurate on validation examples of `mmn` and the methods like it; where none of these
    was run, of all that are one linear head.

    Raises:
      BadInput: the one that is wanted wasn't run, or isn't one linear head.
    """
    linear = [name for name, model in models.items() if model.logits is linear_logits]
    if wanted:
        if wanted not in linear:
            raise BadInput(f"--config.eval.classifier={wanted}: must be one of the methods of this run with rows: {', '.join(linear)}")
        return wanted
    return max([name for name in linear if models[name].kind == "ours"] or linear, key=lambda name: models[name].val_accuracy)


def _intervals(versus: str, name: str, other: str | None, resampled: dict[str, np.ndarray], means: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns the differences [mean, low, high] between two methods, overall and by group; None if they can't be compared.

    Args:
      versus: the key of the entry, vs_plain or vs_best_rival.
      name: the method.
      other: the one it is compared with, None if there is none.
      resampled: method → [draws, 1 + groups] bootstrapped accuracies.
      means: method → [seeds, 1 + groups] accuracies.
    """
    if other is None:
        return {versus: None, f"{versus}_groups": None}
    mean = (means[name] - means[other]).mean(0)
    draws = resampled[name] - resampled[other]
    found = [None if math.isnan(m) or np.isnan(draws[:, i]).any() else list(interval(draws[:, i], m)) for i, m in enumerate(mean)]
    return {versus: found[0], f"{versus}_groups": dict(zip((*GROUPS, *TERCILES), found[1:], strict=True))}


def write(workdir: Path, table: Table, results: list[SeedResult]) -> None:
    """Writes results.json, choices.json (every setting tried), the table as table.csv and table.md, and classifier.npz.

    The classifier is that of the first seed (`classifier_of`): argmax(((x − mean) · scale) Wᵀ + b) is its prediction, and the softmax of
    these scores over the temperature its probabilities.
    """
    first = results[0]
    model = first.models[table["classifier"]]
    saved = of_rows(
        model.arrays["theta"],
        model.temperature,
        first.data.normalise.mean,
        first.data.normalise.scale,
        first.class_names,
        first.data.tail.counts,
    )
    choices = {result.seed: {name: model.trials for name, model in result.models.items()} for result in results}
    artifacts.write_bytes(workdir / "classifier.npz", as_npz(saved))
    artifacts.write_bytes(workdir / "choices.json", json.dumps(choices, indent=1).encode())
    artifacts.write_bytes(workdir / "table.csv", as_csv(table).encode())
    artifacts.write_bytes(workdir / "table.md", as_markdown(table).encode())
    artifacts.write_bytes(workdir / "results.json", json.dumps(table, indent=1).encode())
    together()  # the other processes wait for the files


def other_settings(workdir: Path, config: ConfigDict) -> list[str]:
    """Returns the settings in which a run differs from the one that wrote the results in its workdir; none if there are no results."""
    try:
        table = read(workdir)
        if table["config_hash"] == artifacts.digest(described(config)):
            return []
        before = table["settings"]
    except (OSError, ValueError, KeyError, TypeError):  # no results, or those of an older version, which did not keep them
        return []
    now = json.loads(json.dumps(flat(config)))
    return [f"{key} was {_shown(key, before.get(key))}, is {_shown(key, now[key])}" for key in now if before.get(key) != now[key]]


def _shown(key: str, value: object) -> str:
    """Formats the value of a setting as on the command line; an empty list of methods stands for all of a stage."""
    if isinstance(value, list):
        return ",".join(map(str, value)) or ("all" if key == "methods" else "empty")
    return "unset" if value is None else str(value) or "empty"


def read(workdir: Path) -> Table:
    """Reads the results.json of a workdir."""
    return json.loads((workdir / "results.json").read_text())
