"""What a run shows its user: messages on the standard output, warnings on the standard error, progress bars, and logged metrics."""

import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from tqdm import tqdm

from mmn_jax.errors import one_line


def warn(line: str) -> None:
    """Prints a warning about doubtful but usable input to the standard error."""
    print(one_line(line), file=sys.stderr)


class Terminal(NamedTuple):
    """The functions that a run reports by.

    say: prints a line. track(iterable, name): shows a progress bar while it iterates. log: records metrics (`metrics_log`).
    """

    say: Callable[[str], None]
    track: Callable[[Iterable, str], Iterable]
    log: Callable[[dict[str, Any]], None] = lambda figures: None


def make_terminal(shown: bool, log: Callable[[dict[str, Any]], None] = lambda figures: None) -> Terminal:
    """Makes a Terminal.

    Args:
      shown: whether it prints to the standard output, with progress bars if the standard error is a terminal; else it does nothing.
      log: records metrics.
    """
    if not shown:
        return Terminal(lambda line: None, lambda items, name: items)
    return Terminal(lambda line: print(line, flush=True), lambda items, name: tqdm(items, name, leave=False, disable=None), log)
