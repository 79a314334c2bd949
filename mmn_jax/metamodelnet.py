"""`metamodelnet`, the paper's recipe on one run: banks of k-shot heads, the chain of every candidate, the plain head's rows moved.

    banks → chain → move → meta

Each step saves its artefact; the setting is chosen on the folds as every other method's.
"""

import functools
import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mmn_jax import artifacts, metrics, stagewise, tuning, weighting
from mmn_jax.banks import Banks, banks
from mmn_jax.chain import block_movement, residual_chain
from mmn_jax.evaluate import predict_logits
from mmn_jax.keys import stream
from mmn_jax.lessons import held_out_classes, make_lessons, row_unit
from mmn_jax.mesh import all_devices
from mmn_jax.methods import chosen_record, linear_logits
from mmn_jax.regressor import Context, Regressor, RegressorSpec, Variables
from mmn_jax.run import Data, Model, Run, make_model, warn_unless_solved
from mmn_jax.tasks import Task, unscaled
from mmn_jax.transfer import transfer_rows
from mmn_jax.tuning import Fold
from mmn_jax.types import Bank


class Trained(NamedTuple):
    """A trained regressor of every candidate: its variables, its artefact and the record of each of its stages; what rows were
    divided by in training, and the classes held out of it [C]."""

    regressor: Regressor
    candidates: list[stagewise.Hyper]
    variables: list[Variables]
    names: list[str]
    stages: list[dict[int, artifacts.Record]]
    unit: float
    context: Context
    held: np.ndarray
    seconds: float


def _candidates(settings):
    return [stagewise.Hyper(*map(float, point)) for point in itertools.product(settings.task_weight, settings.rate, settings.decay)]


class Stage(NamedTuple):
    """What a stage of the chain learns from: a training set and the banks of its rungs, of the same features; their unit and window."""

    part: Fold
    banks: Banks
    unit: float
    window: int | None


def _stage(run, part, made, first):
    return Stage(part, made._replace(every=made.every[first:]), row_unit(made.every), _window(run, made.every))


def stages(run: Run, part: Fold, made: Banks, others: Mapping[int, Fold], mesh: Mesh) -> Callable[[int], Stage]:
    """Block → its Stage: of `part` and its banks; where `others` have its k, of that training set and the banks of k and above."""

    def stage(i):
        shots = made.every[i].shots
        if shots not in others:
            return _stage(run, part, made, i)
        run.terminal.say(f"  stage {i} has features of its own")
        return _stage(run, others[shots], banks(run, others[shots], mesh, shots), 0)

    return stage


class Setup(NamedTuple):
    """What the stages of a chain share; held: [C] mask of the classes held out of all of them."""

    regressor: Regressor
    programs: stagewise.Programs
    context: Context
    held: np.ndarray
    mesh: Mesh


def _shared(run, setup, i, now):
    """What all candidates of stage i begin with: fresh variables, and the lessons."""
    counts, width = np.bincount(now.part.train.y), now.part.train.x.shape[1] + 1
    fresh = jax.jit(setup.regressor.init, static_argnums=1)(stream(run.seed, "chain", i), RegressorSpec(width, i))
    key = stream(run.seed, "held out")
    return fresh, make_lessons(key, now.banks.every, now.part.train, counts, setup.held, now.unit, setup.mesh, now.window)


def _train_candidate(run, setup, i, shared, hyper, trained):
    """Stage i of one candidate, whose later stages gave the variables `trained`: the variables now, and the record."""
    (fresh, lessons), settings = shared(), run.config.meta
    variables, report = stagewise.train_stage(
        setup.programs,
        stagewise.begin_stage(fresh, trained),
        hyper,
        stream(run.seed, "episodes", i),
        setup.context,
        lessons,
        steps=settings.steps,
        every=settings.every,
        patience=settings.patience,
        track=lambda steps: run.terminal.track(steps, f"meta stage {i}, λ = {hyper.task_weight:g}"),
    )
    return jax.device_get(variables), {"best_step": report.best_step, "looks": [look._asdict() for look in report.looks]}


def chain(run: Run, ladder: tuple[int, ...], stage: Callable[[int], Stage], mesh: Mesh) -> Trained:
    """The residual chain of every candidate, trained back to front on what stage(i) gives; each saved after each stage."""
    settings, last = run.config.meta, stage(0)
    counts, candidates = np.bincount(last.part.train.y), _candidates(settings)
    regressor = residual_chain(ladder, settings.width, jnp.dtype(settings.precision))
    context, held = Context(None, jnp.zeros(len(counts), jnp.int32)), held_out_classes(counts, settings.held_out)
    setup = Setup(regressor, stagewise.compile_programs(regressor, settings.batch, mesh), context, held, mesh)
    used = {name: settings[name] for name in ("width", "precision", "held_out", "batch", "steps", "every", "patience")}
    nothing: list[Variables | None] = [None] * len(candidates)
    trained: list[Variables] = []
    records: list[dict[int, artifacts.Record]] = [{} for _ in candidates]
    names, seconds = [], last.banks.seconds
    for i in reversed(range(len(ladder))):
        now = stage(i) if i else last
        classes = now.banks.every[0].classes
        seen = int((~held[classes]).sum())
        run.terminal.say(f"  stage {i}: trains block {i} on {seen} classes, {len(classes) - seen} held out")
        paths = [run.path(f"chain-{i}", now.banks.names, used, hyper) for hyper in candidates]
        make = partial(_train_candidate, run, setup, i, functools.cache(partial(_shared, run, setup, i, now)))
        work = zip(paths, candidates, trained or nothing, strict=True)
        saved = [artifacts.cached(path, partial(make, hyper, variables)) for path, hyper, variables in work]
        trained, names = [arrays for arrays, _ in saved], [path.name for path in paths]
        own = 0.0 if now.part is last.part else now.banks.seconds
        seconds += own + sum(record["seconds"] for _, record in saved)
        for hyper, record, (_, found) in zip(candidates, records, saved, strict=True):
            record[i] = found
            metrics.log_stage(run.terminal.log, run.seed, last.part.name, hyper._asdict(), i, found["looks"])
    return Trained(regressor, candidates, trained, names, records, last.unit, context, held, seconds)


def _window(run, all_banks):
    """How many heads of every bank the memory holds at once, None for all."""
    memory = run.config.meta.memory_mb << 20
    if sum(bank.subsets * bank.target.nbytes for bank in all_banks) <= memory:
        return None
    return max(1, memory // sum(bank.target.nbytes for bank in all_banks))


class Moved(NamedTuple):
    """The plain rows [C, d+1] of one training set, moved under every setting: theta [settings, C, d+1]; and by what."""

    settings: list[dict[str, Any]]
    theta: np.ndarray
    plain: np.ndarray
    record: dict[str, Any]
    banks: list[Bank]
    trained: Trained | None
    seconds: float


class Learned(NamedTuple):
    """The chain that was chosen, and what it learned from.

    theta: [C, d+1] the rows that it moves. stages: the record of each of its stages, by block. held: [C] the classes held out. The
    rest is what `transfer_rows` takes.
    """

    banks: list[Bank]
    theta: np.ndarray
    regressor: Regressor
    variables: Variables
    context: Context
    unit: float
    held: np.ndarray
    stages: dict[int, artifacts.Record]


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


def move(run: Run, part: Fold, task: Callable[[], Task], others: Mapping[int, Fold]) -> Moved:
    """MetaModelNet on one training set: banks, chain, and the plain head of the bank's own ridge, whose rows it moves: they
    differ from the bank's in their shots, not in their regularisation. others: as in `stages`."""
    run.terminal.say(f"seed {run.seed}: kshot, {len(part.train.y)} examples")
    mesh = all_devices()
    made = banks(run, part, mesh)
    ladder = tuple(bank.shots for bank in made.every)
    counts = np.bincount(part.train.y)
    options = itertools.product(_candidates(run.config.meta), (True, False), run.config.meta.strength)
    settings = [{**hyper._asdict(), "many_shot_keep": keep, "strength": float(strength)} for hyper, keep, strength in options]
    run.terminal.say(f"seed {run.seed}: meta")
    trained = chain(run, ladder, stages(run, part, made, others, mesh), mesh) if ladder else None

    def make():
        theta, norm = task().head("plain", weighting.plain, run.config.kshot.l2, unscaled)
        record = {"gradient_norm": norm}
        if trained is None:
            return {"theta": np.stack([theta] * len(settings)), "plain": theta}, {**record, "movement": []}
        rows, shots = jnp.asarray(theta) / trained.unit, jnp.asarray(counts)
        movement = [block_movement(ladder, run.config.meta.width, variables, rows, shots) for variables in trained.variables]
        moved = _move_rows(settings, trained, theta, counts, 2 * ladder[-1])
        return {"theta": moved, "plain": theta}, {**record, "movement": movement}

    depends = (run.config.kshot.l2, run.config.heads.tol, run.config.heads.final_tol, settings)
    arrays, record = artifacts.cached(run.path("transfer", part.name, trained and trained.names, depends), make)
    warn_unless_solved(run, "the head to move", record["gradient_norm"], run.config.heads.final_tol, "heads.final_tol")
    record |= {"ladder": list(ladder)}
    seconds = record["seconds"] + (trained.seconds if trained else 0.0)
    return Moved(settings, arrays["theta"], arrays["plain"], record, made.again(), trained, seconds)


def _learned(moved, number):
    """The Learned of one candidate."""
    trained = moved.trained
    chosen = (trained.regressor, trained.variables[number], trained.context, trained.unit, trained.held, trained.stages[number])
    return Learned(moved.banks, moved.plain, *chosen)


def meta(run: Run, data: Data, tasks: Callable, plain: Model) -> tuple[Model, Learned | None]:
    """MetaModelNet, its setting chosen as every other method's; the tuned plain head and None where no class can teach it."""

    def solved(fold):
        return lambda: tasks(fold.name)[1]

    parts = [move(run, fold, solved(fold), data.stages) for fold in data.folds]
    whole = parts[0] if data.whole.val is not None else move(run, data.whole, solved(data.whole), data.stages)
    every = parts if whole is parts[0] else [*parts, whole]
    if not all(part.record["ladder"] for part in every):
        run.terminal.say("  too few classes have examples enough to learn from: metamodelnet is the plain head")
        return plain._replace(tuned={**plain.tuned, "fallback": "plain"}), None

    def logits(setting):
        number = whole.settings.index(setting)
        return [predict_logits(part.theta[number], fold.val.x) for part, fold in zip(parts, data.folds, strict=True)]

    trials = [tuning.Trial(setting, tuning.held_accuracy(logits(setting), data.folds)) for setting in whole.settings]
    setting = tuning.best(trials).setting
    record = {**chosen_record(setting, logits(setting), data.folds, trials), "gradient_norm": whole.record["gradient_norm"]}
    number = whole.settings.index(setting)
    candidate = _candidates(run.config.meta).index(_hyper(setting))
    tuned = {"movement": whole.record["movement"][candidate], "ladder": whole.record["ladder"], "split": run.config.meta.split}
    seconds = sum(part.seconds for part in every)
    model = make_model("paper", {"theta": whole.theta[number]}, linear_logits, record, seconds, **tuned)
    return model, _learned(whole, candidate)
