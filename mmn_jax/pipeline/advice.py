"""Says in plain words which method to take and what frequent classes pay for it, from the intervals of results.json.

The terminal, table.md and the report show these sentences; none has a rule of its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mmn_jax.evaluation.bootstrap import FEWEST_SEEDS

HARDER = 10.0  # points of accuracy by which test examples are harder than those that choose, and a line says so


def best_rival(methods: Mapping[str, dict[str, Any]], name: str = "") -> str | None:
    """Returns the rival with the highest accuracy, other than `name`; None if no rival was fitted."""
    rivals = [other for other, entry in methods.items() if entry["kind"] == "rival" and other != name]
    return max(rivals, key=lambda other: methods[other]["accuracy"], default=None)


def best_other(methods: Mapping[str, dict[str, Any]], name: str) -> str | None:
    """Returns the most accurate method other than `name` and `plain`; None if there is none."""
    return max((other for other in methods if other not in (name, "plain")), key=lambda other: methods[other]["accuracy"], default=None)


def chosen_on(validation: str | None) -> str:
    """Returns what hyperparameters are chosen on; validation: the setting data.validation, as results.json keeps it, too."""
    return "folds of the training set" if validation == "train" else "validation examples"


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


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _why_held(table: dict[str, Any]) -> str:
    """Says in the rest of a sentence why classifier.npz holds the method that it does (`results.classifier_of`)."""
    if table.get("settings", {}).get("eval.classifier"):
        return "as --config.eval.classifier says"
    chosen_by = chosen_on(table.get("validation"))
    chosen_by += f" of seed {table['seeds'][0]}" if len(table["seeds"]) > 1 else ""
    others = [name for name, entry in table["methods"].items() if entry["kind"] == "ours" and name != table["classifier"]]
    if table["methods"][table["classifier"]]["kind"] != "ours":
        return f"as it has the highest accuracy of the linear heads on {chosen_by}"
    if others:
        return f"as {chosen_by} preferred it to {_listed(others)}"
    return "as it does unless --config.eval.classifier names another"


def _choice(table: dict[str, Any]) -> tuple[str, str]:
    """Returns the method to take, and a sentence that says why.

    The one in classifier.npz is held against the most accurate of the others, which is a hard comparison for it, as test examples chose
    that one, and against plain.
    """
    methods, held = table["methods"], table["classifier"]
    best = best_other(methods, held)
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
        held_by = f"classifier.npz holds {held}, {_why_held(table)}; --config.eval.classifier={taken} makes it hold the other"
        return taken, f"Take {taken}: {why}{f' and {plainly}' if plainly else ''}. {held_by}."
    if _tie(ahead):
        both = f"they tie ({ahead[0]:+.1f} points, {ahead[1]:+.1f} to {ahead[2]:+.1f})"
        holds = f"{held} is {plainly}, and classifier.npz holds it" if plainly else f"classifier.npz holds {held}"
        return held, f"Take {held} or {best}: {both}. {holds}, {_why_held(table)}."
    why = f"its mean per-class accuracy is {_points(ahead)} {best}, the next best {_ends(ahead)}"
    return held, f"Take {held}: {why}{f', and {plainly}' if plainly else ''}."


def _frequent(table: dict[str, Any], taken: str, other: str) -> tuple[Sequence[float] | None, str]:
    """Returns the difference of two methods on frequent classes, None where it isn't known, and which classes these are."""
    groups = table["methods"][taken].get(f"vs_{other}_groups") or {}
    if groups.get("many") is None:
        return groups.get("most"), "the third of the classes with the most training examples"
    return groups["many"], f"the {table['groups']['many']} classes with more than {table['thresholds']['many']} training examples"


def _against_adjusted(table: dict[str, Any], taken: str) -> str:
    """Returns a sentence on frequent classes against logit adjustment; empty if it wasn't run or the difference is a tie."""
    many, where = _frequent(table, taken, "logit_adjustment")
    if taken == "logit_adjustment" or many is None or _tie(many):
        return ""
    return f"Against logit_adjustment, {taken} {'gains' if many[0] > 0 else 'loses'} {abs(many[0]):.1f} points on {where} {_ends(many)}."


def _price(table: dict[str, Any], taken: str) -> str:
    """Returns a sentence on what the most frequent classes lose or gain by a method against plain."""
    if taken == "plain":
        return "Frequent classes pay nothing for it, and rare ones gain nothing."
    if "plain" not in table["methods"]:
        return "What frequent classes pay for it is not known, as plain was not run (--config.methods)."
    many, where = _frequent(table, taken, "plain")
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
    return {"take": taken, "sentences": [line for line in (why, _price(table, taken), _against_adjusted(table, taken)) if line]}


def validation_note(table: dict[str, Any]) -> str:
    """Says what validation examples are not used for; empty where folds of the training set choose."""
    if table.get("validation") != "set":
        return ""
    return "Validation examples choose settings: no method is fitted to them, and the groups many, medium and few don't count them."


def harder_note(table: dict[str, Any]) -> str:
    """Says that test examples are much harder than those that choose; empty where they aren't, or where folds are evaluated."""
    entry = table["methods"][table["classifier"]]
    if table.get("evaluated_on", "test") != "test" or entry["val_accuracy"] - entry["accuracy"] < HARDER:
        return ""
    figures = f"{table['classifier']} reaches {entry['accuracy']:.1f}% on the former and {entry['val_accuracy']:.1f}% on the latter"
    confident = "Probabilities are calibrated on the latter, and too confident on the former."
    return f"Test examples are harder than {chosen_on(table.get('validation'))}: {figures}. {confident}"


def interval_note(seeds: Sequence[int], examples: str = "test examples") -> str:
    """Says what the intervals of a run with few seeds leave out, which are over these examples; empty for enough seeds."""
    if len(seeds) >= FEWEST_SEEDS:
        return ""
    within = "one seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
    return f"Intervals are over {examples} within {within}, not over seeds; for those, run five: --config.seeds=0,1,2,3,4"
