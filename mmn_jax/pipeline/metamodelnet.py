"""`metamodelnet` in a run: the steps of `methods/metamodelnet.py`, each of which saves its artefacts.

banks → regressors, level by level → moved rows → choice
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int
from ml_collections import ConfigDict

from mmn_jax.config import given
from mmn_jax.devices import all_devices
from mmn_jax.errors import renamed
from mmn_jax.linear import weighting
from mmn_jax.linear.rows import predict_logits
from mmn_jax.metamodelnet.chain import block_movement
from mmn_jax.metamodelnet.kshot_bank import enough_classes
from mmn_jax.metamodelnet.level import Evaluation, Hyper, LevelReport, Schedule
from mmn_jax.metamodelnet.regressor import Context, Regressor, RegressorSpec, Variables, check
from mmn_jax.metamodelnet.training import LevelSet, fit_metamodelnet
from mmn_jax.metamodelnet.training_data import held_out_classes, window_size
from mmn_jax.methods.choosing import choose_among
from mmn_jax.methods.contract import linear_logits
from mmn_jax.methods.folds import Fold, Tasks, in_order
from mmn_jax.methods.metamodelnet import Move, RegressorOptions, move_rows
from mmn_jax.methods.tasks import Task, unscaled
from mmn_jax.store import artifacts, metrics_log
from mmn_jax.store.banks import BankJob, Banks, banks, shots_used
from mmn_jax.store.run import Data, Model, Run, make_model, warn_unless_solved
from mmn_jax.types import Bank


def regressor_options(config: ConfigDict) -> RegressorOptions:
    """Returns the settings of regressors from the config of a run."""
    meta = config.meta
    schedule = Schedule(meta.steps, meta.every, meta.patience, meta.batch)
    weights, rates, decays, strengths = (tuple(meta[name]) for name in ("task_weight", "rate", "decay", "strength"))
    memory = meta.memory_mb << 20 or None
    return RegressorOptions(meta.regressor, meta.width, meta.precision, weights, rates, decays, strengths, schedule, meta.held_out, memory)


class Trained(NamedTuple):
    """The regressors of one training set.

    hypers: hyperparameters. variables, names, records: for each of them, the trained variables, the name of the last artefact, and the
    records of the training of each level. held: the classes held out of training. seconds: that all of them took, with the banks.
    """

    regressor: Regressor
    hypers: list[Hyper]
    variables: list[Variables]
    names: list[str]
    records: list[dict[int, artifacts.Record]]
    context: Context
    held: Bool[np.ndarray, " C"]
    seconds: float


class Learned(NamedTuple):
    """The regressor that was chosen, and its training data.

    theta: the rows that it moves. held: the classes held out of training. records: of the training of each level.
    """

    banks: list[Bank]
    theta: Float[np.ndarray, "C p"]
    regressor: Regressor
    variables: Variables
    context: Context
    held: Bool[np.ndarray, " C"]
    records: dict[int, artifacts.Record]


def _made_by(config: ConfigDict, options: RegressorOptions) -> dict[str, Any]:
    """Returns the settings that the training of a level depends on, beside its banks and hyperparameters."""
    meta = config.meta
    own = options.make and given(options.make, "meta.regressor")
    made_by = {"regressor": (own.name, own.text, own.values)} if own else {"width": meta.width, "precision": meta.precision}
    return made_by | {name: meta[name] for name in ("held_out", "batch", "steps", "every", "patience")}


def _chain_path(run: Run, level: int, names: list[str], every: list[Bank], hyper: Hyper) -> Path:
    """Returns the path of the variables after a level; names: of the artefacts of its banks."""
    options = regressor_options(run.config)
    return run.path(f"chain-{level}", names, window_size(every, options.memory), _made_by(run.config, options), hyper)


def chain_is_kept(run: Run, jobs: list[BankJob]) -> bool:
    """Returns whether the regressor of every combination of hyperparameters was trained on these banks in a run before."""
    every = [job.empty() for job in jobs]
    names = [job.path.name for job in jobs]
    return all(_chain_path(run, 0, names, every, hyper).exists() for hyper in regressor_options(run.config).hypers)


def _as_record(report: LevelReport) -> dict[str, Any]:
    """Returns the record that is saved of a report; its key "looks" is as in older artefacts."""
    return {"best_step": report.best_step, "looks": [evaluation._asdict() for evaluation in report.evaluations]}


def _as_report(record: artifacts.Record) -> LevelReport:
    """Returns the report that a record was made of."""
    return LevelReport(record["best_step"], [Evaluation(**evaluation) for evaluation in record["looks"]])


def check_regressor(run: Run, data: Data) -> None:
    """Checks the regressor that the config gives, if it gives one, before anything is computed for it.

    Raises:
      BadInput: it breaks its contract, or is not defined in a file.
    """
    options, counts = regressor_options(run.config), np.bincount(data.whole.train.y)
    ladder = shots_used(run.config, counts)
    if options.make is None or not ladder:
        return
    with renamed({"regressor": "--config.meta.regressor"}):
        regressor, context = options.regressor(ladder)
        check(regressor, RegressorSpec(data.whole.train.x.shape[1] + 1, 0), counts, context(data.whole.train)._replace(means=None))


def lacks_classes(run: Run, data: Data) -> str:
    """Says why a training set has too few classes with enough examples for any bank; empty if all have enough."""
    for part in (*data.folds, data.whole):
        counts = np.bincount(part.train.y)
        if not shots_used(run.config, counts):
            least = 2 * (run.config.meta.fixed_shots if run.config.meta.split == "fixed" else 1)
            wanted = enough_classes(len(counts), run.config.kshot.min_classes)
            return f"{(counts >= least).sum()} classes have {least} training examples or more, and banks need {wanted} of them"
    return ""


def _plain_rows(run: Run, task: Callable[[], Task]) -> Callable[[], Float[np.ndarray, "C p"]]:
    """Returns a function that solves the plain head under the banks' ridge; task: makes the Task at the final tolerance."""
    return lambda: task().head(weighting.plain, run.config.kshot.l2, unscaled).theta


def _final(tasks: Tasks, name: str) -> Task:
    """Returns the task of a training set at the final tolerance."""
    return tasks(name)[1]


def make_banks(run: Run, data: Data, tasks: Tasks) -> None:
    """Makes the banks of every training set, and nothing that needs them; tasks: of the training sets."""
    run.terminal.say(f"seed {run.seed}: kshot")
    if short := lacks_classes(run, data):
        run.terminal.say(f"  there are no banks to make: {short}")
        return
    wholes = {part.name: part for part in (*data.folds, data.whole)}
    for name, part in wholes.items():
        banks(run, part, all_devices(), plain=_plain_rows(run, partial(_final, tasks, name)))
    for shots, part in data.stage_parts.items():
        banks(run, part, all_devices(), shots)


def _say_classes(run: Run, made: Banks, sets: Mapping[int, LevelSet], held: Bool[np.ndarray, " C"]) -> None:
    """Prints how many classes each level is trained on."""
    for level, bank in reversed(list(enumerate(made.every))):
        if level in sets:
            run.terminal.say(f"  level {level}: has features of its own")
        seen = int((~held[bank.classes]).sum())
        run.terminal.say(f"  level {level}: trained on {seen} classes, {len(bank.classes) - seen} are held out")


def train(run: Run, part: Fold, made: Banks, others: Mapping[int, Fold], mesh: Mesh) -> Trained:
    """Trains the regressor of every combination of hyperparameters, each saved after each level.

    Args:
      run: the run.
      part: the training set.
      made: its banks.
      others: by k, the training set of a level with features of its own (`vision/joint.py`).
      mesh: the devices.

    Raises:
      BadInput: a regressor that the config gives breaks its contract, or is not defined in a file.
    """
    options, ladder = regressor_options(run.config), tuple(bank.shots for bank in made.every)
    regressor, context = options.regressor(ladder)
    held = held_out_classes(np.bincount(part.train.y), options.held_out)
    own = {level: banks(run, others[shots], mesh, shots) for level, shots in enumerate(ladder) if shots in others}
    sets = {level: LevelSet(now.every, others[ladder[level]].train) for level, now in own.items()}
    _say_classes(run, made, sets, held)
    fit = partial(fit_metamodelnet, jax.random.key(run.seed), made.every, *part.train, regressor)
    fit = partial(fit, schedule=options.schedule, held_out=options.held_out, context=context, memory=options.memory, mesh=mesh)
    done = Trained(
        regressor, options.hypers, [], [], [], context(part.train), held, made.seconds + sum(now.seconds for now in own.values())
    )
    for hyper in options.hypers:
        records: dict[int, artifacts.Record] = {}
        paths: dict[int, Path] = {}

        def keep(level, make, hyper=hyper, records=records, paths=paths):
            now = own.get(level, made)
            paths[level] = _chain_path(run, level, now.names, now.every, hyper)

            def trained():
                variables, report = make()
                return jax.device_get(variables), _as_record(report)

            variables, records[level] = artifacts.cached(paths[level], trained)
            metrics_log.log_stage(run.terminal.log, run.seed, part.name, hyper._asdict(), level, records[level]["looks"])
            return variables, _as_report(records[level])

        def track(steps, level, hyper=hyper):
            return run.terminal.track(steps, f"level {level}, λ = {hyper.task_weight:g}")

        with renamed({"regressor": "--config.meta.regressor"}):
            variables, _ = fit(hyper, level_sets=sets, keep=keep, track=track)
        done.variables.append(variables)
        done.names.append(paths[0].name)
        done.records.append(records)
    return done._replace(seconds=done.seconds + sum(record["seconds"] for records in done.records for record in records.values()))


class Moved(NamedTuple):
    """The rows of one training set under every Move.

    theta: the moved rows. plain: the rows that were moved. banks: with nothing read yet. trained: the regressors. record: of the artefact.
    seconds: of everything.
    """

    theta: Float[np.ndarray, "moves C p"]
    plain: Float[np.ndarray, "C p"]
    banks: list[Bank]
    trained: Trained
    record: dict[str, Any]
    seconds: float


def move(run: Run, part: Fold, task: Callable[[], Task], others: Mapping[int, Fold]) -> Moved:
    """Moves the plain head of one training set under every Move.

    The head has the ridge of the banks, so that its rows differ from theirs in the number of examples alone.

    Args:
      run: the run.
      part: the training set.
      task: makes its Task at the final tolerance.
      others: as for `train`.
    """
    run.terminal.say(f"seed {run.seed}: kshot, {len(part.train.y)} examples")
    mesh, config, options = all_devices(), run.config, regressor_options(run.config)
    made = banks(run, part, mesh, plain=_plain_rows(run, task))
    ladder, counts = tuple(bank.shots for bank in made.every), np.bincount(part.train.y)
    run.terminal.say(f"seed {run.seed}: meta")
    trained = train(run, part, made, others, mesh)

    def make():
        theta, norm, _ = task().head(weighting.plain, config.kshot.l2, unscaled)
        movement = [_movement(options, ladder, variables, theta, counts) for variables in trained.variables]
        by_hyper = dict(zip(trained.hypers, trained.variables, strict=True))
        moved = move_rows(options.moves, trained.regressor, by_hyper, theta, counts, trained.context, 2 * ladder[-1])
        return {"theta": moved, "plain": theta}, {"gradient_norm": norm, "movement": movement}

    depends = (config.kshot.l2, config.heads.tol, config.heads.final_tol, options.moves)
    arrays, record = artifacts.cached(run.path("transfer", part.name, trained.names, depends), make)
    warn_unless_solved(run, "the head to move", record["gradient_norm"], config.heads.final_tol, "heads.final_tol")
    seconds = record["seconds"] + trained.seconds
    return Moved(arrays["theta"], arrays["plain"], made.again(), trained, {**record, "ladder": list(ladder)}, seconds)


def _movement(
    options: RegressorOptions, ladder: tuple[int, ...], variables: Variables, theta: Float[np.ndarray, "C p"], counts: Int[np.ndarray, " C"]
) -> list[float | None]:
    """Computes how far each block of the chain moves rows; an empty list for another regressor."""
    return [] if options.make else block_movement(ladder, options.width, variables, jnp.asarray(theta), jnp.asarray(counts))


def unmoved(theta: Float[np.ndarray, "C p"], plain: Float[np.ndarray, "C p"]) -> bool:
    """Returns whether the rows of a head are those of the plain head that they were moved from, up to rounding."""
    return np.allclose(theta, plain, rtol=1e-5, atol=1e-6)


def _why_still(run: Run, move: Move, records: Mapping[int, artifacts.Record], counts: Int[np.ndarray, " C"], keep_from: int) -> str:
    """Says why a trained regressor moves no row.

    Args:
      run: the run.
      move: the setting that was chosen.
      records: of the training of each level.
      counts: training examples of each class.
      keep_from: number of examples from which a class keeps its row if frequent ones do.
    """
    if move.strength == 0:
        return "the strength that was chosen is 0 (--config.meta.strength)"
    if all(record["best_step"] == 0 for record in records.values()):
        return "at no level did training bring the rows of held-out classes closer to those of many examples"
    if move.frequent_keep and counts.min() >= keep_from:
        return f"every class has the {keep_from} examples from which it keeps its row"
    return "what it adds to a row is too small to count"


def meta(run: Run, data: Data, tasks: Tasks, plain: Callable[[], Model]) -> tuple[Model, Learned | None]:
    """Fits metamodelnet.

    Args:
      run: the run.
      data: its data.
      tasks: of the training sets.
      plain: returns the tuned plain head, which is asked for only where there is nothing to learn from.

    Returns:
      The model, and the regressor that was chosen; the plain head and None if too few classes have enough examples to learn from.
    """
    moves = regressor_options(run.config).moves
    if short := lacks_classes(run, data):
        run.terminal.say(f"seed {run.seed}: no banks and no chain, as {short}: metamodelnet is the plain head, and mmn is unaffected")
        model = plain()
        return model._replace(tuned={**model.tuned, "fallback": "plain"}), None

    def moved(fold):
        return move(run, fold, partial(_final, tasks, fold.name), data.stage_parts)

    parts = [moved(fold) for fold in data.folds]
    whole = parts[0] if data.whole.val is not None else moved(data.whole)
    every = parts if whole is parts[0] else [*parts, whole]

    def logits(number):
        return [predict_logits(part.theta[number], fold.val.x) for part, fold in zip(parts, data.folds, strict=True)]

    number, record = choose_among([one.setting for one in moves], logits, data.folds, whole.record["gradient_norm"])
    trained, theta, chosen = whole.trained, whole.theta[number], moves[number]
    candidate, ladder = trained.hypers.index(chosen.hyper), whole.record["ladder"]
    if unmoved(theta, whole.plain):
        why = _why_still(run, chosen, trained.records[candidate], np.bincount(data.whole.train.y), 2 * ladder[-1])
        run.terminal.say(f"  the {_called(run)} moves no row, so that MetaModelNet learned nothing here: {why}")
        run.terminal.say("  metamodelnet is the plain head under the ridge kshot.l2; mmn doesn't use it and is unaffected")
    tuned = {"movement": whole.record["movement"][candidate], "ladder": ladder, "split": run.config.meta.split}
    if run.config.meta.regressor:
        tuned["regressor"] = run.config.meta.regressor.__qualname__
    model = make_model("paper", {"theta": theta}, linear_logits, record, sum(part.seconds for part in every), **tuned)
    if data.tail.test is None:
        model = model._replace(held=in_order(logits(number), data.folds))
    learned = (trained.regressor, trained.variables[candidate], trained.context, trained.held, trained.records[candidate])
    return model, Learned(whole.banks, whole.plain, *learned)


def _called(run: Run) -> str:
    """Returns what messages call the regressor."""
    return "regressor" if run.config.meta.regressor else "chain"
