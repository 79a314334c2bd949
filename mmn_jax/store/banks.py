"""The banks of a run: their cost is forecast, they are made piece by piece, and read back from the disk.

The artefact of a bank is a folder that holds its `target` and its heads in pieces `heads-FIRST-STOP`. A run that was stopped continues
after the last piece, and a bank needn't fit into memory to be trained on.
"""

import functools
import re
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key
from ml_collections import ConfigDict

from mmn_jax.devices import batch_memory, device_memory, first_process, out_of_memory, together
from mmn_jax.errors import BadInput, Say
from mmn_jax.linear.problem import padded
from mmn_jax.linear.solve import BFGS, HeadInfo, head_flops
from mmn_jax.metamodelnet import kshot_bank
from mmn_jax.metamodelnet.kshot_bank import BankPlan, Pool
from mmn_jax.methods.folds import Fold
from mmn_jax.methods.metamodelnet import BankOptions, ladder_of
from mmn_jax.rng import stream
from mmn_jax.store import artifacts
from mmn_jax.store.run import Run, warn_unless_solved
from mmn_jax.types import Bank

PIECE = 2**27  # bytes of rows that are saved at once
FIRST_PRODUCTS = 100  # Hessian products that θ* of the first bank takes at the paper's scale
LATER_PRODUCTS = 10  # likewise θ* of the others, which start from the previous one


def shots_used(config: ConfigDict, counts: Int[np.ndarray, " C"]) -> tuple[int, ...]:
    """Returns the shot counts k of a run's banks; none where too few classes have enough examples."""
    return ladder_of(counts, bank_options(config))


def bank_options(config: ConfigDict) -> BankOptions:
    """Returns the settings of banks from the config of a run."""
    kshot, fixed = config.kshot, config.meta.fixed_shots if config.meta.split == "fixed" else None
    memory, target_tol = kshot.memory_mb << 20 or None, config.heads.tol
    return BankOptions(kshot.top, kshot.min_classes, fixed, tuple(kshot.subsets), kshot.l2, kshot.tol, target_tol, memory)


def _none(first: int, stop: int) -> Float[np.ndarray, "s H p"]:
    raise ValueError(f"heads {first} to {stop} are not made yet")


class BankJob(NamedTuple):
    """A bank to be made.

    path: of its artefact. key: of its draws. classes: its class set. pool(): makes the Pool that it is drawn from, whose `shape` this is.
    """

    plan: BankPlan
    path: Path
    key: Key[Array, ""]
    classes: Int[np.ndarray, " H"]
    shape: tuple[int, int, int]
    pool: Callable[[], Pool]

    def piece_bytes(self, heads: int) -> int:
        """Returns the bytes that the rows of so many heads take."""
        _, dim, classes = self.shape
        return 4 * heads * classes * (dim + 1)

    def head_bytes(self) -> int:
        """Estimates the bytes of working memory of one head."""
        examples, dim, classes = self.shape
        return kshot_bank.head_bytes(self.plan.shots * classes, dim, classes, examples)

    def size(self, mesh: Mesh) -> int:
        """Returns how many heads are solved at once on all devices."""
        return kshot_bank.chunk_size(self.shape, self.plan, mesh.size)

    def empty(self) -> Bank:
        """Returns a Bank of the shape that is to be made, with no heads in it."""
        return Bank(self.plan.shots, self.classes, self.plan.subsets, _none, np.zeros((len(self.classes), self.shape[1] + 1), np.float32))

    def with_batches_of(self, heads: int) -> "BankJob":
        """Returns the same job, with at most so many heads solved at once on a device."""
        return self._replace(plan=self.plan._replace(memory=heads * self.head_bytes()))


def _job(run: Run, part: Fold, shots: int, mesh: Mesh) -> BankJob:
    options, counts = bank_options(run.config), np.bincount(part.train.y)
    subsets, memory = kshot_bank.subsets_at(shots, options.subsets), options.memory or batch_memory()
    plan = BankPlan(shots, subsets, options.l2 * len(part.train.y), options.tol, options.target_tol, memory)
    path = run.path(f"bank-{shots}", part.name, plan._replace(memory=0))
    classes = kshot_bank.shot_classes(counts, shots)
    shape = (padded(counts[classes].sum()), part.train.x.shape[1], len(classes))
    pool = partial(kshot_bank.bank_pool, part.train, counts, shots, mesh)
    return BankJob(plan, path, stream(run.seed, "kshot", shots), classes, shape, pool)


def jobs_of(run: Run, part: Fold, mesh: Mesh, least: int = 1) -> list[BankJob]:
    """Returns the banks of a training set that are to be made, with k from `least` on."""
    return [_job(run, part, shots, mesh) for shots in shots_used(run.config, np.bincount(part.train.y)) if shots >= least]


def missing_heads(job: BankJob) -> int:
    """Returns how many heads of a bank are not on the disk."""
    return job.plan.subsets - _missing(job)


def _pieces(path: Path) -> list[tuple[int, int, Path]]:
    """Returns (first, stop, path) of the pieces on the disk, from head 0 up to the first gap."""
    names = [re.fullmatch(r"heads-(\d+)-(\d+)", each.name) for each in path.glob("heads-*")]
    found, end = [], 0
    for first, stop in sorted((int(name[1]), int(name[2])) for name in names if name):
        if first == end:
            found.append((first, stop, path / f"heads-{first}-{stop}"))
            end = stop
    return found


def _discard_damaged(path: Path) -> None:
    """Removes damaged pieces, and all pieces after a gap: heads are made from the first missing one on."""
    for *_, piece in _pieces(path):
        artifacts.kept(piece)
    if first_process():
        for stray in set(path.glob("heads-*")) - {piece for *_, piece in _pieces(path)}:
            shutil.rmtree(stray, ignore_errors=True)
    together()  # the others wait until they are gone


def _missing(job: BankJob) -> int:
    """Returns the number of the first head that isn't on the disk."""
    return max((stop for _, stop, _ in _pieces(job.path)), default=0)


class Begun(NamedTuple):
    """The first batches of a bank, which were solved for the forecast.

    plan: that they follow. seconds: of all of them. last: seconds of the last one, which includes no compilation.
    """

    plan: BankPlan
    batches: list[tuple[Float[np.ndarray, "s H p"], HeadInfo]]
    seconds: float
    last: float


class Forecast(NamedTuple):
    """The cost of making banks.

    heads: to solve. disk: bytes on the disk. memory: bytes in use at once on a device. begun: by k, the batches that were solved for it.
    """

    heads: int
    seconds: float
    disk: int
    memory: int
    begun: dict[int, Begun]


def _begin(job: BankJob, mesh: Mesh) -> Begun:
    """Solves the first two batches that are missing; if only one is, it is solved twice to be timed."""
    first, size, pool, batches, clock = _missing(job), job.size(mesh), job.pool(), [], [time.perf_counter()]
    second = first + size if first + size < job.plan.subsets else first
    for begin in (first, second):
        batches.append(kshot_bank.fit_heads(job.key, begin, pool, job.plan, mesh))
        clock.append(time.perf_counter())
    return Begun(job.plan, batches if second > first else batches[:1], clock[-1] - clock[0], clock[-1] - clock[-2])


def _begin_within_memory(job: BankJob, mesh: Mesh, say: Say) -> Begun:
    """Calls `_begin`, and again with batches of half the size if a batch doesn't fit into a device's memory after all."""
    size = job.size(mesh)
    try:
        return _begin(job, mesh)
    except jax.errors.JaxRuntimeError as error:
        if not out_of_memory(error) or size == mesh.size or jax.process_count() > 1:  # other processes would go on with larger ones
            raise
    smaller = job.with_batches_of(size // mesh.size // 2)
    say(f"  k = {job.plan.shots}: {size} heads at once don't fit into memory, going on with {smaller.size(mesh)}")
    return _begin(smaller, mesh)


def forecast(jobs: list[BankJob], mesh: Mesh, say: Say) -> Forecast:
    """Forecasts the cost of banks from their first batches, which it solves.

    Args:
      jobs: the banks; those that are complete on the disk cost nothing.
      mesh: the devices.
      say: reports batches that had to be made smaller.

    Raises:
      BadInput: one head, or the heads solved at once, don't fit into a device's memory.
    """
    heads, seconds, disk, memory, begun = 0, 0.0, 0, 0, {}
    for job in jobs:
        plan = job.plan
        left = missing_heads(job)
        if not left:
            continue
        examples, dim, classes = job.shape
        pool = 4 * 4 * examples * dim  # θ* works on copies of it
        _check_memory(plan, job.head_bytes() + pool, job.head_bytes() * job.size(mesh) // mesh.size + pool)
        begun[plan.shots] = now = _begin_within_memory(job, mesh, say)
        size = job._replace(plan=now.plan).size(mesh)
        memory = max(memory, job.head_bytes() * size // mesh.size + pool)
        _, info = now.batches[-1]
        speed = head_flops(plan.shots * classes, dim, classes, info.steps, info.products, BFGS).mean() * size / now.last
        target = head_flops(examples, dim, classes, 1, FIRST_PRODUCTS if job is jobs[0] else LATER_PRODUCTS)
        heads, seconds, disk = heads + left, seconds + now.last * left / size + target / speed, disk + job.piece_bytes(left)
    return Forecast(heads, seconds, disk, memory, begun)


def _check_memory(plan: BankPlan, one: int, batch: int) -> None:
    """Raises BadInput if one head, or the heads solved at once, take more bytes than a device has."""
    have = device_memory()
    if one > have:
        takes = f"a head of k = {plan.shots} takes {one / 1e9:.1f} GB of memory, there are {have / 1e9:.1f}"
        if plan.shots == 1:
            raise BadInput(f"--config.data.longtail.max_per_class: {takes}; lower it")
        raise BadInput(f"--config.kshot.top: {takes}; lower it below {plan.shots.bit_length() - 1}, or data.longtail.max_per_class")
    if batch > have:
        takes = f"heads of k = {plan.shots} take {batch / 1e9:.1f} GB of memory, there are {have / 1e9:.1f}"
        raise BadInput(f"--config.kshot.memory_mb: {takes}; lower it below {plan.memory >> 20}, so that fewer are solved at once")


def check_disk(expected: Forecast, workdir: Path) -> None:
    """Checks that banks of this forecast fit on the disk.

    Raises:
      BadInput: they don't.
    """
    free = shutil.disk_usage(workdir).free
    if expected.disk > free:
        takes = f"the banks take {expected.disk / 1e9:.1f} GB, --workdir={workdir} has {free / 1e9:.1f} left"
        raise BadInput(f"--config.kshot.subsets: {takes}; lower it, or give another workdir")


def _make(
    run: Run, job: BankJob, mesh: Mesh, begun: Begun, before: Bank | None, plain: Callable[[], Float[np.ndarray, "C p"]] | None
) -> tuple[dict[str, Float[np.ndarray, "H p"]], artifacts.Record]:
    """Solves and saves the heads of a bank that are missing, after those that the forecast solved, and returns its θ* and the record of
    that.

    θ* starts from that of the previous bank, which has more classes and differs little, or else from the plain head.
    """
    job = job._replace(plan=begun.plan)
    plan, pool, solved = job.plan, functools.cache(job.pool), iter(begun.batches)  # the pool is made if something is missing
    size, held, began = job.size(mesh), [], time.perf_counter() - begun.seconds
    first = _missing(job)
    for begin in run.terminal.track(range(first, plan.subsets, size), f"kshot k={plan.shots}"):
        held.append(next(solved, None) or kshot_bank.fit_heads(job.key, begin, pool(), plan, mesh))
        stop = min(begin + size, plan.subsets)
        if job.piece_bytes(stop - first) >= PIECE or stop == plan.subsets:
            theta, info = jax.tree.map(lambda *parts: np.concatenate(parts), *held)
            record = {"gradient_norm": float(info.gradient_norm.max()), "steps": float(info.steps.mean())}
            record |= {"seconds": round(time.perf_counter() - began, 2)}
            artifacts.save(job.path / f"heads-{first}-{stop}", {"theta": theta}, record)
            first, held, began = stop, [], time.perf_counter()

    def target():
        start = kshot_bank.starting_target(before, plain() if plain and before is None else None, job.classes)
        theta, info = kshot_bank.fit_target(pool(), plan, start)
        return {"theta": theta}, {"gradient_norm": float(info.gradient_norm)}

    return artifacts.cached(job.path / "target", target)


def read_bank(job: BankJob, target: Float[np.ndarray, "H p"]) -> Bank:
    """Returns the Bank whose heads are read from the disk on use; the piece read last is kept in memory."""
    pieces = _pieces(job.path)

    @functools.lru_cache(maxsize=1)
    def piece(path):
        return artifacts.restore(path)[0]["theta"]

    def heads(first, stop):
        parts = [piece(path)[max(first - begin, 0) : stop - begin] for begin, end, path in pieces if begin < stop and first < end]
        return np.concatenate([np.zeros((0, *target.shape), target.dtype), *parts])

    return Bank(job.plan.shots, job.classes, job.plan.subsets, heads, target)


class Banks(NamedTuple):
    """The bank of every k of the ladder.

    every: the banks, in the order of k. again(): returns them anew, with nothing read yet, to be kept: a bank in use holds a piece in
    memory. names: of their artefacts. seconds: that they took.
    """

    every: list[Bank]
    again: Callable[[], list[Bank]]
    names: list[str]
    seconds: float


def banks(run: Run, part: Fold, mesh: Mesh, least: int = 1, plain: Callable[[], Float[np.ndarray, "C p"]] | None = None) -> Banks:
    """Returns the banks of a training set, after making those that are missing.

    Args:
      run: the run.
      part: the training set.
      mesh: the devices.
      least: the smallest k; the others are those of the ladder.
      plain: makes the rows of the plain head under the banks' ridge, from which the first θ* starts; None: from zeros.

    Raises:
      BadInput: the banks don't fit into memory or onto the disk.
    """
    say = run.terminal.say
    jobs = jobs_of(run, part, mesh, least)
    for job in jobs:
        _discard_damaged(job.path)
    expected = forecast(jobs, mesh, say)
    if expected.heads:
        sizes = f"{expected.disk / 1e6:.0f} MB on disk and {expected.memory / 1e6:.0f} MB of memory"
        say(f"  {expected.heads} heads to solve on {mesh.size} device(s): about {expected.seconds:.0f} s, {sizes}")
        check_disk(expected, run.workdir)
    made: list[Bank] = []
    seconds = 0.0
    for job in jobs:
        plan = job.plan
        say(f"  k = {plan.shots}: {plan.subsets} heads of the {len(job.classes)} classes with {2 * plan.shots} examples or more")
        begun = expected.begun.get(plan.shots, Begun(plan, [], 0.0, 0.0))
        target, record = _make(run, job, mesh, begun, made[-1] if made else None, plain)
        records = [artifacts.restore_record(path) for *_, path in _pieces(job.path)]
        warn_unless_solved(run, f"a head of k = {plan.shots}", max(one["gradient_norm"] for one in records), plan.tol, "kshot.tol")
        warn_unless_solved(run, f"θ* of k = {plan.shots}", record["gradient_norm"], plan.target_tol, "heads.tol")
        seconds += record["seconds"] + sum(one["seconds"] for one in records)
        made.append(read_bank(job, target["theta"]))
    targets = [bank.target for bank in made]
    return Banks(made, lambda: list(map(read_bank, jobs, targets)), [job.path.name for job in jobs], seconds)
