"""The figures of the report in their order, each with a heading and a sentence on what to see and where it comes from.

Those over all seeds come from results.json; how rows move and how the chain was trained from what the first seed saved.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from mmn_jax.pipeline.metamodelnet import Learned
from mmn_jax.pipeline.stages import SeedResult
from mmn_jax.report import figures, row_dynamics, row_figures

NO_CHAIN = "Too few classes had examples enough to teach a chain in this run: metamodelnet is the plain head, and there is nothing to show."


class Section(NamedTuple):
    """A figure: its name as a file, its heading and caption, and make(), which draws it, or None, where the caption says why."""

    name: str
    title: str
    caption: str
    make: Callable[[], Figure] | None


def of_results(table: dict[str, Any]) -> list[Section]:
    """What results.json tells."""
    number = len(table["seeds"])
    source = f"results.json, {number} seeds" if number > 1 else f"results.json, seed {table['seeds'][0]}"
    leaderboard = (
        "Accuracy and its difference to plain with 95% intervals by paired bootstrap over test examples and seeds; hollow where the"
        f" interval holds 0 ({source})."
    )
    gain = (
        "Test accuracy of every class less what plain reaches, against its training examples: where the line, a mean over classes of"
        f" about as many, is above 0, a method helps ({source})."
    )
    by_count = (
        "Mean test accuracy of the classes in each doubling of training examples: the flatter, the less a method favours frequent"
        f" classes ({source})."
    )
    reliability = (
        "Accuracy of test predictions by their confidence, before and after the temperature that validation examples chose: right"
        f" where it is on the dotted line; bins of few examples (under 5, or 0.5%) are left out (results.json, seed {table['seeds'][0]})."
    )
    return [
        Section("leaderboard", "All methods", leaderboard, partial(figures.leaderboard, table)),
        Section("gain_by_count", "Who gains", gain, partial(figures.gain_by_count, table)),
        Section("accuracy_by_count", "Accuracy by training count", by_count, partial(figures.accuracy_by_count, table)),
        Section("reliability", "Is the confidence right?", reliability, partial(figures.reliability, table)),
    ]


def of_dynamics(table: dict[str, Any], first: SeedResult) -> list[Section]:
    """What the first seed's rows, banks and chain tell."""
    every = row_dynamics.rungs(first.learned) if first.learned else []
    heads = {name: first.models[name].arrays["theta"] for name in ("plain", "metamodelnet", "mmn")}
    norms = row_dynamics.norms(heads, first.data.tail.counts)
    caption = "Plain rows grow with the examples of their class, moved ones are more even (in the paper, rows of classes seen once go"
    caption += " from 0.53 to 1.36)"
    caption += "; on the right, heads of k examples of every class against θ*, the head of all of their examples" if every else ""
    caption += f" (rows{' and banks' if every else ''} of seed {first.seed})."
    section = Section("row_norms", "Row norms", caption, partial(row_figures.row_norms, norms, every))
    return [section, *of_chain(table, first, first.learned, every)]


def of_chain(table: dict[str, Any], first: SeedResult, learned: Learned | None, every: list[row_dynamics.Shift]) -> list[Section]:
    """What the banks and the chain that was chosen tell; one section that says so where there is none."""
    if learned is None:
        return [Section("chain", "The chain", NO_CHAIN, None)]
    tuned = {key: values[0] for key, values in table["methods"]["metamodelnet"]["tuned"].items()}
    moved = first.models["metamodelnet"].arrays["theta"]
    paths = partial(row_dynamics.paths, every, learned.theta, moved, first.data.tail.counts, first.class_names)
    pca = (
        "Rows of the most frequent classes (A, B, ..) from one shot (dark) to θ* (bright), each station the mean of random heads of k"
        " examples a class (small dots), and of the rarest classes (a, b, ..) before and after transfer (arrows; banks and rows of"
        f" seed {first.seed})."
    )
    tsne = "The same rows in the plane of t-SNE, which keeps neighbours near and says nothing of distances or directions further off."
    likeness = (
        "Cosine of rows to θ* before and after the chain: what it learned is worth what it does for the classes that were held out of"
        f" its training, which have the middle 80% of their rows shaded (banks and chain of seed {first.seed})."
    )
    movement = (
        "Mean length of what a block adds, as a share of the row's norm, over the long-tailed rows that pass it: the paper's identity"
        f" regularisation wants it to fall towards the last block (results.json, seed {first.seed})."
    )
    training = (
        "Loss of episodes, and of held-out classes, which end a stage when they no longer gain; the variables of the best look are kept"
        f" (chain of seed {first.seed}, λ = {tuned['task_weight']:g}; metrics.jsonl has all candidates)."
    )
    blocks = Section("movement", "Movement by block", movement, partial(row_figures.movement, tuned["ladder"], tuned["movement"]))
    return [
        Section(
            "trajectories_pca", "Trajectories, principal components", pca, partial(_trajectories, paths, row_dynamics.in_pca, "component")
        ),
        Section("trajectories_tsne", "Trajectories, t-SNE", tsne, partial(_trajectories, paths, row_dynamics.in_tsne, "t-SNE")),
        Section("likeness", "Likeness to θ*", likeness, partial(row_figures.likeness, row_dynamics.likeness(every))),
        *([blocks] if tuned["movement"] else []),  # a regressor of one's own has none
        Section("training", "Training of the chain", training, partial(row_figures.training_curves, learned.records)),
    ]


def _trajectories(paths, project, axis):
    return row_figures.trajectories(paths(project), axis)
