"""What was measured on the way, as lines of JSON (WORKDIR/metrics.jsonl) and as TensorBoard scalars (WORKDIR/tensorboard).

    {"kind": "look", "seed", "part", "task_weight", "rate", "decay", "stage", "step",
     "train_loss", "held_out_rows", "held_out_task", "held_out_loss"}       one look at a stage of the chain
    {"kind": "method", "seed", "method", "val_accuracy", "seconds"}         one finished method

Lines are made from what artefacts record, so that a run that went on after an interruption has the log of one that nobody stopped.
"""

import contextlib
import functools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Figures = dict[str, Any]
Log = Callable[[Figures], None]


def log_stage(log: Log, seed: int, part: str, hyper: dict[str, float], stage: int, looks: list[dict[str, float]]) -> None:
    """One line a look (`stagewise.Look`). part: the name of the training set. hyper: the candidate."""
    for look in looks:
        losses = {"train_loss": look["train"], "held_out_rows": look["rows"], "held_out_task": look["task"], "held_out_loss": look["loss"]}
        log({"kind": "look", "seed": seed, "part": part, **hyper, "stage": stage, "step": look["step"], **losses})


def log_method(log: Log, seed: int, method: str, val_accuracy: float, seconds: float) -> None:
    """The line of a finished method."""
    log({"kind": "method", "seed": seed, "method": method, "val_accuracy": val_accuracy, "seconds": seconds})


def as_json(figures: Figures) -> str:
    """One line of strict JSON: what isn't a finite number is null."""
    return json.dumps({key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in figures.items()}, allow_nan=False)


def scalars(figures: Figures) -> tuple[str, dict[str, float], int]:
    """A line as TensorBoard has it: the run, {tag: value} and the step. A run is a seed, and within it a candidate."""
    run = f"seed-{figures['seed']}"
    if figures["kind"] == "method":
        return run, {f"{key}/{figures['method']}": figures[key] for key in ("val_accuracy", "seconds")}, 0
    candidate = ",".join(f"{key}={figures[key]:g}" for key in ("task_weight", "rate", "decay"))
    tags = {f"stage-{figures['stage']}/{key}": figures[key] for key in figures if key.startswith(("train_", "held_out_"))}
    return f"{run}/{figures['part']}/{candidate}", tags, figures["step"]


@contextlib.contextmanager
def written(workdir: Path) -> Iterator[Log]:
    """A function that writes every line it is given to both logs, which begin anew with the first of them."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def lines():
            for old in (workdir / "tensorboard").rglob("events.out.tfevents.*"):
                old.unlink()
            return stack.enter_context((workdir / "metrics.jsonl").open("w"))

        @functools.cache
        def board(run):
            from tensorboardX import SummaryWriter  # slow to import

            return stack.enter_context(contextlib.closing(SummaryWriter(str(workdir / "tensorboard" / run))))

        def log(figures):
            lines().write(as_json(figures) + "\n")
            lines().flush()
            run, tags, step = scalars(figures)
            for tag, value in tags.items():
                if math.isfinite(value):
                    board(run).add_scalar(tag, value, step)

        yield log
