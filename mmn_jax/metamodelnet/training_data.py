"""The training data of a regressor: banks of k-shot heads as arrays on the devices.

Some classes are held out, every (1 / share)-th in the order of counts. Their losses, on examples and heads of their own, decide when the
training of a level stops.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key

from mmn_jax.data.longtail import class_pool
from mmn_jax.devices import device_memory, replicated
from mmn_jax.linear.problem import padded
from mmn_jax.rng import permutation
from mmn_jax.types import Bank, MixedBank, Normalised

EVALUATED_HEADS, EVALUATED_EXAMPLES = 8, 512  # of a bank, for its held-out classes
WINDOW_SHARE = 1 / 8  # of a device's memory, for the heads that training draws from


class BankData(NamedTuple):
    """One bank as arrays, for its C classes: first the training classes, then those held out, each in the order of decreasing counts.

    shots: k, for each class. theta: heads to draw from, for the training classes. target: θ*. examples: how many of the shared examples
    belong to its classes. held_theta, held_x, held_y: heads and examples for the evaluation of held-out classes. Labels are positions among
    the C classes.
    """

    shots: Int[Array, " C"]
    theta: Float[Array, "S seen p"]
    target: Float[Array, "C p"]
    examples: Int[Array, ""]
    held_theta: Float[Array, "heads C p"]
    held_x: Float[Array, "m d"]
    held_y: Int[Array, " m"]


class TrainingData(NamedTuple):
    """The training data of one level.

    first: the number of banks that are not in training yet. unit: rows are divided by it. x, y: examples of the training classes, in the
    order of decreasing counts, so that those of every bank come first; padding is last. banks: all of them.
    """

    first: Int[Array, ""]
    unit: Float[Array, ""]
    x: Float[Array, "n d"]
    y: Int[Array, " n"]
    banks: tuple[BankData, ...]


def held_out_classes(counts: Int[np.ndarray, " C"], share: float) -> Bool[np.ndarray, " C"]:
    """Chooses the classes that are held out of training: every (1 / share)-th in the order of counts.

    Each H_t thus has its share, and the first one comes early enough for an H_t of 3 classes to hold one out and keep two.

    Args:
      counts: training examples of each class.
      share: of the classes that are held out, at most a half.
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
    """Returns how many heads of each bank fit into `memory` bytes (by default an eighth of a device's) at once; None if all do."""
    memory = memory or int(WINDOW_SHARE * device_memory())
    if sum(bank.subsets * bank.target.nbytes for bank in banks) <= memory:
        return None
    return max(1, memory // sum(bank.target.nbytes for bank in banks))


def training_data(
    key: Key[Array, ""],
    banks: Sequence[Bank],
    train: Normalised,
    held: Bool[np.ndarray, " C"],
    mesh: Mesh,
    window: int | None = None,
) -> Callable[[int, int], TrainingData]:
    """Puts banks on the devices, as the training data of every level.

    Args:
      key: draws the examples for the evaluation of held-out classes.
      banks: in the order of k; the classes of each include those of the next one.
      train: the examples that the banks were fitted to.
      held: the classes held out of training.
      mesh: the devices.
      window: heads of each bank in memory at once; None for all of them.

    Returns:
      data(first, number), which returns the training data of a level in its window `number`; the first `first` banks are not in training
      yet. All of these have the same shapes; the last heads of a bank are followed by its first.
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
    shared = TrainingData(*replicated(mesh, (np.int32(0), unit, x, y, parts)))
    seen = [place[~held[bank.classes[place]]] for bank, place in zip(banks, places, strict=True)]

    def with_heads(number):
        heads = [_window(bank, number, window)[:, own] / unit for bank, own in zip(banks, seen, strict=True)]
        filled = zip(shared.banks, replicated(mesh, heads), strict=True)
        return shared._replace(banks=tuple(part._replace(theta=theta) for part, theta in filled))

    every = with_heads(0) if window is None else None

    def data(first, number):
        return (every or with_heads(number))._replace(first=replicated(mesh, np.int32(first)))

    return data


def _window(bank: Bank, number: int, window: int | None) -> Float[np.ndarray, "window C p"]:
    """Returns the heads of window `number`."""
    size = bank.subsets if window is None else min(window, bank.subsets)
    begin = number * size % bank.subsets
    after = bank.heads(0, max(0, begin + size - bank.subsets))  # past the last one comes the first
    return np.concatenate([bank.heads(begin, min(begin + size, bank.subsets)), after])


def _places(bank: Bank, order: Int[np.ndarray, " C"]) -> Int[np.ndarray, " H"]:
    """Returns the positions of the bank's classes in the bank, in the given order of all classes."""
    place = np.full(len(order), -1)
    place[bank.classes] = np.arange(len(bank.classes))
    return place[order][place[order] >= 0]


def _bank_data(
    key: Key[Array, ""], bank: Bank, place: Int[np.ndarray, " H"], train: Normalised, held: Bool[np.ndarray, " C"], unit: np.float32
) -> BankData:
    """Makes the BankData of a bank; its heads to draw from are only those for the evaluation of held-out classes."""
    classes = bank.classes[place]
    seen = int((~held[classes]).sum())
    outside = class_pool(train, classes[seen:])
    chosen = np.resize(permutation(key, len(outside.y)), EVALUATED_EXAMPLES)  # cycles where there are fewer
    evaluated = bank.heads(0, min(EVALUATED_HEADS, bank.subsets))[:, place] / unit
    fields: tuple[Any, ...] = (  # numpy's until they are put on the devices
        np.full(len(classes), bank.shots, np.int32),
        evaluated[:, :seen],
        np.asarray(bank.target)[place] / unit,
        np.int32(np.isin(train.y, classes[:seen]).sum()),
        evaluated[np.arange(EVALUATED_HEADS) % len(evaluated)],
        outside.x[chosen],
        outside.y[chosen] + np.int32(seen),
    )
    return BankData(*fields)


def draw_episode(key: Key[Array, ""], banks: tuple[BankData, ...], batch: int) -> tuple[Int[Array, " banks"], Int[Array, "banks batch"]]:
    """Draws the training data of one step: a subset of every bank, and `batch` examples for each."""
    subset, query = jax.random.split(key)
    subsets = jnp.array([len(bank.theta) for bank in banks])
    pools = jnp.stack([bank.examples for bank in banks])
    return jax.random.randint(subset, subsets.shape, 0, subsets), jax.random.randint(query, (len(banks), batch), 0, pools[:, None])
