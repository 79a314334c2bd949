"""Says what a run knew of the classes beside labelled examples, as results.json keeps it and as its pages say it."""

from collections.abc import Iterable
from typing import NamedTuple

from mmn_jax.data.descriptions import tested_again
from mmn_jax.pipeline.table_formats import Table
from mmn_jax.types import FeatureSet

EMBEDDINGS, NAMES = "class_embeddings", "names"


class Known(NamedTuple):
    """What a run knew, the entry `knowledge` of results.json.

    described_by: EMBEDDINGS, NAMES or, without descriptions, None. dimensions: of a description; 0 without. unlabelled: the number of
    examples without labels. tested_too: how many of these are test examples.
    """

    described_by: str | None = None
    dimensions: int = 0
    unlabelled: int = 0
    tested_too: int = 0


def known_of(features: FeatureSet, described_by: str) -> Known:
    """Returns what is known with these features; described_by: where their descriptions come from, if they have any."""
    descriptions, unlabelled = features.knowledge
    by, dimensions = (None, 0) if descriptions is None else (described_by, descriptions.shape[1])
    return Known(by, dimensions, 0 if unlabelled is None else len(unlabelled), tested_again(features))


def in_words(table: Table, needs: Iterable[str]) -> str:
    """Returns which knowledge a method used, as the object of a sentence; empty if it used none.

    Args:
      table: the content of results.json; an older one says nothing of it.
      needs: the fields of `Knowledge` that the method uses (`methods.NAME.needs` of results.json).
    """
    known, needs = Known(**table.get("knowledge", {})), set(needs)
    parts = []
    if "descriptions" in needs:
        made = "TF-IDF of their names" if known.described_by == NAMES else f"class_embeddings in {known.dimensions} dimensions"
        parts.append(f"descriptions of the classes ({made})")
    if "unlabelled" in needs:
        again = f", {known.tested_too} of them test examples" if known.tested_too else ""
        parts.append(f"{known.unlabelled} examples without labels{again}")
    return " and ".join(parts)
