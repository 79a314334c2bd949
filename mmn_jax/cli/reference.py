"""Formats the settings as text for --help and as the page docs/config.md: python -m mmn_jax.cli.reference > docs/config.md"""

from itertools import groupby

from mmn_jax.config import SETTINGS, Entry

INTRODUCTION = """# Every setting

Give settings on the command line as `--config.KEY=VALUE`, lists separated by commas, or in a recipe, a Python file that starts from
`mmn_jax.config.default()`. An invalid value is refused before anything is computed. Where a setting lists candidates, validation
examples choose among them: `meta.*` tries all combinations, every other method at most `tuning.budget` settings.

This page is generated from `mmn_jax/config.py` by `python -m mmn_jax.cli.reference > docs/config.md`.
"""


def shown(default: object) -> str:
    """Formats a default as it would be given on the command line."""
    if default is None or default == ():
        return "none"
    if isinstance(default, tuple):
        return ",".join(map(shown, default))
    if isinstance(default, type):
        return "unset"
    return f"{default:g}" if isinstance(default, float) else str(default) or "empty"


def _section(setting: Entry) -> str:
    return setting.key.rpartition(".")[0].partition(".")[0]


def as_text() -> str:
    """Returns one line per setting: key, meaning, limit and default."""
    width = max(len(setting.key) for setting in SETTINGS)
    lines = []
    for key, default, limit, meaning in SETTINGS:
        lines.append(f"  {key:{width}}  {meaning}{f'; {limit.says}' if limit.says else ''} (default: {shown(default)})")
    return "\n".join(lines)


def as_markdown() -> str:
    """Returns the page docs/config.md, a table for each section of the config."""
    parts = [INTRODUCTION]
    for section, settings in groupby(SETTINGS, _section):
        rows = [f"| `{s.key}` | {shown(s.default)} | {s.limit.says} | {s.meaning} |" for s in settings]
        parts.append(
            "\n".join([f"## {section or 'The run'}\n", "| key | default | limit | meaning |", "| --- | --- | --- | --- |", *rows, ""])
        )
    return "\n".join(parts)


if __name__ == "__main__":
    print(as_markdown(), end="")
