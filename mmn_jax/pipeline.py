"""The stages as a list: artefacts in, artefact out.

    split → heads → kshot → meta → eval → report

Each stage of a seed writes artefacts under the workdir, named by a hash of just what they depend
on, so a change of λ doesn't refit the bank, and a run that was stopped goes on where it was.
"""

import itertools
import platform
from collections.abc import Callable, Iterable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mmn_jax import __version__, artifacts, kshot, stagewise, tuning, weighting
from mmn_jax.config import check
from mmn_jax.data import features as feature_files
from mmn_jax.data import glyphs, longtail
from mmn_jax.evaluate import mean_class_accuracy, predict_logits
from mmn_jax.keys import stream
from mmn_jax.regressor import Context, Regressor, RegressorSpec, block_movement, residual_chain
from mmn_jax.transfer import transfer_rows
from mmn_jax.types import BadInput, Bank, Examples, FeatureSet, LongTail

STAGES = ("split", "heads", "kshot", "meta", "eval", "report", "all")
ARTIFACT_SCHEMA = 2  # part of every hash: artefacts of another layout are made anew
BASELINES = {
    method.__name__: method for method in (weighting.plain, weighting.over_sampling, weighting.under_sampling, weighting.cost_sensitive)
}


class Terminal(NamedTuple):
    """What a run shows: say(line), and track(iterable, name) for a progress bar."""

    say: Callable[[str], None]
    track: Callable[[Iterable, str], Iterable]


class Run(NamedTuple):
    """One seed of a run: its data, where its artefacts go, and the hash they all depend on."""

    config: ConfigDict
    seed: int
    workdir: Path
    features: FeatureSet
    fingerprint: str
    terminal: Terminal

    def path(self, name: str, *dependencies: Any) -> Path:
        return self.workdir / f"seed-{self.seed}" / f"{name}-{artifacts.digest(ARTIFACT_SCHEMA, *dependencies)}"


class Data(NamedTuple):
    """A LongTail with normalised features, the normalisation, and the name of its artefact."""

    tail: LongTail
    normalise: tuning.Normalisation
    name: str


class Model(NamedTuple):
    """A method's classifier of one seed: rows theta [C, d+1] over normalised features, and how it came about."""

    theta: np.ndarray
    val_accuracy: float
    tuned: dict[str, Any]
    seconds: float


def load_features(config: ConfigDict) -> FeatureSet:
    """The FeatureSet that config.data names."""
    if config.data.source == "glyphs":
        if config.data.path:
            raise BadInput(f"--config.data.path={config.data.path}: this recipe has its own features; use --config=configs/own_features.py")
        return glyphs.load()
    if not config.data.path:
        raise BadInput("--config.data.path: give the npz file with your features")
    return feature_files.load_npz(config.data.path)


def split(run: Run) -> Data:
    """The long-tailed split of this seed."""
    settings = run.config.data.longtail.to_dict()
    if run.features.val is None:
        settings["val_per_class"] = run.config.data.val_per_class
    path = run.path("split", run.fingerprint, run.seed, settings)

    def make():
        return {"part": longtail.long_tail_split(run.features, run.seed, **settings)}, {}

    arrays, _ = artifacts.cached(path, make)
    tail = longtail.take(run.features, arrays["part"])
    normalise = tuning.normalisation(tail.train.x)
    train, val, test = (Examples(normalise(x), y) for x, y in (tail.train, tail.val, tail.test))
    return Data(LongTail(train, val, test, tail.counts), normalise, path.name)


def _warn_unless_solved(run, what, norm, tol, setting):
    if not norm <= tol:
        run.terminal.say(f"  warning: {what} stopped at gradient norm {norm:.1e}, above {setting}")


def heads(run: Run, data: Data) -> dict[str, Model]:
    """The paper's baselines, each with its knobs chosen on validation data."""
    settings = run.config.heads

    def make(name, method):
        drawn = method(stream(run.seed, "weighting", name), data.tail.train.y, data.tail.counts)
        head = tuning.tune_head(data.tail.train, data.tail.val, drawn, settings.l2, settings.tol, settings.final_tol)
        record = {"chosen": head.chosen._asdict(), "trials": [trial._asdict() for trial in head.trials]}
        return {"theta": head.theta}, record

    models = {}
    for name, method in run.terminal.track(BASELINES.items(), "heads"):
        path = run.path(f"head-{name}", data.name, settings.to_dict(), name)
        arrays, record = artifacts.cached(path, lambda name=name, method=method: make(name, method))
        tuned = {k: v for k, v in record["chosen"].items() if k != "val_accuracy"} | {"settings_tried": len(record["trials"])}
        models[name] = Model(arrays["theta"], record["chosen"]["val_accuracy"], tuned, record["seconds"])
        _warn_unless_solved(run, name, tuned["gradient_norm"], settings.final_tol, "heads.final_tol")
    return models


def shots_used(config: ConfigDict, counts: np.ndarray) -> tuple[int, ...]:
    """The ladder of k this run climbs; () where too few classes have examples enough."""
    enough = max(5, min(config.kshot.min_classes, len(counts) // 4))
    if config.meta.split == "recursive":
        return kshot.shot_ladder(counts, enough, config.kshot.top)
    k = config.meta.fixed_shots
    return (k,) if len(kshot.shot_classes(counts, k)) >= enough else ()


def _bank_plan(run, data, shots):
    """The plan of a bank and the artefact that holds it."""
    settings = run.config.kshot
    subsets = settings.subsets[min(shots.bit_length() - 1, len(settings.subsets) - 1)]
    plan = kshot.BankPlan(
        shots, subsets, settings.l2 * len(data.tail.train.y), settings.tol, run.config.heads.final_tol, settings.memory_mb << 20
    )
    return plan, run.path(f"bank-{shots}", data.name, plan._replace(memory=0))


def banks(run: Run, data: Data) -> list[Bank]:
    """The bank of every k of the ladder."""
    settings, tail = run.config.kshot, data.tail
    made = []
    for shots in shots_used(run.config, tail.counts):
        plan, path = _bank_plan(run, data, shots)
        classes = kshot.shot_classes(tail.counts, shots)
        run.terminal.say(f"  k = {shots}: {plan.subsets} heads of the {len(classes)} classes with {2 * shots} examples or more")

        def make(plan=plan):
            key = stream(run.seed, "kshot", plan.shots)
            bank, info = kshot.fit_bank(
                key, tail.train, tail.counts, plan, lambda chunks: run.terminal.track(chunks, f"kshot k={plan.shots}")
            )
            norms = {"gradient_norm": float(info.heads.gradient_norm.max()), "target_gradient_norm": float(info.target.gradient_norm)}
            arrays = {"classes": bank.classes, "theta": bank.theta, "target": bank.target}
            return arrays, {**norms, "products": float(info.heads.products.mean())}

        arrays, record = artifacts.cached(path, make)
        _warn_unless_solved(run, f"a head of k = {shots}", record["gradient_norm"], settings.tol, "kshot.tol")
        _warn_unless_solved(run, f"θ* of k = {shots}", record["target_gradient_norm"], plan.target_tol, "heads.final_tol")
        made.append(Bank(shots, **arrays))
    return made


class Trained(NamedTuple):
    """A trained regressor of every candidate: its variables and its artefact; what rows were divided by in training."""

    regressor: Regressor
    candidates: list[stagewise.Hyper]
    variables: list[dict]
    names: list[str]
    unit: float
    context: Context
    seconds: float


def _candidates(settings):
    return [stagewise.Hyper(*map(float, point)) for point in itertools.product(settings.task_weight, settings.rate, settings.decay)]


def chain(run: Run, data: Data, all_banks: list[Bank]) -> Trained:
    """The residual chain of every candidate, trained back to front; each saved after each stage."""
    settings, tail = run.config.meta, data.tail
    ladder = tuple(bank.shots for bank in all_banks)
    regressor = residual_chain(ladder, settings.width)
    candidates = _candidates(settings)
    context = Context(jnp.asarray(tail.train.x.T @ tail.train.x / len(tail.train.x)), jnp.zeros(len(tail.counts), jnp.int32))
    unit = stagewise.row_unit(all_banks)
    held = stagewise.held_out_classes(tail.counts, settings.held_out)
    rungs = [stagewise.make_rung(stream(run.seed, "held out", bank.shots), bank, tail.train, tail.counts, held, unit) for bank in all_banks]
    programs = stagewise.compile_programs(regressor, settings.batch)
    bank_names = [_bank_plan(run, data, k)[1].name for k in ladder]
    used = {name: settings[name] for name in ("width", "held_out", "batch", "steps", "every", "patience")}

    def train(i, hyper, trained):
        spec = RegressorSpec(tail.train.x.shape[1] + 1, i)
        variables, report = stagewise.train_stage(
            programs,
            stagewise.begin_stage(regressor, stream(run.seed, "chain", i), spec, trained),
            hyper,
            stream(run.seed, "episodes", i),
            context,
            tuple(rungs[i:]),
            steps=settings.steps,
            every=settings.every,
            patience=settings.patience,
            track=lambda steps: run.terminal.track(steps, f"meta stage {i}, λ = {hyper.task_weight:g}"),
        )
        return variables, {"best_step": report.best_step, "held_out": report.curve.tolist()}

    trained, names, seconds = [None] * len(candidates), [], 0.0
    for i in reversed(range(len(ladder))):
        seen = int((~held[all_banks[i].classes]).sum())
        run.terminal.say(f"  stage {i}: trains block {i} on {seen} classes, {len(all_banks[i].classes) - seen} held out")
        paths = [run.path(f"chain-{i}", bank_names, used, hyper) for hyper in candidates]
        work = zip(paths, candidates, trained, strict=True)
        saved = [artifacts.cached(path, partial(train, i, hyper, variables)) for path, hyper, variables in work]
        trained, names = [arrays for arrays, _ in saved], [path.name for path in paths]
        seconds += sum(record["seconds"] for _, record in saved)
    return Trained(regressor, candidates, trained, names, unit, context, seconds)


def _moved_head(run, data, plain):
    """The plain problem at the bank's own ridge: rows that differ from the bank's in their shots, not in their regularisation."""
    drawn = weighting.plain(stream(run.seed, "weighting", "plain"), data.tail.train.y, data.tail.counts)
    return tuning.fit_weighted(data.tail.train, drawn, run.config.kshot.l2, plain.theta, run.config.heads.final_tol)


def _transfer_trials(run, data, theta, trained, keep_from):
    """Every candidate × strength × whether many-shot classes keep their rows, judged on validation data."""
    counts, val = data.tail.counts, data.tail.val
    for number, (hyper, variables) in enumerate(zip(trained.candidates, trained.variables, strict=True)):
        for keep in (True, False):
            limit = keep_from if keep else np.iinfo(np.int32).max
            moved = transfer_rows(trained.regressor, variables, theta, counts, trained.context, trained.unit, limit)
            for strength in run.config.meta.strength:
                rows = (theta + strength * (moved - theta)).astype(np.float32)
                accuracy = mean_class_accuracy(predict_logits(rows, val.x), val.y)
                chosen = {**hyper._asdict(), "many_shot_keep": keep, "strength": strength, "val_accuracy": accuracy}
                yield rows, number, chosen


def meta(run: Run, data: Data, plain: Model, all_banks: list[Bank]) -> Model:
    """MetaModelNet: trains the chain on the banks, then moves the rows of a plain head fitted at the bank's ridge."""
    ladder = tuple(bank.shots for bank in all_banks)
    if not ladder:
        run.terminal.say("  too few classes have examples enough to learn from: metamodelnet is the plain head")
        return plain._replace(tuned={**plain.tuned, "fallback": "plain"})
    trained = chain(run, data, all_banks)

    def make():
        start, info = _moved_head(run, data, plain)
        trials = list(_transfer_trials(run, data, start, trained, 2 * ladder[-1]))
        rows, number, chosen = max(trials, key=lambda trial: trial[2]["val_accuracy"])  # the first of equals
        counts = jnp.asarray(data.tail.counts)
        movement = block_movement(ladder, run.config.meta.width, trained.variables[number], jnp.asarray(start) / trained.unit, counts)
        record = {"chosen": chosen, "gradient_norm": float(info.gradient_norm), "movement": movement}
        return {"theta": rows}, {**record, "trials": [trial for *_, trial in trials]}

    path = run.path("transfer", trained.names, data.name, run.config.heads.to_dict(), list(run.config.meta.strength))
    arrays, record = artifacts.cached(path, make)
    _warn_unless_solved(run, "the head to move", record["gradient_norm"], run.config.heads.final_tol, "heads.final_tol")
    bank_seconds = sum(artifacts.restore_record(_bank_plan(run, data, k)[1])["seconds"] for k in ladder)
    tuned = {k: v for k, v in record["chosen"].items() if k != "val_accuracy"}
    tuned |= {k: record[k] for k in ("gradient_norm", "movement")}
    tuned |= {"settings_tried": len(record["trials"]), "ladder": list(ladder), "split": run.config.meta.split}
    seconds = plain.seconds + bank_seconds + trained.seconds + record["seconds"]
    return Model(arrays["theta"], record["chosen"]["val_accuracy"], tuned, seconds)


class SeedResult(NamedTuple):
    """Everything evaluation needs of one seed."""

    seed: int
    dataset: str
    class_names: tuple[str, ...]
    data: Data
    models: dict[str, Model]


def run_seed(run: Run, last: str) -> SeedResult | None:
    """All stages of one seed up to `last`; a SeedResult where the methods are complete."""
    say, upto = run.terminal.say, STAGES.index(last)
    say(f"seed {run.seed}: split")
    data = split(run)
    counts = np.sort(data.tail.counts)[::-1]
    say(f"  {len(data.tail.train.y)} training examples of {len(counts)} classes, {counts[0]} to {counts[-1]} a class")
    if upto < STAGES.index("heads"):
        return None
    say(f"seed {run.seed}: heads")
    models = heads(run, data)
    if upto < STAGES.index("kshot"):
        return None
    say(f"seed {run.seed}: kshot")
    all_banks = banks(run, data)
    if upto < STAGES.index("meta"):
        return None
    say(f"seed {run.seed}: meta")
    models["metamodelnet"] = meta(run, data, models["plain"], all_banks)
    models["mmn"] = models["metamodelnet"]  # until a better regressor exists
    return SeedResult(run.seed, run.features.name, run.features.class_names, data, models)


def run_seeds(config: ConfigDict, workdir: Path, terminal: Terminal, last: str) -> list[SeedResult]:
    """Every seed of the config up to the stage `last`; [] where that is before meta."""
    check(config)
    features = load_features(config)
    fingerprint = feature_files.fingerprint(features)
    seeds = tuple(config.seeds) or (config.seed,)
    results = [run_seed(Run(config, int(s), workdir, features, fingerprint, terminal), last) for s in seeds]
    return [result for result in results if result is not None]


def versions() -> dict[str, str]:
    """Of Python and of every package that computes."""
    names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "scikit-learn")
    return {"python": platform.python_version(), "mmn_jax": __version__, **{name: metadata.version(name) for name in names}}
