"""Every setting as text, for --help, and as the page docs/config.md: python -m mmn_jax.cli.reference > docs/config.md"""

from itertools import groupby

from mmn_jax.config import SETTINGS, Entry

INTRODUCTION = """# Every setting

Given on the command line as `--config.KEY=VALUE`, lists with commas, or in a recipe in Python, which starts from
`mmn_jax.config.default()`. A value that makes no sense is
refused before anything is computed. Where several candidates may be listed, validation examples choose: `meta.*` tries all combinations,
every other method at most `tuning.budget` settings.

This page is made by `python -m mmn_jax.cli.reference > docs/config.md` from the lines of `mmn_jax/config.py`.
"""


def shown(default: object) -> str:
    """A default as it would be given on the command line."""
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
    """One line a setting: key, default, meaning and what it must be."""
    width = max(len(setting.key) for setting in SETTINGS)
    lines = []
    for key, default, limit, meaning in SETTINGS:
        lines.append(f"  {key:{width}}  {meaning}{f'; {limit.says}' if limit.says else ''} (default: {shown(default)})")
    return "\n".join(lines)


def as_markdown() -> str:
    """The page, a table for each part of the config."""
    parts = [INTRODUCTION]
    for section, settings in groupby(SETTINGS, _section):
        rows = [f"| `{s.key}` | {shown(s.default)} | {s.limit.says} | {s.meaning} |" for s in settings]
        parts.append(
            "\n".join([f"## {section or 'The run'}\n", "| key | default | limit | meaning |", "| --- | --- | --- | --- |", *rows, ""])
        )
    return "\n".join(parts)


if __name__ == "__main__":
    print(as_markdown(), end="")
