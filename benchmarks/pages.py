"""Tables that a benchmark writes into a page of the documentation."""

import re


def fill(page: str, name: str, table: str) -> str:
    """The page with the table between <!-- name --> and <!-- end -->."""
    return re.sub(rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda match: f"{match[1]}\n{table}\n\n{match[2]}", page, flags=re.S)
