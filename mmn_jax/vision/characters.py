"""A data set of rendered letters: the classes of the long tail, and other characters to train a backbone on.

Families of type are shared out among train, val and test. Classes are letters that all three have; the base are characters that
are none of the classes and look like none of them, from the training families alone. Where a class has fewer renderings than
examples are wanted, each is drawn several times, distorted at random another way each time (`augment.distort`).
"""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from mmn_jax.errors import BadInput
from mmn_jax.rng import permutation, stream
from mmn_jax.types import Examples
from mmn_jax.vision import render
from mmn_jax.vision.arrays import Pictures, from_parts
from mmn_jax.vision.augment import Strength, distort
from mmn_jax.vision.images import PARTS
from mmn_jax.vision.render import Font, Renderings

SHIPPED = {  # of matplotlib's own fonts those that are encoded by Unicode and have letters of several scripts
    "train": ("DejaVu Sans", "DejaVu Sans Display", "DejaVu Serif", "DejaVu Serif Display"),
    "val": ("DejaVu Sans Mono",),
    "test": ("STIXGeneral",),
}
SHARES = {"val": 0.1, "test": 0.2}  # of the families of a folder of fonts
BATCH = 512  # images distorted at once


class Choice(NamedTuple):
    """What is rendered. points: ranges of code points. classes, base: how many at most. per_class: examples of train, val and test.
    strength: of the distortions. families: part → names; none at all: drawn by `seed`."""

    points: str
    classes: int
    base: int
    per_class: tuple[int, int, int]
    strength: Strength
    families: dict[str, tuple[str, ...]]
    seed: int


def _stem(family):
    """DejaVu Sans and DejaVu Serif are relatives, and so are all whose names begin with the same word."""
    return family.split()[0].lower()


def _drawn(fonts, seed, where):
    """part → names of families, relatives together."""
    stems = sorted({_stem(font.family) for font in fonts})
    if len(stems) < 3:
        raise BadInput(f"{where}: fonts of {len(stems)} families ({', '.join(stems)}); train, val and test need one each, or name them")
    order = [stems[i] for i in permutation(stream(seed, "families"), len(stems))]
    sizes = {part: max(1, int(share * len(stems))) for part, share in SHARES.items()}
    of = {"val": order[: sizes["val"]], "test": order[sizes["val"] : sum(sizes.values())], "train": order[sum(sizes.values()) :]}
    return {part: tuple({font.family for font in fonts if _stem(font.family) in chosen}) for part, chosen in of.items()}


def share_out(fonts: Sequence[Font], families: dict[str, tuple[str, ...]], seed: int, where: str | Path) -> np.ndarray:
    """[F] the number of each font's part in `PARTS`, -1 for one that has none. families: part → names; with names for val and test
    alone all others are for train; with none at all they are drawn, about 70, 10 and 20 per cent of them.

    Raises:
      BadInput: no font of a family, one in two parts, or too few families.
    """
    there = {font.family for font in fonts}
    named = [name for part in PARTS for name in families[part]]
    if not named:
        families = _drawn(fonts, seed, where)
    for name in named:
        if name not in there:
            raise BadInput(f"{where}: no font of the family {name}; it has {', '.join(sorted(there))[:200]}")
        if named.count(name) > 1:
            raise BadInput(f"{where}: the family {name} is named twice")
    if not families["train"]:
        families = {**families, "train": tuple(there - set(named))}
    for part in PARTS:
        if not families[part]:
            raise BadInput(f"{where}: no family of type for {part}")
    of = {name: i for i, part in enumerate(PARTS) for name in families[part]}
    return np.array([of.get(font.family, -1) for font in fonts])


def choose_points(
    kept: np.ndarray, renderings: Renderings, part: np.ndarray, choice: Choice, where: str | Path
) -> tuple[np.ndarray, np.ndarray]:
    """Code points of the classes and of the base, among those that are kept; part: [n] of each rendering.

    Raises:
      BadInput: fewer than two letters are in all parts.
    """
    everywhere = [point for point in kept if len(np.unique(part[renderings.point == point])) == len(PARTS)]
    letters = np.array(everywhere, int)[render.letters(everywhere)]
    if len(letters) < 2:
        raise BadInput(f"{where}: {len(letters)} letters that the fonts of train, val and test all have; a classifier needs at least two")
    order = permutation(stream(choice.seed, "classes"), len(letters))
    classes = np.sort(letters[order[: choice.classes]])
    trained = np.unique(renderings.point[part == 0], return_counts=True)
    often = trained[0][trained[1] >= np.maximum(trained[1].max() // 2, 1)]  # a character of few fonts says little
    others = np.setdiff1d(np.intersect1d(kept, often), classes)
    order = permutation(stream(choice.seed, "base"), len(others))
    return classes, np.sort(others[order[: choice.base]])


def _of(renderings, mask, points):
    """Examples of the masked renderings of these sorted code points."""
    chosen = np.flatnonzero(mask & np.isin(renderings.point, points))
    return Examples(renderings.glyphs[chosen], np.searchsorted(points, renderings.point[chosen]).astype(np.int32))


def repeat(key: jax.Array, examples: Examples, per_class: int, strength: Strength) -> Examples:
    """`per_class` distorted images of every class, each of its renderings as often as the others or once more; at a strength of 0
    no rendering more than once."""
    order, rows = jax.random.split(key)
    shuffled = permutation(order, len(examples.y))
    groups = [shuffled[examples.y[shuffled] == c] for c in range(int(examples.y.max()) + 1)]
    still = not any(strength)
    chosen = np.concatenate([np.resize(group, min(per_class, len(group)) if still else per_class) for group in groups])
    x, y = examples.x[chosen], examples.y[chosen]
    return Examples(x if still else _distorted(rows, x, strength), y)


def _distorted(key, x, strength):
    out = np.empty_like(x)
    for i, first in enumerate(range(0, len(x), BATCH)):
        batch = x[first : first + BATCH]
        padded = np.pad(batch, ((0, BATCH - len(batch)), (0, 0), (0, 0)))[..., None]
        out[first : first + BATCH] = np.asarray(distort(jax.random.fold_in(key, i), padded, strength))[: len(batch), :, :, 0]
    return out


def _name(point):
    return unicodedata.name(chr(point), f"U+{point:04X}")


def make(name: str, fonts: Sequence[Font], choice: Choice, where: str | Path, track: Callable[[Iterable, str], Iterable]) -> Pictures:
    """The letters as images, and the base. The same choice and fonts give the same images.

    Raises:
      BadInput: ranges that are none, families that aren't there, too few letters that all parts have.
    """
    parts = share_out(fonts, choice.families, choice.seed, where)
    used = [font for font, part in zip(fonts, parts, strict=True) if part >= 0]
    parts = parts[parts >= 0]
    renderings = render.render(used, render.parse_points(choice.points, where), track)
    kept = render.distinct(renderings, np.unique(renderings.point))
    renderings = render.without_repeats(renderings, parts)  # of equal ones that of train stays, so that no test glyph was seen there
    part = parts[renderings.font]
    classes, base = choose_points(kept, renderings, part, choice, where)
    made = {
        name: repeat(stream(choice.seed, "examples", name), _of(renderings, part == i, classes), choice.per_class[i], choice.strength)
        for i, name in enumerate(PARTS)
    }
    return Pictures(from_parts(name, made, tuple(map(_name, classes)), where), _of(renderings, part == 0, base) if len(base) else None)
