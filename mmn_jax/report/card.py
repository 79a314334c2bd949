"""Writes the model card of an exported classifier: its training data, its accuracy, what made it, and how to use its files."""

from pathlib import Path

import numpy as np

from mmn_jax.data.labels import numbered_names
from mmn_jax.errors import BadInput, one_line
from mmn_jax.methods.mmn import INFORMED
from mmn_jax.pipeline.advice import chosen_on
from mmn_jax.pipeline.known import in_words
from mmn_jax.pipeline.markdown import in_markdown
from mmn_jax.pipeline.results import read
from mmn_jax.pipeline.table_formats import GROUPS, Table, difference, evaluated, markdown, number, versus_rival
from mmn_jax.store.classifier import Classifier

USES = {
    "classifier.npz": """In plain numpy, for features `x` [n, {dim}]:

```python
import numpy as np

model = dict(np.load("classifier.npz"))
scores = ((x - model["mean"]) * model["scale"]) @ model["W"].T + model["b"]
names = model["class_names"][scores.argmax(1)]
exponentials = np.exp((scores - scores.max(1, keepdims=True)) / model["temperature"])
probabilities = exponentials / exponentials.sum(1, keepdims=True)
```

For files of any size, run in this folder: `python -m mmn_jax.predict --model=. --features=new.npz --out=predictions.csv`""",
    "classifier.stablehlo": """In JAX, for any number of rows, without mmn_jax:

```python
from pathlib import Path

from jax import export

call = export.deserialize(bytearray(Path("classifier.stablehlo").read_bytes())).call
scores, probabilities = call(x)  # x [n, {dim}] float32
```""",
    "classifier.onnx": """In ONNX Runtime, or any other runtime for ONNX:

```python
import json

import onnxruntime

session = onnxruntime.InferenceSession("classifier.onnx", providers=["CPUExecutionProvider"])
scores, probabilities = session.run(None, {{"features": x}})  # x [n, {dim}] float32
names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
```""",
}


VERSUS = ("vs_plain", "vs_best_rival")


def read_facts(workdir: Path) -> Table:
    """Reads the results.json of a run.

    Raises:
      BadInput: it is missing or damaged.
    """
    try:
        table = {"splits": [{}], **read(workdir)}  # older files have no splits
        if not (table["seeds"] and table["splits"]):
            raise ValueError("no seed")
        return table
    except OSError as error:
        raise BadInput(f"--model={workdir}: {error.filename} cannot be read ({error.strerror}); repeat the run that made it") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"--model={workdir}: results.json is damaged; repeat the run that made it") from error


def _data(classifier: Classifier, table: Table) -> list[str]:
    split = table["splits"][0]
    counts, (classes, dim) = np.sort(table["counts"][0])[::-1], classifier.W.shape
    shared = numbered_names(tuple(map(str, classifier.class_names.tolist())))
    numbered = [f"- Classes that share a name carry their number: {one_line(', '.join(shared))}"] if shared else []
    chosen = chosen_on(table.get("validation")) + ("" if table.get("validation") == "train" else ", which no method is fitted to")
    groups, few, many = table["groups"], table["thresholds"]["few"], table["thresholds"]["many"]
    return [
        f"- Data set: {in_markdown(table['dataset'])}, {dim}-dimensional features, {classes} classes",
        f"- Training examples: {counts.sum()}; {counts[0]} in the largest class, {int(np.median(counts))} in the median class, {counts[-1]}"
        f" in the smallest; {groups['many']} classes have more than {many}, {groups['medium']} from {few} to {many}, {groups['few']} fewer",
        f"- Split: seed {table['seeds'][0]}, SHA-256 of its rows `{split.get('indices_sha256', 'not known')}`, of the labels they belong to"
        f" `{split.get('labels_sha256', 'not known')}`",
        f"- Hyperparameters were chosen on {chosen}; {_evaluation(table)}",
        *([f"- Beside labelled examples, it used {used}"] if (used := _used(table)) else []),
        *numbered,
        f"- Licence of the features: {in_markdown(table.get('licence') or 'not known to the run; ask the provider of the features')}",
    ]


def _evaluation(table: Table) -> str:
    """Returns what the figures are of; older files are of test examples."""
    if table.get("evaluated_on") == "folds":
        return "there was no test set, so figures are of the same folds, each example predicted by a fit that didn't see it"
    return "test examples were read once, after every choice"


def _held(table: Table) -> str:
    """Returns the method that classifier.npz holds; older files always hold mmn."""
    return table.get("classifier", "mmn")


def _used(table: Table) -> str:
    """Returns what the classifier knew beside labelled examples; older files don't say."""
    return in_words(table, table["methods"][_held(table)].get("needs", ()))


def _accuracies(table: Table) -> str:
    ours = table["methods"][_held(table)]
    rows = [["classes", "accuracy", "vs plain", in_markdown(versus_rival(table["methods"])) if ours["vs_best_rival"] else "vs best rival"]]
    rows.append(["all", number(ours["accuracy"]), *(difference(ours[versus]) or "n/a" for versus in VERSUS)])
    for group in GROUPS:
        versus = (difference((ours.get(f"{key}_groups") or {}).get(group)) or "n/a" for key in VERSUS)
        rows.append([f"{group}-shot ({table['groups'][group]})", number(ours[group]), *versus])
    return markdown(rows)


def _quality(table: Table) -> str:
    ours, seeds, classes = table["methods"][_held(table)], table["seeds"], len(table["counts"][0])
    average = f"averaged over seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"for seed {seeds[0]}"
    these = f" (these files are seed {seeds[0]}'s, which reached {ours['accuracy_per_seed'][0]:.1f})" if len(seeds) > 1 else ""
    return (
        f"Mean per-class {evaluated(table).accuracy} of `{_held(table)}` in percent, {average}{these}. Differences carry a"
        f" 95% interval from a paired bootstrap over {table.get('interval_over', 'test examples and seeds')}; a difference whose interval"
        f" holds 0 is a tie.\n\n"
        f"{_accuracies(table)}\n\n"
        f"After temperature scaling, the calibration error is {ours['ece_scaled']:.1f} points and the negative log-likelihood"
        f" {ours['nll_scaled']:.2f} nats. Probabilities are calibrated for a uniform class prior; for a prior p(c), add"
        f" temperature · log(p(c) · {classes}) to the score of class c.\n\n"
        f"Limits: an input that belongs to none of the {classes} classes is assigned to one of them all the same; the table shows which"
        " groups of classes are recognised worst."
    )


def _origin(table: Table) -> str:
    """Says in a sentence how the rows were made."""
    mixed = "mmn_jax mixed its rows from heads under priors learned from the classes with many examples"
    if _held(table) == "mmn":
        return f"{mixed}."
    if _held(table) in INFORMED:
        return f"{mixed}, and from estimates of the class means by what else was known ({_held(table)})."
    return f"mmn_jax fitted its rows by the method {in_markdown(_held(table))}."


def as_markdown(classifier: Classifier, table: Table, files: tuple[str, ...]) -> str:
    """Returns the model card of an export.

    Args:
      classifier: what is exported.
      table: `read_facts` of its run.
      files: names of the exported files, keys of `USES`.
    """
    versions = in_markdown(", ".join(f"{name} {version}" for name, version in table["versions"].items()))
    uses = "\n\n".join(f"### {name}\n\n{USES[name].format(dim=classifier.W.shape[1])}" for name in files)
    return "\n\n".join(
        [
            f"# {in_markdown(table['dataset'])}: a long-tailed classifier",
            f"A linear softmax classifier over frozen features. {_origin(table)}",
            "## Data",
            "\n".join(_data(classifier, table)),
            "## Accuracy",
            _quality(table),
            "## What made it",
            f"{versions}; configuration {table['config_hash']}.",
            "## How to use it",
            f"Features must come from the same backbone and the same preprocessing as in training.\n\n{uses}\n",
        ]
    )
