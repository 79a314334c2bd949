"""The model card of an exported classifier: what it learned from, how good it is, what made it, and how to use its files."""

from pathlib import Path

import numpy as np

from mmn_jax.data.labels import numbered_names
from mmn_jax.errors import BadInput, one_line
from mmn_jax.pipeline.markdown import in_markdown
from mmn_jax.pipeline.results import GROUPS, Table, difference, markdown, number, read
from mmn_jax.store.classifier import Classifier

USES = {
    "classifier.npz": """In plain numpy, `x` being features [n, {dim}]:

```python
import numpy as np

model = dict(np.load("classifier.npz"))
scores = ((x - model["mean"]) * model["scale"]) @ model["W"].T + model["b"]
names = model["class_names"][scores.argmax(1)]
exponentials = np.exp((scores - scores.max(1, keepdims=True)) / model["temperature"])
probabilities = exponentials / exponentials.sum(1, keepdims=True)
```

For files of any size, with this folder as the model: `python -m mmn_jax.predict --model=. --features=new.npz --out=predictions.csv`""",
    "classifier.stablehlo": """In JAX, for any number of rows, without mmn_jax:

```python
from pathlib import Path

from jax import export

call = export.deserialize(bytearray(Path("classifier.stablehlo").read_bytes())).call
scores, probabilities = call(x)  # x [n, {dim}] float32
```""",
    "classifier.onnx": """In ONNX Runtime, or whatever reads ONNX:

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
    """What a run tells of its classifier, its results.json.

    Raises:
      BadInput: it has no results, or they are damaged.
    """
    try:
        table = {"splits": [{}], **read(workdir)}  # older ones have none
        if not (table["seeds"] and table["splits"]):
            raise ValueError("no seed")
        return table
    except OSError as error:
        raise BadInput(f"--model={workdir}: {error.filename} cannot be read ({error.strerror}); repeat the run that made it") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"--model={workdir}: results.json is damaged; repeat the run that made it") from error


def _data(classifier, table):
    split = table["splits"][0]
    counts, (classes, dim) = np.sort(table["counts"][0])[::-1], classifier.W.shape
    shared = numbered_names(tuple(map(str, classifier.class_names.tolist())))
    apart = [f"- Classes that share a name carry their number: {one_line(', '.join(shared))}"] if shared else []
    groups, few, many = table["groups"], table["thresholds"]["few"], table["thresholds"]["many"]
    return [
        f"- Data set: {in_markdown(table['dataset'])}, {dim}-dimensional features, {classes} classes",
        f"- Training examples: {counts.sum()}; {counts[0]} in the largest class, {int(np.median(counts))} in the middle one, {counts[-1]}"
        f" in the smallest; {groups['many']} classes have more than {many}, {groups['medium']} from {few} to {many}, {groups['few']} fewer",
        f"- Split: seed {table['seeds'][0]}, SHA-256 of its rows `{split.get('indices_sha256', 'not known')}`, of the labels they belong to"
        f" `{split.get('labels_sha256', 'not known')}`",
        f"- Knobs were chosen on {'folds of the training set' if table.get('validation') == 'train' else 'validation examples'};"
        " test examples were read once, after that",
        *apart,
        f"- Licence of the features: {in_markdown(table.get('licence') or 'not known to the run; ask where they come from')}",
    ]


def _accuracies(table):
    ours = table["methods"]["mmn"]
    rows = [["classes", "accuracy", "vs plain", "vs best rival"]]
    rows.append(["all", number(ours["accuracy"]), *(difference(ours[versus]) or "n/a" for versus in VERSUS)])
    for group in GROUPS:
        versus = (difference((ours.get(f"{key}_groups") or {}).get(group)) or "n/a" for key in VERSUS)
        rows.append([f"{group}-shot ({table['groups'][group]})", number(ours[group]), *versus])
    return markdown(rows)


def _quality(table):
    ours, seeds = table["methods"]["mmn"], table["seeds"]
    return (
        f"Mean per-class test accuracy of `mmn` in percent, seeds {', '.join(map(str, seeds))} on average (these files are"
        f" seed {seeds[0]}'s, which reached {ours['accuracy_per_seed'][0]:.1f}); differences with their 95% interval, a paired bootstrap"
        f" over test examples and seeds; one that holds 0 is a tie.\n\n{_accuracies(table)}\n\n"
        f"Calibration error after temperature scaling {ours['ece_scaled']:.1f} points, negative log-likelihood {ours['nll_scaled']:.2f}."
        f" Probabilities are calibrated for classes that come up equally often; where class c has the share p, add temperature · log(p ·"
        f" {len(table['counts'][0])}) to its score. What it is bad at: anything that is"
        f" none of its {len(table['counts'][0])} classes, which gets one of them all the same; of its own, the table tells."
    )


def as_markdown(classifier: Classifier, table: Table, files: tuple[str, ...]) -> str:
    """The card of an export that has these files. table: `read_facts`."""
    versions = in_markdown(", ".join(f"{name} {version}" for name, version in table["versions"].items()))
    uses = "\n\n".join(f"### {name}\n\n{USES[name].format(dim=classifier.W.shape[1])}" for name in files)
    return "\n\n".join(
        [
            f"# {in_markdown(table['dataset'])}: a long-tailed classifier",
            "A linear softmax classifier over frozen features, its rows mixed by mmn_jax from heads under priors that the classes with"
            " many examples teach.",
            "## Data",
            "\n".join(_data(classifier, table)),
            "## How good it is",
            _quality(table),
            "## What made it",
            f"{versions}; configuration {table['config_hash']}.",
            "## How to use it",
            f"Features have to come from the same backbone and the same preprocessing as in training.\n\n{uses}\n",
        ]
    )
