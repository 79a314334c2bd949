"""Pages of the documentation that aren't files in docs/, as a hook of MkDocs: the front page (README.md), CONTRIBUTING.md, the examples,
and the reference, a page for every name that `mmn_jax` and its public subpackages list in `__all__`.

mkdocs build --strict
"""

import importlib
import re
from pathlib import Path
from types import ModuleType

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("mmn_jax", "mmn_jax.methods", "mmn_jax.data", "mmn_jax.linear", "mmn_jax.evaluation", "mmn_jax.contrib")
PUBLIC = re.compile(r"(?<![\[`])`(?:mmn_jax\.)?(?P<name>\w+)`(?![\]`])")
EXAMPLES = ("metamodelnet.py", "colab.ipynb")


def first_sentence(thing: object) -> str:
    """Returns the first line of a docstring.

    Raises:
      ValueError: there is none.
    """
    text = (thing.__doc__ or "").strip()
    if not text:
        raise ValueError(f"{thing!r} has no docstring")
    return text.partition("\n")[0]


def reference() -> dict[str, str]:
    """Returns the pages of the reference by their paths, as Markdown."""
    pages, index = {}, ["# Reference", "", "Every public name, by the package that it is imported from."]
    for package in PACKAGES:
        index += ["", f"## {package}", ""]
        module = importlib.import_module(package)
        for name in module.__all__:
            thing = getattr(module, name)
            index.append(f"- [`{name}`]({package}.{name}.md): {first_sentence(thing)}")
            place = thing.__name__ if isinstance(thing, ModuleType) else f"{thing.__module__}.{thing.__qualname__}"
            pages[f"api/{package}.{name}.md"] = f"# {package}.{name}\n\n::: {place}\n    options:\n      heading_level: 2\n"
    return {**pages, "api/index.md": "\n".join(index) + "\n"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made."""
    front = (ROOT / "README.md").read_text().replace("](docs/", "](")
    made = {"index.md": front, "CONTRIBUTING.md": (ROOT / "CONTRIBUTING.md").read_text().replace("](docs/", "](")}
    made |= {f"examples/{name}": (ROOT / "examples" / name).read_text() for name in EXAMPLES}
    for path, content in (made | reference()).items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lets links to the examples, which lie beside docs/, lead to their copies in the site, and public names to their pages."""
    if page.file.src_uri.startswith("api/"):
        return markdown
    return PUBLIC.sub(linked, markdown.replace("](../examples/", "](examples/"))


def linked(name: re.Match[str]) -> str:
    """Returns a name in backticks as a link to its page; other words in backticks stay as they are."""
    known = name["name"] in importlib.import_module("mmn_jax").__all__
    return f"[{name[0]}](api/mmn_jax.{name['name']}.md)" if known else name[0]
