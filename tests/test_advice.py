"""What stands below the table: which method to take, why, and what frequent classes pay for it."""

import pytest

from mmn_jax.pipeline import table_formats
from mmn_jax.pipeline.advice import advise, harder_note, interval_note

AHEAD, TIE, BEHIND = [2.0, 1.0, 3.0], [0.3, -0.4, 1.0], [-2.0, -3.0, -1.0]


def method(accuracy, kind, vs_plain, vs_next, many=TIE):
    groups = {"many": many, "medium": AHEAD, "few": AHEAD, "most": BEHIND, "middle": None, "rarest": None}
    return {
        "accuracy": accuracy,
        "val_accuracy": accuracy + 1,
        "kind": kind,
        "vs_plain": vs_plain,
        "vs_plain_groups": groups,
        "vs_next": vs_next,
    }


def table(vs_plain=AHEAD, vs_next=AHEAD, many=TIE, leave=(), rival=AHEAD):
    methods = {
        "mmn": method(80.0, "ours", vs_plain, vs_next, many),
        "logit_adjustment": method(78.0, "rival", rival, None),
        "plain": method(70.0, "paper", [0.0] * 3, None),
    }
    methods = {name: entry for name, entry in methods.items() if name not in leave}
    return {"methods": methods, "classifier": "mmn", "groups": {"many": 7}, "thresholds": {"many": 100}, "seeds": [0]}


@pytest.mark.parametrize(
    ("given", "taken", "first"),
    [
        ({}, "mmn", "Take mmn: its mean per-class accuracy is 2.0 points above logit_adjustment, the next best (+1.0 to +3.0), and"),
        (
            {"vs_next": TIE},
            "mmn",
            "Take mmn or logit_adjustment: they tie (+0.3 points, -0.4 to +1.0). mmn is 2.0 points above plain (+1.0 to +3.0), and"
            " classifier.npz holds it, as it does unless --config.eval.classifier names another.",
        ),
        (
            {"vs_next": BEHIND},
            "logit_adjustment",
            "Take logit_adjustment: its mean per-class accuracy is 2.0 points above mmn (+1.0 to +3.0)",
        ),
        ({"vs_plain": TIE}, "plain", "Take plain: mmn is a tie with plain (+0.3, -0.4 to +1.0)."),
        ({"vs_plain": BEHIND}, "plain", "Take plain: mmn is even 2.0 points below plain (-3.0 to -1.0)."),
        ({"leave": ("logit_adjustment",), "vs_next": None}, "mmn", "Take mmn: its mean per-class accuracy is 2.0 points above plain"),
        ({"leave": ("logit_adjustment", "plain"), "vs_next": None, "vs_plain": None}, "mmn", "Take mmn: no other method was run."),
        ({"leave": ("plain",), "vs_plain": None}, "mmn", "Take mmn: its mean per-class accuracy is 2.0 points above logit_adjustment, the"),
    ],
)
def test_the_method_to_take_follows_from_the_intervals(given, taken, first):
    advice = advise(table(**given))
    assert advice["take"] == taken and advice["sentences"][0].startswith(first) and advice["sentences"][0].endswith(".")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "Frequent classes pay nothing for it that can be measured: +0.3 points against plain on the 7 classes with more than 100"),
        ({"many": BEHIND}, "Frequent classes pay for it, and significantly: -2.0 points against plain on the 7 classes"),
        ({"many": AHEAD}, "Frequent classes gain by it, too: +2.0 points against plain"),
        ({"many": None}, "Frequent classes pay for it, and significantly: -2.0 points against plain on the third of the classes"),
        ({"vs_plain": TIE}, "Frequent classes pay nothing for it, and rare ones gain nothing."),
        (
            {"leave": ("plain",), "vs_plain": None},
            "What frequent classes pay for it is not known, as plain was not run (--config.methods).",
        ),
    ],
)
def test_what_frequent_classes_pay_is_said(given, expected):
    assert advise(table(**given))["sentences"][1].startswith(expected)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, "as validation examples preferred it to mmn_names and mmn_all."),
        ({"validation": "train"}, "as folds of the training set preferred it to mmn_names and mmn_all."),
        ({"seeds": [3, 4]}, "as validation examples of seed 3 preferred it to mmn_names and mmn_all."),
        ({"settings": {"eval.classifier": "mmn"}}, "as --config.eval.classifier says."),
        ({"classifier": "logit_adjustment"}, "as it has the highest accuracy of the linear heads on validation examples."),
    ],
)
def test_it_is_said_why_the_classifier_holds_one_of_two_that_tie(change, why):
    one = table(vs_next=TIE) | {"validation": "set"}
    one["methods"] |= {name: method(79.0, "ours", AHEAD, None) for name in ("mmn_names", "mmn_all")}
    one["methods"]["logit_adjustment"]["vs_next"] = TIE
    assert advise(one | change)["sentences"][0].endswith(f"classifier.npz holds it, {why}")


def test_frequent_classes_are_held_against_logit_adjustment_where_it_makes_a_difference():
    one = table()
    for many, said in ((BEHIND, ["loses 2.0 points"]), (AHEAD, ["gains 2.0 points"]), (TIE, []), (None, [])):
        one["methods"]["mmn"]["vs_logit_adjustment_groups"] = {"many": many, "most": None}
        lines = advise(one)["sentences"][2:]
        assert len(lines) == len(said) and all(f"Against logit_adjustment, mmn {each} on the 7 classes" in lines[0] for each in said)


def test_the_best_rival_is_named_and_what_it_is_itself_compared_with():
    one = table()
    assert table_formats.versus_rival(one["methods"]) == "vs logit_adjustment"
    one["methods"]["tau_norm"] = method(79.0, "rival", AHEAD, None)
    assert table_formats.versus_rival(one["methods"]) == "vs tau_norm, best rival"
    one["advice"] = {"sentences": []}
    assert table_formats.sentences(one)[0] == "The row of tau_norm compares it with logit_adjustment, the second best rival."


def test_few_seeds_are_named_with_a_hint_to_run_five():
    assert "within one seed" in interval_note([3]) and "within 2 seeds" in interval_note([0, 1])
    assert interval_note([0, 1]).endswith("--config.seeds=0,1,2,3,4") and not interval_note([0, 1, 2])


def test_the_text_stands_below_the_table():
    one = table()
    one["advice"] = advise(one)
    assert table_formats.sentences(one) == [*one["advice"]["sentences"], interval_note([0])]
    noted = table_formats.sentences(one | {"validation": "set"})
    assert len(noted) == 4 and "no method is fitted to them" in noted[2]


@pytest.mark.parametrize(("validation", "chosen_on"), [("set", "validation examples"), ("train", "folds of the training set")])
def test_a_line_says_that_test_examples_are_much_harder_than_those_that_choose(validation, chosen_on):
    one = table() | {"validation": validation}
    assert harder_note(one) == ""
    one["methods"]["mmn"]["val_accuracy"] = 96.5
    said = f"Test examples are harder than {chosen_on}: mmn reaches 80.0% on the former and 96.5% on the latter. Probabilities are"
    assert harder_note(one).startswith(said)
    assert harder_note(one | {"evaluated_on": "folds"}) == ""
