"""How rows move, as small arrays for figures: norms by shot count, likeness to θ*, trajectories from one shot to many.

All of it is about the weights of rows, centred over the classes of their head: a softmax doesn't see what all of its rows
have in common.
"""

from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from mmn_jax.contrib.small_regressors import LEVELS
from mmn_jax.linear.rows import centred
from mmn_jax.metamodelnet.transfer import transfer_rows
from mmn_jax.pipeline.metamodelnet import Learned
from mmn_jax.types import Bank

ROWS_BYTES = 2**27  # of the k-shot rows that are looked at


def weights_of(theta: np.ndarray) -> np.ndarray:
    """[.., C, d] weights of rows [.., C, d+1], without what all classes share."""
    return centred(theta)[..., :-1]


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of vectors along the last axis; 0 where one of them is 0."""
    return (a * b).sum(-1) / np.maximum(np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1), 1e-12)


def levels(counts: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """The shot levels that classes are in, as (label, [C] mask)."""
    level = np.searchsorted(LEVELS, counts, side="right") - 1
    labels = [f"{a}–{b - 1}" if b - a > 1 else f"{a}" for a, b in zip(LEVELS, (*LEVELS[1:], 10**6), strict=True)]
    labels[-1] = f"{LEVELS[-1]}+"
    return [(labels[i], level == i) for i in np.unique(level)]


class Norms(NamedTuple):
    """Mean norm of the rows of each shot level, as shares of the mean norm of their head: method → [levels]."""

    labels: list[str]
    sizes: list[int]
    shares: dict[str, np.ndarray]


def norms(theta: dict[str, np.ndarray], counts: np.ndarray) -> Norms:
    """Of the heads theta[name] [C, d+1] of classes with these counts [C]."""
    grouped = levels(counts)
    length = {name: np.linalg.norm(weights_of(rows), axis=1) for name, rows in theta.items()}
    shares = {name: np.array([each[inside].mean() for _, inside in grouped]) / each.mean() for name, each in length.items()}
    return Norms([label for label, _ in grouped], [int(inside.sum()) for _, inside in grouped], shares)


class Shift(NamedTuple):
    """k-shot rows of one k before and after the chain, and what they should become: weights [heads, C_k, d], [heads, C_k, d] and
    [C_k, d]; held: [C_k] whether the chain was kept from a class."""

    shots: int
    classes: np.ndarray
    before: np.ndarray
    after: np.ndarray
    target: np.ndarray
    held: np.ndarray


def rungs(learned: Learned, most: int = 8) -> list[Shift]:
    """A few heads of every bank, moved by the chain, which enters them at their own rung."""
    each = sum(bank.target.nbytes for bank in learned.banks)
    heads = [bank.heads(0, min(int(np.clip(ROWS_BYTES // each, 1, most)), bank.subsets)) for bank in learned.banks]
    return [_rung(learned, bank, theta, moved) for bank, theta, moved in zip(learned.banks, heads, _moved(learned, heads), strict=True)]


def _moved(learned, heads):
    """The rows [heads, C_k, d+1] of every bank after the chain: one call, so that one program is compiled."""
    rows = np.concatenate([theta.reshape(-1, theta.shape[-1]) for theta in heads])
    shots = np.repeat([bank.shots for bank in learned.banks], [theta.shape[0] * theta.shape[1] for theta in heads])
    sizes = [theta.shape[1] for theta in heads for _ in theta]
    context = learned.context._replace(head=np.repeat(np.arange(len(sizes)), sizes))
    moved = transfer_rows(learned.regressor, learned.variables, rows, shots, context)
    ends = np.cumsum([theta.shape[0] * theta.shape[1] for theta in heads])[:-1]
    return [part.reshape(theta.shape) for part, theta in zip(np.split(moved, ends), heads, strict=True)]


def _rung(learned, bank: Bank, theta, moved):
    return Shift(bank.shots, bank.classes, weights_of(theta), weights_of(moved), weights_of(bank.target), learned.held[bank.classes])


class Likeness(NamedTuple):
    """Cosine of rows to θ*, one row of values [heads × classes] for each k, before and after the chain: of the classes that it learned
    from (seen) and of those held out (empty where a rung has none)."""

    shots: list[int]
    before_seen: list[np.ndarray]
    before_held: list[np.ndarray]
    after_seen: list[np.ndarray]
    after_held: list[np.ndarray]


def likeness(every: list[Shift]) -> Likeness:
    """Of all rungs."""
    before, after = ([cosine(getattr(rung, when), rung.target) for rung in every] for when in ("before", "after"))
    parts = (
        [rows[:, rung.held == held].ravel() for rows, rung in zip(values, every, strict=True)]
        for values in (before, after)
        for held in (False, True)
    )
    return Likeness([rung.shots for rung in every], *parts)


class Paths(NamedTuple):
    """Where rows lie in a plane.

    names, rare: of the frequent and the rare classes. steps: what the stations of a frequent class are called, 1, 2, 4, .., θ*.
    stations: [frequent, steps, 2] means over heads. cloud: [points, 2] single k-shot rows, step: [points] the station each belongs to.
    arrows: [rare, 2, 2] the plain row of a rare class, and where it was moved.
    """

    names: list[str]
    rare: list[str]
    steps: list[str]
    stations: np.ndarray
    cloud: np.ndarray
    step: np.ndarray
    arrows: np.ndarray


def paths(every: list[Shift], plain: np.ndarray, moved: np.ndarray, counts: np.ndarray, names: tuple[str, ...], project, many=5) -> Paths:
    """The rows of the `many` most frequent classes from one shot to all, and of as many of the rarest before and after transfer.

    Args:
      plain, moved: [C, d+1] rows of the long-tailed head, and where the chain took them.
      project: [n, d] → [n, 2], `in_pca` or `in_tsne`.
    """
    frequent = every[-1].classes[np.argsort(-counts[every[-1].classes], kind="stable")[:many]]
    rare = np.setdiff1d(np.argsort(counts, kind="stable")[:many], frequent)
    clouds = [rung.before[:, np.searchsorted(rung.classes, frequent)] for rung in every]
    target = every[-1].target[np.searchsorted(every[-1].classes, frequent)]
    means = np.stack([*(cloud.mean(0) for cloud in clouds), target], 1)
    arrows = np.stack([weights_of(plain)[rare], weights_of(moved)[rare]], 1)
    flat = [means, np.concatenate(clouds), arrows]
    points = np.concatenate([part.reshape(-1, target.shape[-1]) for part in flat])
    points = project(np.pad(points, ((0, 0), (0, 1))))  # a plane has two dimensions, even where features have one
    ends = np.cumsum([part.size // target.shape[-1] for part in flat])
    stations, cloud, ends_of_arrows = np.split(points, ends[:-1])
    step = np.repeat(np.arange(len(clouds)), [cloud.shape[0] * cloud.shape[1] for cloud in clouds])
    steps = [*(str(rung.shots) for rung in every), "θ*"]
    stations, arrows = stations.reshape(*means.shape[:2], 2), ends_of_arrows.reshape(-1, 2, 2)
    return Paths([names[c] for c in frequent], [names[c] for c in rare], steps, stations, cloud, step, arrows)


def in_pca(points: np.ndarray) -> np.ndarray:
    """[n, 2] the first two principal components."""
    from sklearn.decomposition import PCA  # slow to import, as below

    with threadpool_limits(1):  # faster for so few points than many threads are, and the same on any number of cores
        return PCA(2, random_state=0).fit_transform(points)


def in_tsne(points: np.ndarray) -> np.ndarray:
    """[n, 2] by t-SNE (van der Maaten & Hinton 2008), seeded, from the first two principal components on."""
    from sklearn.manifold import TSNE

    with threadpool_limits(1):
        return TSNE(2, perplexity=min(20.0, (len(points) - 1) / 3), init="pca", random_state=0).fit_transform(points)
