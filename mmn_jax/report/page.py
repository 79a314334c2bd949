"""Writes the report of a run: report.html, one self-contained page, and its figures as PNG and SVG files in figures/.

Nothing is fitted here. All text that comes from data is escaped, and the page loads nothing.
"""

import re
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from mmn_jax.pipeline import results, table_formats
from mmn_jax.pipeline.stages import SeedResult
from mmn_jax.report import figures, sections
from mmn_jax.report.figures import Picture, draw
from mmn_jax.report.sections import Section
from mmn_jax.store import artifacts

PAGE = Template((Path(__file__).parent / "page.html").read_text())
MOST = 8  # classes that gain most, and that lose most


def inline(picture: Picture, name: str, title: str) -> str:
    """Returns the SVG to embed in a page, in the page's text and background colours, with ids prefixed by the figure's name."""
    svg = picture.svg[picture.svg.index("<svg") :]

    def fix(tag):
        tag = tag[0].replace(figures.INK, "currentColor").replace(figures.PAPER, "var(--paper)")
        return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", tag)

    svg = re.sub(r"<[^>]*>", fix, svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


def html_table(lines: list[list[str]]) -> str:
    """Formats a header and rows of cells as an HTML table, escaped; differences whose interval excludes 0 are bold."""

    def cell(text):
        return f"<td><strong>{escape(text)}</strong></td>" if isinstance(text, table_formats.Clear) else f"<td>{escape(text)}</td>"

    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in lines[0])
    body = "".join(f"<tr>{''.join(map(cell, line))}</tr>\n" for line in lines[1:])
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def headline(table: dict[str, Any]) -> str:
    """States in a sentence what mmn reaches."""
    mmn, rival = table["methods"]["mmn"], results.best_rival(table["methods"], "mmn")
    to_plain, to_rival = (table_formats.difference(mmn[key]) for key in ("vs_plain", "vs_best_rival"))
    accuracy = f"{mmn['accuracy']:.1f}% mean per-class {results.evaluated(table).accuracy}"
    text = f"mmn reaches {accuracy}. Difference in points to plain: {to_plain}"
    return text + (f", to the best rival ({rival}): {to_rival}." if rival else ".")


def changed_most(table: dict[str, Any], names: tuple[str, ...]) -> list[list[str]]:
    """Returns a header and rows of cells on the classes, `MOST` at either end, that gain and lose most by mmn in the first seed."""
    plain, mmn = (np.array(table["per_class"][name][0], float) for name in ("plain", "mmn"))
    gain = mmn - plain
    order = [c for c in np.argsort(-gain, kind="stable") if np.isfinite(gain[c]) and gain[c] != 0]
    chosen = order if len(order) <= 2 * MOST else order[:MOST] + order[-MOST:]
    cells = [[names[c], str(table["counts"][0][c]), f"{plain[c]:.1f}", f"{mmn[c]:.1f}", f"{gain[c]:+.1f}"] for c in chosen]
    return [["class", "training examples", "plain", "mmn", "difference"], *cells]


def page(table: dict[str, Any], names: tuple[str, ...], drawn: list[tuple[Section, Picture | None]]) -> str:
    """Returns the HTML of the page.

    Args:
      table: results.json.
      names: of the classes.
      drawn: the sections with their rendered figures.
    """
    parts = []
    for section, picture in drawn:
        figure = f'<div class="scroll">{inline(picture, section.name, section.title)}</div>' if picture else ""
        caption = f"<figcaption>{escape(section.caption)}</figcaption>"
        parts.append(f'<section id="{section.name}"><h2>{escape(section.title)}</h2><figure>{figure}{caption}</figure></section>')
    counts, groups = table["counts"][0], table["groups"]
    facts = {
        "seeds": ", ".join(map(str, table["seeds"])),
        "classes": f"{len(counts)}, with {min(counts)} to {max(counts)} training examples (seed {table['seeds'][0]})",
        "groups": f"many-shot: more than {table['thresholds']['many']} training examples ({groups['many']} classes), few-shot: fewer than"
        f" {table['thresholds']['few']} ({groups['few']}), medium-shot between them ({groups['medium']})",
        "hyperparameters chosen on": "a validation set" if table["validation"] == "set" else "folds of the training set",
        "evaluated on": results.evaluated(table).examples,
        "configuration": table["config_hash"],
        "versions": ", ".join(f"{name} {version}" for name, version in table["versions"].items()),
    }
    return PAGE.substitute(
        title=escape(table["dataset"]),
        headline=escape(headline(table)),
        accuracy=escape(results.evaluated(table).accuracy),
        table=html_table(table_formats.rows(table)),
        sections="\n".join(parts),
        classes=html_table(changed_most(table, names)),
        facts="".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts.items()),
    )


def write(workdir: Path, seeds: list[SeedResult]) -> Path:
    """Writes report.html and figures/ beside results.json.

    Args:
      workdir: with results.json.
      seeds: the results that results.json was made from.

    Returns:
      The path of report.html.
    """
    table, folder = results.read(workdir), artifacts.writable_directory(workdir / "figures")
    listed = [*sections.of_results(table), *sections.of_dynamics(table, seeds[0])]
    drawn = [(section, draw(section.make) if section.make else None) for section in listed]
    for section, picture in drawn:
        if picture:
            artifacts.write_bytes(folder / f"{section.name}.svg", picture.svg.encode())
            artifacts.write_bytes(folder / f"{section.name}.png", picture.png)
    path = workdir / "report.html"
    artifacts.write_bytes(path, page(table, seeds[0].class_names, drawn).encode())
    return path
