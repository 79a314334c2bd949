"""Computes how rows move, as small arrays for figures: norms by training count, similarity to θ*, trajectories from one shot to many.

All of it concerns the weights of rows, centred over the classes of their head, as a softmax is invariant to what all rows share.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from mmn_jax.contrib.small_regressors import LEVELS
from mmn_jax.linear.rows import centred
from mmn_jax.metamodelnet.transfer import transfer_rows
from mmn_jax.pipeline.metamodelnet import Learned
from mmn_jax.types import Bank

ROWS_BYTES = 2**27  # bytes of k-shot rows that are read from a bank
SHOWN = 5  # frequent classes, and rare ones, whose rows are projected to a plane


def weights_of(theta: np.ndarray) -> np.ndarray:
    """Returns the weights [.., C, d] of rows [.., C, d+1], without what all classes share."""
    return centred(theta)[..., :-1]


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the cosine of vectors along the last axis, 0 if one of them is 0."""
    return (a * b).sum(-1) / np.maximum(np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1), 1e-12)


def levels(counts: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Groups classes by training count into the levels that occur: (label, mask [C]) of each."""
    level = np.searchsorted(LEVELS, counts, side="right") - 1
    labels = [f"{a}–{b - 1}" if b - a > 1 else f"{a}" for a, b in zip(LEVELS, (*LEVELS[1:], 10**6), strict=True)]
    labels[-1] = f"{LEVELS[-1]}+"
    return [(labels[i], level == i) for i in np.unique(level)]


class Norms(NamedTuple):
    """Mean row norms by level of training counts.

    labels: of the levels. sizes: how many classes each has. shares: method → [levels] mean norms relative to the head's mean norm.
    """

    labels: list[str]
    sizes: list[int]
    shares: dict[str, np.ndarray]


def norms(theta: dict[str, np.ndarray], counts: np.ndarray) -> Norms:
    """Returns the row norms of heads theta[name] [C, d+1] whose classes have these training counts [C]."""
    grouped = levels(counts)
    length = {name: np.linalg.norm(weights_of(rows), axis=1) for name, rows in theta.items()}
    shares = {name: np.array([each[inside].mean() for _, inside in grouped]) / each.mean() for name, each in length.items()}
    return Norms([label for label, _ in grouped], [int(inside.sum()) for _, inside in grouped], shares)


class Shift(NamedTuple):
    """k-shot rows of one k before and after the chain.

    shots: k. classes: [C_k]. before, after: [heads, C_k, d] weights. target: [C_k, d] weights of θ*.
    held: [C_k] whether a class was held out of the chain's training.
    """

    shots: int
    classes: np.ndarray
    before: np.ndarray
    after: np.ndarray
    target: np.ndarray
    held: np.ndarray


def shifts(learned: Learned, most: int = 8) -> list[Shift]:
    """Moves up to `most` heads of every bank through the chain, which each bank enters at its own level."""
    each = sum(bank.target.nbytes for bank in learned.banks)
    heads = [bank.heads(0, min(int(np.clip(ROWS_BYTES // each, 1, most)), bank.subsets)) for bank in learned.banks]
    return [_shift(learned, bank, theta, moved) for bank, theta, moved in zip(learned.banks, heads, _moved(learned, heads), strict=True)]


def _moved(learned, heads):
    """Returns the rows [heads, C_k, d+1] of every bank after the chain; one call for all, so that one program is compiled."""
    rows = np.concatenate([theta.reshape(-1, theta.shape[-1]) for theta in heads])
    shots = np.repeat([bank.shots for bank in learned.banks], [theta.shape[0] * theta.shape[1] for theta in heads])
    sizes = [theta.shape[1] for theta in heads for _ in theta]
    context = learned.context._replace(head=np.repeat(np.arange(len(sizes)), sizes))
    moved = transfer_rows(learned.regressor, learned.variables, rows, shots, context)
    ends = np.cumsum([theta.shape[0] * theta.shape[1] for theta in heads])[:-1]
    return [part.reshape(theta.shape) for part, theta in zip(np.split(moved, ends), heads, strict=True)]


def _shift(learned: Learned, bank: Bank, theta: np.ndarray, moved: np.ndarray) -> Shift:
    return Shift(bank.shots, bank.classes, weights_of(theta), weights_of(moved), weights_of(bank.target), learned.held[bank.classes])


class Similarity(NamedTuple):
    """Cosine similarity of k-shot rows to θ*, before and after the chain, an array [heads · classes] for each k.

    .._seen: for the classes that the chain was trained on. .._held: for those held out, empty if a level has none.
    """

    shots: list[int]
    before_seen: list[np.ndarray]
    before_held: list[np.ndarray]
    after_seen: list[np.ndarray]
    after_held: list[np.ndarray]


def similarity(moved: list[Shift]) -> Similarity:
    """Returns the cosine similarity to θ* of the rows of every level."""
    before, after = ([cosine(getattr(one, when), one.target) for one in moved] for when in ("before", "after"))
    parts = (
        [rows[:, one.held == held].ravel() for rows, one in zip(values, moved, strict=True)]
        for values in (before, after)
        for held in (False, True)
    )
    return Similarity([one.shots for one in moved], *parts)


class Paths(NamedTuple):
    """Rows projected to a plane.

    names, rare: names of the frequent and of the rare classes. steps: labels of the steps, 1, 2, 4, .., θ*.
    stations: [frequent, steps, 2] mean rows over heads. cloud: [points, 2] single k-shot rows; step: [points] the step of each.
    arrows: [rare, 2, 2] the row of a rare class in the plain head, and after transfer.
    """

    names: list[str]
    rare: list[str]
    steps: list[str]
    stations: np.ndarray
    cloud: np.ndarray
    step: np.ndarray
    arrows: np.ndarray


def paths(
    levels: list[Shift],
    plain: np.ndarray,
    moved: np.ndarray,
    counts: np.ndarray,
    names: tuple[str, ...],
    project: Callable[[np.ndarray], np.ndarray],
) -> Paths:
    """Projects the rows of the most frequent classes from one shot to θ*, and those of the rarest before and after transfer.

    Args:
      levels: the shifts of all levels, by increasing k.
      plain: [C, d+1] rows of the long-tailed head.
      moved: [C, d+1] the same rows after transfer.
      counts: [C] training examples.
      names: of the classes.
      project: [n, d] → [n, 2], `in_pca` or `in_tsne`.
    """
    last = levels[-1]
    frequent = last.classes[np.argsort(-counts[last.classes], kind="stable")[:SHOWN]]
    rare = np.setdiff1d(np.argsort(counts, kind="stable")[:SHOWN], frequent)
    clouds = [one.before[:, np.searchsorted(one.classes, frequent)] for one in levels]
    target = last.target[np.searchsorted(last.classes, frequent)]
    means = np.stack([*(cloud.mean(0) for cloud in clouds), target], 1)
    arrows = np.stack([weights_of(plain)[rare], weights_of(moved)[rare]], 1)
    flat = [means, np.concatenate(clouds), arrows]
    points = np.concatenate([part.reshape(-1, target.shape[-1]) for part in flat])
    points = project(np.pad(points, ((0, 0), (0, 1))))  # to two dimensions at least, as features may have one
    ends = np.cumsum([part.size // target.shape[-1] for part in flat])
    stations, cloud, ends_of_arrows = np.split(points, ends[:-1])
    step = np.repeat(np.arange(len(clouds)), [cloud.shape[0] * cloud.shape[1] for cloud in clouds])
    steps = [*(str(one.shots) for one in levels), "θ*"]
    stations, arrows = stations.reshape(*means.shape[:2], 2), ends_of_arrows.reshape(-1, 2, 2)
    return Paths([names[c] for c in frequent], [names[c] for c in rare], steps, stations, cloud, step, arrows)


def in_pca(points: np.ndarray) -> np.ndarray:
    """Projects points [n, d] to their first two principal components [n, 2]."""
    from sklearn.decomposition import PCA  # slow to import, as below

    with threadpool_limits(1):  # faster for so few points, and the same result on any number of cores
        return PCA(2, random_state=0).fit_transform(points)


def in_tsne(points: np.ndarray) -> np.ndarray:
    """Embeds points [n, d] in the plane [n, 2] by seeded t-SNE (van der Maaten & Hinton 2008), initialised by PCA."""
    from sklearn.manifold import TSNE

    with threadpool_limits(1):
        return TSNE(2, perplexity=min(20.0, (len(points) - 1) / 3), init="pca", random_state=0).fit_transform(points)
