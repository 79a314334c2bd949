"""Settings: every one is checked, explained on its page, and shown by --help."""

from pathlib import Path

import pytest

from mmn_jax.cli import reference, run
from mmn_jax.config import SETTINGS, check, default, given
from mmn_jax.errors import BadInput

PAGE = Path(__file__).resolve().parents[1] / "docs" / "config.md"


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == reference.as_markdown(), "make it anew: python -m mmn_jax.cli.reference > docs/config.md"


def test_help_shows_every_setting_with_its_default_and_meaning():
    text = run.describe()
    for key, value, _, meaning in SETTINGS:
        (line,) = (line for line in text.splitlines() if line.split()[:1] == [key])
        assert meaning in line and f"(default: {reference.shown(value)})" in line
    assert len({setting.key for setting in SETTINGS}) == len(SETTINGS)


@pytest.mark.parametrize(
    ("value", "text"),
    [((1e-2, 1e-9), "0.01,1e-09"), ((), "none"), (None, "none"), (float, "unset"), ("", "empty"), (1e-5, "1e-05"), (200, "200")],
)
def test_defaults_are_shown_as_they_are_given(value, text):
    assert reference.shown(value) == text


def nonsense(limit):
    """Something that the limit doesn't allow."""

    def refused(value):
        try:
            return not limit.allows(value)
        except (TypeError, OverflowError):
            return True

    return next(value for value in ("nonsense", -1, float("nan"), (-1.0,), object()) if refused(value))


@pytest.mark.parametrize("setting", [setting for setting in SETTINGS if setting.limit.says], ids=lambda setting: setting.key)
def test_nonsense_is_refused_with_its_limit(setting):
    config, value = default(), nonsense(setting.limit)
    check(config)
    with config.ignore_type():
        config.update_from_flattened_dict({setting.key: value})
    with pytest.raises(BadInput) as caught:
        check(config)
    assert str(caught.value) == f"--config.{setting.key}: {setting.limit.says}, it is {value}"


def test_a_recipe_that_starts_elsewhere_is_refused_with_the_key_it_lacks():
    config = default()
    with config.unlocked():
        del config.meta.width
    with pytest.raises(BadInput, match=r"lacks meta\.width; start it from mmn_jax\.config\.default"):
        check(config)


def test_defaults_are_fresh_every_time():
    default().data.longtail.imbalance = 5.0
    assert default().data.longtail.imbalance is None


def test_functions_are_identified_by_what_they_close_over():
    def make(width, strength=1.0):
        def made(ladder):
            return width, strength

        return made

    first, same, other, default = (given(make(*values), "meta.regressor") for values in [(1,), (1,), (2,), (1, 2.0)])
    assert first == same and len({first, other, default}) == 3
    assert given(make(object()), "meta.regressor") == given(make(object()), "meta.regressor")  # addresses don't count
