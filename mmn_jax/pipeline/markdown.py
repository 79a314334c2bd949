"""Escapes text that comes from data, such as a name or a licence, for a Markdown page."""

import re
from html import escape

MARKUP = re.compile(r"[\\`*\[\]{}#|~$!]|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word is no markup


def in_markdown(text: str) -> str:
    """Returns the text on one line, escaped so that a sentence, heading or table cell of a Markdown page shows it literally."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text).split())
    return MARKUP.sub(r"\\\g<0>", escape(line, quote=False))
