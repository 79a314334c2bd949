"""The stages as a list: artefacts in, artefact out.

    split → heads → kshot → meta → eval → report

Each stage of a seed writes artefacts under the workdir, named by a hash of just what they depend
on, so a change of λ doesn't refit the bank, and a run that was stopped goes on where it was.
"""

import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mmn_jax import artifacts, kshot, mmn, rivals, stagewise, tuning, weighting
from mmn_jax.chain import block_movement, residual_chain
from mmn_jax.config import check
from mmn_jax.data import features as feature_files
from mmn_jax.data import glyphs, longtail, manifest
from mmn_jax.evaluate import best_temperature, predict_logits
from mmn_jax.keys import stream
from mmn_jax.methods import Method, linear_logits
from mmn_jax.regressor import Context, Regressor, RegressorSpec
from mmn_jax.transfer import transfer_rows
from mmn_jax.tuning import Fold
from mmn_jax.types import BadInput, Bank, Examples, FeatureSet, LongTail

STAGES = ("split", "heads", "kshot", "meta", "eval", "report", "all")
ARTIFACT_SCHEMA = 3  # part of every hash: artefacts of another layout are made anew


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
    """A LongTail with normalised features, the normalisation, and how knobs are chosen on it.

    whole: the training set, and beside it the validation set or None. folds: what settings are
    fitted and judged on; just `whole` where it has a validation set.
    """

    tail: LongTail
    normalise: tuning.Normalisation
    whole: Fold
    folds: tuple[Fold, ...]


class Model(NamedTuple):
    """A method's classifier of one seed, and how it came about.

    arrays, logits: logits(arrays, x) scores normalised features. temperature: what logits are divided by to be
    calibrated. tuned: the chosen setting. trials: all settings tried, in order.
    """

    kind: str
    arrays: dict[str, np.ndarray]
    logits: Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray]
    val_accuracy: float
    temperature: float
    tuned: dict[str, Any]
    trials: list[dict[str, Any]]
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


def class_prior(source: str, counts: np.ndarray) -> np.ndarray:
    """[C] shares of the classes where the classifier is used: uniform, as in training, or from a text file.

    Raises:
      BadInput: the file cannot be read or doesn't hold C numbers from 0 up.
    """
    if source == "uniform":
        return np.full(len(counts), 1 / len(counts))
    if source == "train":
        return counts / counts.sum()
    try:
        prior = np.array(Path(source).read_text().split(), float)
    except (OSError, ValueError) as error:
        raise BadInput(f"--config.eval.prior={source}: must be uniform, train, or a text file of {len(counts)} numbers") from error
    if len(prior) != len(counts) or not (np.isfinite(prior).all() and (prior >= 0).all() and prior.sum() > 0):
        raise BadInput(f"--config.eval.prior={source}: must hold {len(counts)} numbers from 0 up, one a class; it has {len(prior)}")
    return prior / prior.sum()


def split(run: Run) -> Data:
    """The long-tailed split of this seed, and its manifest beside the artefacts."""
    settings, features = run.config.data, run.features
    rule = settings.longtail.to_dict()
    if features.val is None:
        rule["val_per_class"] = settings.val_per_class if settings.validation == "set" else None
    given = manifest.read(settings.manifest, features) if settings.manifest else None
    if given is not None:
        rule = {"manifest": hashlib.sha256(given.tobytes()).hexdigest()}

    def make():
        return {"part": longtail.long_tail_split(features, run.seed, **rule) if given is None else given}, {}

    path = run.path("split", run.fingerprint, run.seed, rule)
    part = artifacts.cached(path, make)[0]["part"]
    document = json.dumps(manifest.describe(features, part, run.seed, rule))
    artifacts.write_bytes(path.with_name("split.json"), document.encode())
    return _normalised(run, longtail.take(features, part), path.name)


def _normalised(run, tail, name):
    normalise = tuning.normalisation(tail.train.x)
    train, val, test = (part and Examples(normalise(part.x), part.y) for part in (tail.train, tail.val, tail.test))
    tail = LongTail(train, val, test, tail.counts)
    if run.config.data.validation == "set":
        if val is None:
            raise BadInput("--config.data.manifest: its split holds nothing out to validate on; add --config.data.validation=train")
        whole = Fold(name, train, val)
        return Data(tail, normalise, whole, (whole,))
    number = run.config.data.folds
    held = longtail.stratified_folds(stream(run.seed, "folds"), train.y, number)
    used = [i for i in range(number) if (held == i).any()]
    if not used:
        raise BadInput("--config.data.validation=train: every class has a single example, none to choose by; give val_x and val_y")
    folds = [Fold(f"{name}-fold{i}of{number}", _where(train, held != i), _where(train, held == i)) for i in used]
    return Data(tail._replace(val=None), normalise, Fold(name, train, None), tuple(folds))


def _where(examples, mask):
    return Examples(examples.x[mask], examples.y[mask])


def describe_choice(data: Data) -> str:
    """One line on what the knobs of this run are chosen by."""
    chosen = np.bincount(np.concatenate([fold.val.y for fold in data.folds]), minlength=len(data.tail.counts))
    held = chosen[chosen > 0]
    source = f"{len(data.folds)} folds of the training set" if data.whole.val is None else "the validation set"
    line = f"knobs are chosen on {source}, {chosen.sum()} examples, {held.min()} to {held.max()} a class"
    if len(held) < len(chosen):
        line += f"; {len(chosen) - len(held)} classes have none and stay out of the mean"
    return line


def _warn_unless_solved(run, what, norm, tol, setting):
    if not norm <= tol:
        run.terminal.say(f"  warning: {what} stopped at gradient norm {norm:.1e}, above {setting}")


def _choose(trials, logits, folds):
    """What a record keeps of a choice: the best trial, the temperature of its logits on validation examples, and all trials."""
    chosen = tuning.best(trials)
    y = np.concatenate([fold.val.y for fold in folds])
    return {
        "setting": chosen.setting,
        "val_accuracy": chosen.accuracy,
        "temperature": best_temperature(np.concatenate(logits(chosen.setting)), y),
        "trials": [{**trial.setting, "val_accuracy": trial.accuracy} for trial in trials],
    }


def _model(kind, arrays, logits, record, seconds, **tuned):
    tuned = {**record["setting"], "settings_tried": len(record["trials"]), "gradient_norm": record["gradient_norm"], **tuned}
    return Model(kind, arrays, logits, record["val_accuracy"], record["temperature"], tuned, record["trials"], seconds)


def _tune(method, folds, rough, final, budget):
    """One method: its setting chosen on the folds, then fitted to everything."""

    def logits(setting):
        return [method.logits(method.fit(task, setting).arrays, fold.val.x) for task, fold in zip(rough, folds, strict=True)]

    trials = tuning.search(lambda setting: tuning.held_accuracy(logits(setting), folds), method.axes, budget)
    choice = _choose(trials, logits, folds)
    whole = method.fit(final, choice["setting"])
    return whole.arrays, {**choice, "gradient_norm": whole.gradient_norm, "at_edge": tuning.at_edge(choice["setting"], method.axes)}


def solvers(run: Run, data: Data) -> Callable[[str], tuple[tuning.Task, tuning.Task]]:
    """part name → its Task at the tolerance of choosing and at the final one, each made when it is first asked for."""
    parts = {part.name: part for part in (*data.folds, data.whole)}

    @functools.cache  # heads that several methods use are solved once
    def tasks(name):
        rough = tuning.make_task(parts[name].train, stream(run.seed, "weighting"), run.config.heads.tol)
        return rough, tuning.make_task(rough.train, rough.key, run.config.heads.final_tol, rough)

    return tasks


def methods_of(config: ConfigDict, kind: str) -> dict[str, Method]:
    """Every method of a kind by its name: "paper" (its baselines), "rival" or "ours"."""
    every = {**rivals.methods(config.heads.l2), "mmn": mmn.method(config.heads.l2)}
    return {name: method for name, method in every.items() if method.kind == kind}


def heads(run: Run, data: Data, tasks: Callable, chosen: dict[str, Method]) -> dict[str, Model]:
    """Every one of these methods, its knobs chosen on the folds."""
    settings, budget, models = run.config.heads, run.config.tuning.budget, {}

    def make(method):
        return _tune(method, data.folds, [tasks(fold.name)[0] for fold in data.folds], tasks(data.whole.name)[1], budget)

    for name, method in run.terminal.track(chosen.items(), "heads"):
        path = run.path(f"head-{name}", [fold.name for fold in data.folds], settings.to_dict(), budget, name)
        arrays, record = artifacts.cached(path, partial(make, method))
        models[name] = _model(method.kind, arrays, method.logits, record, record["seconds"], at_edge=record["at_edge"])
        _warn_unless_solved(run, name, record["gradient_norm"], settings.final_tol, "heads.final_tol")
    edges = [f"{name} ({', '.join(model.tuned['at_edge'])})" for name, model in models.items() if model.tuned["at_edge"]]
    if edges:
        run.terminal.say(f"  chosen at the end of their grids: {', '.join(edges)}")
    return models


def shots_used(config: ConfigDict, counts: np.ndarray) -> tuple[int, ...]:
    """The ladder of k this run climbs; () where too few classes have examples enough."""
    enough = max(5, min(config.kshot.min_classes, len(counts) // 4))
    if config.meta.split == "recursive":
        return kshot.shot_ladder(counts, enough, config.kshot.top)
    k = config.meta.fixed_shots
    return (k,) if len(kshot.shot_classes(counts, k)) >= enough else ()


def _bank_plan(run, part, shots):
    """The plan of a bank and the artefact that holds it."""
    settings = run.config.kshot
    subsets = settings.subsets[min(shots.bit_length() - 1, len(settings.subsets) - 1)]
    plan = kshot.BankPlan(
        shots, subsets, settings.l2 * len(part.train.y), settings.tol, run.config.heads.final_tol, settings.memory_mb << 20
    )
    return plan, run.path(f"bank-{shots}", part.name, plan._replace(memory=0))


def banks(run: Run, part: Fold) -> list[Bank]:
    """The bank of every k of the ladder."""
    tol, counts = run.config.kshot.tol, np.bincount(part.train.y)
    made = []
    for shots in shots_used(run.config, counts):
        plan, path = _bank_plan(run, part, shots)
        classes = kshot.shot_classes(counts, shots)
        run.terminal.say(f"  k = {shots}: {plan.subsets} heads of the {len(classes)} classes with {2 * shots} examples or more")

        def make(plan=plan):
            key = stream(run.seed, "kshot", plan.shots)
            bank, info = kshot.fit_bank(key, part.train, counts, plan, lambda chunks: run.terminal.track(chunks, f"kshot k={plan.shots}"))
            norms = {"gradient_norm": float(info.heads.gradient_norm.max()), "target_gradient_norm": float(info.target.gradient_norm)}
            arrays = {"classes": bank.classes, "theta": bank.theta, "target": bank.target}
            return arrays, {**norms, "products": float(info.heads.products.mean())}

        arrays, record = artifacts.cached(path, make)
        _warn_unless_solved(run, f"a head of k = {shots}", record["gradient_norm"], tol, "kshot.tol")
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


def chain(run: Run, part: Fold, all_banks: list[Bank]) -> Trained:
    """The residual chain of every candidate, trained back to front; each saved after each stage."""
    settings, train, counts = run.config.meta, part.train, np.bincount(part.train.y)
    ladder = tuple(bank.shots for bank in all_banks)
    regressor = residual_chain(ladder, settings.width)
    candidates = _candidates(settings)
    context = Context(None, jnp.zeros(len(counts), jnp.int32))
    unit = stagewise.row_unit(all_banks)
    held = stagewise.held_out_classes(counts, settings.held_out)
    rungs = [stagewise.make_rung(stream(run.seed, "held out", bank.shots), bank, train, counts, held, unit) for bank in all_banks]
    programs = stagewise.compile_programs(regressor, settings.batch)
    bank_plans = [_bank_plan(run, part, k)[1] for k in ladder]
    used = {name: settings[name] for name in ("width", "held_out", "batch", "steps", "every", "patience")}

    @functools.cache
    def fresh(i):
        return jax.jit(regressor.init, static_argnums=1)(stream(run.seed, "chain", i), RegressorSpec(train.x.shape[1] + 1, i))

    def train_one(i, hyper, trained):
        variables, report = stagewise.train_stage(
            programs,
            stagewise.begin_stage(fresh(i), trained),
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

    trained, names = [None] * len(candidates), []
    seconds = sum(artifacts.restore_record(path)["seconds"] for path in bank_plans)
    for i in reversed(range(len(ladder))):
        seen = int((~held[all_banks[i].classes]).sum())
        run.terminal.say(f"  stage {i}: trains block {i} on {seen} classes, {len(all_banks[i].classes) - seen} held out")
        paths = [run.path(f"chain-{i}", [path.name for path in bank_plans], used, hyper) for hyper in candidates]
        work = zip(paths, candidates, trained, strict=True)
        saved = [artifacts.cached(path, partial(train_one, i, hyper, variables)) for path, hyper, variables in work]
        trained, names = [arrays for arrays, _ in saved], [path.name for path in paths]
        seconds += sum(record["seconds"] for _, record in saved)
    return Trained(regressor, candidates, trained, names, unit, context, seconds)


class Moved(NamedTuple):
    """The plain rows of one training set, moved under every setting: theta [settings, C, d+1]."""

    settings: list[dict[str, Any]]
    theta: np.ndarray
    record: dict[str, Any]
    seconds: float


def _move_rows(settings, trained, theta, counts, keep_from):
    """[settings, C, d+1] the rows under every candidate × whether many-shot classes keep theirs × strength."""
    moved = {
        (hyper, keep): transfer_rows(
            trained.regressor, variables, theta, counts, trained.context, trained.unit, keep_from if keep else np.iinfo(np.int32).max
        )
        for hyper, variables in zip(trained.candidates, trained.variables, strict=True)
        for keep in (True, False)
    }
    return np.stack([theta + s["strength"] * (moved[_hyper(s), s["many_shot_keep"]] - theta) for s in settings]).astype(np.float32)


def _hyper(setting):
    return stagewise.Hyper(*(setting[field] for field in stagewise.Hyper._fields))


def move(run: Run, part: Fold, task: Callable[[], tuning.Task]) -> Moved:
    """MetaModelNet on one training set: banks, chain, and the plain head of the bank's own ridge, whose rows it moves: they
    differ from the bank's in their shots, not in their regularisation."""
    run.terminal.say(f"seed {run.seed}: kshot, {len(part.train.y)} examples")
    all_banks = banks(run, part)
    ladder = tuple(bank.shots for bank in all_banks)
    counts = np.bincount(part.train.y)
    options = itertools.product(_candidates(run.config.meta), (True, False), run.config.meta.strength)
    settings = [{**hyper._asdict(), "many_shot_keep": keep, "strength": float(strength)} for hyper, keep, strength in options]
    run.terminal.say(f"seed {run.seed}: meta")
    trained = chain(run, part, all_banks) if ladder else None

    def make():
        theta, norm = task().head("plain", weighting.plain, run.config.kshot.l2, tuning.unscaled)
        record = {"gradient_norm": norm}
        if trained is None:
            return {"theta": np.stack([theta] * len(settings))}, {**record, "movement": []}
        rows, shots = jnp.asarray(theta) / trained.unit, jnp.asarray(counts)
        movement = [block_movement(ladder, run.config.meta.width, variables, rows, shots) for variables in trained.variables]
        return {"theta": _move_rows(settings, trained, theta, counts, 2 * ladder[-1])}, {**record, "movement": movement}

    depends = (run.config.kshot.l2, run.config.heads.tol, run.config.heads.final_tol, settings)
    arrays, record = artifacts.cached(run.path("transfer", part.name, trained and trained.names, depends), make)
    _warn_unless_solved(run, "the head to move", record["gradient_norm"], run.config.heads.final_tol, "heads.final_tol")
    record |= {"ladder": list(ladder)}
    return Moved(settings, arrays["theta"], record, record["seconds"] + (trained.seconds if trained else 0.0))


def meta(run: Run, data: Data, tasks: Callable, plain: Model) -> Model:
    """MetaModelNet, its setting chosen as every other method's; the tuned plain head where no class can teach it."""
    parts = [move(run, fold, lambda fold=fold: tasks(fold.name)[1]) for fold in data.folds]
    whole = parts[0] if data.whole.val is not None else move(run, data.whole, lambda: tasks(data.whole.name)[1])
    every = parts if whole is parts[0] else [*parts, whole]
    if not all(part.record["ladder"] for part in every):
        run.terminal.say("  too few classes have examples enough to learn from: metamodelnet is the plain head")
        return plain._replace(tuned={**plain.tuned, "fallback": "plain"})

    def logits(setting):
        number = whole.settings.index(setting)
        return [predict_logits(part.theta[number], fold.val.x) for part, fold in zip(parts, data.folds, strict=True)]

    trials = [tuning.Trial(setting, tuning.held_accuracy(logits(setting), data.folds)) for setting in whole.settings]
    record = {**_choose(trials, logits, data.folds), "gradient_norm": whole.record["gradient_norm"]}
    number = whole.settings.index(record["setting"])
    movement = whole.record["movement"][_candidates(run.config.meta).index(_hyper(record["setting"]))]
    tuned = {"movement": movement, "ladder": whole.record["ladder"], "split": run.config.meta.split}
    seconds = sum(part.seconds for part in every)
    return _model("paper", {"theta": whole.theta[number]}, linear_logits, record, seconds, **tuned)


class SeedResult(NamedTuple):
    """Everything evaluation needs of one seed."""

    seed: int
    dataset: str
    class_names: tuple[str, ...]
    data: Data
    models: dict[str, Model]


def run_seed(run: Run, last: str) -> SeedResult | None:
    """All stages of one seed up to `last`; a SeedResult where the paper's methods are complete, with the rivals from eval on."""
    say, upto = run.terminal.say, STAGES.index(last)
    say(f"seed {run.seed}: split")
    data = split(run)
    counts = np.sort(data.tail.counts)[::-1]
    say(f"  {len(data.tail.train.y)} training examples of {len(counts)} classes, {counts[0]} to {counts[-1]} a class")
    say(f"  {describe_choice(data)}")
    if upto < STAGES.index("heads"):
        return None
    say(f"seed {run.seed}: heads")
    tasks = solvers(run, data)
    models = heads(run, data, tasks, methods_of(run.config, "paper"))
    if upto == STAGES.index("kshot"):
        say(f"seed {run.seed}: kshot")
        banks(run, data.whole)
    if upto < STAGES.index("meta"):
        return None
    models["metamodelnet"] = meta(run, data, tasks, models["plain"])
    models |= heads(run, data, tasks, methods_of(run.config, "ours"))
    if upto >= STAGES.index("eval"):
        say(f"seed {run.seed}: rivals")
        models |= heads(run, data, tasks, methods_of(run.config, "rival"))
    return SeedResult(run.seed, run.features.name, run.features.class_names, data, models)


def run_seeds(config: ConfigDict, workdir: Path, terminal: Terminal, last: str) -> list[SeedResult]:
    """Every seed of the config up to the stage `last`; [] where that is before meta."""
    check(config)
    features = load_features(config)
    class_prior(config.eval.prior, np.bincount(features.train.y))  # a bad one is refused before hours of work, not after
    fingerprint = feature_files.fingerprint(features)
    seeds = tuple(config.seeds) or (config.seed,)
    results = [run_seed(Run(config, int(s), workdir, features, fingerprint, terminal), last) for s in seeds]
    return [result for result in results if result is not None]
