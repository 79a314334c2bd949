"""What all commands share: how they parse flags and how they end.

Exit codes: 0 done, 2 bad input (one line on stderr), 130 interrupted, 1 any other failure.
"""

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

GRACE = 8.0  # seconds that compiled code gets to return to Python after a signal


class Abandoned(RuntimeError):
    """Raised where work cannot go on though its input is good; the message is one line."""


def read_no_more() -> None:
    """Discards further standard output, whose reader is gone; flushing it at exit would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_text(text: str) -> None:
    """Prints the text; a reader that stops early, such as `head`, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        read_no_more()


def print_any_name() -> None:
    """Lets the standard output print any path, even one whose bytes aren't valid UTF-8."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="surrogateescape")


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises BadInput for wrong flags instead of printing its usage and exiting."""

    def error(self, message):
        raise BadInput(f"{message}; see --help")


def exit_code(work: Callable[[], None], interrupted: str = "interrupted") -> int:
    """Runs the work and returns its exit code.

    Bad input, which includes a disk that is full or not writable, becomes one line on the standard error.

    Args:
      work: what to run.
      interrupted: the line to print where a signal stops it.
    """
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
    """Runs the work and ends the process with the exit code that it returns.

    After a failure the process ends at once: at a normal exit JAX waits for the other processes of the run, which may be gone.
    """
    try:
        code = work()
    except Exception:  # printed as Python would, which then would wait
        traceback.print_exc()
        code = 1
    if code:
        with contextlib.suppress(OSError):  # its reader is gone
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit()


def stop_on_signals(grace: float = GRACE) -> None:
    """Makes SIGINT and SIGTERM raise KeyboardInterrupt, and end the process with 130 if it is still running after `grace` seconds.

    Compiled code never checks for signals. Ending it loses no more than a kill does, as every save is atomic.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # written to at once, even while compiled code runs
    for stop in (signal.SIGINT, signal.SIGTERM):  # SIGINT, too: a shell ignores it in background jobs
        signal.signal(stop, signal.default_int_handler)

    def end():
        os.read(reader, 1)
        time.sleep(grace)
        print("interrupted during a computation; everything saved before it is kept", file=sys.stderr, flush=True)
        os._exit(130)

    threading.Thread(target=end, daemon=True).start()
