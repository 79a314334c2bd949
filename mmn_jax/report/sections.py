"""Lists the figures of the report in order, each with a heading and a caption on what it shows and where its data come from.

Those of `of_results` compare methods, over all seeds, and come from results.json. Those of `of_dynamics`, for researchers, show rows and
the chain's training, and come from what the first seed saved.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from mmn_jax.pipeline.known import in_words
from mmn_jax.pipeline.metamodelnet import Learned, unmoved
from mmn_jax.pipeline.stages import SeedResult
from mmn_jax.pipeline.table_formats import evaluated
from mmn_jax.report import figures, row_dynamics, row_figures

NO_MOVEMENT = (
    "Validation examples chose a chain that moves no row of the long-tailed head in this run. metamodelnet is a plain head under the ridge"
    " kshot.l2, so there is nothing to show."
)
NO_CHAIN = "Too few classes had enough examples to train a chain in this run. metamodelnet is the plain head, so there is nothing to show."


class Section(NamedTuple):
    """A figure of the report.

    name: of its files. title, caption: its texts. make: draws it; None if there is nothing to draw, which the caption explains.
    """

    name: str
    title: str
    caption: str
    make: Callable[[], Figure] | None


def of_results(table: dict[str, Any]) -> list[Section]:
    """Returns the sections drawn from results.json."""
    number = len(table["seeds"])
    source = f"results.json, {number} seeds" if number > 1 else f"results.json, seed {table['seeds'][0]}"
    examples, accuracy = evaluated(table)
    leaderboard = (
        f"Mean per-class accuracy and its difference to plain, with 95% intervals from a paired bootstrap over {examples} and seeds."
        f" A hollow marker means that the interval holds 0 ({source}).{_knowing_more(table)}"
    )
    gain = (
        f"{accuracy.capitalize()} of every class minus that of plain, against its number of training examples. The line is a running mean;"
        f" where it is above 0, the method helps ({source})."
    )
    by_count = (
        f"Mean {accuracy} of classes grouped by training examples in powers of two. The flatter the line, the less the method favours"
        f" frequent classes ({source})."
    )
    reliability = (
        f"Accuracy of predictions for {examples} against their confidence, before and after temperature scaling on validation examples."
        " Calibrated confidence lies on the dotted line; bins with few examples (under 5, or 0.5%) are left out"
        f" (results.json, seed {table['seeds'][0]})."
    )
    return [
        Section("leaderboard", "Accuracy of all methods", leaderboard, partial(figures.leaderboard, table)),
        Section("gain_by_count", "Gain by training count", gain, partial(figures.gain_by_count, table)),
        Section("accuracy_by_count", "Accuracy by training count", by_count, partial(figures.accuracy_by_count, table)),
        Section("reliability", "Calibration", reliability, partial(figures.reliability, table)),
    ]


def _knowing_more(table: dict[str, Any]) -> str:
    """Returns a sentence for each kind of knowledge beside labelled examples: which methods used it."""
    by_needs: dict[tuple[str, ...], list[str]] = {}
    for name, entry in table["methods"].items():
        if entry.get("needs"):
            by_needs.setdefault(tuple(entry["needs"]), []).append(name)
    return "".join(f" {' and '.join(names)} also used {in_words(table, needs)}." for needs, names in by_needs.items())


def of_dynamics(table: dict[str, Any], first: SeedResult) -> list[Section]:
    """Returns the sections drawn from the first seed's rows, banks and chain."""
    shifts = row_dynamics.shifts(first.learned) if first.learned and moves(first) else []
    heads = {name: first.models[name].arrays["theta"] for name in ("plain", "metamodelnet", "mmn")}
    norms = row_dynamics.norms(heads, first.data.tail.counts)
    caption = "Rows of the plain head grow with the training examples of their class; transferred rows are more even (in the paper, the"
    caption += " mean norm of rows of classes seen once goes from 0.53 to 1.36)."
    caption += " On the right, k-shot rows relative to θ*, the head trained on all examples of the same classes." if shifts else ""
    caption += f" Rows{' and banks' if shifts else ''} of seed {first.seed}."
    section = Section("row_norms", "Row norms", caption, partial(row_figures.row_norms, norms, shifts))
    return [section, *of_chain(table, first, first.learned, shifts)]


def moves(first: SeedResult) -> bool:
    """Returns whether the chosen chain moves any row of the long-tailed head."""
    return first.learned is not None and not unmoved(first.learned.theta, first.models["metamodelnet"].arrays["theta"])


def of_chain(table: dict[str, Any], first: SeedResult, learned: Learned | None, shifts: list[row_dynamics.Shift]) -> list[Section]:
    """Returns the sections drawn from the banks and the chosen chain; if there is none or it moves nothing, one section that says so."""
    if learned is None or not moves(first):
        return [Section("chain", "The chain", NO_MOVEMENT if learned else NO_CHAIN, None)]
    tuned = {key: values[0] for key, values in table["methods"]["metamodelnet"]["tuned"].items()}
    moved = first.models["metamodelnet"].arrays["theta"]
    paths = partial(row_dynamics.paths, shifts, learned.theta, moved, first.data.tail.counts, first.class_names)
    pca = (
        "Rows of the most frequent classes (A, B, ..) from one shot (dark) to θ* (bright). Each large dot is the mean over random k-shot"
        " heads, whose rows are the small dots. Arrows lead from the plain rows of the rarest classes (a, b, ..) to their transferred"
        f" rows (banks and rows of seed {first.seed})."
    )
    tsne = "The same rows under t-SNE, which preserves neighbourhoods; larger distances and directions have no meaning."
    similarity = (
        "Cosine similarity of k-shot rows to θ* before and after the chain. The classes held out of its training show how well it"
        f" generalises; the middle 80% of their rows is shaded (banks and chain of seed {first.seed})."
    )
    movement = (
        "Mean length of what a block adds, relative to the norm of the row, over the long-tailed rows that pass through it. Under the"
        f" paper's identity regularisation it should fall towards the last block (results.json, seed {first.seed})."
    )
    training = (
        "Training loss, and the loss on held-out classes, which ends a level when it stops improving; the variables of the best"
        f" evaluation are kept (chain of seed {first.seed}, λ = {tuned['task_weight']:g}; metrics.jsonl has all candidates)."
    )
    blocks = Section("movement", "Movement by block", movement, partial(row_figures.movement, tuned["ladder"], tuned["movement"]))
    return [
        Section("trajectories_pca", "Trajectories, PCA", pca, partial(_trajectories, paths, row_dynamics.in_pca, "component")),
        Section("trajectories_tsne", "Trajectories, t-SNE", tsne, partial(_trajectories, paths, row_dynamics.in_tsne, "t-SNE")),
        Section("likeness", "Similarity to θ*", similarity, partial(row_figures.similarity, row_dynamics.similarity(shifts))),
        *([blocks] if tuned["movement"] else []),  # a user's own regressor has none
        Section("training", "Training of the chain", training, partial(row_figures.training_curves, learned.records)),
    ]


def _trajectories(paths, project, axis):
    return row_figures.trajectories(paths(project), axis)
