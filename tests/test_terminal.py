"""A run is never silent for long: it says what it is doing and how far it is, even in the middle of a computation."""

import re
import sys
import time

import pytest

from mmn_jax.store import terminal


def shown(work, silence=0.2, bars=False):
    lines = []
    quiet = terminal.Terminal(lines.append, lambda items, name: items)
    with terminal.never_silent(quiet, silence, bars) as told:
        work(told)
    return lines


def test_long_work_is_told_with_its_name_its_steps_and_its_seconds():
    def work(told):
        told.say("seed 0: heads")
        told.say("  a detail")
        time.sleep(0.5)
        for step in told.track(range(18), "plain, settings tried"):
            if step == 5:
                time.sleep(0.5)

    lines = shown(work)
    assert lines[:2] == ["seed 0: heads", "  a detail"] and lines[2].startswith("  .. seed 0: heads: ")
    assert any(line.startswith("  .. plain, settings tried: 5 of 18, ") and line.endswith(" s") for line in lines)


def test_quick_work_is_told_nothing_of():
    assert shown(lambda told: [told.say("a"), list(told.track([1, 2], "b"))]) == ["a"]


def test_how_far_work_is_that_counts_no_steps_is_told_in_words():
    def work(told):
        with told.doing("mmn") as show:
            show("setting 1 of 18, fold 1 of 3")
            show("setting 1 of 18, fold 2 of 3")
            time.sleep(0.5)
        told.say("after")
        time.sleep(0.5)

    lines = shown(work)
    assert re.fullmatch(r"  \.\. mmn: setting 1 of 18, fold 2 of 3, \d+ s", lines[0])
    assert lines[lines.index("after") + 1].startswith("  .. after: ")


def test_a_bar_that_is_seen_needs_no_lines_beside_it():
    def work(told):
        for _ in told.track(range(2), "b"):
            time.sleep(0.3)

    assert shown(work, bars=True) == []


def test_abandoned_work_is_forgotten_and_an_error_ends_it():
    def work(told):
        for _ in told.track(range(2), "b"):
            break
        told.say("after")
        time.sleep(0.4)
        raise KeyboardInterrupt

    lines = []
    with pytest.raises(KeyboardInterrupt), terminal.never_silent(terminal.Terminal(lines.append, lambda i, n: i), 0.2, False) as told:
        work(told)
    assert lines[0] == "after" and all(line.startswith("  .. after: ") for line in lines[1:])


def test_messages_name_the_command_that_was_used(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/mmn-jax", "predict"])
    assert terminal.program() == "mmn-jax run"
    monkeypatch.setattr(sys, "argv", ["bin/run.py"])
    assert terminal.program() == "bin/run.py"
    monkeypatch.setattr(terminal, "__file__", "/usr/lib/python3/site-packages/mmn_jax/store/terminal.py")
    assert terminal.program() == "mmn-jax run"
