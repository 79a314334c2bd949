"""Text that comes from data, such as a name or a licence, as text of a Markdown page and not as its markup."""

import re
from html import escape

MARKUP = re.compile(r"[\\`*\[\]{}#|~$!]|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word is none


def in_markdown(text: str) -> str:
    """The text in one line that a Markdown page shows as it is, in a sentence, a heading or a cell of a table."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text).split())
    return MARKUP.sub(r"\\\g<0>", escape(line, quote=False))
