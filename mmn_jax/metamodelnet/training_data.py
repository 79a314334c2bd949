"""What a stage of the chain learns from: banks of k-shot heads → Lessons, arrays on the devices.

Some classes are held out of it: every (1 / share)-th in the order of counts, judged by examples and heads of their own.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mmn_jax.data.longtail import class_pool
from mmn_jax.devices import replicated
from mmn_jax.linear.problem import padded
from mmn_jax.rng import permutation
from mmn_jax.types import Bank, Examples, MixedBank

JUDGING_HEADS, JUDGING_EXAMPLES = 8, 512  # of a bank, for its held-out classes


class Rung(NamedTuple):
    """What one k brings to training; classes that train come first, those held out last, each by falling counts.

    shots: [C_k] all k. theta: [S, seen, d+1] heads to draw from. target: [C_k, d+1]. examples: how many of the shared examples
    are of its classes. held_theta: [heads, C_k, d+1], held_x, held_y: what held-out classes are judged by. Labels are positions among
    the C_k classes.
    """

    shots: jax.Array
    theta: jax.Array
    target: jax.Array
    examples: jax.Array
    held_theta: jax.Array
    held_x: jax.Array
    held_y: jax.Array


class Lessons(NamedTuple):
    """What a stage trains on: its rungs, rows divided by `unit`, and the examples x [n, d], y [n] of the classes that train.
    These lie by falling counts of their classes, so that those of every rung come first, then padding, so that seeds share programs."""

    unit: jax.Array
    x: jax.Array
    y: jax.Array
    rungs: tuple[Rung, ...]


def held_out_classes(counts: np.ndarray, share: float) -> np.ndarray:
    """[C] mask of the classes held out of training: every (1 / share)-th in the order of counts, so that each H_t
    has its share, beginning early enough for an H_t of 3 classes to hold one out and keep two."""
    order = np.argsort(-counts, kind="stable")
    period = max(round(1 / share), 2)
    mask = np.zeros(len(counts), bool)
    mask[order[min(period // 2, 2) :: period]] = True
    return mask


def row_unit(banks: Iterable[Bank | MixedBank]) -> float:
    """The root mean square entry of all θ*: rows are regressed in this unit."""
    return float(np.sqrt(np.mean([np.mean(np.square(bank.target)) for bank in banks])))


def make_lessons(
    key: jax.Array,
    banks: Sequence[Bank],
    train: Examples,
    counts: np.ndarray,
    held: np.ndarray,
    unit: float,
    mesh: Mesh,
    window: int | None = None,
) -> Callable[[int], Lessons]:
    """What a stage learns from the banks of its rungs, on every device: window number → Lessons with the next `window` heads of
    every bank, all of one shape. Without a window they are the same all along, with all heads. counts: [C] training examples; held: [C]
    mask of the classes held out of training; unit: what rows are divided by (`row_unit`)."""
    order = np.lexsort((-counts, held))
    pool = class_pool(train, order[~held[order] & np.isin(order, banks[0].classes)])
    spare = padded(len(pool.y)) - len(pool.y)
    rungs = tuple(_rung(jax.random.fold_in(key, bank.shots), bank, train, order, held, unit) for bank in banks)
    x, y = np.pad(pool.x, ((0, spare), (0, 0))), np.pad(pool.y, (0, spare))
    shared = Lessons(*replicated(mesh, (np.float32(unit), x, y, rungs)))

    def theta(bank, number):
        size = bank.subsets if window is None else min(window, bank.subsets)
        begin = number * size % bank.subsets
        after = bank.heads(0, max(0, begin + size - bank.subsets))  # past the last one comes the first
        place = _places(bank, order)
        rows = np.concatenate([bank.heads(begin, min(begin + size, bank.subsets)), after])
        return rows[:, place[~held[bank.classes[place]]]] / np.float32(unit)

    def lessons(number):
        thetas = replicated(mesh, [theta(bank, number) for bank in banks])
        return shared._replace(rungs=tuple(rung._replace(theta=rows) for rung, rows in zip(shared.rungs, thetas, strict=True)))

    if window is not None:
        return lessons
    every = lessons(0)
    return lambda number: every


def _places(bank, order):
    """Where the bank has its classes, in the order of all classes."""
    place = np.full(len(order), -1)
    place[bank.classes] = np.arange(len(bank.classes))
    return place[order][place[order] >= 0]


def _rung(key, bank, train, order, held, unit):
    """The Rung of a bank without its heads."""
    place = _places(bank, order)
    classes = bank.classes[place]
    seen = int((~held[classes]).sum())
    outside = class_pool(train, classes[seen:])
    chosen = np.resize(permutation(key, len(outside.y)), JUDGING_EXAMPLES)  # cycles where there are fewer
    judging = bank.heads(0, min(JUDGING_HEADS, bank.subsets))[:, place] / np.float32(unit)
    return Rung(
        np.full(len(classes), bank.shots, np.int32),
        judging[:, :seen],
        np.asarray(bank.target)[place] / np.float32(unit),
        np.int32(np.isin(train.y, classes[:seen]).sum()),
        judging[np.arange(JUDGING_HEADS) % len(judging)],
        outside.x[chosen],
        outside.y[chosen] + np.int32(seen),
    )


def draw_episode(key: jax.Array, rungs: tuple[Rung, ...], batch: int) -> tuple[jax.Array, jax.Array]:
    """The subset [rungs] and the query examples [rungs, batch] of one step."""
    subset, query = jax.random.split(key)
    subsets = jnp.array([len(rung.theta) for rung in rungs])
    pools = jnp.stack([rung.examples for rung in rungs])
    return jax.random.randint(subset, subsets.shape, 0, subsets), jax.random.randint(query, (len(rungs), batch), 0, pools[:, None])
