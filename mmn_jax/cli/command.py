"""How every command reads its flags and how it ends: 0 done, 2 bad input with one line on stderr, 130 interrupted,
1 where it cannot go on for another reason."""

import argparse
import contextlib
import io
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from mmn_jax.errors import BadInput

GRACE = 8.0  # seconds that a computation gets to come back from where Python is not asked


class Abandoned(RuntimeError):
    """Work that cannot go on, though its input is good; the message is one line."""


def read_no_more() -> None:
    """Nobody reads the standard output any more: what is left of it goes nowhere, or it would fail again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_text(text: str) -> None:
    """Prints it, as far as its reader reads, such as `head`."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        read_no_more()


def print_any_name() -> None:
    """From now on the standard output takes names that aren't text, such as a path of other bytes than UTF-8, as the bytes they are."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="surrogateescape")


class Parser(argparse.ArgumentParser):
    """One that raises BadInput where flags are wrong, instead of printing its usage and leaving."""

    def error(self, message):
        raise BadInput(f"{message}; see --help")


def exit_code(work: Callable[[], None], interrupted: str = "interrupted") -> int:
    """Of the work; `interrupted` is what to say where it was stopped. A disk that is full or refuses is bad input, too."""
    print_any_name()
    try:
        work()
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    except Abandoned as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(BadInput(f"{error.filename or 'a file'}: {error.strerror or error}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130
    return 0


def leave(work: Callable[[], int]) -> NoReturn:
    """Ends the process with the exit code of the work. One that failed doesn't wait for the others of its run, as JAX does on its way
    out: they may be gone."""
    try:
        code = work()
    except Exception:  # told as Python would, which then would wait
        traceback.print_exc()
        code = 1
    if code:
        with contextlib.suppress(OSError):  # nobody reads it any more
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit()


def stop_on_signals(grace: float = GRACE) -> None:
    """SIGINT and SIGTERM raise KeyboardInterrupt; where nothing comes of that in `grace` seconds, because compiled code is at work, the
    process ends with 130 all the same. That loses no more than a kill does: what is saved is saved whole."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # written to at once, whatever Python is doing
    for stop in (signal.SIGINT, signal.SIGTERM):  # SIGINT, too: it is ignored in what a script starts in the background
        signal.signal(stop, signal.default_int_handler)

    def end():
        os.read(reader, 1)
        time.sleep(grace)
        print("interrupted in the middle of a computation; what was saved before it stands", file=sys.stderr, flush=True)
        os._exit(130)

    threading.Thread(target=end, daemon=True).start()
