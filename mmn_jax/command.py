"""How every command ends: 0 done, 2 bad input with one line on stderr, 130 interrupted."""

import sys
from collections.abc import Callable

from mmn_jax.types import BadInput


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
