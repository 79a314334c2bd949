"""Writes the tables of benchmarks into pages of the documentation."""

import re


def fill(page: str, name: str, table: str) -> str:
    """Returns the page with the table between <!-- name --> and <!-- end --> replaced."""
    return re.sub(rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda match: f"{match[1]}\n{table}\n\n{match[2]}", page, flags=re.S)
