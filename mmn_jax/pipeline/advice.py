"""Says in plain words which method to take and what frequent classes pay for it, from the intervals of results.json."""

from collections.abc import Sequence
from typing import Any

from mmn_jax.evaluation.bootstrap import FEWEST_SEEDS


def _ends(interval: Sequence[float]) -> str:
    return f"({interval[1]:+.1f} to {interval[2]:+.1f})"


def _tie(interval: Sequence[float]) -> bool:
    return interval[1] <= 0 <= interval[2]


def _mirrored(interval: Sequence[float]) -> list[float]:
    mean, low, high = interval
    return [-mean, -high, -low]


def _points(interval: Sequence[float]) -> str:
    return f"{abs(interval[0]):.1f} points {'above' if interval[0] > 0 else 'below'}"


def _against_plain(interval: Sequence[float] | None) -> str:
    """Compares a method with plain in the rest of a sentence; empty if plain wasn't run."""
    if interval is None:
        return ""
    if _tie(interval):
        return f"a tie with plain ({interval[0]:+.1f}, {interval[1]:+.1f} to {interval[2]:+.1f})"
    return f"{_points(interval)} plain {_ends(interval)}"


def _choice(table: dict[str, Any]) -> tuple[str, str]:
    """Returns the method to take, and a sentence that says why.

    The one in classifier.npz is held against the most accurate of the others, which is a hard comparison for it, as test examples chose
    that one, and against plain.
    """
    methods, held = table["methods"], table["classifier"]
    rest = [name for name in methods if name not in (held, "plain")]
    best = max(rest, key=lambda name: methods[name]["accuracy"], default=None)
    ahead = methods[held]["vs_next"]
    taken = best if best is not None and ahead is not None and ahead[2] < 0 else held
    if taken == "plain":
        return taken, "Take plain: no other method was clearly more accurate."
    over_plain = methods[taken]["vs_plain"]
    if over_plain is not None and over_plain[1] <= 0:
        return "plain", f"Take plain: {taken} is {'' if _tie(over_plain) else 'even '}{_against_plain(over_plain)}."
    plainly = _against_plain(over_plain)
    if best is None or ahead is None:
        return taken, f"Take {taken}: its mean per-class accuracy is {plainly}." if plainly else f"Take {taken}: no other method was run."
    if taken != held:
        why = f"its mean per-class accuracy is {_points(_mirrored(ahead))} {held} {_ends(_mirrored(ahead))}"
        return taken, f"Take {taken}: {why}{f' and {plainly}' if plainly else ''}; --config.methods={taken} fits it alone."
    if _tie(ahead):
        both = f"they tie ({ahead[0]:+.1f} points, {ahead[1]:+.1f} to {ahead[2]:+.1f})"
        return held, f"Take {held} or {best}: {both}; classifier.npz holds {held}{f', {plainly}' if plainly else ''}."
    why = f"its mean per-class accuracy is {_points(ahead)} {best}, the next best {_ends(ahead)}"
    return held, f"Take {held}: {why}{f', and {plainly}' if plainly else ''}."


def _price(table: dict[str, Any], taken: str) -> str:
    """Returns a sentence on what the most frequent classes lose or gain by a method against plain."""
    if taken == "plain":
        return "Frequent classes pay nothing for it, and rare ones gain nothing."
    if "plain" not in table["methods"]:
        return "What frequent classes pay for it is not known, as plain was not run (--config.methods)."
    groups = table["methods"][taken]["vs_plain_groups"]
    many = groups["many"]
    where = f"the {table['groups']['many']} classes with more than {table['thresholds']['many']} training examples"
    if many is None:
        many, where = groups["most"], "the third of the classes with the most training examples"
    if many is None:
        return "What frequent classes pay for it is not known, as none of them has test examples."
    figures = f"{many[0]:+.1f} points against plain on {where}, {_ends(many)[1:-1]}"
    if _tie(many):
        return f"Frequent classes pay nothing for it that can be measured: {figures}, is a tie."
    return f"Frequent classes {'gain by it, too' if many[0] > 0 else 'pay for it, and significantly'}: {figures}."


def advise(table: dict[str, Any]) -> dict[str, Any]:
    """Returns the method to take, and sentences on why and at what price.

    Args:
      table: results.json without its advice.
    """
    taken, why = _choice(table)
    return {"take": taken, "sentences": [why, _price(table, taken)]}


def interval_note(seeds: Sequence[int], examples: str = "test examples") -> str:
    """Says what the intervals of a run with few seeds leave out, which are over these examples; empty for enough seeds."""
    if len(seeds) >= FEWEST_SEEDS:
        return ""
    within = "one seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
    return f"Intervals are over {examples} within {within}, not over seeds; for those, run five: --config.seeds=0,1,2,3,4"
