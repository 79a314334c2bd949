"""Fits a classifier to features and saves it, without a comparison, banks or rivals:

    mmn-jax fit --features=FILE.npz --out=DIR [--method=mmn] [--seed=0]

DIR/classifier.npz is all that mmn-jax predict needs. Test examples are neither needed nor read. Hyperparameters are chosen on val_x and
val_y if FILE has them, else on folds of the training set; the classifier is then that of mmn-jax run with data.validation=train.
"""

import argparse
import sys
import time
from pathlib import Path

import jax
import numpy as np

from mmn_jax import defaults
from mmn_jax.cli import startup
from mmn_jax.cli.command import Parser, exit_code, stop_on_signals
from mmn_jax.data.descriptions import describe_names
from mmn_jax.data.feature_files import load_to_fit
from mmn_jax.data.normalisation import normalisation
from mmn_jax.devices import start
from mmn_jax.errors import BadInput, did_you_mean, renamed
from mmn_jax.methods.catalogue import every_method
from mmn_jax.methods.choosing import set_up, tune
from mmn_jax.methods.contract import Method, Tuned, linear_logits
from mmn_jax.methods.mmn import informed_name
from mmn_jax.pipeline import forecast
from mmn_jax.pipeline.column_flags import add_column_flags, column_flags, columns_of
from mmn_jax.store.artifacts import writable_directory, write_bytes
from mmn_jax.store.classifier import as_npz, of_rows
from mmn_jax.store.terminal import Terminal, make_terminal, never_silent, warn
from mmn_jax.types import Knowledge, Normalised

ARRAYS = {"descriptions": "class_embeddings", "unlabelled": "unlabelled_x"}  # fields of `Knowledge`


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parses the flags."""
    parser = Parser("mmn-jax fit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", required=True, help="features with train_x and train_y, in any form of docs/your_own_features.md")
    parser.add_argument("--out", required=True, help="folder for classifier.npz, made if it is missing")
    parser.add_argument("--method", default="mmn", help="a method of the table that is one linear head (default: mmn)")
    parser.add_argument("--seed", type=int, default=0)
    add_column_flags(parser)
    return parser.parse_args(argv)


def _method(name: str) -> Method:
    """Returns the method of this name.

    Raises:
      BadInput: there is none, or it is no linear head.
    """
    linear = {key: method for key, method in every_method(defaults.RIDGES).items() if method.logits is linear_logits}
    if name not in linear:
        raise BadInput(f"--method={name}: must be one of {', '.join(linear)}{did_you_mean(name, linear)}")
    return linear[name]


def _informed(asked: str, known: Knowledge, names: tuple[str, ...]) -> tuple[str, Knowledge]:
    """Returns the method to fit and what it knows: mmn becomes the one of its family that uses what the features hold; a method that was
    asked for and needs descriptions describes the classes by their names where there are no others.

    Raises:
      BadInput: the features hold what the method doesn't use, or lack what it needs.
    """
    if asked == "mmn":
        return informed_name(known), known
    method = _method(asked)
    if "descriptions" in method.missing(known):
        known = known._replace(descriptions=describe_names(names))
    if misfit := method.misfit(known):
        field, there = misfit
        what, mend = ("doesn't use", "leave that array out") if there else ("needs", "add that array to the features")
        raise BadInput(f"--method={asked}: {what} {ARRAYS[field]}; {mend}, or take --method=mmn")
    return asked, known


def _fitted(name: str, seed: int, train: Normalised, val: Normalised | None, known: Knowledge, terminal: Terminal) -> Tuned:
    """Fits a method, and shows what it will take, how far it is, and how its setting was chosen."""
    method, setup = _method(name), set_up(jax.random.key(seed), train, val, knowledge=known)
    if name != "metamodelnet":  # whose banks take most of its time
        for line in forecast.describe([forecast.of_method(name, method, setup)], 1):
            terminal.say(line)
    with terminal.doing(name) as show:

        def tell(step):
            if step.ends and step.examples:
                terminal.say(f"  {step}")
            show(str(step))

        return tune(method, *setup, tell=tell)


def fit(arguments: argparse.Namespace) -> None:
    """Fits the classifier that the flags describe, and writes it.

    Raises:
      BadInput: a flag or the features can't be used, or the folder holds a run.
    """
    _method(arguments.method)  # refuses a bad name before anything is read
    out = Path(arguments.out)
    if not 0 <= arguments.seed < 2**31:
        raise BadInput(f"--seed: must be from 0 to 2^31 - 1, it is {arguments.seed}")
    if (out / "results.json").exists():
        raise BadInput(f"--out={out}: holds a run, whose results.json would no longer be those of its classifier.npz; give another folder")
    with column_flags():
        _, train, val, _, names, known = load_to_fit(arguments.features, columns_of(arguments), warn)
    writable_directory(out, "--out")
    start()
    began, source = time.perf_counter(), "folds of the training set" if val is None else "val_x and val_y"
    unseen = "" if val is None else ", which no method is fitted to"
    with never_silent(make_terminal(True)) as terminal, renamed({"train_x": f"{arguments.features}: train_x"}):
        terminal.say(f"{len(train.y)} training examples of {len(names)} classes; hyperparameters are chosen on {source}{unseen}")
        normalise = normalisation(train)
        name, known = _informed(arguments.method, normalise.of_known(known), names)
        tuned = _fitted(name, arguments.seed, normalise.of(train), None if val is None else normalise.of(val), known, terminal)
        record = tuned.record
        saved = of_rows(tuned.arrays["theta"], record.temperature, normalise.mean, normalise.scale, names, np.bincount(train.y))
        write_bytes(out / "classifier.npz", as_npz(saved))
        reached = f"{record.val_accuracy:.1f}% mean per-class accuracy on {source}, {len(record.trials)} settings"
        terminal.say(f"{name}: {reached}, {time.perf_counter() - began:.0f} s")
        terminal.say(f"{out / 'classifier.npz'}: classify by mmn-jax predict --model={out} --features=NEW.npz")


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""

    def work():
        arguments = parse(argv)
        startup.keep_programs()
        fit(arguments)

    return exit_code(work, "interrupted: nothing is saved before the end of a fit; a run (mmn-jax run --workdir=DIR) can be continued")


if __name__ == "__main__":
    stop_on_signals()
    sys.exit(main())
