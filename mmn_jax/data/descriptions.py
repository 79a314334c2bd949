"""What a data set says of its classes beside labelled examples: descriptions of the classes, and examples without labels."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from mmn_jax.data.checks import finite_float32
from mmn_jax.data.repeats import hashes
from mmn_jax.errors import BadInput, Say
from mmn_jax.types import FeatureSet, Knowledge

WORDS = r"[^\W\d_]+|\d+"  # of a name: snake_case, camel/paths and numbers come apart
DIMENSIONS = 512  # of the description of a name, at most


def describe_names(names: Sequence[str]) -> Float[np.ndarray, "C m"] | None:
    """Describes classes by their names, by TF-IDF of words and of three to four characters within words.

    Args:
      names: of the classes. Paths of a taxonomy, such as Aves/Passeriformes/Corvus corax, are names, too.

    Returns:
      A description of each class; None if names differ in their numbers alone, which says nothing of how classes are related.
    """
    if len({re.sub(r"\d+", "", name).strip().casefold() for name in names}) == 1:
        return None
    from scipy.sparse import hstack  # slow to import, as is scikit-learn
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = [" ".join(re.findall(WORDS, re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))).casefold() for name in names]
    if not any(words):
        return None
    by_word = TfidfVectorizer(token_pattern=r"\S+").fit_transform(words)
    by_characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4)).fit_transform(words)
    both = hstack([by_word, by_characters]).tocsr()
    if min(both.shape) <= DIMENSIONS:
        return both.toarray()
    return TruncatedSVD(DIMENSIONS, random_state=0).fit_transform(both)


def checked_descriptions(given: Shaped[np.ndarray, "..."], classes: int, name: str, say: Say) -> Float[np.ndarray, "C m"] | None:
    """Checks the descriptions of classes.

    Args:
      given: the array.
      classes: C.
      name: the array's, with which messages begin.
      say: reports what is doubtful.

    Returns:
      The descriptions as float64; None if all of them are the same, and so say nothing.

    Raises:
      BadInput: they aren't one row of finite numbers for each class.
    """
    if given.ndim != 2 or given.dtype.kind not in "fiub" or given.shape[1] == 0:
        raise BadInput(f"{name}: must be [C, m] numbers, a row for each class, it is {given.dtype} {list(given.shape)}")
    if len(given) != classes:
        raise BadInput(f"{name}: has {len(given)} rows, there are {classes} classes; give one for each class, in their order")
    given = given.astype(float)
    finite = np.isfinite(given).all(1)
    if not finite.all():
        raise BadInput(f"{name}: has a value that is NaN or infinite in row {int(finite.argmin())}; give zeros for a class without one")
    there = given[given.any(1)]
    if len(there) < 2 or (there == there[0]).all():
        say(f"{name}: not used, as all rows are the same or zero")
        return None
    if len(there) < classes:
        say(f"{name}: {classes - len(there)} of {classes} rows are all zeros; these classes are taken to have no description")
    return given


def checked_description(given: Shaped[np.ndarray, "..."], size: int, name: str) -> Float[np.ndarray, " m"]:
    """Checks the description of one class, and returns it as float64.

    Args:
      given: the array.
      size: m.
      name: the array's, with which messages begin.

    Raises:
      BadInput: it isn't m finite numbers.
    """
    if given.shape != (size,) or given.dtype.kind not in "fiub":
        raise BadInput(f"{name}: must be [{size}] numbers, as those of the other classes, it is {given.dtype} {list(given.shape)}")
    if not np.isfinite(given).all():
        raise BadInput(f"{name}: has a value that is NaN or infinite; leave it out for a class without one")
    return given.astype(float)


def check_dimensions(given: Shaped[np.ndarray, "u m"], dim: int, name: str, of_train: str) -> None:
    """Raises BadInput unless features of examples without labels have as many dimensions as those of the training set, `of_train`."""
    if given.shape[1] != dim:
        raise BadInput(f"{name}: has {given.shape[1]} dimensions, {of_train} {dim}; make both in the same way")


def checked_unlabelled(given: Shaped[np.ndarray, "..."], dim: int, name: str, of_train: str) -> Float[np.ndarray, "u d"]:
    """Checks features of examples without labels, and returns them as float32.

    Args:
      given: the array.
      dim: the dimensions of the training set.
      name: the array's, with which messages begin.
      of_train: the name of the training features.

    Raises:
      BadInput: they aren't finite numbers of as many dimensions.
    """
    if given.ndim != 2 or given.dtype.kind not in "fiu":
        raise BadInput(f"{name}: must be [u, d] numbers, it is {given.dtype} {list(given.shape)}")
    check_dimensions(given, dim, name, of_train)
    return finite_float32(given, f"{name}:")


def knowledge(arrays: Mapping[str, np.ndarray], classes: int, dim: int, where: str | Path, say: Say) -> Knowledge:
    """Returns what the arrays class_embeddings [C, m] and unlabelled_x [u, d] say; a field is None without its array.

    Args:
      arrays: arrays by name.
      classes: C.
      dim: the dimensions of the training set.
      where: the arrays' file, for messages.
      say: reports what is doubtful.

    Raises:
      BadInput: an array can't be used.
    """
    described, pool = arrays.get("class_embeddings"), arrays.get("unlabelled_x")
    return Knowledge(
        None if described is None else checked_descriptions(described, classes, f"{where}: class_embeddings", say),
        None if pool is None or len(pool) == 0 else checked_unlabelled(pool, dim, f"{where}: unlabelled_x", "train_x"),
    )


def tested_again(features: FeatureSet) -> int:
    """Returns how many of the examples without labels are also test examples."""
    pool, test = features.knowledge.unlabelled, features.test
    return 0 if pool is None or test is None else int(np.isin(hashes(pool), hashes(test.x)).sum())
