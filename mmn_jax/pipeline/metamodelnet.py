"""`metamodelnet`, the paper's recipe on one run: banks of k-shot heads, the chain of every candidate, the plain head's rows moved.

    banks → candidates.train → move → meta

Each step saves its artefact; the setting is chosen on the folds as every other method's.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mmn_jax.devices import all_devices
from mmn_jax.linear import weighting
from mmn_jax.linear.rows import predict_logits
from mmn_jax.metamodelnet.chain import block_movement
from mmn_jax.metamodelnet.regressor import Context, Regressor, Variables
from mmn_jax.metamodelnet.training import Hyper
from mmn_jax.metamodelnet.transfer import transfer_rows
from mmn_jax.methods import tuning
from mmn_jax.methods.contract import chosen_record, linear_logits
from mmn_jax.methods.folds import Fold, held_accuracy
from mmn_jax.methods.tasks import Task, unscaled
from mmn_jax.methods.tuning import Setting
from mmn_jax.pipeline import candidates
from mmn_jax.pipeline.candidates import Trained
from mmn_jax.store import artifacts
from mmn_jax.store.banks import banks
from mmn_jax.store.run import Data, Model, Run, make_model, warn_unless_solved
from mmn_jax.types import Bank


class Move(NamedTuple):
    """One setting: the candidate, whether the classes of the last rung keep their rows, and how much of the movement is applied."""

    hyper: Hyper
    frequent_keep: bool
    strength: float

    @property
    def setting(self) -> Setting:
        """As it is recorded."""
        return {**self.hyper._asdict(), "frequent_keep": self.frequent_keep, "strength": self.strength}


class Moved(NamedTuple):
    """The plain rows [C, d+1] of one training set, under every Move: theta [moves, C, d+1]; and what moved them."""

    moves: list[Move]
    theta: np.ndarray
    plain: np.ndarray
    record: dict[str, Any]
    banks: list[Bank]
    trained: Trained | None
    seconds: float


class Learned(NamedTuple):
    """The chain that was chosen, and what it learned from.

    theta: [C, d+1] the rows that it moves. records: of each of its stages, by block. held: [C] the classes held out. The
    rest is what `transfer_rows` takes.
    """

    banks: list[Bank]
    theta: np.ndarray
    regressor: Regressor
    variables: Variables
    context: Context
    unit: float
    held: np.ndarray
    records: dict[int, artifacts.Record]


def _move_rows(moves, trained, theta, counts, keep_from):
    """[moves, C, d+1] the rows under every Move."""
    moved = {
        (hyper, keep): transfer_rows(
            trained.regressor, variables, theta, counts, trained.context, trained.unit, keep_from if keep else None
        )
        for hyper, variables in zip(trained.candidates, trained.variables, strict=True)
        for keep in (True, False)
    }
    return np.stack([theta + one.strength * (moved[one.hyper, one.frequent_keep] - theta) for one in moves]).astype(np.float32)


def _movement(settings, ladder, variables, rows, counts):
    """How far each block of the chain moves the rows; [] of a regressor that has none."""
    return [] if settings.regressor else block_movement(ladder, settings.width, variables, jnp.asarray(rows), jnp.asarray(counts))


def move(run: Run, part: Fold, task: Callable[[], Task], others: Mapping[int, Fold]) -> Moved:
    """MetaModelNet on one training set: banks, chain, and the plain head of the bank's own ridge, whose rows it moves: they
    differ from the bank's in their shots, not in their regularisation. others: as in `candidates.stage_of`."""
    run.terminal.say(f"seed {run.seed}: kshot, {len(part.train.y)} examples")
    mesh = all_devices()
    made = banks(run, part, mesh)
    ladder = tuple(bank.shots for bank in made.every)
    counts = np.bincount(part.train.y)
    strengths = map(float, run.config.meta.strength)
    moves = [Move(*each) for each in itertools.product(candidates.hypers(run.config.meta), (True, False), strengths)]
    run.terminal.say(f"seed {run.seed}: meta")
    trained = candidates.train(run, ladder, candidates.stage_of(run, part, made, others, mesh), mesh) if ladder else None

    def make():
        theta, norm = task().head(weighting.plain, run.config.kshot.l2, unscaled)
        record = {"gradient_norm": norm}
        if trained is None:
            return {"theta": np.stack([theta] * len(moves)), "plain": theta}, {**record, "movement": []}
        movement = [_movement(run.config.meta, ladder, variables, theta / trained.unit, counts) for variables in trained.variables]
        moved = _move_rows(moves, trained, theta, counts, 2 * ladder[-1])
        return {"theta": moved, "plain": theta}, {**record, "movement": movement}

    depends = (run.config.kshot.l2, run.config.heads.tol, run.config.heads.final_tol, moves)
    arrays, record = artifacts.cached(run.path("transfer", part.name, trained and trained.names, depends), make)
    warn_unless_solved(run, "the head to move", record["gradient_norm"], run.config.heads.final_tol, "heads.final_tol")
    record |= {"ladder": list(ladder)}
    seconds = record["seconds"] + (trained.seconds if trained else 0.0)
    return Moved(moves, arrays["theta"], arrays["plain"], record, made.again(), trained, seconds)


def _learned(moved, number):
    """The Learned of one candidate."""
    trained = moved.trained
    chosen = (trained.regressor, trained.variables[number], trained.context, trained.unit, trained.held, trained.records[number])
    return Learned(moved.banks, moved.plain, *chosen)


def meta(run: Run, data: Data, tasks: Callable, plain: Model) -> tuple[Model, Learned | None]:
    """MetaModelNet, its setting chosen as every other method's; the tuned plain head and None where no class can teach it."""

    def solved(fold):
        return lambda: tasks(fold.name)[1]

    parts = [move(run, fold, solved(fold), data.stage_parts) for fold in data.folds]
    whole = parts[0] if data.whole.val is not None else move(run, data.whole, solved(data.whole), data.stage_parts)
    every = parts if whole is parts[0] else [*parts, whole]
    if whole.trained is None or not all(part.trained for part in every):
        run.terminal.say("  too few classes have examples enough to learn from: metamodelnet is the plain head")
        return plain._replace(tuned={**plain.tuned, "fallback": "plain"}), None

    def logits(number):
        return [predict_logits(part.theta[number], fold.val.x) for part, fold in zip(parts, data.folds, strict=True)]

    accuracies = [held_accuracy(logits(number), data.folds) for number in range(len(whole.moves))]
    trials = [tuning.Trial(one.setting, accuracy) for one, accuracy in zip(whole.moves, accuracies, strict=True)]
    number = trials.index(tuning.best(trials))
    record = {**chosen_record(trials[number].setting, logits(number), data.folds, trials), "gradient_norm": whole.record["gradient_norm"]}
    candidate = whole.trained.candidates.index(whole.moves[number].hyper)
    if np.allclose(whole.theta[number], whole.plain, rtol=1e-5, atol=1e-6):
        run.terminal.say("  the chain moves no row: metamodelnet is the plain head under the ridge kshot.l2")
    tuned = {"movement": whole.record["movement"][candidate], "ladder": whole.record["ladder"], "split": run.config.meta.split}
    if run.config.meta.regressor:
        tuned["regressor"] = run.config.meta.regressor.__qualname__
    seconds = sum(part.seconds for part in every)
    model = make_model("paper", {"theta": whole.theta[number]}, linear_logits, record, seconds, **tuned)
    return model, _learned(whole, candidate)
