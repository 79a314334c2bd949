"""Every candidate of `metamodelnet`, trained back to front on the banks of a run, each saved after each stage.

ladder, stage(i) → regressor, and its variables for every (λ, learning rate, weight decay)
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
from ml_collections import ConfigDict

from mmn_jax.config import given
from mmn_jax.devices import device_memory
from mmn_jax.metamodelnet import training
from mmn_jax.metamodelnet.chain import residual_chain
from mmn_jax.metamodelnet.regressor import Context, Regressor, RegressorSpec, Variables, check, make_context
from mmn_jax.metamodelnet.training_data import held_out_classes, make_lessons, row_unit
from mmn_jax.methods.folds import Fold
from mmn_jax.rng import stream
from mmn_jax.store import artifacts, metrics_log
from mmn_jax.store.banks import Banks, banks
from mmn_jax.store.run import Run
from mmn_jax.types import Examples

WINDOW_SHARE = 1 / 8  # of a device's memory, for the heads that training draws from


def hypers(settings: ConfigDict) -> list[training.Hyper]:
    """Every combination of the task weights, rates and decays that `meta` lists."""
    return [training.Hyper(*map(float, point)) for point in itertools.product(settings.task_weight, settings.rate, settings.decay)]


class Trained(NamedTuple):
    """The regressor, trained for every one of M candidates: their variables, the names of their last artefacts and, by stage, their
    records, [M] each. unit: what rows were divided by. held: [C] mask of the classes kept out of training. seconds: banks included."""

    regressor: Regressor
    candidates: list[training.Hyper]
    variables: list[Variables]
    names: list[str]
    records: list[dict[int, artifacts.Record]]
    unit: float
    context: Context
    held: np.ndarray
    seconds: float


class Stage(NamedTuple):
    """What stage i learns from: a training set, and the banks of its rungs, i and above, of the same features, with the names of all
    rungs' banks. unit: of the rows of all of them. window: how many heads of each the memory holds at once, None for all."""

    part: Fold
    banks: Banks
    unit: float
    window: int | None


def _stage(run, part, made, first):
    return Stage(part, made._replace(every=made.every[first:]), row_unit(made.every), _window(run, made.every))


def _window(run, all_banks):
    memory = run.config.meta.memory_mb << 20 or int(WINDOW_SHARE * device_memory())
    if sum(bank.subsets * bank.target.nbytes for bank in all_banks) <= memory:
        return None
    return max(1, memory // sum(bank.target.nbytes for bank in all_banks))


def stage_of(run: Run, part: Fold, made: Banks, others: Mapping[int, Fold], mesh: Mesh) -> Callable[[int], Stage]:
    """stage(i): of `part` and its banks; where `others` holds a training set for this k, in the features of that stage's backbone, of
    that one and its banks of k and above."""

    def stage(i):
        shots = made.every[i].shots
        if shots not in others:
            return _stage(run, part, made, i)
        run.terminal.say(f"  chain, stage {i}: has features of its own")
        return _stage(run, others[shots], banks(run, others[shots], mesh, shots), 0)

    return stage


class RegressorChoice(NamedTuple):
    """The regressor of a ladder, context(train), what it may look at, and what of the settings made it."""

    regressor: Regressor
    context: Callable[[Examples], Context]
    made_by: dict[str, Any]


def _rows_alone(train):
    return Context(None, jnp.zeros(int(train.y.max()) + 1, jnp.int32))


def _rows_and_model(train):
    return make_context(train)._replace(means=None)  # those of the k-shot heads are not kept


@functools.cache  # one regressor for all folds and seeds, so that programs compiled for it are shared
def _own_regressor(make, ladder):
    return make(ladder)


def choose(settings: ConfigDict, ladder: tuple[int, ...]) -> RegressorChoice:
    """The paper's chain, or the recipe's own regressor.

    Raises:
      BadInput: meta.regressor isn't a function that `config.given` can tell from others.
    """
    if settings.regressor is None:
        chain = residual_chain(ladder, settings.width, jnp.dtype(settings.precision))
        return RegressorChoice(chain, _rows_alone, {"width": settings.width, "precision": settings.precision})
    own = given(settings.regressor, "meta.regressor")
    return RegressorChoice(_own_regressor(settings.regressor, ladder), _rows_and_model, {"regressor": (own.name, own.text, own.values)})


class Shared(NamedTuple):
    """What all candidates of a stage begin with."""

    fresh: Variables
    lessons: Callable


def _shared(run, regressor, held, mesh, i, now):
    train, key = now.part.train, stream(run.seed, "held out")
    spec = RegressorSpec(train.x.shape[1] + 1, i)
    fresh = jax.jit(regressor.init, static_argnums=1)(stream(run.seed, "chain", i), spec)
    lessons = make_lessons(key, now.banks.every, train, np.bincount(train.y), held, now.unit, mesh, now.window)
    return Shared(fresh, lessons)


def _train_one(run, programs, i, context, shared, hyper, trained):
    """Stage i of one candidate, whose later stages gave the variables `trained`: the variables now, and the record."""
    (fresh, lessons), settings = shared(), run.config.meta
    variables, report = training.train_stage(
        programs,
        training.begin_stage(fresh, trained),
        hyper,
        stream(run.seed, "episodes", i),
        context,
        lessons,
        steps=settings.steps,
        every=settings.every,
        patience=settings.patience,
        track=lambda steps: run.terminal.track(steps, f"meta stage {i}, λ = {hyper.task_weight:g}"),
    )
    return jax.device_get(variables), {"best_step": report.best_step, "looks": [look._asdict() for look in report.looks]}


def train(run: Run, ladder: tuple[int, ...], stage: Callable[[int], Stage], mesh: Mesh) -> Trained:
    """The regressor of every candidate, trained back to front on what stage(i) gives; each saved after each stage."""
    settings, last, every = run.config.meta, stage(0), hypers(run.config.meta)
    counts = np.bincount(last.part.train.y)
    choice, held = choose(settings, ladder), held_out_classes(counts, settings.held_out)
    context = choice.context(last.part.train)
    if settings.regressor is not None:
        check(choice.regressor, RegressorSpec(last.part.train.x.shape[1] + 1, len(ladder) - 1), counts, context)
    programs = training.compile_programs(choice.regressor, settings.batch, mesh)
    used = choice.made_by | {name: settings[name] for name in ("held_out", "batch", "steps", "every", "patience")}
    nothing: list[Variables | None] = [None] * len(every)
    trained: list[Variables] = []
    records: list[dict[int, artifacts.Record]] = [{} for _ in every]
    names, seconds = [], last.banks.seconds
    for i in reversed(range(len(ladder))):
        now = stage(i) if i else last
        classes = now.banks.every[0].classes
        seen = int((~held[classes]).sum())
        run.terminal.say(f"  chain, stage {i}: trains on {seen} classes, {len(classes) - seen} held out")
        paths = [run.path(f"chain-{i}", now.banks.names, now.window, used, hyper) for hyper in every]
        its_own = context if now.part is last.part else choice.context(now.part.train)
        shared = functools.cache(partial(_shared, run, choice.regressor, held, mesh, i, now))
        make = partial(_train_one, run, programs, i, its_own, shared)
        work = zip(paths, every, trained or nothing, strict=True)
        saved = [artifacts.cached(path, partial(make, hyper, variables)) for path, hyper, variables in work]
        trained, names = [arrays for arrays, _ in saved], [path.name for path in paths]
        own = 0.0 if now.part is last.part else now.banks.seconds
        seconds += own + sum(record["seconds"] for _, record in saved)
        for hyper, record, (_, found) in zip(every, records, saved, strict=True):
            record[i] = found
            metrics_log.log_stage(run.terminal.log, run.seed, last.part.name, hyper._asdict(), i, found["looks"])
    return Trained(choice.regressor, every, trained, names, records, last.unit, context, held, seconds)
