"""Runs every method on three data sets and writes the tables between the markers of docs/leaderboard.md.

python benchmarks/leaderboard.py --features=DIR [--workdir=runs/leaderboard] [--seeds=0,1,2,3,4]

DIR holds clinc150.npz and cifar100_mobilenetv2_pca256.npz; the glyphs come with the package.
"""

import subprocess
import sys
from pathlib import Path

from absl import app, flags
from pages import fill

from mmn_jax.pipeline import results
from mmn_jax.pipeline.table_formats import Table, as_markdown

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "leaderboard.md"
FLAGS = flags.FLAGS
flags.DEFINE_string("features", "", "Folder with the feature files.")
flags.DEFINE_string("workdir", "runs/leaderboard", "Folder of the runs; what they saved before is used again.")
flags.DEFINE_string("seeds", "0,1,2,3,4", "Seeds of every run.")

FOLD_SEEDS = "0"  # of the run that tunes on folds of the training set


def _own(folder: str, name: str, imbalance: float, largest: int) -> list[str]:
    path = Path(folder) / name
    if not path.is_file():
        raise SystemExit(f"--features={folder}: {name} is missing")
    tail = [f"--config.data.longtail.imbalance={imbalance}", f"--config.data.longtail.max_per_class={largest}"]
    return [f"--config={ROOT / 'configs' / 'own_features.py'}", f"--config.data.path={path}", *tail]


def evaluate(name: str, arguments: list[str], seeds: str) -> Table:
    """Runs --stage=eval, continuing from what an earlier run saved, and returns its results.json."""
    workdir = Path(FLAGS.workdir) / name
    command = [sys.executable, str(ROOT / "bin" / "run.py"), "--stage=eval", f"--config.seeds={seeds}", f"--workdir={workdir}", *arguments]
    subprocess.run(command, check=True)
    return results.read(workdir)


def loss_by_folds(held: Table, folds: Table) -> str:
    """Compares tuning on a validation set with tuning on folds of the training set, method by method, over the seeds of both runs."""
    both = [seed for seed in folds["seeds"] if seed in held["seeds"]]
    lines = [f"| method | validation set | folds of the training set | difference, seeds {both} |", "| --- | ---: | ---: | ---: |"]

    def mean(table, name):
        return sum(table["methods"][name]["accuracy_per_seed"][table["seeds"].index(seed)] for seed in both) / len(both)

    for name in sorted(folds["methods"], key=lambda name: -mean(folds, name)):
        first, second = mean(held, name), mean(folds, name)
        lines.append(f"| {name} | {first:.1f} | {second:.1f} | {second - first:+.1f} |")
    return "\n".join(lines)


def main(_):
    runs = {
        "glyphs": [],
        "clinc150": _own(FLAGS.features, "clinc150.npz", 80, 80),
        "cifar100": _own(FLAGS.features, "cifar100_mobilenetv2_pca256.npz", 96, 480),
    }
    tables = {}
    for name, arguments in runs.items():
        tables[name] = evaluate(name, arguments, FLAGS.seeds)
        PAGE.write_text(fill(PAGE.read_text(), name, as_markdown(tables[name])))
    folds = evaluate("glyphs_folds", ["--config.data.validation=train"], FOLD_SEEDS)
    PAGE.write_text(fill(PAGE.read_text(), "folds", loss_by_folds(tables["glyphs"], folds)))


if __name__ == "__main__":
    app.run(main)
