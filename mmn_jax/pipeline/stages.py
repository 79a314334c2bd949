"""The stages of a run, one after the other: artefacts in, artefact out.

    features → split → heads → kshot → meta → eval → report

Each stage of a seed writes artefacts under the workdir, named by a hash of just what they depend
on, so a change of λ doesn't refit the bank, and a run that was stopped goes on where it was.
"""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from mmn_jax.config import check
from mmn_jax.data import feature_files, longtail, manifest
from mmn_jax.data.normalisation import normalisation
from mmn_jax.devices import all_devices
from mmn_jax.errors import BadInput, renamed
from mmn_jax.evaluation.label_prior import read_prior
from mmn_jax.methods import baselines, mmn, rivals
from mmn_jax.methods.choosing import tune
from mmn_jax.methods.contract import Method, Record
from mmn_jax.methods.folds import Fold, held_labels, make_tasks, training_folds
from mmn_jax.methods.tasks import Task
from mmn_jax.pipeline import sources
from mmn_jax.pipeline.metamodelnet import Learned, meta
from mmn_jax.store import artifacts, metrics_log
from mmn_jax.store.banks import banks
from mmn_jax.store.run import Data, Model, Run, make_model, warn_unless_solved
from mmn_jax.store.terminal import Terminal
from mmn_jax.types import LongTail
from mmn_jax.vision import features, joint

STAGES = ("features", "split", "heads", "kshot", "meta", "eval", "report", "all")


FLAGS = {  # of the arguments of `longtail`
    "imbalance": "--config.data.longtail.imbalance",
    "max_per_class": "--config.data.longtail.max_per_class",
    "val_per_class": "--config.data.val_per_class",
}


def _repeated_split(run, path):
    with renamed({path: f"--config.data.manifest={path}"}):
        part = manifest.read(path, run.features)
    return {"manifest": hashlib.sha256(part.tobytes()).hexdigest()}, lambda: part


def _listed_split(run, path, val):
    with renamed({path: f"--config.data.longtail.indices={path}"}):
        rows = longtail.read_indices(path, run.features)
    rule = {"indices": hashlib.sha256(rows.tobytes()).hexdigest(), **val}
    return rule, lambda: longtail.listed_split(run.features, run.seed, rows, **val)


def _made_split(run, settings, val):
    tail = sources.tail(run.config)
    rule = {**tail, "profile": settings.profile, **val}
    profile = longtail.PROFILES[settings.profile]
    if settings.profile != "exp" and tail["imbalance"] is None:
        raise BadInput(f"--config.data.longtail.profile={settings.profile}: needs data.longtail.imbalance")
    return rule, lambda: longtail.long_tail_split(run.features, run.seed, **{**rule, "profile": profile})


def _choose_split(run):
    """What the split follows from, for its hash and its manifest, and a function that makes it."""
    settings = run.config.data
    if settings.manifest:
        return _repeated_split(run, settings.manifest)
    own = run.features.val is not None
    val = {} if own else {"val_per_class": settings.val_per_class if settings.validation == "set" else None}
    if settings.longtail.indices:
        return _listed_split(run, settings.longtail.indices, val)
    return _made_split(run, settings.longtail, val)


def _split_rows(run):
    """[n] the long-tailed split of this seed, the name of its artefact, and its manifest, which is written beside that."""
    rule, make = _choose_split(run)
    path = run.path("split", run.fingerprint, run.seed, rule)
    _check_workdir(run)
    with renamed(FLAGS):
        part = artifacts.cached(path, lambda: ({"part": make()}, {}))[0]["part"]
    document = manifest.describe(run.features, part, run.seed, rule)
    artifacts.write_bytes(path.with_name("split.json"), json.dumps(document).encode())
    return part, path.name, document


def _check_workdir(run):
    """Raises BadInput where the workdir has a split of another data set: its results would be taken for those of this one."""
    name, labels = run.features.name, manifest.labels_sha256(run.features)
    found = {manifest.source(path) for path in run.workdir.glob("seed-*/split.json")} - {None, (name, labels)}
    for other, _ in sorted(found):
        told = f"it holds a run on {other if other != name else f'other data called {name}'}, this one is on {name}"
        raise BadInput(f"--workdir={run.workdir}: {told}; give another, or the --config.data.path of that one")


def _tell_short(run, document):
    wanted, largest = document["rule"].get("max_per_class"), max(document["counts"])
    if wanted and wanted > largest:
        run.terminal.say(f"  no class has the {wanted} examples of data.longtail.max_per_class; the largest keeps {largest}")


def split(run: Run, studio: joint.Studio | None = None) -> Data:
    """The long-tailed split of this seed in the features of the run; in those of backbones fine-tuned on it, where there is a studio.

    Raises:
      BadInput: the workdir holds another data set; settings that leave nothing to train on or to choose by.
    """
    part, name, document = _split_rows(run)
    _tell_short(run, document)
    tail, stage_parts = longtail.take(run.features, part), dict[int, Fold]()
    if studio is not None:
        _check_validation(run, tail)
        name, tail, stage_parts = joint.learn(run, studio, tail, artifacts.digest(part.tolist()))
    checksums = {key: document[key] for key in ("labels_sha256", "indices_sha256")}
    return _normalised(run, tail, name)._replace(stage_parts=stage_parts, checksums=checksums)


def _check_validation(run, tail):
    if tail.val is None:
        where = f"--config.data.manifest={run.config.data.manifest}"
        raise BadInput(f"{where}: its split holds nothing out to validate on; add --config.data.validation=train")


def _normalised(run, tail, name):
    normalise = normalisation(tail.train)
    if normalise.by_column:
        run.terminal.say("  some columns differ so much in spread that they must have other units: they are brought to one")
    train, val, test = (part and normalise.of(part) for part in (tail.train, tail.val, tail.test))
    tail = LongTail(train, val, test, tail.counts)
    if run.config.data.validation == "set":
        _check_validation(run, tail)
        whole = Fold(name, train, val)
        return Data(tail, normalise, whole, (whole,))
    folds = training_folds(name, train, jax.random.key(run.seed), run.config.data.folds)
    if not folds:
        raise BadInput("--config.data.validation=train: every class has a single example, none to choose by; give val_x and val_y")
    return Data(tail._replace(val=None), normalise, Fold(name, train, None), folds)


def describe_choice(data: Data) -> str:
    """One line on what the knobs of this run are chosen by."""
    chosen = np.bincount(held_labels(data.folds), minlength=len(data.tail.counts))
    held = chosen[chosen > 0]
    source = f"{len(data.folds)} folds of the training set" if data.whole.val is None else "the validation set"
    line = f"knobs are chosen on {source}, {chosen.sum()} examples, {held.min()} to {held.max()} a class"
    if len(held) < len(chosen):
        line += f"; {len(chosen) - len(held)} classes have none and stay out of the mean"
    return line


def tasks_of(run: Run, data: Data) -> Callable[[str], tuple[Task, Task]]:
    """part name → its Task at the tolerance of choosing and at the final one, each made when it is first asked for."""
    return make_tasks((*data.folds, data.whole), jax.random.key(run.seed), run.config.heads.tol, run.config.heads.final_tol)


def tune_methods(run: Run, data: Data, tasks: Callable, chosen: dict[str, Method]) -> dict[str, Model]:
    """Every one of these methods, its knobs chosen on the folds."""
    settings, budget, models = run.config.heads, run.config.tuning.budget, {}

    def make(method):
        tuned = tune(method, tasks, data.folds, data.whole, budget)
        return tuned.arrays, tuned.record._asdict()

    for name, method in run.terminal.track(chosen.items(), "heads"):
        knobs = [(axis.name, axis.values, axis.start) for axis in method.axes]
        path = run.path(f"head-{name}", [fold.name for fold in data.folds], settings.to_dict(), budget, knobs)
        arrays, saved = artifacts.cached(path, partial(make, method))
        record = Record(**{field: saved[field] for field in Record._fields})
        models[name] = make_model(method.kind, arrays, method.logits, record, saved["seconds"], at_edge=record.at_edge)
        metrics_log.log_method(run.terminal.log, run.seed, name, models[name].val_accuracy, models[name].seconds)
        warn_unless_solved(run, name, record.gradient_norm, settings.final_tol, "heads.final_tol")
    edges = [f"{name} ({', '.join(model.tuned['at_edge'])})" for name, model in models.items() if model.tuned["at_edge"]]
    if edges:
        run.terminal.say(f"  chosen at the end of their grids, where a wider one may do better: {', '.join(edges)}")
    return models


class SeedResult(NamedTuple):
    """Everything evaluation needs of one seed, and what metamodelnet learned from, None where nothing could teach it."""

    seed: int
    dataset: str
    class_names: tuple[str, ...]
    data: Data
    models: dict[str, Model]
    learned: Learned | None


def run_seed(run: Run, last: str, studio: joint.Studio | None = None) -> SeedResult | None:
    """All stages of one seed up to `last`; a SeedResult where the paper's methods are complete, with the rivals from eval on."""
    say, upto = run.terminal.say, STAGES.index(last)
    say(f"seed {run.seed}: split")
    data = split(run, studio)
    counts = np.sort(data.tail.counts)[::-1]
    say(f"  {len(data.tail.train.y)} training examples of {len(counts)} classes, {counts[0]} to {counts[-1]} a class")
    say(f"  {describe_choice(data)}")
    if upto < STAGES.index("heads"):
        return None
    say(f"seed {run.seed}: heads")
    tasks = tasks_of(run, data)
    models = tune_methods(run, data, tasks, baselines.methods(run.config.heads.l2))
    if upto == STAGES.index("kshot"):
        say(f"seed {run.seed}: kshot")
        wholes = {part.name: part for part in (*data.folds, data.whole)}
        for shots, part in [*((1, part) for part in wholes.values()), *data.stage_parts.items()]:
            banks(run, part, all_devices(), shots)
    if upto < STAGES.index("meta"):
        return None
    models["metamodelnet"], learned = meta(run, data, tasks, models["plain"])
    metrics_log.log_method(run.terminal.log, run.seed, "metamodelnet", models["metamodelnet"].val_accuracy, models["metamodelnet"].seconds)
    models |= tune_methods(run, data, tasks, mmn.methods(run.config.heads.l2))
    if upto >= STAGES.index("eval"):
        say(f"seed {run.seed}: rivals")
        models |= tune_methods(run, data, tasks, rivals.methods(run.config.heads.l2))
    return SeedResult(run.seed, run.features.name, run.features.class_names, data, models, learned)


def run_seeds(config: ConfigDict, workdir: Path, terminal: Terminal, last: str) -> list[SeedResult]:
    """Every seed of the config up to the stage `last`; [] where that is before meta. Features of images are the same for all of them.

    Raises:
      BadInput: a setting or a file that cannot be used, before the work that depends on it.
    """
    check(config)
    if config.features.finetune != "none":
        studio = joint.open_studio(config, workdir, terminal)
        full, fingerprint = studio.labels, studio.fingerprint
    else:
        studio, made = None, config.data.source in ("images", "fonts")
        full = features.make(config, workdir, terminal) if made else sources.load_features(config, terminal.say)
        if last == "features":
            if not made:
                terminal.say(f"{full.name} has features already; --stage=features makes them of images")
            return []
        fingerprint = feature_files.fingerprint(full)
    counts = np.bincount(full.train.y)
    read_prior(config.eval.prior, counts, "--config.eval.prior", full.class_names)  # a bad one is refused before hours of work, not after
    seeds = tuple(config.seeds) or (config.seed,)
    results = [run_seed(Run(config, int(s), workdir, full, fingerprint, terminal), last, studio) for s in seeds]
    return [result for result in results if result is not None]
