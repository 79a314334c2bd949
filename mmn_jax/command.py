"""How every command begins and ends: signals that stop it; 0 done, 2 bad input with one line on stderr, 130 interrupted."""

import argparse
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from mmn_jax.types import BadInput


def stop_on_signals() -> None:
    """SIGINT and SIGTERM interrupt the program; SIGINT, too, because it is ignored in what a script starts in the background."""
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.default_int_handler)


class Parser(argparse.ArgumentParser):
    """One whose errors are bad input like any other."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}; see --help")


def exit_code(work: Callable[[], None], interrupted: str = "interrupted") -> int:
    """Of the work; `interrupted` is what to say where it was stopped."""
    try:
        work()
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130
    return 0
