"""Training sets cut to a longer tail. What a cut leaves out tells how the rows of few examples should have been."""

from typing import NamedTuple

import jax
import numpy as np

from mmn_jax.data.longtail import random_ranks
from mmn_jax.rng import generator, uniform
from mmn_jax.types import Examples

CUT_SHARE = 1 / 3  # of the classes that play rarer in a cut
KEPT_SHARE = 0.8  # of the examples of the others
LEAST = 4  # examples that a class needs to play rarer
HELD = 10  # examples of a class that judge, at most
LOGITS = 2**22  # of all that judge, at most: with thousands of classes, fewer examples of each are enough


class Cut(NamedTuple):
    """Examples to learn from, and some that were left out."""

    train: Examples
    held: Examples


def draw_shots(rng: np.random.Generator, counts: np.ndarray, own: np.ndarray) -> np.ndarray:
    """[H] shot counts for classes with `own` [H] examples: those of random classes among all `counts`, at most half of one's own."""
    return np.clip(rng.choice(counts, len(own)), 1, own // 2)


def _cut_shots(rng, counts):
    """[C] a third of the classes at the count of a random class, the others at four fifths of theirs."""
    rarer = (counts >= LEAST) & (rng.random(len(counts)) < CUT_SHARE)
    kept = np.clip(np.ceil(KEPT_SHARE * counts), 1, np.maximum(counts - 1, 1)).astype(int)
    return np.where(rarer, draw_shots(rng, counts, counts), kept)


def _judges(rank, turn, y, most):
    """Positions of at most HELD random examples of every class and `most` in all, a class's second after every class's first; rank,
    turn: keys of the order in a class and among classes."""
    ranks = random_ranks(rank, y)
    turns = np.lexsort((uniform(turn, len(y)), ranks))
    return np.sort(turns[ranks[turns] < HELD][:most])


def make_cut(key: jax.Array, train: Examples) -> Cut:
    """A cut of a training set in which every class keeps an example; classes with a single one have none that judge."""
    counts = np.bincount(train.y)
    draw, keep, rank, turn = jax.random.split(key, 4)
    used = random_ranks(keep, train.y) < _cut_shots(generator(draw), counts)[train.y]
    rest = train.at(~used)
    judges = _judges(rank, turn, rest.y, max(1, LOGITS // len(counts)))
    return Cut(train.at(used), rest.at(judges))
