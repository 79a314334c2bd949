"""Writes the report of a run: report.html, one self-contained page, and its figures as PNG and SVG files in figures/.

No method is fitted here. All text that comes from data is escaped, the page loads nothing, and its only script is page.js, whose hash
the page's policy holds so that a browser runs no other.
"""

import base64
import hashlib
import re
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from mmn_jax.pipeline import results, table_formats
from mmn_jax.pipeline.stages import SeedResult
from mmn_jax.report import class_parts, figures, practice, sections
from mmn_jax.report.examined import examine
from mmn_jax.report.figures import Picture, draw
from mmn_jax.report.html import Part, grid, quiet
from mmn_jax.report.sections import Section
from mmn_jax.store import artifacts

PAGE = Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
SCRIPT = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")

Drawn = tuple[Section, Picture | None]


def inline(picture: Picture, name: str, title: str) -> str:
    """Returns the SVG to embed in a page, in the page's text and background colours, with ids prefixed by the figure's name."""
    svg = picture.svg[picture.svg.index("<svg") :]

    def fix(tag):
        tag = tag[0].replace(figures.INK, "currentColor").replace(figures.PAPER, "var(--paper)")
        return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", tag)

    svg = re.sub(r"<[^>]*>", fix, svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


def page(table: dict[str, Any], practical: list[Part], compared: list[Drawn], research: list[Drawn]) -> str:
    """Returns the HTML of the page.

    Args:
      table: results.json.
      practical: the parts that come first.
      compared: the figures that compare methods.
      research: the figures for researchers, which are folded.
    """
    parts = [*practical, _methods(table, compared)]
    if research:
        parts.append(Part("research", "For researchers", f'<div class="figures">{_figures(research)}</div>'))
    parts.append(_run(table))
    return PAGE.substitute(
        title=escape(table["dataset"]),
        contents="".join(f'<li><a href="#{part.name}">{part.title}</a></li>' for part in parts),
        sections="\n".join(map(_section, parts)),
        labels="\n".join(part.labels for part in parts if part.labels),
        script=SCRIPT,
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}",
    )


def _section(part: Part) -> str:
    if part.name == "research":
        return f'<section id="{part.name}"><details><summary>{part.title}</summary>{part.content}</details></section>'
    return f'<section id="{part.name}"><h2>{part.title}</h2>{part.content}</section>'


def _figures(drawn: list[Drawn]) -> str:
    """Returns figures with their captions."""
    parts = []
    for section, picture in drawn:
        figure = f'<div class="scroll">{inline(picture, section.name, section.title)}</div>' if picture else ""
        caption = f"<figcaption>{escape(section.caption)}</figcaption>"
        parts.append(f'<section id="{section.name}"><h3>{escape(section.title)}</h3><figure>{figure}{caption}</figure></section>')
    return "\n".join(parts)


def _methods(table: dict[str, Any], drawn: list[Drawn]) -> Part:
    """Returns the table of all methods and the figures that compare them."""
    shown = grid("methods-table", table_formats.rows(table))
    note = (
        f"Mean per-class {table_formats.evaluated(table).accuracy} in percent. Brackets hold the number of classes of a group, or the 95%"
        " interval of a difference from a paired bootstrap; differences whose interval excludes 0 are bold. ECE and scaled: calibration"
        " error before and after temperature scaling; NLL: after it. Seconds: to tune and fit."
    )
    content = f'{shown.html}{quiet(note)}<div class="figures">{_figures(drawn)}</div>'
    return Part("methods", "All methods", content, shown.labels)


def _run(table: dict[str, Any]) -> Part:
    """Returns what was run."""
    counts, groups = table["counts"][0], table["groups"]
    facts = {
        "seeds": ", ".join(map(str, table["seeds"])),
        "classes": f"{len(counts)}, with {min(counts)} to {max(counts)} training examples (seed {table['seeds'][0]})",
        "groups": f"many-shot: more than {table['thresholds']['many']} training examples ({groups['many']} classes), few-shot: fewer than"
        f" {table['thresholds']['few']} ({groups['few']}), medium-shot between them ({groups['medium']})",
        "hyperparameters chosen on": "a validation set" if table["validation"] == "set" else "folds of the training set",
        "evaluated on": table_formats.evaluated(table).examples,
        "configuration": table["config_hash"],
        "versions": ", ".join(f"{name} {version}" for name, version in table["versions"].items()),
    }
    return Part("run", "The run", f"<dl>{''.join(f'<dt>{escape(key)}</dt><dd>{escape(value)}</dd>' for key, value in facts.items())}</dl>")


def write(workdir: Path, seeds: list[SeedResult]) -> Path:
    """Writes report.html and figures/ beside results.json.

    Args:
      workdir: with results.json.
      seeds: the results that results.json was made from.

    Returns:
      The path of report.html.
    """
    table, folder = results.read(workdir), artifacts.writable_directory(workdir / "figures")
    listed = (sections.of_results(table), sections.of_dynamics(table, seeds[0]))
    compared, research = ([(section, draw(section.make) if section.make else None) for section in part] for part in listed)
    for section, picture in (*compared, *research):
        if picture:
            artifacts.write_bytes(folder / f"{section.name}.svg", picture.svg.encode())
            artifacts.write_bytes(folder / f"{section.name}.png", picture.png)
    seed, path = examine(table, seeds[0]), workdir / "report.html"
    artifacts.write_bytes(path, page(table, [*practice.parts(seed), *class_parts.parts(seed)], compared, research).encode())
    return path
