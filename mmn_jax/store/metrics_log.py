"""Logs a run's metrics as lines of JSON (WORKDIR/metrics.jsonl) and as TensorBoard scalars (WORKDIR/tensorboard).

    {"kind": "look", "seed", "part", "task_weight", "rate", "decay", "stage", "step",
     "train_loss", "held_out_rows", "held_out_task", "held_out_loss"}       an evaluation of a level in training
    {"kind": "method", "seed", "method", "val_accuracy", "seconds"}         a finished method

Lines are made from the records of artefacts, so the log of a resumed run is the same as that of an uninterrupted one.
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
    """Logs one line for each evaluation of a level.

    Args:
      log: writes a line.
      seed: of the split.
      part: the name of the training set.
      hyper: the candidate's hyperparameters.
      stage: the level.
      looks: its evaluations, with keys step, train, rows, task and loss.
    """
    names = {"train": "train_loss", "rows": "held_out_rows", "task": "held_out_task", "loss": "held_out_loss"}
    for one in looks:
        losses = {name: one[key] for key, name in names.items()}
        log({"kind": "look", "seed": seed, "part": part, **hyper, "stage": stage, "step": one["step"], **losses})


def log_method(log: Log, seed: int, method: str, val_accuracy: float, seconds: float) -> None:
    """Logs the line of a finished method."""
    log({"kind": "method", "seed": seed, "method": method, "val_accuracy": val_accuracy, "seconds": seconds})


def as_json(figures: Figures) -> str:
    """Formats a line as strict JSON; a number that isn't finite becomes null."""
    return json.dumps({key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in figures.items()}, allow_nan=False)


def scalars(figures: Figures) -> tuple[str, dict[str, float], int]:
    """Converts a line for TensorBoard.

    Returns:
      The run (a seed, or a candidate of a seed), {tag: value}, and the step.
    """
    run = f"seed-{figures['seed']}"
    if figures["kind"] == "method":
        return run, {f"{key}/{figures['method']}": figures[key] for key in ("val_accuracy", "seconds")}, 0
    candidate = ",".join(f"{key}={figures[key]:g}" for key in ("task_weight", "rate", "decay"))
    tags = {f"stage-{figures['stage']}/{key}": figures[key] for key in figures if key.startswith(("train_", "held_out_"))}
    return f"{run}/{figures['part']}/{candidate}", tags, figures["step"]


@contextlib.contextmanager
def written(workdir: Path) -> Iterator[Log]:
    """Yields a function that writes a line to both logs; its first call clears what an earlier run left in them."""
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
