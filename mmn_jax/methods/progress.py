"""Reports how far the choice of a method's setting is, as events for whoever shows them: a terminal, or `TailClassifier` if it is asked to.

A function that reports takes `tell`, a function of one `Step`; inside a fit, `Task.tell` takes the pieces of work that are at hand.
"""

from collections.abc import Callable
from typing import NamedTuple

from mmn_jax.methods.tuning import Setting


class Piece(NamedTuple):
    """One of several pieces of work that are alike, such as fold 2 of 3."""

    name: str
    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.name} {self.number} of {self.of}"


class Step(NamedTuple):
    """A step of the choice of a method's setting; `str` puts it into words.

    number: of the setting, from 1. of: the largest number of settings that are tried. setting: the values of the hyperparameters. pieces:
    the work that begins now, the outermost piece first. accuracy: mean per-class accuracy on validation examples, in percent, once the
    setting is evaluated; None before. examples: how many the chosen setting is fitted to at last; 0 while settings are tried. ended: why no
    more settings are tried, once one is chosen; empty if all of them were.
    """

    number: int
    of: int
    setting: Setting
    pieces: tuple[Piece, ...] = ()
    accuracy: float | None = None
    examples: int = 0
    ended: str = ""

    @property
    def ends(self) -> bool:
        """Whether something is known now that wasn't before: the accuracy of a setting, or which one is chosen."""
        return self.accuracy is not None or (self.examples > 0 and not self.pieces)

    def __str__(self) -> str:
        at = "".join(f", {piece}" for piece in self.pieces)
        if self.examples and self.pieces:
            return f"fit to all {self.examples} examples{at}"
        if self.examples:
            tried = f"{self.number} of {self.of} settings tried{f': {self.ended}' if self.ended else ''}"
            return f"{tried}; the best ({words(self.setting)}) is fitted to all {self.examples} examples"
        if self.accuracy is None:
            return f"setting {self.number} of {self.of}{at}"
        return f"setting {self.number} of {self.of} ({words(self.setting)}): {self.accuracy:.1f}% mean per-class accuracy"


Tell = Callable[[Step], None]  # reports one step


def unheard(*steps: object) -> None:
    """Reports nothing: the `Tell` of callers who didn't ask, and `Task.tell` of tasks that nobody watches."""


def words(setting: Setting) -> str:
    """Returns a setting as text, without the hyperparameters that have no effect in it."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in setting.items() if value is not None
    )
