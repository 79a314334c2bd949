"""Forecasts what the stages of a seed will take, before they start, from the shapes of its problems and this machine's speed now.

The unit is the plain head of the training set under a ridge on the way to the best one, which is solved to be timed, and is kept for the
methods that need it. How many such heads a method costs is known from measurements (`HEADS`); what costs no heads is counted in
operations, at the speed of a measured matrix product, and programs to compile in the time that the first one took.
"""

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mmn_jax.defaults import BUDGET, RIDGES
from mmn_jax.devices import all_devices
from mmn_jax.linear import weighting
from mmn_jax.linear.algebra import mm
from mmn_jax.linear.solve import BFGS, head_flops
from mmn_jax.methods.choosing import Setup
from mmn_jax.methods.contract import Method
from mmn_jax.methods.folds import Tasks
from mmn_jax.methods.mmn import row_members
from mmn_jax.methods.tasks import Task, unscaled
from mmn_jax.pipeline.fitting import artefact
from mmn_jax.pipeline.metamodelnet import chain_is_kept, lacks_classes, regressor_options
from mmn_jax.store.banks import BankJob, jobs_of, missing_heads
from mmn_jax.store.run import Data, Run

# What a method costs with the default grid and budget, in plain heads of its training set: geometric means of what it took on two sets of
# sentences (46 and 150 classes, 384 dimensions), in processor time.
HEADS = {
    "plain": 11,
    "over_sampling": 10,
    "under_sampling": 5,
    "cost_sensitive": 10,
    "mmn": 49,
    "logit_adjustment": 5,
    "logit_adjusted_loss": 31,
    "balanced_softmax": 6,
    "effective_number": 23,
    "square_root_sampling": 12,
    "tau_norm": 2,
    "max_norm": 5,
    "lws": 17,
    "crt": 13,
    "ncm": 2,
    "ridge": 15,
    "lda": 11,
    "knn": 11,
}
OWN = {"mmn_names": 12, "mmn_unlabelled": 60, "mmn_all": 85}  # heads that methods of the mmn family cost beside the members that they share
GRIDLESS = 0.2  # of the time of such a method, which a smaller grid doesn't shorten: rows without a ridge, and mixtures
SCORED = 2.0  # examples that mmn_rows scores while it is tuned, for each training example
EIGH = 25  # operations of an eigendecomposition with side d, in units of d³
EM_PRODUCTS, EM_SPEED = 320, 0.1  # products of unlabelled examples with rows on a fold, and their speed relative to one large product
OTHERS = {"rival": 12, "rival_informed": 12, "paper": 12}  # methods that nobody measured, by kind
TARGETS = 3, 4  # plain heads that θ* of the first bank costs, and that of each other bank
BANK_STEPS, BANK_SPEED = 16, 0.3  # solver steps of a k-shot head; speed of batches of them relative to one large product
PRODUCT = 2**24  # logits of the matrix product that is timed, at most
LARGE = 30.0  # seconds from which a head isn't solved for the forecast
NEWTON_STEPS, NEWTON_PRODUCTS = 6, 15  # of such a head
CHAIN_STEPS = 40  # of a level, which ends early as a rule
PROGRAMS = {"heads": 1, "kshot": 6, "meta": 6, "ours": 6, "rivals": 2}  # to compile, in units of the first head's


class Speed(NamedTuple):
    """This machine at this moment: floating-point operations per second of a product, and seconds of a plain head and of compiling one."""

    product: float
    head: float
    compiling: float


class Part(NamedTuple):
    """What one stage will take: its name, seconds, and what it makes."""

    stage: str
    seconds: float
    what: str


def _clock(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(task: Task) -> Speed:
    """Times a matrix product and the first plain heads of a task, which it keeps; the time of large heads follows from the product's."""
    (examples, dim), classes = task.train.x.shape, len(task.counts)
    x, weights = jnp.asarray(task.train.x[: max(1, PRODUCT // classes)]), jnp.zeros((dim, classes))
    mm(x, weights).block_until_ready()  # compiles
    times = [_clock(lambda: mm(x, weights).block_until_ready()) for _ in range(5)]
    product = 2.0 * x.size * classes / float(np.median(times))
    expected = float(head_flops(examples, dim, classes, NEWTON_STEPS, NEWTON_PRODUCTS)) / product
    if expected > LARGE:
        return Speed(product, expected, 0.0)
    first, *others = [_clock(partial(task.head, weighting.plain, l2, unscaled)) for l2 in (1e-2, 1e-3, 1e-4)]
    return Speed(product, float(np.mean(others)), max(first - others[0], 0.0))


class Search(NamedTuple):
    """What a search takes time by: a task of one fold, the number of folds and of ridges, and the budget of settings."""

    task: Task
    folds: int
    ridges: int
    budget: int


def _rows_seconds(task: Task, speed: Speed) -> float:
    """Estimates the seconds of `mmn_rows` on a fold, which solves no head: its class models, and its scores of validation examples."""
    examples, dim = task.train.x.shape
    models = 2.0 * examples * dim**2 + len(row_members()) * EIGH * dim**3
    return (models / BANK_SPEED + 2.0 * SCORED * examples * dim * len(task.counts)) / speed.product


def _methods_seconds(methods: Mapping[str, Method], search: Search, speed: Speed) -> float:
    """Estimates the seconds of methods, one after the other: the search of each on every fold, for as many settings as there are."""
    tuned = min(1.0, search.budget / BUDGET) * min(1.0, search.ridges / len(RIDGES))
    members = GRIDLESS + (1 - GRIDLESS) * min(1.0, math.ceil(search.ridges / 2) / math.ceil(len(RIDGES) / 2))  # every other ridge
    seconds, family = 0.0, False
    for name, method in methods.items():
        if name == "mmn_rows":
            seconds += _rows_seconds(search.task, speed)
            continue
        ours = method.kind == "ours"
        shared = 0.0 if family else members * HEADS["mmn"]
        seconds += speed.head * (shared + OWN.get(name, 0) if ours else HEADS.get(name, OTHERS[method.kind]) * max(tuned, 1 / BUDGET))
        if ours and "unlabelled" in method.needs and search.task.knowledge.unlabelled is not None:
            seconds += EM_PRODUCTS * 2.0 * search.task.knowledge.unlabelled.size * len(search.task.counts) / (EM_SPEED * speed.product)
        family |= ours
    return seconds * search.folds


def _bank_seconds(jobs: list[BankJob], speed: Speed) -> float:
    """Estimates the seconds of the heads that are missing in banks, and of their θ*."""
    seconds = 0.0
    for number, job in enumerate(job for job in jobs if missing_heads(job)):
        _, dim, classes = job.shape
        one = float(head_flops(job.plan.shots * classes, dim, classes, BANK_STEPS, 0, BFGS))
        seconds += missing_heads(job) * one / (BANK_SPEED * speed.product) + TARGETS[min(number, 1)] * speed.head
    return seconds


def _chain_seconds(run: Run, jobs: list[BankJob], speed: Speed) -> float:
    """Estimates the seconds of training the regressor on the banks of a training set: forwards and backwards through the blocks, and the
    task loss of a batch, for every bank in every step."""
    options = regressor_options(run.config)
    step = sum(6.0 * job.shape[2] * job.shape[1] * (4 * options.width * len(jobs) + options.schedule.batch) for job in jobs)
    steps = min(CHAIN_STEPS, options.schedule.steps) * len(jobs) * len(options.hypers)
    return steps * (step / (BANK_SPEED * speed.product) + 5e-3)


def of_method(name: str, method: Method, setup: Setup) -> Part:
    """Forecasts one method under the default grid and budget.

    Args:
      name: of the method, any but metamodelnet, most of whose time banks take.
      method: what is fitted.
      setup: what it is chosen on and fitted to, whose first plain heads are solved, and kept.
    """
    task = setup.tasks((*setup.folds, setup.whole)[0].name)[0]
    speed = measure(task)
    seconds = _methods_seconds({name: method}, Search(task, max(1, len(setup.folds)), len(RIDGES), BUDGET), speed)
    return Part("fit", seconds + PROGRAMS["ours" if method.kind == "ours" else "rivals"] * speed.compiling, name)


def plan(run: Run, data: Data, tasks: Tasks, chosen: Mapping[str, Method], last: str) -> list[Part]:
    """Forecasts the stages of a seed; what is kept from a run before costs nothing and is left out.

    Args:
      run: the run.
      data: its data.
      tasks: of the training sets (`tasks_of`).
      chosen: the methods to fit.
      last: the last stage.
    """
    stages = {"heads": ("paper",), "ours": ("ours",), "rivals": ("rival", "rival_informed")}
    new = {name: one for name, one in chosen.items() if name != "metamodelnet" and not artefact(run, data, name, one).exists()}
    learns = ("metamodelnet" in chosen or last == "kshot") and not lacks_classes(run, data)
    parts = list({part.name: part for part in (*data.folds, data.whole)}.values()) if learns else []
    jobs = [jobs_of(run, part, all_devices()) for part in parts]
    missing = sum(missing_heads(job) for part in jobs for job in part)
    untrained = [one for one in jobs if last != "kshot" and not chain_is_kept(run, one)]
    if not new and not missing and not untrained:
        return []
    search = Search(tasks(data.folds[0].name)[0], len(data.folds), len(run.config.heads.l2), run.config.tuning.budget)
    speed, found = measure(search.task), {}
    for stage, kinds in stages.items():
        methods = {name: method for name, method in new.items() if method.kind in kinds}
        if methods:
            found[stage] = Part(stage, _methods_seconds(methods, search, speed), ", ".join(methods))
    if missing:
        found["kshot"] = Part("kshot", sum(_bank_seconds(part, speed) for part in jobs), f"{missing} heads of {len(jobs)} training set(s)")
    if untrained:
        found["meta"] = Part("meta", sum(_chain_seconds(run, one, speed) for one in untrained), "metamodelnet")
    return [found[stage]._replace(seconds=found[stage].seconds + PROGRAMS[stage] * speed.compiling) for stage in PROGRAMS if stage in found]


def describe(parts: list[Part], seeds: int) -> list[str]:
    """Returns the forecast as lines to print: the whole, then each stage."""
    if not parts:
        return ["  everything is kept from before; nothing is fitted"]
    whole = sum(part.seconds for part in parts)
    also = f" for this seed, {_rounded(seeds * whole)} for {seeds} seeds" if seeds > 1 else ""
    lines = [f"  forecast from this machine's speed now: about {_rounded(whole)}{also}"]
    return lines + [f"    {part.stage:8} {_rounded(part.seconds):>7}  {part.what}" for part in parts]


def _rounded(seconds: float) -> str:
    """Formats seconds with the precision that a forecast has."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
