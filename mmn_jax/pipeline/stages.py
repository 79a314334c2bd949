"""The stages of a run, each of which saves artefacts.

    features → split → heads → kshot → meta → eval → report

Artefacts of a seed lie in the workdir and are named by a hash of exactly what they depend on, so that another λ doesn't refit the bank, and
a run that was stopped continues where it was.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int8
from ml_collections import ConfigDict

from mmn_jax.config import check
from mmn_jax.data import feature_files, longtail, manifest
from mmn_jax.data.normalisation import normalisation
from mmn_jax.data.repeats import hashes, tell_again
from mmn_jax.errors import BadInput, renamed
from mmn_jax.evaluation.label_prior import read_prior
from mmn_jax.methods import baselines
from mmn_jax.methods.contract import Method
from mmn_jax.methods.folds import Fold, held_labels, training_folds
from mmn_jax.pipeline import forecast, sources
from mmn_jax.pipeline.fitting import say_fitted, tasks_of, tune_methods
from mmn_jax.pipeline.known import EMBEDDINGS, NAMES, Known, known_of
from mmn_jax.pipeline.metamodelnet import Learned, check_regressor, make_banks, meta
from mmn_jax.pipeline.selection import selected, with_what_they_need
from mmn_jax.store import artifacts
from mmn_jax.store.run import Data, Model, Run
from mmn_jax.store.terminal import Terminal
from mmn_jax.types import LongTail
from mmn_jax.vision import features, joint

STAGES = ("features", "split", "heads", "kshot", "meta", "eval", "report", "all")


FLAGS = {  # arguments in messages of `data.longtail` → flags
    "imbalance": "--config.data.longtail.imbalance",
    "max_per_class": "--config.data.longtail.max_per_class",
    "val_per_class": "--config.data.val_per_class",
    "test_share": "--config.data.test_share",
}


Choice = tuple[dict[str, Any], Callable[[], Int8[np.ndarray, " n"]]]  # what a split depends on, for its hash, and a function that makes it


def _repeated_split(run: Run, path: str) -> Choice:
    """Repeats the split of a manifest."""
    with renamed({path: f"--config.data.manifest={path}"}):
        part = manifest.read(path, run.features)
    return {"manifest": hashlib.sha256(part.tobytes()).hexdigest()}, lambda: part


def _listed_split(run: Run, path: str, val: dict[str, Any]) -> Choice:
    """Takes the training examples from a list; val: how many validation examples are drawn."""
    if run.features.test is None and run.config.data.test != "none":
        raise BadInput(f"--config.data.test_share: not with data.longtail.indices={path}; give the test examples that belong to this list")
    with renamed({path: f"--config.data.longtail.indices={path}"}):
        rows = longtail.read_indices(path, run.features)
    rule = {"indices": hashlib.sha256(rows.tobytes()).hexdigest(), **val}
    return rule, lambda: longtail.listed_split(run.features, run.seed, rows, **val)


def _made_split(run: Run, settings: ConfigDict, val: dict[str, Any]) -> Choice:
    """Draws a long tail by the settings; val: how many validation examples are drawn."""
    tail = sources.tail(run.config)
    test = _test_rule(run)
    rule = {**tail, "profile": settings.profile, **val}
    profile = longtail.PROFILES[settings.profile]
    if settings.profile != "exp" and tail["imbalance"] is None:
        raise BadInput(f"--config.data.longtail.profile={settings.profile}: needs data.longtail.imbalance")

    def make():
        held = longtail.hold_out_test(run.features.train.y, test["test_share"], test["test_seed"]) if test else None
        return longtail.long_tail_split(run.features, run.seed, **{**rule, "profile": profile}, test=held)

    return rule | test, make


def _test_rule(run: Run) -> dict[str, Any]:
    """Returns how test examples are drawn from the training set; empty where they aren't."""
    data = run.config.data
    drawn = run.features.test is None and data.test != "none"
    return {"test_share": data.test_share, "test_seed": data.test_seed} if drawn else {}


def _report_test(run: Run, tail: LongTail) -> None:
    """Prints how many examples were held out for testing, and checks that there are any."""
    if run.config.data.test == "none":
        if tail.test is not None:
            raise BadInput(f"--config.data.manifest={run.config.data.manifest}: holds test examples; not with data.test=none")
    elif tail.test is None:
        where = f"--config.data.manifest={run.config.data.manifest}"
        raise BadInput(f"{where}: holds no test examples, and {run.features.name} has none; give the split of a run with data.test_share")
    elif run.features.test is None:
        without = int((np.bincount(tail.test.y, minlength=len(tail.counts)) == 0).sum())
        line = f"  {len(tail.test.y)} test examples are held out of the training set, the same for all seeds"
        have = f"{without} class{'es have' if without > 1 else ' has'}"
        run.terminal.say(f"{line}; {have} none, as a single example is trained on" if without else line)
        tell_again(hashes(tail.train.x), {"the test examples": tail.test}, lambda said: run.terminal.say(f"  {said}"), "the training set")


def _choose_split(run: Run) -> Choice:
    """Returns how the split of a run is made."""
    settings = run.config.data
    if settings.manifest:
        return _repeated_split(run, settings.manifest)
    own = run.features.val is not None
    val = {} if own else {"val_per_class": settings.val_per_class if settings.validation == "set" else None}
    if settings.longtail.indices:
        return _listed_split(run, settings.longtail.indices, val)
    return _made_split(run, settings.longtail, val)


def _split_rows(run: Run) -> tuple[Int8[np.ndarray, " n"], str, dict[str, Any]]:
    """Makes the long-tailed split of this seed, and writes its manifest; returns the split, the name of its artefact, and the manifest."""
    rule, make = _choose_split(run)
    path = run.path("split", run.fingerprint, run.seed, rule)
    _check_workdir(run)
    with renamed(FLAGS):
        part = artifacts.cached(path, lambda: ({"part": make()}, {}))[0]["part"]
    document = manifest.describe(run.features, part, run.seed, rule)
    artifacts.write_bytes(path.with_name("split.json"), json.dumps(document).encode())
    return part, path.name, document


def _check_workdir(run: Run) -> None:
    """Raises BadInput if the workdir has a split of another data set, whose results could be mistaken for those of this one."""
    name, labels = run.features.name, manifest.labels_sha256(run.features)
    there = map(manifest.source, run.workdir.glob("seed-*/split.json"))
    found = {one for one in there if one is not None} - {(name, labels)}
    for other, _ in sorted(found):
        both = f"it holds a run on {other if other != name else f'other data called {name}'}, this one is on {name}"
        raise BadInput(f"--workdir={run.workdir}: {both}; give another, or the --config.data.path of that one")


def _report_short(run: Run, document: dict[str, Any]) -> None:
    """Prints whether no class has as many examples as the settings allow; document: the manifest."""
    wanted, largest = document["rule"].get("max_per_class"), max(document["counts"])
    if wanted and wanted > largest:
        run.terminal.say(f"  no class has the {wanted} examples of data.longtail.max_per_class; the largest keeps {largest}")


def split(run: Run, studio: joint.Studio | None = None) -> Data:
    """Splits the features of a run into a long tail, and normalises them.

    Args:
      run: the run.
      studio: fine-tunes backbones on the split, whose features then take the place of the run's; None to keep these.

    Raises:
      BadInput: the workdir holds another data set, or the settings leave nothing to train on or to choose by.
    """
    part, name, document = _split_rows(run)
    _report_short(run, document)
    tail, stage_parts = longtail.take(run.features, part), dict[int, Fold]()
    _report_test(run, tail)
    if studio is not None:
        _check_validation(run, tail)
        name, tail, stage_parts = joint.learn(run, studio, tail, artifacts.digest(part.tolist()))
    checksums = {key: document[key] for key in ("labels_sha256", "indices_sha256")}
    data = _normalised(run, tail, name)._replace(stage_parts=stage_parts, checksums=checksums)
    if tail.test is None and len(run.config.seeds) > 1:
        _check_same_examples(run, data)
    return data


def _check_same_examples(run: Run, data: Data) -> None:
    """Raises BadInput if seeds would be evaluated on different examples of the training set, which can't be compared in pairs."""
    held, counts = len(held_labels(data.folds)), data.tail.counts
    if counts.sum() < len(run.features.train.y) or held < counts[counts > 1].sum():
        reason = "all seeds must evaluate the same examples, and each draws others"
        raise BadInput(f"--config.seeds: with data.test=none {reason}; give one seed")


def _check_validation(run: Run, tail: LongTail) -> None:
    """Raises BadInput if a split has no validation set."""
    if tail.val is None:
        where = f"--config.data.manifest={run.config.data.manifest}"
        raise BadInput(f"{where}: its split holds nothing out to validate on; add --config.data.validation=train")


def _normalised(run: Run, tail: LongTail, name: str) -> Data:
    """Makes the Data of a split; name: of its artefact."""
    normalise = normalisation(tail.train)
    if normalise.by_column:
        run.terminal.say("  some columns differ so much in spread that they must have other units: they are scaled to one")
    train, val, test = normalise.of(tail.train), tail.val and normalise.of(tail.val), tail.test and normalise.of(tail.test)
    tail = LongTail(train, val, test, tail.counts)
    if run.config.data.validation == "set":
        _check_validation(run, tail)
        whole = Fold(name, train, val)
        return Data(tail, normalise, whole, (whole,))
    folds = training_folds(name, train, jax.random.key(run.seed), run.config.data.folds)
    if not folds:
        reason = "every class has a single example, so nothing can be chosen on folds"
        raise BadInput(f"--config.data.validation=train: {reason}; give val_x and val_y")
    return Data(tail._replace(val=None), normalise, Fold(name, train, None), folds)


def describe_choice(data: Data) -> str:
    """Returns one line that says which examples choose the hyperparameters of this run."""
    chosen = np.bincount(held_labels(data.folds), minlength=len(data.tail.counts))
    held = chosen[chosen > 0]
    source = f"{len(data.folds)} fold{'s' * (len(data.folds) > 1)} of the training set" if data.whole.val is None else "the validation set"
    line = f"hyperparameters are chosen on {source}: {chosen.sum()} examples, {held.min()} to {held.max()} of each class"
    if len(held) < len(chosen):
        line += f"; {len(chosen) - len(held)} classes have none and don't count in the mean"
    return line


class SeedResult(NamedTuple):
    """The results of one seed, for its evaluation.

    dataset: its name. models: of all methods, by name. learned: the regressor of metamodelnet; None if there was nothing to learn from.
    known: what was known of the classes beside labelled examples.
    """

    seed: int
    dataset: str
    class_names: tuple[str, ...]
    data: Data
    models: dict[str, Model]
    learned: Learned | None
    known: Known = Known()


def run_seed(run: Run, last: str, chosen: Mapping[str, Method], studio: joint.Studio | None = None) -> SeedResult | None:
    """Runs the stages of one seed.

    Args:
      run: the run.
      last: the last stage.
      chosen: the methods to fit (`selected`).
      studio: as for `split`.

    Returns:
      The results; None if the last stage is before meta.
    """
    say, upto = run.terminal.say, STAGES.index(last)
    say(f"seed {run.seed}: split")
    data = split(run, studio)
    counts = np.sort(data.tail.counts)[::-1]
    say(f"  {len(data.tail.train.y)} training examples of {len(counts)} classes, {counts[0]} to {counts[-1]} of each class")
    say(f"  {describe_choice(data)}")
    if data.tail.test is None:
        say("  the table is of the same examples, each predicted by the fit that doesn't see it")
    if upto < STAGES.index("heads"):
        return None
    if "metamodelnet" in chosen or last == "kshot":
        check_regressor(run, data)
    tasks, models, learned = tasks_of(run, data), dict[str, Model](), None
    began = time.monotonic()
    expected = forecast.plan(run, data, tasks, chosen, last)
    for line in forecast.describe(expected, len(run.config.seeds) or 1):
        say(line)
    if expected and studio is not None:
        say("    fine-tuning backbones, which is done for this seed, is not in it")

    def fit(title, kinds):
        methods = {name: method for name, method in chosen.items() if method.kind in kinds and name != "metamodelnet"}
        if methods:
            say(f"seed {run.seed}: {title}")
            models.update(tune_methods(run, data, tasks, methods))

    def plain():
        needed = {"plain": baselines.methods(run.config.heads.l2)["plain"]}
        return models.get("plain") or tune_methods(run, data, tasks, needed)["plain"]

    fit("heads", ("paper",))
    if upto == STAGES.index("kshot"):
        make_banks(run, data, tasks)
    if upto < STAGES.index("meta"):
        return None
    if "metamodelnet" in chosen:
        models["metamodelnet"], learned = meta(run, data, tasks, plain)
        say_fitted(run, "metamodelnet", models["metamodelnet"])
    fit("ours", ("ours",))
    fit("rivals", ("rival", "rival_informed"))
    if expected:
        say(f"seed {run.seed}: took {time.monotonic() - began:.0f} s, the forecast was {sum(part.seconds for part in expected):.0f} s")
    return SeedResult(run.seed, run.features.name, run.features.class_names, data, {name: models[name] for name in chosen}, learned)


def run_seeds(config: ConfigDict, workdir: Path, terminal: Terminal, last: str) -> list[SeedResult]:
    """Runs the stages of every seed of a config, with the same features for all of them.

    Args:
      config: the config.
      workdir: the folder of artefacts.
      terminal: where messages and progress are shown.
      last: the last stage.

    Returns:
      The results of each seed; none if the last stage is before meta.

    Raises:
      BadInput: a setting or a file can't be used; this is found before the work that depends on it.
    """
    check(config)
    if config.data.test == "none" and config.data.source in ("images", "fonts"):
        raise BadInput("--config.data.test=none: not for images; give test images, or --config.data.test_share with a folder")
    chosen = selected(config, last)
    if config.features.finetune != "none":
        studio = joint.open_studio(config, workdir, terminal)
        full, fingerprint, known = studio.labels, studio.fingerprint, Known()
    else:
        studio, made = None, config.data.source in ("images", "fonts")
        full = features.make(config, workdir, terminal) if made else sources.load_features(config, terminal.say)
        if last == "features":
            if not made:
                terminal.say(f"{full.name} has features already; --stage=features is for images")
            return []
        described_by = NAMES if full.knowledge.descriptions is None else EMBEDDINGS
        full = sources.with_knowledge(config, full, terminal.say)
        known = known_of(full, described_by)
        fingerprint = feature_files.fingerprint(full)
    same_space = known.described_by == EMBEDDINGS and known.dimensions == full.train.x.shape[1]
    chosen = with_what_they_need(config, chosen, full.knowledge, same_space)
    counts = np.bincount(full.train.y)
    read_prior(config.eval.prior, counts, "--config.eval.prior", full.class_names)  # refuses a bad prior before hours of work, not after
    seeds = tuple(config.seeds) or (config.seed,)
    results = [run_seed(Run(config, int(s), workdir, full, fingerprint, terminal), last, chosen, studio) for s in seeds]
    return [result._replace(known=known) for result in results if result is not None]
