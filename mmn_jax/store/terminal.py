"""What a run shows its user: lines on the standard output, warnings on the standard error, progress bars, and a log of figures."""

import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from tqdm import tqdm

from mmn_jax.errors import one_line


def warn(line: str) -> None:
    """Prints a line about doubtful but usable input to the standard error."""
    print(one_line(line), file=sys.stderr)


class Terminal(NamedTuple):
    """What a run shows: say(line), track(iterable, name) with a progress bar, and log(figures) of what it measures."""

    say: Callable[[str], None]
    track: Callable[[Iterable, str], Iterable]
    log: Callable[[dict[str, Any]], None] = lambda figures: None


def make_terminal(shown: bool, log: Callable[[dict[str, Any]], None] = lambda figures: None) -> Terminal:
    """Makes a Terminal that prints to the standard output, with progress bars where that is a terminal; or one that shows nothing."""
    if not shown:
        return Terminal(lambda line: None, lambda items, name: items)
    return Terminal(lambda line: print(line, flush=True), lambda items, name: tqdm(items, name, leave=False, disable=None), log)
