"""Subsamples a training set to a longer tail; the examples left out show which rows the classes with fewer examples should have had."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int, Key

from mmn_jax.data.longtail import random_ranks
from mmn_jax.rng import generator, uniform
from mmn_jax.types import Normalised

REDUCED_SHARE = 1 / 3  # of the classes: these get the count of a random class
KEPT_SHARE = 0.8  # of the examples of the other classes
LEAST = 4  # examples that a class needs to be reduced
HELD = 10  # held-out examples of a class, at most
LOGITS = 2**22  # of all held-out examples, at most: with thousands of classes, fewer examples of each are enough


class Subsample(NamedTuple):
    """A part of a training set, and examples that are held out of it."""

    train: Normalised
    held: Normalised


def draw_shots(rng: np.random.Generator, counts: Int[np.ndarray, " C"], own: Int[np.ndarray, " H"]) -> Int[np.ndarray, " H"]:
    """Draws reduced counts: each is that of a random class, and at most half of the class's own.

    Args:
      rng: the generator.
      counts: of the classes to draw from.
      own: counts of the classes that are reduced.
    """
    return np.clip(rng.choice(counts, len(own)), 1, own // 2)


def _subsample_counts(rng: np.random.Generator, counts: Int[np.ndarray, " C"]) -> Int[np.ndarray, " C"]:
    """Draws the counts of a subsample: a third of the classes get that of a random class, the others four fifths of their own."""
    reduced = (counts >= LEAST) & (rng.random(len(counts)) < REDUCED_SHARE)
    kept = np.clip(np.ceil(KEPT_SHARE * counts), 1, np.maximum(counts - 1, 1)).astype(int)
    return np.where(reduced, draw_shots(rng, counts, counts), kept)


def _held_out(rank: Key[Array, ""], turn: Key[Array, ""], y: Int[np.ndarray, " n"], most: int) -> Int[np.ndarray, " m"]:
    """Draws the positions of at most HELD examples of each class and `most` in all, a second one of a class only after a first of every
    class; rank, turn: keys of the order within a class and among classes."""
    ranks = random_ranks(rank, y)
    turns = np.lexsort((uniform(turn, len(y)), ranks))
    return np.sort(turns[ranks[turns] < HELD][:most])


def make_subsample(key: Key[Array, ""], train: Normalised) -> Subsample:
    """Draws a subsample in which every class keeps an example; a class with a single one has none held out."""
    counts = np.bincount(train.y)
    draw, keep, rank, turn = jax.random.split(key, 4)
    used = random_ranks(keep, train.y) < _subsample_counts(generator(draw), counts)[train.y]
    rest = train.at(~used)
    held = _held_out(rank, turn, rest.y, max(1, LOGITS // len(counts)))
    return Subsample(train.at(used), rest.at(held))
