"""What a run shows its user: messages on the standard output, warnings on the standard error, progress, and logged metrics."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from mmn_jax.errors import one_line

SILENCE = 10.0  # seconds after which a run that has printed nothing says what it is doing


def warn(line: str) -> None:
    """Prints a warning about doubtful but usable input to the standard error."""
    print(one_line(line), file=sys.stderr)


def program() -> str:
    """Returns how users of this process call a run: by the script `mmn-jax run` if they use it or have no clone of the repository."""
    script, clone = Path(sys.argv[0]).stem, Path(__file__).parents[2] / "bin" / "run.py"
    return "bin/run.py" if script != "mmn-jax" and clone.is_file() else "mmn-jax run"


class Terminal(NamedTuple):
    """The functions that a run reports by.

    say: prints a line. track(iterable, name): shows progress while it iterates. doing(name): a context in which the function that it yields
    shows in place how far the work of this name is. log: records metrics (`metrics_log`).
    """

    say: Callable[[str], None]
    track: Callable[[Iterable, str], Iterable]
    log: Callable[[dict[str, Any]], None] = lambda figures: None
    doing: Callable[[str], AbstractContextManager[Callable[[str], None]]] = lambda name: contextlib.nullcontext(lambda line: None)


@contextlib.contextmanager
def _in_place(name: str) -> Iterator[Callable[[str], None]]:
    """Yields a function that shows a line behind the name, in the place of the one before, if the standard error is a terminal."""
    with tqdm(desc=name, bar_format="{desc}, {elapsed}", leave=False, disable=None) as bar:
        yield lambda line: bar.set_description_str(f"{name}: {line}")


def print_line(line: str, error: bool = False) -> None:
    """Prints a line to the standard output or the standard error, above the progress that is shown in place."""
    with tqdm.external_write_mode():
        print(line, file=sys.stderr if error else sys.stdout, flush=True)


def make_terminal(shown: bool, log: Callable[[dict[str, Any]], None] = lambda figures: None) -> Terminal:
    """Makes a Terminal.

    Args:
      shown: whether it prints to the standard output, with progress bars if the standard error is a terminal; else it does nothing.
      log: records metrics.
    """
    if not shown:
        return Terminal(lambda line: None, lambda items, name: items)
    return Terminal(print_line, lambda items, name: tqdm(items, name, leave=False, disable=None), log, _in_place)


class Work(NamedTuple):
    """Something that is being done.

    name, began: what, and when it began. done, total: how many of its steps are done, and how many there are at most. at: how far it is, in
    words, where its steps aren't counted.
    """

    name: str
    began: float
    done: int
    total: int | None
    at: str = ""

    def line(self, now: float) -> str:
        """Says how far it is."""
        steps = f" {self.at}," if self.at else f" {self.done} of {self.total}," if self.total else ""
        return f"  .. {self.name}:{steps} {now - self.began:.0f} s"


@contextlib.contextmanager
def never_silent(terminal: Terminal, silence: float = SILENCE, bars: bool | None = None) -> Iterator[Terminal]:
    """Lets a terminal say what the run is doing whenever it has said nothing for a while, even in the middle of a computation.

    Args:
      terminal: what prints.
      silence: seconds after which it says so.
      bars: whether its progress bars are seen, so that they need no lines beside them; by default whether the standard error is a terminal.

    Yields:
      The terminal to use in its place.
    """
    seen = sys.stderr.isatty() if bars is None else bars
    started = time.monotonic()
    stack = [Work("starting", started, 0, None)]  # the last one is what is being done
    spoke, over = [started], threading.Event()

    def say(line):
        spoke[0] = time.monotonic()
        if not line.startswith(" "):  # indented lines are details of what the last other one began
            stack[0] = Work(line.strip().partition("\n")[0], spoke[0], 0, None)
        terminal.say(line)

    def track(items, name):
        place, total = len(stack), len(items) if hasattr(items, "__len__") else None
        stack.append(Work(name, time.monotonic(), 0, total))
        try:
            for item in terminal.track(items, name):
                yield item
                stack[place] = stack[place]._replace(done=stack[place].done + 1)
        finally:
            del stack[place:]

    @contextlib.contextmanager
    def doing(name):
        place = len(stack)
        stack.append(Work(name, time.monotonic(), 0, None))

        def show(line):
            stack[place] = stack[place]._replace(at=line)
            inner(line)

        try:
            with terminal.doing(name) as inner:
                yield show
        finally:
            del stack[place:]

    def watch():
        while not over.wait(silence / 10):
            now, work = time.monotonic(), stack[-1]
            if now - spoke[0] > silence and not (seen and len(stack) > 1):
                spoke[0] = now
                with contextlib.suppress(OSError):  # its reader is gone, which the run itself will find
                    terminal.say(work.line(now))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield Terminal(say, track, terminal.log, doing)
    finally:
        over.set()
        watcher.join()
