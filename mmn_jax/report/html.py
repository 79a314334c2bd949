"""Makes pieces of HTML from text that may come from data, all of it escaped: tables, lists and notes."""

import re
from html import escape
from typing import NamedTuple

from mmn_jax.pipeline.table_formats import Clear


class Part(NamedTuple):
    """A part of the page.

    name: its id. title: its heading. content: HTML. labels: CSS that labels the cells of its tables on small screens.
    """

    name: str
    title: str
    content: str
    labels: str = ""


class Grid(NamedTuple):
    """A table: its HTML, and the CSS that labels its cells where a small screen shows every row as a card."""

    html: str
    labels: str


def text(words: str) -> str:
    """Returns the text escaped, on lines that may break after the punctuation within a name, so that no word has to be broken."""
    return re.sub(r"(?<=\w)([_/:\-]+)(?=\w)", r"\1<wbr>", escape(words))


def grid(name: str, lines: list[list[str]], *, words: tuple[int, ...] = (0,), groups: list[str] | None = None) -> Grid:
    """Formats a header and rows of cells as a table, escaped; differences whose interval excludes 0 are bold.

    Args:
      name: its id, of letters and hyphens.
      lines: the header and the rows. The first cell of a row is what it is about.
      words: columns of text, which is aligned left and may be broken into lines.
      groups: of the rows, for the filter of the page; a table that has them may be long, takes the width of the page and scrolls by itself.
    """
    kinds = ["name" if i == 0 else "words" if i in words else "" for i in range(len(lines[0]))]
    tags = [f' class="{kind}"' if kind else "" for kind in kinds]

    def cell(tag, content):
        inside = text(content) if tag else escape(content)
        return f"<td{tag}>{f'<strong>{inside}</strong>' if isinstance(content, Clear) else inside}</td>"

    def row(cells, mark):
        return f"<tr{mark}>{''.join(map(cell, tags, cells))}</tr>\n"

    head = "".join(f'<th scope="col"{tag}>{escape(title)}</th>' for tag, title in zip(tags, lines[0], strict=True))
    marks = [f' data-g="{group}"' for group in groups] if groups is not None else [""] * (len(lines) - 1)
    body = "".join(map(row, lines[1:], marks))
    box, kind = ("long", "cards wide") if groups is not None else ("scroll", "cards")
    html = f'<div class="{box}"><table class="{kind}" id="{name}"><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
    labels = [f'  #{name} td:nth-child({i + 1})::before {{ content: "{title}"; }}' for i, title in enumerate(lines[0]) if i > 0]
    return Grid(html, "\n".join(labels))


def listed(lines: list[str]) -> str:
    """Formats lines as a list, escaped."""
    return f"<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>"


def quiet(note: str) -> str:
    """Formats a note below a table, escaped."""
    return f'<p class="quiet">{escape(note)}</p>'
