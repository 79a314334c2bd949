"""What bad input raises, and how doubtful input is reported."""

import contextlib
import difflib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping

Say = Callable[[str], None]  # reports one line


def one_line(message: str) -> str:
    """Returns the message on one line: characters of a name or a value that can't be printed, such as a line break, are escaped."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in message)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Returns the end of a message on a name that isn't among these: the one that it resembles, or nothing."""
    similar = difflib.get_close_matches(name, list(names), 1, 0.75)
    return f", did you mean {similar[0]}" if similar else ""


def silent(line: str) -> None:
    """Reports nothing: the `Say` of callers who didn't ask."""


def warn(line: str) -> None:
    """Reports input that is doubtful but usable as a `UserWarning`."""
    warnings.warn(one_line(line), stacklevel=2)


class BadInput(ValueError):
    """Input that cannot be used. The message is one line: which argument or file, what is wrong with it, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


@contextlib.contextmanager
def renamed(names: Mapping[str, str]) -> Iterator[None]:
    """Inside, a BadInput that begins with one of these argument names begins with the name given for it, such as a flag.

    Args:
      names: argument name → the name that users of the caller know it by.
    """
    try:
        yield
    except BadInput as error:
        message = str(error)
        for name, shown in names.items():
            start = f"{one_line(name)}: "
            if message.startswith(start):
                raise BadInput(f"{shown}: {message.removeprefix(start)}") from error
        raise
