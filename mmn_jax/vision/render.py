"""Renders characters of fonts as images.

A rendering is one code point of one font, `SIDE` × `SIDE` grey pixels, with the same em for all fonts. Glyphs that a font lacks (by its
cmap), empty ones and placeholders are dropped, and so are renderings that are equal or nearly equal to another of their class. Of
characters that look alike in many fonts (Latin A, Greek Alpha, Cyrillic A) only the first is kept; the renderings show which these are.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmn_jax.data.parts import hidden
from mmn_jax.errors import BadInput

SIDE, EM, BASELINE, FINER = 32, 22, 24, 4  # pixels; glyphs are drawn FINER times as large and averaged
SUFFIXES = (".ttf", ".otf")
PLACEHOLDER = 12  # so many equal renderings in one font are placeholders; Latin I has four look-alikes and a Roman numeral
ALIKE, SHARE = 0.03, 0.25  # characters are confusable if they are this close in more than this share of the fonts that have both
NEARLY_EQUAL = 0.01  # the distance below which renderings of a class are taken for equal


class Font(NamedTuple):
    """A font file. points: the sorted code points that it has glyphs for."""

    path: Path
    family: str
    points: np.ndarray


class Renderings(NamedTuple):
    """Renderings. glyphs: [n, SIDE, SIDE] uint8, white on black. point, font: [n] the code point and the index of the font."""

    glyphs: np.ndarray
    point: np.ndarray
    font: np.ndarray


def shipped() -> Path:
    """Returns the folder of the fonts that come with matplotlib."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def _libraries(where):
    """Returns Pillow's ImageFont and fontTools' TTFont."""
    try:
        from fontTools.ttLib import TTFont
        from PIL import ImageFont
    except ImportError as error:
        raise BadInput(f"{where}: fonts are read by Pillow and fontTools; pip install 'mmn_jax[images]'") from error
    return ImageFont, TTFont


def read_font(path: Path) -> Font:
    """Reads the family and the code points of a font file.

    Raises:
      BadInput: the file is no font, or damaged.
    """
    image_font, tt_font = _libraries(path)
    try:
        family, _ = image_font.truetype(path, EM).getname()
        with tt_font(path, lazy=True) as font:
            points = font.getBestCmap() or {}
    except Exception as error:  # FreeType and fontTools may raise anything on damaged tables
        raise BadInput(f"{path}: not a font, or damaged") from error
    return Font(path, family or path.stem, np.array(sorted(points), int))


def find_fonts(folder: str | Path) -> tuple[Font, ...]:
    """Reads all fonts of a folder and the folders in it, sorted by path.

    Raises:
      BadInput: the folder is missing, has no fonts, or a damaged one.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder of fonts")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file() and not hidden(path))
    if not paths:
        raise BadInput(f"{folder}: no fonts in it ({', '.join(SUFFIXES)})")
    return tuple(read_font(path) for path in paths)


def version(fonts: Sequence[Font]) -> str:
    """Hashes the fonts' files and what their rendering depends on."""
    from PIL import features

    digest = hashlib.sha256(repr((SIDE, EM, BASELINE, FINER, features.version("freetype2"))).encode())
    for font in fonts:
        digest.update(hashlib.sha256(font.path.read_bytes()).digest())
    return digest.hexdigest()


def _draw_one(font, character):
    """Renders a character, uint8 [SIDE, SIDE], with the ink centred horizontally and on the baseline."""
    mask, (_, top) = font.getmask2(character, mode="L", anchor="ls")
    width, height = mask.size
    page = np.zeros((SIDE * FINER, SIDE * FINER), np.float32)
    if width and height:
        ink = np.asarray(mask, np.float32).reshape(height, width)
        columns = np.flatnonzero(ink.any(0))
        ink = ink[:, columns[0] : columns[-1] + 1] if len(columns) else ink[:, :0]
        y, x = BASELINE * FINER + top, (page.shape[1] - ink.shape[1]) // 2
        inside = ink[max(-y, 0) : max(page.shape[0] - y, 0), max(-x, 0) : max(-x, 0) + page.shape[1]]
        page[max(y, 0) : max(y, 0) + inside.shape[0], max(x, 0) : max(x, 0) + inside.shape[1]] = inside
    return np.round(page.reshape(SIDE, FINER, SIDE, FINER).mean((1, 3))).astype(np.uint8)


def draw(font: Font, points: Iterable[int]) -> np.ndarray:
    """Renders n code points, which the font must have, as uint8 [n, SIDE, SIDE].

    Raises:
      BadInput: a glyph can't be drawn.
    """
    image_font, _ = _libraries(font.path)
    pen = image_font.truetype(font.path, EM * FINER, layout_engine=image_font.Layout.BASIC)
    glyphs = []
    for point in points:
        try:
            glyphs.append(_draw_one(pen, chr(point)))
        except OSError as error:
            raise BadInput(f"{font.path}: glyph U+{point:04X} is damaged") from error
    return np.array(glyphs, np.uint8).reshape(-1, SIDE, SIDE)


def _real(glyphs):
    """Returns the mask [n] of glyphs that are neither empty nor placeholders."""
    if len(glyphs) == 0:
        return np.zeros(0, bool)
    _, which, times = np.unique(glyphs.reshape(len(glyphs), -1), axis=0, return_inverse=True, return_counts=True)
    return glyphs.any((1, 2)) & (times[which.reshape(-1)] < PLACEHOLDER)


def render(fonts: Sequence[Font], points: np.ndarray, track: Callable[[Iterable, str], Iterable] = lambda items, name: items) -> Renderings:
    """Renders these code points in all fonts that have them, without empty glyphs and placeholders; track: shows the progress."""
    glyphs, point, number = [], [], []
    for i, font in track(list(enumerate(fonts)), "rendering"):
        there = np.intersect1d(points, font.points)
        drawn = draw(font, there.tolist())
        real = _real(drawn)
        glyphs.append(drawn[real])
        point.append(there[real])
        number.append(np.full(real.sum(), i))
    return Renderings(np.concatenate(glyphs), np.concatenate(point), np.concatenate(number))


def distances(glyphs: np.ndarray) -> np.ndarray:
    """Returns ‖a − b‖² / ½(‖a‖² + ‖b‖²) for all pairs of glyphs [n, side, side], as [n, n]: 0 for equal ones, 2 without common ink."""
    flat = glyphs.reshape(len(glyphs), -1).astype(np.float32) / np.float32(255)
    squares = (flat**2).sum(1)
    both = squares[:, None] + squares[None]
    return 2 * (both - 2 * flat @ flat.T) / np.maximum(both, np.float32(1e-9))


def confusable(renderings: Renderings, points: np.ndarray) -> np.ndarray:
    """Returns whether two of P sorted code points look alike in more than `SHARE` of the fonts that have both, as a mask [P, P]."""
    alike, common = np.zeros((2, len(points), len(points)), int)
    for font in np.unique(renderings.font):
        mine = np.flatnonzero((renderings.font == font) & np.isin(renderings.point, points))
        place = np.searchsorted(points, renderings.point[mine])
        square = np.ix_(place, place)
        alike[square] += distances(renderings.glyphs[mine]) < ALIKE
        common[square] += 1
    return (alike > SHARE * common) & ~np.eye(len(points), dtype=bool)


def distinct(renderings: Renderings, points: np.ndarray) -> np.ndarray:
    """Returns the code points, sorted, that are not confusable with an earlier one that is kept."""
    points = np.sort(points)
    matrix, kept = confusable(renderings, points), np.zeros(len(points), bool)
    for i in range(len(points)):
        kept[i] = not (matrix[i] & kept).any()
    return points[kept]


def without_repeats(renderings: Renderings, order: np.ndarray) -> Renderings:
    """Keeps the first of nearly equal renderings of each class; order: [fonts] the rank of each font."""
    keep = []
    for point in np.unique(renderings.point):
        mine = np.flatnonzero(renderings.point == point)
        mine = mine[np.argsort(order[renderings.font[mine]], kind="stable")]
        close = distances(renderings.glyphs[mine]) < NEARLY_EQUAL
        kept = np.zeros(len(mine), bool)
        for i in range(len(mine)):
            kept[i] = not (close[i] & kept).any()
        keep.append(mine[kept])
    chosen = np.sort(np.concatenate(keep)) if keep else np.zeros(0, int)
    return Renderings(*(array[chosen] for array in renderings))


def parse_points(text: str, where: str | Path) -> np.ndarray:
    """Parses hexadecimal ranges of code points like "21-17F 3B1 400-4FF".

    Args:
      text: the ranges.
      where: their place, for messages.

    Returns:
      The sorted code points with ink: letters (no combining marks), digits, punctuation and symbols.

    Raises:
      BadInput: a range is malformed.
    """
    points: set[int] = set()
    for word in text.replace(",", " ").split():
        try:
            begin, _, end = word.partition("-")
            first, last = int(begin, 16), int(end or begin, 16)
        except ValueError as error:
            raise BadInput(f"{where}: {word!r} is not a range of code points like 21-17F") from error
        if not 0 <= first <= last <= 0x10FFFF:
            raise BadInput(f"{where}: {word!r} is not a range of code points like 21-17F")
        points.update(point for point in range(first, last + 1) if unicodedata.category(chr(point))[0] in "LNPS")
    return np.array(sorted(points), int)


def letters(points: Iterable[int]) -> np.ndarray:
    """Returns the mask [P] of code points that are upper- or lower-case letters."""
    return np.array([unicodedata.category(chr(point)) in ("Lu", "Ll") for point in points], bool)
