"""Makes a data set of rendered letters: the classes of the long tail, and other characters to train a backbone on.

Font families are divided among train, val and test. Classes are letters that the fonts of all three have; base characters are none of the
classes and look like none of them, and are rendered in the training families alone. If a class has fewer renderings than examples are
wanted, each rendering is used several times, with another random distortion each time (`augment.distort`).
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

SHIPPED = {  # those of matplotlib's own fonts that are encoded by Unicode and have letters of several scripts
    "train": ("DejaVu Sans", "DejaVu Sans Display", "DejaVu Serif", "DejaVu Serif Display"),
    "val": ("DejaVu Sans Mono",),
    "test": ("STIXGeneral",),
}
SHARES = {"val": 0.1, "test": 0.2}  # of the families of a folder of fonts
BATCH = 512  # images that are distorted at once


class Choice(NamedTuple):
    """What is rendered. points: ranges of code points. classes, base: their largest numbers. per_class: examples of each class in train,
    val and test. strength: of the distortions. families: names of font families for each part; without any, `seed` draws them."""

    points: str
    classes: int
    base: int
    per_class: tuple[int, int, int]
    strength: Strength
    families: dict[str, tuple[str, ...]]
    seed: int


def _stem(family):
    """Returns the first word of a family's name, which related families share, such as DejaVu Sans and DejaVu Serif."""
    return family.split()[0].lower()


def _drawn(fonts, seed, where):
    """Draws the families of each part, with related families in the same part."""
    stems = sorted({_stem(font.family) for font in fonts})
    if len(stems) < 3:
        raise BadInput(f"{where}: fonts of {len(stems)} families ({', '.join(stems)}); train, val and test need one each, or name them")
    order = [stems[i] for i in permutation(stream(seed, "families"), len(stems))]
    sizes = {part: max(1, int(share * len(stems))) for part, share in SHARES.items()}
    of = {"val": order[: sizes["val"]], "test": order[sizes["val"] : sum(sizes.values())], "train": order[sum(sizes.values()) :]}
    return {part: tuple({font.family for font in fonts if _stem(font.family) in chosen}) for part, chosen in of.items()}


def share_out(fonts: Sequence[Font], families: dict[str, tuple[str, ...]], seed: int, where: str | Path) -> np.ndarray:
    """Returns the index in `PARTS` of each of F fonts' part, −1 for a font that isn't used.

    Args:
      fonts: F fonts.
      families: names of families for each part; without any for train, it gets all others; without any at all, they are drawn: about 70, 10
        and 20 per cent of them for train, val and test.
      seed: determines the draw.
      where: the fonts' folder, for messages.

    Raises:
      BadInput: a family has no font or is in two parts, or there are too few families.
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
    """Draws the code points of the classes and of the base.

    Args:
      kept: the code points that may be used, of which no two look alike.
      renderings: n renderings.
      part: the index in `PARTS` of each rendering's part.
      choice: how many to draw, and the seed.
      where: the fonts' folder, for messages.

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
    often = trained[0][trained[1] >= np.maximum(trained[1].max() // 2, 1)]  # a character of few fonts teaches little
    others = np.setdiff1d(np.intersect1d(kept, often), classes)
    order = permutation(stream(choice.seed, "base"), len(others))
    return classes, np.sort(others[order[: choice.base]])


def _of(renderings, mask, points):
    """Returns the Examples of the masked renderings of these sorted code points."""
    chosen = np.flatnonzero(mask & np.isin(renderings.point, points))
    return Examples(renderings.glyphs[chosen], np.searchsorted(points, renderings.point[chosen]).astype(np.int32))


def repeat(key: jax.Array, examples: Examples, per_class: int, strength: Strength) -> Examples:
    """Makes `per_class` distorted images of each class; each rendering is used as often as the others of its class, or once more.

    At a strength of 0 each rendering is used at most once, undistorted.
    """
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
    """Renders the classes and the base. The same choice and fonts give the same images.

    Args:
      name: the name of the set.
      fonts: the fonts.
      choice: what is rendered.
      where: the fonts' folder, for messages.
      track: shows the progress of an iteration.

    Raises:
      BadInput: a range of code points is malformed, a family is missing, or all parts have too few letters in common.
    """
    parts = share_out(fonts, choice.families, choice.seed, where)
    used = [font for font, part in zip(fonts, parts, strict=True) if part >= 0]
    parts = parts[parts >= 0]
    renderings = render.render(used, render.parse_points(choice.points, where), track)
    kept = render.distinct(renderings, np.unique(renderings.point))
    renderings = render.without_repeats(renderings, parts)  # train keeps equal ones, so that no test glyph is also in train
    part = parts[renderings.font]
    classes, base = choose_points(kept, renderings, part, choice, where)
    made = {
        name: repeat(stream(choice.seed, "examples", name), _of(renderings, part == i, classes), choice.per_class[i], choice.strength)
        for i, name in enumerate(PARTS)
    }
    return Pictures(from_parts(name, made, tuple(map(_name, classes)), where), _of(renderings, part == 0, base) if len(base) else None)
