"""Fits the methods of a run, each with its hyperparameters chosen on folds, and says how far it is and what it found."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mmn_jax.methods.choosing import tune
from mmn_jax.methods.contract import Method, Record
from mmn_jax.methods.folds import Fold, Tasks, in_order, make_tasks
from mmn_jax.methods.tuning import Setting
from mmn_jax.pipeline.advice import chosen_on
from mmn_jax.store import artifacts, metrics_log
from mmn_jax.store.run import Data, Model, Run, make_model

WIDENED_BY = {"l2": "heads.l2", "alone": "heads.l2"}  # hyperparameter → the setting that lists its candidates


def tasks_of(run: Run, data: Data) -> Tasks:
    """Returns the tasks of all training sets of a seed, each made on first use."""
    known, heads = data.normalise.of_known(run.features.knowledge), run.config.heads
    return make_tasks((*data.folds, data.whole), jax.random.key(run.seed), heads.tol, heads.final_tol, known)


def artefact(run: Run, data: Data, name: str, method: Method) -> Path:
    """Returns the path of a method's artefact."""
    axes = [(axis.name, axis.values, axis.start) for axis in method.axes]
    folds = [fold.name for fold in data.folds]
    return run.path(f"head-{name}", folds, run.config.heads.to_dict(), run.config.tuning.budget, axes)


def tune_methods(run: Run, data: Data, tasks: Tasks, chosen: Mapping[str, Method]) -> dict[str, Model]:
    """Fits methods, their hyperparameters chosen on the folds.

    Args:
      run: the run.
      data: its data.
      tasks: of the training sets (`tasks_of`).
      chosen: the methods by name.
    """
    budget, models = run.config.tuning.budget, {}
    for name, method in chosen.items():

        def make(name=name, method=method):
            with run.terminal.doing(name) as show:
                tuned = tune(method, tasks, data.folds, data.whole, budget, lambda step: show(str(step)))
            return tuned.arrays, tuned.record._asdict()

        path = artefact(run, data, name, method)
        arrays, saved = artifacts.cached(path, make)
        record = Record(**{field: saved[field] for field in Record._fields})
        models[name] = make_model(method.kind, arrays, method.logits, record, saved["seconds"], at_edge=record.at_edge)
        if data.tail.test is None:
            held = path.with_name(path.name.replace("head-", "held-", 1))
            made = artifacts.cached(held, partial(_held_logits, data.folds, tasks, method, record.setting))
            models[name] = models[name]._replace(held=made[0]["logits"])
        say_fitted(run, name, models[name])
        if not record.converged:
            run.terminal.say(f"  warning: {name} stopped at gradient norm {record.gradient_norm:.1e}, before it converged")
    for line in edges(models):
        run.terminal.say(line)
    return models


def _held_logits(folds: Sequence[Fold], tasks: Tasks, method: Method, setting: Setting) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Computes the logits of the examples that folds hold out, each by the fit that doesn't see it; returns the artefact of a method."""
    logits = [method.logits(method.fit(tasks(fold.name)[0], setting).arrays, fold.val.x) for fold in folds if fold.val is not None]
    return {"logits": in_order(logits, folds)}, {}


def say_fitted(run: Run, name: str, model: Model) -> None:
    """Prints and logs that a method is finished, and what it took when it was fitted, now or in a run before."""
    metrics_log.log_method(run.terminal.log, run.seed, name, model.val_accuracy, model.seconds)
    reached = f"{model.val_accuracy:.1f}% on {chosen_on(run.config.data.validation)}"
    run.terminal.say(f"  {name}: {reached}, {len(model.trials)} settings, {model.seconds:.0f} s")


class Edge(NamedTuple):
    """A hyperparameter whose chosen value is at the end of its grid."""

    method: str
    name: str
    value: object


def edges(models: Mapping[str, Model]) -> list[str]:
    """Says which hyperparameters were chosen at the end of their grids, and what to do about it; where nothing can be done, nothing."""
    found: dict[str, list[Edge]] = {"ours": [], "rival": []}
    for method, model in models.items():
        kind = "rival" if model.kind.startswith("rival") else "ours"
        ends = [name for name in model.tuned["at_edge"] if kind == "rival" or name in WIDENED_BY]
        found[kind] += [Edge(method, name, model.tuned[name]) for name in ends]
    lines = []
    for setting in dict.fromkeys(WIDENED_BY[edge.name] for edge in found["ours"]):
        at = ", ".join(f"{one.method} ({one.name} = {one.value:g})" for one in found["ours"] if WIDENED_BY[one.name] == setting)
        lines.append(f"  chosen at the end of the grid: {at}; more values beyond that end in --config.{setting} may do better")
    if found["rival"]:
        at = ", ".join(f"{one.method} ({one.name})" for one in found["rival"])
        lines.append(f"  rivals at the end of their grids: {at}; this can be ignored, as it concerns their own rows of the table alone")
    return lines
