"""What the regressor learns from: the banks of k-shot heads as arrays on the devices.

Some classes are held out: every (1 / share)-th in the order of counts. They are evaluated with examples and heads of their own and
decide when the training of a level stops.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from mmn_jax.data.longtail import class_pool
from mmn_jax.devices import device_memory, replicated
from mmn_jax.linear.problem import padded
from mmn_jax.rng import permutation
from mmn_jax.types import Bank, Examples, MixedBank

EVALUATED_HEADS, EVALUATED_EXAMPLES = 8, 512  # of a bank, for its held-out classes
WINDOW_SHARE = 1 / 8  # of a device's memory, for the heads that training draws from


class BankData(NamedTuple):
    """One bank as arrays; classes that train come first, held-out ones last, each part by falling counts.

    shots: [C_k], all k. theta: [S, seen, p] heads to draw from, of the classes that train. target: [C_k, p]. examples: how many of the
    shared examples belong to its classes. held_theta: [heads, C_k, p], held_x: [m, d], held_y: [m]: what held-out classes are evaluated
    with. Labels are positions among the C_k classes.
    """

    shots: Int[Array, " C"]
    theta: Float[Array, "S seen p"]
    target: Float[Array, "C p"]
    examples: Int[Array, ""]
    held_theta: Float[Array, "heads C p"]
    held_x: Float[Array, "m d"]
    held_y: Int[Array, " m"]


class TrainingData(NamedTuple):
    """What one level learns from: the banks of this level and above, their rows divided by `unit`, and examples of the classes that train.

    Examples x [n, d], y [n] are sorted by falling counts of their classes, so that those of every bank come first; padding is last.
    """

    unit: Float[Array, ""]
    x: Float[Array, "n d"]
    y: Int[Array, " n"]
    banks: tuple[BankData, ...]


def held_out_classes(counts: Int[np.ndarray, " C"], share: float) -> Bool[np.ndarray, " C"]:
    """Chooses the classes that are held out of training: every (1 / share)-th in the order of counts.

    So each H_t has its share, and the first comes early enough for an H_t of 3 classes to hold one out and keep two.
    """
    order = np.argsort(-counts, kind="stable")
    period = max(round(1 / share), 2)
    mask = np.zeros(len(counts), bool)
    mask[order[min(period // 2, 2) :: period]] = True
    return mask


def row_unit(banks: Iterable[Bank | MixedBank]) -> np.float32:
    """Returns the root mean square entry of all θ*, the unit in which rows are regressed."""
    return np.float32(np.sqrt(np.mean([np.mean(np.square(bank.target)) for bank in banks])))


def window_size(banks: Sequence[Bank], memory: int | None = None) -> int | None:
    """Returns how many heads of each bank fit into `memory` bytes at once, None where all do; by default an eighth of a device's memory."""
    memory = memory or int(WINDOW_SHARE * device_memory())
    if sum(bank.subsets * bank.target.nbytes for bank in banks) <= memory:
        return None
    return max(1, memory // sum(bank.target.nbytes for bank in banks))


def training_data(
    key: PRNGKeyArray,
    banks: Sequence[Bank],
    train: Examples,
    held: Bool[np.ndarray, " C"],
    mesh: Mesh,
    window: int | None = None,
) -> Callable[[int, int], TrainingData]:
    """Puts the banks on the devices, as data for every level.

    Args:
      key: draws the examples that held-out classes are evaluated with.
      banks: of every k from 1 or more on, in that order; each has the classes of the next one, and more.
      train: normalised examples that the banks were fitted to.
      held: the classes held out of training.
      mesh: the devices.
      window: heads of each bank in memory at once, None for all of them.

    Returns:
      data(level, number): what a level learns from in its window `number`. Level i has the banks from i on. All windows of a level have
      one shape; after the last heads of a bank come its first.
    """
    counts = np.bincount(train.y, minlength=len(held))
    order = np.lexsort((-counts, held))
    pool = class_pool(train, order[~held[order] & np.isin(order, banks[0].classes)])
    spare, unit = padded(len(pool.y)) - len(pool.y), row_unit(banks)
    places = [_places(bank, order) for bank in banks]
    parts = tuple(
        _bank_data(jax.random.fold_in(key, bank.shots), bank, place, train, held, unit) for bank, place in zip(banks, places, strict=True)
    )
    x, y = np.pad(pool.x, ((0, spare), (0, 0))), np.pad(pool.y, (0, spare))
    shared = TrainingData(*replicated(mesh, (unit, x, y, parts)))
    seen = [place[~held[bank.classes[place]]] for bank, place in zip(banks, places, strict=True)]

    def with_heads(level, number):
        heads = [_window(bank, number, window)[:, own] / unit for bank, own in zip(banks[level:], seen[level:], strict=True)]
        filled = zip(shared.banks[level:], replicated(mesh, heads), strict=True)
        return shared._replace(banks=tuple(part._replace(theta=theta) for part, theta in filled))

    if window is not None:
        return with_heads
    every = with_heads(0, 0)
    return lambda level, number: every._replace(banks=every.banks[level:])


def _window(bank, number, window):
    """[size, C_k, p] the heads of window `number`."""
    size = bank.subsets if window is None else min(window, bank.subsets)
    begin = number * size % bank.subsets
    after = bank.heads(0, max(0, begin + size - bank.subsets))  # past the last one comes the first
    return np.concatenate([bank.heads(begin, min(begin + size, bank.subsets)), after])


def _places(bank, order):
    """Where the bank has its classes, in the order of all classes."""
    place = np.full(len(order), -1)
    place[bank.classes] = np.arange(len(bank.classes))
    return place[order][place[order] >= 0]


def _bank_data(key, bank, place, train, held, unit):
    """The BankData of a bank, with no more heads to draw from than those that held-out classes are evaluated with."""
    classes = bank.classes[place]
    seen = int((~held[classes]).sum())
    outside = class_pool(train, classes[seen:])
    chosen = np.resize(permutation(key, len(outside.y)), EVALUATED_EXAMPLES)  # cycles where there are fewer
    evaluated = bank.heads(0, min(EVALUATED_HEADS, bank.subsets))[:, place] / unit
    return BankData(
        np.full(len(classes), bank.shots, np.int32),
        evaluated[:, :seen],
        np.asarray(bank.target)[place] / unit,
        np.int32(np.isin(train.y, classes[:seen]).sum()),
        evaluated[np.arange(EVALUATED_HEADS) % len(evaluated)],
        outside.x[chosen],
        outside.y[chosen] + np.int32(seen),
    )


def draw_episode(key: PRNGKeyArray, banks: tuple[BankData, ...], batch: int) -> tuple[Int[Array, " banks"], Int[Array, "banks batch"]]:
    """Draws what one step trains on: a subset of every bank, and `batch` examples for each."""
    subset, query = jax.random.split(key)
    subsets = jnp.array([len(bank.theta) for bank in banks])
    pools = jnp.stack([bank.examples for bank in banks])
    return jax.random.randint(subset, subsets.shape, 0, subsets), jax.random.randint(query, (len(banks), batch), 0, pools[:, None])
